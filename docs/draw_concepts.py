"""Draws the pictures of concepts.md and architecture.md: python docs/draw_concepts.py [FOLDER]

The quantizers of the graphs are those that `mqbench.prepare` inserts into a residual block.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import torch
from torch import Tensor, fx, nn

import mqbench
from mqbench.quantizer import FakeQuantize
from mqbench.report.charts.svg import drawing, element, standalone, text

WIDTH, HEIGHT = 168.0, 30.0
GRAPHS = {1: "academic, ACL", 2: "TensorRT", 3: "TVM, SNPE, FBGEMM"}
# of each operation: middle of its box, and what stands in it
BOXES = {
    "x": (100.0, 50.0, "input"),
    "conv1": (100.0, 120.0, "conv · batch norm · ReLU"),
    "conv2": (100.0, 190.0, "conv · batch norm"),
    "down": (300.0, 155.0, "conv · batch norm"),
    "add": (100.0, 270.0, "add · ReLU"),
    "pool": (100.0, 340.0, "average pool"),
    "fc": (100.0, 410.0, "linear"),
    "output": (100.0, 480.0, "output"),
}
FOLDINGS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "-1: not folded": (("conv(x, Q(w))", "batch norm: μ, σ"), ()),
    "0: merged before training": (("conv(x, Q(w'))", "+ b'"), ("w', b': w, b merged once",)),
    "1: running statistics": (("conv(x, Q(w γ/σr))", "+ β − μr γ/σr"), ("μr, σr: frozen",)),
    "2: batch statistics": (("conv(x, Q(w γ/σ))", "+ β − μ γ/σ"), ("conv(x, w)", "μ, σ of it")),
    "3: corrected statistics": (
        ("conv(x, Q(w γ/σr))", "× σr/σ", "+ β − μ γ/σ"),
        ("conv(x, w)", "μ, σ of it"),
    ),
    "4: explicit batch norm": (("conv(x, Q(w γ/σr))", "× σr/γ", "batch norm: μ, σ"), ()),
}
# from the top: title and rooms of what stands side by side; each imports only what is below
FLOORS: Sequence[Sequence[tuple[str, str]]] = (
    (("command line", "cli commands arguments progress"),),
    (("many runs", "sweep schedule claims executors"),),
    (
        ("one run", "runner quantization estimate task post_training float_network elsewhere"),
        ("one artifact", "deployment diagnosis"),
    ),
    (
        ("results, without torch", "report recommend paper frame index query merge reproduce compare ladder"),
        ("training", "training data architectures weights tools response extend"),
        ("deployment", "deploy conversion calibration bias_correction"),
    ),
    (
        (
            "records",
            "study grid store object_store record_file journal metrics columns provenance latency_record record",
        ),
        (
            "graph",
            "preparation absorption overwriting placement plan "
            "capture lifting functionalise attention nodes operations",
        ),
        ("layers", "layers folding deferring data_layer"),
    ),
    (
        ("quantizers", "quantizer observation algorithms algorithm backends observers"),
        ("arithmetic", "functional fused processes"),
    ),
    (("floor", "errors catalog scheme compute sealed liveness files ending"),),
)


class Block(nn.Module):
    """A residual block with a downsampled shortcut, pooling and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 3, 3, 2, 1), nn.BatchNorm2d(3)
        self.conv2, self.bn2 = nn.Conv2d(3, 3, 3, 1, 1), nn.BatchNorm2d(3)
        self.down, self.bn3 = nn.Conv2d(3, 3, 1, 2), nn.BatchNorm2d(3)
        self.fc = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        y = torch.relu(y + self.bn3(self.down(x)))
        return self.fc(y.mean((2, 3)))


def edges(graph: int) -> Iterator[tuple[str, str, str | None]]:
    """(producer, reader, quantizer between them) of the prepared block."""
    q = mqbench.prepare(
        Block().eval(), torch.randn(2, 3, 8, 8), backend="fbgemm", algorithm="ptq", bn_folding=-1, graph=graph
    )
    modules = dict(q.named_modules())
    seen: dict[fx.Node, tuple[str, str | None]] = {}  # node -> box that it belongs to, quantizer behind that
    for node in q.graph.nodes:
        operands = [seen[x] for x in node.all_input_nodes if x in seen]
        module: Any = modules.get(str(node.target)) if node.op == "call_module" else None
        name = _box(node)
        if name is not None:
            yield from ((producer, name, quantizer) for producer, quantizer in operands)
            seen[node] = name, None
        elif isinstance(module, FakeQuantize):
            seen[node] = operands[0][0], str(node.target)
        elif operands:  # batch norm, activation function: of the box before
            seen[node] = operands[0]


def _box(node: fx.Node) -> str | None:
    if node.op in ("placeholder", "output"):
        return "x" if node.op == "placeholder" else "output"
    if node.op == "call_module":
        return str(node.target) if node.target in BOXES else None
    names = {torch.ops.aten.add.Tensor: "add", torch.ops.aten.mean.dim: "pool"}
    return names.get(node.target)  # type: ignore[arg-type]


def graphs() -> str:
    """The three graphs side by side."""
    panels = []
    for index, (graph, used) in enumerate(GRAPHS.items()):
        parts = [text(f"Graph {graph}", 16, 16, font_weight="bold"), text(used, 80, 16, class_="quiet")]
        marks: dict[str, tuple[float, float]] = {}
        for producer, reader, quantizer in edges(graph):
            start, end = _ends(producer, reader)
            parts.append(_line(start, end))
            if quantizer is not None:
                # a quantizer of graph 1 is the reader's, one of the others the tensor's
                marks[quantizer] = _beside(end, -12) if graph == 1 else _beside(_below(producer), 12)
        parts += [_boxed(x, y, said) for x, y, said in BOXES.values()]
        parts += [_mark(*place) for place in marks.values()]
        panels.append(element("g", "".join(parts), transform=f"translate({index * 400} 0)"))
    legend = _mark(24, 520) + text(
        "quantizer of a tensor; layers quantize their weights in all three", 38, 524
    )
    return drawing(
        "".join(panels) + legend, 1200, 540, "Which tensors graphs 1, 2 and 3 quantize in a residual block"
    )


def foldings() -> str:
    """What each BN-folding strategy computes while training."""
    panels = []
    for index, (title, (main, side)) in enumerate(FOLDINGS.items()):
        left = 100.0 if side else 190.0
        parts = [text(title, 16, 16, font_weight="bold"), _boxed(190, 46, "x")]
        for column, steps in ((left, main), (290.0, side)):
            before = (190.0, 61.0)
            for row, step in enumerate(steps):
                y = 100.0 + 52 * row
                if column == left or step.startswith("conv") or row:
                    parts.append(_line(before, (column, y - 15)))
                parts.append(_boxed(column, y, step, quiet=column != left))
                before = (column, y + 15)
            if column == left:
                parts.append(_line(before, (left, 100.0 + 52 * len(main) - 15)))
                parts.append(_boxed(left, 100.0 + 52 * len(main), "y"))
        panels.append(
            element("g", "".join(parts), transform=f"translate({index % 3 * 400} {index // 3 * 300})")
        )
    said = "μ, σ: mean and deviation of the batch; μr, σr: running; γ, β: of the batch norm; Q: the weight's quantizer"
    parts = ["".join(panels), text(said, 16, 600, class_="quiet")]
    return drawing("".join(parts), 1200, 616, "What each BN-folding strategy computes while training")


def house() -> str:
    """The rooms of the package, a room importing only what is below it."""
    parts, y = [], 10.0
    for floor in FLOORS:
        width = 1180.0 / len(floor)
        lines = [wrap(rooms, int(width / 7.2)) for _, rooms in floor]
        height = 34.0 + 16 * max(map(len, lines))
        for column, ((title, _), named) in enumerate(zip(floor, lines, strict=True)):
            x = 10 + column * width
            box = {"rx": 6, "fill": "var(--surface)", "stroke": "var(--muted)"}
            parts.append(element("rect", x=x, y=y, width=width - 10, height=height, **box))
            parts.append(text(title, x + 10, y + 20, class_="series s0"))
            parts += [text(line, x + 10, y + 38 + 16 * row) for row, line in enumerate(named)]
        y += height + 10
    return drawing("".join(parts), 1190, y, "The rooms of the package; each imports only what is below it")


def _ends(producer: str, reader: str) -> tuple[tuple[float, float], tuple[float, float]]:
    x, y, _ = BOXES[reader]
    return _below(producer), (x, y - HEIGHT / 2)


def _below(name: str) -> tuple[float, float]:
    x, y, _ = BOXES[name]
    return x, y + HEIGHT / 2


def _beside(place: tuple[float, float], down: float) -> tuple[float, float]:
    return place[0], place[1] + down


def _line(start: tuple[float, float], end: tuple[float, float]) -> str:
    return element("line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], class_="axis")


def _boxed(x: float, y: float, said: str, *, quiet: bool = False) -> str:
    box = element(
        "rect",
        x=x - WIDTH / 2,
        y=y - HEIGHT / 2,
        width=WIDTH,
        height=HEIGHT,
        rx=6,
        fill="var(--surface)",
        stroke="var(--muted)",
        stroke_dasharray="4 3" if quiet else None,
    )
    return box + text(said, x, y + 4, text_anchor="middle")


def _mark(x: float, y: float) -> str:
    return element("g", element("circle", cx=x, cy=y, r=8, class_="dot"), class_="s1")


def main(folder: str) -> None:
    """Write the pictures."""
    for name, picture in (("graphs", graphs()), ("folding", foldings()), ("rooms", house())):
        (Path(folder) / f"{name}.svg").write_text(standalone(picture), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:] or [str(Path(__file__).parent / "pictures")])
