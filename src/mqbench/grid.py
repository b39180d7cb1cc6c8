"""Grids of settings that are enumerated as they are read and never held: a million cost no memory."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mqbench.errors import RequestError, explain
from mqbench.record import FLOAT, Setting

TRAINING = (
    "epochs", "steps", "learning_rate", "weight_decay", "batch_size", "global_batch", "sync_bn", "weights",
)  # fmt: skip
OF_FLOAT = ("architecture", "dataset", "algorithm", "seed", *TRAINING)
_LENGTHS = {"epochs", "steps"}  # of which a setting has one

Axes = Mapping[str, tuple[Any, ...]]


class Override(BaseModel):
    """Other values for some of the settings of a grid.

    Args:
        where: settings that have one of the values of every one of these axes, before any override.
        set: field to the one value that they get; of two overrides that set it the later counts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    where: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    set: Annotated[dict[str, Any], Field(min_length=1)]


class Grid:
    """The product of axes, less what is excluded, in the order of the axes, each setting once.

    No field with several values may be overridden: so two points never become the same setting.
    A float network takes only `OF_FLOAT`; points that differ in the rest are one.
    """

    def __init__(self, axes: Axes, overrides: Sequence[Override] = (), exclude: Sequence[Axes] = ()) -> None:
        self.axes, self.overrides, self.exclude = axes, overrides, exclude

    def __iter__(self) -> Iterator[Setting]:
        idle = [(name, values[0]) for name, values in self.axes.items() if name not in OF_FLOAT]
        for point in product(*self.axes.values()):
            fields = dict(zip(self.axes, point, strict=True))
            # of the points that are one float network, the first
            if not _is_float(fields) or all(fields[name] == first for name, first in idle):
                setting = self._made(fields)
                if not self._excludes(setting):
                    yield setting

    def __contains__(self, setting: Setting) -> bool:
        fields = {}
        for name, values in self.axes.items():
            value = getattr(setting, name)
            if len(values) == 1 or (setting.algorithm == FLOAT and name not in OF_FLOAT):
                value = values[0]
            elif value not in values:
                return False
            fields[name] = value
        return self._made(fields) == setting and not self._excludes(setting)

    def examples(self) -> Iterator[Setting]:
        """A few points that between them have every value of every axis."""
        first = {name: values[0] for name, values in self.axes.items()}
        quantized = [name for name in self.axes.get("algorithm", ()) if name != FLOAT]
        if quantized:
            first["algorithm"] = quantized[0]
        yield self._made(first)
        for name, values in self.axes.items():
            for value in values:
                if value != first[name]:
                    yield self._made({**first, name: value})

    def _made(self, fields: dict[str, Any]) -> Setting:
        if _is_float(fields):  # it has no backend or bits; the grid does
            fields = {name: value for name, value in fields.items() if name in OF_FLOAT}
        setting = _setting(fields)
        changes: dict[str, Any] = {}
        for override in self.overrides:
            if matches(setting, override.where):
                changes |= override.set
        if setting.algorithm == FLOAT:
            changes = {name: value for name, value in changes.items() if name in OF_FLOAT}
        if not changes:
            return setting
        if _LENGTHS & set(changes):
            fields = {name: value for name, value in fields.items() if name not in _LENGTHS}
        return _setting({**fields, **changes})

    def _excludes(self, setting: Setting) -> bool:
        return any(matches(setting, partial) for partial in self.exclude)


class Settings:
    """The distinct settings of several grids, in their order; may be read any number of times."""

    def __init__(self, grids: Sequence[Grid]) -> None:
        self.grids = grids

    def __iter__(self) -> Iterator[Setting]:
        for index, grid in enumerate(self.grids):
            for setting in grid:
                if not any(setting in earlier for earlier in self.grids[:index]):
                    yield setting

    def __contains__(self, setting: Setting) -> bool:
        return any(setting in grid for grid in self.grids)

    def examples(self) -> Iterator[Setting]:
        """A few settings that between them have every value of every axis."""
        for grid in self.grids:
            yield from grid.examples()


def _setting(fields: Mapping[str, Any]) -> Setting:
    try:
        return Setting(**fields)
    except ValidationError as error:
        raise RequestError(explain(error)) from None


def matches(setting: Setting, partial: Axes) -> bool:
    """Whether a setting has one of the values of every axis."""
    return all(getattr(setting, name) in values for name, values in partial.items())


def quantizes(axes: Axes) -> bool:
    """Whether a network of these axes is quantized."""
    return any(name != FLOAT for name in axes.get("algorithm", (FLOAT,)))


def _is_float(fields: Mapping[str, Any]) -> bool:
    return bool(fields.get("algorithm", FLOAT) == FLOAT)
