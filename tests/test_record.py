"""Setting and Record: keys, defaults, validation, JSON both ways."""

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mqbench.record import CurvePoint, Record, Setting

NAMES = st.text(string.ascii_lowercase + "_", min_size=1, max_size=8).filter(lambda name: name != "float")
SEEDS = st.integers(0, 2**31)
QUANTIZED = st.builds(
    Setting,
    architecture=NAMES,
    dataset=NAMES,
    algorithm=NAMES,
    backend=NAMES,
    bits=st.tuples(st.integers(2, 16), st.integers(2, 16)),
    bn_folding=st.none() | st.integers(-1, 4),
    graph=st.none() | st.sampled_from([1, 2, 3]),
    epochs=st.none() | st.integers(0, 5),
    learning_rate=st.none() | st.floats(1e-8, 10),
    seed=SEEDS,
    float_seed=SEEDS,
)
FLOATS = st.builds(Setting, architecture=NAMES, dataset=NAMES, seed=SEEDS)
SETTINGS = QUANTIZED | FLOATS


def lsq(**fields: Any) -> Setting:
    return Setting(**{"architecture": "a", "dataset": "d", "algorithm": "lsq", **fields})


def test_keys_never_change() -> None:
    # Stores on users' disks are keyed by these; a change here orphans every record there is.
    assert lsq(backend="tensorrt", bits=4, seed=1).key == "4b3df63dac62000f"
    assert Setting(architecture="a", dataset="d").key == "81a024553a63989b"


@given(SETTINGS, SETTINGS)
def test_keys_tell_settings_apart(one: Setting, other: Setting) -> None:
    assert (one.key == other.key) == (one == other)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("architecture", "b"),
        ("dataset", "e"),
        ("algorithm", "pact"),
        ("backend", "tvm"),
        ("bits", (4, 8)),
        ("bn_folding", 2),
        ("graph", 2),
        ("sync_bn", False),
        ("first_last_bits", 4),
        ("granularity", "per_channel"),
        ("symmetric_weights", False),
        ("symmetric_activations", False),
        ("power_of_two", True),
        ("adaptive_sign", True),
        ("shared_concat", False),
        ("weight_calibration", "mse"),
        ("activation_calibration", "mse"),
        ("calibration_images", 7),
        ("bn_calibration", 4096),
        ("bias_correction", 128),
        ("quantizer_weight_decay", 0.0),
        ("epochs", 3),
        ("steps", 3),
        ("learning_rate", 0.5),
        ("weight_decay", 0.0),
        ("batch_size", 7),
        ("global_batch", 7),
        ("weights", "timm"),
        ("tool", "onnxruntime"),
        ("seed", 1),
        ("float_seed", 1),
        ("float_epochs", 3),
        ("float_batch", 7),
    ],
)
def test_every_field_is_in_the_key(field: str, value: object) -> None:
    assert lsq(**{field: value}).key != lsq().key


def test_the_cases_above_are_all_fields() -> None:
    mark = next(m for m in test_every_field_is_in_the_key.pytestmark if m.name == "parametrize")  # type: ignore[attr-defined]
    assert [case[0] for case in mark.args[1]] == list(Setting.model_fields)


@given(SETTINGS)
def test_json_both_ways(setting: Setting) -> None:
    assert Setting.model_validate_json(setting.model_dump_json()) == setting


def test_one_number_of_bits_means_both() -> None:
    assert lsq(bits=3) == lsq(bits=(3, 3))


def test_defaults_of_a_quantized_setting() -> None:
    assert (lsq().backend, lsq().bits) == ("academic", (4, 4))
    assert lsq(backend=None, bits=None) == lsq()
    assert lsq(backend=None, bits=None).key == lsq().key


def test_a_shift_of_the_means_is_taken_out_once() -> None:
    with pytest.raises(ValueError, match="bn_calibration or bias_correction, not both"):
        lsq(bn_calibration=1, bias_correction=1)


def test_the_largest_seed() -> None:
    assert lsq(seed=2**63 - 1).seed == 2**63 - 1
    whole = Setting(architecture="a", dataset="d", first_last_bits=8, float_seed=0)
    assert whole.key == Setting(architecture="a", dataset="d").key


@given(QUANTIZED)
def test_the_float_setting_keeps_only_what_the_float_network_depends_on(setting: Setting) -> None:
    start = setting.float_setting
    expected = Setting(architecture=setting.architecture, dataset=setting.dataset, seed=setting.float_seed)
    assert start == expected
    assert start.float_setting == start


def test_the_float_network_has_a_batch_of_its_own() -> None:
    start = lsq(batch_size=4, float_batch=32).float_setting
    assert (start.batch_size, start.global_batch) == (32, 32)


@pytest.mark.parametrize(
    "fields",
    [
        {"algorithm": "float", "backend": "tvm"},
        {"algorithm": "float", "bits": 4},
        {"algorithm": "float", "first_last_bits": 4},
        {"algorithm": "float", "float_seed": 1},
        {"seed": 2**63},
        {"float_seed": 2**63},
        {"bits": 1},
        {"bits": 17},
        {"bits": (4,)},
        {"bn_folding": 5},
        {"graph": 4},
        {"epochs": -1},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"seed": -1},
        {"batch_size": 0},
        {"granularity": "channel"},
        {"power_of_two": 2},
        {"algorithm": "float", "power_of_two": True},
        {"sead": 1},
    ],
)
def test_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        lsq(**fields)


def test_values_are_frozen() -> None:
    with pytest.raises(ValidationError):
        lsq().seed = 3


def test_a_record_keeps_its_curve() -> None:
    point = CurvePoint(epoch=1, learning_rate=0.1, train_loss=2.5, train_accuracy=30.0, test_accuracy=31.0)
    record = Record(setting=lsq(), outcome="ok", accuracy=31.0, curve=(point,))
    assert Record.model_validate_json(record.model_dump_json()) == record
