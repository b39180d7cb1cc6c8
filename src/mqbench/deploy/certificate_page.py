"""The certificate as a page that people read (Markdown)."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from mqbench.deploy.certificate import Certificate

_COLUMNS = ("local", "free", "simulation")
_PAIRS = {
    "integer_and_engine": "integer reference and engine",
    "simulation_and_engine": "simulation and engine",
    "simulation_and_integer": "simulation and integer reference",
}


def page(certificate: Certificate) -> str:
    """Markdown with a verdict, accuracies, agreement, what ran as integers, layers and hashes."""
    missed = certificate["missed"]
    engine = certificate["engine"]
    options = ", ".join(f"{k}={v}" for k, v in engine["options"].items()) or "none"
    parts = [
        "# Certificate",
        "**Passed.**" if not missed else "**Missed.** " + "; ".join(missed) + ".",
        _table(["network", ""], [[k, _text(v)] for k, v in certificate["network"].items()]),
        f"Engine: {engine['runtime']} {engine['version']}, options {options}, threads {engine['threads']}, "
        f"{engine['machine']}. Images: {certificate['images']}. Bar: {_bar(certificate['requirement'])}.",
        *_accuracy(certificate["accuracy"]),
        "## Agreement, each running on its own",
        _table(
            ["", "equal integers", "largest difference", "top-1 flips", "SQNR of the output"],
            [_pair_row(_PAIRS[name], pair) for name, pair in certificate["agreement"].items()],
        ),
        "## What ran as integers",
        _nodes(certificate["nodes"]),
        *(
            ["## Notes", "\n".join(f"- {note}" for note in certificate["notes"])]
            if certificate["notes"]
            else []
        ),
        "## Layers",
        "*Local*: computed on the engine's own inputs. *Free*: each running on its own. Differences in "
        "quantization steps.",
        _table(
            [
                "layer",
                "operation",
                "ran as",
                "local: equal",
                "steps",
                "free: equal",
                "steps",
                "simulation: equal",
                "steps",
            ],
            [_layer_row(layer) for layer in certificate["layers"]],
        ),
        "## Files (SHA-256)",
        _table(["file", "hash"], [[name, f"`{digest}`"] for name, digest in certificate["files"].items()]),
    ]
    return "\n\n".join(parts) + "\n"


def summary(certificate: Certificate) -> str:
    """The same in a few lines, for the command line."""
    accuracy = ", ".join(f"{name} {value:.2f}" for name, value in certificate["accuracy"].items())
    pair = certificate["agreement"]["integer_and_engine"]
    engine, integers = certificate["engine"], pair["integers"]
    lines = [
        f"top-1: {accuracy}" if accuracy else "",
        f"integer reference and {engine['runtime']} {engine['version']}: {_share(integers)} of {integers['count']} "
        f"integers equal, at most {integers['max_steps']} steps apart",
        _nodes(certificate["nodes"]),
        *(f"note: {note}" for note in certificate["notes"]),
        *(f"missed: {sentence}" for sentence in certificate["missed"]),
        "" if certificate["missed"] else "bar passed: " + _bar(certificate["requirement"]),
    ]
    return "\n".join(line for line in lines if line)


def _accuracy(accuracy: dict[str, float]) -> list[str]:
    if not accuracy:
        return []
    return ["## Accuracy (top-1, %)", _table(list(accuracy), [[f"{v:.2f}" for v in accuracy.values()]])]


def _pair_row(name: str, pair: dict[str, Any]) -> list[str]:
    integers, output = pair["integers"], pair["output"]
    decibels = "equal" if output["sqnr_db"] is None else f"{output['sqnr_db']:.1f} dB"
    flips = f"{output['top1_flips']} of {output['images']}"
    return [name, _share(integers), _steps(integers), flips, decibels]


def _layer_row(layer: dict[str, Any]) -> list[str]:
    cells = [layer["name"], layer["kind"], layer["precision"]]
    for name in _COLUMNS:
        cells += [_share(layer[name]), str(layer[name]["max_steps"])]
    return cells


def _nodes(nodes: Sequence[dict[str, Any]]) -> str:
    counts = Counter(node["precision"] for node in nodes)
    said = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    floats = [
        f"{node['kind']} ({named})"
        if (named := ", ".join(node["operations"]) or node["name"])
        else node["kind"]
        for node in nodes
        if node["precision"] == "float"
    ]
    return f"{len(nodes)} nodes after the optimizer: {said}." + (
        f" In float: {', '.join(floats)}." if floats else " None of the computation fell back to float."
    )


def _share(match: dict[str, Any]) -> str:
    missing = match["count"] - match["equal"]
    return (
        "all"
        if not missing
        else f"{100 * match['exact_fraction']:.4f} % ({missing} of {match['count']} differ)"
    )


def _steps(match: dict[str, Any]) -> str:
    return f"{match['max_steps']} steps"


def _bar(requirement: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v:g}" for k, v in requirement.items() if v is not None) or "none"


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
