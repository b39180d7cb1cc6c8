"""Every way to store a dataset: what is found in it, and what is said when something is missing."""

import socket
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import tiny
from mqbench import data
from mqbench.data._base import Preprocessing, Splits
from mqbench.errors import DataError, RequestError
from mqbench.record import Setting
from mqbench.task import validate

pytestmark = pytest.mark.usefixtures("cache")
COUNTS = {"train": 9, "test": 6}


def opened(name: str, folder: Path, preprocessing: Preprocessing | None = None) -> Splits:
    catalog: Any = data
    splits: Splits = catalog[name].open(str(folder), preprocessing or Preprocessing())
    return splits


def refused(name: str, folder: Path, error: type[Exception] = RequestError) -> str:
    with pytest.raises(error) as caught:
        opened(name, folder)
    return str(caught.value)


def refused_at_the_door(name: str, folder: Path, error: type[Exception] = RequestError) -> str:
    """The same before an image is read, as opening says it."""
    catalog: Any = data
    with pytest.raises(error) as caught:
        catalog[name].check(str(folder))
    assert str(caught.value) == refused(name, folder, error)
    return str(caught.value)


def unchecked(name: str, folder: str | None) -> str:
    catalog: Any = data
    with pytest.raises(RequestError) as caught:
        catalog[name].check(folder)
    return str(caught.value)


@pytest.mark.parametrize("test", ["test", "validation", "val"])
def test_parquet(tmp_path: Path, test: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns by their types, no network, nothing written to the data folder."""
    folder = tiny.repository(tmp_path / "data" / "set", counts={"train": 9, test: 6})
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was asked"))
    before = sorted(folder.rglob("*"))
    splits = opened("folder:set", tmp_path / "data")
    assert sorted(folder.rglob("*")) == before
    assert (len(splits.train), len(splits.test), splits.classes) == (9, 6, 3)
    assert splits.image_shape == (3, 32, 32)
    images, labels = next(splits.test.batches([torch.tensor([4, 1])]))
    assert labels.tolist() == [1, 1]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in tiny.statistics(splits))
    stored = torch.tensor(np.asarray(tiny.picture(1004)) / 255.0).permute(2, 0, 1)
    assert torch.allclose(images[0], ((stored - mean) / std).float(), atol=1e-6)


def test_a_repository_with_metadata_and_one_that_was_saved(tmp_path: Path) -> None:
    """`push_to_hub` writes types into the parquet, `save_to_disk` writes arrow: the same images."""
    features = datasets.Features({"picture": datasets.Image(), "y": datasets.ClassLabel(names=["a", "b"])})
    rows = {"picture": [tiny.picture(k) for k in range(4)], "y": [0, 1, 0, 1]}
    table = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": table, "test": table}).save_to_disk(str(tmp_path / "saved"))
    for split in ("train", "test"):
        table.to_parquet(str(tmp_path / "typed" / f"{split}.parquet"))
    saved, typed = (opened(f"folder:{name}", tmp_path) for name in ("saved", "typed"))
    assert saved.classes == typed.classes == 2
    batches = [next(splits.train.batches([torch.arange(4)], augment=1)) for splits in (saved, typed)]
    assert torch.equal(batches[0][0], batches[1][0])


def test_an_image_tree(tmp_path: Path) -> None:
    """Classes in the order of their names, files that are no images or have no class left out."""
    folder = tiny.tree(tmp_path / "tree", {"train": ["n02", "n01", "n10"], "val": ["n10", "n01", "n02"]})
    (folder / "train" / "n01" / "notes.txt").write_text("none")
    (folder / "train" / "n01" / "._n01_0.JPEG").write_bytes(b"of macOS")
    (folder / "val" / "stray.JPEG").write_bytes((folder / "val" / "n01" / "n01_0.JPEG").read_bytes())
    splits = opened("folder:tree", tmp_path, Preprocessing(size=32))
    assert (len(splits.train), len(splits.test), splits.classes) == (9, 9, 3)
    assert not tiny.in_memory(splits)
    batch = next(splits.test.batches(splits.test.in_order(9)))
    assert batch[1].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert batch[0].shape == (9, 3, 32, 32)


def test_columns_that_are_given(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"fine_label": lambda row: row % 4, "coarse_label": lambda row: row % 2}
    tiny.repository(tmp_path / "set", counts=COUNTS, **columns)
    said = refused_at_the_door("folder:set", tmp_path)
    assert "several columns that may be the label: fine_label, coarse_label" in said
    assert "label=fine_label" in said
    assert opened("folder:set?label=fine_label", tmp_path).classes == 4
    assert opened("folder:set?label=coarse_label&image=img", tmp_path).classes == 2
    assert "no column 'lable'; its columns: img, fine_label" in refused_at_the_door(
        "folder:set?label=lable", tmp_path
    )
    assert "'fine_label' of" in refused_at_the_door("folder:set?image=fine_label&label=fine_label", tmp_path)


@pytest.mark.parametrize("option", ["", "?label=breed"])
def test_labels_that_are_names(tmp_path: Path, option: str) -> None:
    """Classes of a column of text are numbered in the order of their names; other text is no label unasked."""
    columns: dict[str, Any] = {option[7:] or "label": lambda row: "cba"[row % 3], "text": str}
    tiny.repository(tmp_path / "set", counts=COUNTS, **columns)
    splits = opened(f"folder:set{option}", tmp_path)
    assert splits.classes == 3
    assert next(splits.test.batches(splits.test.in_order(3)))[1].tolist() == [2, 1, 0]
    tiny.repository(
        tmp_path / "set", counts={"test": 2}, **(columns | {next(iter(columns)): lambda row: "abz"[row + 1]})
    )
    assert "row 1 of test of" in (said := refused_at_the_door(f"folder:set{option}", tmp_path, DataError))
    assert "is of class 'z', which training lacks" in said


def test_hidden_labels_of_a_test_split(tmp_path: Path) -> None:
    """ImageNet's test split on the hub has the label -1 everywhere: validation is meant."""
    tiny.repository(tmp_path / "set", counts={"train": 9, "validation": 6})
    tiny.repository(tmp_path / "set", counts={"test": 5}, label=lambda row: -1)
    assert len(opened("folder:set", tmp_path).test) == 6


@pytest.mark.parametrize(
    ("counts", "columns", "said"),
    [
        ({"train": 4}, {}, "needs a split 'test' or 'validation' or 'valid' or 'val' with images"),
        ({"test": 4}, {}, "needs a split 'train' with images and labels, got 'test' of 4 images"),
        (COUNTS, {"text": str}, "has no label column; its columns: img, text"),
    ],
)
def test_missing_parts(tmp_path: Path, counts: dict[str, int], columns: dict[str, Any], said: str) -> None:
    tiny.repository(tmp_path / "set", counts=counts, **columns)
    assert said in refused_at_the_door("folder:set", tmp_path)


def test_missing_images(tmp_path: Path) -> None:
    for split in ("train", "test"):
        path = tmp_path / "set" / f"{split}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"label": [0, 1]}), path)
    assert "has no image column; its columns: label" in refused_at_the_door("folder:set", tmp_path)


def test_missing_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    missing = {
        "folder:nowhere": "there is no folder",
        "folder:empty": "empty holds no images; allowed are .parquet or .arrow files, or folders",
        "imagenet": "there is no folder",
    }
    for name, said in missing.items():
        assert said in refused_at_the_door(name, tmp_path)
        assert said in unchecked(name, str(tmp_path))
    assert "the data folder must be an existing folder" in unchecked("cifar10", str(tmp_path / "nowhere"))
    assert "is relative to the data folder: give --data, set MQBENCH_DATA" in unchecked("folder:set", None)
    assert "give the folder that holds imagenet-sample/: --data" in unchecked("imagenet_sample", None)


def test_missing_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    said = "this dataset needs datasets and torchvision: pip install 'mqbench[vision]'"
    assert refused_at_the_door("folder:set", tmp_path) == said


def test_only_one_split_in_a_tree(tmp_path: Path) -> None:
    tiny.tree(tmp_path / "tree", {"train": ["a", "b"]})
    assert "has no test split, one of test/, validation/, valid/, val/" in refused_at_the_door(
        "folder:tree", tmp_path
    )


def test_classes_that_differ(tmp_path: Path) -> None:
    tiny.tree(tmp_path / "tree", {"train": ["a", "b", "c"], "val": ["a", "b", "z"]})
    assert "3 classes in training and 3 in test; they differ in c, z" in refused_at_the_door(
        "folder:tree", tmp_path
    )
    tiny.repository(tmp_path / "set", counts={"train": 4}, label=lambda row: row % 2)
    tiny.repository(tmp_path / "set", counts={"test": 4}, label=lambda row: row)
    assert "has 2 classes in training, but labels up to 3 in test" in refused_at_the_door(
        "folder:set", tmp_path
    )
    tiny.repository(tmp_path / "cifar10", counts=COUNTS)
    assert "cifar10 must have 10 classes, it has 3" in refused_at_the_door("cifar10", tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = tiny.repository(tmp_path / "set", counts=COUNTS)
    path = folder / "data" / "test-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    assert f"{path} is damaged or no parquet file" in refused_at_the_door("folder:set", tmp_path, DataError)


def read_all(name: str, folder: Path) -> None:
    train = opened(name, folder, Preprocessing(size=16)).train
    for _ in tiny.stream(train, workers=1).batches(train.in_order(30)):
        pass


@pytest.mark.parametrize("keep", ["memory", "stream"])
def test_a_damaged_image_is_named(tmp_path: Path, keep: str) -> None:
    """Whoever meets it: the decoding of all, or a worker process in the middle of an epoch."""
    pictures = [tiny.encoded(tiny.picture(k, (200, 150)), "JPEG") for k in range(80)]
    pictures[41] = pictures[41][:300]
    labels = {"label": [k % 2 for k in range(80)]}
    tiny.write_parquet(tmp_path / "set" / "train.parquet", pictures, labels, "image")
    tiny.write_parquet(tmp_path / "set" / "test.parquet", pictures[:2], {"label": [0, 1]}, "image")
    with pytest.raises(DataError) as caught:
        read_all(f"folder:set?augment=none&keep={keep}", tmp_path)
    assert str(caught.value).startswith(f"row 41 of train of {tmp_path}/set is no readable image (OSError:")


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_unknown_range_are_refused(tmp_path: Path, mode: str) -> None:
    """PIL would clip them to white."""
    pictures = [tiny.encoded(tiny.picture(k, (8, 8), "L").convert(mode), "TIFF") for k in range(4)]
    for part in ("train", "test"):
        tiny.write_parquet(tmp_path / "set" / f"{part}.parquet", pictures, {"label": [0, 1, 0, 1]}, "image")
    with pytest.raises(DataError, match=f"row 0 of train .*mode {mode}: 32 bits have no known range"):
        opened("folder:set", tmp_path)


def test_too_few_images_for_a_batch_are_refused_at_the_door(tmp_path: Path) -> None:
    tiny.repository(tmp_path / "set", counts=COUNTS)
    setting = Setting(architecture="resnet20", dataset="folder:set")
    with pytest.raises(RequestError, match="at most the 9 training images, got 128"):
        validate([setting], str(tmp_path))
    validate([setting.model_copy(update={"batch_size": 9})], str(tmp_path))


@pytest.mark.parametrize(
    ("label", "said"), [(None, "row 2 of train of .* has no label"), (-1, "has the label -1")]
)
def test_a_row_without_a_label_is_named(tmp_path: Path, label: int | None, said: str) -> None:
    tiny.repository(tmp_path / "set", counts=COUNTS, label=lambda row: label if row == 2 else row % 3)
    with pytest.raises((DataError, RequestError), match=said):
        opened("folder:set", tmp_path)


def test_the_hub_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach 'me/mine' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    said = refused("hub:me/mine:large", tmp_path)
    assert said == "cannot get hub:me/mine:large from the hub: Couldn't reach 'me/mine' on the Hub"


def test_a_dataset_of_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the library gives for a hub name is read like a folder; its fingerprint follows the content."""
    folder = tiny.repository(tmp_path / "set", counts=COUNTS)
    load = datasets.load_dataset

    def fetched(place: str, config: str | None, **options: Any) -> Any:
        assert (place, config) == ("me/mine", None)
        return load(str(folder), **options)

    monkeypatch.setattr(datasets, "load_dataset", fetched)
    splits = opened("hub:me/mine", tmp_path)
    assert (len(splits.train), splits.classes) == (9, 3)
    tiny.repository(folder, counts=COUNTS, label=lambda row: row % 2)
    assert opened("hub:me/mine", tmp_path).fingerprint != splits.fingerprint
