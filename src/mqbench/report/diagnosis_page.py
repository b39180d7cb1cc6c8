"""A diagnosis to look at: what is lost, where, and what could be done."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import mqbench
from mqbench.report.advice import advice
from mqbench.report.charts.bars import Bar, bars
from mqbench.report.charts.lines import Line, lines
from mqbench.report.frame import Frame
from mqbench.report.picture import Picture

COLUMNS: dict[str, tuple[str, ...]] = {
    "layer": ("layer",),
    "bits": ("weight_bits", "input_bits"),
    "weight SQNR, dB": ("weight_sqnr_db",),
    "input": ("input_sqnr_db",),
    "output": ("output_sqnr_db",),
    "only it: SQNR, dB": ("only_sqnr_db",),
    "agreement, %": ("only_agreement",),
    "top-1, %": ("only_accuracy",),
    "all but it: SQNR, dB": ("without_sqnr_db",),
    "agreement, % ": ("without_agreement",),
    "top-1, % ": ("without_accuracy",),
}
"""Title to fields of the table of layers, as the command prints it."""

WORST = 20
"""Layers that the picture of harm shows."""

Row = Mapping[str, Any]
_TITLES = {
    "quantizer": "quantizer",
    "layer": "layer",
    "role": "of",
    "bits": "bits",
    "weight_bits": "weight bits",
    "input_bits": "input bits",
    "sqnr_db": "SQNR, dB",
    "cosine": "cosine",
    "clipped_percent": "clipped, %",
    "clipping_noise_percent": "of its error, %",
    "range_used_percent": "range used, %",
    "effective_bits": "effective bits",
    "dead_channels": "dead channels",
    "channels": "channels",
    "channel_spread": "channel spread",
    "accumulated_sqnr_db": "accumulated SQNR, dB",
    "weight_sqnr_db": "weight SQNR, dB",
    "input_sqnr_db": "input SQNR, dB",
    "output_sqnr_db": "output SQNR, dB",
    "output_cosine": "output cosine",
    "only_sqnr_db": "only it: SQNR, dB",
    "only_agreement": "only it: agreement, %",
    "only_accuracy": "only it: top-1, %",
    "without_sqnr_db": "all but it: SQNR, dB",
    "without_agreement": "all but it: agreement, %",
    "without_accuracy": "all but it: top-1, %",
    "agreement": "agreement, %",
    "accuracy": "top-1, %",
}


def cell(row: Row, names: Sequence[str]) -> str:
    """The text of a cell; of several fields with a slash between them."""
    return "/".join(_text(row[name]) for name in names)


def summary(found: Mapping[str, Any]) -> str:
    """What the whole network loses, in a sentence or two."""
    parts = [f"{name} {value}" for name, value in _facts(found["whole"])]
    said = ", ".join(parts) or "the output is zero"
    sensitive = found["sensitivity_images"]
    more = f" Sensitivities are of {sensitive} images." if sensitive else ""
    return f"{found['images']} images: {said}.{more}"


def page(about: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """The page as HTML that needs nothing else.

    Args:
        about: ``network``, ``skip`` and ``layer_bits``.
        found: the fields of an `Examination`.
    """
    options = [*(f"{n} stays in float" for n in about["skip"])]
    options += [f"{name} has {bits} bits" for name, bits in about["layer_bits"].items()]
    return Frame(menu=(), store="").render(
        "diagnosis.html",
        about="diagnosis",
        foot=f"mqbench {mqbench.__version__}, mqbench diagnose.",
        page={"file": "index.html", "title": f"Diagnosis of {about['network']}"},
        options=options,
        facts=_facts(found["whole"]),
        images=found["images"],
        sensitive=found["sensitivity_images"],
        advice=advice(found),
        pictures=list(_pictures(found)),
        parts=list(_tables(found)),
    )


def _facts(whole: Row) -> list[tuple[str, str]]:
    given = (
        ("top-1", whole["accuracy"], "%"),
        ("top-1 of the float network", whole["float_accuracy"], "%"),
        ("agreement with the float network", whole["agreement"], "%"),
        ("SQNR of the output", whole["sqnr_db"], "dB"),
    )
    return [(name, f"{_text(value)} {unit}") for name, value, unit in given if value is not None]


def _pictures(found: Mapping[str, Any]) -> Iterator[Picture]:
    layers: Sequence[Row] = found["layers"]
    known = [row for row in layers if row["only_sqnr_db"] is not None][:WORST]
    if known:
        errors = [(row["layer"], _error(row["only_sqnr_db"])) for row in known]
        yield Picture(
            title="What each layer alone costs",
            svg=bars(
                [Bar(name=name, value=error, low=error, high=error) for name, error in errors],
                x="error of the output, %",
                says=f"Error of the output with one layer quantized, the {len(known)} worst layers",
            ),
            note="Root mean square, in percent of the output, with only this layer quantized.",
        )
    depth = [row for row in found["network_order"] if row["output_sqnr_db"] is not None]
    finite = [row["output_sqnr_db"] for row in depth if math.isfinite(row["output_sqnr_db"])]
    if len(finite) > 1:
        places = list(range(1, len(depth) + 1))
        yield Picture(
            title="How noise grows with depth",
            svg=lines(
                [
                    Line(name="output", x=places, y=[row["output_sqnr_db"] for row in depth]),
                    Line(name="weight", x=places, y=[_number(row["weight_sqnr_db"]) for row in depth]),
                    Line(name="input", x=places, y=[_number(row["input_sqnr_db"]) for row in depth]),
                ],
                x="layer, in the order of the network",
                y="SQNR, dB",
                says="Signal to quantization noise ratio of each layer",
            ),
            note="Output: against the float network's, so that it holds all that was lost before. Weight and input: of "
            "their own quantizers.",
        )


def _tables(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    given: tuple[tuple[str, str, Sequence[Row]], ...] = (
        ("Layers", "Worst first: weight and input quantizer of a layer together", found["layers"]),
        (
            "Worst layers left in float",
            "Together, from the worst on",
            [_kept(row) for row in found["kept_float"]],
        ),
        (
            "Other calibrations",
            "With only this quantizer; the range from each observer",
            found["alternatives"],
        ),
        ("Quantizers", "Worst first", found["quantizers"]),
    )
    for title, caption, rows in given:
        names = [name for name in _TITLES if rows and any(row.get(name) is not None for row in rows)]
        if rows:
            yield {
                "title": title,
                "caption": caption,
                "head": [_TITLES[name] for name in names],
                "rows": [[_shown(row[name]) for name in names] for row in rows],
            }
    if found["alternatives"]:
        yield _alternatives(found["alternatives"])


def _alternatives(tried: Sequence[Row]) -> dict[str, Any]:
    """A row for each quantizer, a column for each calibration."""
    observers = list(dict.fromkeys(row["observer"] for row in tried))
    found = {(row["quantizer"], row["observer"]): row["sqnr_db"] for row in tried}
    quantizers = list(dict.fromkeys(row["quantizer"] for row in tried))
    return {
        "title": "Other calibrations",
        "caption": "SQNR of the output in dB with only this quantizer, its range as it is or set by an observer",
        "head": ["quantizer", *observers],
        "rows": [
            [name, *(_shown(found.get((name, observer))) for observer in observers)] for name in quantizers
        ],
    }


def _kept(row: Row) -> dict[str, Any]:
    return {**row, "layer": ", ".join(row["layers"]) or "none"}


def _shown(value: Any) -> Any:
    return "exact" if isinstance(value, float) and math.isinf(value) else value


def _error(sqnr_db: float) -> float:
    return 100 * 10 ** (-sqnr_db / 20)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return "exact" if math.isinf(value) else f"{value:.1f}"
    return str(value)
