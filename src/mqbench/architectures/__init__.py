"""One architecture family a file, with its training recipes; any timm model or factory goes too."""

from importlib import import_module
from types import MappingProxyType
from typing import Any

from mqbench.catalog import Catalog


class Architectures(Catalog[Any]):
    """The files of this folder, and three open sets of names.

    ``timm/NAME`` is any model of timm, ``torchvision/NAME`` any classification model of torchvision,
    ``package.module:factory`` any function that makes a module. Open names are not listed; whether there is
    such a model is seen when it is asked for.
    """

    open_names = MappingProxyType(
        {
            "timm/NAME": "any model of timm; NAME.TAG chooses among its pretrained weights",
            "torchvision/NAME": "any classification model of torchvision",
            "PACKAGE.MODULE:FACTORY": "any function that makes a torch.nn.Module",
        }
    )

    def check(self, name: object) -> None:
        """Raise ``UnknownNameError`` for a plain name that is not a file here."""
        if not (isinstance(name, str) and _library(name)):
            super().check(name)

    def __getitem__(self, name: str) -> Any:
        library = _library(name)
        if library is None:
            return super().__getitem__(name)
        module = import_module(f"{self.__name__}._{library}")
        return module.named_architecture(name.removeprefix(f"{library}/"))


def _library(name: str) -> str | None:
    """Whose model an open name is; the files that know are ``_timm``, ``_torchvision``, ``_factory``."""
    library = name.partition("/")[0]
    if library in ("timm", "torchvision") and "/" in name:
        return library
    return "factory" if ":" in name else None


Architectures.adopt(__name__, "ARCHITECTURE", instance_of="mqbench.architectures._base:Architecture")
