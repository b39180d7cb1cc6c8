"""torchao's PT2E: the network is exported and annotated by its x86 quantizer, calibrated or trained.

The x86 quantizer leaves the last convolution of a residual branch unquantized before the sum (graph 2), and in
training its convolutions carry the folded weight and an explicit batch norm behind the unfolded output (strategy
4). A calibrated network is evaluated as its reference (``convert_pt2e``: quantize and dequantize, float between),
a trained one by its fake quantizers in eval mode, as everything here is; observers rest then.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from mqbench.scheme import QuantScheme
from mqbench.tools._base import Job, Tool
from mqbench.tools._network import plain_network

FOLLOW = "minmax"


class Prepared(nn.Module):
    """A network of ``prepare_qat_pt2e`` that takes ``train`` and ``eval``; observers are on in training."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def train(self, mode: bool = True) -> "Prepared":
        """Switch batch norms and dropout, and whether observers follow the data."""
        import torchao.quantization.pt2e as pt2e

        (pt2e.move_exported_model_to_train if mode else pt2e.move_exported_model_to_eval)(self.network)
        self.network.apply(pt2e.enable_observer if mode else pt2e.disable_observer)
        self.training = mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[N, classes]`` of images ``[N, C, H, W]``."""
        logits: Tensor = self.network(x)
        return logits


def quantize(job: Job) -> nn.Module:
    """The network as the x86 quantizer has it."""
    import torchao.quantization.pt2e as pt2e
    from torchao.quantization.pt2e import quantize_pt2e
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import X86InductorQuantizer

    follows = job.plan.algorithm == FOLLOW
    network = plain_network(job.network, job.example).train(follows)
    shapes = ({0: Dim.AUTO},)
    exported = torch.export.export(network, (job.example,), dynamic_shapes=shapes, strict=False).module()
    quantizer = X86InductorQuantizer().set_global(_config(job, follows))
    if follows:
        prepared = Prepared(quantize_pt2e.prepare_qat_pt2e(exported, quantizer)).eval()
        prepared.network.apply(pt2e.enable_observer)
        _show(prepared, job.images)
        return prepared.eval()
    observed = quantize_pt2e.prepare_pt2e(exported, quantizer)
    _show(observed, job.images)
    return Evaluated(quantize_pt2e.convert_pt2e(observed))


class Evaluated(nn.Module):
    """An exported network, which has no training mode to leave."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.call = network.forward

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[N, classes]`` of images ``[N, C, H, W]``."""
        logits: Tensor = self.call(x)
        return logits


@torch.no_grad()
def _show(network: nn.Module, images: list[Tensor]) -> None:
    for x in images:
        network(x)


def _config(job: Job, follows: bool) -> Any:
    import torchao.quantization.pt2e as pt2e
    from torchao.quantization.pt2e.quantizer import QuantizationSpec
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import QuantizationConfig

    def spec(scheme: QuantScheme, observer: Any, moving: Any) -> Any:
        watch, options = observer, {"eps": 2**-12}  # the x86 quantizer's own
        if follows:
            watch, options = pt2e.FusedMovingAvgObsFakeQuantize, {**options, "observer": moving}
        return QuantizationSpec(
            dtype=torch.int8,
            qscheme=_QSCHEMES[scheme.per_channel, scheme.symmetric],
            ch_axis=0 if scheme.per_channel else None,
            observer_or_fake_quant_ctr=watch.with_args(**options),
            quant_min=scheme.quant_min,
            quant_max=scheme.quant_max,
        )

    weight, activation = job.plan.scheme("weight", False), job.plan.scheme("activation", False)
    of_activations = pt2e.MinMaxObserver if job.activation_calibration == "minmax" else pt2e.HistogramObserver
    data = spec(activation, of_activations, pt2e.MovingAverageMinMaxObserver)
    weights = (
        spec(weight, pt2e.PerChannelMinMaxObserver, pt2e.MovingAveragePerChannelMinMaxObserver)
        if weight.per_channel
        else spec(weight, pt2e.MinMaxObserver, pt2e.MovingAverageMinMaxObserver)
    )
    return QuantizationConfig(data, data, weights, None, follows)


_QSCHEMES = {
    (False, False): torch.per_tensor_affine,
    (False, True): torch.per_tensor_symmetric,
    (True, False): torch.per_channel_affine,
    (True, True): torch.per_channel_symmetric,
}

TOOL = Tool(
    package="torchao",
    distribution="torchao",
    extra="torchao",
    quantize=quantize,
    algorithms={
        "ptq": "prepare_pt2e and convert_pt2e: ranges of the calibration images, frozen",
        FOLLOW: "prepare_qat_pt2e: ranges are moving averages of minimum and maximum, nothing is learned",
    },
    weight_bits=tuple(range(2, 9)),
    activation_bits=tuple(range(2, 9)),
    graphs=(2,),
    trains=True,
)
