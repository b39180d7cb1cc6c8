"""The paper's tables as polars frames with the columns of `mqbench.records`."""

from typing import TYPE_CHECKING

from mqbench.columns import row as columns_of
from mqbench.columns import schema as columns_schema
from mqbench.errors import RequestError
from mqbench.paper import tables
from mqbench.paper.transcription import ALGORITHMS, ARCHITECTURES, BACKENDS, lines

if TYPE_CHECKING:
    import polars


def table(number: int) -> "polars.DataFrame":
    """A table of the paper: one row per number in it, with the columns of `mqbench.records`.

    Seeds and ``seconds`` are null, because the paper prints neither; ``key`` is that of the same setting
    with seed 0. What only this table has is in further columns at the end. Accuracies are top-1 on ImageNet
    in percent; what did not converge (NC) has outcome ``not_converged`` and no accuracy.

    Args:
        number: 4 to 11. Table 9 is latencies in milliseconds, which are no runs: no algorithm, no accuracy.

    Raises:
        RequestError: the paper has no results in a table of that number.

    >>> table(7).filter(architecture="resnet18", algorithm="lsq", backend="tvm")["accuracy"].item()
    67.7
    """
    import polars

    made = []
    for row in tables.rows(number):
        fields = {} if row.record is None else {**columns_of(row.record), "seed": None, "float_seed": None}
        made.append({**fields, **row.more})
    schema = columns_schema()
    data = {name: [fields.get(name) for fields in made] for name in schema}
    own = {name: [row[name] for row in made] for name in made[0] if name not in schema}
    return polars.DataFrame(data, schema=schema).with_columns(**{k: polars.Series(v) for k, v in own.items()})


def figure(name: str) -> "polars.DataFrame":
    """The numbers of Fig. 5 as printed, or the bars of Fig. 6 (``"6-left"``, ``"6-right"``), one row each.

    Fig. 6 prints no numbers; its bars are means of Table 7.

    Raises:
        RequestError: another figure; the others of the paper are drawings and curves.
    """
    import polars

    if name not in ("5", "6-left", "6-right"):
        raise RequestError(f"figures with numbers are 5, 6-left and 6-right, got {name!r}")
    names = ARCHITECTURES | BACKENDS | ALGORITHMS
    made = []
    for line in lines(f"fig{name.replace('-', '_')}"):
        (kind, head), *values = line.items()
        kind = "architecture" if kind == "model" else "backend"
        other = "algorithm" if name != "5" else "backend"
        made += [{kind: names[head], other: names[column], "value": float(v)} for column, v in values]
    return polars.DataFrame(made)
