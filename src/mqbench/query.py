"""Questions to a frame of records."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mqbench.errors import RequestError, UnknownNameError

if TYPE_CHECKING:
    import polars


def where(frame: "polars.DataFrame", condition: str) -> "polars.DataFrame":
    """The rows that a condition holds for.

    Args:
        frame: with a column of every name in the condition. ``bits`` is there too: that of weights and
            activations where they are equal.
        condition: an SQL expression, ``=`` or ``==``: ``backend == 'tvm' and bits == 4 and accuracy > 60``,
            ``algorithm in ('lsq', 'pact')``, ``bn_folding is null``. It is read as SQL and reaches nothing
            but the columns.

    Raises:
        RequestError: it is no such expression, or names a column that is not there.
    """
    import polars

    errors = polars.exceptions
    column = polars.col
    both = polars.when(column("weight_bits") == column("activation_bits")).then(column("weight_bits"))
    known = frame if "bits" in frame.columns else frame.with_columns(bits=both)
    try:
        expression = polars.sql_expr(condition)
        for name in expression.meta.root_names():
            if name not in known.columns:
                raise UnknownNameError("column", name, known.columns)
        return known.filter(expression).select(frame.columns)
    except (errors.SQLSyntaxError, errors.SQLInterfaceError) as error:
        raise RequestError(
            f"{condition!r} is not a condition ({error}); write one such as \"backend == 'tvm' and bits == 4\""
        ) from None
    except errors.PolarsError as error:
        raise RequestError(f"the condition {condition!r} does not fit the columns: {error}") from None


def select(frame: "polars.DataFrame", columns: Sequence[str]) -> "polars.DataFrame":
    """These columns. Raises ``UnknownNameError`` for one that is not there."""
    for name in columns:
        if name not in frame.columns:
            raise UnknownNameError("column", name, frame.columns)
    return frame.select(columns)
