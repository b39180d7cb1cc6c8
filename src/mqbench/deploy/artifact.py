"""A deployed network as a folder that can be verified again by itself: files, program, sample, certificate."""

import hashlib
import os
import secrets
import shutil
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from mqbench.deploy import certificate as certificates
from mqbench.deploy import exporters, program_file, runtimes
from mqbench.deploy.agreement import Agreement
from mqbench.deploy.certificate import Certificate, certify
from mqbench.deploy.certificate_page import page
from mqbench.deploy.cures import Cured, cure
from mqbench.deploy.export import export, form_of, write_sidecar
from mqbench.deploy.exporters._base import Exporter
from mqbench.deploy.network import integer_network
from mqbench.deploy.program import Program
from mqbench.deploy.requirement import Requirement
from mqbench.deploy.runtimes._base import Runtime
from mqbench.deploy.verification import verify
from mqbench.errors import RequestError
from mqbench.files import check_new_folder

MODEL, NETWORK, SAMPLE = "model.onnx", "network.json", "sample.safetensors"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What an artifact is to be.

    Args:
        folder: that appears as a whole; it must not exist, or be empty.
        runtime: that it is verified with, a name from ``mqbench.deploy.runtimes``.
        require: the bar, as `Requirement.parse` takes it.
        threads: of the engine.
        options: of the engine.
        cure: change the network, or its file, so that no known fault of the engine concerns it.
    """

    folder: Path
    runtime: str = "onnxruntime"
    require: str = "auto"
    threads: int = 1
    options: Mapping[str, Any] | None = None
    cure: bool = False

    def check(self) -> None:
        """Refuse what cannot work before any compute is spent."""
        runtimes.check(self.runtime)  # type: ignore[attr-defined]
        engine: Runtime = runtimes[self.runtime]  # type: ignore[index]
        engine.require()
        Requirement.parse(self.require)
        check_new_folder(self.folder)


def rehearse(program: Program, request: Request) -> None:
    """Export a program and load it into the engine, and keep nothing: a network of the same shape will go through.

    Raises:
        RequestError: the engine or a format refuses the network.
    """
    engine: Runtime = runtimes[request.runtime]  # type: ignore[index]
    program, options, _ = _cured(program, request)
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of channels of these weights, not of those to come
        file = _export(program, engine, Path(folder), str(options.get("form", engine.form)))
        fitting, _ = integer_network(program, engine.arithmetic)
        engine.load(fitting.program, file, threads=request.threads, options=options)


def make(
    program: Program,
    batches: Iterable[Any],
    sample: Sequence[Tensor],
    request: Request,
    *,
    network: Mapping[str, Any],
    accuracy: Mapping[str, float] | None = None,
) -> Certificate:
    """Export a program, verify what was exported on an engine, and write it all as one folder.

    The folder is written whether the bar is passed or missed; the certificate says which.

    Args:
        program: the lowered network.
        batches: for `mqbench.verify`; labels give accuracies.
        sample: one batch of inputs that goes with the artifact, for verifying it later on.
        request: where to, which engine, which bar.
        network: names and numbers for the certificate.
        accuracy: top-1 in percent that is known already (``float``).

    Raises:
        RequestError: the engine or a format refuses the network, or the folder cannot be written.
    """
    request.check()
    engine: Runtime = runtimes[request.runtime]  # type: ignore[index]
    requirement = Requirement.parse(request.require, program, exact_engine=not engine.one_step)
    program, options, applied = _cured(program, request)
    building = request.folder.with_name(f".{request.folder.name}.{secrets.token_hex(4)}")
    try:
        building.mkdir(parents=True)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            model = _export(program, engine, building, str(options.get("form", engine.form)))
        program_file.save(program, building / NETWORK)
        tensors = {f"input{i}": x.contiguous() for i, x in enumerate(sample)}
        (building / SAMPLE).write_bytes(save_tensors(tensors))
        agreement = verify(
            program,
            batches,
            runtime=request.runtime,
            file=model,
            threads=request.threads,
            options=options,
        )
        said = dict.fromkeys(str(warning.message) for warning in warned)
        unsaid = [f"{MODEL}: {about}" for about in said if about not in agreement.notes]
        agreement = replace(agreement, notes=(*agreement.notes, *unsaid))
        known = {**(accuracy or {}), **agreement.accuracy}
        found = certify(
            agreement,
            requirement,
            network={**program.description, **network, **({"cured": applied} if request.cure else {})},
            accuracy=known,
            sample={"images": len(sample[0]), "reference": _fingerprint(program, engine, sample)},
            files={path.name: path for path in building.iterdir()},
        )
        certificates.write(found, building / certificates.NAME)
        (building / certificates.PAGE).write_bytes(page(found).encode())
        with suppress(OSError):
            request.folder.rmdir()  # an empty one
        os.replace(building, request.folder)
    except OSError as error:
        raise RequestError(f"cannot write {request.folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return found


def open_again(folder: Path) -> tuple[Program, list[Tensor], Certificate]:
    """Program, sample and certificate of a folder whose files are unchanged.

    Raises:
        RequestError: a file is missing, damaged or not the one that was certified; the message names it.
    """
    certificate = certificates.read(folder / certificates.NAME)
    certificates.check_files(certificate, folder)
    _check_page(certificate, folder / certificates.PAGE)
    program = program_file.load(folder / NETWORK)
    try:
        tensors = load_tensors((folder / SAMPLE).read_bytes())
        sample = [tensors[f"input{i}"] for i in range(len(program.inputs))]
    except (OSError, SafetensorError, KeyError) as error:
        raise RequestError(f"{folder / SAMPLE} is damaged: {error}") from None
    return program, sample, certificate


def _check_page(certificate: Certificate, path: Path) -> None:
    """The page says what the certificate says, and nothing else."""
    try:
        said = path.read_bytes()
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error}") from None
    if said != page(certificate).encode():
        raise RequestError(f"{path} is not the page of its certificate: it was changed")


def verify_again(
    folder: Path, *, runtime: str | None = None, require: str = "auto", threads: int | None = None
) -> tuple[Agreement, list[str]]:
    """Repeat the verification of a folder on its sample: the agreement, and where the bar is missed.

    Args:
        folder: from `make`.
        runtime: another engine than the certificate's, which then gets a file of its own form.
        require: the bar.
        threads: of the engine; None takes the certificate's.

    Raises:
        RequestError: as `open_again`, or the integer reference computes something else on this machine.
    """
    program, sample, certificate = open_again(folder)
    certified = certificate["engine"]
    name = runtime or certified["runtime"]
    engine: Runtime = runtimes[name]  # type: ignore[index]
    requirement = Requirement.parse(require, program, exact_engine=not engine.one_step)
    requirement.check_without_labels()
    same = name == certified["runtime"]
    if same and _fingerprint(program, engine, sample) != certificate["sample"]["reference"]:
        raise RequestError("the integer reference gives another output here than where it was certified")
    agreement = verify(
        program,
        [tuple(sample)],
        runtime=name,
        file=_proved(engine, folder) if same else None,
        threads=threads or certified["threads"],
        options=certified["options"] if same else None,
    )
    return agreement, requirement.missed(agreement, {})


def _cured(program: Program, request: Request) -> tuple[Program, dict[str, Any], tuple[str, ...]]:
    """The program as the engine is to get it, the engine's options, and what was cured."""
    cured = cure(program, runtime=request.runtime) if request.cure else Cured(program=program)
    return cured.program, {**cured.options, **(request.options or {})}, cured.applied


def _export(program: Program, engine: Runtime, folder: Path, form: str) -> Path | None:
    """What the engine reads, ``model.onnx`` or its artifact, and the backend's own form and sidecars beside it."""
    own = form_of(program)
    export(program, folder / MODEL, form=form or own)
    if form not in ("", own):
        export(program, folder / f"model.{own}.onnx", form=own, sidecars=False)
    if engine.artifact:
        write_sidecar(program, engine.artifact, folder / MODEL)
    return _proved(engine, folder)


def _proved(engine: Runtime, folder: Path) -> Path | None:
    """The file of a folder that the engine runs; None for an engine that is built from the program."""
    if engine.artifact:
        exporter: Exporter = exporters[engine.artifact]  # type: ignore[index]
        return (folder / MODEL).with_suffix(exporter.suffix)
    return folder / MODEL if engine.form else None


def _fingerprint(program: Program, engine: Runtime, sample: Sequence[Tensor]) -> str:
    """Hash of all integers of the reference on the sample."""
    network, _ = integer_network(program, engine.arithmetic)
    digest = hashlib.sha256()
    for name, value in network.values(*sample, names=program.integer_values()).items():
        digest.update(name.encode() + value.to(torch.int32).numpy().tobytes())
    return digest.hexdigest()
