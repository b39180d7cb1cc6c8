"""A study: a grid of settings with a name, kept as TOML."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mqbench.errors import RequestError, UnknownNameError, explain
from mqbench.grid import OF_FLOAT, Grid, Override, Settings, quantizes
from mqbench.record import Setting

FOLDER = Path(__file__).parent / "studies"
DEFAULT = "default"

_PLURAL = {f"{name}s": name for name in ("architecture", "dataset", "algorithm", "backend", "tool", "seed")}
_SWITCHES = (
    "sync_bn", "symmetric_weights", "symmetric_activations", "power_of_two", "adaptive_sign", "shared_concat",
)  # fmt: skip
_PAIR = re.compile(r"w(\d+)a(\d+)|(\d+)")


def _bits(value: Any) -> Any:
    if isinstance(value, list | tuple) and len(value) == 2:
        return tuple(value)
    match = None if isinstance(value, float) else _PAIR.fullmatch(str(value))
    if match is None:
        raise RequestError(f'bits: {value!r} is not a number of bits or a pair such as "w4a8"')
    weight, activation, both = match.groups()
    return (int(weight or both), int(activation or both))


def _axis(name: str, given: Any) -> tuple[Any, ...]:
    """The values of one axis, each one checked by `Setting` itself."""
    values = tuple(given) if isinstance(given, list | tuple) else (given,)
    if not values:
        raise RequestError(f"{name}: the list is empty; give at least one value")
    checked = []
    for value in values:
        if isinstance(value, bool) and name not in _SWITCHES:
            raise RequestError(f"{name}: {str(value).lower()} is not a value of it")
        fields = {"architecture": "-", "dataset": "-", "algorithm": "-"}
        fields[name] = _bits(value) if name == "bits" else value
        try:
            checked.append(getattr(Setting.model_validate(fields), name))
        except ValidationError as error:
            raise RequestError(explain(error)) from None
    return tuple(dict.fromkeys(checked))


def _axes(given: Any) -> Any:
    if not isinstance(given, Mapping):
        raise RequestError(f"got {given!r} where a table of axes is expected, such as {{ bits = 8 }}")
    axes = {}
    for key, value in given.items():
        name = _PLURAL.get(key, key)
        if name not in Setting.model_fields:
            raise UnknownNameError("key", key, Setting.model_fields)
        if name in axes:
            raise RequestError(f"{name} is given twice, in the singular and in the plural")
        axes[name] = _axis(name, value)
    return axes


def _overrides(given: Any) -> Any:
    """Tables of ``where`` (axes) and ``set`` (one value a field)."""
    if not isinstance(given, list | tuple):
        raise RequestError(f"got {given!r} where a list of tables with where and set is expected")
    return [_override(table) for table in given]


def _override(given: Any) -> Any:
    if isinstance(given, Override):
        return given
    if not isinstance(given, Mapping) or not {"set"} <= set(given) <= {"where", "set"}:
        raise RequestError(f"got {given!r} where a table of where and set is expected")
    changes = _axes(given["set"])
    for name, values in changes.items():
        if name == "algorithm":
            raise RequestError("algorithm cannot be set; include the other algorithm instead")
        if len(values) > 1:
            raise RequestError(f"{name} is set to {len(values)} values; give one")
    if not changes:
        raise RequestError("set is empty; give at least one value")
    return Override(
        where=_axes(given.get("where", {})), set={name: value for name, (value,) in changes.items()}
    )


Axes = Annotated[dict[str, tuple[Any, ...]], BeforeValidator(_axes)]


class Study(BaseModel):
    """A grid of settings.

    Args:
        name, title: of the study.
        axes: field of `Setting` (or its plural) to a value or a list of values. The grid is their product.
        include: further axes; each adds the grid once more, with its own values in place of the study's.
        exclude: settings of the grid (not of ``include``) that have one of the values of every axis of one
            of these are left out.
        override: ``where`` (axes, as in ``exclude``) and ``set`` (a value a field): settings of the grid and of
            ``include`` that are there get these values instead, a float network those that it takes.

    Raises:
        pydantic.ValidationError: an unknown axis, or a value that its field of `Setting` does not take.

    >>> axes = {"architecture": "a", "dataset": "d", "algorithms": ["lsq", "pact"]}
    >>> [setting.algorithm for setting in Study(name="two", axes=axes).settings()]
    ['lsq', 'pact']
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    title: str = ""
    axes: Axes
    include: tuple[Axes, ...] = ()
    exclude: tuple[Axes, ...] = ()
    override: Annotated[tuple[Override, ...], BeforeValidator(_overrides)] = ()

    @model_validator(mode="after")
    def _complete(self) -> "Study":
        for name in ("architecture", "dataset"):
            if name not in self.axes:
                raise ValueError(f"{name} is missing; give one or a list")
        if {} in self.exclude:
            raise ValueError("exclude: an empty table leaves out everything; give the axes that it is about")
        self._check_float()
        self._check_overrides()
        for _ in self.settings().examples():
            pass  # each can be made
        if next(iter(self.settings()), None) is None:
            raise ValueError("exclude: nothing of the study is left; leave out less")
        return self

    def _check_float(self) -> None:
        """Refuse axes that no network of the study takes, rather than run it without them."""
        parts = [{**self.axes, **more} for more in self.include]
        idle = [] if any(map(quantizes, parts)) or quantizes(self.axes) else [*self.axes]
        idle += [
            name
            for more, all_ in zip(self.include, parts, strict=True)
            if not quantizes(all_)
            for name in more
        ]
        names = ", ".join(dict.fromkeys(name for name in idle if name not in OF_FLOAT))
        if names and "algorithm" not in self.axes:
            raise ValueError(f"algorithm is missing, and {names} needs one; give one or a list")
        if names:
            raise ValueError(
                f"the float network takes no {names}; give an algorithm that does, or leave it out"
            )

    def _check_overrides(self) -> None:
        for override in self.override:
            for axes in (self.axes, *({**self.axes, **more} for more in self.include)):
                for name in override.set:
                    if len(axes.get(name, ())) > 1:
                        raise ValueError(
                            f"override: {name} has several values in the study, which would become one; "
                            "leave it out of the override, or include what is to have another value"
                        )

    def settings(self) -> Settings:
        """The settings of the study, in the order of the axes, each one once; made as they are read.

        The float networks that they start from are not among them unless ``algorithm`` has "float".
        """
        included = [Grid({**self.axes, **more}, self.override) for more in self.include]
        return Settings([Grid(self.axes, self.override, self.exclude), *included])

    def replaced(self, axes: Mapping[str, Any]) -> "Study":
        """The study with other values on some axes, which no override then changes.

        An included grid that has such an axis of its own keeps those of its values that are asked for, and is left
        out if there are none, or if its own values cannot go with what is asked for: what is asked for by name is all
        that there is. What is left of the study that only
        quantized networks take is dropped if there are none any more.

        Raises:
            RequestError: an unknown axis, a value that its axis does not take, or nothing is left.
        """
        new = _axes(axes)
        merged = {**self.axes, **new}
        both = (
            {n: tuple(v for v in more[n] if v in new.get(n, more[n])) for n in more} for more in self.include
        )
        include = tuple(more for more in both if all(more.values()) and _can_be(merged, more))
        if not quantizes(merged) and not any(quantizes({**merged, **more}) for more in include):
            merged = {name: values for name, values in merged.items() if name in OF_FLOAT or name in new}
        fields = {name: getattr(self, name) for name in Study.model_fields}
        fields["include"] = include
        fields["override"] = [
            Override(where=override.where, set=kept)
            for override in self.override
            if (kept := {name: value for name, value in override.set.items() if name not in new})
        ]
        try:
            return Study(**{**fields, "axes": merged})
        except ValidationError as error:
            raise RequestError(explain(error)) from None


def _can_be(axes: Axes, more: Axes) -> bool:
    """Whether the values that a grid is included with can go with the others, if these can go without it."""
    return _can_be_made({**axes, **more}) or not _can_be_made(axes)


def _can_be_made(axes: Axes) -> bool:
    try:
        list(Grid(axes).examples())
    except RequestError:
        return False
    return True


def names() -> list[str]:
    """The studies that ship."""
    return sorted(str(path.relative_to(FOLDER).with_suffix("").as_posix()) for path in FOLDER.rglob("*.toml"))


def load_study(name: str | Path) -> Study:
    """A study that ships, by name, or one of a TOML file, by path.

    Raises:
        RequestError: no such study, or a file that is not one; the message names file and key.
    """
    path = Path(name)
    if path.suffix != ".toml" and (len(path.parts) == 1 or str(name) in names()):
        if str(name) not in names():
            unknown = UnknownNameError("study", str(name), names())
            raise RequestError(f"{unknown}, or the path of a .toml file")
        path = FOLDER / f"{name}.toml"
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"cannot read study {path}: {error.strerror}") from None
    except RecursionError:
        raise RequestError(f"study {path} is not valid: its lists are too deep") from None
    except ValueError as error:
        raise RequestError(f"study {path} is not valid TOML: {error}") from None
    strange = set(given) - _OWN - set(_PLURAL) - set(Setting.model_fields)
    if strange:
        allowed = _OWN | set(Setting.model_fields)
        raise RequestError(f"study {path}: {UnknownNameError('key', min(strange), allowed)}")
    own = {"name": path.stem, **{key: given.pop(key) for key in [*given] if key in _OWN}}
    try:
        return Study(**own, axes=given)
    except ValidationError as error:
        raise RequestError(f"study {path}: {explain(error)}") from None


_OWN = set(Study.model_fields) - {"axes"}
