"""Appendix B.3: latency (Table 9)."""

from collections.abc import Iterator, Mapping
from typing import Any

from mqbench.paper import tables
from mqbench.paper.claims._base import Finding, close
from mqbench.paper.transcription import ARCHITECTURES

_LOST = "the column of RegNetX-600MF is illegible"
_Speedups = dict[tuple[str, int, str], float]


def claims() -> Iterator[Finding]:
    """The findings of this section."""
    rows = [row.more for row in tables.rows(9)]
    ms = {
        (r["device"], r["images"], r["precision"], r["architecture"]): r["latency_ms"]
        for r in rows
        if r["latency_ms"] is not None
    }

    def speedups(device: str, slow: str, fast: str) -> _Speedups:
        return {
            (device, images, a): ms[device, images, slow, a] / ms[device, images, fast, a]
            for images in (1, 8)
            for a in ARCHITECTURES.values()
            if (device, images, slow, a) in ms and (device, images, fast, a) in ms
        }

    yield _printed(rows, ms)
    gpu = speedups("Tesla T4", "FP32", "INT8") | speedups("Tesla P4", "FP32", "INT8")
    slow = [f"{d} batch {n} {a} {s:.2f}" for (d, n, a), s in gpu.items() if s <= 1]
    yield _finding(
        "on both GPUs INT8 is consistently faster than FP32",
        "faster",
        f"{min(gpu.values()):.2f} to {max(gpu.values()):.2f} times",
        holds=not slow,
        note=f"not {', '.join(slow)}, a latency that its own printed speed-up contradicts" if slow else "",
    )
    half = speedups("Tesla T4", "FP16", "INT8")
    yield _finding(
        "on T4 INT8 has little advantage over FP16",
        "little",
        "; ".join(
            f"batch {n}: {_range([s for (_, b, _), s in half.items() if b == n])} times" for n in (1, 8)
        ),
        holds=False,
        note="true of batch 1 only",
    )
    atlas = speedups("Atlas300", "FP16", "INT8")
    yield _finding(
        "Atlas gains 1.03 to 1.29 times (printed with %)",
        "1.03 to 1.29",
        f"{_range(list(atlas.values()))} times",
        holds=close(1.03, min(atlas.values()), 2) and close(1.29, max(atlas.values()), 2),
    )
    slower = [a for (_, n, a), s in atlas.items() if n == 8 and s < 1]
    yield _finding(
        "on Atlas with batch 8 EfficientNet-Lite0 and RegNetX are slower with INT8",
        "EfficientNet-Lite0, RegNetX",
        f"slower: {', '.join(slower)}; efficientnet_lite0 {atlas['Atlas300', 8, 'efficientnet_lite0']:.2f} times",
        holds="efficientnet_lite0" in slower,
        note=_LOST,
    )
    dsp = speedups("Snapdragon 845", "FP32", "INT8")
    yield _finding(
        "the DSP is faster with INT8 whatever the network, up to around 2 times with batch 8",
        "up to 2",
        f"{_range(list(dsp.values()))} times, batch 8 up to {max(s for (_, n, _), s in dsp.items() if n == 8):.2f}",
        holds=min(dsp.values()) > 1 and close(2, max(s for (_, n, _), s in dsp.items() if n == 8), 0),
        note=_LOST,
    )
    cpu = speedups("Intel i7-6700", "FP32", "INT8")
    yield _finding(
        "FBGEMM saves up to 20 times",
        "20",
        f"{_range(list(cpu.values()))} times",
        holds=max(cpu.values()) >= 20,
        note="up to 22",
    )
    arm = speedups("Raspberry 3B", "FP32", "INT8")
    yield Finding(
        section="B.3",
        claim="the ARM CPU gains 9 to 22 %",
        printed="9 to 22 %",
        recomputed=", ".join(f"{a} {100 * (s - 1):.0f} %" for (_, _, a), s in arm.items()),
        verdict="undecidable",
        table="9",
        note=f"22 % is there; {_LOST}, and 9 % may be its number",
    )


def _printed(rows: list[Mapping[str, Any]], ms: Mapping[tuple[Any, ...], float]) -> Finding:
    order = ("FP32", "FP16", "INT8")
    wrong, count = [], 0
    for row in rows:
        if row["printed_speedup"] is None:
            continue
        place = row["device"], row["images"]
        before = [p for p in order[: order.index(row["precision"])] if (*place, p, row["architecture"]) in ms]
        found = ms[(*place, before[-1], row["architecture"])] / row["latency_ms"]
        count += 1
        if abs(found - row["printed_speedup"]) > 0.0101:
            wrong.append(
                f"{place[0]} batch {place[1]} {row['architecture']} {row['precision']} printed "
                f"{row['printed_speedup']}, by the latencies {found:.2f}"
            )
    return Finding(
        section="B.3",
        claim="the speed-ups printed in Table 9, each over the row above",
        printed=f"{count} speed-ups",
        recomputed=f"{count - len(wrong)} agree with their latencies within 0.01",
        verdict="partly" if wrong else "reproduced",
        table="9",
        note="; ".join(wrong),
    )


def _finding(claim: str, printed: str, recomputed: str, *, holds: bool, note: str = "") -> Finding:
    return Finding(
        section="B.3",
        claim=claim,
        printed=printed,
        recomputed=recomputed,
        verdict="reproduced" if holds else "not reproduced",
        table="9",
        note=note,
    )


def _range(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


CLAIMS = claims
