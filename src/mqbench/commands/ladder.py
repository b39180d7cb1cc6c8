"""Walk from one setting to another, one switch at a time."""

import re
import sys
import tomllib
from collections import Counter
from dataclasses import asdict
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from mqbench import catalog, metrics
from mqbench.commands._options import Count, Files, Flag, Json
from mqbench.commands._print import console_of, print_json
from mqbench.errors import IncompatibleError, RequestError, explain
from mqbench.ladder import Ladder, attribute, described
from mqbench.ladder import ladder as make_ladder
from mqbench.record import Record, Setting
from mqbench.store import Store
from mqbench.sweep import check_names, sweep

Values = Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)]


def ladder(
    *,
    start: Annotated[str, Parameter(name="--from")],
    end: Annotated[str, Parameter(name="--to")],
    architecture: str = "digits_resnet",
    dataset: str = "digits",
    algorithm: str = "lsq",
    bits: str = "4",
    seeds: Values = ("0",),
    setting: Values = (),
    switches: Values = (),
    orders: str = "2",
    plan: Flag = False,
    store: str = "runs",
    jobs: Count = 1,
    data: str | None = None,
    executor: str = "local",
    load: Files = (),
    as_json: Json = False,
) -> int:
    """Walk from one setting to another, one switch at a time, and print what each switch costs.

    Args:
        start: A backend, and what is different: academic, or academic:first_last_bits=4:graph=2.
        end: The same of the other end, such as tvm.
        architecture: Of both.
        dataset: Of both.
        algorithm: Of both, unless an end says otherwise.
        bits: Of both, unless an end says otherwise; w4a8 for a pair.
        seeds: One walk each.
        setting: Other fields of both, such as epochs=2.
        switches: Their order, separated by commas; a+b turns a and b together.
        orders: How many orders to walk: 1 is the given one, 2 its reverse too; or all.
        plan: Print the settings instead of running them.
        store: Folder or URL of the records.
        jobs: Runs at a time.
        data: Folder of the datasets; MQBENCH_DATA if not given.
        executor: Where runs are made.
        load: Python files that add algorithms and so on.
        as_json: Print JSON.

    Examples:
        mqbench ladder --from academic --to tvm
        mqbench ladder --from academic:graph=2 --to snpe --algorithm ptq --bits 3 --setting epochs=0 --orders 1
    """
    for path in load:
        catalog.load(path)
    numbers = _numbers(seeds)
    common = _fields(setting) | {"architecture": architecture, "dataset": dataset, "seed": numbers[0]}
    ends = [_end(text, {"algorithm": algorithm, "bits": bits, **common}) for text in (start, end)]
    check_names(ends)
    names = [name for text in switches for name in text.split(",")]
    every = make_ladder(*ends, switches=names or None, orders=_count(orders))
    way = every.through(_possible)
    left_out = len(every.orders) - len(way.orders)
    if plan:
        _show_plan(way, as_json=as_json)
        return 0
    wanted = [rung.model_copy(update={"seed": seed}) for seed in numbers for rung in way.settings()]
    from mqbench.progress import Display

    with Display(Console(stderr=True), quiet=as_json) as display:
        made = sweep(
            wanted, Store(store), executor=executor, jobs=jobs, listener=display, data=data, load=load
        )
    if left_out:
        note = f"{left_out} of {len(every.orders)} orders lead through settings that cannot run, and are left out"
        print(f"mqbench: {note}", file=sys.stderr)
    _show(way, {record.setting: record for record in made}, numbers, as_json=as_json)
    return 1 if any(record.outcome == "failed" for record in made) else 0


def _possible(setting: Setting) -> bool:
    from mqbench.task import plan_of  # torch: whether choices go together is the algorithm's to say

    try:
        plan_of(setting)
    except IncompatibleError:
        return False
    return True


def _numbers(seeds: tuple[str, ...]) -> list[int]:
    parts = [part for text in seeds for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise RequestError(f"seeds are whole numbers, got {', '.join(parts)}")
    return [int(part) for part in dict.fromkeys(parts)]


def _count(orders: str) -> int | None:
    if orders != "all" and not orders.isdecimal():
        raise RequestError(f"orders is a number or all, got {orders!r}")
    return None if orders == "all" else int(orders)


def _fields(texts: tuple[str, ...] | list[str]) -> dict[str, Any]:
    for text in texts:
        if not re.fullmatch(r"\w+=.+", text):
            raise RequestError(f"{text!r} is not a field and its value, such as graph=2")
    return {name: _value(value) for name, value in (text.split("=", 1) for text in texts)}


def _value(text: str) -> Any:
    """A value as in a study file; what is none there is a name."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _end(text: str, common: dict[str, Any]) -> Setting:
    backend, *more = text.split(":")
    fields = {**common, "backend": backend, **_fields(more)}
    match = re.fullmatch(r"w(\d+)a(\d+)|(\d+)", str(fields["bits"]))
    if match is None:
        raise RequestError(f'bits: {fields["bits"]!r} is not a number of bits or a pair such as "w4a8"')
    fields["bits"] = [match[1] or match[3], match[2] or match[3]]
    try:
        return Setting.model_validate(fields)
    except ValidationError as error:
        raise RequestError(f"{text}: {explain(error)}") from None


def _show_plan(way: Ladder, *, as_json: bool) -> None:
    settings = way.settings()
    if as_json:
        listed = [
            {"key": s.key, "setting": s.model_dump(mode="json", exclude_defaults=True)} for s in settings
        ]
        print_json({"orders": way.orders, "settings": listed})
        return
    print(f"{len(way.switches)} switches, {len(way.orders)} orders, {len(settings)} settings of each seed:")
    for setting in settings:
        print(f"  {setting.key}  {'the end' if setting == way.end else described(way.start, setting)}")


def _show(way: Ladder, made: dict[Setting, Record], seeds: list[int], *, as_json: bool) -> None:
    found = {
        setting: [
            value
            for seed in seeds
            if (record := made.get(setting.model_copy(update={"seed": seed}))) is not None
            and (value := metrics.accuracy(record)) is not None
        ]
        for setting in way.settings()
    }
    lost = [setting for setting, values in found.items() if len(values) < len(seeds)]
    if lost:
        raise RequestError(
            f"a run failed, so there is no ladder: {described(way.start, lost[0])}; see its record"
        )
    by_seed = [attribute(way, {s: values[i] for s, values in found.items()}) for i in range(len(seeds))]
    means = {setting: sum(values) / len(values) for setting, values in found.items()}
    steps = attribute(way, means)
    per_seed = {
        step.switch: [s.loss for one in by_seed for s in one if s.switch == step.switch] for step in steps
    }
    intervals = {name: metrics.mean_interval(losses) for name, losses in per_seed.items()}
    if as_json:
        print_json(
            {
                "start": means[way.start],
                "end": means[way.end],
                "steps": [
                    {
                        **asdict(step),
                        "change": way.change(step.switch),
                        "interval": asdict(i) if (i := intervals[step.switch]) else None,
                    }
                    for step in steps
                ],
                "paths": [
                    {"order": order, "accuracies": [means[rung] for rung in way.path(order)]}
                    for order in way.orders
                ],
                "seeds": seeds,
                "not_converged": [s.key for s in found if Counter(found[s])[0.0]],
            }
        )
        return
    table = Table(
        "Switch", "Points lost", "over orders", "Change", box=None, padding=(0, 2, 0, 0), pad_edge=False
    )
    for step in steps:
        interval = intervals[step.switch]
        spread = f" ±{interval.high - interval.estimate:.2f}" if interval else ""
        table.add_row(
            step.switch,
            f"{step.loss:+.2f}{spread}",
            f"{step.least:+.2f} to {step.most:+.2f}",
            way.change(step.switch),
        )
    start, end = means[way.start], means[way.end]
    console = console_of(sys.stdout)
    console.print(
        f"{way.start.backend} {start:.2f} -> {way.end.backend} {end:.2f}: {start - end:+.2f} points lost"
    )
    console.print(table)
    over = f"; ± is the 95 % interval over {len(seeds)} seeds" if len(seeds) > 1 else ""
    walked = "1 order" if len(way.orders) == 1 else f"{len(way.orders)} orders"
    console.print(f"Mean and range over {walked}, {len(found)} settings{over}.", markup=False)


COMMAND = ladder
