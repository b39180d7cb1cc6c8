"""Float model to graph: `torch.export`, then lifted back to modules under their original names."""

import copy
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor, fx, nn
from torch.export import Dim

import mqbench
from mqbench.errors import CaptureError
from mqbench.functionalise import Functionalise
from mqbench.lifting import Lift, keep_original_names


def capture(model: nn.Module, example_inputs: Tensor | Sequence[Tensor]) -> fx.GraphModule:
    """Capture a float model as a graph whose layers are modules under their original names.

    Convolution, linear, batch-norm and dropout calls become modules again, so parameter names, ``train()``,
    and checkpoints work as before; everything else stays a function call, in-place operations turned
    into their functional form. The model is traced in eval mode with a dynamic batch and is not changed;
    the result has the training mode of the model.

    Args:
        model: any float model that `torch.export` takes.
        example_inputs: one tensor or several; dimension 0 is the batch.

    Raises:
        CaptureError: the model cannot be exported (control flow that depends on data, a batch size that
            is fixed in the code), naming the line of the model at fault; or the graph does not compute
            what the model computes.
    """
    inputs = _batch_of_two(example_inputs)
    training = model.training
    source = copy.deepcopy(model).eval()
    graph_module = _export(source, inputs)
    Functionalise(graph_module.graph).run()
    lift = Lift(graph_module, source)
    lift.run()
    graph_module.graph.eliminate_dead_code()
    # a fresh GraphModule: the exported one refuses train() and eval()
    captured = fx.GraphModule(graph_module, graph_module.graph)
    keep_original_names(captured, lift.aliases)
    captured.eval()
    _check(source, captured, inputs)
    return captured.train(training)


def _batch_of_two(example_inputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
    for x in inputs:
        if not isinstance(x, Tensor) or x.dim() == 0 or x.numel() == 0:
            got = f"a tensor of shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise CaptureError(f"example_inputs must be non-empty tensors with a batch dimension, got {got}")
    if not inputs:
        raise CaptureError("example_inputs must hold at least one tensor, got none")
    # a batch of one would be specialised by the exporter
    return tuple(torch.cat([x, x]) if x.shape[0] == 1 else x for x in inputs)


def _export(model: nn.Module, inputs: tuple[Tensor, ...]) -> fx.GraphModule:
    dynamic = tuple({0: Dim.AUTO} for _ in inputs)
    try:
        with torch.no_grad():
            program = torch.export.export(model, inputs, dynamic_shapes=dynamic, strict=False)
    except Exception as error:
        line = _model_line(error.__traceback__)
        reason = str(error).strip().partition("\n")[0]
        raise CaptureError(f"cannot capture {type(model).__name__}{line}: {reason}") from error
    graph_module: fx.GraphModule = program.module(check_guards=False)
    return graph_module


def _model_line(trace: TracebackType | None) -> str:
    """' at file:line: code' of the deepest frame that is the model's own, not torch's or ours."""
    ours = [str(Path(package.__file__ or "").parent) for package in (torch, mqbench)]
    for frame in reversed(traceback.extract_tb(trace)):
        if not any(frame.filename.startswith(folder) for folder in ours) and frame.lineno:
            return f" at {frame.filename}:{frame.lineno}: {frame.line}"
    return ""


def _check(model: nn.Module, captured: fx.GraphModule, inputs: tuple[Tensor, ...]) -> None:
    """Refuse a graph that computes something else, or only one batch size."""
    _check_equal(model, captured, inputs)
    single = tuple(x[:1] for x in inputs)
    try:
        with torch.no_grad():
            model(*(x.clone() for x in single))
    except Exception as error:
        raise CaptureError(
            f"cannot capture {type(model).__name__}{_model_line(error.__traceback__)}: its code fixes the "
            f"batch size to {inputs[0].shape[0]}; take sizes from the input (x.shape[0] or -1) instead"
        ) from error
    _check_equal(model, captured, single)


def _check_equal(model: nn.Module, captured: fx.GraphModule, inputs: tuple[Tensor, ...]) -> None:
    with torch.no_grad():
        want, got = (
            torch.utils._pytree.tree_leaves(m(*(x.clone() for x in inputs))) for m in (model, captured)
        )
    for a, b in zip(want, got, strict=True):
        if isinstance(a, Tensor) and not torch.equal(a.nan_to_num(), b.nan_to_num()):
            worst = (a - b).abs().max().item()
            raise CaptureError(f"the captured graph of {type(model).__name__} is off by up to {worst:.3g}")
