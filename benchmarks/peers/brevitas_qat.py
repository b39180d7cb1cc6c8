"""Brevitas: its graph quantization at 8 bits; activation scales are learned, batch norms merged."""

import _step
import torch
from brevitas.graph.quantize import preprocess_for_quantize, quantize
from torch import nn


def prepare(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """Traced, merged and quantized; a few forward passes set the scales."""
    quantized = quantize(preprocess_for_quantize(model.eval(), trace_model=True)).train()
    for _ in range(2):
        quantized(x)
    return quantized


if __name__ == "__main__":
    _step.main(prepare)
