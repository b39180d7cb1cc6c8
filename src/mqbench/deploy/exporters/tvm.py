"""TVM: the Relax lowering as TVMScript with its parameters beside the text, in one safetensors file.

``tvm.script.from_source`` reads the text under the header entry ``tvmscript``; the tensors are the arguments of
``main`` after the network's inputs, in the order of the entry ``parameters``.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mqbench.deploy import bias as biases
from mqbench.deploy.exporters._base import Exporter
from mqbench.deploy.program import Program
from mqbench.deploy.relax_form import relax_form
from mqbench.errors import RequestError


def _write(program: Program, path: Path) -> None:
    _require()
    form = relax_form(biases.fit(program)[0])
    header = {
        "format": "mqbench relax 1",
        "tvmscript": form.module.script(),
        "parameters": json.dumps(list(form.parameters)),
        "outputs": json.dumps(list(program.outputs)),
    }
    path.write_bytes(save(form.parameters, metadata=header))


def load(path: str | Path) -> tuple[Any, dict[str, Any]]:
    """The Relax module of an artifact, and its parameters in order.

    Raises:
        RequestError: TVM is missing, or the file is damaged or something else.
    """
    _require()
    import tvm

    try:
        with safe_open(str(path), framework="np") as file:
            header = file.metadata() or {}
            parameters = {name: file.get_tensor(name) for name in json.loads(header["parameters"])}
        return tvm.script.from_source(header["tvmscript"]), parameters
    except (KeyError, ValueError, SafetensorError) as error:
        raise RequestError(f"{path} holds no Relax module: {error}") from None


def parameters_of(program: Program, path: Path) -> dict[str, Any]:
    """The parameters in an artifact whose text is the lowering of this program.

    Raises:
        RequestError: the text is another, or the parameters are of other names, shapes or types.
    """
    import tvm

    module, parameters = load(path)
    form = relax_form(biases.fit(program)[0])
    try:
        tvm.ir.assert_structural_equal(module, form.module)
    except ValueError:
        raise RequestError(f"{path}: its text is not the lowering of this network") from None
    kinds = [
        [(name, array.shape, array.dtype) for name, array in found.items()]
        for found in (parameters, form.parameters)
    ]
    if kinds[0] != kinds[1]:
        raise RequestError(f"{path}: its parameters are not those of this network")
    return parameters


def _check(program: Program, path: Path) -> None:
    parameters_of(program, path)


def _require() -> None:
    try:
        import tvm  # noqa: F401
    except ImportError as error:
        raise RequestError(f"the Relax lowering needs TVM ({error}): pip install 'mqbench[tvm]'") from None


EXPORTER = Exporter(
    suffix=".relax.safetensors",
    backends=(),  # TVM is an optional extra: asked for by name, so that a plain export never fails for it
    write=_write,
    check=_check,
    extra="tvm",
    source="TVM, Relax and TVMScript",
    checked_by="tvm",
)
