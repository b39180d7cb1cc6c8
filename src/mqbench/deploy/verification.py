"""`verify`: the same batches through the simulation, the integer reference and a real engine."""

import math
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
from mqbench.deploy.float_ends import float_ends
from mqbench.deploy.lowering import lower
from mqbench.deploy.network import IntegerNetwork, integer_network
from mqbench.deploy.program import Program
from mqbench.deploy.runtimes._base import Runtime, Session
from mqbench.deploy.simulation import Simulation
from mqbench.errors import RequestError

Values = Mapping[str, Tensor]
VALUES_AT_ONCE = 2**25  # integers of a part of a batch: a few hundred megabytes


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
        file: an exported file of the runtime's form, or its artifact; None exports a temporary one.
        threads: that the engine uses.
        options: of the engine.

    Raises:
        RequestError: the engine is missing or refuses the network, no batches, inputs that do not fit it, or no
            integer tensors.
    """
    engine: Runtime = runtimes[runtime]  # type: ignore[index]
    engine.require()
    program = deployed if isinstance(deployed, Program) else lower(deployed)
    names = program.integer_values()
    if not names:
        raise RequestError("the network has no integer tensors to verify; give one from mqbench.convert")
    integer, rescaled = integer_network(program, engine.arithmetic)
    watched = list(dict.fromkeys([*names, *_joints(program), *float_ends(program)]))
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


class _Comparison:
    """Sums over batches; all computations walk through the program together, so that little is held."""

    def __init__(
        self, integer: IntegerNetwork, simulation: Simulation, engine: Session, unwatched: Session
    ) -> None:
        self.integer, self.simulation, self.engine, self.unwatched = integer, simulation, engine, unwatched
        self.program = integer.program
        kinds = {op.name: op.kind for op in self.program.operations}
        names = self.program.integer_values()
        self.layers = {name: LayerAgreement(name=name, kind=kinds[name]) for name in names}
        self.ends = float_ends(self.program)
        self.outputs = {name: LayerAgreement(name=name, kind=end.kind) for name, end in self.ends.items()}
        self.pairs = {"integer": Pair(), "simulation": Pair(), "reference": Pair()}
        self.images = self.labelled = 0
        self.correct = {"simulated": 0, "integer": 0, "engine": 0}
        self.watching_changes = 0
        self._images_at_once = max(1, VALUES_AT_ONCE // sum(self._size(name) for name in names))

    def _size(self, name: str) -> int:
        return math.prod(n for n in self.program.values[name].shape if n is not None)

    def add(self, inputs: tuple[Tensor, ...], labels: Tensor | None) -> None:
        """One batch, in parts that fit into memory."""
        inputs = tuple(self.integer.checked(inputs))
        for start in range(0, len(inputs[0]), self._images_at_once):
            part = slice(start, start + self._images_at_once)
            self._add(tuple(x[part] for x in inputs), None if labels is None else labels[part])

    @torch.no_grad()
    def _add(self, inputs: tuple[Tensor, ...], labels: Tensor | None) -> None:
        watched, plain = self.engine.run(*inputs), self.unwatched.run(*inputs)
        outputs = self.program.outputs
        self.watching_changes += sum(not torch.equal(plain[name], watched[name]) for name in outputs)
        integer, simulation = self._walk(inputs, {name: value.float() for name, value in watched.items()})
        for key, first, second in (
            ("integer", integer, plain),
            ("simulation", simulation, plain),
            ("reference", simulation, integer),
        ):
            found = [OutputMatch.of(first[name], second[name]) for name in outputs]
            total = replace(sum(found[1:], found[0]), images=found[0].images)
            self.pairs[key] += Pair(output=total)
        self.images += len(inputs[0])
        if labels is not None:
            self.labelled += len(labels)
            for name, values in (("simulated", simulation), ("integer", integer), ("engine", plain)):
                self.correct[name] += top1(values[outputs[0]], labels)

    def _walk(self, inputs: tuple[Tensor, ...], engine: Values) -> tuple[Values, Values]:
        """Compare every tensor of the engine; the outputs of integer reference and simulation."""
        start = dict(zip(self.program.inputs, inputs, strict=True))
        integer, simulation, integer_local, simulation_local = (dict(start) for _ in range(4))
        same = set(start)  # tensors that the reference, running on its own, has like the engine
        for op in self.program.operations:
            integer[op.name] = self.integer.compute(op, integer)
            simulation[op.name] = self.simulation.compute(op, simulation)
            fed_alike = same.issuperset(op.inputs)
            local = integer[op.name] if fed_alike else self.integer.compute(op, integer_local)
            simulated = self.simulation.compute(op, simulation_local)
            found = engine.get(op.name)
            if found is not None and op.name in self.layers:
                self._compare(op.name, integer[op.name], simulation[op.name], local, simulated, found)
            if found is not None and op.name in self.ends:
                self._compare_end(op.name, integer[op.name], local, simulated, found)
            if fed_alike if found is None else torch.equal(integer[op.name], found):
                same.add(op.name)
            integer_local[op.name] = local if found is None else found
            simulation_local[op.name] = simulated if found is None else found
            for held in (integer, simulation, integer_local, simulation_local):
                self.integer.forget(op, held)
        return integer, simulation

    def _compare(
        self, name: str, integer: Tensor, simulation: Tensor, local: Tensor, simulated: Tensor, found: Tensor
    ) -> None:
        free = Match.of(integer, found)
        alone = Match.of(simulation, found)
        self.layers[name] += LayerAgreement(
            name=name,
            kind=self.layers[name].kind,
            free=free,
            local=free if local is integer else Match.of(local, found),
            simulation=Match.of(simulated, found),
        )
        reference = Match.of(simulation, integer) if free.max_steps else alone
        for key, match in (("integer", free), ("simulation", alone), ("reference", reference)):
            self.pairs[key] += Pair(integers=match)

    def _compare_end(
        self, name: str, integer: Tensor, local: Tensor, simulated: Tensor, found: Tensor
    ) -> None:
        free, fed, simulation = (self.ends[name].match(x, found) for x in (integer, local, simulated))
        self.outputs[name] += replace(self.outputs[name], free=free, local=fed, simulation=simulation)

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
            outputs=tuple(self.outputs.values()),
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
