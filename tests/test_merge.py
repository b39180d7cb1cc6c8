"""Records of several machines in one store, contradictions refused by name."""

import os
from pathlib import Path

import pytest

from mqbench.errors import StoreError
from mqbench.merge import ContradictionError, merge
from mqbench.record import Record
from mqbench.store import Store
from test_store import FAILED, OK, SETTING


def other(seed: int, **fields: object) -> Record:
    return OK.model_copy(update={"setting": SETTING.model_copy(update={"seed": seed}), **fields})


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Store, Store, Store]:
    return Store(tmp_path / "a"), Store(tmp_path / "b"), Store(tmp_path / "c")


def test_a_union_with_files(stores: tuple[Store, Store, Store]) -> None:
    a, b, c = stores
    a.put(OK, {"w": b"1"})
    b.put(OK, {"w": b"1"})
    b.put(other(9), {"x": b"2"})
    done = merge([a, b], c)
    assert (done.written, done.kept, done.agreeing) == (2, 0, 1)
    assert {r.setting.seed for r in c} == {3, 9}
    assert c.get(SETTING) == OK
    assert c.attachments(SETTING) == {"w": b"1"}
    assert c.attachments(other(9).setting) == {"x": b"2"}
    again = merge([a, b], c)
    assert (again.written, again.kept) == (0, 2)


def test_a_contradiction_is_named_and_nothing_is_written(stores: tuple[Store, Store, Store]) -> None:
    a, b, c = stores
    a.put(OK)
    a.put(other(1))
    b.put(OK.model_copy(update={"accuracy": 69.0}))
    with pytest.raises(ContradictionError) as caught:
        merge([a, b], c, tolerance=1.0)
    for words in (
        str(SETTING),
        SETTING.key,
        "accuracy 70.25 and 69",
        str(a.root),
        str(b.root),
        "--tolerance",
    ):
        assert words in str(caught.value)
    assert not c.exists()
    merge([a, b], c, tolerance=1.25)
    assert c.get(SETTING) == OK, "of those that agree the first is taken"


def test_another_outcome_is_a_contradiction_at_any_tolerance(stores: tuple[Store, Store, Store]) -> None:
    a, b, c = stores
    a.put(OK)
    b.put(OK.model_copy(update={"outcome": "not_converged", "accuracy": None}))
    with pytest.raises(ContradictionError, match="outcome ok and not_converged"):
        merge([a, b], c, tolerance=100.0)


def test_the_target_counts(stores: tuple[Store, Store, Store]) -> None:
    a, _, c = stores
    c.put(OK.model_copy(update={"accuracy": 10.0}))
    a.put(OK)
    with pytest.raises(ContradictionError):
        merge([a], c)


def test_what_finished_goes_before_what_failed(stores: tuple[Store, Store, Store]) -> None:
    a, b, c = stores
    a.put(FAILED)
    b.put(OK)
    c.put(FAILED)
    for order in ([a, b], [b, a]):
        merge(order, c)
        assert list(c) == [OK]


def test_where_a_record_was_made_does_not_count(stores: tuple[Store, Store, Store]) -> None:
    a, b, c = stores
    assert OK.provenance is not None
    a.put(OK)
    b.put(OK.model_copy(update={"provenance": OK.provenance.model_copy(update={"hostname": "elsewhere"})}))
    assert merge([a, b], c).agreeing == 1


def test_to_and_from_a_url(stores: tuple[Store, Store, Store]) -> None:
    a, _, c = stores
    a.put(OK, {"w": b"1"})
    url = Store(f"memory://{os.getpid()}/merged")
    merge([a], url)
    merge([url], c)
    assert c.get(SETTING) == OK
    assert c.attachments(SETTING) == {"w": b"1"}


def test_a_source_that_is_not_there(stores: tuple[Store, Store, Store]) -> None:
    with pytest.raises(StoreError, match="no records"):
        merge([stores[0]], stores[2])
