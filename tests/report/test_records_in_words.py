"""Families, ladders, leaderboard, headlines and the command that makes a run again."""

import shlex
from collections.abc import Sequence
from typing import Any

import pytest
from cyclopts import App

from mqbench.arguments import Axes
from mqbench.commands._options import NO_AXES
from mqbench.ladder import attribute, ladder
from mqbench.latency_record import latency_records
from mqbench.metrics import mean_interval
from mqbench.record import Record, Setting
from mqbench.report.context import Context
from mqbench.report.families import described, families, variants
from mqbench.report.headlines import headlines
from mqbench.report.ladders import climbed
from mqbench.report.reproducing import command
from mqbench.store import Store
from small_store import made, measure, table


def context(records: Sequence[Record], **given: Any) -> Context:
    return Context(Store("unused"), records, **given)


def said(records: Sequence[Record], **given: Any) -> str:
    whole = context(records, **given)
    return "\n".join(headlines(whole, whole.entries))


def test_a_family_differs_in_one_field_and_has_the_lowest_seed_of_each_value() -> None:
    records = [made(seed=s, algorithm=a) for s in (2, 1) for a in ("lsq", "pact")]
    other = [made(algorithm="dsq", bits=8), made(algorithm="dorefa", seed=1, outcome="failed")]
    (family,) = families([*records, *other], "algorithm")
    assert {name: run.setting.seed for name, run in family.runs.items()} == {"lsq": 1, "pact": 1}
    assert family.title == "resnet18, imagenet, TVM, w4a4"


def test_families_begin_with_academic_ones_then_with_what_compares_most() -> None:
    records = [made(algorithm=a, backend=b) for b in ("tvm", "academic") for a in ("lsq", "pact")]
    more = [
        made(algorithm=a, backend="academic", epochs=e)
        for e in (3, 4)
        for a in ("lsq", "pact", "dsq")[: e - 1]
    ]
    titles = [family.title for family in families([*records, *more], "algorithm")]
    common = "resnet18, imagenet"
    assert titles == [
        f"{common}, Academic, w4a4, epochs 4",
        f"{common}, Academic, w4a4",
        f"{common}, Academic, w4a4, epochs 3",
        f"{common}, TVM, w4a4",
    ]


def test_families_of_a_default_and_of_what_is_usable() -> None:
    records = [made(bn_folding=None), made(bn_folding=2), made(bn_folding=3)]
    (family,) = families(records, "bn_folding", usable=lambda r: r.setting.bn_folding != 3)
    assert list(family.runs) == ["as given by the backend", "folding 2"]


def test_variants_put_the_largest_first() -> None:
    records = [*table(), made(bits=8), made(bits=8, algorithm="pact")]
    assert [(name, len(runs)) for name, runs in variants(records)] == [
        ("imagenet, w4a4", 20),
        ("imagenet, w8a8", 2),
    ]


def test_described_names_all_that_is_not_at_its_default() -> None:
    setting = made(bits=(4, 8), quantizer_weight_decay=1e-4, sync_bn=False).setting
    assert described(setting) == "resnet18, imagenet, lsq, TVM, w4a8, sync bn False, scale L2 0.0001, seed 0"


SETTINGS = [
    Setting(architecture="resnet18", dataset="imagenet"),
    Setting(architecture="resnet18", dataset="folder:/a b", weights="timm", seed=3),
    made(bits=(4, 8), seed=7).setting,
    made(bn_folding=-1, graph=2, sync_bn=False, power_of_two=True, granularity="per_tensor").setting,
    made(steps=7, learning_rate=1e-5, quantizer_weight_decay=0.0, float_seed=2, float_epochs=3).setting,
    made(
        weight_calibration="norm", activation_calibration="mse", bn_calibration=64, first_last_bits=4
    ).setting,
]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_the_command_makes_the_very_setting(setting: Setting) -> None:
    app = App()
    found: list[Setting] = []

    @app.default
    def take(*, axes: Axes = NO_AXES) -> None:
        found.extend(axes.study(None).settings())

    words = shlex.split(command(setting))
    assert words[:2] == ["mqbench", "run"]
    app(words[2:], exit_on_error=False, result_action="return_value")
    assert found == [setting]


def climbing(orders: int | None, seeds: int) -> list[Record]:
    start, end = made(backend="academic").setting, made(backend="tvm").setting
    way = ladder(start, end, orders=orders)
    return [
        made(70.0 - 0.3 * index + 0.1 * seed, **rung.model_copy(update={"seed": seed}).model_dump())
        for index, rung in enumerate(way.settings())
        for seed in range(seeds)
    ]


@pytest.mark.parametrize(("orders", "seeds", "walked"), [(2, 3, 2), (None, 1, 24)])
def test_ladders_are_found_and_attributed(orders: int | None, seeds: int, walked: int) -> None:
    records = climbing(orders, seeds)
    (found,) = climbed([*records, made(algorithm="pact"), made(backend="snpe")])
    assert (len(found.ladder.orders), found.seeds) == (walked, seeds)
    first = {r.setting.model_copy(update={"seed": 0}): r.accuracy for r in records if r.setting.seed == 0}
    per_seed = attribute(found.ladder, {s: v for s, v in first.items() if v is not None})
    assert {s.switch: pytest.approx(s.loss) for s in found.steps} == {s.switch: s.loss for s in per_seed}
    assert sum(step.loss for step in found.steps) == pytest.approx(found.start - found.end)
    losses = [next(s.loss for s in per_seed)] * seeds
    assert (mean_interval(losses) is None) == (found.intervals[per_seed[0].switch] is None)


def test_a_ladder_with_a_rung_less_is_none() -> None:
    records = climbing(1, 1)
    assert list(climbed(records))
    assert not list(climbed(records[:1] + records[2:]))


def test_entries_of_the_leaderboard() -> None:
    whole = context(table())
    found = {(e.algorithm, e.backend): e for e in whole.entries}
    lsq = found["lsq", "tvm"]
    assert [lsq.mean, lsq.spread, lsq.gap] == pytest.approx([67.1, 0.1, 3.0])
    assert (lsq.best, lsq.label, lsq.bits) == (True, "deployable", "w4a4")
    assert [run.setting.seed for run in lsq.runs] == [0, 1, 2]
    assert (found["pact", "tvm"].best, found["pact", "tvm"].tied) == (False, False)
    assert found["dorefa", "tvm"].is_nc
    assert (found["dorefa", "fbgemm"].mean, found["dorefa", "fbgemm"].failed) == (None, 1)
    assert (found["lsq", "academic"].label, found["float", None].mean) == ("academic", 71.0)
    assert len(whole.entries) == 9


@pytest.mark.parametrize(("missed", "label"), [([], "certified"), (["too far"], "certificate missed")])
def test_a_certificate_gives_the_label(missed: list[str], label: str) -> None:
    record = made()
    whole = context([record], certificates={record.setting.key: [{"missed": missed}]})
    assert whole.entries[0].label == label


def test_what_cannot_be_deployed_is_called_so() -> None:
    simulated = made(algorithm="apot", backend="academic").model_copy(update={"deployable": False})
    assert context([simulated]).entries[0].label == "simulated only"


def test_headlines_of_a_study() -> None:
    text = said(table())
    assert "by the mean of 3 common cells lsq is first, before pact" in text
    assert "dorefa ran in fewer cells." in text
    assert "FBGEMM +6.0" in text
    assert "TVM +3.0" in text
    assert "1 of 20 runs did not converge: dorefa on TVM (1). Kinds: exploding scale 1." in text
    assert "1 run failed and counts as missing" in text
    assert "In 0 of 3 columns" in text
    text = said([r for r in table() if r.setting.algorithm != "dorefa"])
    assert "fewer cells" not in text
    assert "Drawn again from the 3 seeds, it is first in 100 % of the draws. The order is lsq, pact." in text
    assert "All of 18 quantized runs that finished converged." in text


def test_headlines_say_when_there_is_too_little() -> None:
    assert "No two algorithms ran with all else equal" in said([made()])
    single = said([made(70.0), made(60.0, algorithm="pact")])
    assert "1 seed a cell is too little to say which algorithm is first" in single
    assert " is first, before" not in single
    assert "too few backends" in single
    assert headlines(context([]), []) == []


def test_a_lead_that_seeds_decide_is_called_luck() -> None:
    values = {"lsq": (70.0, 60.0), "pact": (69.0, 61.0)}
    records = [made(v, algorithm=name, seed=s) for name, found in values.items() for s, v in enumerate(found)]
    assert "so which of them is first is luck" in said(records)
    wider = [
        r.model_copy(update={"setting": r.setting.model_copy(update={"bits": (8, 8)})}) for r in records[:1]
    ]
    assert said([*records, *wider]).count("luck") == 1


def test_what_lacks_the_same_is_said_once() -> None:
    records = [made(60.0, algorithm=a, bits=b) for a in ("lsq", "pact") for b in (2, 3, 8)]
    assert said(records).count("is too little to say which algorithm is first") == 1
    assert "imagenet, w2a2; imagenet, w3a3; imagenet, w8a8: 1 seed a cell" in said(records)


def test_headlines_beside_the_paper() -> None:
    text = said([made(66.7), made(66.0, epochs=3)])  # the paper has 67.7
    assert (
        "2 cells of the paper's tables are here, -1.4 points from what it printed in the mean, -1.7 at most"
        in text
    )
    assert "it differs in epochs" in text
    assert "No cell of the paper's tables is here" in said([made(dataset="cifar10")])


def test_headline_of_latencies(tmp_path: Any) -> None:
    store = Store(tmp_path)
    measure(store)
    assert "INT8 is 3.00 times as fast as float in the median of 1 measured pair" in said(
        [made()], latencies=list(latency_records(store))
    )
