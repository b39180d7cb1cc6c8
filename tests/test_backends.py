"""Single properties of a backend, replaced."""

from typing import Any

import pytest
import torch

import mqbench
from mqbench.backends._base import Backend, Overrides
from mqbench.errors import IncompatibleError, RequestError
from mqbench.plan import Plan
from mqbench.preparation import quantizers
from networks import Basic, Net, images


def backend(name: str) -> Backend:
    value: Backend = mqbench.backends[name]
    return value


@pytest.mark.parametrize("name", mqbench.backends)
def test_nothing_replaced_is_the_backend(name: str) -> None:
    assert backend(name).replaced(Overrides()) == backend(name)
    assert backend(name).replaced(backend(name).properties) == backend(name)


@pytest.mark.parametrize("start", mqbench.backends)
@pytest.mark.parametrize("end", mqbench.backends)
def test_all_properties_of_another_make_its_grids(start: str, end: str) -> None:
    made = backend(start).replaced(backend(end).properties)
    for field in ("weight", "activation", "adaptive_sign", "shared_concat"):
        assert getattr(made, field) == getattr(backend(end), field)


@pytest.mark.parametrize(
    ("given", "weight", "activation"),
    [
        ({"granularity": "per_channel"}, {"per_channel": True}, {}),
        ({"symmetric_weights": False}, {"symmetric": False}, {}),
        ({"symmetric_activations": False}, {}, {"symmetric": False}),
        ({"power_of_two": True}, {"power_of_two": True}, {"power_of_two": True}),
    ],
)
def test_one_property_changes_one_thing(
    given: dict[str, Any], weight: dict[str, bool], activation: dict[str, bool]
) -> None:
    plan = Plan.make(backend="academic", algorithm="lsq", overrides=Overrides(**given))
    plain = Plan.make(backend="academic", algorithm="lsq")
    for role, changed in (("weight", weight), ("activation", activation)):
        before, after = (p.scheme(role, False) for p in (plain, plan))  # type: ignore[arg-type]
        differing = {
            name: getattr(after, name)
            for name in ("bits", "symmetric", "signed", "per_channel", "power_of_two")
            if getattr(after, name) != getattr(before, name)
        }
        assert differing == changed


@pytest.mark.parametrize("given", [{"granularity": "channel"}, {"power_of_two": 1}, {"adaptive_sign": "no"}])
def test_values_that_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=f"{next(iter(given))} must be"):
        Overrides(**given)


def test_a_concat_switch_in_graph_1_is_refused() -> None:
    with pytest.raises(IncompatibleError, match="shared_concat would change nothing"):
        Plan.make(backend="academic", algorithm="lsq", overrides=Overrides(shared_concat=False))
    Plan.make(backend="academic", algorithm="lsq", graph=3, overrides=Overrides(shared_concat=False))


def test_academic_with_the_properties_of_a_library_computes_what_the_library_does() -> None:
    x = images()
    outputs = []
    for name, more in (
        ("tvm", {}),
        (
            "academic",
            {"overrides": Overrides(power_of_two=True, adaptive_sign=False), "graph": 3, "bn_folding": 4},
        ),
    ):
        torch.manual_seed(0)
        net = Net(Basic())
        prepared = mqbench.prepare(net, x, backend=name, algorithm="lsq", **more)  # type: ignore[arg-type]
        mqbench.calibrate(prepared, [x])
        outputs.append(prepared(x))
        assert all(fq.scheme.power_of_two for _, fq in quantizers(prepared))
    assert torch.equal(*outputs)
