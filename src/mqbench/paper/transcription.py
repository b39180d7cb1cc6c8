"""The paper's printed tables as text, and its names in ours.

The files in ``data/`` say what is printed, errors included; nothing in them is computed, but for the columns that
say so. ``NC`` is not converged, ``lost`` is illegible in the scan, ``-`` was not measured.
"""

import csv
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "data"
DATASET = "imagenet"

ARCHITECTURES = {
    "ResNet-18": "resnet18",
    "ResNet-50": "resnet50",
    "MobileNetV2": "mobilenetv2",
    "EfficientNet-Lite0": "efficientnet_lite0",
    "RegNetX-600MF": "regnetx_600mf",
}
ALGORITHMS = {
    "LSQ": "lsq",
    "DSQ": "dsq",
    "PACT": "pact",
    "DoReFa": "dorefa",
    "APoT": "apot",
    "QIL": "qil",
}
BACKENDS = {
    "Academic": "academic",
    "TensorRT": "tensorrt",
    "ACL": "acl",
    "TVM": "tvm",
    "SNPE": "snpe",
    "FBGEMM": "fbgemm",
}
HARDWARE = tuple(BACKENDS.values())[1:]
PER_TENSOR = ("tvm", "snpe")  # granularity of the weights (Table 2)
PER_CHANNEL = ("tensorrt", "acl", "fbgemm")
DEPTHWISE = ("mobilenetv2", "efficientnet_lite0")


@cache
def lines(name: str) -> tuple[dict[str, str], ...]:
    """The lines of one file of ``data/``, as printed."""
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def number(text: str) -> float | None:
    """A printed number; None where there is none."""
    return None if text in ("", "NC", "lost", "-") else float(text)
