"""Float model to graph: `torch.export`, then lifted back to modules under their original names."""

import copy
import io
import logging
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim
from torch.utils._pytree import tree_leaves

import mqbench
from mqbench.errors import CaptureError
from mqbench.functionalise import Functionalise, source_line
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
    with _slow_attention():
        return _capture(model, inputs)


def _capture(model: nn.Module, inputs: tuple[Tensor, ...]) -> fx.GraphModule:
    training = model.training
    source = _copy(model).eval()
    graph_module = _export(source, inputs)
    Functionalise(graph_module.graph).run()
    lift = Lift(graph_module, source)
    lift.run()
    graph_module.graph.eliminate_dead_code()
    # a fresh GraphModule: the exported one refuses train() and eval(), and its tracer cannot be pickled
    graph_module.graph._tracer_cls = None
    captured = fx.GraphModule(graph_module, graph_module.graph)
    keep_original_names(captured, lift.aliases)
    captured.eval()
    _check(source, captured, inputs)
    return captured.train(training)


def _copy(model: nn.Module) -> nn.Module:
    """A deep copy; tensors that a model keeps between calls (a cached bias, a normed weight) lose their history.

    Turned to training and back the copy also drops what it keeps for eval mode, as timm's attention does, so that
    the graph holds the parameter and not a constant.
    """
    kept = tree_leaves([vars(module) for module in model.modules()])
    made = [value for value in kept if isinstance(value, Tensor) and not value.is_leaf]
    return copy.deepcopy(model, {id(value): value.detach().clone() for value in made}).train()


def _batch_of_two(example_inputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else example_inputs
    inputs = tuple(inputs) if isinstance(inputs, Iterable) else (inputs,)
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
        with torch.no_grad(), _quiet_export():
            program = torch.export.export(model, inputs, dynamic_shapes=dynamic, strict=False)
    except Exception as error:
        _check_inputs(model, inputs)
        line = _model_line(error.__traceback__)
        reason = str(error).strip().partition("\n")[0]
        raise CaptureError(f"cannot capture {type(model).__name__}{line}: {reason}") from error
    graph_module: fx.GraphModule = program.module(check_guards=False)
    return graph_module


def _check_inputs(model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Refuse inputs that the model itself cannot take, in the words of its own error."""
    try:
        _outputs(model, inputs)
    except Exception as error:
        line = _model_line(error.__traceback__)
        given = ", ".join(f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}" for x in inputs)
        reason = str(error).strip().partition("\n")[0]
        raise CaptureError(
            f"{type(model).__name__} cannot compute the example inputs, {given}{line}: {reason}"
        ) from error


def _model_line(trace: TracebackType | None) -> str:
    """' at file:line: code' of the deepest frame that is the model's own, not torch's or ours."""
    ours = [str(Path(package.__file__ or "").parent) for package in (torch, mqbench)]
    for frame in reversed(traceback.extract_tb(trace)):
        own = not any(frame.filename.startswith(folder) for folder in ours)
        if own and frame.lineno and frame.line:  # generated code has no line to show
            return f" at {frame.filename}:{frame.lineno}: {frame.line}"
    return ""


def _check(model: nn.Module, captured: fx.GraphModule, inputs: tuple[Tensor, ...]) -> None:
    """Refuse a graph that computes something else, or only one batch size."""
    _check_equal(model, captured, inputs)
    single = tuple(x[:1] for x in inputs)
    try:
        _outputs(model, single)
    except Exception as error:
        raise _fixed_batch(model, _model_line(error.__traceback__), inputs) from error
    try:
        _outputs(captured, single)
    except Exception as error:
        raise _fixed_batch(model, _failing_line(captured, single), inputs) from error
    _check_equal(model, captured, single)


def _fixed_batch(model: nn.Module, line: str, inputs: tuple[Tensor, ...]) -> CaptureError:
    return CaptureError(
        f"cannot capture {type(model).__name__}{line}: its code fixes the batch size to "
        f"{inputs[0].shape[0]}; take sizes from the input (x.shape[0] or -1) instead"
    )


def _failing_line(captured: fx.GraphModule, inputs: tuple[Tensor, ...]) -> str:
    """Where in the model the node came from that fails on ``inputs``."""
    interpreter = _Follow(captured)
    with suppress(Exception), torch.no_grad():
        interpreter.run(*inputs)
    return source_line(interpreter.last)


class _Follow(fx.Interpreter):
    """Remembers the node that is being computed."""

    last: fx.Node

    def run_node(self, n: fx.Node) -> object:
        self.last = n
        return super().run_node(n)


def _outputs(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[Any]:
    with torch.no_grad():  # a model may write to its input
        return tree_leaves(model(*(x.clone() for x in inputs)))


def _same(a: Any, b: Any) -> bool:
    return not isinstance(a, Tensor) or torch.equal(a.nan_to_num(), b.nan_to_num())


def _check_equal(model: nn.Module, captured: fx.GraphModule, inputs: tuple[Tensor, ...]) -> None:
    want, got = _outputs(model, inputs), _outputs(captured, inputs)
    for a, b in zip(want, got, strict=True):
        if _same(a, b):
            continue
        name = type(model).__name__
        if not all(_same(*pair) for pair in zip(want, _outputs(model, inputs), strict=True)):
            raise CaptureError(
                f"cannot capture {name}: in eval mode it gives another output for the same input each time "
                "(F.dropout without training=self.training, or random numbers)"
            )
        worst = (a - b).abs().max().item() if a.shape == b.shape else float("inf")
        raise CaptureError(
            f"cannot capture {name}: its graph computes something else, off by up to {worst:.3g}"
        )


@contextmanager
def _quiet_export() -> Iterator[None]:
    """The exporter logs whole graphs before it raises; the error says what matters."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


@contextmanager
def _slow_attention() -> Iterator[None]:
    """Attention as it is trained: torch's fused eval kernel rounds differently."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
