"""`verify`: the same batches through the simulation, the integer reference and a real engine."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from mqbench.deploy import bias as biases
from mqbench.deploy import runtimes
from mqbench.deploy.agreement import (
    Agreement,
    LayerAgreement,
    Match,
    OutputMatch,
    Pair,
    top1,
)
from mqbench.deploy.evaluation import batches_of
from mqbench.deploy.lowering import lower
from mqbench.deploy.network import IntegerNetwork, integer_network
from mqbench.deploy.program import Program
from mqbench.deploy.runtimes._base import Runtime, Session
from mqbench.deploy.simulation import Simulation
from mqbench.errors import RequestError

Values = Mapping[str, Tensor]


def verify(
    deployed: fx.GraphModule | Program,
    batches: Iterable[Any],
    *,
    runtime: str = "onnxruntime",
    file: str | Path | None = None,
    threads: int = 1,
    options: Mapping[str, Any] | None = None,
) -> Agreement:
    """Run batches through the simulation, the exact integer reference and an engine, and compare.

    Every integer tensor is compared twice: with all three running on their own, and with the reference (and
    the simulation) computed layer by layer *on the engine's own inputs*, so that one rounding does not blur
    all that follows.

    Args:
        deployed: from `mqbench.convert`, or a lowered program.
        batches: tensors, tuples of tensors for several inputs, or (inputs, integer labels) pairs.
        runtime: a name from ``mqbench.deploy.runtimes``.
        file: an exported file of the runtime's form; None exports a temporary one.
        threads: that the engine uses.
        options: of the engine.

    Raises:
        RequestError: the engine is missing or refuses the network, no batches, or no integer tensors.
    """
    engine: Runtime = runtimes[runtime]  # type: ignore[index]
    engine.require()
    program = deployed if isinstance(deployed, Program) else lower(deployed)
    names = program.integer_values()
    if not names:
        raise RequestError("the network has no integer tensors to verify; give one from mqbench.convert")
    integer, rescaled = integer_network(program, engine.arithmetic)
    watched = [*names, *_joints(program)]
    path = None if file is None else Path(file)

    def load(watch: list[str]) -> Session:
        return engine.load(integer.program, path, threads=threads, watch=watch, options=options)

    comparison = _Comparison(integer, Simulation(program), load(watched), load([]))
    for inputs, labels in batches_of(batches):
        comparison.add(inputs, labels)
    if not comparison.images:
        raise RequestError("verify needs at least one batch, got none")
    chosen = dict(engine.options) | dict(options or {})
    notes = [biases.about(rescaled)] if rescaled else []
    notes += _faults(engine, program, chosen, comparison)
    notes += [engine.one_step] if engine.one_step else []
    return comparison.agreement(
        runtime=runtime,
        version=engine.version,
        options=chosen,
        threads=threads,
        notes=tuple(notes),
    )


def bisect(
    deployed: fx.GraphModule | Program,
    *inputs: Tensor,
    runtime: str = "onnxruntime",
    threads: int = 1,
    options: Mapping[str, Any] | None = None,
) -> LayerAgreement | None:
    """The first integer tensor where the engine and the integer reference part, watching one tensor at a time.

    An engine that is asked for many tensors may fuse less; here it gives one tensor besides its output, and
    halves of the network are tried, so that about log2 of the number of layers are loaded. None if all
    tensors that were tried are equal.
    """
    engine: Runtime = runtimes[runtime]  # type: ignore[index]
    program = deployed if isinstance(deployed, Program) else lower(deployed)
    integer, _ = integer_network(program, engine.arithmetic)
    names = program.integer_values()
    expected = integer.values(*inputs, names=names)
    kinds = {op.name: op.kind for op in program.operations}
    found: LayerAgreement | None = None
    low, high = 0, len(names) - 1
    while low <= high:
        middle = (low + high) // 2
        name = names[middle]
        session = engine.load(integer.program, threads=threads, watch=[name], options=options)
        match = Match.of(expected[name], session.run(*inputs)[name])
        if match.max_steps:
            found, high = LayerAgreement(name=name, kind=kinds[name], free=match), middle - 1
        else:
            low = middle + 1
    return found


class _Comparison:
    """Sums over batches."""

    def __init__(
        self, integer: IntegerNetwork, simulation: Simulation, engine: Session, unwatched: Session
    ) -> None:
        self.integer, self.simulation, self.engine, self.unwatched = integer, simulation, engine, unwatched
        self.program = integer.program
        self.names = self.program.integer_values()
        kinds = {op.name: op.kind for op in self.program.operations}
        self.layers = {name: LayerAgreement(name=name, kind=kinds[name]) for name in self.names}
        self.pairs = {"integer": Pair(), "simulation": Pair(), "reference": Pair()}
        self.images = self.labelled = 0
        self.correct = {"simulated": 0, "integer": 0, "engine": 0}
        self.watching_changes = 0

    @torch.no_grad()
    def add(self, inputs: tuple[Tensor, ...], labels: Tensor | None) -> None:
        engine, integer = self.engine.run(*inputs), self.integer.values(*inputs)
        simulation = self.simulation.values(*inputs)
        outputs = self.program.outputs
        plain = self.unwatched.run(*inputs)
        self.watching_changes += sum(not torch.equal(plain[name], engine[name]) for name in outputs)
        given = {name: value for name, value in engine.items() if name not in outputs}
        local, simulated = self.integer.local(given, *inputs), self.simulation.local(given, *inputs)
        for name in self.names:
            self.layers[name] += LayerAgreement(
                name=name,
                kind=self.layers[name].kind,
                free=Match.of(integer[name], engine[name]),
                local=Match.of(local[name], engine[name]),
                simulation=Match.of(simulated[name], engine[name]),
            )
        whole = engine | plain  # outputs as the engine gives them when nobody watches
        self.pairs["integer"] += self._pair(integer, whole)
        self.pairs["simulation"] += self._pair(simulation, whole)
        self.pairs["reference"] += self._pair(simulation, integer)
        self.images += len(inputs[0])
        if labels is not None:
            self.labelled += len(labels)
            computed = (("simulated", simulation), ("integer", integer), ("engine", plain))
            for key, values in computed:
                self.correct[key] += top1(values[outputs[0]], labels)

    def _pair(self, first: Values, second: Values) -> Pair:
        integers = sum((Match.of(first[name], second[name]) for name in self.names), Match())
        outputs = [OutputMatch.of(first[name], second[name]) for name in self.program.outputs]
        total = sum(outputs[1:], outputs[0])
        return Pair(integers=integers, output=replace(total, images=outputs[0].images))

    def agreement(self, **about: Any) -> Agreement:
        if self.watching_changes:
            changed = (
                "watching tensors changes what the engine computes; outputs are those of the unwatched run"
            )
            about["notes"] = (*about["notes"], changed)
        accuracy = {key: 100 * right / self.labelled for key, right in self.correct.items() if self.labelled}
        return Agreement(
            images=self.images,
            integer=self.pairs["integer"],
            simulation=self.pairs["simulation"],
            reference=self.pairs["reference"],
            layers=tuple(self.layers.values()),
            nodes=tuple(self.unwatched.nodes()),
            accuracy=accuracy,
            **about,
        )


def _faults(
    engine: Runtime, program: Program, options: Mapping[str, Any], comparison: _Comparison
) -> list[str]:
    """Known faults that concern the program, what was seen of them, and what the engine's optimizer changed."""
    notes = []
    for fault in engine.faults:
        concerned = set(fault.concerns(program))
        if not concerned or (fault.options and fault.options.items() <= options.items()):
            continue
        seen = [x for x in comparison.layers.values() if x.name in concerned and x.local.max_steps > 1]
        found = (
            f"; seen in {len(seen)}, by up to {max(x.local.max_steps for x in seen)} steps" if seen else ""
        )
        listed = _listed(name for name in program.values if name in concerned)
        notes.append(f"{fault.name}: {fault.about}; concerns {listed}{found}; cure: {fault.cure}")
    altered = comparison.unwatched.altered()
    more = f" (and {len(altered) - 1} more such pairs)" if len(altered) > 1 else ""
    return [*notes, f"{altered[0]}{more}"] if altered else notes


def _joints(program: Program) -> list[str]:
    """Float tensors with several readers: watched too, so that islands between integers stay short."""
    found = program.readers()
    computed = (op.name for op in program.operations)
    return [name for name in computed if program.grid(name) is None and len(found[name]) > 1]


def _listed(names: Any) -> str:
    shown = list(names)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")
