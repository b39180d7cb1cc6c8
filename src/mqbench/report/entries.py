"""The leaderboard: one entry for the runs that differ in nothing but their seed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mqbench import backends, metrics
from mqbench.metrics import ACADEMIC
from mqbench.record import FLOAT, Record
from mqbench.report.certificates import passed
from mqbench.report.families import bits_name
from mqbench.report.table import TITLES

if TYPE_CHECKING:
    from mqbench.report.context import Context

# From the strongest evidence to none: label, and what it means.
DEPLOYABILITY = {
    "certified": "a certificate shows that an engine computes it",
    "certificate missed": "a certificate was made, and missed its bar",
    "deployable": "the library's own integers, rounding and graph; not yet certified",
    "academic": "no library computes this setting",
    "simulated only": "the algorithm has no integer form that a library runs",
    "float": "not quantized",
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One cell.

    Args:
        architecture, dataset, algorithm, bits: names; ``bits`` as in w4a4.
        backend: None for a float network.
        other: what else is not at its default and not the same in all rows.
        mean, spread: accuracy over the seeds in percent (NC counts as 0), and its sample deviation.
        gap: academic minus this, in points.
        seeds, not_converged, failed: counts of runs.
        best: of its column: equal network, data, backend, bits and so on.
        tied: not told apart from the best; None where there are too few seeds.
        label: a key of `DEPLOYABILITY`.
        runs: by seed.
    """

    architecture: str
    dataset: str
    algorithm: str
    backend: str | None
    bits: str
    other: str
    mean: float | None
    spread: float | None
    gap: float | None
    seeds: int
    not_converged: int
    failed: int
    best: bool
    tied: bool | None
    label: str
    runs: tuple[Record, ...]

    @property
    def is_nc(self) -> bool:
        """No seed converged."""
        return 0 < self.seeds == self.not_converged


def entries(context: "Context") -> list[Entry]:
    """All cells: by network and data, then backend in the paper's order and bits, the most accurate first."""
    runs = _by_cell(context.quantized)
    found = []
    for row in context.rows:
        for backend, cell in row["backends"].items():
            own = runs[_place(row | {"backend": backend})]
            found.append(
                Entry(
                    architecture=row["architecture"],
                    dataset=row["dataset"],
                    algorithm=row["algorithm"],
                    backend=backend,
                    bits=bits_name(row["bits"]),
                    other=other_of(row),
                    mean=cell["mean"],
                    spread=cell["spread"],
                    gap=cell["gap"],
                    seeds=cell["seeds"],
                    not_converged=cell["not_converged"],
                    failed=cell["failed"],
                    best=cell["best"],
                    tied=cell["indistinguishable"],
                    label=_label(context, own, backend, deployable=cell["deployable"]),
                    runs=own,
                )
            )
    found += _floats(context.records)
    return sorted(found, key=_position)


def _position(entry: Entry) -> tuple[Any, ...]:
    known = list(TITLES)
    backend = known.index(entry.backend) if entry.backend in known else len(known)
    place = (entry.dataset, entry.architecture, entry.backend is not None)
    return (*place, backend, entry.backend or "", entry.bits, entry.other, -(entry.mean or 0.0))


def _by_cell(records: Iterable[Record]) -> dict[str, tuple[Record, ...]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(_place(record.setting.model_dump(mode="json")), []).append(record)
    return {place: tuple(sorted(runs, key=lambda r: r.setting.seed)) for place, runs in groups.items()}


def _place(fields: dict[str, Any]) -> str:
    names = sorted(Record.model_fields["setting"].annotation.model_fields)  # type: ignore[union-attr]
    return repr([fields[name] for name in names if name != "seed"])


def other_of(row: Mapping[str, Any]) -> str:
    """The label of a row of `rows` without its bits."""
    return " ".join(part for part in row["label"].split(" ") if part != bits_name(row["bits"]))


def _label(context: "Context", runs: Sequence[Record], backend: str, *, deployable: bool) -> str:
    given = [c for run in runs for c in context.certificates.get(run.setting.key, ())]
    if given:
        return "certified" if passed(given) else "certificate missed"
    if not deployable:
        return "simulated only"
    known: Any = backends
    integer = known[backend].integer if backend in known else backend != ACADEMIC
    return "deployable" if integer else "academic"


def _floats(records: Iterable[Record]) -> list[Entry]:
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        setting = record.setting
        if setting.algorithm == FLOAT:
            place = (setting.architecture, setting.dataset, setting.epochs, setting.steps, setting.weights)
            groups.setdefault(place, []).append(record)
    found = []
    for (architecture, dataset, epochs, steps, weights), runs in groups.items():
        cell = metrics.cell(runs)
        said = {"{} ep": epochs, "{} steps": steps, "weights {}": weights}
        found.append(
            Entry(
                architecture=architecture,
                dataset=dataset,
                algorithm=FLOAT,
                backend=None,
                bits=FLOAT,
                other=" ".join(text.format(value) for text, value in said.items() if value is not None),
                mean=cell.mean,
                spread=cell.spread,
                gap=None,
                seeds=cell.seeds,
                not_converged=cell.not_converged,
                failed=cell.failed,
                best=False,
                tied=None,
                label=FLOAT,
                runs=tuple(sorted(runs, key=lambda r: r.setting.seed)),
            )
        )
    return found
