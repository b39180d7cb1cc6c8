"""Bias correction: taking out the mean error that quantization leaves in a channel (Nagel et al., 2019, section 4.2).

Rounding a channel's few weights (nine of a depthwise one) shifts the mean of its output, by E[y~] - E[y], and a
shift adds up over layers where noise does not. Both means are measured on the same images, the second with the
quantizers off, so what they differ by owes nothing to which images were drawn; batch-norm calibration, which puts
the drawn images' own statistics in place of the training's, needs thousands of them. Layers are corrected in one
pass: each one sees what corrected layers before it give.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils.hooks import RemovableHandle

from mqbench.calibration import Batch, check_calibration, computed, evaluating
from mqbench.errors import CalibrationError
from mqbench.folding._base import BatchNormTensors, along_output
from mqbench.layers import BATCH_NORMS, QuantizedLayer
from mqbench.preparation import quantization_off

_DONE = "bias_corrected"


@torch.no_grad()
def correct_bias(model: fx.GraphModule, batches: Iterable[Batch]) -> None:
    """Give every channel of a calibrated network the mean that it has in the float network.

    What changes is the running mean of batch norms, folded or not, and the bias of layers without one, so the
    deployed network differs in its biases alone. A layer with neither stays as it is. Once only, and not after
    batch-norm calibration: with the quantizers off the network then computes with the corrected means, so they
    would be corrected by the same amount again.

    Args:
        model: from `prepare`, calibrated.
        batches: as for `mqbench.calibrate`; a hundred images will do.

    Raises:
        CalibrationError: no batch, an empty one, data that is not finite, or a network that is not calibrated, or
            corrected already; nothing is changed then.

    >>> net = torch.nn.Linear(8, 2)
    >>> q = mqbench.prepare(net, x, backend="snpe", algorithm="ptq", bits=3)
    >>> mqbench.calibrate(q, [x])
    >>> mqbench.correct_bias(q, [x])
    >>> bool(torch.allclose(q(x).mean(0), net(x).mean(0), atol=1e-5))
    True
    """
    check_calibration(model, batches)
    if model.meta.get(_DONE):
        raise CalibrationError("the biases of this network are corrected already; prepare it anew")
    seen = 0
    with evaluating(model), _comparing(model) as shifts:
        for batch in batches:
            for shift in shifts:
                shift.begin()
            with quantization_off(model):
                computed(model, batch)
            for shift in shifts:
                shift.compare()
            computed(model, batch)
            seen += 1
    if seen == 0:
        raise CalibrationError("bias correction needs at least one batch, got none")
    found = [(shift, mean) for shift in shifts if (mean := shift.mean()) is not None]
    for shift, mean in found:
        shift.subtract(mean)
    model.meta[_DONE] = True


@dataclass
class _Shift:
    """The mean of one layer's channels, quantized less float, over images.

    Args:
        target: ``[channels]`` what is added to the output (``sign`` 1) or taken from it (-1).
        sign: of the target in the output.
    """

    target: Tensor
    sign: int
    _float: deque[Tensor] = field(default_factory=deque)
    _comparing: bool = False
    _total: Tensor | None = None
    _images: int = 0

    def begin(self) -> None:
        self._comparing = False
        self._float.clear()

    def compare(self) -> None:
        self._comparing = True

    def corrected(self, output: Tensor, axis: int) -> Tensor:
        """The output without the shift of this batch."""
        if output.shape[0] == 0:
            raise CalibrationError("an empty batch has no mean")
        mean = output.mean([i for i in range(output.dim()) if i != axis % output.dim()])
        if not self._comparing:
            self._float.append(mean)
            return output
        shift = mean - self._float.popleft()  # a layer that is called twice is compared call by call
        total = shift.double() * output.shape[0]
        self._total = total if self._total is None else self._total + total
        self._images += output.shape[0]
        return output - (along_output(shift, output) if axis == 1 else shift)

    def normalise(self, output: Tensor, bn: BatchNormTensors) -> Tensor:
        """The batch norm of a folded layer's output, which `QuantizedLayer` asks for."""
        self.target = bn.mean
        return bn.normalise(self.corrected(output, 1), bn.mean, bn.variance)

    def mean(self) -> Tensor | None:
        """The shift over all batches; None if the layer was not called."""
        if self._total is None:
            return None
        if not bool(self._total.isfinite().all()):
            raise CalibrationError("bias correction needs finite data, got NaN or infinity")
        return self._total / self._images

    def subtract(self, mean: Tensor) -> None:
        self.target.sub_(self.sign * mean)


@contextmanager
def _comparing(model: nn.Module) -> Iterator[list[_Shift]]:
    """Inside, every layer that has a mean or a bias to correct compares its outputs."""
    shifts: list[_Shift] = []
    handles: list[RemovableHandle] = []
    folded: list[QuantizedLayer] = []
    try:
        for module in model.modules():
            if isinstance(module, QuantizedLayer) and module.folding is not None:
                shifts.append(_Shift(torch.empty(0), -1))
                module.statistics = shifts[-1]
                folded.append(module)
            elif isinstance(module, QuantizedLayer) and module.bias is not None:
                shifts.append(_Shift(module.bias, 1))
                axis = -1 if module.weight.dim() == 2 else 1
                handles.append(module.register_forward_hook(_of_output(shifts[-1], axis)))
            elif isinstance(module, BATCH_NORMS) and module.running_mean is not None:
                shifts.append(_Shift(module.running_mean, -1))
                handles.append(module.register_forward_pre_hook(_of_input(shifts[-1])))
        yield shifts
    finally:
        for handle in handles:
            handle.remove()
        for layer in folded:
            layer.statistics = None


def _of_output(shift: _Shift, axis: int) -> Any:
    def hook(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return shift.corrected(output, axis)

    return hook


def _of_input(shift: _Shift) -> Any:
    def hook(norm: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (shift.corrected(inputs[0], 1), *inputs[1:])

    return hook
