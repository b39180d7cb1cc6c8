"""Conditions on records: SQL, and nothing but the columns."""

import polars
import pytest

from mqbench import paper, query
from mqbench.errors import RequestError, UnknownNameError

TABLE = paper.table(7)


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("backend == 'tvm' and bits == 4", 20),
        ("backend = 'tvm' AND weight_bits = 4", 20),
        ("algorithm in ('lsq', 'pact') and architecture = 'resnet18'", 12),
        ("outcome = 'not_converged'", 21),
        ("accuracy > 77", 1),
        ("bn_folding is null and not deployable", 0),
        ("float_accuracy - accuracy < 0", 1),
        ("bits = 8", 0),
    ],
)
def test_conditions(condition: str, rows: int) -> None:
    found = query.where(TABLE, condition)
    assert found.height == rows
    assert found.columns == TABLE.columns


def test_what_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown column 'algoritm' \(did you mean 'algorithm'\?\)"):
        query.where(TABLE, "algoritm = 'lsq'")
    for condition in ("backend ==", "drop table x", "select 1", "", "accuracy > 'high'"):
        with pytest.raises(RequestError):
            query.where(TABLE, condition)
    with pytest.raises(UnknownNameError):
        query.select(TABLE, ["key", "nothing"])


def test_columns() -> None:
    assert query.select(TABLE, ["algorithm", "accuracy"]).columns == ["algorithm", "accuracy"]
    assert isinstance(query.where(TABLE, "accuracy > 0"), polars.DataFrame)
