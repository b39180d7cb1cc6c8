"""Print or export records, those of a question or all."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mqbench.commands._options import Flag, Json
from mqbench.commands._print import print_frame
from mqbench.errors import RequestError, StoreError
from mqbench.files import whole_file
from mqbench.store import Store

Columns = Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)]


def records(
    *,
    store: str = "runs",
    where: str | None = None,
    columns: Columns = (),
    paper: Flag = False,
    parquet: str | None = None,
    csv: str | None = None,
    check: Flag = False,
    as_json: Json = False,
) -> int:
    """Print records as a table, or write them for DuckDB, pandas and the like.

    Args:
        store: Folder or URL of the records.
        where: Only those, an SQL condition on the columns: "backend == 'tvm' and bits == 4".
        columns: Only these, separated by commas.
        paper: The paper's Table 7 too; a column "source" tells them apart.
        parquet: Write a parquet file instead of printing.
        csv: Write a CSV file instead of printing.
        check: Read every record, and compare with the index beside them.
        as_json: Print JSON.

    Examples:
        mqbench records --where "backend == 'tvm' and bits == 4" --columns algorithm,seed,accuracy
        mqbench records --parquet records.parquet
    """
    import polars

    from mqbench import index, query
    from mqbench.paper import table

    place = Store(store)
    place.check_readable()
    if check and (wrong := index.differences(place)):
        index.rebuild(place)
        raise StoreError(
            f"the index of {store} was wrong on {len(wrong)} records ({wrong[0]}); it is made again"
        )
    frame = index.load(place)
    if paper:
        ours = frame.with_columns(source=polars.lit(store))
        frame = polars.concat([ours, table(7).with_columns(source=polars.lit("paper"))], how="diagonal")
    if where is not None:
        frame = query.where(frame, where)
    names = [name for text in columns for name in text.split(",")]
    frame = query.select(frame, names) if names else frame
    for path, write in ((parquet, frame.write_parquet), (csv, frame.write_csv)):
        if path is not None:
            _write(Path(path), write)
    if parquet is None and csv is None:
        print_frame(frame, as_json=as_json)
    else:
        print(f"{frame.height} records in {' and '.join(p for p in (parquet, csv) if p)}")
    return 0


def _write(path: Path, write: Callable[[io.BytesIO], object]) -> None:
    if not path.parent.is_dir():
        raise RequestError(f"cannot write {path}: there is no folder {path.parent}")
    content = io.BytesIO()  # polars has errors of its own for a disk that is full
    write(content)
    with whole_file(path) as hand:
        hand.write_bytes(content.getvalue())


COMMAND = records
