"""The compiled search for the nearest level against the one by torch operations."""

import pytest
import torch
from torch import Tensor

from mqbench.fused import build, nearest
from mqbench.fused.activation import Clip
from mqbench.fused.definition import NOTHING, Affine, Before
from mqbench.fused.elementwise import Elementwise
from mqbench.fused.nearest import Nearest

PASSES = Elementwise(lambda x: x, lambda gradient, _: (gradient,), parameters=0, scalars=0)
SHAPES = [(None, (4, 6, 33, 20)), (0, (7, 5, 3, 3)), (1, (5, 7, 33, 3)), (None, (0, 3)), (None, ())]


def found(x: Tensor, levels: Tensor, axis: int | None, before: Before = NOTHING) -> Nearest:
    made = Nearest(levels, PASSES, tallies=True)
    made.result = made.forward(x, (), (), axis=axis, before=before)  # type: ignore[attr-defined]
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("number", [2, 4, 16, 17])
@pytest.mark.parametrize(("axis", "shape"), SHAPES)
def test_both_paths_agree(
    dtype: torch.dtype, number: int, axis: int | None, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if nearest._compiled(dtype) is None:
        pytest.skip("no compiler")
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=dtype)
    tables = (number,) if axis is None else (shape[axis], number)
    levels = torch.randn(tables, dtype=dtype).sort(-1).values
    befores = [NOTHING, Before(clip=Clip(0.0, 1.0))]
    if axis == 0:
        befores.append(Before(gain=torch.rand(shape[0], dtype=dtype)))
    elif len(shape) > 2:
        vectors = [torch.randn(shape[1], dtype=dtype) for _ in range(3)]
        befores.append(Before(affine=Affine(*vectors), clip=Clip(0.0)))
    for before in befores:
        fast = found(x, levels, axis, before)
        with monkeypatch.context() as patch:
            patch.setenv(build.SWITCH, "0")
            slow = found(x, levels, axis, before)
        assert torch.equal(fast.result, slow.result)  # type: ignore[attr-defined]
        assert fast.tally is not None
        assert slow.tally is not None
        assert torch.equal(fast.tally.counts, slow.tally.counts)
        assert fast.tally.counts.sum() == x.numel()
        torch.testing.assert_close(fast.tally.sums, slow.tally.sums, rtol=1e-5, atol=1e-3)


def test_counts_once() -> None:
    x, levels = torch.randn(100), torch.tensor([-1.0, 0.0, 1.0])
    made = found(x, levels, None)
    tally = made.tally
    made.forward(2 * x, (), ())
    assert made.tally is tally


def test_mid_points_go_down_and_nan_stays() -> None:
    x = torch.tensor([-2.0, -0.5, -0.4, 0.5, 0.6, torch.nan, torch.inf, -torch.inf])
    made = Nearest(torch.tensor([-1.0, 0.0, 1.0]), PASSES, tallies=False)
    expected = torch.tensor([-1.0, -1.0, 0.0, 0.0, 1.0, torch.nan, 1.0, -1.0])
    torch.testing.assert_close(made.forward(x, (), ()), expected, equal_nan=True, rtol=0, atol=0)
    assert made.tally is None


def test_channels_last_and_strides() -> None:
    x = torch.randn(2, 3, 5, 4)
    levels = torch.linspace(-1, 1, 5)
    per_channel = levels * torch.arange(1.0, 4.0)[:, None]
    for axis, table in ((None, levels), (1, per_channel)):
        expected = found(x, table, axis)
        for form in (x.to(memory_format=torch.channels_last), x.mT.contiguous().mT):
            got = found(form, table, axis)
            assert torch.equal(got.result, expected.result)  # type: ignore[attr-defined]
            torch.testing.assert_close(got.tally, expected.tally, rtol=1e-6, atol=1e-5)


def test_the_number_of_threads_changes_nothing() -> None:
    x, levels = torch.randn(200_000), torch.linspace(-1, 1, 16)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = found(x, levels, None).tally
        torch.set_num_threads(3)
        many = found(x, levels, None).tally
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(one, many, rtol=0, atol=0)
