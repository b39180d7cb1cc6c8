"""What training relies on: an image is the same however it is read, and decoding happens once."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from mqbench import data
from mqbench.data import _decoded
from mqbench.data._base import Preprocessing, Split, Splits
from mqbench.data._columns import stored_splits
from mqbench.data._guess import IMAGENET
from mqbench.data._repository import Repository
from mqbench.data._stored import Stored
from mqbench.data._stream import reading_processes
from mqbench.errors import RequestError
from mqbench.record import Setting
from mqbench.task import RunTask

pytestmark = pytest.mark.usefixtures("cache")
NAMES = ["folder:set?keep=memory", "folder:set?keep=stream", "folder:set?augment=resized_crop", "folder:tree"]


def opened(name: str, folder: Path, preprocessing: Preprocessing | None = None) -> Splits:
    catalog: Any = data
    splits: Splits = catalog[name].open(str(folder), preprocessing or Preprocessing())
    return splits


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.repository(tmp_path / "set", counts={"train": 24, "test": 6})
    tiny.tree(tmp_path / "tree", {"train": ["a", "b", "c"], "val": ["a", "b", "c"]}, each=8)
    return tmp_path


def whole(split: Split, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    (batch,) = split.batches([torch.arange(len(split))], **options)
    return batch


@pytest.mark.parametrize("name", NAMES)
def test_an_image_does_not_depend_on_its_batch(folder: Path, name: str) -> None:
    """Any order, any cut, any number of processes, and a new start in the middle of an epoch."""
    splits = opened(name, folder, Preprocessing(size=32))
    order = torch.randperm(24)
    for augment, workers, size in ((None, 0, 5), (0, 2, 7), (7, 0, 5), (7, 2, 7)):
        images, labels = whole(splits.train, augment=augment)
        if not tiny.in_memory(splits):
            tiny.stream(splits.train, workers)
        picks = order.split(size)
        batches = list(splits.train.batches(picks, augment=augment))
        assert [len(y) for _, y in batches] == [len(pick) for pick in picks]
        assert torch.equal(torch.cat([x for x, _ in batches]), images[order])
        assert torch.equal(torch.cat([y for _, y in batches]), labels[order])
        resumed = list(splits.train.batches(picks[2:], augment=augment))
        assert torch.equal(resumed[0][0], batches[2][0])


@pytest.mark.parametrize("name", NAMES)
def test_augmentation_changes_with_its_number_and_the_image(folder: Path, name: str) -> None:
    train = opened(name, folder, Preprocessing(size=32)).train
    plain, first, second = (whole(train, augment=k)[0] for k in (None, 1, 2))
    for a, b in ((plain, first), (first, second)):
        assert (a != b).flatten(1).any(1).sum() >= 22
    (twice, _) = next(train.batches([torch.tensor([3, 3])], augment=1))
    assert torch.equal(twice[0], twice[1])


def test_reading_draws_nothing_from_the_generator_of_torch(folder: Path) -> None:
    for name in NAMES:
        train = opened(name, folder, Preprocessing(size=32)).train
        before = torch.get_rng_state()
        whole(train, augment=1)
        assert torch.equal(torch.get_rng_state(), before)


def test_memory_and_stream_give_the_same(folder: Path) -> None:
    asked = Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3)
    memory, stream = (opened(name, folder, asked) for name in NAMES[:2])
    assert tiny.in_memory(memory)
    assert not tiny.in_memory(stream)
    for augment in (None, 3):
        assert torch.equal(whole(memory.train, augment=augment)[0], whole(stream.train, augment=augment)[0])


def test_small_sets_are_measured(folder: Path) -> None:
    """Mean and standard deviation of the training images, so that inputs have 0 and 1."""
    images, _ = whole(opened("folder:set", folder).train)
    assert images.mean((0, 2, 3)).abs().max() < 1e-5
    assert (images.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-4


def test_a_second_run_decodes_nothing(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the data, or what is asked of it, changes."""
    first = opened("folder:set", folder)
    real = Stored.images
    monkeypatch.setattr(Stored, "images", lambda *_: pytest.fail("decoded again"))
    again = opened("folder:set", folder)
    assert again.fingerprint == first.fingerprint
    assert torch.equal(whole(again.train, augment=1)[0], whole(first.train, augment=1)[0])
    monkeypatch.setattr(Stored, "images", real)
    assert opened("folder:set", folder, Preprocessing(size=16)).image_shape == (3, 16, 16)
    tiny.repository(folder / "set", counts={"train": 12})
    changed = opened("folder:set", folder)
    assert len(changed.train) == 12
    assert changed.fingerprint != first.fingerprint
    assert not list((cache / "decoded").glob("*.draft"))


def test_who_comes_second_waits_for_the_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is one of the file system's, so it keeps threads apart as it does processes."""
    stored = stored_splits(Repository(folder / "set"))
    transform = replace(IMAGENET, size=32, augmentation="none")
    real, written = _decoded._write, []

    def slow(*arguments: Any) -> None:
        written.append(arguments)
        time.sleep(0.3)
        real(*arguments)

    monkeypatch.setattr(_decoded, "_write", slow)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: _decoded.decode("key", stored, transform), range(4)))
    assert len(written) == 1
    assert all(torch.equal(each.train[0], made[0].train[0]) for each in made)


def test_what_a_killed_process_left_is_taken_for_nothing(folder: Path, cache: Path) -> None:
    splits = opened("folder:set", folder)
    (made,) = (path for path in (cache / "decoded").iterdir() if path.is_dir())
    made.rename(made.with_suffix(".draft"))
    (made.with_suffix(".draft") / "train.npy").write_bytes(b"half")
    again = opened("folder:set", folder)
    assert torch.equal(whole(again.test)[0], whole(splits.test)[0])
    assert not made.with_suffix(".draft").exists()


def test_a_cache_that_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened("folder:set?keep=stream", folder)  # the arrow copy is there
    (folder / "file").touch()
    monkeypatch.setenv("MQBENCH_CACHE", str(folder / "file"))
    with pytest.raises(RequestError, match="MQBENCH_CACHE"):
        opened("folder:tree?augment=none&keep=memory", folder, Preprocessing(size=8))


def test_the_fingerprint_is_of_the_content(folder: Path) -> None:
    """Not of the place or the time."""
    for name in ("set", "tree"):
        copy = folder / f"{name}_copy"
        for path in sorted((folder / name).rglob("*.*")):
            target = copy / path.relative_to(folder / name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
        prints = [opened(f"folder:{n}?keep=stream", folder).fingerprint for n in (name, f"{name}_copy")]
        assert prints[0] == prints[1]


def test_memory_that_cannot_be(folder: Path) -> None:
    with pytest.raises(RequestError, match="keep=memory needs augment=padded_crop or augment=none"):
        opened("folder:tree?keep=memory", folder)


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    for part in ("train", "test"):
        pictures = [tiny.encoded(tiny.picture(k, (28, 28), "L")) for k in range(10)]
        labels = {"label": np.arange(10) % 2}
        tiny.write_parquet(tmp_path / "grey" / f"{part}.parquet", pictures, labels, "image")
    splits = opened("folder:grey", tmp_path)
    assert splits.image_shape == (1, 28, 28)
    assert whole(splits.train, augment=1)[0].shape == (10, 1, 28, 28)


def test_processes_that_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(24)), raising=False)
    assert reading_processes(3, torch.device("cpu")) == 3
    assert reading_processes(0, torch.device("cuda")) == 0
    assert reading_processes(None, torch.device("cpu")) == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert reading_processes(None, torch.device("cuda")) == 6


def test_a_run_says_how_many_processes_read(folder: Path) -> None:
    setting = Setting(
        architecture="resnet20", dataset="folder:tree?augment=none&keep=stream", algorithm="float"
    )
    assert RunTask.of(setting, str(folder), 2).splits.test.workers == 2
