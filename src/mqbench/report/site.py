"""The site: every page rendered into a folder that takes the place of the old one as a whole."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import mqbench
from mqbench.errors import RequestError, StoreError
from mqbench.liveness import lives
from mqbench.record import Record
from mqbench.report.context import Context
from mqbench.report.drawing import drawn
from mqbench.report.families import alike
from mqbench.report.frame import HERE, Frame
from mqbench.report.pages._base import Page
from mqbench.store import Store

MANIFEST = ".report.json"
RUNS = "runs"


@dataclass(frozen=True, kw_only=True)
class Built:
    """What was built: files, their bytes, run pages that were taken from the site before, seconds."""

    pages: int
    size: int
    reused: int
    seconds: float


class Site:
    """A report of some records.

    Args:
        context: the records.
        live: seconds after which open pages load themselves again; None for a report that stays.
        processes: that draw the pages of the runs, where these are many; more than one only in a program whose
            main module may be imported again.
    """

    def __init__(self, context: Context, *, live: int | None = None, processes: int = 1) -> None:
        self.context, self.processes = context, processes
        self.frame = Frame(
            menu=tuple((page.file, page.menu) for page in self.menu),
            store=_name(context.store) if context.public else str(context.store.root),
            live=live,
        )

    def build(self, output: Path) -> Built:
        """Write the site to ``output``; it is there as a whole or as it was before.

        Raises:
            RequestError: ``output`` is something else than a site, or cannot be written.
        """
        started = time.perf_counter()
        before = check(output)
        hand = output.with_name(f".{output.name}.new.{os.getpid()}")
        away = output.with_name(f".{output.name}.old.{os.getpid()}")
        try:
            _clean(output)
            (hand / RUNS).mkdir(parents=True)
            for file, text in self.pages():
                (hand / file).write_text(text, encoding="utf-8")
            signatures, reused = self._runs(hand, output, before)
            (hand / MANIFEST).write_text(json.dumps({"made_by": "mqbench report", "runs": signatures}) + "\n")
            files = list(hand.rglob("*.html"))
            size = sum(path.stat().st_size for path in files)
            try:
                if output.exists():
                    output.rename(away)
                hand.rename(output)
            except BaseException:  # an interrupt too
                if away.exists() and not output.exists():
                    away.rename(output)
                raise
        except StoreError:
            raise
        except OSError as error:
            raise RequestError(f"cannot write {output}: {error.strerror or error}") from error
        finally:
            for path in (hand, away):
                shutil.rmtree(path, ignore_errors=True)
        return Built(pages=len(files), size=size, reused=reused, seconds=time.perf_counter() - started)

    def pages(self) -> Iterator[tuple[str, str]]:
        """Name and text of every page but those of the runs."""
        for page in self.menu:
            yield page.file, self.frame.render(page.template, page=page, **page.values(self.context))

    @cached_property
    def menu(self) -> list[Page]:
        """All pages but those of the runs."""
        pages: Any = import_module("mqbench.report.pages")
        figures: Any = import_module("mqbench.report.figures")
        found = [pages[name] for name in pages]
        found += [_page_of(name, figures[name]) for name in figures]
        return sorted(found, key=lambda page: page.order)

    def _runs(self, hand: Path, output: Path, before: Mapping[str, str]) -> tuple[dict[str, str], int]:
        groups: dict[Any, list[Record]] = {}
        for record in self.context.records:
            groups.setdefault(alike(record.setting, "seed"), []).append(record)
        signatures, reused, wanted = {}, 0, []
        for key, record in self.context.by_key.items():
            group = groups[alike(record.setting, "seed")]
            siblings = sorted((r.setting.seed, r.setting.key) for r in group if r is not record)
            start = record.setting.float_setting.key
            from_float = start != key and start in self.context.by_key
            signatures[key] = signature = self._signature(key, siblings, from_float)
            if signature and before.get(key) == signature and _linked(_page(output, key), _page(hand, key)):
                reused += 1
            else:
                wanted.append((record, siblings, from_float))
        for key, text in drawn(self.frame, self.context, wanted, self.processes):
            _page(hand, key).write_text(text, encoding="utf-8")
        return signatures, reused

    def _signature(self, key: str, siblings: list[tuple[int, str]], from_float: bool) -> str:
        """Of all that the page of a run is made from; none if that cannot be told."""
        stamp = self.context.stamps.get(key)
        made_of = [self._version, stamp, siblings, from_float, self.context.certificates.get(key)]
        return _digest(json.dumps(made_of)) if stamp else ""

    @cached_property
    def _version(self) -> str:
        """Of the code and the frame of the pages."""
        files = sorted(path for path in HERE.rglob("*") if path.suffix in (".py", ".html", ".css", ".js"))
        code = _digest(*(path.read_text(encoding="utf-8") for path in files))
        return _digest(
            mqbench.__version__, code, repr((self.frame.menu, self.frame.store, self.context.public))
        )


def _name(store: Store) -> str:
    return os.path.basename(str(store.root)) or str(store.root)


def check(output: Path) -> dict[str, str]:
    """Key to signature of the run pages that a site has; none where there is no folder yet, or an empty one.

    Raises:
        RequestError: there is something else than a site.
    """
    if not output.name:
        raise RequestError(
            f"{str(output)!r} cannot be replaced by a site; give a folder of its own, such as site"
        )
    try:
        return dict(json.loads((output / MANIFEST).read_text(encoding="utf-8"))["runs"])
    except (OSError, ValueError, KeyError, TypeError):
        if not output.exists() or (output.is_dir() and not any(output.iterdir())):
            return {}
    raise RequestError(
        f"{output} is there and is no site of mqbench report; give another folder, or remove it"
    )


def _page_of(name: str, figure: Any) -> Page:
    def values(context: Context) -> dict[str, Any]:
        found = list(islice(figure.pictures(context), figure.shown + 1))
        return {
            "name": name,
            "text": figure.text,
            "missing": figure.missing,
            "pictures": found[: figure.shown],
            "more": len(found) > figure.shown,
        }

    return Page(
        title=figure.title,
        menu=figure.menu,
        order=figure.order,
        template="pictures.html",
        values=values,
        file=f"{name}.html",
    )


def _page(site: Path, key: str) -> Path:
    return site / RUNS / f"{key}.html"


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:
        try:
            shutil.copyfile(source, target)
        except OSError:
            return False
    return True


def _clean(output: Path) -> None:
    """Remove what builds have left that were killed; a site that was to give way is put back."""
    for state in ("new", "old"):
        for path in output.parent.glob(f".{output.name}.{state}.*"):
            pid = path.suffix[1:]
            if pid.isdecimal() and not lives(int(pid)):
                if state == "old" and not output.exists():
                    path.rename(output)
                shutil.rmtree(path, ignore_errors=True)


def _digest(*parts: str) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part.encode())
        found.update(b"\0")
    return found.hexdigest()[:16]
