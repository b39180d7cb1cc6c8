"""From the name of weights to a float network that has them."""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from mqbench.architectures._base import Architecture
from mqbench.errors import RequestError
from mqbench.weights._file import read_tensors
from mqbench.weights._match import Report, by_name, in_order
from mqbench.weights._package import package_file

ORDERED, HUB = "ordered:", "timm"


@dataclass(frozen=True)
class FloatNetwork:
    """A float network with given weights.

    Args:
        model: in eval mode.
        report: how file and network went together.
        fingerprint: SHA-256 of all tensors of the network, in hexadecimal digits.
    """

    model: nn.Module
    report: Report
    fingerprint: str


def load_float_network(architecture: Architecture, weights: str, classes: int, channels: int) -> FloatNetwork:
    """Build an architecture and give it weights, all of them or none.

    Every tensor of the network must be in the file with its shape, and every tensor of the file in the
    network. Two kinds may be left over: counters of batch norms (``num_batches_tracked``), which nothing
    reads, and auxiliary heads that only training has (``architecture.training_only``). A classifier
    for another number of classes is refused like any other tensor that does not fit: left as it was
    initialised it would classify at chance, and so would every network that is quantized from it.

    Args:
        architecture: what to build.
        weights: a setting's ``weights``: ``timm``, ``file:PATH`` or ``package:NAME``, perhaps with
            ``ordered:`` before it.
        classes, channels: of the data.

    Raises:
        RequestError: no such weights, a file that cannot be read, or weights that do not fit; one sentence.
    """
    match = in_order if weights.startswith(ORDERED) else by_name
    source = weights.removeprefix(ORDERED)
    path = _path(architecture, weights)
    if path is None:
        tensors, origin = _hub_tensors(str(architecture.timm_model)), f"{HUB}:{architecture.timm_model}"
    else:
        tensors, origin = read_tensors(path), source
    model = architecture.build(classes, channels).eval()
    state, report = match(tensors, model.state_dict(), origin, architecture.training_only)
    for name, value in state.items():
        if not bool(value.isfinite().all()):
            raise RequestError(f"{origin}: {name} holds NaN or infinity; these weights compute nothing")
    model.load_state_dict(state, strict=False)  # matched already; only counters can be missing
    return FloatNetwork(model, report, fingerprint(model.state_dict()))


def check_weights(architecture: Architecture, weights: str) -> None:
    """Refuse weights that cannot be there, before any compute and without reading them.

    Raises:
        RequestError: no such file or package, or a hub that has none for this architecture.
    """
    _path(architecture, weights)


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over name, type, shape and bytes of every tensor, in the order of the names."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _path(architecture: Architecture, weights: str) -> Path | None:
    """The file of weights, None for the hub."""
    kind, _, name = weights.removeprefix(ORDERED).partition(":")
    if kind == "file":
        path = Path(name).expanduser()
        if not path.is_file():
            raise RequestError(f"weights {weights!r}: there is no file {path}")
        return path
    if kind == "package":
        return package_file(name)
    if weights != HUB:
        raise RequestError(f"weights must be timm, file:PATH or package:NAME, got {weights!r}")
    if architecture.timm_model is None:
        raise RequestError("weights 'timm' are for models of timm; give file:PATH for this architecture")
    config = import_module("timm.models").get_pretrained_cfg(architecture.timm_model)
    if config is None or not config.has_weights:
        raise RequestError(f"timm has no weights of {architecture.timm_model}; give file:PATH")
    return None


def _hub_tensors(model: str) -> dict[str, Tensor]:
    """Weights of timm's hub, from its cache or the network, for the classes that they were trained for."""
    with _without_retry_messages():
        try:
            network: nn.Module = import_module("timm").create_model(model, pretrained=True)
        except Exception as error:  # no network, no access, a full disk: each library has its own
            said = " ".join(str(error).split())[:200]
            raise RequestError(
                f"cannot get the weights of timm/{model} from the hub ({type(error).__name__}: {said}); "
                "give file:PATH to a checkpoint that you have"
            ) from error
    return dict(network.state_dict())


@contextmanager
def _without_retry_messages() -> Iterator[None]:
    """The hub's client logs each of its attempts; the error says what matters."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
