"""A tree of image files, one folder a class: ``train/<class>/*.JPEG``, ``val/<class>/*.JPEG``."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from mqbench.data._columns import TESTS, TRAIN
from mqbench.data._storage import Tables, datasets_library
from mqbench.errors import RequestError

SUFFIXES = (".jpeg", ".jpg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")


@dataclass(frozen=True)
class ImageFolder:
    """The files below ``folder/train`` and ``folder/val`` (or test, ...); classes are in the order of names."""

    local: ClassVar[bool] = True

    folder: Path

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.folder)

    @staticmethod
    def looks_like(folder: Path) -> bool:
        """Whether there is a folder for training that has folders for classes."""
        train = folder / TRAIN
        return train.is_dir() and any(entry.is_dir() for entry in os.scandir(train))

    def check(self) -> None:
        """Raise ``RequestError`` unless each split has a folder with folders of classes."""
        if not self.looks_like(self.folder):
            raise RequestError(f"{self.folder} has no folders {TRAIN}/<class>/ of images")
        if not any((self.folder / name).is_dir() for name in TESTS):
            raise RequestError(f"{self.folder} has no test split, one of {'/, '.join(TESTS)}/")

    def fingerprint(self) -> str:
        """Of the names and sizes of the files."""
        digest = hashlib.sha256()
        for path, size in sorted(file for split in self._files.values() for file in split):
            digest.update(f"{path} {size}\n".encode())
        return digest.hexdigest()[:16]

    def tables(self) -> Tables:
        """Paths and labels; the files are read where they are."""
        with datasets_library() as library:
            return {name: self._table(library, files) for name, files in self._files.items() if files}

    def _table(self, library: Any, files: list[tuple[str, int]]) -> Any:
        # the class is the folder below the split: "val/n01440764/ILSVRC2012_val_00000293.JPEG"
        own = [path.split("/", 2)[1] for path, _ in files]
        classes = sorted(set(own))
        numbers = {name: number for number, name in enumerate(classes)}
        features = library.Features(
            {"image": library.Value("string"), "label": library.ClassLabel(names=classes)}
        )
        columns = {
            "image": [str(self.folder / path) for path, _ in files],
            "label": [numbers[name] for name in own],
        }
        return library.Dataset.from_dict(columns, features=features).cast_column("image", library.Image())

    @cached_property
    def _files(self) -> dict[str, list[tuple[str, int]]]:
        """Relative paths and sizes in bytes, sorted, of each split."""
        splits = (name for name in (TRAIN, *TESTS) if (self.folder / name).is_dir())
        return {name: sorted(_walk(self.folder / name, name, depth=0)) for name in splits}


def _walk(folder: Path, relative: str, depth: int) -> Iterator[tuple[str, int]]:
    """Images below a folder; hidden files, and those that lie directly in a split, have no class and are left out."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f"{relative}/{entry.name}"
            if entry.name.startswith("."):  # such as the ._NAME.JPEG that macOS leaves in archives
                continue
            if entry.is_dir():
                yield from _walk(Path(entry.path), path, depth + 1)
            elif depth and entry.name.lower().endswith(SUFFIXES):
                yield path, entry.stat().st_size
