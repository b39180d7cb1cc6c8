"""Ladders: the settings between two, and what each switch costs."""

import itertools
import random

import pytest

import mqbench
from mqbench.errors import RequestError, UnknownNameError
from mqbench.ladder import Ladder, attribute, described, effective, ladder
from mqbench.plan import Plan
from mqbench.record import Setting
from mqbench.task import plan_of

NAMES = ("academic", "tensorrt", "acl", "tvm", "snpe", "fbgemm")


def of(backend: str, **fields: object) -> Setting:
    return Setting.model_validate(
        {"architecture": "resnet18", "dataset": "imagenet", "algorithm": "lsq", "backend": backend, **fields}
    )


def grids(plan: Plan) -> tuple[object, ...]:
    roles = [plan.scheme(role, ends) for role in ("weight", "activation") for ends in (False, True)]
    return (*roles, plan.graph, plan.bn_folding, plan.library.adaptive_sign, plan.first_last_bits)


@pytest.mark.parametrize(("start", "end"), list(itertools.permutations(NAMES, 2)))
def test_with_every_switch_turned_the_start_computes_what_the_end_does(start: str, end: str) -> None:
    way = ladder(of(start), of(end))
    assert way.setting(()) == way.start
    assert way.setting(way.switches) == way.end
    turned = [name for name, value in effective(of(start)).items() if value != effective(of(end))[name]]
    fields = {f for switch in way.switches.values() for f in switch}
    assert fields == set(turned)
    almost = way.orders[0][:-1]
    # the start's backend with all switches, made by hand
    made = of(start, **{n: v for n, v in effective(of(end)).items() if n != "shared_concat"})
    assert grids(plan_of(made)) == grids(plan_of(of(end)))
    assert effective(way.setting(almost)).keys() == effective(of(end)).keys()
    assert all(plan_of(rung) for rung in way.settings())


def test_the_switches_from_academic_to_tvm() -> None:
    way = ladder(of("academic"), of("tvm"), orders=1)
    assert list(way.switches) == ["power_of_two", "sign", "graph+concat", "folding"]
    path = way.path(way.orders[0])
    assert [described(path[0], s).partition(" with ")[2] for s in path[1:-1]] == [
        "power_of_two True",
        "power_of_two True, adaptive_sign False",
        "graph 3, power_of_two True, adaptive_sign False",
    ]
    assert path[-1] == of("tvm")
    assert way.change("graph+concat") == "graph 1 -> 3, shared_concat False -> True"


def test_a_concat_apart_from_its_graph() -> None:
    asked = ("graph", "concat", "power_of_two", "sign", "folding")
    way = ladder(of("academic"), of("tvm"), switches=asked, orders=1)
    graph, both = way.setting(["graph"]), way.setting(["graph", "concat"])
    assert (graph.graph, graph.shared_concat) == (3, False)
    assert (both.graph, both.shared_concat) == (3, None)
    assert way.setting(["concat"]) == way.start, "in graph 1 there is nothing to share"


def test_fields_that_a_setting_gives_itself() -> None:
    way = ladder(of("tensorrt", graph=3), of("fbgemm", first_last_bits=4, bits=(4, 8)))
    assert set(way.switches) == {"weight_symmetry", "activation_symmetry", "first_last", "bits"}
    rung = way.setting(["first_last"])
    assert (rung.backend, rung.graph, rung.first_last_bits, rung.bits) == ("tensorrt", 3, 4, (4, 4))


def test_losses_add_up_whatever_the_orders() -> None:
    draw = random.Random(0)
    for orders in (1, 2, 5, None):
        way = ladder(of("academic"), of("snpe"), orders=orders)
        values = {setting: draw.uniform(0, 80) for setting in way.settings()}
        steps = attribute(way, values)
        assert sum(s.loss for s in steps) == pytest.approx(values[way.start] - values[way.end])
        assert all(s.least <= s.loss <= s.most for s in steps)
        assert [s.loss for s in steps] == sorted((s.loss for s in steps), reverse=True)


def test_all_orders_give_shapley_values() -> None:
    """Of a game whose values are known: a sum, and one pair of switches that costs more together."""
    way = ladder(of("academic"), of("tvm"), orders=None)
    costs = dict(zip(way.switches, (1.0, 2.0, 4.0, 8.0), strict=True))
    first, second = list(costs)[:2]
    values = {}
    for count in range(5):
        for turned in itertools.combinations(way.switches, count):
            together = 6.0 if {first, second} <= set(turned) else 0.0
            values[way.setting(turned)] = 70 - sum(costs[s] for s in turned) - together
    found = {step.switch: step for step in attribute(way, values)}
    assert len(way.orders) == 24
    for name, cost in costs.items():
        share = 3.0 if name in (first, second) else 0.0
        assert found[name].loss == pytest.approx(cost + share)
        assert (found[name].least, found[name].most) == pytest.approx((cost, cost + 2 * share))
        assert (found[name].alone, found[name].last) == pytest.approx((cost, cost + 2 * share))


def test_orders() -> None:
    one, two = (ladder(of("academic"), of("tvm"), orders=n).orders for n in (1, 2))
    assert two == (one[0], one[0][::-1])
    many = ladder(of("academic"), of("tvm"), orders=6).orders
    assert len(set(many)) == 6
    assert many[:2] == two
    assert ladder(of("academic"), of("tvm"), orders=6).orders == many
    assert len(ladder(of("academic"), of("tvm"), orders=999).orders) <= 24


def test_orders_through_what_cannot_run_are_left_out() -> None:
    way = ladder(of("academic"), of("tvm"), orders=None)
    folded_first = way.setting(["folding"])
    less = way.through(lambda setting: setting != folded_first)
    assert len(less.orders) == 18
    assert all(order[0] != "folding" for order in less.orders)
    with pytest.raises(RequestError, match=r"every order .* turn switches together"):
        way.through(lambda setting: setting == way.start)


def test_an_algorithm_that_needs_its_grid() -> None:
    def possible(setting: Setting) -> bool:
        try:
            plan_of(setting)
        except RequestError:
            return False
        return True

    way = ladder(of("academic"), of("tvm", algorithm="tqt"), orders=None).through(possible)
    for order in way.orders:
        assert order.index("power_of_two") < order.index("algorithm")


@pytest.mark.parametrize(
    ("start", "end", "options", "sentence"),
    [
        (of("tvm"), of("tvm"), {}, "differ in nothing"),
        (of("tvm"), of("acl", seed=1), {}, "differ in seed, which is no switch"),
        (of("tvm"), of("acl").float_setting, {}, "float network"),
        (of("academic"), of("tvm"), {"switches": ["graph+concat", "sign"]}, "power_of_two, folding too"),
        (of("academic"), of("tvm"), {"switches": ["granularity"]}, "do not differ in granularity"),
        (of("academic"), of("tvm"), {"switches": ["graph", "graph"]}, "twice"),
        (of("academic"), of("tvm"), {"orders": 0}, "at least 1"),
        (
            of("academic"),
            of("fbgemm", algorithm="pact", bits=(8, 8), first_last_bits=4, weight_calibration="mse"),
            {"orders": None},
            r"a\+b",
        ),
    ],
)
def test_refusals(start: Setting, end: Setting, options: dict[str, object], sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        ladder(start, end, **options)  # type: ignore[arg-type]


def test_an_unknown_switch() -> None:
    with pytest.raises(UnknownNameError, match="unknown switch 'grahp'"):
        ladder(of("academic"), of("tvm"), switches=["grahp"])


def test_a_missing_value_is_an_error() -> None:
    way: Ladder = ladder(of("academic"), of("tvm"))
    with pytest.raises(KeyError):
        attribute(way, {way.start: 1.0})


def test_keys_of_the_ends_are_those_of_a_study() -> None:
    way = ladder(of("academic"), of("tvm"))
    assert {of("academic").key, of("tvm").key} <= {setting.key for setting in way.settings()}
    assert "tvm" in mqbench.backends
