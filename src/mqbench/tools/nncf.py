"""NNCF's post-training quantization of an OpenVINO network, run by OpenVINO's CPU plugin.

Its default pipeline: channel alignment, min-max ranges (the mean over batches of the extremes of activations), and a
fast bias correction, which none of the algorithms here has. Symmetric weights keep to a range of equal ends.
"""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from mqbench.deploy.runtimes.openvino import core
from mqbench.scheme import QuantScheme
from mqbench.tools._base import Job, Tool
from mqbench.tools._network import float_file


class Engine(nn.Module):
    """A network in OpenVINO's CPU plugin, from images to logits."""

    def __init__(self, network: Any, threads: int) -> None:
        super().__init__()
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        self.compiled = core().compile_model(network, "CPU", options)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[N, classes]`` of images ``[N, C, H, W]``."""
        return torch.from_numpy(self.compiled(x.detach().cpu().numpy())[0].copy())


def quantize(job: Job) -> Engine:
    """The network as NNCF has it."""
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    nncf.set_log_level(logging.ERROR)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "float.onnx"
        float_file(job.network, job.example, path)
        network = core().read_model(path.read_bytes(), b"")
    quantized = nncf.quantize(
        network,
        nncf.Dataset([x.numpy() for x in job.images]),
        target_device=nncf.TargetDevice.CPU,
        subset_size=len(job.images),
        advanced_parameters=AdvancedQuantizationParameters(
            overflow_fix=OverflowFix.DISABLE,  # it would take a bit from the weights
            weights_quantization_params=_parameters(job.plan.scheme("weight", False)),
            activations_quantization_params=_parameters(job.plan.scheme("activation", False)),
        ),
    )
    return Engine(quantized, job.threads)


def _parameters(scheme: QuantScheme) -> Any:
    from nncf.common.quantization.structs import QuantizationScheme as Mode
    from nncf.quantization.advanced_parameters import QuantizationParameters

    mode = Mode.SYMMETRIC if scheme.symmetric else Mode.ASYMMETRIC
    return QuantizationParameters(num_bits=scheme.bits, mode=mode, per_channel=scheme.per_channel)


TOOL = Tool(
    package="nncf",
    distribution="nncf",
    extra="nncf",
    quantize=quantize,
    algorithms={"ptq": "nncf.quantize: ranges of the calibration images, frozen, and corrected biases"},
    activation_calibration=(),
    weight_calibration=(),
    environment={"NNCF_CI": "1"},  # no reports of its use
)
