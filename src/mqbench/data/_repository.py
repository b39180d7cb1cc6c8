"""A local datasets repository: a folder of parquet or arrow files, or what ``save_to_disk`` wrote."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import ClassVar

from mqbench.data._place import arrow_cache
from mqbench.data._storage import Tables, datasets_library
from mqbench.errors import DataError, RequestError

SUFFIXES = (".parquet", ".arrow")
_SAVED = ("dataset_dict.json", "state.json")
_END = 65536  # bytes; parquet and arrow keep their metadata at the end of a file


@dataclass(frozen=True)
class Repository:
    """The files below a folder; its name, and its configuration where it has several."""

    local: ClassVar[bool] = True

    folder: Path
    config: str | None = None

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.folder)

    def check(self) -> None:
        """Raise ``RequestError`` unless there are files."""
        if not self.folder.is_dir():
            raise RequestError(f"there is no folder {self.folder}")
        if next(_data_files(self.folder), None) is None:
            raise RequestError(
                f"{self.folder} holds no images; allowed are {' or '.join(SUFFIXES)} files, or folders "
                "train/<class>/ and val/<class>/ of images"
            )

    def fingerprint(self) -> str:
        """Of the files' names, sizes and last 64 KiB, where the metadata lies."""
        digest = hashlib.sha256()
        for path in sorted(_data_files(self.folder)):
            size = path.stat().st_size
            digest.update(f"{path.relative_to(self.folder).as_posix()} {size}\n".encode())
            with path.open("rb") as file:
                file.seek(max(size - _END, 0))
                digest.update(file.read())
        return digest.hexdigest()[:16]

    def tables(self) -> Tables:
        """The splits; `datasets` keeps an arrow copy of parquet in its cache, for access by row."""
        with datasets_library() as library:
            try:
                if any((self.folder / name).is_file() for name in _SAVED):
                    saved = library.load_from_disk(str(self.folder))
                    return dict(saved) if isinstance(saved, dict) else {"train": saved}
                place = str(self.folder.resolve())
                return dict(library.load_dataset(place, self.config, cache_dir=arrow_cache()))
            except Exception as error:  # the library raises whatever its readers do
                raise DataError(self._blame(error)) from error

    def _blame(self, error: BaseException) -> str:
        """The file at fault, where its metadata shows it, and what the innermost error said."""
        for path in sorted(_data_files(self.folder)):
            if path.suffix == ".parquet":
                try:
                    rows = import_module("pyarrow.parquet").read_metadata(path).num_rows
                except (OSError, ValueError) as damage:
                    return f"{path} is damaged or no parquet file: {damage}"
                if not rows:
                    return f"{path} holds no images"
        while error.__cause__ is not None:
            error = error.__cause__
        return f"cannot read {self.folder}: {type(error).__name__}: {error}"


def _data_files(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root, name) for name in files if name.endswith(SUFFIXES))
