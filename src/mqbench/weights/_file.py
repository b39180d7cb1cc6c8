"""Tensors of a checkpoint file: safetensors, or what ``torch.save`` wrote, without running code of it."""

import argparse
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mqbench.errors import RequestError

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
# where training scripts keep the weights; averaged ones are what they evaluate, so these come first
_NESTS = (
    "state_dict_ema", "model_ema", "ema_state_dict", "ema", "state_dict", "model_state_dict", "model", "network",
    "net", "weights", "params", "module",
)  # fmt: skip


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The named tensors of a checkpoint, on the CPU, in the order of the file.

    What training scripts put around them is taken off: a dictionary of a known name (``state_dict``,
    ``model``, averaged weights before others) that holds them, and other entries beside them.

    Raises:
        RequestError: not a checkpoint, damaged, or one that holds Python objects instead of tensors.
    """
    if path.suffix not in SUFFIXES:
        raise RequestError(
            f"{path} must be a checkpoint ({', '.join(SUFFIXES)}), got {path.suffix or 'no suffix'}"
        )
    held = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    tensors = _unwrapped(held)
    if not tensors:
        names = ", ".join(map(repr, list(held)[:5])) if isinstance(held, Mapping) else ""
        got = f"entries {names}" if names else f"a {type(held).__name__}"
        raise RequestError(f"{path} holds no named tensors, but {got}; save model.state_dict()")
    return tensors


def _safetensors(path: Path) -> Mapping[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise RequestError(f"{path} is no readable safetensors file: {error}") from error


def _pickled(path: Path) -> Any:
    try:
        # scripts keep their arguments beside the weights: a Namespace is data, like a dictionary
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of old pickles and sparse tensors, which are refused in a sentence
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make the reader raise whatever they look like
        raise RequestError(f"{path} {_why(error)}") from error


def _why(error: Exception) -> str:
    said = str(error)
    code = re.search(r"GLOBAL ([\w.]+)", said) if isinstance(error, pickle.UnpicklingError) else None
    if code or "TorchScript" in said:
        what = f"Python objects ({code[1]})" if code else "a TorchScript program"
        return f"holds {what}, and only tensors are read from a file; save model.state_dict() instead"
    if said.startswith("Weights only load failed"):  # followed by torch's advice, which is to trust the file
        return "is damaged or no checkpoint of torch.save; save model.state_dict() with it"
    first = said.strip().partition("\n")[0][:120] or "it ends too early"
    return f"is damaged or no checkpoint of torch.save ({type(error).__name__}: {first})"


def _unwrapped(held: Any) -> dict[str, Tensor]:
    while isinstance(held, Mapping):
        inner = next((held[n] for n in _NESTS if isinstance(held.get(n), Mapping) and held[n]), None)
        if inner is None:
            return {str(name): value for name, value in held.items() if isinstance(value, Tensor)}
        held = inner
    return {}
