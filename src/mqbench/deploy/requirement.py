"""The bar that an artifact must pass: how far the engine may be from the integer reference."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import inf

from mqbench.deploy.agreement import Agreement, Match
from mqbench.deploy.program import Program, Quantize
from mqbench.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """A bar; fields that are None ask for nothing.

    Args:
        exact: least fraction of equal integers in every tensor, on the engine's own inputs; below 1 a single
            integer may always differ, which is more than a thousandth of a small tensor.
        steps: largest difference in quantization steps there.
        free: the same for integer reference and engine each running on its own, over all tensors: least
            fraction of equal integers.
        flips: images whose top-1 class differs between integer reference and engine.
        drop: points of top-1 that the engine may lose against the simulation; below 0 it must gain.
    """

    exact: float | None = None
    steps: int | None = None
    free: float | None = None
    flips: int | None = None
    drop: float | None = None

    @classmethod
    def parse(cls, text: str, program: Program | None = None, *, exact_engine: bool = True) -> "Requirement":
        """From ``exact``, ``one-step``, ``none`` or ``exact=0.999,steps=1,free=0.9,flips=0,drop=0.5``.

        ``auto`` is ``exact`` where no float tensor comes between integers and the reference knows the engine's
        rounding to the bit (``exact_engine``), ``one-step`` otherwise.

        Raises:
            RequestError: it is written in another way.
        """
        if text == "auto":
            exact = exact_engine and (program is None or is_all_integer(program))
            text = "exact" if exact else "one-step"
        if text in _NAMED:
            return _NAMED[text]
        values: dict[str, float | int] = {}
        for part in text.split(","):
            name, _, value = part.strip().partition("=")
            kind = {"exact": float, "free": float, "drop": float, "steps": int, "flips": int}.get(name)
            try:
                if kind is None:
                    raise ValueError(name)
                values[name] = kind(value)
            except ValueError:
                names = ", ".join(field.name for field in fields(cls))
                raise RequestError(
                    f"require must be one of {', '.join(['auto', *_NAMED])}, or NAME=NUMBER of {names} with commas "
                    f"between them, got {text!r}"
                ) from None
        for name, number in values.items():
            least, most = (-inf, inf) if name == "drop" else (0, 1 if name in ("exact", "free") else inf)
            if not least <= number <= most:
                allowed = "from 0 to 1" if most == 1 else "0 or more" if least == 0 else "a number"
                raise RequestError(f"{name} in a requirement must be {allowed}, got {number:g}")
        return cls(**values)  # type: ignore[arg-type]

    def missed(self, agreement: Agreement, accuracy: Mapping[str, float]) -> list[str]:
        """Sentences that say where the bar is missed; empty if it is passed.

        Raises:
            RequestError: the bar is one of accuracy, which was not measured.
        """
        if not {"simulated", "engine"} <= accuracy.keys():
            self.check_without_labels()
        return [*self._layers(agreement), *self._network(agreement, accuracy)]

    def check_without_labels(self) -> None:
        """Raise `RequestError` if the bar is one of accuracy."""
        if self.drop is not None:
            raise RequestError("drop asks for accuracy, and these images have no labels")

    def _layers(self, agreement: Agreement) -> list[str]:
        said = []
        for layer in (*agreement.layers, *agreement.outputs):
            where = f"{layer.name} ({layer.kind})"
            found = layer.local
            if self.exact is not None and not _enough(found, self.exact):
                said.append(
                    f"{where}: {found.exact_fraction:.6f} of {found.count} integers equal on the engine's own "
                    f"inputs, {self.exact:g} required"
                )
            if self.steps is not None and found.max_steps > self.steps:
                said.append(
                    f"{where}: off by {found.max_steps} steps on the engine's own inputs, {self.steps} allowed"
                )
        return said

    def _network(self, agreement: Agreement, accuracy: Mapping[str, float]) -> list[str]:
        said = []
        if self.free is not None and agreement.exact_fraction < self.free:
            first = next((layer.name for layer in agreement.layers if layer.free.max_steps), "none")
            said.append(
                f"{agreement.exact_fraction:.6f} of all integers equal, {self.free:g} required; first at {first}"
            )
        if self.flips is not None and agreement.top1_flips > self.flips:
            said.append(f"{agreement.top1_flips} images change their class, {self.flips} allowed")
        if self.drop is not None and (lost := accuracy["simulated"] - accuracy["engine"]) > self.drop:
            said.append(f"the engine loses {lost:.2f} points of accuracy, {self.drop:g} allowed")
        return said


def _enough(found: Match, exact: float) -> bool:
    if found.exact_fraction >= exact:
        return True
    return exact < 1 and found.count - found.equal <= 1


_NAMED = {
    "exact": Requirement(exact=1.0, steps=0, free=1.0, flips=0),
    "one-step": Requirement(exact=0.999, steps=1),
    "none": Requirement(),
}


def is_all_integer(program: Program) -> bool:
    """Nothing but the inputs is quantized: no float tensor, which engines round in their own ways, comes between."""
    return all(op.inputs[0] in program.inputs for op in program.operations if isinstance(op, Quantize))
