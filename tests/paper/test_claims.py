"""The claims of the text, recomputed; SPEC section 14 says what comes out."""

import pytest

from mqbench import paper
from mqbench.paper.claims._base import Finding, best, close

FOUND = paper.recompute()


def finding(words: str) -> Finding:
    (one,) = [f for f in FOUND if words in f.claim]
    return one


@pytest.mark.parametrize(
    ("words", "recomputed", "verdict"),
    [
        ("Avg. HW of 20 rows", "39 of 40 agree", "reproduced"),
        ("best accuracy in the 25", "LSQ 52.0, DSQ 0.0, PACT 38.0, DoReFa 10.0 %", "reproduced"),
        ("best in the per-tensor", "LSQ 90.0, DoReFa 10.0 %", "reproduced"),
        ("best in the 15 per-channel", "LSQ 26.7, PACT 63.3, DoReFa 10.0 %", "not reproduced"),
        ("least hardware gap", "LSQ 34.0, DSQ 4.0, PACT 50.0, DoReFa 12.0 %", "not reproduced"),
        ("93 % of the experiments", "84 of 90 = 93.3 %", "reproduced"),
        ("25.8 % drop within", "26 and 47 of 84 = 31.0 %, 56.0 %", "not reproduced"),
        ("Fig. 5", "population standard deviations, within 0.009", "reproduced"),
        ("gaps printed in Table 7", "78 agree with their accuracies", "partly"),
        ("Avg. Arch. row", "72.80, 71.84, 72.52, 72.06, 72.54, 44.00", "partly"),
        ("gain 2.3 for PACT", "2.3", "reproduced"),
        ("strategy 1 loses", "0.1 to 0.3", "partly"),
        ("8e-5 on the scale", "8e-05, 2.31", "reproduced"),
        ("speed-ups printed in Table 9", "49 agree with their latencies within 0.01", "partly"),
        ("slower with INT8", "slower: mobilenetv2; efficientnet_lite0 1.12 times", "not reproduced"),
        ("Norm/Norm is the run of Table 7", "70.4, 67.0", "not reproduced"),
    ],
)
def test_what_comes_out(words: str, recomputed: str, verdict: str) -> None:
    found = finding(words)
    assert (found.recomputed, found.verdict) == (recomputed, verdict)


def test_the_notes_name_what_is_off() -> None:
    assert "35.57, printed 35.5" in finding("Avg. HW of 20 rows").note
    gaps = finding("gaps printed in Table 7").note
    for words in (
        "DSQ tvm printed 39.8, by the accuracies 40.2",
        "LSQ fbgemm printed 6.7",
        "DSQ tensorrt printed 2.1",
    ):
        assert words in gaps
    assert "24/93 and 44/93" in finding("25.8 % drop").note
    assert "variance" in finding("Fig. 5").note


def test_findings_are_whole_and_in_order() -> None:
    assert [f.section for f in FOUND] == sorted(f.section for f in FOUND)
    assert len({f.claim for f in FOUND}) == len(FOUND) > 50
    assert all(f.printed and f.recomputed and f.table for f in FOUND)
    assert {f.section for f in FOUND} == {"5.1", "5.2", "5.3", "5.4", "B.1", "B.2.3", "B.3", "C.2", "C.3"}


def test_rounding_and_ties() -> None:
    assert close(69.3, 69.34, 1)
    assert not close(69.3, 69.36, 1)
    assert best({"a": 1.0, "b": 2.0, "c": 2.0}) == ["b", "c"]
