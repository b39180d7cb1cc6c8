"""ONNX Runtime's static quantizer: min-max, entropy or percentile ranges, run by its own integer kernels.

The float network is exported as it was captured, prepared by ``quant_pre_process`` (which folds the batch
norms), quantized by ``quantize_static`` in QDQ form, and run by an inference session of the same library, so
the accuracy is that of the engine's integers.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from mqbench.tools._base import Job, Tool
from mqbench.tools._network import float_file

_METHODS = {None: "MinMax", "minmax": "MinMax", "kld": "Entropy", "quantile": "Percentile"}


class Engine(nn.Module):
    """An ONNX file in an inference session, from images to logits."""

    def __init__(self, model: bytes, threads: int) -> None:
        import onnxruntime

        super().__init__()
        chosen = onnxruntime.SessionOptions()
        chosen.intra_op_num_threads, chosen.inter_op_num_threads = threads, 1
        chosen.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(model, chosen, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[N, classes]`` of images ``[N, C, H, W]``."""
        (logits,) = self.session.run(None, {self.input: x.detach().cpu().numpy()})
        return torch.from_numpy(logits)


def quantize(job: Job) -> Engine:
    """The network as the quantizer has it."""
    import onnxruntime.quantization as ort
    from onnxruntime.quantization.shape_inference import quant_pre_process

    weight, activation = job.plan.scheme("weight", False), job.plan.scheme("activation", False)

    class Images(ort.CalibrationDataReader):  # type: ignore[misc]
        """One batch after the other, as the quantizer asks for them."""

        def __init__(self, name: str) -> None:
            self.batches = ({name: x.numpy()} for x in job.images)

        def get_next(self) -> Any:
            return next(self.batches, None)

    with TemporaryDirectory() as name, _silence():
        folder = Path(name)
        source = float_file(job.network, job.example, folder / "float.onnx")
        quant_pre_process(folder / "float.onnx", folder / "folded.onnx", skip_symbolic_shape=True)
        ort.quantize_static(
            folder / "folded.onnx",
            folder / "int8.onnx",
            Images(source),
            per_channel=weight.per_channel,
            weight_type=ort.QuantType.QInt8,
            activation_type=ort.QuantType.QInt8 if activation.symmetric else ort.QuantType.QUInt8,
            calibrate_method=ort.CalibrationMethod[_METHODS[job.activation_calibration]],
            extra_options={
                "WeightSymmetric": weight.symmetric,
                "ActivationSymmetric": activation.symmetric,
            },
        )
        return Engine((folder / "int8.onnx").read_bytes(), job.threads)


@contextmanager
def _silence() -> Iterator[None]:
    """Without its advice to prepare the file, which is done, and its account of what preparing it left over."""
    import onnxruntime

    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    onnxruntime.set_default_logger_severity(3)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(2)  # the library's own
        logger.setLevel(level)


TOOL = Tool(
    package="onnxruntime",
    distribution="onnxruntime",
    extra="onnxruntime",
    quantize=quantize,
    algorithms={"ptq": "quantize_static: ranges of the calibration images, frozen"},
    activation_calibration=("minmax", "kld", "quantile"),
)
