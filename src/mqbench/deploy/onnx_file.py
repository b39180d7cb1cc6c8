"""`Program` -> ONNX with explicit QuantizeLinear and DequantizeLinear, in the form that an engine wants.

An integer tensor of the program has its name in the file, in the form's container; its dequantized copy is
``NAME.dequantized``. Float tensors have their name.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mqbench.deploy import forms
from mqbench.deploy._onnx_operations import write_operations
from mqbench.deploy._onnx_writer import Writer
from mqbench.deploy.forms._base import Form
from mqbench.deploy.program import Program, Value
from mqbench.errors import RequestError
from mqbench.files import whole_file

if TYPE_CHECKING:
    import onnx

INSTALL = "pip install 'mqbench[onnx]'"
IR_VERSION = 8


def write(program: Program, path: str | Path, *, form: str = "standard", opset: int | None = None) -> Path:
    """Write a program as an ONNX file, checked by ONNX's own checker, atomically.

    Args:
        program: the lowered network.
        path: of the file.
        form: a name from ``mqbench.deploy.forms``.
        opset: of the file; None takes the form's.

    Raises:
        RequestError: onnx is missing, an opset that is too old or unknown, an operation without an ONNX form.
        IncompatibleError: the form cannot express the network (zero points, more than 8 bits).
    """
    model = build(program, form=form, opset=opset)
    final = Path(path)
    with whole_file(final) as sibling:
        sibling.write_bytes(model.SerializeToString())
    return final


def build(program: Program, *, form: str = "standard", opset: int | None = None) -> "onnx.ModelProto":
    """The same in memory."""
    onnx = _onnx()
    chosen: Form = forms[form]  # type: ignore[index]
    version = _opset(onnx, chosen, form, opset)
    writer = Writer(program, chosen, form, version)
    write_operations(writer)
    graph = onnx.helper.make_graph(
        writer.nodes,
        "mqbench",
        [_info(onnx, program.values[name], form) for name in program.inputs],
        [_info(onnx, program.values[name], form) for name in program.outputs],
        initializer=writer.initializers,
    )
    model = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", version)],
        producer_name="mqbench",
        ir_version=max(IR_VERSION, _least_ir(onnx, version)),
    )
    about = {"mqbench.form": form, "mqbench.program": json.dumps(dict(program.description))}
    onnx.helper.set_model_props(model, about)
    onnx.checker.check_model(model, full_check=True)
    return model


def watch(model: "onnx.ModelProto", program: Program, names: Sequence[str], form: str) -> None:
    """Make tensors of the program outputs of the file too."""
    onnx = _onnx()
    present = {output.name for output in model.graph.output}
    for name in names:
        if name not in present:
            model.graph.output.append(_info(onnx, program.values[name], form))


def read(path: str | Path) -> "onnx.ModelProto":
    """Read an ONNX file.

    Raises:
        RequestError: there is none, or it is damaged.
    """
    onnx = _onnx()
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(Path(path).read_bytes())
        onnx.checker.check_model(model)
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from None
    except (DecodeError, onnx.checker.ValidationError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise RequestError(f"{path} is damaged or no ONNX file: {reason}") from None
    return model


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise RequestError(f"ONNX files need onnx ({error}): {INSTALL}") from None
    return onnx


def _opset(onnx: Any, form: Form, name: str, asked: int | None) -> int:
    version = form.opset if asked is None else asked
    newest = onnx.defs.onnx_opset_version()
    if (
        isinstance(version, bool)
        or not isinstance(version, int)
        or not form.oldest_opset <= version <= newest
    ):
        raise RequestError(
            f"opset must be from {form.oldest_opset} (per-channel DequantizeLinear) to {newest} for form {name!r}, "
            f"got {version!r}"
        )
    return version


def _least_ir(onnx: Any, version: int) -> int:
    return int(onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", version)]))


def _info(onnx: Any, value: Value, form: str) -> Any:
    kinds = {"uint8": onnx.TensorProto.UINT8, "int8": onnx.TensorProto.INT8}
    chosen: Form = forms[form]  # type: ignore[index]
    element = onnx.TensorProto.FLOAT if value.grid is None else kinds[chosen.container(value.grid)[0]]
    shape = ["batch" if n is None and i == 0 else n for i, n in enumerate(value.shape)]
    return onnx.helper.make_tensor_value_info(value.name, element, shape)
