"""Records that differ in nothing but a few fields, so that these may be compared in one picture."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from mqbench.record import FLOAT, Record, Setting
from mqbench.report.table import TITLES

Item = TypeVar("Item")

_NAMES = ("architecture", "dataset", "algorithm", "backend", "bits", "seed")
_OWN = "as given by the backend"
_SHORT: dict[str, str] = {
    "bn_folding": "folding",
    "quantizer_weight_decay": "scale L2",
    "activation_calibration": "a",
    "weight_calibration": "w",
    "first_last_bits": "first and last bits",
    "learning_rate": "lr",
    "weight_decay": "L2",
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """One run for each value of a few fields.

    Args:
        title: what the runs have in common.
        runs: name of the value to its run, that of the lowest seed.
        backend: of all runs; None if that is what differs.
    """

    title: str
    runs: dict[str, Record]
    backend: str | None


def families(
    records: Iterable[Record], *fields: str, usable: Callable[[Record], bool] = lambda record: True
) -> list[Family]:
    """Families with two values or more, academic ones first; float and failed runs are in none.

    Args:
        records: of any kind.
        fields: of a setting, that may differ.
        usable: whether a run has what the picture needs.
    """
    groups: dict[Setting, dict[str, Record]] = {}
    for record in sorted(records, key=lambda r: r.setting.seed):
        setting = record.setting
        if setting.algorithm == FLOAT or record.outcome == "failed":
            continue
        base = alike(setting, *fields, "seed")
        group = groups.setdefault(base, {})
        name = value_name(setting, fields)
        if name not in group and usable(record):
            group[name] = record
    found = [
        Family(
            title=described(next(iter(runs.values())).setting, leave_out=(*fields, "seed")),
            runs=dict(sorted(runs.items())) if fields != ("backend",) else _by_backend(runs),
            backend=None if "backend" in fields else base.backend,
        )
        for base, runs in groups.items()
        if len(runs) > 1
    ]
    # then those that compare most, then those with most at its default, which has the fewest words
    return sorted(found, key=_rank)


def _rank(family: Family) -> tuple[bool, int, int, tuple[int, int]]:
    first = next(iter(family.runs.values()))
    return family.backend not in ("academic", None), -len(family.runs), len(family.title), _bits(first)


def variants(records: Iterable[Record]) -> list[tuple[str, list[Record]]]:
    """Quantized records by all that is not architecture, algorithm, backend or seed.

    The largest group comes first, then that of the fewest bits.
    """
    groups: dict[Setting, list[Record]] = {}
    for record in records:
        if record.setting.algorithm != FLOAT:
            base = alike(record.setting, "architecture", "algorithm", "backend", "seed")
            groups.setdefault(base, []).append(record)
    named = [
        (described(base, leave_out=("architecture", "algorithm", "backend", "seed")), runs)
        for base, runs in groups.items()
    ]
    return sorted(named, key=lambda pair: (-len(pair[1]), _bits(pair[1][0])))


def _bits(record: Record) -> tuple[int, int]:
    return record.setting.bits or (0, 0)


def in_turn(given: Iterable[Iterator[Item]], together: int = 1) -> Iterator[Item]:
    """So many items of each iterator, then so many more, until all have ended; so the first few are of all kinds.

    >>> "".join(in_turn([iter("abc"), iter("x")]))
    'axbc'
    """
    left = list(given)
    while left:
        for one in list(left):
            found = list(islice(one, together))
            yield from found
            if len(found) < together:
                left.remove(one)


def alike(setting: Setting, *fields: str) -> Setting:
    """The same for all settings that are equal but for these fields; not a setting that could be run."""
    return setting.model_copy(update=dict.fromkeys(fields))


def described(setting: Setting, leave_out: Sequence[str] = ()) -> str:
    """What a setting is, in a few words: names, bits, and whatever is not at its default.

    >>> described(Setting(architecture="resnet18", dataset="imagenet", algorithm="lsq", backend="tvm", graph=2))
    'resnet18, imagenet, lsq, TVM, w4a4, graph 2, seed 0'
    """
    parts = [
        _named(name, getattr(setting, name))
        for name in _NAMES[:-1]
        if name not in leave_out and getattr(setting, name) is not None
    ]
    parts += [
        _named(name, value)
        for name, field in Setting.model_fields.items()
        if name not in (*_NAMES, *leave_out) and (value := getattr(setting, name)) != field.default
    ]
    return ", ".join(parts if "seed" in leave_out else [*parts, f"seed {setting.seed}"])


def value_name(setting: Setting, fields: Sequence[str]) -> str:
    """What a run is called by the fields that differ."""
    values = [getattr(setting, name) for name in fields]
    if all(value is None for value in values):
        return _OWN
    return ", ".join(_named(n, v) for n, v in zip(fields, values, strict=True) if v is not None)


def bits_name(bits: Sequence[int] | None) -> str:
    """Bits of weights and activations as they are written on the command line."""
    return "float" if bits is None else "w{}a{}".format(*bits)


def backend_name(name: str | None) -> str:
    """A backend as it writes itself."""
    return "-" if name is None else TITLES.get(name, name)


def _named(name: str, value: object) -> str:
    if name == "bits":
        return bits_name(value)  # type: ignore[arg-type]
    if name == "backend":
        return backend_name(str(value))
    if name in _NAMES:
        return str(value)
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{_SHORT.get(name, name.replace('_', ' '))} {shown}"


def _by_backend(runs: dict[str, Record]) -> dict[str, Record]:
    known = [name for name in TITLES.values() if name in runs]
    return {name: runs[name] for name in [*known, *sorted(runs.keys() - set(known))]}
