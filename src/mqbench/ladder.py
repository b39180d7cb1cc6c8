"""From one setting to another, one switch at a time: which switch costs how many points.

The points that a switch costs depend on what has been switched before it. So a ladder walks in several orders;
the mean of a switch's cost over all orders is its Shapley value (Shapley, 1953): the costs add up to the whole
difference whatever the orders, and their range says how much the order decides.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from math import factorial
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mqbench import backends as backend_catalog
from mqbench.errors import RequestError, UnknownNameError
from mqbench.record import FLOAT, Setting

if TYPE_CHECKING:
    from mqbench.backends._base import Backend

# One switch turns all its fields of a setting.
SWITCHES: dict[str, tuple[str, ...]] = {
    "granularity": ("granularity",),
    "weight_symmetry": ("symmetric_weights",),
    "activation_symmetry": ("symmetric_activations",),
    "power_of_two": ("power_of_two",),
    "sign": ("adaptive_sign",),
    "graph": ("graph",),
    "concat": ("shared_concat",),
    "folding": ("bn_folding",),
    "first_last": ("first_last_bits",),
    "bits": ("bits",),
    "calibration": ("weight_calibration", "activation_calibration"),
    "algorithm": ("algorithm",),
}
_FIELDS = [name for fields in SWITCHES.values() for name in fields]
_ALL = 7  # switches of which every order is walked; 5040 of them


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """The way between two settings.

    Args:
        start, end: the settings.
        switches: names to the fields that differ and are switched together.
        orders: in which the switches are turned; each gives one path.
    """

    start: Setting
    end: Setting
    switches: Mapping[str, tuple[str, ...]]
    orders: tuple[tuple[str, ...], ...]

    def setting(self, turned: Iterable[str]) -> Setting:
        """The setting in which these switches stand as in ``end``, the others as in ``start``."""
        on = set(turned)
        if on >= set(self.switches):
            return self.end
        target = effective(self.end)
        fields = {name: target[name] for switch in on for name in self.switches[switch]}
        return _setting(self.start, {**effective(self.start), **fields})

    def path(self, order: Sequence[str]) -> list[Setting]:
        """The settings along one order, both ends among them."""
        return [self.setting(order[:count]) for count in range(len(order) + 1)]

    def settings(self) -> list[Setting]:
        """Every setting of every path, each once."""
        return list(dict.fromkeys(rung for order in self.orders for rung in self.path(order)))

    def through(self, possible: Callable[[Setting], bool]) -> "Ladder":
        """The same with the orders left out that lead through a setting that is not possible.

        Raises:
            RequestError: none is left.
        """
        known = {setting: possible(setting) for setting in self.settings()}
        orders = tuple(o for o in self.orders if all(known[rung] for rung in self.path(o)))
        if not orders:
            bad = next(setting for setting, fine in known.items() if not fine)
            raise RequestError(
                f"every order leads through a setting that cannot run, such as {described(self.start, bad)}; "
                "turn switches together, such as --switches power_of_two+algorithm"
            )
        return Ladder(start=self.start, end=self.end, switches=self.switches, orders=orders)

    def change(self, switch: str) -> str:
        """What a switch does, such as ``per_tensor -> per_channel``."""
        before, after = effective(self.start), effective(self.end)
        return ", ".join(f"{n} {before[n]} -> {after[n]}" for n in self.switches[switch])


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a switch costs, in points of accuracy (negative: it gains).

    Args:
        switch: its name.
        loss: mean over the orders.
        least, most: over the orders.
        alone, last: when it is turned first, and last of all; None if no order does so.
    """

    switch: str
    loss: float
    least: float
    most: float
    alone: float | None
    last: float | None


def ladder(
    start: Setting,
    end: Setting,
    *,
    switches: Sequence[str] | None = None,
    orders: int | None = 2,
    seed: int = 0,
) -> Ladder:
    """The way from one setting to another.

    Args:
        start, end: equal but for the backend and what a switch turns.
        switches: their order, names joined by ``+`` to be turned together; None takes every one that
            differs, ``graph`` and ``concat`` together.
        orders: how many to walk: 1 is the given order, 2 its reverse too, further ones are drawn; None is
            all of them.
        seed: of the draw.

    Raises:
        RequestError: the settings differ in something else, in nothing, or a switch does not exist.
    """
    for setting in (start, end):
        if setting.algorithm == FLOAT:
            raise RequestError("a ladder leads from one quantized network to another, got the float network")
    before, after = effective(start), effective(end)
    other = [
        name
        for name in Setting.model_fields
        if name not in (*_FIELDS, "backend") and getattr(start, name) != getattr(end, name)
    ]
    if other:
        raise RequestError(
            f"the two settings differ in {', '.join(other)}, which is no switch; make them equal"
        )
    differing = [switch for switch, fields in SWITCHES.items() if any(before[f] != after[f] for f in fields)]
    if not differing:
        raise RequestError(f"{start} and {end} differ in nothing that can be switched")
    grouped = _grouped(differing, switches)
    names = tuple(grouped)
    return Ladder(start=start, end=end, switches=grouped, orders=_orders(names, orders, seed))


def attribute(ladder: Ladder, values: Mapping[Setting, float]) -> list[Step]:
    """What each switch costs, the costliest first; the losses add up to start minus end.

    Args:
        ladder: whose settings were run.
        values: accuracy of each of `Ladder.settings`, 0 if not converged.

    Raises:
        KeyError: a setting has no value.
    """
    costs: dict[str, list[float]] = {switch: [] for switch in ladder.switches}
    alone: dict[str, float] = {}
    last: dict[str, float] = {}
    for order in ladder.orders:
        path = [values[setting] for setting in ladder.path(order)]
        for position, switch in enumerate(order):
            costs[switch].append(path[position] - path[position + 1])
        alone[order[0]], last[order[-1]] = costs[order[0]][-1], costs[order[-1]][-1]
    steps = [
        Step(
            switch=switch,
            loss=fmean(found),
            least=min(found),
            most=max(found),
            alone=alone.get(switch),
            last=last.get(switch),
        )
        for switch, found in costs.items()
    ]
    return sorted(steps, key=lambda step: -step.loss)


def effective(setting: Setting) -> dict[str, Any]:
    """The values of all switchable fields, the backend's where the setting has none."""
    library: Backend = backend_catalog[str(setting.backend)]
    values = {name: getattr(setting, name) for name in _FIELDS}
    values |= {**library.properties.given, **setting.overrides}
    for name in ("graph", "bn_folding"):
        if values[name] is None:
            values[name] = getattr(library, name)
    if values["graph"] == 1:  # concats are float there, so nothing is shared
        values["shared_concat"] = False
    return values


def described(base: Setting, setting: Setting) -> str:
    """A setting by what it has in place of another's."""
    names = [n for n in Setting.model_fields if getattr(setting, n) != getattr(base, n)]
    return f"{base} with {', '.join(f'{n} {getattr(setting, n)}' for n in names) or 'nothing else'}"


def _setting(base: Setting, values: Mapping[str, Any]) -> Setting:
    """The setting of ``base``'s backend with these values, each left out where it is the backend's own."""
    library: Backend = backend_catalog[str(base.backend)]
    own = {**library.properties.given, "graph": library.graph, "bn_folding": library.bn_folding}
    given = {
        n: None if n in own and own[n] == value and getattr(base, n) is None else value
        for n, value in values.items()
    }
    if values["graph"] == 1:
        given["shared_concat"] = None
    return Setting.model_validate({**base.model_dump(), **given})


def _grouped(differing: Sequence[str], asked: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    if asked is None:
        together = {"graph", "concat"} <= set(differing)
        names = [n for n in differing if n != "concat" or not together]
        asked = ["graph+concat" if n == "graph" and together else n for n in names]
    seen: list[str] = []
    for name in (part for group in asked for part in group.split("+")):
        if name not in SWITCHES:
            raise UnknownNameError("switch", name, SWITCHES)
        if name in seen:
            raise RequestError(f"the switch {name} is given twice")
        if name not in differing:
            raise RequestError(f"the settings do not differ in {name}; they differ in {', '.join(differing)}")
        seen.append(name)
    rest = [name for name in differing if name not in seen]
    if rest:
        raise RequestError(f"the settings differ in {', '.join(rest)} too; say when these are switched")
    return {group: tuple(f for part in group.split("+") for f in SWITCHES[part]) for group in asked}


def _orders(names: tuple[str, ...], count: int | None, seed: int) -> tuple[tuple[str, ...], ...]:
    if count is None:
        if len(names) > _ALL:
            raise RequestError(
                f"{len(names)} switches have {factorial(len(names))} orders; turn some together (a+b), or give a number"
            )
        return tuple(permutations(names))
    if count < 1:
        raise RequestError(f"orders must be at least 1, got {count}")
    found = dict.fromkeys([names, names[::-1]][:count])
    draw = random.Random(seed)
    for _ in range(100 * count):
        if len(found) >= min(count, factorial(len(names))):
            break
        found[tuple(draw.sample(names, len(names)))] = None
    return tuple(found)
