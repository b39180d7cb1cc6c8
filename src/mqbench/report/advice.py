"""What to do about a diagnosis, in words: each sentence rests on a number that was measured."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

WIDE = 8
"""Bits that nearly every engine has, and at which a layer seldom matters."""

RECOVERED = 0.5
"""Share of what is lost that a few layers must give back to be called the cause."""

COUNTABLE = 10
"""Images that must have changed their class before a share of them says more than the output's SQNR."""

GAIN_DB = 1.0
"""Gain at the output from which another calibration is worth a sentence."""

SPREAD = 8.0
"""Largest over median channel from which a per-tensor weight wastes three bits on most of its channels."""

FEW = 3
"""Sentences of one kind."""

Row = Mapping[str, Any]


def advice(found: Mapping[str, Any]) -> list[str]:
    """Sentences for the fields of an `Examination`, the most useful first.

    Args:
        found: ``quantizers``, ``layers``, ``sensitivity_images``, ``kept_float``, ``alternatives``.
    """
    quantizers: Sequence[Row] = found["quantizers"]
    parts = (
        _layers_to_keep(found["kept_float"], found["layers"], found["sensitivity_images"]),
        _calibrations(found["alternatives"]),
        _clipping(quantizers),
        _unused(quantizers),
        _channels(quantizers),
        _dead(quantizers),
    )
    sentences = [sentence for part in parts for sentence in _few(part)]
    return sentences or ["Nothing stands out: no single quantizer or layer explains what is lost."]


def _few(sentences: Iterator[str]) -> Iterator[str]:
    every = list(sentences)
    yield from every[:FEW]
    if len(every) > FEW:
        yield f"The same holds for {len(every) - FEW} more."


def _layers_to_keep(kept: Sequence[Row], layers: Sequence[Row], images: int) -> Iterator[str]:
    if len(kept) < 2 or kept[0]["sqnr_db"] is None:
        return
    before = kept[0]
    bits = {row["layer"]: _narrowest(row) for row in layers}
    helped = next((row for row in kept[1:] if _recovers(before, row, images)), None)
    if helped is None:
        most = kept[-1]
        yield (
            f"The loss is spread over the layers: with the {len(most['layers'])} worst in float, "
            f"{_change(before, most)}. More bits or training for the whole network will do more than single layers can."
        )
        return
    names = ", ".join(helped["layers"])
    narrow = [name for name in helped["layers"] if bits[name] < WIDE]
    if narrow:
        cure = "keep 8 bits there: " + " ".join(f"--layer-bits {name}={WIDE}" for name in narrow)
    else:
        cure = "leave float there: " + " ".join(f"--skip {name}" for name in helped["layers"])
    yield f"Most of the loss is in {names}: with {_them(helped)} in float, {_change(before, helped)}; {cure}."


def _recovers(before: Row, after: Row, images: int) -> bool:
    """Half of the lost agreement is back, or, where hardly any is lost, half of the noise (3 dB) is gone."""
    lost = 0.0 if before["agreement"] is None else 100 - before["agreement"]
    if lost * images >= 100 * COUNTABLE:
        return bool(after["agreement"] - before["agreement"] >= RECOVERED * lost)
    return bool(after["sqnr_db"] is not None and after["sqnr_db"] - before["sqnr_db"] >= 3)


def _change(before: Row, after: Row) -> str:
    parts = []
    for name, unit, said in (
        ("accuracy", "%", "top-1 is"),
        ("agreement", "%", "agreement with the float network is"),
        ("sqnr_db", "dB", "the output's SQNR is"),
    ):
        if before[name] is not None and after[name] is not None:
            parts.append(f"{said} {after[name]:.1f} {unit} instead of {before[name]:.1f}")
    return ", ".join(parts)


def _calibrations(rows: Sequence[Row]) -> Iterator[str]:
    by_quantizer: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_quantizer.setdefault(row["quantizer"], {})[row["observer"]] = row
    for name, tried in by_quantizer.items():
        present = tried.pop("present")
        known = {observer: row for observer, row in tried.items() if row["sqnr_db"] is not None}
        if not known or present["sqnr_db"] is None:
            continue
        best = max(known, key=lambda observer: known[observer]["sqnr_db"])
        if known[best]["sqnr_db"] - present["sqnr_db"] >= GAIN_DB:
            yield (
                f"Calibrate {name} by {best}: with only this quantizer the output's SQNR is then "
                f"{known[best]['sqnr_db']:.1f} dB instead of {present['sqnr_db']:.1f}."
            )


def _clipping(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        share = row["clipping_noise_percent"]
        if share is not None and share > 75 and row["clipped_percent"] > 0.1:
            yield (
                f"{row['quantizer']} clips {row['clipped_percent']:.2g} % of its values, which makes {share:.0f} % "
                "of its error: a wider range (minmax, or more calibration images) would serve it better."
            )


def _unused(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        if row["range_used_percent"] < 50 and row["dead_channels"] < row["channels"]:
            yield (
                f"{row['quantizer']} uses {row['range_used_percent']:.0f} % of its integers "
                f"({row['effective_bits']:.1f} of {row['bits']} bits of information): "
                "its range is too wide for these images."
            )


def _channels(rows: Sequence[Row]) -> Iterator[str]:
    uneven = [
        row
        for row in rows
        if row["role"] == "weight" and not row["per_channel"] and (row["channel_spread"] or 0) > SPREAD
    ]
    if uneven:
        worst = max(uneven, key=lambda row: row["channel_spread"])
        yield (
            f"{len(uneven)} weights have one scale for channels of very different ranges ({worst['quantizer']}: the "
            f"largest is {worst['channel_spread']:.0f} times the median): "
            "a backend with per-channel weights loses less here."
        )


def _dead(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        if row["dead_channels"]:
            everything = row["dead_channels"] == row["channels"]
            which = "All" if everything else f"{row['dead_channels']} of {row['channels']}"
            yield f"{which} channels of {row['quantizer']} are zero after quantization on all of these images."


def _narrowest(row: Row) -> int:
    return min(bits for bits in (row["weight_bits"], row["input_bits"]) if bits is not None)


def _them(row: Row) -> str:
    return "it" if len(row["layers"]) == 1 else f"these {len(row['layers'])}"
