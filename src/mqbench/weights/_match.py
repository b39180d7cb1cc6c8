"""Which tensor of a checkpoint goes where in a network: by name, or by order and shape."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mqbench.errors import RequestError

State = Mapping[str, Tensor]
_COUNTER = "num_batches_tracked"
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Report:
    """How a checkpoint and a network went together.

    Args:
        source: where the tensors came from.
        ordered: matched by order and shape, else by name.
        tensors: that were loaded.
        prefix: of the file's names, taken off.
        left_over: names of the file that the network has no use for.
    """

    source: str
    ordered: bool
    tensors: int
    prefix: str = ""
    left_over: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.tensors} tensors from {self.source}, by {'order' if self.ordered else 'name'}"]
        if self.prefix:
            parts.append(f"prefix {self.prefix!r} taken off")
        if self.left_over:
            parts.append(f"left over: {_some(self.left_over)}")
        return "; ".join(parts)


def by_name(
    tensors: State, network: State, source: str, training_only: tuple[str, ...]
) -> tuple[dict[str, Tensor], Report]:
    """The network's state from tensors of the same names.

    A prefix that wrappers put before every name (``module.``) is taken off if no name fits with it.

    Raises:
        RequestError: tensors are missing, left over or of another shape or type; the message names them.
    """
    named, prefix = _without_prefix(tensors, network)
    extra = [name for name in named if name not in network]
    allowed = [name for name in extra if name.startswith(training_only) or _is_counter(name)]
    unexpected = [name for name in extra if name not in allowed]
    missing = [name for name in network if name not in named and not _is_counter(name)]
    wrong = {
        name: (named[name], value)
        for name, value in network.items()
        if name in named and named[name].shape != value.shape
    }
    if unexpected or missing or wrong:
        raise RequestError(f"{source} does not fit the network: {_mismatch(missing, unexpected, wrong)}")
    state = {name: named[name] for name in network if name in named}
    _check_types(state, network, source)
    return state, Report(
        source=source, ordered=False, tensors=len(state), prefix=prefix, left_over=tuple(allowed)
    )


def in_order(
    tensors: State, network: State, source: str, training_only: tuple[str, ...]
) -> tuple[dict[str, Tensor], Report]:
    """The network's state from tensors of the same shapes in the same order, whatever their names.

    The last part of the names (``weight``, ``running_var``) must agree too: within a batch norm all shapes
    are the same.

    Raises:
        RequestError: another number of tensors, or the first place where shape, kind or type differ.
    """
    given = [(name, value) for name, value in tensors.items() if not _is_counter(name)]
    wanted = [(name, value) for name, value in network.items() if not _is_counter(name)]
    for place, ((theirs, a), (ours, b)) in enumerate(zip(given, wanted, strict=False)):
        if a.shape != b.shape or theirs.rpartition(".")[2] != ours.rpartition(".")[2]:
            raise RequestError(
                f"{source} has another order than the network: its tensor {place + 1}, {theirs} "
                f"{tuple(a.shape)}, stands where the network has {ours} {tuple(b.shape)}"
                f"{_other_classes([(a, b)] if place >= len(wanted) - 2 else [])}"
            )
    if len(given) != len(wanted):
        raise RequestError(f"{source} has {len(given)} tensors, the network {len(wanted)}")
    state = {ours: value for (_, value), (ours, _) in zip(given, wanted, strict=True)}
    _check_types(state, network, source)
    return state, Report(source=source, ordered=True, tensors=len(state))


def _check_types(state: State, network: State, source: str) -> None:
    """Refuse numbers that would become others in the network: integers, complex and quantized ones, sparse tensors."""
    for name, value in state.items():
        dense = value.layout is torch.strided and not value.is_quantized
        if not dense or value.is_floating_point() != network[name].is_floating_point():
            got = str(value.dtype if dense or value.is_quantized else value.layout).removeprefix("torch.")
            wanted = str(network[name].dtype).removeprefix("torch.")
            raise RequestError(
                f"{source} does not fit the network: {name} is {got}, the network has {wanted}"
            )


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] in (_COUNTER, "n_averaged")


def _without_prefix(tensors: State, network: State) -> tuple[dict[str, Tensor], str]:
    """Names without what stands before each of them up to a dot, as often as that helps."""
    named, prefix = dict(tensors), ""
    while not any(name in network for name in named):
        firsts = {name.partition(".")[0] for name in named if not _is_counter(name)}
        if len(firsts) != 1 or not all("." in name for name in named if not _is_counter(name)):
            return dict(tensors), ""
        (first,) = firsts
        prefix += f"{first}."
        named = {name.removeprefix(f"{first}."): value for name, value in named.items()}
    return named, prefix


def _mismatch(missing: list[str], unexpected: list[str], wrong: Mapping[str, tuple[Tensor, Tensor]]) -> str:
    shapes = [f"{name} {tuple(a.shape)} for {tuple(b.shape)}" for name, (a, b) in wrong.items()]
    kinds = {"missing": missing, "not of the network": unexpected, "of another shape": shapes}
    parts = [f"{len(names)} {kind} ({_some(names)})" for kind, names in kinds.items() if names]
    if missing and unexpected and not wrong:
        parts[-1] += "; ordered: before the weights would match by order and shape instead of by name"
    alone = not missing and not unexpected and len(wrong) <= 2
    return ", ".join(parts) + _other_classes(list(wrong.values()) if alone else [])


def _other_classes(wrong: list[tuple[Tensor, Tensor]]) -> str:
    """What to say where nothing but the number of classes differs."""
    rows = {
        (len(a), len(b)) for a, b in wrong if a.dim() and a.dim() == b.dim() and a.shape[1:] == b.shape[1:]
    }
    if len(rows) != 1:
        return ""
    ((theirs, ours),) = rows
    return f"; its classifier is for {theirs} classes and the data has {ours}: an untrained one would be of no use"


def _some(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(every[:_SHOWN]) + (", ..." if len(every) > _SHOWN else "")
