"""SPEC section 8 as written, in float64 NumPy, one channel at a time and slowly."""

import numpy as np
from numpy.typing import NDArray

from mqbench.scheme import QuantScheme

Array = NDArray[np.float64]
RATIOS = 1 - 0.01 * np.arange(95)


def qparams(lo: float, hi: float, scheme: QuantScheme) -> tuple[float, int]:
    """Section 1: range to parameters."""
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    levels = scheme.quant_max - scheme.quant_min
    if not scheme.symmetric:
        scale = (hi - lo) / levels
    else:
        scale = max(-lo, hi) / (levels / 2) if scheme.signed else hi / scheme.quant_max
    scale = max(scale, 2.0**-23)
    if scheme.power_of_two:
        scale = float(2.0 ** np.rint(np.log2(scale)))
    zero_point = 0 if scheme.symmetric else scheme.quant_min - np.rint(lo / scale)
    return scale, int(np.clip(zero_point, scheme.quant_min, scheme.quant_max))


def widest(x: Array, scheme: QuantScheme) -> tuple[float, float]:
    if not scheme.symmetric:
        return min(x.min(), 0.0), max(x.max(), 0.0)
    magnitude = np.abs(x).max()
    return (-magnitude if scheme.signed else 0.0), magnitude


def minmax(x: Array, scheme: QuantScheme) -> tuple[float, int]:
    return qparams(x.min(), x.max(), scheme)


def quantile(x: Array, scheme: QuantScheme) -> tuple[float, int]:
    return qparams(np.quantile(x, 1 - 0.9999), np.quantile(x, 0.9999), scheme)


def norm(x: Array, scheme: QuantScheme) -> tuple[float, int]:
    scale = max(2 * np.abs(x).mean() / np.sqrt(scheme.quant_max), 2.0**-23)
    if scheme.power_of_two:
        scale = float(2.0 ** np.rint(np.log2(scale)))
    return scale, scheme.quant_min if not scheme.symmetric and x.min() >= 0 else 0


def meanstd(x: Array, scheme: QuantScheme) -> tuple[float, int]:
    deviation = 3 * x.std(ddof=1) if x.size > 1 else 0.0
    lo, hi = x.mean() - deviation, x.mean() + deviation
    if not scheme.symmetric:
        lo, hi = max(lo, x.min()), min(hi, x.max())
    return qparams(lo, hi, scheme)


def mse_losses(x: Array, scheme: QuantScheme) -> Array:
    losses = []
    for ratio in RATIOS:
        lo, hi = widest(x, scheme)
        scale, zero_point = qparams(ratio * lo, ratio * hi, scheme)
        level = np.clip(np.rint(x / scale) + zero_point, scheme.quant_min, scheme.quant_max)
        losses.append((((level - zero_point) * scale - x) ** 2).mean())
    return np.array(losses)


def kld_losses(x: Array, scheme: QuantScheme) -> Array:
    lo, hi = widest(x, scheme)
    if lo == hi:
        return np.zeros(len(RATIOS))
    counts, edges = np.histogram(x[x != 0], 2048, (lo, hi))
    centre = (edges[1:] + edges[:-1]) / 2
    losses = []
    for ratio in RATIOS:
        scale, zero_point = qparams(ratio * lo, ratio * hi, scheme)
        level = np.clip(np.rint(centre / scale) + zero_point, scheme.quant_min, scheme.quant_max)
        inside = np.flatnonzero((centre >= ratio * lo) & (centre <= ratio * hi))
        within = np.zeros(2048)
        within[inside] = counts[inside]
        p = within.copy()
        p[inside[0]] += counts[: inside[0]].sum()
        p[inside[-1]] += counts[inside[-1] + 1 :].sum()
        _, cell = np.unique(level[inside], return_inverse=True)  # the bins that share a level
        filled = p[inside] > 0
        share = np.bincount(cell, within[inside]) / np.maximum(np.bincount(cell, filled), 1)
        q = np.zeros(2048)
        q[inside] = np.where(filled, share[cell], 0)
        p, q = p / p.sum(), q / max(q.sum(), 1.0)
        kept = p > 0
        losses.append((p[kept] * np.log(p[kept] / np.maximum(q[kept], 1e-12))).sum())
    return np.array(losses)


def candidates(x: Array, scheme: QuantScheme) -> list[tuple[float, int]]:
    lo, hi = widest(x, scheme)
    return [qparams(ratio * lo, ratio * hi, scheme) for ratio in RATIOS]
