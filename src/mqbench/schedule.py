"""The runs of a sweep, in the order in which they may start; a window of them is held at a time."""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from mqbench.claims import Claims
from mqbench.errors import RequestError
from mqbench.executors._base import Finished, Listener, Planned, Task, failed, finished
from mqbench.record import FLOAT, Record, Setting
from mqbench.store import Store

WINDOW = 4096
_LOOK_SECONDS = 1.0


def windows(settings: Iterable[Setting]) -> Iterator[tuple[list[Setting], bool]]:
    """Distinct settings by the window, and whether another follows.

    A window has up to `WINDOW` of them, and before them the float networks that they start from and that no
    window before had.
    """
    planned: set[str] = set()
    known: set[tuple[object, ...]] = set()
    source = iter(settings)
    window = list(islice(source, WINDOW))
    while window:
        floats = []
        for setting in window:
            which = _float_fields(setting)
            if which not in known:
                known.add(which)
                floats.append(setting.float_setting)
        floats += [setting for setting in window if setting.algorithm == FLOAT]
        new = [s for s in dict.fromkeys(floats) if s.key not in planned]
        planned.update(s.key for s in new)
        following = list(islice(source, 1))
        yield [*new, *(s for s in window if s.algorithm != FLOAT)], bool(following)
        window = [*following, *islice(source, WINDOW - 1)]


def _float_fields(setting: Setting) -> tuple[object, ...]:
    """What tells the float networks of settings apart, faster than the networks' settings."""
    if setting.algorithm == FLOAT:
        return (setting,)
    return (
        setting.architecture, setting.dataset, setting.float_epochs, setting.float_batch, setting.float_seed,
        setting.weights,
    )  # fmt: skip


class Schedule:
    """Gives out tasks and takes their records.

    A quantized run is given out once its float network has a record. A run that another sweep is at is left
    to it; its record is taken when it appears.

    Args:
        settings: distinct.
        store: of the records.
        task: of a setting.
        claims: on the runs that are given out.
        check: raises ``RequestError`` if the missing runs of a window cannot be made. For the first window
            `begin` raises it; of a later one, those that cannot be made become failed records.
        listener: is told what is planned and finished.
        retry_failed: a failed record is as good as none.
    """

    def __init__(
        self,
        settings: Iterable[Setting],
        store: Store,
        *,
        task: Callable[[Setting], Task],
        claims: Claims,
        check: Callable[[list[Setting]], None],
        listener: Listener,
        retry_failed: bool,
    ) -> None:
        self._store, self._task, self._claims, self._check = store, task, claims, check
        self._listener, self._retry_failed = listener, retry_failed
        self._windows = windows(settings)
        self._there = set(store.stamps()) if store.exists() else set()
        self._more = True
        self._total = self._done = 0
        self._ready: deque[Setting] = deque()
        self._blocked: defaultdict[Setting, list[Setting]] = defaultdict(list)
        self._floats: set[Setting] = set()  # without a record yet
        self._failed_floats: dict[Setting, Record] = {}
        self._elsewhere: list[Setting] = []
        self._next_look = 0.0
        self._settled: list[Record] = []

    def begin(self) -> int:
        """Plan until there is something to do; the number of runs to make, at least. 0: nothing is missing."""
        while self._more:
            missing = self._plan()
            if missing:
                self._check(missing)
                self._accept(missing)
                return len(missing) + self._more
        return 0

    def tasks(self) -> Iterator[Task | None]:
        """A task whenever one can start, None while none can."""
        while True:
            self._look_elsewhere()
            if self._ready:
                setting = self._ready.popleft()
                if not self._claims.take(setting.key):
                    self._elsewhere.append(setting)
                elif (record := self._known(setting)) is not None:  # made by another sweep since we looked
                    self.finish(record)
                else:
                    yield self._task(setting)
            elif self._more and len(self._elsewhere) + sum(map(len, self._blocked.values())) < WINDOW:
                self._accept(self._possible(self._plan()))
            elif self._blocked or self._elsewhere:
                yield None
            else:
                return

    def finish(self, record: Record) -> None:
        """Take a record, which is in the store."""
        setting = record.setting
        self._claims.release(setting.key)
        self._done += 1
        self._settled.append(record)
        self._listener(Finished(record))
        if setting.algorithm == FLOAT:
            self._floats.discard(setting)
            if record.outcome == "failed":
                self._failed_floats[setting] = record
            self._accept(self._blocked.pop(setting, []))

    def settled(self) -> Iterator[Record]:
        """Records since the last call."""
        records, self._settled = self._settled, []
        yield from records

    def _plan(self) -> list[Setting]:
        """The missing runs of the next window."""
        runs, self._more = next(self._windows, ([], False))
        missing = [setting for setting in runs if not self._is_done(setting)]
        self._total += len(runs)
        self._done += len(runs) - len(missing)
        self._floats.update(s for s in missing if s.algorithm == FLOAT)
        self._listener(Planned(self._total, self._done, so_far=self._more))
        return missing

    def _accept(self, settings: Iterable[Setting]) -> None:
        for setting in settings:
            start = setting.float_setting
            if setting.algorithm == FLOAT:
                self._ready.append(setting)
            elif start in self._floats:
                self._blocked[start].append(setting)
            elif start in self._failed_floats:
                cause = self._failed_floats[start]
                self._fail(setting, f"its float network failed: {cause.reason}", cause.error or "")
            else:
                self._ready.append(setting)

    def _possible(self, missing: list[Setting]) -> list[Setting]:
        try:
            self._check(missing)
        except RequestError:
            kept = []
            for setting in missing:
                try:
                    self._check([setting])
                except RequestError as error:
                    self._fail(setting, f"{type(error).__name__}: {error}", str(error))
                else:
                    kept.append(setting)
            return kept
        return missing

    def _fail(self, setting: Setting, reason: str, error: str) -> None:
        record = failed(setting, reason, error)
        self._store.put(record, replace=True)
        self.finish(record)

    def _is_done(self, setting: Setting) -> bool:
        if not self._there or setting.key not in self._there:
            return False
        if not self._retry_failed and setting.algorithm != FLOAT:
            return True
        record = self._known(setting)
        if record is not None and record.outcome == "failed":
            self._failed_floats[setting] = record
        return record is not None

    def _known(self, setting: Setting) -> Record | None:
        return finished(self._store, setting) if self._retry_failed else self._store.get(setting)

    def _look_elsewhere(self) -> None:
        if not self._elsewhere or time.monotonic() < self._next_look:
            return
        waiting, self._elsewhere = self._elsewhere, []
        for setting in waiting:
            record = self._known(setting)
            if record is not None:
                self.finish(record)
            elif self._claims.is_held(setting.key):
                self._elsewhere.append(setting)
            else:
                self._ready.append(setting)
        self._next_look = time.monotonic() + _LOOK_SECONDS
