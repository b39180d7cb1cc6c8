"""One dataset a file; any dataset of the hub and any folder of images goes too."""

from importlib import import_module
from types import MappingProxyType
from typing import Any

from mqbench.catalog import Catalog
from mqbench.data._name import KINDS, OpenName


class Datasets(Catalog[Any]):
    """The files of this folder, ``hub:OWNER/NAME[:CONFIG]`` and ``folder:PATH``, both with ``?option=value&...``.

    The open names are not listed; whether there is such data is checked when they are used.
    """

    open_names = MappingProxyType(
        {
            "hub:OWNER/NAME[:CONFIG]": "any dataset of images on the Hugging Face hub",
            "folder:PATH": "any folder of parquet or arrow files, or of train/<class>/ and val/<class>/ images",
        }
    )

    def check(self, name: object) -> None:
        """Raise ``RequestError`` for a plain name that is not a file here, or an option that does not exist."""
        if isinstance(name, str) and name.partition(":")[0] in KINDS and ":" in name:
            OpenName.parse(name)
        else:
            super().check(name)

    def __getitem__(self, name: str) -> Any:
        self.check(name)
        if ":" in name:
            return import_module(f"{self.__name__}._open").open_dataset(name)
        return super().__getitem__(name)


Datasets.adopt(__name__, "DATASET", instance_of="mqbench.data._base:Dataset")
