"""What another toolkit is: which cells it can compute, as values, and one function that quantizes a network."""

import importlib
import importlib.metadata
import os
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from torch import Tensor, nn

from mqbench.architectures._base import Recipe
from mqbench.backends._base import Granularity
from mqbench.errors import IncompatibleError, RequestError
from mqbench.plan import Plan
from mqbench.record import Setting
from mqbench.tools import _elsewhere as elsewhere

_BOTH = (False, True)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One network to quantize.

    Args:
        network: float, in eval mode; the job may change it.
        example: two images, ``[2, C, H, W]``.
        images: batches of calibration images, ``[n, C, H, W]`` each; no labels.
        plan: grids, bits and graph: what the cell asks for.
        weight_calibration, activation_calibration: observers, None for what the tool does by itself.
        trains: the result is trained afterwards, by the pipeline that trains everything here.
        threads: of CPU that the network may use.
    """

    network: nn.Module
    example: Tensor
    images: list[Tensor]
    plan: Plan
    weight_calibration: str | None
    activation_calibration: str | None
    trains: bool
    threads: int


@dataclass(frozen=True, kw_only=True)
class Tool:
    """Another toolkit.

    A cell is a setting's plan; what it does not say (where batch norms are folded, how residual adds are placed)
    is as the toolkit has it by default. All but ``package`` to ``quantize`` say which cells it can compute: what
    is not in them is refused before anything runs, so that no row claims more than was computed.

    Args:
        package: that is imported.
        distribution: whose version is recorded.
        extra: of this project, which installs it: ``pip install 'mqbench[EXTRA]'``.
        quantize: job -> module from images to logits, calibrated. It is evaluated in eval mode, after training if
            there is any, on the same images as every network here.
        algorithms: name of an algorithm here to what the tool computes in its place, in a sentence.
        weight_bits, activation_bits: it can compute.
        granularities, symmetric_weights, symmetric_activations: of the grids it can compute.
        graphs: placements of quantizers (1, 2, 3) that its own comes down to.
        first_last: whether the first and last layer can have other bits.
        folded: whether batch norms are merged before the weights are quantized: what it can compute.
        trains: whether its networks can be trained.
        weight_calibration, activation_calibration: observers that it has.
        environment: variables that are set before it is imported, such as one that keeps it from reporting its use.
    """

    package: str
    distribution: str
    extra: str
    quantize: Callable[[Job], nn.Module]
    algorithms: Mapping[str, str]
    weight_bits: tuple[int, ...] = (8,)
    activation_bits: tuple[int, ...] = (8,)
    granularities: tuple[Granularity, ...] = ("per_tensor", "per_channel")
    symmetric_weights: tuple[bool, ...] = _BOTH
    symmetric_activations: tuple[bool, ...] = _BOTH
    graphs: tuple[int, ...] = (3,)
    first_last: bool = False
    folded: tuple[bool, ...] = (True,)
    trains: bool = False
    weight_calibration: tuple[str, ...] = ("minmax",)
    activation_calibration: tuple[str, ...] = ("minmax",)
    environment: Mapping[str, str] = field(default_factory=dict)

    def check(self, name: str, setting: Setting, plan: Plan, recipe: Recipe) -> None:
        """Refuse a cell that the tool does not compute.

        Raises:
            IncompatibleError: what was got, and what the tool takes.
        """
        grid = plan.library.properties
        asked: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
            ("algorithm", setting.algorithm, tuple(self.algorithms)),
            ("weight bits", plan.bits[0], self.weight_bits),
            ("activation bits", plan.bits[1], self.activation_bits),
            ("granularity", grid.granularity, self.granularities),
            ("symmetric_weights", grid.symmetric_weights, self.symmetric_weights),
            ("symmetric_activations", grid.symmetric_activations, self.symmetric_activations),
            ("power_of_two", bool(grid.power_of_two), (False,)),
            ("graph", plan.graph, self.graphs),
            ("folded batch norms", plan.bn_folding >= 0, self.folded),
            ("weight_calibration", setting.weight_calibration, (None, *self.weight_calibration)),
            ("activation_calibration", setting.activation_calibration, (None, *self.activation_calibration)),
        )
        for what, got, allowed in asked:
            if got not in allowed:
                takes = ", ".join("none (its own)" if value is None else str(value) for value in allowed)
                raise IncompatibleError(
                    f"{name} does not compute {what} {got} (backend {setting.backend}); it takes {takes}"
                )
        if not self.first_last and plan.bits != (plan.first_last_bits,) * 2:
            raise IncompatibleError(
                f"{name} gives all layers the same bits, got {plan.bits} and first_last_bits {plan.first_last_bits}"
            )
        for what in ("bn_folding", "shared_concat", "quantizer_weight_decay"):
            if getattr(setting, what) is not None:
                raise IncompatibleError(f"{name} has a {what} of its own; leave it out")
        if setting.bn_calibration:
            raise IncompatibleError(f"{name} has no batch-norm calibration; leave it out")
        if not self.trains and (recipe.epochs or setting.steps is not None):
            raise IncompatibleError(f"{name} calibrates and does not train; give epochs = 0")

    def require(self, name: str) -> None:
        """Raise `RequestError` with the install line if the toolkit is missing."""
        os.environ.update(self.environment)
        python = elsewhere.python_of(name)
        if python is not None:
            elsewhere.check(name, python, self.package)
            return
        try:
            importlib.import_module(self.package)
        except ImportError as error:
            raise RequestError(
                f"tool {name} needs {self.package} ({error}): pip install 'mqbench[{self.extra}]', or name a Python "
                f"that has it and mqbench in {elsewhere.variable(name)}"
            ) from None

    def network(self, job: Job) -> nn.Module:
        """The quantized network; what the toolkit prints is dropped, for standard output is the command's."""
        os.environ.update(self.environment)
        with redirect_stdout(StringIO()):
            return self.quantize(job)

    @property
    def version(self) -> str:
        """Of the installed distribution."""
        return importlib.metadata.version(self.distribution)
