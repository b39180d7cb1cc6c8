"""TVM: the Relax lowering, compiled for the CPU with one plain schedule for integers and floats."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mqbench.deploy import bias as biases
from mqbench.deploy._relax_moves import MOVES
from mqbench.deploy._relax_schedule import scheduled
from mqbench.deploy.arithmetic import Arithmetic
from mqbench.deploy.exporters.tvm import load, parameters_of
from mqbench.deploy.program import Concat, Dequantize, Float, Move, Operation, Program, Quantize
from mqbench.deploy.relax_form import relax_form
from mqbench.deploy.runtimes._base import Node, Runtime, Session
from mqbench.errors import RequestError


class _Session(Session):
    def __init__(
        self,
        program: Program,
        file: Path | None,
        _threads: int,
        watched: Sequence[str],
        options: Mapping[str, Any],
    ) -> None:
        import tvm
        from tvm import relax

        self._program, _rescaled = biases.fit(program)
        self._names = [*dict.fromkeys([*program.outputs, *watched])]
        if file is not None and self._names == list(program.outputs):
            module, parameters = load(file)
        else:  # the file gives the outputs alone; the same lowering gives more, from the file's parameters
            form = relax_form(self._program, watched)
            module = form.module
            parameters = form.parameters if file is None else parameters_of(program, file)
        self._tensor: Any = tvm.runtime.tensor
        self._parameters = [self._tensor(array) for array in parameters.values()]
        target = _target(tvm, options)
        try:
            self._machine: Any = relax.VirtualMachine(
                relax.build(scheduled(module, target), target=target), tvm.cpu()
            )
        except (RuntimeError, ValueError) as error:
            raise RequestError(f"tvm refuses the network: {' '.join(str(error).split())[-200:]}") from error

    def run(self, *inputs: Tensor) -> dict[str, Tensor]:
        """One batch."""
        arrays = [self._tensor(x.detach().cpu().float().contiguous().numpy()) for x in inputs]
        found = self._machine["main"](*arrays, *self._parameters)
        return {name: torch.from_numpy(found[i].numpy()) for i, name in enumerate(self._names)}

    def nodes(self) -> list[Node]:
        """Operation by operation: the lowering decides what is an integer, TVM only compiles it."""
        return [
            Node(
                name=op.name,
                kind=f"relax {op.kind}",
                precision=_precision(op),
                operations=(op.name,),
            )
            for op in self._program.operations
        ]


def _precision(op: Operation) -> Literal["integer", "float", "convert", "move"]:
    if isinstance(op, (Quantize, Dequantize)):
        return "convert"
    if isinstance(op, (Move, Concat)) or (isinstance(op, Float) and op.target.split(".")[1] in MOVES):
        return "move"
    return "float" if isinstance(op, Float) else "integer"


def _target(tvm: Any, options: Mapping[str, Any]) -> Any:
    """This machine's processor unless another target is asked for: with its vector units TVM is far faster."""
    if options["target"] != "host":
        return tvm.target.Target(options["target"])
    return tvm.target.Target({"kind": "llvm", "mcpu": tvm.target.codegen.llvm_get_system_cpu()})


RUNTIME = Runtime(
    package="tvm",
    distribution="apache-tvm",
    extra="tvm",
    form="",
    artifact="tvm",
    arithmetic=Arithmetic(add="exact"),
    open=_Session,
    options={"target": "host"},
    one_thread=True,  # no loop of the schedule is parallel
)
