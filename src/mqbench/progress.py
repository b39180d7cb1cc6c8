"""What a sweep is doing, on standard error: a live display on a terminal, else a line for each run."""

from typing import Self

from rich import progress
from rich.console import Console, Group
from rich.live import Live

from mqbench.executors._base import Event, Finished, Lost, Planned, Progress, Started
from mqbench.record import Record, Setting


class Display:
    """A listener of a sweep, and a context in which it listens.

    Args:
        console: of standard error.
        quiet: say nothing unless it is a terminal.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self.console = console
        self.quiet = quiet
        self.total = self.done = 0
        self.more = ""
        self._all = progress.Progress(
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("runs,"),
            progress.TimeElapsedColumn(),
            progress.TextColumn("gone,"),
            progress.TimeRemainingColumn(),
            progress.TextColumn("left"),
            console=console,
            speed_estimate_period=float("inf"),  # runs are few and long; the default forgets after 30 s
        )
        self._now = progress.Progress(
            progress.SpinnerColumn(),
            progress.TextColumn("{task.description}", markup=False),
            progress.TextColumn("{task.fields[phase]}", style="dim", markup=False),
            console=console,
        )
        self._bar: progress.TaskID | None = None
        self._lines: dict[Setting, progress.TaskID] = {}
        self._live = Live(Group(self._all, self._now), console=console, transient=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case Planned(total, done, so_far):
                self.total, self.done, self.more = total, done, "+" if so_far else ""
                if self._bar is not None:
                    self._all.update(self._bar, total=total, completed=done)
                elif done < total and self.console.is_terminal:
                    self._bar = self._all.add_task("", total=total, completed=done)
                    self._live.start()
            case Started(setting):
                self._line(setting, "start")
            case Lost(setting, cause):
                self._print(f"lost, and begun again: {setting}: {cause}")
            case Progress(setting, phase, done, total):
                self._line(setting, f"{phase} {done}/{total}")
            case Finished(record):
                self.done += 1
                self._finish(record)

    def _line(self, setting: Setting, phase: str) -> None:
        if self._bar is None:
            return
        if setting in self._lines:
            self._now.update(self._lines[setting], phase=phase)
        else:
            self._lines[setting] = self._now.add_task(str(setting), total=None, phase=phase)

    def _finish(self, record: Record) -> None:
        if self._bar is not None:
            self._all.update(self._bar, completed=self.done)
            if record.setting in self._lines:
                self._now.remove_task(self._lines.pop(record.setting))
        else:
            self._print(f"[{self.done}/{self.total}{self.more}] {record.setting}: {summary(record)}")

    def _print(self, line: str) -> None:
        if self._bar is not None or not self.quiet:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def summary(record: Record) -> str:
    """What came of a run, in a few words."""
    if record.outcome == "failed":
        return f"failed: {record.reason}"
    result = "NC" if record.outcome == "not_converged" else f"{record.accuracy:.1f} %"
    return f"{result} in {record.provenance.seconds:.1f} s" if record.provenance else result
