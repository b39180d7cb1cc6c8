"""What the paper's appendix B looks at: accuracies and clipping ranges over time, histograms at the end."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from mqbench.algorithms._levels import LevelQuantizer
from mqbench.preparation import quantizers
from mqbench.quantizer import FakeQuantize
from mqbench.training._board import Board
from mqbench.training._evaluation import in_type_of

CURVE, RANGES, HISTOGRAMS = "curve.parquet", "quantizers.parquet", "histograms.safetensors"
EMA = 0.3  # the share of the old value (paper appendix B.1)
BINS = 256

Row = dict[str, Any]


class Monitor:
    """Rows of the curve and of the quantizers' parameters, kept as plain values.

    Args:
        every: optimizer steps between two looks; there is one at the end of each epoch too.
        board: is told of each look.
    """

    def __init__(self, every: int, board: Board | None = None) -> None:
        self.every = every
        self.board = board
        self.curve: list[Row] = []
        self.ranges: list[Row] = []

    def look(self, model: nn.Module, accuracies: dict[str, float], **where: float) -> None:
        """Note accuracies (in percent, by name) and every quantizer of ``model``."""
        row: Row = dict(where)
        for name, value in accuracies.items():
            row[name] = value
            before = self.curve[-1][f"{name}_ema"] if self.curve else value
            row[f"{name}_ema"] = EMA * before + (1 - EMA) * value
        self.curve.append(row)
        ranges = self.note_ranges(model, step=where["step"], epoch=where["epoch"])
        if self.board is not None:
            self.board.add(row, ranges)

    def note_ranges(self, model: nn.Module, **when: float) -> list[Row]:
        """Note every quantizer of ``model``; gives the new rows."""
        ranges = [{**when, **_parameters(name, fq)} for name, fq in quantizers(model)]
        self.ranges += ranges
        return ranges

    def state(self) -> dict[str, list[Row]]:
        """Plain values, for a checkpoint."""
        return {"curve": self.curve, "ranges": self.ranges}

    def restore(self, state: dict[str, list[Row]]) -> None:
        """Go on from `state`."""
        self.curve, self.ranges = state["curve"], state["ranges"]

    def files(self, model: nn.Module, images: Tensor) -> dict[str, bytes]:
        """Name to content of what belongs beside the record; ``images`` are for the histograms."""
        found = {CURVE: _parquet(self.curve)} if self.curve else {}
        if self.ranges:
            found[RANGES] = _parquet(self.ranges)
        counted = histograms(model, images)
        if counted:
            found[HISTOGRAMS] = save(counted)
        return found


def _parameters(name: str, fq: FakeQuantize) -> Row:
    """Grid and clipping range: of per-channel quantizers the median scale and the ends of all channels."""
    row: Row = {"quantizer": name, "role": fq.role, "bits": fq.scheme.bits}
    if isinstance(fq, LevelQuantizer):
        levels = fq.levels.detach().float()
        return {
            **row, "scale": None, "scale_min": None, "scale_max": None, "zero_point": None,
            "clip_min": float(levels.min()), "clip_max": float(levels.max()),
        }  # fmt: skip
    qparams = fq.qparams()
    scale, zero_point = qparams.scale.detach().float(), qparams.zero_point
    low, high = fq.integer_range()
    return {
        **row,
        "scale": float(scale.median()),
        "scale_min": float(scale.min()),
        "scale_max": float(scale.max()),
        "zero_point": int(zero_point.median()),
        "clip_min": float(((low - zero_point) * scale).min()),
        "clip_max": float(((high - zero_point) * scale).max()),
    }


@torch.no_grad()
def histograms(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Counts of every quantizer's input on some images, before it is quantized.

    ``NAME.counts`` int64 ``[256]`` over even bins of ``NAME.range`` (smallest, largest), and ``NAME.clip``,
    the clipping range.
    """
    found: dict[str, Tensor] = {}
    named = dict(quantizers(model))
    if not named:
        return found
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    with _looking_at(named, lambda name, x: found.update(_histogram(name, x))):
        model(in_type_of(model, images))
    for module, mode in modes:
        module.training = mode
    for name, fq in named.items():
        row = _parameters(name, fq)
        found[f"{name}.clip"] = torch.tensor([row["clip_min"], row["clip_max"]])
    return found


def _histogram(name: str, x: Tensor) -> dict[str, Tensor]:
    x = x.detach().float().cpu().flatten()
    x = x[x.isfinite()]
    if x.numel() == 0:
        return {}
    lo, hi = torch.aminmax(x)
    hi = torch.maximum(hi, lo + torch.finfo(torch.float32).tiny)
    counts = torch.histc(x, BINS, float(lo), float(hi)) if x.numel() < 1 << 24 else _exact(x, lo, hi)
    return {f"{name}.counts": counts.to(torch.int64), f"{name}.range": torch.stack([lo, hi])}


def _exact(x: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
    """Counts in float32 stop at 2^24."""
    parts = [torch.histc(part, BINS, float(lo), float(hi)).double() for part in x.split(1 << 23)]
    return torch.stack(parts).sum(0)


@contextmanager
def _looking_at(named: dict[str, FakeQuantize], see: Callable[[str, Tensor], None]) -> Iterator[None]:
    handles = [
        fq.register_forward_pre_hook(lambda _, inputs, name=name: see(name, inputs[0]))
        for name, fq in named.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _parquet(rows: list[Row]) -> bytes:
    import polars

    buffer = io.BytesIO()
    polars.DataFrame(rows, infer_schema_length=None).write_parquet(buffer)
    return buffer.getvalue()


def files_of_calibration(model: nn.Module, images: Tensor) -> dict[str, bytes]:
    """What is left of a run that is a calibration only: ranges at step 0 and histograms, if it is quantized."""
    monitor = Monitor(1)
    monitor.note_ranges(model, step=0, epoch=0)
    return monitor.files(model, images)
