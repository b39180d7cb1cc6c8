"""A dataset of the Hugging Face hub, kept in the library's own cache (``HF_HOME``) once it is fetched."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar

from mqbench.data._place import arrow_cache
from mqbench.data._storage import Tables, datasets_library
from mqbench.errors import RequestError


@dataclass(frozen=True)
class Hub:
    """A repository of the hub; its configuration where it has several."""

    local: ClassVar[bool] = False

    repository: str
    config: str | None = None

    @property
    def name(self) -> str:
        """As a dataset's name is written."""
        return f"hub:{self.repository}" + (f":{self.config}" if self.config else "")

    def check(self) -> None:
        """Nothing: whether the hub has it is seen when it is fetched."""

    def fingerprint(self) -> str:
        """Of the columns' types, every integer, and the size of every image file."""
        digest = hashlib.sha256()
        for split, table in sorted(self._tables.items()):
            digest.update(f"{split} {table.num_rows} {sorted(table.features.items())}\n".encode())
            for column in sorted(table.features):
                digest.update(_numbers(table.data.column(column)))
        return digest.hexdigest()[:16]

    def tables(self) -> Tables:
        """The splits, fetched when the cache does not have them."""
        return self._tables

    @cached_property
    def _tables(self) -> Mapping[str, Any]:
        with datasets_library() as library:
            try:
                return dict(library.load_dataset(self.repository, self.config, cache_dir=arrow_cache()))
            except Exception as error:  # no network, no such name, no access, a full disk, ...
                said = " ".join(str(error).split())[:300]
                raise RequestError(f"cannot get {self.name} from the hub: {said}") from error


def _numbers(column: Any) -> bytes:
    """What is cheap to read of a column: integers, or the lengths of encoded images."""
    arrow: Any = import_module("pyarrow")
    compute: Any = import_module("pyarrow.compute")
    if arrow.types.is_struct(column.type) and "bytes" in {field.name for field in column.type}:
        column = compute.binary_length(compute.struct_field(column, "bytes"))
    if not arrow.types.is_integer(column.type):
        return b""
    return bytes(compute.fill_null(column.cast("int64"), -1).to_numpy().tobytes())
