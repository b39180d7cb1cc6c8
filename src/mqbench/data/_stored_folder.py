"""What kind of storage a folder is."""

from pathlib import Path

from mqbench.data._image_folder import ImageFolder
from mqbench.data._repository import Repository
from mqbench.data._storage import Source


def stored_folder(folder: Path, config: str | None = None) -> Source:
    """A tree of image files if it has folders of classes for training, else a datasets repository."""
    if config is None and ImageFolder.looks_like(folder):
        return ImageFolder(folder)
    return Repository(folder, config)
