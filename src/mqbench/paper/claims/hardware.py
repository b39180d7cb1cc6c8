"""Section 5.4: accuracies and gaps on hardware (Table 7)."""

from collections.abc import Iterator

from mqbench.metrics import (
    ACADEMIC,
    accuracy_wins,
    cells,
    gap_wins,
    hardware_gap,
    hardware_robustness,
)
from mqbench.paper import tables
from mqbench.paper.claims._base import Finding, Verdict, close, holds, table
from mqbench.paper.transcription import ALGORITHMS, ARCHITECTURES, HARDWARE, PER_CHANNEL, PER_TENSOR, lines

_NAMES = {"lsq": "LSQ", "dsq": "DSQ", "pact": "PACT", "dorefa": "DoReFa"}


def claims() -> Iterator[Finding]:
    """The findings of this section."""
    yield _means()
    yield from _wins()
    yield from _drops()
    yield _printed_gaps()


def _means() -> Finding:
    found = {
        (row.architecture, row.algorithm): hardware_robustness(by) for row, by in cells(table(7)).items()
    }
    wrong = []
    for line in lines("table7"):
        robust = found[ARCHITECTURES[line["model"]], ALGORITHMS[line["algorithm"]]]
        assert robust is not None
        for name, printed, value in (
            ("mean", line["avg_hw_printed"], robust.mean),
            ("deviation", line["std_hw_printed"], robust.std),
        ):
            if not close(float(printed), value, len(printed.partition(".")[2])):
                wrong.append(f"{line['model']} {line['algorithm']} {name} is {value:.2f}, printed {printed}")
    return Finding(
        section="5.4",
        claim="Avg. HW of 20 rows: mean and population standard deviation over the hardware, NC as 0",
        printed="20 means, 20 deviations",
        recomputed=f"{40 - len(wrong)} of 40 agree",
        verdict=holds(len(wrong) < 2),
        table="7",
        note="a printing slip: " + "; ".join(wrong),
    )


def _wins() -> Iterator[Finding]:
    everywhere = accuracy_wins(table(7))
    yield _shares(
        "best accuracy in the 25 hardware settings",
        {"lsq": 52, "pact": 38, "dorefa": 10, "dsq": 0},
        everywhere,
        "ties split equally",
    )
    yield _shares("best in the per-tensor settings", {"lsq": 90}, accuracy_wins(table(7), PER_TENSOR))
    yield _shares(
        "best in the 15 per-channel settings",
        {"lsq": 23, "pact": 66.7},
        accuracy_wins(table(7), PER_CHANNEL),
        "needs one tie given to PACT whole, which would break the 52 %",
    )
    gaps = gap_wins(table(7))
    yield _shares("least hardware gap", {"lsq": 36, "pact": 48}, gaps, "needs one tie given to LSQ whole")
    for name, shares in (("absolute performance", everywhere), ("hardware gap", gaps)):
        top = max(shares, key=shares.__getitem__)
        yield Finding(
            section="5.4",
            claim=f"no algorithm has the best {name} in every setting",
            printed="none",
            recomputed=f"at most {100 * shares[top]:.0f} % ({_NAMES[top]})",
            verdict=holds(shares[top] < 1),
            table="7",
        )


def _shares(claim: str, printed: dict[str, float], found: dict[str, float], note: str = "") -> Finding:
    right = all(close(p, 100 * found.get(name, 0.0), 0) for name, p in printed.items())
    verdict: Verdict = "reproduced" if right else "not reproduced"
    shown = [name for name in _NAMES if name in printed or found.get(name)]
    return Finding(
        section="5.4",
        claim=f"{claim}: {', '.join(f'{_NAMES[name]} {p:g} %' for name, p in printed.items())}",
        printed=", ".join(f"{_NAMES[name]} {p:g}" for name, p in printed.items()),
        recomputed=", ".join(f"{_NAMES[name]} {100 * found.get(name, 0.0):.1f}" for name in shown) + " %",
        verdict=verdict,
        table="7",
        note=note,
    )


def _drops() -> Iterator[Finding]:
    """NC to NC is no experiment on the gap; from a number to NC is a drop."""
    gaps = [
        gap
        for by_backend in cells(table(7)).values()
        for backend in HARDWARE
        if (gap := hardware_gap(by_backend[ACADEMIC], by_backend[backend])) is not None
    ]
    drops = [gap for gap in gaps if gap > 1e-9]
    share = 100 * len(drops) / len(gaps)
    yield Finding(
        section="5.4",
        claim="93 % of the experiments lose accuracy on hardware",
        printed="93 %",
        recomputed=f"{len(drops)} of {len(gaps)} = {share:.1f} %",
        verdict=holds(close(93, share, 0)),
        table="7",
        note="NC in the academic setting is left out",
    )
    within = [sum(gap <= limit + 1e-9 for gap in drops) for limit in (1.0, 3.0)]
    shares = [100 * count / len(drops) for count in within]
    yield Finding(
        section="5.4",
        claim="of these, 25.8 % drop within 1.0 and 47.3 % within 3.0",
        printed="25.8 %, 47.3 %",
        recomputed=f"{within[0]} and {within[1]} of {len(drops)} = {shares[0]:.1f} %, {shares[1]:.1f} %",
        verdict=holds(close(25.8, shares[0], 1) and close(47.3, shares[1], 1)),
        table="7",
        note=f"the printed figures are {round(0.258 * 93)}/93 and {round(0.473 * 93)}/93: of 93 experiments, not 93 %",
    )


def _printed_gaps() -> Finding:
    table_ = {(r.architecture, r.algorithm): by for r, by in cells(table(7)).items()}
    wrong, count = [], 0
    for row in tables.rows(7):
        assert row.record is not None
        setting, said = row.record.setting, row.more["printed_gap"]
        if said is None or setting.backend is None:
            continue
        by_backend = table_[setting.architecture, setting.algorithm]
        gap = hardware_gap(by_backend[ACADEMIC], by_backend[setting.backend])
        assert gap is not None
        count += 1
        if not close(said, abs(gap), 1):
            name = f"{setting.architecture} {_NAMES[setting.algorithm]} {setting.backend}"
            wrong.append(f"{name} printed {said}, by the accuracies {gap:.1f}")
    return Finding(
        section="5.4",
        claim="the gaps printed in Table 7",
        printed=f"{count} gaps",
        recomputed=f"{count - len(wrong)} agree with their accuracies",
        verdict="partly" if wrong else "reproduced",
        table="7",
        note="contradict their own accuracies: " + "; ".join(wrong),
    )


CLAIMS = claims
