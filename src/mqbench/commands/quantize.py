"""Quantize a network for one backend, to an artifact with a certificate."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mqbench import catalog
from mqbench.commands._network import NetworkOptions
from mqbench.commands._options import ONE_THREAD, ComputeOptions, Count, Files, Flag, Json
from mqbench.commands._print import print_json


def quantize(
    model: str,
    /,
    *,
    network: NetworkOptions,
    export: Annotated[str, Parameter(alias="-o", show_default=False)],
    runtime: str = "onnxruntime",
    require: str = "auto",
    cure: Flag = False,
    images: Count | None = None,
    sample: Count = 8,
    compute: ComputeOptions = ONE_THREAD,
    load: Files = (),
    quiet: Flag = False,
    as_json: Json = False,
) -> int:
    """Quantize a network for one backend, export it, and prove on an engine what it computes.

    Exits with 1, saying where, if the bar is missed.

    A network of your own is module:factory: a function or class of a Python file,
    here or on PYTHONPATH, that makes it; it may take num_classes and in_chans.

    Args:
        model: A name of `mqbench list architectures`, timm/NAME, torchvision/NAME or module:factory.
        network: How it is quantized.
        export: Folder of the artifact; it must not exist, or be empty.
        runtime: The engine that proves it; see `mqbench list runtimes`.
        require: The bar: auto, exact, one-step, none, or exact=0.999,steps=1,free=0.9,flips=0,drop=0.5.
        cure: Change the network, or its file, so that no known fault of the engine concerns it.
        images: Test images that are compared; all if not given.
        sample: Test images that are kept in the folder, to verify it later on.
        compute: Of the training.
        load: Python files that add algorithms, architectures and so on; may be given several times.
        quiet: Print nothing but what is asked for.
        as_json: Print the certificate as JSON.

    Examples:
        mqbench quantize my_nets:net --weights file:net.pt --data IMAGES --backend fbgemm --export out
        mqbench quantize resnet20 --dataset cifar10 --data ~/data --backend tensorrt --bits 4 --epochs 3 --export out
        mqbench quantize timm/resnet18 --data IMAGES --backend snpe --bits 4 --layer-bits layer1.0.conv1=8 --export out
    """
    for path in load:
        catalog.load(path)
    setting, layer_bits = network.setting(model), network.bits_of_layers()
    from mqbench.deploy.artifact import Request  # torch is loaded when the request is known to be sound
    from mqbench.deployment import quantize as make

    request = Request(
        folder=Path(export), runtime=runtime, require=require, threads=compute.threads, cure=cure
    )
    certificate = make(
        setting,
        request,
        data=network.data,
        store=network.store,
        compute=compute.compute(),
        images=images,
        sample=sample,
        skip=network.skip,
        layer_bits=layer_bits,
        progress=(lambda phase: None) if quiet or as_json else lambda phase: print(f"{phase} ..."),
    )
    if as_json:
        print_json(certificate)
    else:
        _show(certificate, export)
    return 1 if certificate["missed"] else 0


def _show(certificate: dict[str, object], folder: str) -> None:
    from mqbench.deploy.certificate_page import summary

    print(summary(certificate))
    print(f"{folder}: certificate.md says more")


COMMAND = quantize
