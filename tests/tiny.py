"""Tiny datasets as people store them, made by pyarrow and PIL alone."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mqbench.data._base import Split, Splits
from mqbench.data._memory import MemorySplit
from mqbench.data._stream import StreamSplit


def picture(seed: int, size: tuple[int, int] = (32, 32), mode: str = "RGB") -> Image.Image:
    """A smooth picture that is different for every seed; ``size`` is (width, height)."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).convert(mode)


def encoded(image: Image.Image, format: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, format)
    return file.getvalue()


def write_parquet(path: Path, images: Sequence[bytes | None], columns: Mapping[str, Any], image: str) -> None:
    """One file; the image column is ``{bytes, path}``, as `datasets` writes it, without its metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": data, "path": None} for data in images]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    pq.write_table(pa.table({image: pa.array(cells, kind), **columns}), path)


def repository(folder: Path, *, counts: Mapping[str, int], image: str = "img", **columns: Any) -> Path:
    """A repository of parquet; labels count up modulo 3 unless other ``columns`` (name -> row -> value) are given."""
    columns = columns or {"label": lambda row: row % 3}
    for part, (split, count) in enumerate(counts.items()):
        pictures = [encoded(picture(1000 * part + row)) for row in range(count)]
        values = {name: [value(row) for row in range(count)] for name, value in columns.items()}
        write_parquet(folder / "data" / f"{split}-00000-of-00001.parquet", pictures, values, image)
    return folder


def tree(
    folder: Path, classes: Mapping[str, Sequence[str]], each: int = 3, size: tuple[int, int] = (60, 48)
) -> Path:
    """Folders ``split/class/`` of JPEG files of two sizes."""
    for split, names in classes.items():
        for number, name in enumerate(names):
            (folder / split / name).mkdir(parents=True)
            for k in range(each):
                turned = size if k % 2 else size[::-1]
                picture(100 * number + k, turned).save(folder / split / name / f"{name}_{k}.JPEG")
    return folder


def in_memory(splits: Splits) -> bool:
    assert isinstance(splits.train, (MemorySplit, StreamSplit))
    assert type(splits.train) is type(splits.test)
    return isinstance(splits.train, MemorySplit)


def stream(split: Split, workers: int) -> StreamSplit:
    assert isinstance(split, StreamSplit)
    split.workers = workers
    return split


def statistics(splits: Splits) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that inputs are normalised by."""
    assert isinstance(splits.train, (MemorySplit, StreamSplit))
    return splits.train.transform.mean, splits.train.transform.std
