"""The lowered network: an ordered list of integer and float operations over named tensors.

A `Program` is what `mqbench.deploy.lowering.lower` makes of a converted network, and the one thing that the
integer network, the exporters and the engines read: weights, scales and bounds are taken from it and never
computed again. Each operation gives one tensor, which has the operation's name. A tensor with a `Grid` holds
integers of that grid, one without holds float32.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mqbench.deploy.grid import Grid as Grid
from mqbench.deploy.grid import Weight as Weight

Pads = tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class Value:
    """One tensor: its name, its grid (None: float32) and its shape (None: the batch)."""

    name: str
    grid: Grid | None
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Ref:
    """In the arguments of an operation: the tensor or constant of this name."""

    name: str


@dataclass(frozen=True)
class Batch:
    """In the arguments of an operation: the size of the batch."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Operation:
    """One step; the tensor that it gives has its name.

    Args:
        name: of the layer as in the model, or of the node.
        inputs: names of the tensors it reads, in order (constants are not among them).
    """

    name: str
    inputs: tuple[str, ...]

    @property
    def kind(self) -> str:
        """What it is, in one word."""
        return type(self).__name__.lower()


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantize(Operation):
    """Float to integers of the tensor's own grid, by Eq. 1 (a true division by the scale)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dequantize(Operation):
    """Integers to float32."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer(Operation):
    """Convolution or linear layer on integers, with the clip behind it folded in.

    If the tensor it gives has a grid the accumulator is requantized to it and clipped; if not, it gives
    the accumulator's real value (a float island begins).

    Args:
        function: ``conv1d``, ``conv2d``, ``conv3d`` or ``linear``.
        weight: as deployed.
        bias: float32 ``[channels]``, or None.
        stride, dilation: one number a spatial axis (empty for linear).
        padding: (before, after) of each spatial axis, with real zero; zero padding in front is merged in.
        groups: of the convolution.
        clip: smallest and largest integer that comes out (ReLU, ReLU6 and the grid's range), None for float.
        bounds: the same as real numbers, as the model has them: (0, 6) for ReLU6.
    """

    function: str
    weight: Weight
    bias: Tensor | None
    stride: tuple[int, ...] = ()
    padding: Pads = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    clip: tuple[int, int] | None = None
    bounds: tuple[float, float] = (float("-inf"), float("inf"))

    @property
    def kind(self) -> str:
        """The function, and `depthwise` where each group has one input channel."""
        depthwise = self.groups > 1 and self.weight.integers.shape[1] == 1
        return f"depthwise {self.function}" if depthwise else self.function


@dataclass(frozen=True, kw_only=True, eq=False)
class Combination(Operation):
    """Base of operations of integer tensors that requantize: clip and bounds as in `Layer`."""

    clip: tuple[int, int]
    bounds: tuple[float, float] = (float("-inf"), float("inf"))


@dataclass(frozen=True, kw_only=True, eq=False)
class Add(Combination):
    """Sum of two integer tensors (``sign`` -1: difference), broadcasting."""

    sign: int = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Multiply(Combination):
    """Product of two integer tensors, broadcasting (squeeze-and-excite)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MatMul(Combination):
    """Matrix product of two integer tensors."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GlobalPool(Combination):
    """Mean over all spatial axes (2 and up); ``keepdims`` keeps them with size 1."""

    keepdims: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool(Combination):
    """Average over windows; numbers a spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    ceil_mode: bool = False
    count_include_pad: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Concat(Operation):
    """Integer tensors of one grid joined along ``axis``."""

    axis: int = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Move(Operation):
    """Integers moved, copied or picked, never mixed: maximum pooling, reshape, padding with real zero...

    Args:
        target: the aten overload, as ``aten.max_pool2d.default``.
        args, kwargs: its arguments, with `Ref` and `Batch` in place of tensors and batch sizes.
    """

    target: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Float(Operation):
    """An operation on float32 tensors: what the backend does not quantize. Arguments as in `Move`."""

    target: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The operation's name without namespace and overload."""
        return f"float {self.target.split('.')[1]}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Program:
    """A lowered network.

    Args:
        operations: in the order of computation.
        values: every tensor by name, inputs included.
        inputs: names of the input tensors (float32), in order.
        outputs: names of the output tensors (float32), in order.
        constants: float tensors that float operations refer to.
        description: backend, algorithm, bits, graph and so on, for sidecars and certificates.
    """

    operations: tuple[Operation, ...]
    values: Mapping[str, Value]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    description: Mapping[str, Any] = field(default_factory=dict)

    def grid(self, name: str) -> Grid | None:
        """The grid of a tensor, None if it is float."""
        return self.values[name].grid

    def integer_values(self) -> list[str]:
        """Names of the tensors that hold integers, in order."""
        return [op.name for op in self.operations if self.values[op.name].grid is not None]

    def readers(self) -> dict[str, list[Operation]]:
        """The operations that read each tensor."""
        found: dict[str, list[Operation]] = {name: [] for name in self.values}
        for operation in self.operations:
            for name in operation.inputs:
                found[name].append(operation)
        return found

    def layers(self) -> Iterator[Layer]:
        """The quantized layers."""
        return (op for op in self.operations if isinstance(op, Layer))
