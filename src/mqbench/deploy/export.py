"""`export`: the deployed network as an ONNX file, and the sidecars that its library wants."""

import warnings
from pathlib import Path
from typing import Any

from torch import fx

from mqbench import backends
from mqbench.backends._base import Backend
from mqbench.deploy import bias as biases
from mqbench.deploy import exporters, forms, onnx_file
from mqbench.deploy.exporters._base import Exporter
from mqbench.deploy.forms._base import Form
from mqbench.deploy.lowering import lower
from mqbench.deploy.program import Program
from mqbench.errors import RequestError
from mqbench.files import whole_file


def export(
    deployed: fx.GraphModule | Program,
    path: str | Path,
    *,
    form: str | None = None,
    opset: int | None = None,
    sidecars: bool = True,
) -> list[Path]:
    """Write a converted network as ONNX with explicit QuantizeLinear and DequantizeLinear.

    Weights are stored as integers (per channel where they are), the batch is dynamic, names are the model's,
    and ONNX's checker has passed the file. Grids of 2 to 8 bits are exact in their 8-bit container.

    Args:
        deployed: from `mqbench.convert`, or a lowered program.
        path: of the file, usually ``model.onnx``.
        form: a name from ``mqbench.deploy.forms``; None takes the backend's.
        opset: of the file; None takes the form's.
        sidecars: write what the backend's library wants beside it too.

    Returns:
        The files written, the ONNX file first.

    Raises:
        RequestError: onnx is missing, the opset is too old, or an operation has no ONNX form.
        IncompatibleError: the form cannot express the network (asymmetric weights, more than 8 bits).

    Warns:
        UserWarning: nearly dead channels, whose bias does not fit into int32, were rescaled.
    """
    program = deployed if isinstance(deployed, Program) else lower(deployed)
    name = form_of(program) if form is None else form
    chosen: Form = forms[name]  # type: ignore[index]
    if chosen.bias == "int32":
        program, rescaled = biases.fit(program)
        if rescaled:
            warnings.warn(biases.about(rescaled), stacklevel=2)
    written = [onnx_file.write(program, path, form=name, opset=opset)]
    if sidecars:
        for exporter in sidecars_of(program):
            written.append(write_sidecar(program, exporter, path))
            written += _loaders(exporter, written[-1].parent)
    return written


def form_of(program: Program) -> str:
    """The form of the program's backend, ``standard`` without one."""
    backend = program.description.get("backend")
    if backend is None:
        return "standard"
    library: Backend = backends[backend]
    return library.form


def sidecars_of(program: Program) -> list[str]:
    """Names of the sidecars that the program's backend has."""
    backend = program.description.get("backend")
    catalog: Any = exporters
    return [name for name in catalog if backend in catalog[name].backends]


def write_sidecar(program: Program, exporter: str, model: str | Path) -> Path:
    """Write one sidecar beside an ONNX file, checked, atomically; returns its path.

    What runs it by itself, where there is such a file, is copied beside it.

    Raises:
        RequestError: the format cannot express the network, or its check fails.
    """
    chosen: Exporter = exporters[exporter]  # type: ignore[index]
    final = Path(model).with_suffix(chosen.suffix)
    if final == Path(model):
        raise RequestError(f"{exporter} would overwrite {model}; give the model another suffix")
    with whole_file(final) as sibling:
        chosen.write(program, sibling)
        chosen.check(program, sibling)
    for loader in _loaders(exporter, final.parent):
        with whole_file(loader) as sibling:
            sibling.write_bytes(Path(__file__).with_name(loader.name).read_bytes())
    return final


def _loaders(exporter: str, folder: Path) -> list[Path]:
    chosen: Exporter = exporters[exporter]  # type: ignore[index]
    return [folder / chosen.loader] if chosen.loader else []
