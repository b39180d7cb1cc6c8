"""One setting, one record: reproducible to the bit, stored whole, refused before compute."""

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

import mqbench
from mqbench import float_network, runner
from mqbench.capture import capture
from mqbench.compute import Compute
from mqbench.errors import IncompatibleError, RequestError, StoreError, UnknownNameError
from mqbench.record import Record, Setting
from mqbench.store import Store
from mqbench.training import Checkpoint

FLOAT_FILES = (float_network.WEIGHTS, float_network.PREDICTIONS)
SHORT: dict[str, Any] = {"architecture": "digits_resnet", "dataset": "digits", "epochs": 1}


def quantized(**options: Any) -> Setting:
    return Setting(**{**SHORT, "algorithm": "lsq", "backend": "tensorrt", "bits": 4, **options})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a float network (trained for two epochs) under the default float setting's key."""
    place = Store(tmp_path_factory.mktemp("runs"))
    short = Setting(**{**SHORT, "epochs": 2})
    with TemporaryDirectory() as folder:
        made = Store(folder)
        record = runner.run(short, store=made).model_copy(update={"setting": quantized().float_setting})
        place.put(record, {name: made.file(short, name).read_bytes() for name in FLOAT_FILES})
    return place


def without_provenance(record: Record) -> dict[str, Any]:
    return record.model_dump(exclude={"provenance"})


def test_the_same_setting_gives_the_same_record(store: Store, tmp_path: Path) -> None:
    setting = quantized()
    first = runner.run(setting, store=store)
    (tmp_path / "again").mkdir()
    again = Store(tmp_path / "again")
    float_key = setting.float_setting.key
    known = store.get(float_key)
    assert known is not None
    again.put(known, {name: store.file(float_key, name).read_bytes() for name in FLOAT_FILES})
    torch.rand(7)  # the state of the global generator must not matter
    second = runner.run(setting, store=again, compute=Compute(threads=1))
    assert without_provenance(first) == without_provenance(second)
    names = [store.file(setting.key, "record.json"), again.file(setting.key, "record.json")]
    assert names[0].read_bytes() == names[1].read_bytes()
    assert first.outcome == "ok"
    assert first.accuracy == first.curve[-1].test_accuracy


def test_a_known_record_is_not_run_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = quantized(seed=11)
    record = runner.run(setting, store=store)
    monkeypatch.setattr(runner, "train", None)
    assert runner.run(setting, store=store) == store.get(setting.key) == record


def test_a_network_is_captured_once_and_anew_where_its_file_changes(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captured: list[torch.nn.Module] = []

    def counted(model: torch.nn.Module, example: torch.Tensor) -> Any:
        captured.append(model)
        torch.rand(7)  # what a capture may draw is not missed
        return capture(model, example)

    monkeypatch.setattr(float_network, "capture", counted)
    monkeypatch.setattr(float_network, "_LAST", {})
    alone = runner.run(quantized(epochs=0, seed=31), store=store)
    shared = [runner.run(quantized(epochs=0, seed=seed), store=store) for seed in (32, 33)]
    assert len(captured) == 1
    monkeypatch.setattr(float_network, "_LAST", {})
    start = quantized().float_setting
    other = Store(tmp_path / "runs")
    known = store.get(start)
    assert known is not None
    other.put(known, {name: store.file(start, name).read_bytes() for name in FLOAT_FILES})
    again = [runner.run(record.setting, store=other) for record in (shared[1], alone)]
    assert list(map(without_provenance, again)) == list(map(without_provenance, (shared[1], alone)))
    file = other.file(start, float_network.WEIGHTS)
    file.write_bytes(save({name: value * 0 for name, value in load_file(file).items()}))
    assert runner.run(quantized(epochs=0, seed=34), store=other).accuracy != alone.accuracy
    assert len(captured) == 3


def test_seeds_differ(store: Store) -> None:
    a, b = (runner.run(quantized(seed=seed), store=store) for seed in (1, 2))
    assert a.curve != b.curve


def test_float_run_is_stored_with_weights(store: Store) -> None:
    setting = Setting(**{**SHORT, "seed": 3})
    record = runner.run(setting, store=store)
    assert record.accuracy == record.float_accuracy
    weights = load_file(store.file(setting.key, float_network.WEIGHTS))
    model = mqbench.architectures["digits_resnet"].build(10, 1)
    assert set(weights) == set(model.state_dict())


def test_zero_epochs_is_post_training_quantization(store: Store) -> None:
    record = runner.run(
        quantized(epochs=0, algorithm="ptq", weight_calibration="mse", activation_calibration="minmax"),
        store=store,
    )
    assert record.curve == ()
    assert record.accuracy == record.calibrated_accuracy
    assert store.file(record.setting.key, "quantizers.parquet").exists()
    assert store.file(record.setting.key, "histograms.safetensors").exists()


def test_bias_correction_is_part_of_calibration(store: Store) -> None:
    options = {"epochs": 0, "algorithm": "ptq", "backend": "snpe", "bits": 3, "calibration_images": 64}
    plain, corrected = (
        runner.run(quantized(**options, bias_correction=images), store=store) for images in (0, 64)
    )
    assert corrected.agreement is not None
    assert plain.agreement is not None
    assert corrected.agreement > plain.agreement


def test_overrides_reach_the_recipe(store: Store) -> None:
    record = runner.run(quantized(epochs=3, learning_rate=0.002, batch_size=100), store=store)
    assert len(record.curve) == 3
    # of 36 steps three are warm-up; a point has the rate of its epoch's last step
    cosine = 0.5 * (1 + math.cos(math.pi * (11 - 3) / 33))
    assert record.curve[0].learning_rate == pytest.approx(0.002 * cosine)
    assert record.curve[2].learning_rate < record.curve[1].learning_rate < record.curve[0].learning_rate


def test_divergence_is_an_outcome(store: Store) -> None:
    record = runner.run(quantized(learning_rate=1e6), store=store)
    assert record.outcome == "not_converged"
    assert record.accuracy is None
    assert record.reason


def test_progress_tells_the_phases(store: Store) -> None:
    seen: list[tuple[str, int, int]] = []
    runner.run(quantized(seed=21, epochs=2), store=store, progress=lambda *event: seen.append(event))
    assert [phase for phase, _, _ in seen] == ["prepare", "calibrate", *["train"] * 40]
    assert seen[-1] == ("train", 40, 40)


def test_double_precision_trains_what_it_quantizes(tmp_path: Path) -> None:
    setting = quantized(float_epochs=1, steps=2, epochs=None)
    double = Compute(accelerator="cpu", precision="64-true")
    kept = runner.run(setting, store=tmp_path / "runs", compute=double)
    alone = runner.run(setting, store=None, compute=double)  # the float network stays in memory
    assert kept.outcome == "ok"
    assert without_provenance(kept) == without_provenance(alone)


def test_a_checkpoint_of_other_data_does_not_stand_for_calibration(store: Store, tmp_path: Path) -> None:
    setting = quantized(seed=41)
    wanted = runner.run(setting, store=store)
    again, first = Store(tmp_path / "again"), setting.float_setting
    known = store.get(first)
    assert known is not None
    again.put(known, store.attachments(first))
    Checkpoint(again.scratch(setting.key)).save({"total": 7, "processes": [{}], "extra": "{}"})
    assert without_provenance(runner.run(setting, store=again)) == without_provenance(wanted)
    assert not again.scratch(setting.key).exists()


def test_threads_are_restored(store: Store) -> None:
    before = torch.get_num_threads()
    runner.run(quantized(seed=31, epochs=None, steps=1), store=store, compute=Compute(threads=2))
    assert torch.get_num_threads() == before
    with pytest.raises(RequestError, match="threads must be at least 1"):
        Compute(threads=0)


def test_nothing_is_kept_without_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record = mqbench.run(Setting(**SHORT), store=None)
    assert record.outcome in ("ok", "not_converged")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"architecture": "resnet1"}, UnknownNameError, "unknown architecture"),
        ({"dataset": "digit"}, UnknownNameError, "did you mean 'digits'"),
        ({"algorithm": "nope"}, UnknownNameError, "unknown algorithm"),
        ({"backend": "nope"}, UnknownNameError, "unknown backend"),
        ({"weight_calibration": "nope"}, UnknownNameError, "unknown observer"),
    ],
)
def test_wrong_settings_are_refused_before_compute(
    options: dict[str, Any], error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        runner.run(quantized(**options), store=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_impossible_pairs_are_refused(tmp_path: Path) -> None:
    for algorithm in mqbench.algorithms:
        if not mqbench.algorithms[algorithm].deployable:
            with pytest.raises(IncompatibleError, match="no integer form"):
                runner.run(quantized(algorithm=algorithm), store=tmp_path / "runs")


@pytest.mark.parametrize(
    "options",
    [
        {"algorithm": "dsq", "weight_calibration": "mse"},
        {"algorithm": "dorefa", "activation_calibration": "mse"},
        {"algorithm": "pact", "weight_calibration": "kld"},
    ],
)
def test_a_calibration_without_effect_is_refused(options: dict[str, Any], store: Store) -> None:
    with pytest.raises(IncompatibleError, match="would change nothing"):
        runner.run(quantized(**options), store=store)


def test_a_batch_larger_than_the_dataset_is_refused(store: Store) -> None:
    with pytest.raises(RequestError, match="at most the 1297 training images, got 5000"):
        runner.run(quantized(batch_size=5000), store=store)


def test_a_float_network_of_another_version_is_named(store: Store, tmp_path: Path) -> None:
    setting = quantized(seed=77)
    other = Store(tmp_path / "runs")
    record = store.get(setting.float_setting.key)
    assert record is not None
    other.put(record, {float_network.WEIGHTS: save({"old.weight": torch.zeros(1)})})
    with pytest.raises(
        StoreError, match="another version of architecture 'digits_resnet'; use another store"
    ):
        runner.run(setting, store=other)


def test_given_weights_are_the_float_network(store: Store, tmp_path: Path) -> None:
    trained = quantized().float_setting
    file = tmp_path / "weights.safetensors"
    file.write_bytes(store.file(trained, float_network.WEIGHTS).read_bytes())
    options: dict[str, Any] = {
        "architecture": "digits_resnet",
        "dataset": "digits",
        "weights": f"file:{file}",
    }
    setting = Setting(**options, algorithm="ptq", backend="fbgemm", bits=(8, 8), epochs=0)
    place = Store(tmp_path / "runs")
    record = runner.run(setting, store=place)
    network, original = place.get(setting.float_setting.key), store.get(trained.key)
    assert network is not None
    assert original is not None
    assert network.curve == ()  # it is trained no further
    assert network.accuracy == record.float_accuracy == original.accuracy
    assert record.agreement is not None
    assert record.agreement > 97
    assert network.provenance is not None
    assert record.provenance is not None
    assert record.provenance.weights == network.provenance.weights
    assert len(str(record.provenance.weights)) == 64
    for name, value in load_file(place.file(setting.float_setting, float_network.WEIGHTS)).items():
        assert torch.equal(value, load_file(file)[name])


def test_weights_that_are_not_there_are_refused_before_compute(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="there is no file"):
        runner.run(quantized(weights=f"file:{tmp_path / 'none.pth'}"), store=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_without_training_any_number_of_images_will_do(store: Store) -> None:
    record = runner.run(quantized(epochs=0, global_batch=6400, algorithm="ptq"), store=store)
    assert record.accuracy == record.calibrated_accuracy
