"""How an engine rounds: the choices in which two exact integer networks can still differ, as data."""

from dataclasses import dataclass
from typing import Literal

from mqbench.deploy.integer import Requantization


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """The arithmetic of one engine; they round half to even where nothing else is said.

    Args:
        quantize: of float tensors. ``division``: rint(x / s) + z, Eq. 1; ``reciprocal``: rint(x (1/s)) + z;
            ``away``: x / s rounded half away from zero, + z;
            ``interval``: rint(fma(x, c, -low 255 / (high - low))) with c = 255 / (high - low), the real
            ends of the 8-bit container: where x / s lies halfway between two integers, an odd z turns the result.
        bias: ``int32``: rint(b / (s_w s_x)), added to the sum; ``float``: added to the sum as a real number
            b / (s_w s_x).
        total: what the multiplier is applied to. ``steps``: the sum of integers, and z is added after
            rounding; ``real``: ((acc s_x) s_w + b) (1/s_y) + z, rounded once (``bias="float"`` only).
        requantization: float multiplier, fixed point, or power-of-two shift (SPEC section 11), or TensorFlow Lite's
            two roundings, by which adds and pools are computed too then.
        multiplier: how M is computed in float32. ``product``: (s_x s_w) / s_y; ``ratio``: s_w (s_x / s_y);
            ``exact``: in float64, rounded once.
        add: ``fused``: fma(a, r_a, fma(b, r_b, z_c - fma(r_a, z_a, r_b z_b))) with r = s/s_c, then rounded;
            ``dequantized``: float32 values are added, then quantized by Eq. 1; ``premultiplied``: the same with
            values fma(code, s, -z s) of codes from 0 up, times 1/s_c; ``shifted``: both ratios as 21-bit integers over
            one power of two, and one shift that rounds half up (XNNPACK); ``exact``: in float64, rounded once.
        codes: ``fused`` adds are computed on unsigned codes (signed 8-bit grids shifted by 128), which rounds
            another way than on the integers themselves.

    The defaults are ONNX Runtime's, as measured in `docs/deployment.md`.
    """

    quantize: Literal["division", "reciprocal", "away", "interval"] = "division"
    bias: Literal["int32", "float"] = "int32"
    total: Literal["steps", "real"] = "steps"
    requantization: Requantization = Requantization.FLOAT
    multiplier: Literal["product", "ratio", "exact"] = "product"
    add: Literal["fused", "dequantized", "premultiplied", "shifted", "exact"] = "fused"
    codes: bool = True
