"""diagnose: the numbers of hand-made cases, and planted faults come first."""

import copy
import math
from typing import Any

import polars
import pytest
import torch
from test_probe import NETS, quantized
from torch import Tensor, nn

import mqbench
from mqbench.diagnosis.examination import examine
from mqbench.errors import CalibrationError, RequestError
from networks import images, trained

COLUMNS = {"sqnr_db", "cosine", "clipped_percent", "range_used_percent", "channels", "dead_channels"}


def network() -> Any:
    return quantized(trained(NETS["basic"]()), images())


def one_layer(bits: int = 4) -> tuple[Any, Tensor]:
    """A convolution over pixels, with known scales: 1 for its input, 1/4 for its weight."""
    net = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False)).eval()
    net[0].weight.data = torch.tensor([[0.25, 0.5], [0.0, 0.0], [-1.0, 0.375]])[:, :, None, None]
    x = torch.zeros(1, 2, 2, 2)
    x[0, 0] = torch.tensor([[1.0, -2.0], [7.0, 20.0]])
    q = mqbench.prepare(net, x, backend="acl", algorithm="lsq", bits=bits, first_last_bits=bits, graph=1)
    mqbench.calibrate(q, [x])
    for name, module in q.named_modules():
        if name.endswith("_input"):
            module.step_size.data.fill_(1.0)
        if name.endswith("weight_quantizer"):
            module.step_size.data.fill_(0.25)
    return q, x


def test_the_statistics_of_a_hand_made_layer() -> None:
    q, x = one_layer()
    rows = {row["role"]: row for row in mqbench.diagnose(q, [x]).to_dicts()}
    entering, weight = rows["activation"], rows["weight"]
    # 20 is clipped to 7; the rest is exact
    assert entering["clipped_percent"] == pytest.approx(100 / 8)
    assert entering["clipping_noise_percent"] == pytest.approx(100)
    assert entering["sqnr_db"] == pytest.approx(10 * math.log10((1 + 4 + 49 + 400) / 169))
    assert entering["cosine"] == pytest.approx((1 + 4 + 49 + 140) / math.sqrt(454 * (1 + 4 + 49 + 49)))
    assert entering["range_used_percent"] == pytest.approx(100 * 9 / 15)  # from -2 to 7 of -8 to 7
    assert entering["effective_bits"] == pytest.approx(-(0.5 * -1 + 2 * 0.125 * -3 + 0.25 * -2))
    assert (entering["channels"], entering["dead_channels"]) == (2, 1)
    # 3/8 is 1.5 steps of 1/4: half to even is 2
    assert weight["sqnr_db"] == pytest.approx(10 * math.log10((0.0625 + 0.25 + 1 + 0.140625) / 0.015625))
    assert (weight["clipped_percent"], weight["clipping_noise_percent"]) == (0, 0)
    assert (weight["channels"], weight["dead_channels"]) == (3, 1)
    assert (weight["layer"], entering["layer"]) == ("0", "0")


def test_the_statistics_of_batches_are_those_of_all_images() -> None:
    q, x = network(), images(9)
    whole = mqbench.diagnose(q, [x], sensitivity_images=9)
    parts = mqbench.diagnose(q, [x[:2], x[2:3], x[3:]], sensitivity_images=9)
    numbers = [name for name in whole.columns if whole[name].dtype == polars.Float64]
    ordered = whole.sort("quantizer")
    for name in numbers:
        for a, b in zip(ordered[name], parts.sort("quantizer")[name], strict=True):
            assert (a is None and b is None) or a == pytest.approx(b, rel=1e-4, abs=1e-4)


def test_sensitivities_are_those_of_the_network_with_quantizers_taken_out() -> None:
    q, x = network(), images(6)
    labels = torch.arange(6)
    name = "activation_quantizers.blocks_0_a_0"
    row = mqbench.diagnose(q, [(x, labels)]).row(by_predicate=polars.col("quantizer") == name, named=True)
    alone, out = copy.deepcopy(q), copy.deepcopy(q)
    for path, module in alone.named_modules():
        if isinstance(module, mqbench.quantizer.FakeQuantize):
            module.enabled = path == name
    out.get_submodule(name).enabled = False
    with torch.no_grad(), mqbench.quantization_off(q):
        real = q(x)
    for which, net in (("only", alone), ("without", out)):
        with torch.no_grad():
            y = net(x)
        noise = (y - real).double().square().sum()
        assert row[f"{which}_sqnr_db"] == pytest.approx(
            float(10 * (real.double().square().sum() / noise).log10()), abs=1e-3
        )
        assert row[f"{which}_accuracy"] == pytest.approx(float(100 * (y.argmax(1) == labels).float().mean()))
        assert row[f"{which}_agreement"] == pytest.approx(
            float(100 * (y.argmax(1) == real.argmax(1)).float().mean())
        )


def test_a_broken_quantizer_comes_first_and_another_calibration_is_found() -> None:
    q, x = network(), images(8)
    broken = "blocks.1.project.0"
    q.get_submodule(f"{broken}.weight_quantizer").step_size.data.mul_(30)
    found = examine(q, [x])
    assert found.quantizers[0]["quantizer"] == f"{broken}.weight"
    assert found.layers[0]["layer"] == broken
    tried = {
        row["observer"]: row["sqnr_db"]
        for row in found.alternatives
        if row["quantizer"] == f"{broken}.weight"
    }
    assert set(tried) == {"present", *mqbench.observers}
    assert tried["mse"] > tried["present"] + 10
    kept = found.kept_float
    assert kept[1]["layers"] == [broken]
    assert kept[1]["sqnr_db"] > kept[0]["sqnr_db"]
    assert q.get_submodule(f"{broken}.weight_quantizer").enabled


def test_a_converted_network_has_integers_only_of_its_weights() -> None:
    q, x = network(), images()
    frame = mqbench.diagnose(mqbench.convert(q), [x])
    weights = frame.filter(polars.col("role") == "weight")
    activations = frame.filter(polars.col("role") == "activation")
    assert weights["sqnr_db"].null_count() == weights["only_sqnr_db"].null_count() == len(weights)
    assert weights["range_used_percent"].null_count() == 0
    assert activations["only_sqnr_db"].null_count() == activations["sqnr_db"].null_count() == 0
    prepared = mqbench.diagnose(q, [x]).sort("quantizer")
    same = ["quantizer", "range_used_percent", "effective_bits", "dead_channels"]
    assert frame.sort("quantizer").select(same).to_dicts() == [
        {name: pytest.approx(value) if isinstance(value, float) else value for name, value in row.items()}
        for row in prepared.select(same).to_dicts()
    ]


@pytest.mark.parametrize("algorithm", list(mqbench.algorithms))
def test_every_algorithm_can_be_diagnosed(algorithm: str) -> None:
    backend = "tensorrt" if mqbench.algorithms[algorithm].deployable else "academic"
    if algorithm == "tqt":
        backend = "tvm"
    frame = mqbench.diagnose(
        quantized(trained(NETS["basic"]()), images(), backend, algorithm), [images(2)], sensitivity_images=2
    )
    assert frame.select(COLUMNS).null_count().sum_horizontal().item() == 0
    assert (frame["range_used_percent"] <= 100).all()


def test_no_sensitivities_on_request_and_none_without_labels() -> None:
    q, x = network(), images()
    bare = mqbench.diagnose(q, [x], sensitivity_images=0)
    assert bare["only_sqnr_db"].null_count() == len(bare)
    assert bare["sqnr_db"].null_count() == 0
    unlabelled = mqbench.diagnose(q, [x], by="layer")
    assert unlabelled["only_accuracy"].null_count() == len(unlabelled)
    assert unlabelled["only_agreement"].null_count() == 0


@pytest.mark.parametrize(
    ("batches", "options", "said"),
    [
        ([], {}, "at least one batch"),
        ([torch.zeros(0, 3, 12, 12)], {}, "at least one image"),
        ([images()], {"by": "channel"}, "'quantizer' or 'layer', got 'channel'"),
        ([images()], {"sensitivity_images": -1}, "0 or more, got -1"),
    ],
)
def test_wrong_requests(batches: Any, options: Any, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        mqbench.diagnose(network(), batches, **options)


def test_an_uncalibrated_network_is_refused() -> None:
    net = trained(NETS["basic"]())
    q = mqbench.prepare(net, images(), backend="fbgemm", algorithm="lsq")
    with pytest.raises(CalibrationError, match="calibrate"):
        mqbench.diagnose(q, [images()])
