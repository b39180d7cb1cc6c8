"""Setting quantizer parameters from data, and batch-norm statistics from the quantized network."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from mqbench import observers as observer_catalog
from mqbench.errors import CalibrationError, RequestError
from mqbench.folding._base import BatchNormTensors, StatisticsAverage
from mqbench.layers import BATCH_NORMS, QuantizedLayer
from mqbench.overwriting import overwriting
from mqbench.preparation import quantizers
from mqbench.quantizer import FakeQuantize

Batch = Tensor | Sequence[Tensor]


@torch.no_grad()
def calibrate(
    model: nn.Module, batches: Iterable[Batch], *, weights: str | None = None, activations: str | None = None
) -> None:
    """Set the parameters of every quantizer from data that the float network sees.

    Args:
        model: from `prepare`.
        batches: input tensors, or sequences whose first item is one (labels are ignored).
        weights, activations: observer names; None is the algorithm's own initialisation. A quantizer whose
            range follows a rule of its own (``uses_observer`` is False: DoReFa, the weights of PACT and DSQ)
            keeps to the rule.

    Raises:
        UnknownNameError: no such observer.
        RequestError: a batch of another shape or type than the network takes.
        CalibrationError: no batch, or data that is not finite; the message names the quantizer.
    """
    check_calibration(model, batches, weights, activations)
    assert isinstance(model, fx.GraphModule)
    named = list(quantizers(model))
    of_weights = [(n, fq) for n, fq in named if fq.role == "weight"]
    of_activations = [(n, fq) for n, fq in named if fq.role == "activation"]
    with evaluating(model), overwriting(model):
        try:
            _begin(of_weights, weights)
            _begin(of_activations, activations)
            seen = 0
            for batch in batches:
                computed(model, batch)
                if seen == 0:  # the weights do not change between batches
                    _pause(of_weights)
                seen += 1
            if seen == 0:
                raise CalibrationError("calibration needs at least one batch, got none")
            _end(of_weights)
            _end(of_activations)
        except BaseException:
            for _, fq in named:
                fq.cancel_calibration()
            raise


@torch.no_grad()
def calibrate_bn(model: nn.Module, batches: Iterable[Batch], *, weights: str | None = None) -> None:
    """Recompute the batch-norm statistics of the quantized network (paper appendix C.3, SPEC section 8).

    Quantizer parameters stay as they are, every batch norm normalises with its batch, and the running
    mean and variance become the batch-size-weighted averages of the batches' means and biased variances.
    Folded layers take their statistics before the batch norm as strategy 4 does; since their folded
    weights change with the statistics, their weight quantizers are calibrated again.

    Args:
        model: from `prepare`, calibrated.
        batches: as for `calibrate`; the paper uses 4096 training images.
        weights: observer for the folded weights; None is the one they were calibrated with.

    Raises:
        RequestError: as for `calibrate`.
        CalibrationError: no batch, an empty one, or data that is not finite; nothing is changed then.
    """
    check_calibration(model, batches, weights)
    with evaluating(model), _collecting(model) as averages:
        first = None
        for batch in batches:
            computed(model, batch)
            first = batch if first is None else first
        if first is None:
            raise CalibrationError("batch-norm calibration needs at least one batch, got none")
    for average in averages:
        average.check()
    for average in averages:
        average.store()
    _recalibrate_folded(model, first, weights)


@contextmanager
def _collecting(model: nn.Module) -> Iterator[list[StatisticsAverage]]:
    """Inside, every batch norm, folded or not, normalises with its batch and averages the statistics."""
    averages: list[StatisticsAverage] = []
    handles, layers = [], []
    try:
        for module in model.modules():
            if isinstance(module, BATCH_NORMS) and module.running_mean is not None:
                averages.append(StatisticsAverage())
                handles.append(module.register_forward_hook(_normalising(averages[-1])))
            elif isinstance(module, QuantizedLayer) and module.folding is not None:
                averages.append(StatisticsAverage())
                module.statistics = averages[-1]
                layers.append(module)
        yield averages
    finally:
        for handle in handles:
            handle.remove()
        for layer in layers:
            layer.statistics = None


def _normalising(average: StatisticsAverage) -> Callable[..., Tensor]:
    """A forward hook that replaces a batch norm's output by that of its batch statistics."""

    def hook(norm: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        tensors = BatchNormTensors(
            norm.weight, norm.bias, norm.running_mean, norm.running_var, eps=norm.eps, momentum=0.0
        )
        return average.normalise(inputs[0], tensors)

    return hook


def _recalibrate_folded(model: nn.Module, batch: Batch, observer: str | None) -> None:
    """Observe the folded weights once more; activation quantizers stay as they are."""
    folded = [
        (name, module.weight_quantizer)
        for name, module in model.named_modules()
        if isinstance(module, QuantizedLayer) and module.folding is not None
    ]
    if not folded:
        return
    with evaluating(model):
        for name, fq in folded:
            fq.begin_calibration(observer or fq.calibrated_with, name)
        computed(model, batch)
        _end(folded)


def _begin(named: list[tuple[str, FakeQuantize]], observer: str | None) -> None:
    for name, fq in named:
        fq.begin_calibration(observer, name)


def _pause(named: list[tuple[str, FakeQuantize]]) -> None:
    for _, fq in named:
        fq.pause_calibration()


def _end(named: list[tuple[str, FakeQuantize]]) -> None:
    for _, fq in named:
        fq.end_calibration()


def check_calibration(model: nn.Module, batches: Iterable[Batch], *observers: str | None) -> None:
    """Refuse what would fail late, or do nothing at all."""
    for name in observers:
        if name is not None:
            observer_catalog.check(name)
    if not isinstance(model, fx.GraphModule) or not any(True for _ in quantizers(model)):
        raise RequestError(f"calibration takes a network from mqbench.prepare, got {type(model).__name__}")
    if isinstance(batches, Tensor):
        raise RequestError(
            "batches must be a sequence of batches, got one tensor; use [x] for a single batch"
        )
    if not isinstance(batches, Iterable):
        raise RequestError(f"batches must be a sequence of batches, got {type(batches).__name__}")


def computed(model: nn.Module, batch: Batch) -> Any:
    """The outputs of the network on a batch.

    Raises:
        RequestError: a batch that is none, or that the network cannot compute.
    """
    inputs = inputs_of(model, batch)
    assert isinstance(model, fx.GraphModule)
    examples = [node.meta.get("val") for node in model.graph.find_nodes(op="placeholder")]
    for x, example in zip(inputs, examples, strict=True):
        if isinstance(example, Tensor) and x.dim() != example.dim():  # an image alone would pass for a batch
            raise _not_computed(inputs, examples, f"it must have {example.dim()} dimensions, not {x.dim()}")
    try:
        # past GraphModule's own call, which prints a line of generated code before it raises
        return nn.Module.__call__(model, *inputs)
    except RuntimeError as error:
        raise _not_computed(inputs, examples, str(error).strip().partition("\n")[0]) from error


def _not_computed(inputs: list[Tensor], examples: list[Any], why: str) -> RequestError:
    known = [f"(N{''.join(f', {n}' for n in x.shape[1:])})" for x in examples if isinstance(x, Tensor)]
    wanted = f"was prepared for {', '.join(known)} and " if len(known) == len(inputs) else ""
    got = ", ".join(f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}" for x in inputs)
    return RequestError(f"the network {wanted}cannot compute a batch of {got}: {why}")


def inputs_of(model: nn.Module, batch: Batch) -> list[Tensor]:
    """The inputs of the network, on its device; what else is in a batch (labels) is left out."""
    assert isinstance(model, fx.GraphModule)
    wanted = len(model.graph.find_nodes(op="placeholder"))
    found = [batch] if isinstance(batch, Tensor) else batch
    tensors = isinstance(found, Sequence) and all(isinstance(x, Tensor) for x in found[:wanted])
    if not tensors or len(found) < wanted:
        got = f"{len(found)} tensors" if tensors else type(batch).__name__
        raise RequestError(
            f"a batch must be a tensor or a sequence that starts with {wanted} inputs, got {got}"
        )
    parameter = next(model.parameters())
    for x in found[:wanted]:
        if (
            x.is_floating_point()
            and x.dtype is not parameter.dtype
            and not torch.is_autocast_enabled(x.device.type)
        ):
            raise RequestError(f"a batch must be of the network's type, {parameter.dtype}, got {x.dtype}")
    return [x.to(parameter.device) for x in found[:wanted]]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; every module gets its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
