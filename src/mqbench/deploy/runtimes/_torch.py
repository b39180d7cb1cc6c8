"""Sessions of PyTorch's own quantized x86 kernels, and their one known fault."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mqbench.deploy.program import Dequantize, Layer, Move, Operation, Program, Quantize
from mqbench.deploy.quantized_network import QuantizedNetwork
from mqbench.deploy.runtimes._base import Fault, Node, Session
from mqbench.deploy.torch_form import torch_form
from mqbench.errors import IncompatibleError, RequestError
from mqbench.processes import threads

_INT16_MAX = 2**15 - 1
_FBGEMM_BLOCK, _FBGEMM_KERNELS = 8, (3, 5, 7)


class TorchSession(Session):
    """A program in `QuantizedNetwork`; stored integers are given back on the program's grids."""

    def __init__(self, program: Program, engine: str, threads: int, watch: Sequence[str]) -> None:
        form = torch_form(program)
        if engine not in torch.backends.quantized.supported_engines:
            raise RequestError(
                f"this build of torch has no quantized engine {engine!r}; it has "
                f"{', '.join(torch.backends.quantized.supported_engines)}"
            )
        self.program, self.threads = program, threads
        self.offsets = form.offsets
        self.wanted = tuple(dict.fromkeys((*program.outputs, *watch)))
        self.network = QuantizedNetwork(form.operations, form.tensors, form.inputs, form.outputs, engine)

    def run(self, *inputs: Tensor) -> dict[str, Tensor]:
        """One batch."""
        with threads(self.threads):
            images = [x.detach().cpu().float() for x in inputs]
            values = self.network.run(images, keep=set(self.wanted) != set(self.program.outputs))
        return {name: self._integers(name, values[name]) for name in self.wanted}

    def _integers(self, name: str, value: Tensor) -> Tensor:
        if not value.is_quantized:
            return value
        return value.int_repr().to(torch.int32) - self.offsets[name]

    def nodes(self) -> list[Node]:
        """The kernels that one pass over a batch of zeros calls."""
        shapes = [self.program.values[name].shape for name in self.program.inputs]
        inputs = [torch.zeros([size or 1 for size in shape]) for shape in shapes]
        with _Calls() as calls:
            self.network.run(inputs, keep=True, before=calls.begin)
        return [
            _node(operation, calls.found.get(operation.name, [])) for operation in self.program.operations
        ]


class _Calls(TorchFunctionMode):
    """Notes which functions of torch each operation calls."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[str]] = {}
        self.now = ""

    def begin(self, operation: str) -> None:
        self.now = operation

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found.setdefault(self.now, []).append(_called(function))
        return function(*args, **(kwargs or {}))


def _called(function: Any) -> str:
    name = str(function)  # "quantized.conv2d_relu" of an operator, else a builtin
    return (
        name if name.startswith(("quantized.", "onednn.", "aten.")) else getattr(function, "__name__", name)
    )


def _node(operation: Operation, called: list[str]) -> Node:
    kernels = [name for name in called if name.startswith(("quantized.", "onednn."))]
    kernel = next((name for name in kernels if name != "quantized.clamp"), "")
    moved = [name for name in called if name.startswith("aten.")]
    precision: Any = "integer" if kernel else "float"
    if isinstance(operation, (Quantize, Dequantize)):
        precision = "convert"
    elif isinstance(operation, Move) and "dequantize" not in called:
        precision = "move"
    kind = kernel or next(iter(moved or called), "none")
    return Node(name=operation.name, kind=kind, precision=precision, operations=(operation.name,))


def opener(engine: str, *, symmetric_weights: bool = False) -> Any:
    """The `open` of a runtime.

    Args:
        engine: of ``torch.backends.quantized``.
        symmetric_weights: it takes no others.
    """

    def open_(
        program: Program, _: Path | None, threads: int, watch: Sequence[str], __: Mapping[str, Any]
    ) -> TorchSession:
        for layer in program.layers():
            if symmetric_weights and not _is_symmetric(layer):
                raise IncompatibleError(
                    f"torch's {engine} engine takes symmetric weights (zero point 0), {layer.name} has others; use "
                    "torch_fbgemm or torch_x86"
                )
            by_onednn = layer.function == "conv2d" and engine != "fbgemm" and _is_symmetric(layer)
            island = layer.function != "linear" and program.grid(layer.name) is None and not by_onednn
            # single islands and the last layer run in float, and `nodes` says so; whole graphs of them do not
            if island and program.description.get("graph") in (1, 2):
                raise IncompatibleError(
                    f"torch's {engine} engine gives integers only, but graph {program.description['graph']} leaves "
                    f"the output of {layer.name} in float; prepare with graph=3, or with symmetric weights for "
                    "torch_onednn"
                )
        return TorchSession(program, engine, threads, watch)

    return open_


def saturating(program: Program, layers_of: Any) -> list[str]:
    """Layers in which two products of 8 bits can leave int16 (FBGEMM adds pairs with ``vpmaddubsw``)."""
    found = []
    for layer in program.layers():
        grid = program.grid(layer.inputs[0])
        if grid is None or not layers_of(layer):
            continue
        weight = layer.weight.integers.to(torch.int32)
        if not layer.weight.scheme.signed:
            weight = weight - 2 ** (layer.weight.scheme.bits - 1)
        two = weight.abs().flatten(1).topk(min(2, layer.weight.terms), dim=1).values.sum(1)
        if int(two.max()) * (grid.quant_max - grid.quant_min) > _INT16_MAX:
            found.append(layer.name)
    return found


def takes_depthwise_kernel(layer: Layer) -> bool:
    """Whether FBGEMM has a depthwise kernel for a layer: one channel a group, a multiple of 8 of them, as below."""
    shape = tuple(layer.weight.integers.shape)
    kernel = shape[2:]
    depthwise = layer.function in ("conv2d", "conv3d") and shape[1] == 1 and layer.groups == shape[0]
    return (
        depthwise
        and layer.groups % _FBGEMM_BLOCK == 0
        and len(set(kernel)) == 1
        and kernel[0] in _FBGEMM_KERNELS
        and all(stride in (1, 2) for stride in layer.stride)
        and all(dilation == 1 for dilation in layer.dilation)
        and all(pads == (size // 2, size // 2) for pads, size in zip(layer.padding, kernel, strict=True))
    )


def takes_depthwise_kernel_in_x86(layer: Layer) -> bool:
    """The x86 engine hands symmetric weights of up to 100 groups to oneDNN, the rest to FBGEMM."""
    return takes_depthwise_kernel(layer) and not (_is_symmetric(layer) and layer.groups <= 100)


def _is_symmetric(layer: Layer) -> bool:
    return not bool((layer.weight.zero_point != 0).any())


def saturation(layers_of: Any) -> Fault:
    """FBGEMM's saturating depthwise kernels, for the layers that ``layers_of`` accepts."""
    return Fault(
        name="saturating depthwise kernels",
        about=(
            "FBGEMM adds two 8-bit products in a 16-bit register that saturates at 32767, in depthwise convolutions of "
            "3x3, 5x5 or 7x7 whose channels are a multiple of 8; large weights times large activations are cut"
        ),
        cure="7-bit weights in these layers (mqbench.cure, --cure), or 7-bit activations",
        concerns=lambda program: saturating(program, layers_of),
        reduce_weights_to=7,
    )
