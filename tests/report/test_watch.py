"""A site that follows its store."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mqbench.errors import StoreError
from mqbench.report.context import Context
from mqbench.report.reading import Reader
from mqbench.report.site import Built
from mqbench.report.watch import watch
from mqbench.store import Store
from small_store import fill, made, measure


class Stop(Exception):
    """The end of a test's patience."""


def followed(
    store: Store, output: Path, steps: list[Callable[[], object]]
) -> tuple[list[tuple[int, int]], list[str]]:
    """(records, reused pages) of each build while the steps happen, one a look; and what was waited for."""
    builds: list[tuple[int, int]] = []
    waits: list[str] = []
    left = list(steps)

    def pause(seconds: float) -> None:
        assert seconds == 0.5
        if not left:
            raise Stop
        left.pop(0)()

    def told(built: Built, context: Context) -> None:
        builds.append((len(context.records), built.reused))

    with pytest.raises(Stop):
        watch(Reader(store), output, every=0.5, told=told, waiting=waits.append, pause=pause)
    return builds, waits


def test_it_builds_when_records_come_and_go_and_only_then(tmp_path: Path) -> None:
    store = fill(tmp_path / "runs", [made()])
    failed = made(algorithm="pact", outcome="failed")
    builds, waits = followed(
        store,
        tmp_path / "site",
        [
            lambda: None,
            lambda: store.put(failed),
            lambda: None,
            lambda: store.put(made(algorithm="pact"), replace=True),
            lambda: measure(store),
        ],
    )
    assert builds == [(1, 0), (2, 1), (2, 1), (2, 2)]
    assert waits == []
    assert 'data-live="2"' in (tmp_path / "site" / "index.html").read_text()
    assert (
        "data-live"
        not in (tmp_path / "site" / "runs" / f"{made().setting.key}.html").read_text().split("<head>")[0]
    )


def test_it_waits_for_the_first_record(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    store = Store(tmp_path / "runs")
    builds, waits = followed(
        store, tmp_path / "site", [lambda: None, lambda: store.put(made()), lambda: None]
    )
    assert builds == [(1, 0)]
    assert len(waits) == 1
    assert "there are no records in" in waits[0]


def test_a_folder_that_is_not_there_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there are no records at"):
        followed(Store(tmp_path / "none"), tmp_path / "site", [])


def test_records_are_read_again_only_where_they_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fill(tmp_path / "runs", [made(seed=seed) for seed in range(3)])
    reader, opened = Reader(store), []
    reader.read()
    get = Store.get
    monkeypatch.setattr(Store, "get", lambda self, key: opened.append(key) or get(self, key))  # type: ignore[func-returns-value]
    assert len(reader.read().records) == 3
    assert opened == []
    store.put(made(seed=3))
    assert len(reader.read().records) == 4
    assert opened == [made(seed=3).setting.key]
