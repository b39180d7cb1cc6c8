"""Every method against SPEC section 8 as written, and its histogram against all values."""

import sys
from typing import Any

import calibration_reference as reference
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mqbench import observers
from mqbench.functional import SCALE_FLOOR
from mqbench.observers import _search
from mqbench.observers._divergence import Divergence, counts_of
from mqbench.observers._histogram import Histogram
from mqbench.observers._sample import SampledObserver
from mqbench.observers._search import COUNT, SLACK, Candidates
from mqbench.observers._squared_error import loss_of_values
from mqbench.observers._squared_error_bound import bound_of_values
from mqbench.observers._statistic import scan
from mqbench.observers.kld import ERROR as KLD_ERROR
from mqbench.scheme import QParams, QuantScheme

CATALOG: Any = observers
SCHEMES = [
    QuantScheme(bits=bits, symmetric=symmetric, signed=signed)
    for bits in (2, 4, 8, 12)
    for symmetric in (True, False)
    for signed in (True, False)
] + [QuantScheme(bits=4, power_of_two=True), QuantScheme(bits=16, symmetric=False)]
CLOSED = {
    "minmax": reference.minmax,
    "quantile": reference.quantile,
    "norm": reference.norm,
    "meanstd": reference.meanstd,
}
SEARCHED = {"mse": reference.mse_losses, "kld": reference.kld_losses}


def described(scheme: QuantScheme) -> str:
    kind = "symmetric" if scheme.symmetric else "asymmetric"
    sign = "signed" if scheme.signed else "unsigned"
    return f"{scheme.bits}-{kind}-{sign}{'-pot' * scheme.power_of_two}"


def distributions(count: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(count, generator=generator, dtype=torch.float64)
    uniform = torch.rand(count, generator=generator, dtype=torch.float64)
    return {
        "normal": normal,
        "relu": normal.relu(),
        "relu6": (3 * normal).clamp(0, 6),
        "heavy": normal / uniform.clamp_min(0.05),
        "lopsided": normal - 2,
        "positive": uniform + 0.5,
        "outlier": torch.cat([normal[:-1], torch.tensor([50.0], dtype=torch.float64)]),
        "few values": torch.round(normal),
    }


def observed(name: str, x: Tensor, scheme: QuantScheme) -> QParams:
    observer = CATALOG[name](scheme)
    observer.observe(x)
    found: QParams = observer.qparams()
    return found


def data(name: str, scheme: QuantScheme, count: int = 1500) -> Tensor:
    x = distributions(count)[name]
    return x if scheme.signed or not scheme.symmetric else x.abs()  # symmetric and unsigned: only for x >= 0


def test_every_observer_has_a_reference() -> None:
    shipped = {name for name in CATALOG if name not in CATALOG._added}
    assert shipped == {*CLOSED, *SEARCHED}


@pytest.mark.parametrize("scheme", SCHEMES, ids=described)
@pytest.mark.parametrize("x", distributions(1))
@pytest.mark.parametrize("name", CLOSED)
def test_closed_form(name: str, x: str, scheme: QuantScheme) -> None:
    values = data(x, scheme)
    found = observed(name, values, scheme)
    scale, zero_point = CLOSED[name](values.numpy(), scheme)
    assert found.scale.item() == pytest.approx(scale, rel=1e-12)
    assert found.zero_point.item() == zero_point


@pytest.mark.parametrize("scheme", SCHEMES, ids=described)
@pytest.mark.parametrize("x", distributions(1))
@pytest.mark.parametrize("name", SEARCHED)
def test_search(name: str, x: str, scheme: QuantScheme) -> None:
    values = data(x, scheme)
    losses = SEARCHED[name](values.numpy(), scheme)
    found = observed(name, values, scheme)
    candidates = reference.candidates(values.numpy(), scheme)
    near = [
        index
        for index, (scale, zero_point) in enumerate(candidates)
        if found.scale.item() == pytest.approx(scale, rel=1e-12) and found.zero_point.item() == zero_point
    ]
    assert near, "not one of the 95 candidates"
    assert losses[near].min() <= losses.min() * (1 + 1e-9) + 1e-15


@pytest.mark.parametrize("name", SEARCHED)
def test_first_of_equal_losses(name: str) -> None:
    scheme = QuantScheme(bits=4, power_of_two=True)  # many ranges round to one scale
    x = torch.tensor([-1.0, 1.0, 0.25, 0.5])
    values = x.double().numpy()
    scale, _ = reference.candidates(values, scheme)[SEARCHED[name](values, scheme).argmin()]
    assert observed(name, x, scheme).scale == scale


def candidates_for(rows: Tensor, scheme: QuantScheme) -> Candidates:
    lo, hi = zip(*(reference.widest(row.numpy(), scheme) for row in rows), strict=True)
    return Candidates(torch.tensor(lo).double(), torch.tensor(hi).double(), scheme)


@pytest.mark.parametrize("scheme", [*SCHEMES, QuantScheme(bits=11, symmetric=False)], ids=described)
def test_losses_of_all_candidates(scheme: QuantScheme) -> None:
    """Nearly all: where a bin's centre lies on a threshold, a last digit decides about its level."""
    rows = torch.stack([data(x, scheme) for x in distributions(1)])
    candidates = candidates_for(rows, scheme)
    pairs = torch.arange(len(rows) * COUNT)
    error = loss_of_values(rows, candidates)(pairs).reshape(len(rows), COUNT) / rows.shape[1]
    np.testing.assert_allclose(error, [reference.mse_losses(row.numpy(), scheme) for row in rows], rtol=1e-9)
    want = np.array([reference.kld_losses(row.numpy(), scheme) for row in rows])
    divergence = Divergence(counts_of(rows, candidates), candidates)
    outer = divergence.outer()
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, KLD_ERROR)):
        between = divergence.between(pairs, dtype).reshape(len(rows), COUNT)
        assert (between >= -tolerance).all()
        assert (np.abs((outer + between).numpy() - want) <= tolerance).mean() > 0.99


@settings(max_examples=60, deadline=None)
@given(
    # below the scale floor every candidate is the same scale, and there is nothing to bound
    values=st.lists(
        st.floats(-100, 100, width=32).map(lambda v: v if abs(v) > 1e-9 else 0.0), min_size=1, max_size=30
    ),
    bits=st.integers(2, 10),
    symmetric=st.booleans(),
    power_of_two=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_bounds_are_no_more_than_the_loss(
    values: list[float], bits: int, symmetric: bool, power_of_two: bool, dtype: torch.dtype
) -> None:
    scheme = QuantScheme(bits=bits, symmetric=symmetric, power_of_two=power_of_two)
    rows = torch.tensor(values, dtype=torch.float64)[None]
    candidates = candidates_for(rows, scheme)
    loss = loss_of_values(rows, candidates)(torch.arange(COUNT))
    bound, _ = bound_of_values(rows.to(dtype), candidates)
    repeated = bound[0].isinf()
    assert (bound[0][~repeated] <= loss[~repeated] * (1 + SLACK) + 1e-9 * rows.square().sum() + 1e-200).all()
    for one in repeated.nonzero()[:, 0].tolist():
        assert loss[one] == loss[one - 1]


@pytest.mark.parametrize("name", SEARCHED)
def test_dead_channels_cost_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = 0
    evaluate = _search.evaluate

    def counting(loss: Any, *bounds: Tensor) -> Tensor:
        def counted(some: Tensor) -> Tensor:
            nonlocal pairs
            pairs += len(some)
            found: Tensor = loss(some)
            return found

        return evaluate(counted, *bounds)

    monkeypatch.setattr(sys.modules[CATALOG[name].__module__], "evaluate", counting)
    observer = CATALOG[name](QuantScheme(bits=8, per_channel=True), channel_axis=0)
    observer.observe(torch.zeros(1000, 9))
    assert (observer.qparams().scale == SCALE_FLOOR).all()
    assert pairs <= 2 * 1000


@pytest.mark.parametrize("scheme", [*SCHEMES[:12], QuantScheme(bits=16)], ids=described)
@pytest.mark.parametrize("x", distributions(1))
def test_mse_of_a_histogram(x: str, scheme: QuantScheme, monkeypatch: pytest.MonkeyPatch) -> None:
    values = data(x, scheme, 40_000)
    least = reference.mse_losses(values.numpy(), scheme).min()
    monkeypatch.setattr(SampledObserver, "_capacity", lambda self, channels: 0)
    found = observed("mse", values, scheme)
    scale, zero_point = found.scale.item(), found.zero_point.item()
    level = np.clip(np.rint(values.numpy() / scale) + zero_point, scheme.quant_min, scheme.quant_max)
    loss = (((level - zero_point) * scale - values.numpy()) ** 2).mean()
    # values that lie on a grid are spread over a cell, which a fine grid can resolve
    cell = 2.0 ** np.ceil(np.log2(values.abs().max().item())) / 2**14
    assert loss <= 1.001 * least + cell**2


@pytest.mark.parametrize("scheme", SCHEMES[:12], ids=described)
@pytest.mark.parametrize("x", ["normal", "relu", "relu6", "heavy", "lopsided", "positive"])
def test_kld_of_a_histogram(x: str, scheme: QuantScheme, monkeypatch: pytest.MonkeyPatch) -> None:
    values = data(x, scheme, 40_000)
    losses = reference.kld_losses(values.numpy(), scheme)
    monkeypatch.setattr(SampledObserver, "_capacity", lambda self, channels: 0)
    widest, _ = reference.minmax(values.numpy(), scheme)
    index = round(100 * (1 - observed("kld", values, scheme).scale.item() / widest))
    assert losses[index] <= 1.05 * losses.min()  # within the noise of its few values a bin


@pytest.mark.parametrize("x", distributions(1))
def test_quantile_of_a_histogram(x: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values, scheme = distributions(40_000)[x], QuantScheme(bits=8, symmetric=False)
    lo, hi = np.quantile(values.numpy(), [1 - 0.9999, 0.9999])
    monkeypatch.setattr(SampledObserver, "_capacity", lambda self, channels: 0)
    found = observed("quantile", values, scheme)
    want = max(hi, 0) - min(lo, 0)
    one_bin = (values.max() - values.min()).item() / 2048
    assert abs(found.scale.item() * 255 - want) <= 2 * one_bin
    start = (scheme.quant_min - found.zero_point.item()) * found.scale.item()
    assert abs(start - min(lo, 0)) <= one_bin + found.scale.item()


def test_sums_keep_their_precision() -> None:
    """A mean over many values, and a small deviation around a large mean."""
    tenth = torch.full((1 << 20,), 0.1)
    norm, meanstd = CATALOG["norm"](QuantScheme(bits=8)), CATALOG["meanstd"](QuantScheme(bits=8))
    noise = torch.randn(1 << 16, dtype=torch.float64) * 1e-3
    for _ in range(16):
        norm.observe(tenth)
        meanstd.observe(noise + 1e4)
    norm.observe(torch.full((1,), 1e6))
    count = 16 << 20
    mean = (count * float(tenth[0]) + 1e6) / (count + 1)
    assert norm.qparams().scale.item() == pytest.approx(2 * mean / np.sqrt(127), rel=3e-7)
    deviation = noise.std(correction=0).item() * np.sqrt(16 * 65536 / (16 * 65536 - 1))
    want = (1e4 + noise.mean().item() + 3 * deviation) / 127.5
    assert (meanstd.qparams().scale.item() - want) * 127.5 == pytest.approx(0, abs=1e-9)


def test_sign_of_the_data_decides_the_zero_point_of_norm() -> None:
    positive, scheme = torch.rand(50), QuantScheme(bits=4, symmetric=False)
    assert observed("norm", positive, scheme).zero_point == -8
    assert observed("norm", positive - 0.5, scheme).zero_point == 0
    assert observed("norm", positive, QuantScheme(bits=4)).zero_point == 0
    weight = CATALOG["norm"](QuantScheme(bits=4, symmetric=False, per_channel=True), channel_axis=0)
    weight.observe(positive.reshape(5, 10))
    assert (weight.qparams().zero_point == 0).all()


@settings(max_examples=40, deadline=None)
@given(
    batches=st.lists(
        st.lists(st.floats(-1e6, 1e6, width=32, allow_subnormal=False), min_size=1, max_size=20),
        min_size=1,
        max_size=8,
    )
)
def test_a_histogram_of_batches_is_that_of_the_whole(batches: list[list[float]]) -> None:
    whole = torch.tensor([x for batch in batches for x in batch])[None]
    at_once, streamed = (Histogram.empty(1, whole.device) for _ in range(2))
    scan(whole, at_once)
    for number, batch in enumerate(batches):
        rows = torch.tensor(batch)[None]
        if number % 2:
            scan(rows, streamed)
        else:
            later = Histogram.empty(1, whole.device)
            scan(rows, later)
            streamed.merge(later)
    assert torch.equal(streamed.counts, at_once.counts)
    assert torch.equal(streamed.exponent, at_once.exponent)
    assert streamed.counts.sum() == whole.numel()
    assert streamed.counts[0, streamed.half] == (whole == 0).sum()
    ordered = whole[0].double().sort().values
    cell = streamed.width.item()
    for rank in {0, len(ordered) // 3, len(ordered) // 2, len(ordered) - 1}:
        assert abs(streamed.ranked(rank).item() - ordered[rank].item()) <= cell
    curve, at = streamed.curve(), torch.linspace(-2e6, 2e6, 9, dtype=torch.float64)[None]
    deficit = (at.T - ordered).clamp_min(0).sum(dim=1)
    torch.testing.assert_close(
        curve.deficit(at, torch.tensor([0]))[0], deficit, rtol=1e-9, atol=cell * len(ordered)
    )
    counted, total, square = curve.moments()
    assert counted.item() == len(ordered)
    assert total.item() == pytest.approx(ordered.sum().item(), abs=cell * len(ordered))
    assert square.item() == pytest.approx(
        ordered.square().sum().item(), abs=3 * cell * (ordered.abs() + cell).sum().item()
    )
