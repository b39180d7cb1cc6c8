"""A study beside the paper: the cells that both have, and what a small study says about ImageNet."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from mqbench.metrics import Agreement, accuracy, agreement, cells
from mqbench.paper import tables
from mqbench.record import Record, Setting

_TABLES = (4, 5, 6, 7, 8, 10, 11)
# How a network is trained and from which weights may differ; what is quantized and how may not.
_TRAINING = (
    "epochs", "steps", "learning_rate", "weight_decay", "batch_size", "global_batch", "calibration_images", "weights",
    "seed", "float_seed", "float_epochs", "float_batch",
)  # fmt: skip
_SILENT = ("seed", "float_seed")


@dataclass(frozen=True, kw_only=True)
class Beside:
    """One cell of ours beside the paper's.

    Args:
        setting: of the cell, without its seed.
        tables: of the paper that have it.
        ours, papers: accuracy in percent, NC as 0; ours is the mean over seeds.
        difference: ours minus the paper's, in points.
        seeds: runs of ours.
        unlike: fields in which the training is not the paper's.
    """

    setting: Setting
    tables: tuple[int, ...]
    ours: float
    papers: float
    difference: float
    seeds: int
    unlike: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """How a study of one network and dataset ranks the cells of Table 7.

    Args:
        architecture, dataset: of the study.
        mean: agreement with the mean over the paper's architectures.
        each: agreement with each of them.
    """

    architecture: str
    dataset: str
    mean: Agreement
    each: dict[str, Agreement]


def beside(records: Iterable[Record]) -> list[Beside]:
    """The cells that the paper has too: equal architecture, dataset and quantization."""
    found = []
    for row, by_backend in cells(records).items():
        for backend, cell in by_backend.items():
            setting = row.model_copy(update={"backend": backend})
            known = _paper().get(identity(setting))
            if known is None or cell.mean is None:
                continue
            numbers, value = known
            found.append(
                Beside(
                    setting=setting,
                    tables=numbers,
                    ours=cell.mean,
                    papers=value,
                    difference=cell.mean - value,
                    seeds=cell.seeds,
                    unlike=_unlike(setting),
                )
            )
    return found


def proxies(records: Iterable[Record]) -> list[Proxy]:
    """Rank agreement with Table 7 for each architecture and dataset of a study that shares three cells with it.

    A cell is an algorithm on a backend at 4 bits; architecture and dataset are others. An architecture of the
    paper is compared with the others of the paper, not with itself.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.setting.architecture, record.setting.dataset), []).append(record)
    found = []
    for (architecture, dataset), group in groups.items():
        table = [r for r in tables.records(7) if r.setting.architecture != architecture]
        mean = agreement(group, table)
        if mean is None:
            continue
        names = dict.fromkeys(r.setting.architecture for r in table)
        each = {
            name: one
            for name in names
            if (one := agreement(group, [r for r in table if r.setting.architecture == name])) is not None
        }
        found.append(Proxy(architecture=architecture, dataset=dataset, mean=mean, each=each))
    return found


def identity(setting: Setting) -> Setting:
    """The setting with its training at the defaults: equal for cells that are compared."""
    defaults = {name: Setting.model_fields[name].default for name in _TRAINING}
    return setting.model_copy(update=defaults)


def _unlike(setting: Setting) -> tuple[str, ...]:
    return tuple(
        name
        for name in _TRAINING
        if name not in _SILENT and getattr(setting, name) != Setting.model_fields[name].default
    )


@cache
def _paper() -> dict[Setting, tuple[tuple[int, ...], float]]:
    """Every setting of the paper, the tables that have it, and its accuracy in the first of them."""
    found: dict[Setting, tuple[tuple[int, ...], float]] = {}
    for number in _TABLES:
        for record in tables.records(number):
            setting, value = identity(record.setting), accuracy(record)
            assert value is not None
            numbers, first = found.get(setting, ((), value))
            found[setting] = (*numbers, number), first
    return found
