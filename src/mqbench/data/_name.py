"""How a dataset that has no file here is named: ``hub:OWNER/NAME[:CONFIG]``, ``folder:PATH``, then ``?options``.

>>> OpenName.parse("folder:cifar100?label=fine_label&augment=none").options
{'label': 'fine_label', 'augment': 'none'}
"""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, get_args

from mqbench.errors import RequestError

Augmentation = Literal["padded_crop", "resized_crop", "none"]
Keep = Literal["memory", "stream"]

KINDS = ("hub", "folder")
_CHOICES: dict[str, tuple[str, ...]] = {"augment": get_args(Augmentation), "keep": get_args(Keep)}
_OPTIONS = ("image", "label", "config", *_CHOICES)


@dataclass(frozen=True)
class OpenName:
    """The parts of ``kind:place?option=value&option=value``.

    Args:
        kind: hub or folder.
        place: what lies between the colon and the question mark.
        options: image, label (columns), config, augment, keep.
    """

    kind: str
    place: str
    options: dict[str, str]

    @classmethod
    def parse(cls, name: str) -> "OpenName":
        """Take a name apart.

        Raises:
            RequestError: it names no place, or an option or a value that does not exist.
        """
        whole, _, query = name.partition("?")
        kind, _, place = whole.partition(":")
        pairs = (pair.partition("=") for pair in query.split("&")) if query else ()
        options = {option: value for option, _, value in pairs}
        if not place:
            raise RequestError(f"dataset {name!r} names nothing behind '{kind}:'")
        if kind == "hub" and place.partition(":")[0].count("/") != 1:
            raise RequestError(f"dataset {name!r} must be hub:OWNER/NAME or hub:OWNER/NAME:CONFIG")
        for option, value in options.items():
            _check(name, option, value)
        return cls(kind, place, options)


def _check(name: str, option: str, value: str) -> None:
    if option not in _OPTIONS:
        near = get_close_matches(option, _OPTIONS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise RequestError(
            f"dataset {name!r} has the option {option!r}{hint}; allowed: {', '.join(_OPTIONS)}"
        )
    if not value or value not in _CHOICES.get(option, (value,)):
        allowed = ", ".join(_CHOICES.get(option, ("a name",)))
        raise RequestError(f"dataset {name!r}: {option} must be one of {allowed}, got {value!r}")
