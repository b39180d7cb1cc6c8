"""torchao PT2E: quantization-aware training at 8 bits with moving-average ranges (nothing learned)."""

import _step
import torch
from torch import nn
from torchao.quantization.pt2e import move_exported_model_to_train
from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86


def prepare(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """Exported and prepared; its ``train`` is a function of torchao's."""
    exported = torch.export.export(model.train(), (x,), strict=True).module()
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config(is_qat=True))
    prepared = prepare_qat_pt2e(exported, quantizer)
    move_exported_model_to_train(prepared)
    prepared.training = True
    return prepared


if __name__ == "__main__":
    _step.main(prepare)
