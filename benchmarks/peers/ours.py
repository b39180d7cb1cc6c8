"""mqbench: LSQ at 4 bits, everything learned, in the academic and one library's setting (``MQBENCH_BACKEND``)."""

import os

import _step
import torch
from torch import nn

import mqbench


def prepare(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """Prepared and calibrated."""
    backend = os.environ.get("MQBENCH_BACKEND", "academic")
    q = mqbench.prepare(model, x[:2], backend=backend, algorithm="lsq", bits=4)
    mqbench.calibrate(q, [x])
    return q


if __name__ == "__main__":
    _step.main(prepare)
