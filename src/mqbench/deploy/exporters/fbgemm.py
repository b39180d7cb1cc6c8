"""FBGEMM: weights in safetensors and a list of operations, which `quantized_network.load` runs on torch's kernels."""

import json
from pathlib import Path

import torch
from safetensors.torch import save

from mqbench.deploy.exporters._base import Exporter
from mqbench.deploy.program import Program
from mqbench.deploy.quantized_network import FORMAT, load
from mqbench.deploy.torch_form import torch_form
from mqbench.errors import RequestError


def _write(program: Program, path: Path) -> None:
    form = torch_form(program)
    network = {
        "format": FORMAT,
        "inputs": form.inputs,
        "outputs": form.outputs,
        "operations": form.operations,
        "about": dict(program.description),
    }
    # copies, since a layer that is called twice is two operations of one weight, and the format shares none
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in form.tensors.items()}
    path.write_bytes(save(tensors, metadata={"network": json.dumps(network, allow_nan=False)}))


def _check(program: Program, path: Path) -> None:
    """Load it and run a batch of zeros."""
    try:
        network = load(path, _engine())
    except ValueError as error:
        raise RequestError(str(error)) from None
    shapes = [program.values[name].shape for name in program.inputs]
    found = network.run([torch.zeros([size or 1 for size in shape]) for shape in shapes])
    wrong = [name for name in program.outputs if found[name].shape[1:] != program.values[name].shape[1:]]
    if wrong:
        raise RequestError(f"{path.name} gives {wrong[0]} of shape {tuple(found[wrong[0]].shape)}")


def _engine() -> str:
    return "fbgemm" if "fbgemm" in torch.backends.quantized.supported_engines else "x86"


EXPORTER = Exporter(
    suffix=".fbgemm.safetensors",
    backends=("fbgemm",),
    loader="quantized_network.py",
    write=_write,
    check=_check,
    source="torch.ops.quantized",
    checked_by="torch",
)
