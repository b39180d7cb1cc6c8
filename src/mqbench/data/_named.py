"""Datasets that have a name here: a folder of the data folder, or, where there is none, of the hub."""

from mqbench.data._base import Dataset, Facts, Preprocessing, Splits
from mqbench.data._hub import Hub
from mqbench.data._images import Images
from mqbench.data._place import FOLDER, data_folder
from mqbench.data._storage import Source
from mqbench.data._stored_folder import stored_folder
from mqbench.data._transform import Transform
from mqbench.errors import RequestError


def named_dataset(
    folder_name: str,
    transform: Transform,
    classes: int,
    *,
    hub: str | None = None,
    images: tuple[int, int] | None = None,
) -> Dataset:
    """A dataset whose place, transform and number of classes are known.

    Args:
        folder_name: below the data folder. Where there is a data folder the network is not asked.
        transform: its own.
        classes: that it must have.
        hub: repository to fetch it from where there is no data folder.
        images: for training and testing, so that a study can be planned without the data.
    """
    shape = transform.channels, transform.size, transform.size
    facts = images and Facts(
        train_images=images[0], test_images=images[1], classes=classes, image_shape=shape
    )

    def source(folder: str | None) -> Source:
        place = data_folder(folder)
        if place is not None:
            return stored_folder(place / folder_name)
        if hub is None:
            raise RequestError(f"give the folder that holds {folder_name}/: --data, or {FOLDER}")
        return Hub(hub)

    def images_in(folder: str | None) -> Images:
        return Images(source=source(folder), transform=transform, classes=classes)

    def open_splits(folder: str | None, preprocessing: Preprocessing) -> Splits:
        return images_in(folder).open(preprocessing)

    return Dataset(open=open_splits, check=lambda folder: images_in(folder).check(), facts=facts)
