"""Functions on an interval where a fused loop has a shorter form than on the whole line."""

from typing import Any

import torch
from torch import fx


def near_tanh(v: Any) -> Any:
    """tanh(v) where |v| <= 0.7; beyond that a fused loop is free to give anything."""
    if isinstance(v, fx.Proxy):
        return v.tracer.create_proxy("call_function", near_tanh, (v,), {})
    return torch.tanh(v)


def middle_tanh(v: Any) -> Any:
    """tanh(v) where |v| <= 2, likewise."""
    if isinstance(v, fx.Proxy):
        return v.tracer.create_proxy("call_function", middle_tanh, (v,), {})
    return torch.tanh(v)
