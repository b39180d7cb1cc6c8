"""Datasets that have no file here: ``hub:OWNER/NAME[:CONFIG]`` and ``folder:PATH``, with options behind a ``?``.

>>> Name.parse("folder:cifar100?label=fine_label&augment=none").options
{'label': 'fine_label', 'augment': 'none'}
"""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qsl

from mqbench.data._base import Dataset, Preprocessing, Splits
from mqbench.data._hub import Hub
from mqbench.data._images import Images, Keep
from mqbench.data._place import FOLDER, data_folder
from mqbench.data._source import Source
from mqbench.data._stored_folder import stored_folder
from mqbench.data._transform import Augmentation
from mqbench.errors import RequestError

_CHOICES = {"augment": get_args(Augmentation), "keep": get_args(Keep)}
_OPTIONS = ("image", "label", "config", *_CHOICES)


@dataclass(frozen=True)
class Name:
    """A dataset's name, taken apart: ``kind:place?options``."""

    kind: str
    place: str
    options: dict[str, str]

    @classmethod
    def parse(cls, name: str) -> "Name":
        """Raises ``RequestError`` for an option or a value that does not exist."""
        whole, _, query = name.partition("?")
        kind, _, place = whole.partition(":")
        pairs = parse_qsl(query, keep_blank_values=True)
        if not place:
            raise RequestError(f"dataset {name!r} names nothing behind {kind!r}")
        if query and not pairs:
            raise RequestError(f"dataset {name!r}: options are written option=value&option=value")
        for option, value in pairs:
            if option not in _OPTIONS:
                near = get_close_matches(option, _OPTIONS, n=1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise RequestError(
                    f"dataset {name!r} has the option {option!r}{hint}; allowed: {', '.join(_OPTIONS)}"
                )
            if not value or value not in _CHOICES.get(option, (value,)):
                allowed = " or ".join(_CHOICES.get(option, ("a name",)))
                raise RequestError(f"dataset {name!r}: {option} must be {allowed}, got {value!r}")
        return cls(kind, place, dict(pairs))


def open_dataset(name: str) -> Dataset:
    """The dataset of an open name.

    Raises:
        RequestError: the name is not written as it must be.
    """
    parsed = Name.parse(name)
    options: dict[str, Any] = dict(parsed.options)
    config = options.pop("config", None)
    augmentation = options.pop("augment", None)
    if parsed.kind == "hub":
        repository, _, own = parsed.place.partition(":")
        hub = Hub(repository, own or config)
        source: Callable[[str | None], Source] = lambda folder: hub  # noqa: E731
    else:
        source = lambda folder: stored_folder(_path(name, parsed.place, folder), config)  # noqa: E731

    def open_splits(folder: str | None, preprocessing: Preprocessing) -> Splits:
        images = Images(source=source(folder), augmentation=augmentation, **options)
        return images.open(preprocessing)

    return Dataset(open=open_splits, check=lambda folder: source(folder).check())


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
