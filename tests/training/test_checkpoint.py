"""A training that was killed goes on from its checkpoint and ends in the same network."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import mqbench
from mqbench.errors import StoreError
from mqbench.training import Checkpoint, Training, train
from networks import Dropped, Net, images, trained
from training_case import RECIPE, splits

EVERY_STEP = 1e-9


def network() -> Any:
    torch.manual_seed(0)
    q = mqbench.prepare(trained(Net(Dropped())), images(), backend="snpe", algorithm="lsq")
    mqbench.calibrate(q, [images(16)])
    return q


class Killed(Exception):
    pass


def run(checkpoint: Checkpoint | None, kill_at: int | None = None) -> tuple[Training, dict[str, Any]]:
    torch.manual_seed(5)
    model = network()

    def progress(done: int, total: int) -> None:
        if done == kill_at:
            raise Killed

    result = train(
        model,
        splits(),
        replace(RECIPE, epochs=3),
        seed=2,
        checkpoint=checkpoint,
        extra="note",
        progress=progress,
    )
    return result, model.state_dict()


@pytest.mark.parametrize("kill_at", [3, 4, 6, 11])
def test_it_ends_as_if_never_killed(tmp_path: Path, kill_at: int) -> None:
    whole, state = run(None)
    place = Checkpoint(tmp_path / "folder" / "run.pt", EVERY_STEP)
    with pytest.raises(Killed):
        run(place, kill_at)
    saved = place.load()
    assert saved is not None
    # at the last step of an epoch the kill comes before its end, which has a checkpoint of its own
    assert (saved["step"], saved["extra"]) == (3 if kill_at == 4 else kill_at, "note")
    again, after = run(place)
    assert again == whole
    assert again.files.keys() == whole.files.keys()
    assert again.files["curve.parquet"] == whole.files["curve.parquet"]
    assert again.files["quantizers.parquet"] == whole.files["quantizers.parquet"]
    assert all(torch.equal(state[name], after[name]) for name in state)


def test_a_checkpoint_of_another_training_is_not_taken(tmp_path: Path) -> None:
    place = Checkpoint(tmp_path / "run.pt", EVERY_STEP)
    with pytest.raises(Killed):
        run(place, 5)
    torch.manual_seed(5)
    longer = train(network(), splits(), replace(RECIPE, epochs=4), seed=2, checkpoint=place)
    assert len(longer.curve) == 4


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 half a file", b"\x80\x04cos\nsystem\n"])
def test_a_damaged_checkpoint_counts_as_none(tmp_path: Path, damage: bytes) -> None:
    place = Checkpoint(tmp_path / "run.pt")
    place.path.write_bytes(damage)
    assert place.load() is None
    assert run(place)[0] == run(None)[0]


def test_no_half_written_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Checkpoint(tmp_path / "run.pt")
    place.save({"step": 1})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(StoreError, match=r"cannot write checkpoint .*No space left"):
            place.save({"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]
    saved = place.load()
    assert saved is not None
    assert saved["step"] == 1
    place.remove()
    place.remove()
    assert place.load() is None
