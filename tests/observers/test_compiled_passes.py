"""The compiled passes of the observers give what the torch operations give."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mqbench import observers
from mqbench.errors import CalibrationError
from mqbench.fused.build import SWITCH, compiler
from mqbench.observers._binning import number_in_bins, rounding_error, spread_in_bins
from mqbench.observers._moments import Kind, summarise
from mqbench.scheme import QuantScheme

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C++ compiler")

CATALOG: Any = observers
SCHEMES = {
    "4 bits": QuantScheme(bits=4),
    "8 bits, asymmetric": QuantScheme(bits=8, symmetric=False),
    "3 bits, power of two": QuantScheme(bits=3, power_of_two=True),
    "10 bits": QuantScheme(bits=10, symmetric=False),
}


def data(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(*shape, generator=generator)
    return x * x.abs().clamp_min(0.3) * (x > -1.5)


def deployed(name: str, scheme: QuantScheme, axis: int | None, batches: list[Tensor]) -> tuple[Tensor, ...]:
    observer = CATALOG[name](scheme, channel_axis=axis)
    for batch in batches:
        observer.observe(batch)
    found = observer.qparams()
    return found.scale, found.zero_point, observer.minimum, observer.maximum


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=list(SCHEMES))
@pytest.mark.parametrize("name", list(CATALOG))
def test_an_observer_chooses_the_same(
    name: str, scheme: QuantScheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [
        (None, [data(8, 16, 50, 50), 2 * data(8, 16, 50, 50)]),
        (None, [data(4, 6, 5, 5).to(memory_format=torch.channels_last)]),
        (0, [data(24, 16, 3, 3)]),
        (1, [data(5, 12, 301), data(5, 12, 301) - 0.5]),
    ]
    for axis, batches in cases:
        monkeypatch.delenv(SWITCH, raising=False)
        compiled = deployed(name, scheme, axis, batches)
        monkeypatch.setenv(SWITCH, "0")
        plain = deployed(name, scheme, axis, batches)
        torch.testing.assert_close(compiled[0], plain[0], rtol=2e-6, atol=0)
        for one, other in zip(compiled[1:], plain[1:], strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("threads", [1, 2])
def test_moments_survive_a_large_mean_and_large_values(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for rows in (data(3, 50_001) + 1e4, data(3, 50_001) * 1e30, data(70, 9)):
            exact = rows.double()
            found = summarise(rows, Kind.MOMENTS)
            assert found is not None
            deviation = exact - exact.mean(dim=1, keepdim=True)
            torch.testing.assert_close(found.first, exact.mean(dim=1), rtol=1e-6, atol=1e-7)
            torch.testing.assert_close(found.square, deviation.square().sum(dim=1), rtol=1e-5, atol=0)
            assert torch.equal(found.lo, rows.amin(dim=1))
            assert torch.equal(found.hi, rows.amax(dim=1))
            magnitude = summarise(rows, Kind.MAGNITUDE)
            assert magnitude is not None
            torch.testing.assert_close(magnitude.first, exact.abs().sum(dim=1), rtol=1e-6, atol=0)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("bad", [torch.nan, -torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("place", [0, 4095, 4096, 39_999])
@pytest.mark.parametrize("name", list(CATALOG))
def test_what_is_not_finite_is_found_wherever_it_is(name: str, place: int, bad: float) -> None:
    x = data(4, 10_000)
    x.view(-1)[place] = bad
    observer = CATALOG[name](QuantScheme(bits=4), channel_axis=None)
    with pytest.raises(CalibrationError, match="finite"):
        observer.observe(x)
    assert observer.count == 0


def test_bins_hold_what_a_direct_count_finds() -> None:
    rows = data(7, 3001)
    factor, offset = torch.linspace(3.0, 40.0, 7).double(), torch.linspace(-4.0, 60.0, 7).double()
    place = rows * factor[:, None] + offset[:, None]
    counts = number_in_bins(rows, factor, offset, 64)
    assert counts is not None
    for row in range(7):
        kept = place[row][rows[row] != 0].int().clamp(1, 64)
        assert torch.equal(counts[row], torch.bincount(kept, minlength=65).int())

    found = spread_in_bins(rows, factor, offset, 64)
    assert found is not None
    held = (rows * factor.float()[:, None] + offset.float()[:, None]).clamp(0, 64 - 1e-4)
    distance = held.frac() - 0.5
    for row in range(7):
        number = torch.bincount(held[row].int(), minlength=64).float()
        total = torch.bincount(held[row].int(), distance[row].double(), minlength=64).float()
        torch.testing.assert_close(found[0][row], torch.cat([number, total]), rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(found[1], distance.double().square().sum(dim=1), rtol=1e-5, atol=0)


@pytest.mark.parametrize("exact", [False, True])
def test_rounding_errors_are_those_of_each_value(exact: bool) -> None:
    rows = data(5, 2500)
    channel = torch.tensor([4, 0, 0, 2])
    scale, zero_point = torch.tensor([0.1, 0.3, 0.05, 0.7]).double(), torch.tensor([0, 1, -2, 0])
    found = rounding_error(rows, channel, scale, zero_point, (-8, 7), exact)
    place = rows[channel].double() / scale[:, None] + zero_point[:, None]
    wanted = (place.clamp(-8, 7).round() - place).square().sum(dim=1)
    torch.testing.assert_close(found, wanted, rtol=1e-12 if exact else 1e-5, atol=0)
