"""Captures of one process: the exporter takes most of the time of preparing a small network, and tests repeat them."""

import copy
import hashlib
import io
import pickle
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from mqbench import preparation
from mqbench.capture import capture

LARGEST = 100_000  # parameters of a network that is remembered


class _Content(pickle.Pickler):
    """Classes, attributes and tensors by value."""

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, Tensor):
            return NotImplemented
        values = obj.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return torch.empty, (type(obj), obj.dtype, obj.shape, obj.requires_grad, values)


def content(*objects: object) -> bytes | None:
    """A digest that is the same for equal objects alone; None for what has no name, such as a class in a function."""
    written = io.BytesIO()
    try:
        _Content(written).dump(objects)
    except (pickle.PicklingError, AttributeError, TypeError, RuntimeError):
        return None
    return hashlib.sha256(written.getvalue()).digest()


class Captures:
    """`capture`, once for each network and input; every caller has a copy of its own, as the runs of a process have."""

    def __init__(self) -> None:
        self.known: dict[bytes, fx.GraphModule] = {}

    def __call__(self, model: nn.Module, example_inputs: Tensor | Sequence[Tensor]) -> fx.GraphModule:
        small = sum(p.numel() for p in model.parameters()) <= LARGEST
        key = content(model, example_inputs) if small else None
        with torch.random.fork_rng(devices=[]):  # what is drawn next does not depend on what is known
            if key is None:
                return capture(model, example_inputs)
            if key not in self.known:
                self.known[key] = capture(model, example_inputs)
        return copy.deepcopy(self.known[key])


def remember() -> None:
    """From here on `prepare` captures equal networks once in this process; for one that a test has started."""
    module: Any = preparation
    if not isinstance(module.capture, Captures):
        module.capture = Captures()
