"""What an inference engine is: how to install it, which file it reads, how it rounds, and a session that runs."""

import importlib
import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from mqbench.deploy.arithmetic import Arithmetic
from mqbench.deploy.program import Program
from mqbench.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operation as an engine runs it, from its own profile or graph dump.

    Args:
        name: the engine's.
        kind: the engine's kernel or operation type (``QLinearConv``).
        precision: of its computation: ``integer`` or ``float``; ``convert`` for quantizing, dequantizing
            and changes of layout; ``move`` for what only moves values.
        operations: names of the program's operations that it computes, as far as they can be told.
    """

    name: str
    kind: str
    precision: Literal["integer", "float", "convert", "move"]
    operations: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A known fault of an engine.

    Args:
        name: one word or two, for certificates.
        about: what happens, when, and how large it is.
        cure: what to do about it.
        concerns: tells from a program whether it can happen there: names of the operations concerned.
        options: of the runtime, with which it does not happen.
        reduce_weights_to: bits of the weights of these operations, with which it does not happen; 0 if
            weights have no part in it.
    """

    name: str
    about: str
    cure: str
    concerns: Callable[[Program], Sequence[str]]
    options: Mapping[str, Any] = field(default_factory=dict)
    reduce_weights_to: int = 0


class Session(ABC):
    """A network that is loaded into an engine.

    A session is made by `Runtime.load`; `values` names the tensors that `run` gives.
    """

    @abstractmethod
    def run(self, *inputs: Tensor) -> dict[str, Tensor]:
        """One batch through the engine.

        Args:
            inputs: float32 tensors, batch first, in the order of ``program.inputs``.

        Returns:
            The program's outputs and every watched tensor, by their names in the program: float32, or int32
            holding the integers *of the program's grid* (whatever the engine's own container adds or
            subtracts is undone).
        """

    @abstractmethod
    def nodes(self) -> list[Node]:
        """What the engine really runs, after its optimizer, in order."""

    def altered(self) -> list[str]:
        """Where the engine's optimizer changed what is computed, as sentences; none that is known of."""
        return []


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One engine; each file of this folder defines one as ``RUNTIME``.

    Args:
        package: the Python module that is imported.
        distribution: whose version is stated (``onnxruntime``).
        extra: of this project, which installs it: ``pip install 'mqbench[EXTRA]'``.
        form: name of the ONNX form that it reads (`mqbench.deploy.forms`); "" for an engine that is built
            from the program itself.
        artifact: name of the exporter (`mqbench.deploy.exporters`) whose file it runs where ``form`` is "", if any.
        forms: where it reads several, all of them; the option ``form`` chooses.
        arithmetic: how it rounds: `mqbench.to_integer(d, arithmetic=runtime.arithmetic)` is its exact reference.
        open: (program, file or None, threads, watch, options) -> session. ``file`` is an ONNX file of the runtime's
            form or its artifact, None where it has neither or builds it. ``watch`` are names of tensors that
            `Session.run` gives besides the outputs. It imports the engine inside.
        options: what users can set, with default values.
        faults: known ones.
        timed: its speed is meant to be measured.
        one_thread: it has no more, whatever it is given.
        one_step: an exact reference of this engine cannot be stated; why (the named rounding rule).
    """

    package: str
    distribution: str
    extra: str
    form: str
    arithmetic: Arithmetic
    open: "Callable[[Program, Path | None, int, Sequence[str], Mapping[str, Any]], Session]"
    options: Mapping[str, Any] = field(default_factory=dict)
    forms: tuple[str, ...] = ()
    artifact: str = ""
    faults: tuple[Fault, ...] = ()
    timed: bool = True
    one_thread: bool = False
    one_step: str = ""

    def require(self) -> None:
        """Raise `RequestError` with the install line if the engine is missing."""
        try:
            importlib.import_module(self.package)
        except ImportError as error:
            raise RequestError(
                f"{self.package} is not installed ({error}): pip install 'mqbench[{self.extra}]'"
            ) from None

    @property
    def version(self) -> str:
        """Of the installed distribution."""
        return importlib.metadata.version(self.distribution)

    def load(
        self,
        program: Program,
        file: Path | None = None,
        *,
        threads: int = 1,
        watch: Sequence[str] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Session:
        """Load a network into the engine.

        Args:
            program: the lowered network.
            file: ONNX of this runtime's form, from `mqbench.export`, or its artifact; None writes a temporary one.
            threads: that the engine uses.
            watch: names of the program's tensors that `Session.run` gives besides the outputs.
            options: in place of the defaults.

        Raises:
            RequestError: the engine is missing, refuses the network, or has no such option or tensor.
        """
        self.require()
        if threads < 1:
            raise RequestError(f"threads must be at least 1, got {threads}")
        chosen = dict(self.options) | dict(options or {})
        unknown = sorted(set(chosen) - set(self.options))
        if unknown:
            allowed = ", ".join(self.options) or "none"
            raise RequestError(f"{self.package} has no option {unknown[0]!r}; allowed: {allowed}")
        strange = [name for name in watch if name not in program.values]
        if strange:
            raise RequestError(f"the network has no tensor {strange[0]!r}")
        form = str(chosen.get("form", self.form))
        if self.forms and form not in self.forms:
            raise RequestError(f"{self.package} reads the forms {', '.join(self.forms)}, got {form!r}")
        if form and file is None:
            from tempfile import TemporaryDirectory

            from mqbench.deploy.onnx_file import write

            with TemporaryDirectory() as folder:
                path = write(program, Path(folder) / "model.onnx", form=form)
                return self.open(program, path, threads, tuple(watch), chosen)
        return self.open(program, file, threads, tuple(watch), chosen)
