"""Decoded images on disk: made once, atomically, and mapped into the memory of every process that asks."""

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mqbench.data._place import CACHE, cache_folder
from mqbench.data._stored import Stored, StoredSplits
from mqbench.data._transform import Transform
from mqbench.errors import RequestError

Histogram = NDArray[np.int64]
FORMAT = 2  # of the files and pixels; another number leaves old ones alone
_CHUNK = 1024  # images read at a time
_META = "meta.json"
_PARTS = ("train", "test")


@dataclass(frozen=True)
class Decoded:
    """Pixels (uint8, ``[N, C, S, S]``) and labels (``[N]``) of both parts, and how they were made."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    classes: int
    transform: Transform


def decoded_key(*parts: object) -> str:
    """Name of the folder: of what is stored, what was asked of it, and the decoder."""
    decoder: Any = import_module("PIL")
    text = json.dumps([FORMAT, decoder.__version__, *map(str, parts)])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def known(key: str) -> Decoded | None:
    """What was decoded before under this key."""
    folder = cache_folder() / "decoded" / key
    try:
        meta = json.loads((folder / _META).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    fields: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in meta["transform"].items()}
    train, test = ((_mapped(folder / f"{p}.npy"), _mapped(folder / f"{p}_labels.npy")) for p in _PARTS)
    return Decoded(train, test, meta["classes"], Transform(**fields))


def decode(key: str, splits: StoredSplits, transform: Transform, measured: tuple[str, ...] = ()) -> Decoded:
    """Decode both parts, unless another process has meanwhile.

    Args:
        key: of `decoded_key`.
        splits: the encoded images.
        transform: what fits them to size.
        measured: which of ``mean`` and ``std`` are to be those of the training images.

    Raises:
        RequestError: the cache folder cannot be written.
        DataError: a row that is no readable image.
    """
    home = cache_folder() / "decoded"
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock: Any = import_module("filelock").FileLock(home / f"{key}.lock")
        with lock:
            made = known(key)
            if made is None:
                _write(home, key, splits, transform, measured)
                made = known(key)
    except OSError as error:
        raise RequestError(
            f"cannot keep decoded images in {home}: {error}; name a folder by {CACHE}"
        ) from error
    assert made is not None
    return made


def _write(
    home: Path, key: str, splits: StoredSplits, transform: Transform, measured: tuple[str, ...]
) -> None:
    """Under the lock: a draft that is there already was left by a process that died."""
    draft = home / f"{key}.draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        for part, stored in zip(_PARTS, (splits.train, splits.test), strict=True):
            histogram = _write_pixels(draft / f"{part}.npy", stored, transform)
            np.save(draft / f"{part}_labels.npy", stored.labels().numpy())
            if part == "train" and measured:
                moments: dict[str, Any] = _moments(histogram)
                transform = replace(transform, **{field: moments[field] for field in measured})
        meta = {"classes": splits.classes, "transform": asdict(transform), "of": splits.train.name}
        (draft / _META).write_text(json.dumps(meta, indent=1), encoding="utf-8")
        os.rename(draft, home / key)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write_pixels(path: Path, stored: Stored, transform: Transform) -> Histogram:
    """Write the fitted images; returns how often each channel has each value, ``[C, 256]``."""
    shape = (len(stored), transform.channels, transform.size, transform.size)
    pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    histogram = np.zeros((transform.channels, 256), dtype=np.int64)
    for start in range(0, len(stored), _CHUNK):
        rows = range(start, min(start + _CHUNK, len(stored)))
        for row, image in zip(rows, stored.images(rows), strict=True):
            pixels[row] = transform.fit(image)
        for channel, counts in enumerate(histogram):
            counts += np.bincount(pixels[rows.start : rows.stop, channel].ravel(), minlength=256)
    pixels.flush()
    return histogram


def _moments(histogram: Histogram) -> dict[str, tuple[float, ...]]:
    """Mean and standard deviation of each channel, for pixels in [0, 1]; a constant channel is not scaled."""
    values = np.arange(256) / 255
    share = histogram / histogram.sum(1, keepdims=True)
    mean = share @ values
    std = np.sqrt(np.maximum(share @ values**2 - mean**2, 0))
    return {"mean": tuple(mean.tolist()), "std": tuple(np.where(std > 0, std, 1).tolist())}


def _mapped(path: Path) -> Tensor:
    """Shared with other processes until it is written to, which nothing does."""
    return torch.from_numpy(np.load(path, mmap_mode="c"))
