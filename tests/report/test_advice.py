"""Advice: each finding has its sentence, and what is not found has none."""

from typing import Any

from mqbench.report.advice import advice

QUANTIZER = {
    "quantizer": "fc.weight",
    "role": "weight",
    "layer": "fc",
    "bits": 4,
    "per_channel": True,
    "sqnr_db": 20.0,
    "clipped_percent": 0.0,
    "clipping_noise_percent": 0.0,
    "range_used_percent": 90.0,
    "effective_bits": 3.0,
    "channels": 8,
    "dead_channels": 0,
    "channel_spread": 2.0,
}
LAYERS = [
    {"layer": name, "weight_bits": bits, "input_bits": bits} for name, bits in (("a", 4), ("b", 4), ("c", 8))
]


def kept(*given: tuple[float, float]) -> list[dict[str, Any]]:
    names: tuple[list[str], ...] = ([], ["a"], ["a", "b"], ["a", "b", "c"])
    rows = zip(names, given, strict=False)
    return [{"layers": n, "sqnr_db": d, "agreement": a, "accuracy": None} for n, (d, a) in rows]


def found(**parts: Any) -> list[str]:
    empty = {
        "quantizers": [],
        "layers": LAYERS,
        "kept_float": [],
        "alternatives": [],
        "sensitivity_images": 100,
    }
    return advice(empty | parts)


def quantizer(**values: Any) -> list[str]:
    return found(quantizers=[QUANTIZER | values])


def test_nothing_stands_out() -> None:
    assert quantizer() == ["Nothing stands out: no single quantizer or layer explains what is lost."]


def test_the_fewest_layers_that_give_back_half() -> None:
    (said,) = found(kept_float=kept((5.0, 60.0), (6.0, 70.0), (9.0, 80.0), (10.0, 82.0)))
    assert said.startswith("Most of the loss is in a, b: with these 2 in float, agreement")
    assert said.endswith("keep 8 bits there: --layer-bits a=8 --layer-bits b=8.")
    (said,) = found(kept_float=kept((5.0, 60.0), (6.0, 62.0), (7.0, 64.0)))
    assert said.startswith("The loss is spread over the layers: with the 2 worst in float")


def test_few_changed_images_say_less_than_the_noise() -> None:
    (said,) = found(kept_float=kept((5.0, 99.0), (6.0, 100.0), (8.5, 99.0)))
    assert said.startswith("Most of the loss is in a, b")


def test_layers_that_have_eight_bits_stay_in_float() -> None:
    rows = [{**row, "layers": ["c"] if row["layers"] else []} for row in kept((5.0, 50.0), (9.0, 90.0))]
    (said,) = found(kept_float=rows)
    assert said.endswith("leave float there: --skip c.")


def test_a_better_calibration_is_named_if_it_gains_a_decibel() -> None:
    def tried(best: float) -> list[str]:
        return found(
            alternatives=[
                {"quantizer": "fc.weight", "observer": name, "sqnr_db": decibels}
                for name, decibels in (("present", 10.0), ("mse", best), ("kld", 9.0))
            ]
        )

    assert "Calibrate fc.weight by mse" in tried(11.0)[0]
    assert tried(10.5)[0].startswith("Nothing stands out")


def test_single_findings() -> None:
    assert (
        "clips 2 % of its values, which makes 90 %"
        in quantizer(clipped_percent=2.0, clipping_noise_percent=90.0)[0]
    )
    assert (
        "uses 20 % of its integers (1.1 of 4 bits"
        in quantizer(range_used_percent=20.0, effective_bits=1.1)[0]
    )
    assert "the largest is 40 times the median" in quantizer(per_channel=False, channel_spread=40.0)[0]
    assert quantizer(per_channel=True, channel_spread=40.0)[0].startswith("Nothing stands out")
    assert quantizer(dead_channels=3)[0].startswith("3 of 8 channels of fc.weight are zero")
    assert quantizer(dead_channels=8, range_used_percent=0.0)[0].startswith("All channels")


def test_no_more_than_a_few_sentences_of_a_kind() -> None:
    said = found(quantizers=[QUANTIZER | {"range_used_percent": 10.0}] * 10)
    assert len(said) == 4
    assert said[-1] == "The same holds for 7 more."
