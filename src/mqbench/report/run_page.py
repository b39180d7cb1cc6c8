"""The page of one run."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mqbench.record import FLOAT, Record, Setting
from mqbench.report import reproducing
from mqbench.report.certificates import words
from mqbench.report.charts import mini
from mqbench.report.charts.layers import Span, spans
from mqbench.report.charts.lines import Line, lines
from mqbench.report.context import Context
from mqbench.report.diagnostics import Histogram, Ranges
from mqbench.report.families import bits_name, described
from mqbench.report.figures.curves import tested
from mqbench.report.picture import Picture

_BINS = 64
_LOOKS = 16  # of a band that is as wide as a word


def values(
    context: Context, record: Record, siblings: Sequence[tuple[int, str]], *, from_float: bool
) -> dict[str, Any]:
    """Name to value, for the template.

    Args:
        context: whose diagnostics are read.
        record: of the run.
        siblings: seed and key of the runs that differ in their seed alone.
        from_float: the float network that it starts from is another run of the report.
    """
    setting = record.setting
    ranges = context.ranges(record)
    return {
        "record": record,
        "key": setting.key,
        "name": described(setting),
        "quantized": setting.algorithm != FLOAT,
        "facts": _facts(record),
        "siblings": siblings,
        "float_key": setting.float_setting.key if from_float else None,
        "pictures": [*_curve(context, record), *_moved(ranges)],
        "layers": _layers(ranges, context.histograms(record)),
        "setting": _given(setting),
        "command": reproducing.command(setting),
        "certificates": [_certified(c) for c in context.certificates.get(setting.key, ())],
        "provenance": _provenance(record),
    }


def _facts(record: Record) -> list[tuple[str, str]]:
    found = [("Outcome", record.outcome.replace("_", " "))]
    known = {
        "Accuracy": record.accuracy,
        "Float network": record.float_accuracy if record.setting.algorithm != FLOAT else None,
        "After calibration": record.calibrated_accuracy,
        "Agreement with float": record.agreement,
    }
    found += [(name, f"{value:.2f} %") for name, value in known.items() if value is not None]
    if record.provenance is not None:
        found.append(("Time", f"{record.provenance.seconds:,.1f} s"))
    return found


def _curve(context: Context, record: Record) -> list[Picture]:
    curve = context.curve(record)
    if curve is None or (len(curve.x) < 2 and record.calibrated_accuracy is None):
        return []
    test = tested("test", curve, record.calibrated_accuracy)
    train = Line(name="training", x=curve.x, y=curve.train_ema, raw=curve.train)
    return [
        Picture(
            title="Training curve",
            note="Bold: moving average with 0.3 of the old value; faint: raw.",
            svg=lines([test, train], x=curve.unit, y="accuracy, %", says="Training curve", height=260.0),
            head=(curve.unit, "training, %", "smoothed, %", "test, %", "smoothed, %"),
            rows=tuple(
                zip(
                    *map(_some, (curve.x, curve.train, curve.train_ema, curve.test, curve.test_ema)),
                    strict=True,
                )
            ),
        )
    ]


def _moved(ranges: Sequence[Ranges]) -> list[Picture]:
    shown = [r for r in ranges if r.role == "activation" and all(map(math.isfinite, (*r.low, *r.high)))]
    if not shown:
        return []
    given = [Span(name="at the end", ranges=[(r.low[-1], r.high[-1]) for r in shown])]
    if len(shown[0].low) > 1:
        given.append(Span(name="at the first look", ranges=[(r.low[0], r.high[0]) for r in shown]))
    title = "Clipping ranges of the activations"
    return [Picture(title=title, svg=spans([r.layer for r in shown], given, y="clipping range", says=title))]


def _layers(ranges: Sequence[Ranges], histograms: Mapping[str, Histogram]) -> list[dict[str, Any]]:
    return [_layer(one, histograms.get(one.name)) for one in ranges]


def _layer(one: Ranges, histogram: Histogram | None) -> dict[str, Any]:
    low, high = _some(one.low), _some(one.high)
    steady = all(map(math.isfinite, (*low, *high)))
    return {
        "name": one.layer,
        "role": one.role,
        "bits": one.bits,
        "scale_value": "" if one.scale is None else one.scale[1],
        "scale": "levels" if one.scale is None else f"{one.scale[1]:.3g}",
        "channels": _channels(one.scale),
        "zero_point": "-" if one.zero_point is None else one.zero_point,
        "low": f"{one.low[-1]:.4g}",
        "high": f"{one.high[-1]:.4g}",
        "band": mini.band(low, high) if steady else "not finite",
        "histogram": "-" if histogram is None else _histogram(histogram),
        "outside": "-" if histogram is None else f"{100 * histogram.clipped:.2f}",
    }


def _some(values: Sequence[float]) -> list[float]:
    """About as many as a small picture or table takes, the first and the last among them."""
    return [*values[: -1 : math.ceil(len(values) / _LOOKS)], values[-1]]


def _channels(scale: tuple[float, float, float] | None) -> str:
    """Smallest and largest scale, where there are several."""
    return f"{scale[0]:.2g} to {scale[2]:.2g}" if scale is not None and scale[0] != scale[2] else ""


def _histogram(found: Histogram) -> str:
    import numpy

    counts = numpy.sqrt(found.rebinned(_BINS))  # most values are near zero; the tails are what is clipped
    heights = numpy.rint(counts * ((mini.HEIGHT - 1) / max(counts.max(), 1))).astype(int).tolist()
    width = (found.high - found.low) / _BINS
    low, high = ((end - found.low) / width for end in found.clip)
    return mini.histogram(heights, (low, high))


def _given(setting: Setting) -> list[tuple[str, str]]:
    fields = setting.model_dump(mode="json", exclude_defaults=True)
    fields.setdefault("seed", setting.seed)
    if setting.bits is not None:
        fields["bits"] = bits_name(setting.bits)
    return [(name.replace("_", " "), _text(value)) for name, value in fields.items()]


def _provenance(record: Record) -> list[tuple[str, str]]:
    if record.provenance is None:
        return []
    fields = record.provenance.model_dump(mode="json", exclude_none=True)
    return [(name.replace("_", " "), _text(value)) for name, value in fields.items() if value != ""]


def _certified(certificate: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "folder": certificate["folder"],
        "words": words(certificate),
        "accuracy": list(certificate["accuracy"].items()),
        "files": list(certificate["files"].items()),
    }


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner}" for name, inner in value.items() if inner is not None) or "-"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
