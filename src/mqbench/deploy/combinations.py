"""Integer add, multiply, matrix product and pooling, each rounded as an `Arithmetic` says."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mqbench.deploy import doubling, integer
from mqbench.deploy.arithmetic import Arithmetic
from mqbench.deploy.evaluation import dequantize
from mqbench.deploy.integer import MULTIPLIER_BITS, Requantization
from mqbench.deploy.program import Add, Combination, GlobalPool, Grid, MatMul, Multiply, Pool
from mqbench.deploy.simulation import average_pool
from mqbench.errors import RequestError

Clip = tuple[int, int]
_SHIFTED_BITS = 21  # of the larger multiplier of a shifted add


def fixed_point(acc: Tensor, multiplier: Tensor, grid: Grid, clip: Clip, mode: Requantization) -> Tensor:
    """Requantize int64 sums without floats (`integer.requantize`); gives integers as float32."""
    zero_point = torch.tensor(grid.zero_point, device=acc.device)
    return integer.requantize(acc, multiplier, zero_point, *clip, mode).float()


def _scaled(acc: Tensor, multiplier: float, grid: Grid, clip: Clip, arithmetic: Arithmetic) -> Tensor:
    """clip(rint(acc M) + z) of exact sums that travel as floats."""
    if arithmetic.requantization is Requantization.FLOAT:
        factor = torch.tensor(multiplier, dtype=torch.float32)
        return (acc.float() * factor).round_().add_(grid.zero_point).clamp_(*clip)
    exact = torch.tensor(multiplier, dtype=torch.float64)
    return fixed_point(acc.long(), exact, grid, clip, arithmetic.requantization)


def _add(op: Add, x: Sequence[Tensor], grids: Sequence[Grid], grid: Grid, arithmetic: Arithmetic) -> Tensor:
    if arithmetic.requantization is Requantization.DOUBLING:
        centred = [(q - g.zero_point).long() for q, g in zip(x, grids, strict=True)]
        steps = doubling.add(centred, [g.scale for g in grids], grid.scale, op.sign)
        return (steps + grid.zero_point).clamp_(*op.clip).float()
    if arithmetic.requantization is not Requantization.FLOAT:
        return _fixed_add(op, x, grids, grid, arithmetic)
    if arithmetic.add == "shifted":
        return _shifted_add(op, x, grids, grid)
    if arithmetic.add == "dequantized":
        second = dequantize(x[1], grids[1]) * op.sign
        total = dequantize(x[0], grids[0]) + second
        steps = total / torch.tensor(grid.scale, dtype=torch.float32)
        return steps.round_().add_(grid.zero_point).clamp_(*op.clip)
    if arithmetic.add == "premultiplied" and op.sign > 0:
        return _premultiplied_add(op, x, grids, grid)
    if arithmetic.add == "exact" or op.sign < 0:
        first, second = (
            (q - g.zero_point).double() * (g.scale / grid.scale) for q, g in zip(x, grids, strict=True)
        )
        return (first + op.sign * second).round_().add_(grid.zero_point).clamp_(*op.clip).float()
    return _fused_add(op, x, grids, grid, arithmetic)


def _fused_add(
    op: Add, x: Sequence[Tensor], grids: Sequence[Grid], grid: Grid, arithmetic: Arithmetic
) -> Tensor:
    """fma(a, r_a, fma(b, r_b, z_c - fma(r_a, z_a, r_b z_b))) in float32, on the codes that the engine holds.

    Products of an 8-bit code and a float32 ratio are exact in float64, and so is their sum with a float32
    of similar size: rounding that to float32 is what a fused multiply-add does.
    """
    shifts = [128 if arithmetic.codes and g.scheme.signed else 0 for g in (*grids, grid)]
    scale = torch.tensor(grid.scale)
    first, second = (torch.tensor(g.scale) / scale for g in grids)
    z_a, z_b, z_c = (
        torch.tensor(float(g.zero_point + s)) for g, s in zip((*grids, grid), shifts, strict=True)
    )
    # the kernel's compiler contracts this sum too: one rounding for r_a z_a and the addition
    fixed = z_c - (first.double() * z_a.double() + (second * z_b).double()).float()
    inner = ((x[1] + shifts[1]).double() * second.double()).add_(fixed.double()).float()
    total = ((x[0] + shifts[0]).double() * first.double()).add_(inner).float()
    return total.round_().sub_(shifts[2]).clamp_(*op.clip)


def _shifted_add(op: Add, x: Sequence[Tensor], grids: Sequence[Grid], grid: Grid) -> Tensor:
    """(a m_a + b m_b + 2^(n-1)) >> n with m = rint(r 2^n), the larger of them in [2^20, 2^21]."""
    ratios = [float(torch.tensor(g.scale) / torch.tensor(grid.scale)) for g in grids]
    bits = _SHIFTED_BITS - math.frexp(max(ratios))[1]
    first, second = (
        (q - g.zero_point).long() * round(math.ldexp(r, bits))
        for q, g, r in zip(x, grids, ratios, strict=True)
    )
    steps = (first + op.sign * second + (1 << (bits - 1))) >> bits
    return (steps + grid.zero_point).clamp_(*op.clip).float()


def _premultiplied_add(op: Add, x: Sequence[Tensor], grids: Sequence[Grid], grid: Grid) -> Tensor:
    """rint((fma(a, s_a, -z_a s_a) + fma(b, s_b, -z_b s_b)) (1/s_c)) + z_c, with codes a, b from 0 up."""
    total = torch.zeros(())
    for q, g in zip(x, grids, strict=True):
        scale = torch.tensor(g.scale)
        offset = torch.tensor(float(g.quant_min - g.zero_point)) * scale
        code = (q - g.quant_min).double()
        total = total + (code * scale.double()).add_(offset.double()).float()
    steps = total * (1 / torch.tensor(grid.scale))
    return steps.round_().add_(grid.zero_point).clamp_(*op.clip)


def _fixed_add(
    op: Add, x: Sequence[Tensor], grids: Sequence[Grid], grid: Grid, arithmetic: Arithmetic
) -> Tensor:
    """Both ratios as integers over one power of two, and one rounding of the 64-bit sum."""
    ratios = [g.scale / grid.scale for g in grids]
    if arithmetic.requantization is Requantization.SHIFT:
        exponents = [math.frexp(r) for r in ratios]
        if any(fraction != 0.5 for fraction, _ in exponents):
            raise RequestError(
                "a shift needs ratios of scales that are powers of two; use mode 'fixed' or 'float'"
            )
        bits = max(0, *(1 - exponent for _, exponent in exponents))
    else:
        bits = MULTIPLIER_BITS - math.frexp(max(ratios))[1]
    whole = [round(math.ldexp(r, bits)) for r in ratios]
    centred = [(q - g.zero_point).long() for q, g in zip(x, grids, strict=True)]
    total = centred[0] * whole[0] + op.sign * centred[1] * whole[1]
    exact = torch.tensor(math.ldexp(1.0, -bits), dtype=torch.float64)
    return fixed_point(total, exact, grid, op.clip, Requantization.SHIFT)


def _multiply(
    op: Multiply, x: Sequence[Tensor], grids: Sequence[Grid], grid: Grid, arithmetic: Arithmetic
) -> Tensor:
    first, second = (q - g.zero_point for q, g in zip(x, grids, strict=True))
    return _scaled(first * second, _product(grids, grid, arithmetic), grid, op.clip, arithmetic)


def _matmul(
    op: MatMul, x: Sequence[Tensor], grids: Sequence[Grid], grid: Grid, arithmetic: Arithmetic
) -> Tensor:
    first, second = ((q - g.zero_point).double() for q, g in zip(x, grids, strict=True))
    acc = torch.matmul(first, second)
    return _scaled(acc, _product(grids, grid, arithmetic), grid, op.clip, arithmetic)


def _product(grids: Sequence[Grid], grid: Grid, arithmetic: Arithmetic) -> float:
    """s_a s_b / s_c, in float32 where the engine's is."""
    if arithmetic.requantization is not Requantization.FLOAT:
        return grids[0].scale * grids[1].scale / grid.scale
    return float(torch.tensor(grids[0].scale) * torch.tensor(grids[1].scale) / torch.tensor(grid.scale))


def _global_pool(
    op: GlobalPool, x: Sequence[Tensor], grids: Sequence[Grid], grid: Grid, arithmetic: Arithmetic
) -> Tensor:
    axes = tuple(range(2, x[0].dim()))
    pixels = math.prod(x[0].shape[2:])
    total = (x[0] - grids[0].zero_point).sum(axes, keepdim=op.keepdims, dtype=torch.float64)
    if arithmetic.requantization is Requantization.FLOAT:
        factor = float(torch.tensor(grids[0].scale) / (torch.tensor(grid.scale) * float(pixels)))
        return _scaled(total, factor, grid, op.clip, arithmetic)
    if arithmetic.requantization is Requantization.DOUBLING:
        steps = doubling.mean(total.long(), pixels, grids[0].scale / grid.scale)
        return (steps + grid.zero_point).clamp_(*op.clip).float()
    if arithmetic.requantization is Requantization.SHIFT and pixels & (pixels - 1):
        mode = Requantization.FIXED  # no shift divides by 49
        return fixed_point(
            total.long(), torch.tensor(grids[0].scale / (pixels * grid.scale), dtype=torch.float64),
            grid, op.clip, mode,
        )  # fmt: skip
    return _scaled(total, grids[0].scale / (pixels * grid.scale), grid, op.clip, arithmetic)


def _pool(op: Pool, x: Sequence[Tensor], grids: Sequence[Grid], grid: Grid, arithmetic: Arithmetic) -> Tensor:
    """Windows of different sizes at the edges have different divisors: the mean in float64, rounded once.

    LiteRT has a convolution in its place (windows of one size), whose rounding it shares.
    """
    mean = average_pool(op, (x[0] - grids[0].zero_point).double())
    one_size = not op.ceil_mode and (op.count_include_pad or not any(op.padding))
    if arithmetic.requantization is Requantization.DOUBLING and one_size:
        pixels = math.prod(op.kernel)
        share = float(torch.tensor(1 / pixels, dtype=torch.float32))  # the convolution's weight scale
        multiplier = torch.tensor(grids[0].scale * share / grid.scale, dtype=torch.float64)
        return fixed_point(
            mean.mul_(pixels).round_().long(), multiplier, grid, op.clip, Requantization.DOUBLING
        )
    steps = (mean * (grids[0].scale / grid.scale)).round_()
    return steps.add_(grid.zero_point).clamp_(*op.clip).float()


COMBINATIONS: dict[type[Combination], Callable[..., Any]] = {
    Add: _add,
    GlobalPool: _global_pool,
    MatMul: _matmul,
    Multiply: _multiply,
    Pool: _pool,
}
