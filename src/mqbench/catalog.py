"""The folder scan: every file of a catalog folder is one entry, and its name is the file's.

A catalog folder is an ordinary package whose module object is itself the mapping, so
``mqbench.algorithms["lsq"]`` and ``from mqbench.algorithms.lsq import ...`` both work. Listing names
and reading their one-line descriptions imports nothing; an entry is imported when it is asked for.
"""

import ast
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, TypeVar

from mqbench.errors import RequestError, UnknownNameError

T = TypeVar("T")

_CATALOGS: dict[str, str] = {
    "ALGORITHM": "mqbench.algorithms",
    "BACKEND": "mqbench.backends",
    "OBSERVER": "mqbench.observers",
    "ARCHITECTURE": "mqbench.architectures",
    "DATASET": "mqbench.data",
    "FOLDING": "mqbench.folding",
    "EXECUTOR": "mqbench.executors",
    "RUNTIME": "mqbench.deploy.runtimes",
    "TOOL": "mqbench.tools",
    "FORM": "mqbench.deploy.forms",
    "EXPORTER": "mqbench.deploy.exporters",
    "FIGURE": "mqbench.report.figures",
    "PAGE": "mqbench.report.pages",
}


class Catalog(ModuleType, Mapping[str, T]):
    """A package that maps the names of its files to the object each file defines.

    Every public file of the package (no leading underscore) defines one constant, the same in all files
    of the folder (``ALGORITHM``, ``BACKEND``, ...). Iterating gives the sorted names.
    """

    constant: str
    kind: str
    open_names: Mapping[str, str] = MappingProxyType(
        {}
    )  # how names are written that no file has -> what they are
    _added: dict[str, Path]
    _instance_of: str
    _subclass_of: str

    @classmethod
    def adopt(cls, package: str, constant: str, *, instance_of: str = "", subclass_of: str = "") -> None:
        """Turn the package that is being imported into a catalog of its files' ``constant``.

        The constant of an added file must be an instance or a subclass of the ``module:name`` given here,
        which is imported when such an entry is.
        """
        module = sys.modules[package]
        module.__class__ = cls
        assert isinstance(module, cls)
        module.constant = constant
        module.kind = constant.lower()
        module._added = {}
        module._instance_of, module._subclass_of = instance_of, subclass_of

    def __iter__(self) -> Iterator[str]:
        # not by Path.glob: a run looks names up some three hundred times
        files = (name for folder in self.__path__ for name in os.listdir(folder) if name.endswith(".py"))
        return iter(sorted({*(name[:-3] for name in files if not name.startswith("_")), *self._added}))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name in set(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __getitem__(self, name: str) -> T:
        self.check(name)
        module = sys.modules.get(self._module_name(name)) or self._import(name)
        try:
            entry: T = getattr(module, self.constant)
        except AttributeError:
            raise RequestError(f"{self._source(name)} defines no {self.constant}") from None
        if name in self._added:
            self._check_type(name, entry)
        return entry

    def check(self, name: object) -> None:
        """Raise ``UnknownNameError`` unless ``name`` is an entry; imports nothing."""
        if name not in self:
            raise UnknownNameError(self.kind, name, self)

    def check_added(self, name: str) -> None:
        """Raise ``RequestError`` if ``name`` was added and its file cannot be used; imports it."""
        if name in self._added:
            self[name]

    def describe(self, name: str) -> str:
        """First line of the entry's module docstring, read without importing it."""
        self.check(name)
        doc = ast.get_docstring(ast.parse(self._source(name).read_text(encoding="utf-8"))) or ""
        return doc.partition("\n")[0]

    def add(self, path: Path) -> str:
        """Add a file from outside the package; its name is the file's. Duplicate names are refused."""
        name = path.stem
        if name in self and self._added.get(name) != path:
            raise RequestError(f"{self.kind} {name!r} of {path} already exists; rename the file")
        self._added[name] = path
        return name

    def _module_name(self, name: str) -> str:
        return f"{self.__name__}.{name}"

    def _source(self, name: str) -> Path:
        if name in self._added:
            return self._added[name]
        return next(p for folder in self.__path__ if (p := Path(folder, f"{name}.py")).exists())

    def _check_type(self, name: str, entry: object) -> None:
        if self._instance_of:
            fits, expected = isinstance(entry, _named(self._instance_of)), "an instance of "
        elif self._subclass_of:
            fits = isinstance(entry, type) and issubclass(entry, _named(self._subclass_of))
            expected = "a subclass of "
        else:
            return
        if not fits:
            expected += (self._instance_of or self._subclass_of).partition(":")[2]
            got = entry.__name__ if isinstance(entry, type) else f"{type(entry).__name__} {entry!r}"
            source = self._source(name)
            raise RequestError(f"{self.constant} of {source} must be {expected}, got {got[:80]}")

    def _import(self, name: str) -> ModuleType:
        if name not in self._added:
            return importlib.import_module(self._module_name(name))
        spec = importlib.util.spec_from_file_location(self._module_name(name), self._added[name])
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        done = False
        try:
            spec.loader.exec_module(module)
            done = True
        except (Exception, SystemExit) as error:  # the code of a user may raise anything
            said = str(error) or "no message"
            raise RequestError(f"cannot import {spec.origin}: {type(error).__name__}: {said}") from error
        finally:
            if not done:
                del sys.modules[spec.name]
        return module


def load(path: str | Path) -> list[str]:
    """Add the entries of a user's file (``ALGORITHM = ...``, ``OBSERVER = ...``) to their catalogs.

    The file is parsed to see which constants it assigns and imported only when an entry is used.
    Returns the catalogs that took it, e.g. ``["mqbench.algorithms"]``.
    """
    file = Path(path).resolve()
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    except OSError as error:
        raise RequestError(f"cannot load {path}: {error.strerror}") from None
    except SyntaxError as error:
        raise RequestError(f"cannot load {path}: line {error.lineno}: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise RequestError(f"cannot load {path}: it is not UTF-8: {error.reason}") from None
    except ValueError as error:  # Python 3.11 on a null byte
        raise RequestError(f"cannot load {path}: {error}") from None
    names = {target for node in tree.body for target in _assigned(node)}
    packages = [package for constant, package in _CATALOGS.items() if constant in names]
    if not packages:
        raise RequestError(f"{path} defines none of {', '.join(_CATALOGS)}; it adds nothing")
    for package in packages:
        catalog: Any = importlib.import_module(package)
        catalog.add(file)
    return packages


def added_files() -> list[Path]:
    """The files that `load` has added, in any catalog."""
    catalogs: list[Any] = [sys.modules.get(package) for package in _CATALOGS.values()]
    return sorted({path for one in catalogs if one is not None for path in one._added.values()})


def _named(path: str) -> type:
    module, _, name = path.partition(":")
    named: type = getattr(importlib.import_module(module), name)
    return named


def _assigned(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]
