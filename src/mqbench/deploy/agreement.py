"""How far two computations of one network agree: per tensor, per pair of computations, as a whole."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mqbench.deploy.runtimes._base import Node

FLOAT_STEP = 2.0**-15  # of the largest value of a float tensor


@dataclass(frozen=True, kw_only=True)
class Match:
    """Two tensors of integers compared.

    Args:
        count: integers compared.
        equal: of them, exactly equal.
        max_steps: largest difference in quantization steps.
    """

    count: int = 0
    equal: int = 0
    max_steps: int = 0

    @classmethod
    def of(cls, first: Tensor, second: Tensor) -> "Match":
        """Of two tensors of integers of one grid (any dtype that holds them)."""
        if torch.equal(first, second):
            return cls(count=first.numel(), equal=first.numel())
        difference = torch.sub(first, second)
        different = int(torch.count_nonzero(difference))
        count = difference.numel()
        return cls(count=count, equal=count - different, max_steps=int(difference.abs_().max()))

    @classmethod
    def of_sums(cls, first: Tensor, second: Tensor, step: Tensor) -> "Match":
        """Of two float tensors that are sums of integers times a step, which broadcasts against them.

        Equal means within half a step and a millionth of the largest sum: a bias may be rounded or not, and float
        arithmetic leaves its last bits. One weight that is off by one moves a sum by an integer of the input.
        """
        sums = first.double() / step
        difference = (sums - second.double() / step).abs()
        allowed = 0.5 + 1e-6 * float(sums.abs().max()) if sums.numel() else 0.5
        beyond = ~(difference <= allowed)
        steps = difference[beyond].nan_to_num(math.inf).clamp_max(2.0**62)
        return cls(
            count=sums.numel(),
            equal=sums.numel() - len(steps),
            max_steps=max(1, round(float(steps.max()))) if len(steps) else 0,
        )

    @classmethod
    def of_floats(cls, first: Tensor, second: Tensor) -> "Match":
        """Of two float tensors, in steps of 2^-15 of the largest value; equal means within half a step.

        Float arithmetic leaves a hundredth of that.
        """
        largest = first.double().abs().max() if first.numel() else first.new_ones(())
        return cls.of_sums(first, second, largest.clamp_min(2.0**-100) * FLOAT_STEP)

    def __add__(self, other: "Match") -> "Match":
        return Match(
            count=self.count + other.count,
            equal=self.equal + other.equal,
            max_steps=max(self.max_steps, other.max_steps),
        )

    @property
    def exact_fraction(self) -> float:
        """Fraction of exactly equal integers."""
        return self.equal / self.count if self.count else 1.0


@dataclass(frozen=True, kw_only=True)
class OutputMatch:
    """The real-valued outputs of two computations compared.

    Args:
        images: compared.
        flips: images whose top-1 class differs.
        count, equal: values compared, and exactly equal ones.
        signal, noise: sums of squares of the first, and of the difference.
        max_difference: largest difference, in units of the output.
    """

    images: int = 0
    flips: int = 0
    count: int = 0
    equal: int = 0
    signal: float = 0.0
    noise: float = 0.0
    max_difference: float = 0.0

    @classmethod
    def of(cls, first: Tensor, second: Tensor) -> "OutputMatch":
        """Of two outputs, batch first; classes are compared where they have shape ``[N, classes]``."""
        a, b = first.double(), second.double()
        flips = int((a.argmax(1) != b.argmax(1)).sum()) if a.dim() == 2 else 0
        difference = (a - b).abs()
        return cls(
            images=len(a),
            flips=flips,
            count=a.numel(),
            equal=int((difference == 0).sum()),
            signal=float(a.square().sum()),
            noise=float(difference.square().sum()),
            max_difference=float(difference.max()) if a.numel() else 0.0,
        )

    def __add__(self, other: "OutputMatch") -> "OutputMatch":
        sums = {
            name: getattr(self, name) + getattr(other, name)
            for name in ("images", "flips", "count", "equal", "signal", "noise")
        }
        return OutputMatch(**sums, max_difference=max(self.max_difference, other.max_difference))

    @property
    def exact_fraction(self) -> float:
        """Fraction of exactly equal values."""
        return self.equal / self.count if self.count else 1.0

    @property
    def sqnr_db(self) -> float:
        """Signal to difference ratio in dB; infinite where they are equal."""
        if self.noise == 0:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal else -math.inf


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two computations of the network that run on their own: all integer tensors, and the outputs."""

    integers: Match = field(default_factory=Match)
    output: OutputMatch = field(default_factory=OutputMatch)

    def __add__(self, other: "Pair") -> "Pair":
        return Pair(integers=self.integers + other.integers, output=self.output + other.output)


@dataclass(frozen=True, kw_only=True)
class LayerAgreement:
    """One integer tensor.

    Args:
        name: of the operation that gives it.
        kind: what the operation is.
        free: integer reference and engine, each running on its own.
        local: the integer reference computed on the engine's own inputs, and the engine.
        simulation: the simulation computed on the engine's own inputs, and the engine.
    """

    name: str
    kind: str
    free: Match = field(default_factory=Match)
    local: Match = field(default_factory=Match)
    simulation: Match = field(default_factory=Match)

    def __add__(self, other: "LayerAgreement") -> "LayerAgreement":
        return LayerAgreement(
            name=self.name,
            kind=self.kind,
            free=self.free + other.free,
            local=self.local + other.local,
            simulation=self.simulation + other.simulation,
        )


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What `verify` found. `max_steps`, `exact_fraction`, `top1_flips` and `sqnr_db` are of `integer`.

    Args:
        runtime, version, options, threads: the engine.
        images: compared.
        integer: integer reference and engine.
        simulation: deployed simulation and engine.
        reference: deployed simulation and integer reference.
        layers: every integer tensor in order.
        outputs: what ends in floats: layers whose sums of integers reach an output by floats alone, in steps of that
            sum (`Match.of_sums`), and outputs that floats compute (`Match.of_floats`).
        nodes: what the engine really ran.
        accuracy: top-1 in percent of simulation, integer reference and engine, where there were labels.
        notes: what a reader must know: rescaled channels, known faults, watching that changed the result.
    """

    runtime: str
    version: str
    options: Mapping[str, Any]
    threads: int
    images: int
    integer: Pair
    simulation: Pair
    reference: Pair
    layers: tuple[LayerAgreement, ...]
    outputs: tuple[LayerAgreement, ...]
    nodes: tuple[Node, ...]
    accuracy: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def max_steps(self) -> int:
        """Largest difference of integer reference and engine, in quantization steps, over all tensors."""
        return self.integer.integers.max_steps

    @property
    def exact_fraction(self) -> float:
        """Fraction of all integers that are equal in integer reference and engine."""
        return self.integer.integers.exact_fraction

    @property
    def top1_flips(self) -> int:
        """Images whose top-1 class differs between integer reference and engine."""
        return self.integer.output.flips

    @property
    def sqnr_db(self) -> float:
        """Output of the integer reference over its difference to the engine's, in dB."""
        return self.integer.output.sqnr_db

    @property
    def first_difference(self) -> LayerAgreement | None:
        """The first tensor that the engine computes otherwise than the reference from the same inputs.

        Where there is none (float tensors between quantizers part by their last bits), the first that
        differs with both running on their own. None if every integer is equal.
        """
        local = (layer for layer in (*self.layers, *self.outputs) if layer.local.max_steps)
        free = (layer for layer in self.layers if layer.free.max_steps)
        return next(local, None) or next(free, None)

    @property
    def worst(self) -> LayerAgreement | None:
        """The tensor with the smallest equal fraction on the engine's own inputs."""
        return min(self.layers, key=lambda layer: layer.local.exact_fraction, default=None)

    def precision(self, operation: str) -> str:
        """How the engine ran an operation: ``integer``, ``float``, or ``unknown``."""
        kinds = {node.precision for node in self.nodes if operation in node.operations}
        return next((kind for kind in ("float", "integer", "move", "convert") if kind in kinds), "unknown")


def top1(output: Tensor, labels: Tensor) -> int:
    """Number of images that are classified right."""
    return int((output.argmax(1) == labels.to(torch.int64)).sum()) if output.dim() == 2 else 0
