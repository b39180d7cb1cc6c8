"""What every observer promises; a new one is tested by being in the folder."""

import copy
import io
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mqbench import observers
from mqbench.errors import CalibrationError, RequestError
from mqbench.functional import SCALE_FLOOR, fake_quantize
from mqbench.observers._sample import SampledObserver
from mqbench.scheme import QParams, QuantScheme

CATALOG: Any = observers
NAMES = list(CATALOG)
SCHEMES = {
    "symmetric": QuantScheme(bits=4),
    "unsigned": QuantScheme(bits=4, signed=False),
    "asymmetric": QuantScheme(bits=8, symmetric=False),
    "asymmetric unsigned": QuantScheme(bits=3, symmetric=False, signed=False),
    "power of two": QuantScheme(bits=8, power_of_two=True),
    "2 bits": QuantScheme(bits=2),
    "16 bits": QuantScheme(bits=16, symmetric=False),
}


@pytest.fixture(params=["all values", "histogram", "first values, then histogram"], autouse=True)
def capacity(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few values are kept and many go to a histogram: every promise holds for both."""
    if request.param != "all values":
        kept = 0 if request.param == "histogram" else 100
        monkeypatch.setattr(SampledObserver, "_capacity", lambda self, channels: kept)


def observed(name: str, *batches: Tensor, scheme: QuantScheme, axis: int | None = None) -> QParams:
    observer = CATALOG[name](scheme, channel_axis=axis)
    for batch in batches:
        observer.observe(batch)
    found: QParams = observer.qparams()
    return found


def assert_same(got: QParams, want: QParams) -> None:
    torch.testing.assert_close(got.scale, want.scale, rtol=1e-6, atol=0)
    torch.testing.assert_close(got.zero_point, want.zero_point)


def data(seed: int, *shape: int) -> Tensor:
    """A heavy-tailed, lopsided tensor with exact zeros."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator)
    return x * x.abs().clamp_min(0.3) * (x > -1.5) + 0.1 * (x > 0)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=list(SCHEMES))
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("name", NAMES)
def test_shape_type_and_range(name: str, axis: int | None, scheme: QuantScheme) -> None:
    x = data(0, 5, 4, 6)
    found = observed(name, x, scheme=scheme, axis=axis)
    shape = () if axis is None else (x.shape[axis],)
    assert found.scale.shape == found.zero_point.shape == shape
    assert found.scale.dtype == torch.float32
    assert found.zero_point.dtype == torch.int32
    assert found.scale.isfinite().all()
    assert (found.scale >= SCALE_FLOOR).all()
    assert ((scheme.quant_min <= found.zero_point) & (found.zero_point <= scheme.quant_max)).all()
    if scheme.symmetric:
        assert (found.zero_point == 0).all()
    if scheme.power_of_two:
        assert (torch.frexp(found.scale).mantissa == 0.5).all()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(1, 399), max_size=6), order=st.randoms())
def test_batches_and_their_order_do_not_matter(name: str, seed: int, cuts: list[int], order: Any) -> None:
    x = data(seed, 400) * torch.linspace(0.01, 30, 400)  # the range grows
    parts = list(x.tensor_split(sorted(set(cuts))))
    order.shuffle(parts)
    for scheme in (SCHEMES["symmetric"], SCHEMES["asymmetric"]):
        assert_same(observed(name, *parts, scheme=scheme), observed(name, x, scheme=scheme))


@pytest.mark.parametrize("name", NAMES)
def test_channels_do_not_see_each_other(name: str) -> None:
    x = data(1, 70, 300) * torch.logspace(-3, 3, 70)[:, None]
    for scheme in (SCHEMES["symmetric"], SCHEMES["asymmetric"]):
        together = observed(name, x, scheme=scheme, axis=0)
        for channel in (0, 1, 33, 69):
            alone = observed(name, x[channel : channel + 1], scheme=scheme, axis=0)
            assert_same(QParams(together.scale[channel], together.zero_point[channel]),
                        QParams(alone.scale[0], alone.zero_point[0]))  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_channels_may_be_streamed_and_lie_anywhere(name: str) -> None:
    x, scheme = data(2, 6, 40, 9), SCHEMES["asymmetric"]
    want = observed(name, x, scheme=scheme, axis=0)
    assert_same(observed(name, *x.split(13, dim=1), scheme=scheme, axis=0), want)
    assert_same(observed(name, x.movedim(0, 2), scheme=scheme, axis=2), want)
    assert_same(observed(name, x.movedim(0, 2).contiguous(), scheme=scheme, axis=-1), want)


@pytest.mark.parametrize("name", NAMES)
def test_memory_layout_does_not_matter(name: str) -> None:
    x, scheme = data(3, 3, 8, 10, 12), SCHEMES["asymmetric"]
    want = observed(name, x, scheme=scheme)
    for same in (
        x.contiguous(memory_format=torch.channels_last),
        x.transpose(1, 3),
        x.flip(0, 2),
        x.flatten(),
    ):
        assert_same(observed(name, same, scheme=scheme), want)
    assert_same(observed(name, x.expand(2, *x.shape), scheme=scheme), observed(name, x, x, scheme=scheme))


@pytest.mark.parametrize("name", NAMES)
def test_scale_follows_the_data(name: str) -> None:
    x, scheme = data(4, 3000), SCHEMES["asymmetric"]
    small, large = (observed(name, factor * x, scheme=scheme) for factor in (1.0, 64.0))
    assert_same(QParams(small.scale * 64, small.zero_point), large)


@pytest.mark.parametrize("name", NAMES)
def test_zero_is_exact(name: str) -> None:
    x = data(5, 4, 500).abs() + 1
    for scheme in SCHEMES.values():
        for shifted in (x, -x, x - 2):
            found = observed(name, shifted, scheme=scheme)
            zero = fake_quantize(
                torch.zeros(1), found.scale, found.zero_point, scheme.quant_min, scheme.quant_max
            )
            assert zero.item() == 0.0


@pytest.mark.parametrize("name", NAMES)
def test_input_is_neither_kept_nor_changed(name: str) -> None:
    for dtype in (torch.float32, torch.float64):
        x, scheme = data(6, 200).to(dtype), SCHEMES["asymmetric"]
        before, want = x.clone(), observed(name, x, scheme=scheme)
        observer = CATALOG[name](scheme)
        observer.observe(x.requires_grad_())
        assert torch.equal(x, before)
        x.detach().fill_(9.0)
        found = observer.qparams()
        assert_same(found, want)
        assert not found.scale.requires_grad
        assert_same(observer.qparams(), want)  # asking changes nothing


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_dtypes(name: str, dtype: torch.dtype) -> None:
    x, scheme = data(7, 999).to(dtype), SCHEMES["asymmetric"]
    found = observed(name, x, scheme=scheme)
    wide = dtype if dtype == torch.float64 else torch.float32
    assert found.scale.dtype == wide
    assert_same(found, observed(name, x.to(wide), scheme=scheme))


@pytest.mark.parametrize("name", NAMES)
def test_extremes_and_count(name: str) -> None:
    x = data(8, 5, 30)
    whole, each = CATALOG[name](QuantScheme()), CATALOG[name](QuantScheme(per_channel=True), channel_axis=0)
    assert whole.count == each.count == 0
    for part in x.split(7, dim=1):
        whole.observe(part)
        each.observe(part)
    assert (whole.minimum, whole.maximum, whole.count) == (x.min(), x.max(), 150)
    assert torch.equal(each.minimum, x.amin(1))
    assert torch.equal(each.maximum, x.amax(1))
    assert each.count == 30


@pytest.mark.parametrize("name", NAMES)
def test_scheme_may_be_replaced_after_observing(name: str) -> None:
    x = data(9, 800).abs()
    observer = CATALOG[name](QuantScheme(bits=4))
    observer.observe(x)
    observer.scheme = SCHEMES["unsigned"]
    assert_same(observer.qparams(), observed(name, x, scheme=SCHEMES["unsigned"]))


@pytest.mark.parametrize("name", NAMES)
def test_copies_go_their_own_way(name: str) -> None:
    x, y, scheme = data(10, 300), 5 * data(11, 300), SCHEMES["asymmetric"]
    observer = CATALOG[name](scheme)
    observer.observe(x)
    other = copy.deepcopy(observer)
    other.observe(y)
    assert_same(observer.qparams(), observed(name, x, scheme=scheme))
    assert_same(other.qparams(), observed(name, x, y, scheme=scheme))


@pytest.mark.parametrize("value", [0.0, 2.5, -2.5, 1e-30, -1e-30])
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=list(SCHEMES))
@pytest.mark.parametrize("name", NAMES)
def test_constant_data(name: str, scheme: QuantScheme, value: float) -> None:
    for count in (1, 2, 500):
        found = observed(name, torch.full((count,), value), scheme=scheme)
        assert found.scale.isfinite()
        assert found.scale >= SCALE_FLOOR
        if abs(value) < 1e-20:
            assert found.scale == SCALE_FLOOR


@pytest.mark.parametrize("name", NAMES)
def test_dead_channels(name: str) -> None:
    x = data(12, 6, 200)
    x[[1, 4]] = 0
    for scheme in SCHEMES.values():
        found = observed(name, x, scheme=scheme, axis=0)
        assert found.scale.isfinite().all()
        assert (found.scale[[1, 4]] == SCALE_FLOOR).all()
        alive = observed(name, x[[0, 2, 3, 5]], scheme=scheme, axis=0)
        assert_same(QParams(found.scale[[0, 2, 3, 5]], found.zero_point[[0, 2, 3, 5]]), alive)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_not_finite(name: str, bad: float) -> None:
    x, scheme = data(13, 4, 100), SCHEMES["asymmetric"]
    spoilt = x.clone()
    spoilt[2, 50] = bad
    for axis in (None, 0):
        observer = CATALOG[name](scheme, channel_axis=axis)
        observer.observe(x)
        with pytest.raises(CalibrationError, match="finite"):
            observer.observe(spoilt)
        assert_same(observer.qparams(), observed(name, x, scheme=scheme, axis=axis))  # as if not seen


@pytest.mark.parametrize("name", NAMES)
def test_nothing_seen(name: str) -> None:
    observer = CATALOG[name](QuantScheme())
    for ask in (observer.qparams, lambda: observer.minimum, lambda: observer.maximum):
        with pytest.raises(CalibrationError, match="observe"):
            ask()


@pytest.mark.parametrize("name", NAMES)
def test_refused_data(name: str) -> None:
    whole, each = CATALOG[name](QuantScheme()), CATALOG[name](QuantScheme(per_channel=True), channel_axis=2)
    with pytest.raises(CalibrationError, match="empty"):
        whole.observe(torch.empty(0, 3))
    with pytest.raises(CalibrationError, match="empty"):
        each.observe(torch.empty(0, 3, 2))
    for wrong in (torch.ones(3, dtype=torch.int32), torch.ones(3, dtype=torch.bool), [1.0]):
        with pytest.raises(RequestError, match="floating-point"):
            whole.observe(wrong)
    with pytest.raises(RequestError, match="axis 2"):
        each.observe(torch.ones(3, 3))
    each.observe(torch.ones(3, 3, 4))
    with pytest.raises(CalibrationError, match="from 4 to 5"):
        each.observe(torch.ones(3, 3, 5))
    with pytest.raises(RequestError, match="channel_axis"):
        CATALOG[name](QuantScheme(per_channel=True))
    assert whole.count == 0
    assert each.count == 9


@pytest.mark.parametrize("name", NAMES)
def test_memory_is_bounded(name: str, capacity: None) -> None:
    observer = CATALOG[name](QuantScheme())

    def stored() -> int:
        buffer = io.BytesIO()
        torch.save(observer.__dict__, buffer)
        return buffer.tell()

    batch = torch.randn(1 << 16)
    for _ in range(8):
        observer.observe(batch)
    before = stored()
    for _ in range(8):
        observer.observe(batch * 1.5)
    assert stored() <= before + 4096
    assert before < 4 << 20
