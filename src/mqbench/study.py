"""A study: a grid of settings with a name, kept as TOML."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mqbench.errors import RequestError, UnknownNameError
from mqbench.record import FLOAT, Setting

FOLDER = Path(__file__).parent / "studies"
DEFAULT = "default"

_PLURAL = {f"{name}s": name for name in ("architecture", "dataset", "algorithm", "backend", "seed")}
_TRAINING = (
    "epochs", "steps", "learning_rate", "weight_decay", "batch_size", "global_batch", "sync_bn", "weights",
)  # fmt: skip
_SWITCHES = (
    "sync_bn", "symmetric_weights", "symmetric_activations", "power_of_two", "adaptive_sign", "shared_concat",
)  # fmt: skip
_OF_FLOAT = ("architecture", "dataset", "algorithm", "seed", *_TRAINING)
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


Axes = Annotated[dict[str, tuple[Any, ...]], BeforeValidator(_axes)]


class Study(BaseModel):
    """A grid of settings.

    Args:
        name, title: of the study.
        axes: field of `Setting` (or its plural) to a value or a list of values. The grid is their product.
        include: further axes; each adds the grid once more, with its own values in place of the study's.
        exclude: settings of the grid (not of ``include``) that have one of the values of every axis of one
            of these are left out.

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

    @model_validator(mode="after")
    def _complete(self) -> "Study":
        for name in ("architecture", "dataset"):
            if name not in self.axes:
                raise ValueError(f"{name} is missing; give one or a list")
        if {} in self.exclude:
            raise ValueError("exclude: an empty table leaves out everything; give the axes that it is about")
        self._check_float()
        if next(self.settings(), None) is None:
            raise ValueError("exclude: nothing of the study is left; leave out less")
        return self

    def _check_float(self) -> None:
        """Refuse axes that no network of the study takes, rather than run it without them."""
        parts = [{**self.axes, **more} for more in self.include]
        idle = [] if any(map(_quantizes, parts)) or _quantizes(self.axes) else [*self.axes]
        idle += [
            name
            for more, all_ in zip(self.include, parts, strict=True)
            if not _quantizes(all_)
            for name in more
        ]
        names = ", ".join(dict.fromkeys(name for name in idle if name not in _OF_FLOAT))
        if names and "algorithm" not in self.axes:
            raise ValueError(f"algorithm is missing, and {names} needs one; give one or a list")
        if names:
            raise ValueError(
                f"the float network takes no {names}; give an algorithm that does, or leave it out"
            )

    def settings(self) -> Iterator[Setting]:
        """The settings of the study, in the order of the axes, each one once.

        The float networks that they start from are not among them unless ``algorithm`` has "float".
        """
        seen = set()
        for setting in self._all():
            if setting not in seen:
                seen.add(setting)
                yield setting

    def replaced(self, axes: Mapping[str, Any]) -> "Study":
        """The study with other values on some axes.

        What is left of it that only quantized networks take is dropped if there are none any more.

        Raises:
            RequestError: an unknown axis, a value that its axis does not take, or nothing is left.
        """
        new = _axes(axes)
        merged = {**self.axes, **new}
        if not _quantizes(merged) and not any(_quantizes({**merged, **more}) for more in self.include):
            merged = {name: values for name, values in merged.items() if name in _OF_FLOAT or name in new}
        fields = {name: getattr(self, name) for name in Study.model_fields}
        try:
            return Study(**{**fields, "axes": merged})
        except ValidationError as error:
            raise RequestError(explain(error)) from None

    def _all(self) -> Iterator[Setting]:
        for setting in _grid(self.axes):
            if not any(_matches(setting, partial) for partial in self.exclude):
                yield setting
        for more in self.include:
            yield from _grid({**self.axes, **more})


def _quantizes(axes: Mapping[str, tuple[Any, ...]]) -> bool:
    return any(name != FLOAT for name in axes.get("algorithm", (FLOAT,)))


def _grid(axes: Mapping[str, tuple[Any, ...]]) -> Iterator[Setting]:
    for values in product(*axes.values()):
        fields = dict(zip(axes, values, strict=True))
        if fields.get("algorithm", FLOAT) == FLOAT:  # it has no backend or bits; the grid does
            fields = {name: value for name, value in fields.items() if name in _OF_FLOAT}
        yield Setting(**fields)


def _matches(setting: Setting, partial: Mapping[str, tuple[Any, ...]]) -> bool:
    return all(getattr(setting, name) in values for name, values in partial.items())


def names() -> list[str]:
    """The studies that ship."""
    return sorted(str(path.relative_to(FOLDER).with_suffix("").as_posix()) for path in FOLDER.rglob("*.toml"))


def load_study(name: str | Path) -> Study:
    """A study that ships, by name, or one of a TOML file, by path.

    Raises:
        RequestError: no such study, or a file that is not one; the message names file and key.
    """
    path = Path(name)
    if path.suffix != ".toml":
        if str(name) not in names():
            unknown = UnknownNameError("study", str(name), names())
            raise RequestError(f"{unknown}, or the path of a .toml file")
        path = FOLDER / f"{name}.toml"
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"cannot read study {path}: {error.strerror}") from None
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


def explain(error: ValidationError) -> str:
    """One sentence on the first thing that is wrong."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    where = "".join(f"{part}: " for part in first["loc"] if isinstance(part, str) and part != "axes")
    if first["type"] == "value_error":
        return where + message
    return f"{where}{message[:1].lower()}{message[1:]}, got {first['input']!r}"
