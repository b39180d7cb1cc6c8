"""Datasets that have a name here: a folder of the data folder, or, where there is none, of the hub."""

from mqbench.data._hub import Hub
from mqbench.data._place import FOLDER, data_folder
from mqbench.data._repository import Repository
from mqbench.data._source import Source
from mqbench.errors import RequestError


def named_source(name: str, folder: str | None, *, hub: str | None = None) -> Source:
    """``folder/name`` if there is a data folder (the network is not asked then), else ``hub``.

    Raises:
        RequestError: there is no data folder and the dataset is on no hub, or it is no folder.
    """
    place = data_folder(folder)
    if place is not None:
        return Repository(place / name)
    if hub is None:
        raise RequestError(f"{name} needs the folder that holds {name}/: give --data, or set {FOLDER}")
    return Hub(hub)
