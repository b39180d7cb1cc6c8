"""The certificate: what was deployed, on which engine, and how far it is what was measured."""

import dataclasses
import hashlib
import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mqbench
from mqbench import sealed
from mqbench.deploy.agreement import Agreement, LayerAgreement, Match, OutputMatch, Pair
from mqbench.deploy.requirement import Requirement
from mqbench.errors import RequestError
from mqbench.files import whole_file

FORMAT = 1
NAME, PAGE = "certificate.json", "certificate.md"
Certificate = dict[str, Any]


def certify(
    agreement: Agreement,
    requirement: Requirement,
    *,
    network: Mapping[str, Any],
    accuracy: Mapping[str, float],
    sample: Mapping[str, Any],
    files: Mapping[str, Path],
) -> Certificate:
    """Make a certificate.

    Args:
        agreement: from `mqbench.verify`.
        requirement: the bar; what it misses is written down too.
        network: names and numbers that say what the network is.
        accuracy: top-1 in percent: ``float``, ``simulated``, ``integer``, ``engine``, as far as known.
        sample: of the images that go with the artifact.
        files: name to path of what is hashed.
    """
    return {
        "format": FORMAT,
        "mqbench": mqbench.__version__,
        "network": dict(network),
        "engine": {
            "runtime": agreement.runtime,
            "version": agreement.version,
            "options": dict(agreement.options),
            "threads": agreement.threads,
            "machine": f"{platform.system()} {platform.machine()}",
        },
        "images": agreement.images,
        "accuracy": {name: round(value, 4) for name, value in accuracy.items()},
        "agreement": {
            "integer_and_engine": _pair(agreement.integer),
            "simulation_and_engine": _pair(agreement.simulation),
            "simulation_and_integer": _pair(agreement.reference),
        },
        "first_difference": _named(agreement.first_difference),
        "layers": [
            _layer(layer, agreement.precision(layer.name))
            for layer in (*agreement.layers, *agreement.outputs)
        ],
        "nodes": [
            dataclasses.asdict(node) | {"operations": list(node.operations)} for node in agreement.nodes
        ],
        "notes": list(agreement.notes),
        "requirement": dataclasses.asdict(requirement),
        "missed": requirement.missed(agreement, accuracy),
        "sample": dict(sample),
        "files": {name: sha256(path) for name, path in sorted(files.items())},
    }


def write(certificate: Certificate, path: Path) -> None:
    """Write a certificate as JSON that carries its own hash, atomically."""
    with whole_file(path) as sibling:
        sibling.write_bytes(sealed.text(certificate).encode())


def read(path: Path) -> Certificate:
    """Read a certificate.

    Raises:
        RequestError: there is none, it was changed or cut, or is of another version.
    """
    certificate = sealed.read(path, "mqbench quantize")
    if certificate.get("format") != FORMAT:
        raise RequestError(f"{path} was written by another version of mqbench")
    return certificate


def check_files(certificate: Certificate, folder: Path) -> None:
    """Refuse a folder whose files are not those that were certified.

    Raises:
        RequestError: a file is missing or has changed.
    """
    files = certificate.get("files")
    if not isinstance(files, dict):
        raise RequestError(f"{folder / NAME} does not say which files were certified")
    for name, digest in files.items():
        path = folder / name
        if not path.is_file():
            raise RequestError(f"{path} is missing")
        if sha256(path) != digest:
            raise RequestError(f"{path} is not the file that was certified: its hash differs")


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _match(match: Match) -> dict[str, Any]:
    return dataclasses.asdict(match) | {"exact_fraction": match.exact_fraction}


def _output(output: OutputMatch) -> dict[str, Any]:
    decibels = output.sqnr_db if math.isfinite(output.sqnr_db) else None
    return {
        "images": output.images,
        "top1_flips": output.flips,
        "exact_fraction": output.exact_fraction,
        "max_difference": output.max_difference,
        "sqnr_db": decibels,  # null: nothing differs
    }


def _pair(pair: Pair) -> dict[str, Any]:
    return {"integers": _match(pair.integers), "output": _output(pair.output)}


def _layer(layer: LayerAgreement, precision: str) -> dict[str, Any]:
    matches = {name: _match(getattr(layer, name)) for name in ("free", "local", "simulation")}
    return {"name": layer.name, "kind": layer.kind, "precision": precision, **matches}


def _named(layer: LayerAgreement | None) -> dict[str, str] | None:
    return None if layer is None else {"name": layer.name, "kind": layer.kind}
