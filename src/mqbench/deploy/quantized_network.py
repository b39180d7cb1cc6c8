"""A deployed network as PyTorch's own quantized x86 kernels run it: needs torch and safetensors alone.

A copy of this file beside the artifact runs it where nothing else is installed:

    network = load("model.fbgemm.safetensors", engine="fbgemm")
    logits = network(images)

Activations are ``quint8``: the integers of a grid [quant_min, quant_max] are stored from 0 up. Weights are ``qint8``,
biases float. Nothing is unpickled: tensors come from safetensors, the list of operations from JSON in its header.
"""

import json
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FORMAT = "mqbench quantized network 2"
ENGINES = ("fbgemm", "onednn", "x86")
_LAYERS = ("conv1d", "conv2d", "conv3d", "linear")

# what torch moves without leaving quint8; any other move goes through float, which is exact but slower
_NATIVE_MOVES = {
    "max_pool2d", "reshape", "flatten", "permute", "transpose", "slice", "select", "squeeze", "unsqueeze",
    "clone", "constant_pad_nd", "expand", "repeat",
}  # fmt: skip


class QuantizedNetwork(nn.Module):
    """The operations of an artifact, with weights packed for one of torch's quantized engines.

    Args:
        operations: as in the artifact's header: ``kind``, ``name``, ``inputs`` and what the kind needs; ``grid`` of
            what holds integers (``scale``, ``zero_point``, ``low``, ``high``, as stored).
        tensors: weights (int8), their scales and zero points, biases and constants, by name.
        inputs: name to shape, None for the batch.
        outputs: names.
        engine: ``fbgemm``, ``onednn`` or ``x86``; chooses the kernels for the whole process while it packs and runs.
    """

    def __init__(
        self,
        operations: Sequence[Mapping[str, Any]],
        tensors: Mapping[str, Tensor],
        inputs: Mapping[str, Sequence[int | None]],
        outputs: Sequence[str],
        engine: str,
    ) -> None:
        super().__init__()
        if engine not in ENGINES or engine not in torch.backends.quantized.supported_engines:
            raise ValueError(f"no quantized engine {engine!r}; this torch has {_supported()}")
        self.operations, self.inputs, self.outputs = list(operations), dict(inputs), list(outputs)
        self.engine = engine
        self.tensors = dict(tensors)
        self.packed: dict[str, Any] = {}
        with _engine(engine):
            for op in self.operations:
                if op["kind"] in _LAYERS and op.get("grid") is not None:
                    self.packed[op["name"]] = self._pack(op)
                elif op["kind"] in _LAYERS and self._gives_float_by_onednn(op):
                    self.packed[op["name"]] = self._pack_for_float(op)
                elif op["kind"] == "linear" and engine != "onednn":
                    self.packed[op["name"]] = self._pack(op)

    def forward(self, *images: Tensor) -> Any:
        """The outputs, dequantized: a tensor, or a tuple of them.

        Raises:
            ValueError: not the network's inputs: their number, their shapes, or tensors other than float32 on the CPU.
        """
        found = self.run(images)
        result = tuple(_real(found[name]) for name in self.outputs)
        return result[0] if len(result) == 1 else result

    def run(
        self, images: Sequence[Tensor], keep: bool = False, before: Callable[[str], None] | None = None
    ) -> dict[str, Tensor]:
        """Every output by name, and with ``keep`` every tensor of the network; quantized where it holds integers.

        ``before`` is called with the name of each operation before it runs.
        """
        self._check(images)
        values: dict[str, Tensor] = dict(zip(self.inputs, images, strict=True))
        last = {} if keep else self._last_use()
        with _engine(self.engine), torch.inference_mode():
            for at, op in enumerate(self.operations):
                if before is not None:
                    before(op["name"])
                inputs = [values[name] for name in op["inputs"]]
                values[op["name"]] = _STEPS[op["kind"]](self, op, inputs, values)
                for name in last.get(at, ()):
                    del values[name]
        return values

    def _check(self, images: Sequence[Tensor]) -> None:
        if len(images) != len(self.inputs):
            raise ValueError(f"the network takes {len(self.inputs)} input tensors, got {len(images)}")
        for (name, shape), x in zip(self.inputs.items(), images, strict=True):
            if not isinstance(x, Tensor) or x.dtype is not torch.float32 or x.device.type != "cpu":
                got = f"{x.dtype} on {x.device}" if isinstance(x, Tensor) else type(x).__name__
                raise ValueError(f"input {name} must be a torch.float32 tensor on cpu, got {got}")
            if x.dim() != len(shape) or any(n not in (None, m) for n, m in zip(shape, x.shape, strict=True)):
                wanted = ", ".join("batch" if n is None else str(n) for n in shape)
                raise ValueError(f"input {name} must have shape ({wanted}), got {tuple(x.shape)}")

    def _last_use(self) -> dict[int, list[str]]:
        at = {name: i for i, op in enumerate(self.operations) for name in op["inputs"]}
        freed: dict[int, list[str]] = {}
        for name, i in at.items():
            if name not in self.outputs and name not in self.inputs:  # reshapes ask the input for the batch
                freed.setdefault(i, []).append(name)
        return freed

    def _pack(self, op: Mapping[str, Any]) -> Any:
        name = op["name"]
        integers, scale = self.tensors[f"{name}.weight"], self.tensors[f"{name}.weight_scale"]
        zero_point, bias = self.tensors[f"{name}.weight_zero_point"], self.tensors.get(f"{name}.bias")
        real = integers.float()
        if (
            scale.dim()
        ):  # the quantized constructor of torch takes the real weight; its rounding restores the integers
            shape = [-1] + [1] * (real.dim() - 1)
            real = (real - zero_point.reshape(shape)) * scale.reshape(shape)
            weight = torch.quantize_per_channel(real, scale.double(), zero_point.long(), 0, torch.qint8)
        else:
            real = (real - zero_point) * scale
            weight = torch.quantize_per_tensor(real, float(scale), int(zero_point), torch.qint8)
        assert torch.equal(weight.int_repr(), integers)
        if op["kind"] == "linear":
            return torch.ops.quantized.linear_prepack(weight, bias)
        prepack = getattr(torch.ops.quantized, f"{op['kind']}_prepack")
        return prepack(weight, bias, op["stride"], op["padding"], op["dilation"], op["groups"])

    def _gives_float_by_onednn(self, op: Mapping[str, Any]) -> bool:
        """oneDNN can give the accumulator as float, of symmetric weights; the quantized convolutions cannot."""
        symmetric = not bool((self.tensors[f"{op['name']}.weight_zero_point"] != 0).any())
        return self.engine in ("onednn", "x86") and symmetric and op["kind"] in ("conv2d", "linear")

    def _pack_for_float(self, op: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        name, ops = op["name"], torch.ops.onednn
        integers = self.tensors[f"{name}.weight"]
        scale = self.tensors[f"{name}.weight_scale"].expand(len(integers)).contiguous()
        zero_point = torch.zeros(len(integers), dtype=torch.int64)
        if op["kind"] == "linear":
            return ops.qlinear_prepack(integers, None), scale, zero_point
        grid = op["input_grid"]
        options = op["stride"], op["padding"], op["dilation"], op["groups"]
        packed = ops.qconv_prepack(integers, scale, grid["scale"], grid["zero_point"], *options, None)
        return packed, scale, zero_point


def load(path: str | Path, engine: str = "fbgemm") -> QuantizedNetwork:
    """The network of an artifact.

    Raises:
        ValueError: not such an artifact, or an engine that this torch does not have.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            header = (file.metadata() or {}).get("network")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
        network = json.loads(header or "")
        if network["format"] != FORMAT:
            raise ValueError(f"its format is {network['format']!r}, this file reads {FORMAT!r}")
        return QuantizedNetwork(network["operations"], tensors, network["inputs"], network["outputs"], engine)
    except (SafetensorError, LookupError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{path} holds no quantized network: {type(error).__name__}: {error}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} holds no quantized network: {error}") from error


def _supported() -> str:
    return ", ".join(name for name in ENGINES if name in torch.backends.quantized.supported_engines)


@contextmanager
def _engine(name: str) -> Iterator[None]:
    """torch's quantized engine is one for the process; it is put back."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = name
    try:
        with warnings.catch_warnings():
            # torch announces the end of quantized tensors; until then FBGEMM is reached by them alone
            warnings.filterwarnings("ignore", message=".*quantized tensor creation functions.*")
            yield
    finally:
        torch.backends.quantized.engine = before


def _real(x: Tensor) -> Tensor:
    return x.dequantize() if x.is_quantized else x


def _to_grid(x: Tensor, op: Mapping[str, Any]) -> Tensor:
    grid = op["grid"]
    return torch.quantize_per_tensor(x.float(), grid["scale"], grid["zero_point"], torch.quint8)


def _clip(x: Tensor, op: Mapping[str, Any], fused_relu: bool = False) -> Tensor:
    """The integer clip that the kernel did not do; saturation at 0 and 255 is the kernel's own."""
    grid = op["grid"]
    low, high = op.get("clip", (grid["low"], grid["high"]))
    done = grid["zero_point"] if fused_relu else 0
    if low <= done and high >= 255:
        return x
    zero, scale = grid["zero_point"], grid["scale"]
    return torch.ops.quantized.clamp(x, (low - zero) * scale, (high - zero) * scale)


def _quantize(_: QuantizedNetwork, op: Mapping[str, Any], x: list[Tensor], __: Any) -> Tensor:
    return _clip(_to_grid(x[0], op), op)


def _dequantize(_: QuantizedNetwork, __: Mapping[str, Any], x: list[Tensor], ___: Any) -> Tensor:
    return x[0].dequantize()


def _layer(network: QuantizedNetwork, op: Mapping[str, Any], x: list[Tensor], _: Any) -> Tensor:
    ops: Any = torch.ops.quantized
    grid, packed = op.get("grid"), network.packed.get(op["name"])
    if packed is None:
        return _layer_in_float(network, op, x[0])
    if isinstance(packed, tuple):
        return _layer_by_onednn(network, op, x[0], packed)
    if grid is None:
        zero_point = x[0].q_zero_point()
        return ops.linear_with_input_q_dq_qweight_dq_output_fp32(
            _real(x[0]), x[0].q_scale(), zero_point, packed
        )
    relu = op["clip"][0] == grid["zero_point"]
    kernel = getattr(ops, op["kind"] + ("_relu" if relu else ""))
    return _clip(kernel(x[0], packed, grid["scale"], grid["zero_point"]), op, relu)


def _layer_by_onednn(network: QuantizedNetwork, op: Mapping[str, Any], x: Tensor, packed: Any) -> Tensor:
    grid = x.q_scale(), x.q_zero_point()
    bias = network.tensors.get(f"{op['name']}.bias")
    to_float: Any = 1.0, 0, torch.float32, "none", [], ""
    if op["kind"] == "linear":
        return torch.ops.onednn.qlinear_pointwise(x.int_repr(), *grid, *packed, bias, *to_float)
    options = op["stride"], op["padding"], op["dilation"], op["groups"]
    return torch.ops.onednn.qconv2d_pointwise(x.int_repr(), *grid, *packed, bias, *options, *to_float)


def _layer_in_float(network: QuantizedNetwork, op: Mapping[str, Any], x: Tensor) -> Tensor:
    name = op["name"]
    weight, scale = network.tensors[f"{name}.weight"].float(), network.tensors[f"{name}.weight_scale"]
    shape = ([-1] + [1] * (weight.dim() - 1)) if scale.dim() else []
    weight = (weight - network.tensors[f"{name}.weight_zero_point"].reshape(shape)) * scale.reshape(shape)
    bias = network.tensors.get(f"{name}.bias")
    if op["kind"] == "linear":
        return nn.functional.linear(_real(x), weight, bias)
    function = getattr(nn.functional, op["kind"])
    return function(_real(x), weight, bias, op["stride"], op["padding"], op["dilation"], op["groups"])


def _add(network: QuantizedNetwork, op: Mapping[str, Any], x: list[Tensor], values: Any) -> Tensor:
    grid = op["grid"]
    if op["sign"] < 0 or x[0].shape != x[1].shape:  # the kernel does neither
        return _in_float(network, op, x, values)
    relu = op["clip"][0] == grid["zero_point"]
    kernel = torch.ops.quantized.add_relu if relu else torch.ops.quantized.add
    return _clip(kernel(x[0], x[1], grid["scale"], grid["zero_point"]), op, relu)


def _multiply(network: QuantizedNetwork, op: Mapping[str, Any], x: list[Tensor], values: Any) -> Tensor:
    grid = op["grid"]
    if x[0].shape != x[1].shape:
        return _in_float(network, op, x, values)
    return _clip(torch.ops.quantized.mul(x[0], x[1], grid["scale"], grid["zero_point"]), op)


def _in_float(_: QuantizedNetwork, op: Mapping[str, Any], x: list[Tensor], __: Any) -> Tensor:
    """What torch has no integer kernel for; its integer pooling keeps the scale of its input, but ours has its own."""
    return _clip(_to_grid(_REAL[op["kind"]](op, [t.dequantize() for t in x]), op), op)


def _average(op: Mapping[str, Any], x: list[Tensor]) -> Tensor:
    pool = getattr(nn.functional, f"avg_pool{len(op['kernel'])}d")
    options = (op[name] for name in ("kernel", "stride", "padding", "ceil_mode", "count_include_pad"))
    return pool(x[0], *options)


def _concat(_: QuantizedNetwork, op: Mapping[str, Any], x: list[Tensor], __: Any) -> Tensor:
    grid = op["grid"]
    return torch.ops.quantized.cat(x, op["axis"], grid["scale"], grid["zero_point"])


def _call(network: QuantizedNetwork, op: Mapping[str, Any], values: Mapping[str, Tensor]) -> Any:
    function: Any = operator.attrgetter(op["target"])(torch.ops)
    batch = len(values[next(iter(network.inputs))])

    def value(argument: Any) -> Any:
        if isinstance(argument, list):
            return [value(item) for item in argument]
        if not isinstance(argument, dict):
            return argument
        ((kind, content),) = argument.items()
        if kind == "tensor":
            return values[content] if content in values else network.tensors[content]
        if kind == "batch":
            return batch
        return float(content) if kind == "float" else getattr(torch, content)

    arguments = [value(argument) for argument in op["args"]]
    return function(*arguments, **{name: value(v) for name, v in op["kwargs"].items()})


def _move(network: QuantizedNetwork, op: Mapping[str, Any], x: list[Tensor], values: Any) -> Tensor:
    if op.get("grid") is None or op["target"].split(".")[1] in _NATIVE_MOVES:
        return _call(network, op, values)
    real = {**values, **{name: _real(t) for name, t in zip(op["inputs"], x, strict=True)}}
    return _to_grid(_call(network, op, real), op)


_REAL: dict[str, Any] = {
    "add": lambda op, x: x[0] + op["sign"] * x[1],
    "multiply": lambda _, x: x[0] * x[1],
    "matmul": lambda _, x: x[0] @ x[1],
    "globalpool": lambda op, x: x[0].mean(tuple(range(2, x[0].dim())), keepdim=op["keepdims"]),
    "pool": _average,
}
_STEPS: dict[str, Any] = {
    "quantize": _quantize,
    "dequantize": _dequantize,
    "conv1d": _layer,
    "conv2d": _layer,
    "conv3d": _layer,
    "linear": _layer,
    "add": _add,
    "multiply": _multiply,
    **dict.fromkeys(("matmul", "globalpool", "pool"), _in_float),
    "concat": _concat,
    "move": _move,
    "float": _move,
}
