"""Quantize a network for one backend, to an artifact with a certificate."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import ValidationError

from mqbench import catalog
from mqbench.commands._options import ONE_THREAD, ComputeOptions, Count, Files, Flag, Json, Whole
from mqbench.commands._print import print_json
from mqbench.errors import RequestError
from mqbench.study import Study, explain


def quantize(
    model: str,
    /,
    *,
    backend: str,
    export: Annotated[str, Parameter(show_default=False)],
    dataset: str | None = None,
    data: str | None = None,
    weights: str | None = None,
    algorithm: str | None = None,
    bits: str = "8",
    epochs: Whole | None = None,
    steps: Count | None = None,
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    batch_size: Count | None = None,
    global_batch: Count | None = None,
    first_last_bits: Whole = 8,
    bn_folding: Whole | None = None,
    graph: Whole | None = None,
    weight_calibration: str | None = None,
    activation_calibration: str | None = None,
    calibration_images: Count | None = None,
    bn_calibration: Whole = 0,
    seed: Whole = 0,
    float_epochs: Count | None = None,
    skip: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = (),
    runtime: str = "onnxruntime",
    require: str = "auto",
    cure: Flag = False,
    images: Count | None = None,
    sample: Count = 8,
    store: str = "runs",
    compute: ComputeOptions = ONE_THREAD,
    load: Files = (),
    quiet: Flag = False,
    as_json: Json = False,
) -> int:
    """Quantize a network for one backend, export it, and prove on an engine what it computes.

    Exits with 1, saying where, if the bar is missed.

    Args:
        model: An architecture; see `mqbench list architectures`.
        backend: The inference library.
        export: Folder of the artifact; it must not exist, or be empty.
        dataset: Of calibration, training and test; without it --data is a folder of images itself.
        data: Folder of the datasets.
        weights: Of the float network: timm, file:PATH or package:NAME; without it, it is trained here.
        algorithm: ptq if nothing is trained, else lsq.
        bits: Of weights and activations; w4a8 for a pair.
        epochs: Of quantization-aware training; 0, which is the default, is post-training quantization.
        steps: Of training in all, in place of epochs.
        learning_rate: Of training, with the next three in place of the recipe's.
        weight_decay: L2.
        batch_size: Images of one device and step.
        global_batch: Images of an optimizer step.
        first_last_bits: Bits of the first and last layer.
        bn_folding: Strategy, -1 to 4; the backend's if not given.
        graph: Placement of the quantizers, 1 to 3; the backend's if not given.
        weight_calibration: Observer of weights.
        activation_calibration: Observer of activations.
        calibration_images: Training images that set the quantizers' parameters.
        bn_calibration: Training images for batch-norm calibration; 0 leaves it out.
        seed: Of the run.
        float_epochs: Epochs of the float network, where it is trained here.
        skip: Layers that stay float.
        runtime: The engine that proves it; see `mqbench list runtimes`.
        require: The bar: auto, exact, one-step, none, or exact=0.999,steps=1,free=0.9,flips=0,drop=0.5.
        cure: Change the network, or its file, so that no known fault of the engine concerns it.
        images: Test images that are compared; all if not given.
        sample: Test images that are kept in the folder, to verify it later on.
        store: Folder of the records, where the float network is or will be.
        compute: Of the training.
        load: Python files that add algorithms, architectures and so on.
        quiet: Print nothing but what is asked for.
        as_json: Print the certificate as JSON.
    """
    for path in load:
        catalog.load(path)
    axes = {
        "architecture": model,
        "dataset": _dataset(dataset, data),
        "algorithm": algorithm or ("lsq" if epochs or steps else "ptq"),
        "backend": backend,
        "bits": bits,
        "epochs": 0 if epochs is None and steps is None else epochs,
        "steps": steps,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "batch_size": batch_size,
        "global_batch": global_batch,
        "seed": seed,
        "first_last_bits": first_last_bits,
        "bn_folding": bn_folding,
        "graph": graph,
        "weight_calibration": weight_calibration,
        "activation_calibration": activation_calibration,
        "calibration_images": calibration_images,
        "bn_calibration": bn_calibration,
        "weights": weights,
        "float_epochs": float_epochs,
    }
    given = {("seeds" if name == "seed" else name): (v,) for name, v in axes.items() if v is not None}
    try:
        (setting,) = Study(name="quantize", axes=given).settings()
    except ValidationError as error:
        raise RequestError(explain(error)) from None
    from mqbench.deploy.artifact import Request  # torch is loaded when the request is known to be sound
    from mqbench.deployment import quantize as make

    request = Request(
        folder=Path(export), runtime=runtime, require=require, threads=compute.threads, cure=cure
    )
    certificate = make(
        setting,
        request,
        data=data,
        store=store,
        compute=compute.compute(),
        images=images,
        sample=sample,
        skip=skip,
        progress=(lambda phase: None) if quiet or as_json else lambda phase: print(f"{phase} ..."),
    )
    if as_json:
        print_json(certificate)
    else:
        _show(certificate, export)
    return 1 if certificate["missed"] else 0


def _dataset(dataset: str | None, data: str | None) -> str:
    if dataset is not None:
        return dataset
    if data is None:
        raise RequestError("quantize needs images: give --dataset NAME, or --data FOLDER with images")
    return f"folder:{Path(data).resolve()}"


def _show(certificate: dict[str, object], folder: str) -> None:
    from mqbench.deploy.certificate_page import summary

    print(summary(certificate))
    print(f"{folder}: certificate.md says more")


COMMAND = quantize
