"""One split as it is stored: encoded images by row, and their labels."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mqbench.errors import DataError

_SIXTEEN_BITS = ("PNG", "PPM")  # formats whose integers never have more, also where PIL gives them 32


@dataclass(frozen=True)
class Stored:
    """Images and labels of one split.

    Args:
        name: of the split, for messages ("train of cifar10").
        rows: a `datasets.Dataset` in arrow format whose image column is not decoded.
        image, label: names of the columns.
        classes: of a label column of text, the names that are numbered 0, 1, ...
    """

    name: str
    rows: Any
    image: str
    label: str
    classes: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def labels(self) -> Tensor:
        """``[N]``, int64.

        Raises:
            DataError: a label that is missing, negative or of no class of the training split, with its row.
        """
        column = self.rows.select_columns([self.label])[:][self.label]
        if column.null_count:
            row = column.is_null().to_pylist().index(True)
            raise DataError(f"row {row} of {self.name} has no label (column {self.label!r})")
        if self.classes is not None:
            column = self._numbered(column)
        labels = torch.from_numpy(column.to_numpy().astype(np.int64))
        if bool((labels < 0).any()):
            row = int((labels < 0).nonzero()[0])
            raise DataError(f"row {row} of {self.name} has the label {int(labels[row])}; labels start at 0")
        return labels

    def _numbered(self, column: Any) -> Any:
        """Names of classes as their numbers."""
        compute: Any = import_module("pyarrow.compute")
        arrow: Any = import_module("pyarrow")
        numbers = compute.index_in(column, value_set=arrow.array(self.classes, column.type))
        if numbers.null_count:
            row = numbers.is_null().to_pylist().index(True)
            raise DataError(
                f"row {row} of {self.name} is of class {column[row].as_py()!r}, which training lacks"
            )
        return numbers

    def images(self, indices: Sequence[int]) -> Iterator[Any]:
        """Decoded PIL images of the rows, in their order.

        Raises:
            DataError: a row that is no readable image.
        """
        pil: Any = import_module("PIL.Image")
        cells = self.rows[indices][self.image].to_pylist()
        for row, cell in zip(indices, cells, strict=True):
            try:
                data = cell["bytes"]
                image = pil.open(cell["path"] if data is None else io.BytesIO(data))
                image.load()
                if image.mode == "F" or (image.mode == "I" and image.format not in _SIXTEEN_BITS):
                    raise ValueError(f"mode {image.mode}: 32 bits have no known range; store 8 or 16")
            except Exception as error:  # decoders raise whatever damaged bytes make them
                said = "no data" if cell is None else _said(error)
                raise DataError(f"row {row} of {self.name} is no readable image ({said})") from error
            yield image


def _said(error: Exception) -> str:
    kind = type(error).__name__
    return (
        kind if kind == "UnidentifiedImageError" else f"{kind}: {error}"
    )  # which names an address in memory


@dataclass(frozen=True)
class StoredSplits:
    """Both parts, and the number of classes."""

    train: Stored
    test: Stored
    classes: int
