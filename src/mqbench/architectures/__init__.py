"""One architecture family a file, with its training recipes; any timm model or factory goes too."""

from importlib import import_module
from types import MappingProxyType
from typing import Any

from mqbench.catalog import Catalog

TIMM = "timm/"


class Architectures(Catalog[Any]):
    """The files of this folder, ``timm/NAME`` for any model of timm, ``package.module:factory``.

    The open names are not listed; they are checked when they are used.
    """

    open_names = MappingProxyType(
        {
            "timm/NAME": "any model of timm",
            "PACKAGE.MODULE:FACTORY": "any function that makes a torch.nn.Module",
        }
    )

    def check(self, name: object) -> None:
        """Raise ``UnknownNameError`` for a plain name that is not a file here."""
        if not (isinstance(name, str) and (name.startswith(TIMM) or ":" in name)):
            super().check(name)

    def __getitem__(self, name: str) -> Any:
        if name.startswith(TIMM):
            entries = import_module(f"{self.__name__}._open")
            return entries.named_timm_architecture(name.removeprefix(TIMM))
        if ":" in name:
            return import_module(f"{self.__name__}._open").factory_architecture(name)
        return super().__getitem__(name)


Architectures.adopt(__name__, "ARCHITECTURE", instance_of="mqbench.architectures._base:Architecture")
