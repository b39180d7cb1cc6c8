"""What a run leaves beside its record: accuracies and clipping ranges over time, histograms at the end."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from mqbench.errors import StoreError
from mqbench.record import Record
from mqbench.store import Store

if TYPE_CHECKING:
    import numpy
    import polars

CURVE, RANGES, HISTOGRAMS = "curve.parquet", "quantizers.parquet", "histograms.safetensors"
EMA = 0.3  # the share of the old value (paper appendix B.1)
_AFFIXES = (".weight_quantizer", "activation_quantizers.")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Accuracies in percent over optimizer steps (or epochs, if that is all there is), raw and smoothed."""

    unit: str
    x: Sequence[float]
    train: Sequence[float]
    test: Sequence[float]
    train_ema: Sequence[float]
    test_ema: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """Clipping range of one quantizer at each look, and its grid at the last.

    Args:
        name: of the quantizer.
        role: weight or activation.
        bits: of its integers.
        low, high: clipping range at each look.
        scale: smallest, median and largest over channels; None for one that has no scale.
        zero_point: of the median channel; None likewise.
    """

    name: str
    role: str
    bits: int
    low: Sequence[float]
    high: Sequence[float]
    scale: tuple[float, float, float] | None
    zero_point: int | None

    @property
    def layer(self) -> str:
        """The layer or tensor that is quantized."""
        return layer_of(self.name)


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts over even bins from ``low`` to ``high`` of a quantizer's input, and its clipping range."""

    low: float
    high: float
    counts: "numpy.ndarray[Any, Any]"
    clip: tuple[float, float]

    @property
    def clipped(self) -> float:
        """Share of the values outside the clipping range, to the width of a bin."""
        bins, width = len(self.counts), (self.high - self.low) / len(self.counts)
        # a bin counts by its middle
        first = min(max(math.ceil((self.clip[0] - self.low) / width - 0.5), 0), bins)
        last = min(max(math.floor((self.clip[1] - self.low) / width - 0.5) + 1, first), bins)
        whole = int(self.counts.sum())
        return 1 - int(self.counts[first:last].sum()) / whole if whole else 0.0

    def rebinned(self, bins: int) -> "numpy.ndarray[Any, Any]":
        """The counts in fewer bins, a divisor of those there are."""
        return self.counts.reshape(bins, -1).sum(1)


def layer_of(quantizer: str) -> str:
    """Name of the layer or tensor of a quantizer.

    >>> layer_of("layer1.0.conv1.weight_quantizer"), layer_of("activation_quantizers.fc_input")
    ('layer1.0.conv1', 'fc_input')
    """
    for affix in _AFFIXES:
        quantizer = quantizer.removesuffix(affix).removeprefix(affix)
    return quantizer


def curve(store: Store, record: Record) -> Curve | None:
    """The training of a run; None if it did not train."""
    content = _content(store, record, CURVE)
    if content is None:
        return _of_epochs(record)
    import polars

    with _naming(store, record, CURVE):
        frame = polars.read_parquet(BytesIO(content))
        if not frame.height:
            return None
        columns = {name: frame[name].to_list() for name in frame.columns}
        return Curve(
            unit="optimizer step",
            x=columns["step"],
            train=columns["train_accuracy"],
            test=columns["test_accuracy"],
            train_ema=columns["train_accuracy_ema"],
            test_ema=columns["test_accuracy_ema"],
        )


def ranges(store: Store, record: Record) -> list[Ranges]:
    """The quantizers in the order of the network, weights first; none if the run left none."""
    content = _content(store, record, RANGES)
    if content is None:
        return []
    import polars

    with _naming(store, record, RANGES):
        return _ranges(polars.read_parquet(BytesIO(content)))


def _ranges(frame: "polars.DataFrame") -> list[Ranges]:
    count = frame["quantizer"].n_unique()
    looks = frame.height // count
    # every look has all quantizers in one order
    low, high = (frame[name].to_numpy().reshape(looks, count).T.tolist() for name in ("clip_min", "clip_max"))
    return [
        Ranges(
            name=last["quantizer"],
            role=last["role"],
            bits=last["bits"],
            low=low[index],
            high=high[index],
            scale=None if last["scale"] is None else (last["scale_min"], last["scale"], last["scale_max"]),
            zero_point=last["zero_point"],
        )
        for index, last in enumerate(frame[-count:].iter_rows(named=True))
    ]


def histograms(store: Store, record: Record) -> dict[str, Histogram]:
    """Quantizer to histogram; those whose input had no finite value are missing."""
    content = _content(store, record, HISTOGRAMS)
    if content is None:
        return {}
    from safetensors.numpy import load

    found = {}
    with _naming(store, record, HISTOGRAMS):
        tensors = load(content)
        for name, counts in tensors.items():
            quantizer = name.removesuffix(".counts")
            if quantizer != name:
                low, high = tensors[f"{quantizer}.range"].tolist()
                clip = tensors[f"{quantizer}.clip"].tolist()
                found[quantizer] = Histogram(low=low, high=high, counts=counts, clip=(clip[0], clip[1]))
    return found


def _of_epochs(record: Record) -> Curve | None:
    points = record.curve
    if not points:
        return None
    train, test = [p.train_accuracy for p in points], [p.test_accuracy for p in points]
    return Curve(
        unit="epoch",
        x=[p.epoch for p in points],
        train=train,
        test=test,
        train_ema=smoothed(train),
        test_ema=smoothed(test),
    )


def smoothed(values: Sequence[float]) -> list[float]:
    """Exponential moving average with the paper's 0.3 of the old value."""
    found: list[float] = []
    for value in values:
        found.append(EMA * found[-1] + (1 - EMA) * value if found else value)
    return found


@contextmanager
def _naming(store: Store, record: Record, name: str) -> Iterator[None]:
    """Raise ``StoreError`` for a file that is not what was written."""
    try:
        yield
    except Exception as error:  # readers raise whatever damaged bytes make them
        said = str(error).partition("\n")[0]
        raise StoreError(
            f"damaged file {name} of record {store.root / record.setting.key} ({said}); remove the file and the report "
            "goes without, or remove the record and run again"
        ) from error


def _content(store: Store, record: Record, name: str) -> bytes | None:
    try:
        return store.file(record.setting.key, name).read_bytes()
    except StoreError:
        return None
