"""Datasets that have no file here: of the hub, or any folder of images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mqbench.data._base import Dataset, Preprocessing, Splits
from mqbench.data._hub import Hub
from mqbench.data._images import Images
from mqbench.data._name import OpenName
from mqbench.data._place import FOLDER, data_folder
from mqbench.data._storage import Source
from mqbench.data._stored_folder import stored_folder
from mqbench.errors import RequestError


def open_dataset(name: str) -> Dataset:
    """The dataset of an open name.

    Raises:
        RequestError: the name is not written as it must be.
    """
    parsed = OpenName.parse(name)
    options: dict[str, Any] = dict(parsed.options)
    config, augmentation = options.pop("config", None), options.pop("augment", None)
    source = _source(name, parsed, config)

    def images_in(folder: str | None) -> Images:
        return Images(source=source(folder), augmentation=augmentation, **options)

    def open_splits(folder: str | None, preprocessing: Preprocessing) -> Splits:
        return images_in(folder).open(preprocessing)

    return Dataset(open=open_splits, check=lambda folder: images_in(folder).check())


def _source(name: str, parsed: OpenName, config: str | None) -> Callable[[str | None], Source]:
    if parsed.kind == "hub":
        repository, _, own = parsed.place.partition(":")
        hub = Hub(repository, own or config)
        return lambda folder: hub
    return lambda folder: stored_folder(_path(name, parsed.place, folder), config)


def _path(name: str, place: str, folder: str | None) -> Path:
    path = Path(place).expanduser()
    if path.is_absolute():
        return path
    root = data_folder(folder)
    if root is None:
        raise RequestError(
            f"dataset {name!r} is relative to the data folder: give --data, set {FOLDER}, or write a whole path"
        )
    return root / path
