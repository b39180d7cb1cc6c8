"""Kinds of operations of a captured graph, by what they do to a quantized tensor."""

from typing import Any

import torch

aten = torch.ops.aten


def _ops(*names: str) -> frozenset[Any]:
    packets = (getattr(aten, name) for name in names if hasattr(aten, name))
    return frozenset(getattr(packet, overload) for packet in packets for overload in packet.overloads())


# one input, elementwise: computed on the producer's accumulator, before it is quantized
ACTIVATIONS = _ops(
    "relu", "relu6", "hardtanh", "clamp", "clamp_min", "clamp_max", "leaky_relu", "prelu", "elu", "celu", "selu",
    "gelu", "silu", "mish", "hardswish", "hardsigmoid", "sigmoid", "tanh", "softplus",
)  # fmt: skip
# values are moved, copied or picked, never mixed: what is quantized stays on its grid
MOVES = _ops(
    "max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool2d", "flatten", "view", "reshape", "unflatten",
    "permute", "transpose", "squeeze", "unsqueeze", "expand", "expand_as", "contiguous", "clone", "alias",
    "slice", "select", "narrow", "split", "split_with_sizes", "chunk", "unbind", "t", "mT", "roll", "flip",
    "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "constant_pad_nd", "pad", "detach", "movedim", "repeat",
    "swapaxes", "numpy_T", "index_select", "upsample_nearest2d",
)  # fmt: skip
ADD = _ops("add", "sub")
MULTIPLY = _ops("mul", "div")
CONCAT = _ops("cat", "concat", "concatenate", "stack")
POOL = _ops(
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "mean",
)  # fmt: skip
MATMUL = _ops("matmul", "bmm", "baddbmm", "einsum", "scaled_dot_product_attention")
ELEMENTWISE = ADD | MULTIPLY
READERS = POOL | CONCAT | MATMUL
# layers whose weight is computed, or of a kind without a quantized form: they stay float
UNQUANTIZED = _ops(
    "conv1d", "conv2d", "conv3d", "convolution", "linear",
    "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "lstm", "gru", "rnn_tanh",
)  # fmt: skip
