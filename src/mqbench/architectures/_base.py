"""What an architecture is: a builder, and the training recipes that every algorithm shares."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import nn

from mqbench.data._base import Preprocessing


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Hyper-parameters of one training (paper section 2.1 and Table 3).

    SGD with Nesterov momentum; the learning rate rises linearly over the warm-up epochs and falls by a
    cosine to zero. Weight decay is L2 on every parameter but the zero points (and the batch norms, where
    ``decay_batch_norm`` is False).

    Args:
        learning_rate, weight_decay, momentum, label_smoothing: as named.
        batch_size: images a device and step.
        devices: that the learning rate was chosen for; the global batch is ``batch_size * devices``.
        epochs, warmup_epochs: passes over the training images.
        decay_batch_norm: whether batch-norm parameters decay too.
        calibration_images: training images that set the quantizers' parameters.
    """

    learning_rate: float
    weight_decay: float
    batch_size: int
    devices: int = 1
    epochs: int = 100
    warmup_epochs: int = 1
    momentum: float = 0.9
    label_smoothing: float = 0.1
    decay_batch_norm: bool = True
    calibration_images: int = 1024

    @property
    def global_batch(self) -> int:
        """Images of an optimizer step."""
        return self.batch_size * self.devices


def _as_the_dataset_says(weights: str | None) -> Preprocessing:
    return Preprocessing()


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One network.

    Args:
        build: (number of classes, image channels) -> float model with random weights. Auxiliary heads, which
            only training from scratch uses and no deployed network has, are left out of it.
        recipe: for quantization-aware fine-tuning.
        float_recipe: for training the float network from scratch.
        preprocessing: what images must be like for weights (a setting's ``weights``; None for weights that
            are trained here).
        timm_model: name in timm, for its hub's weights.
        training_only: how names of tensors begin that a checkpoint may have and ``build``'s model has not.
    """

    build: Callable[[int, int], nn.Module]
    recipe: Recipe
    float_recipe: Recipe
    preprocessing: Callable[[str | None], Preprocessing] = _as_the_dataset_says
    timm_model: str | None = None
    training_only: tuple[str, ...] = ("AuxLogits.", "aux1.", "aux2.")


# the paper's recipe of ResNet-18 (Table 3), for networks that it does not name
RECIPE = Recipe(learning_rate=0.004, weight_decay=1e-4, batch_size=64, devices=8)
FLOAT_RECIPE = Recipe(learning_rate=0.1, weight_decay=1e-4, batch_size=64, devices=8)
# appendix A: the mobile networks' L2 is 4e-5 in full precision, and less when they are fine-tuned
MOBILE_RECIPE = Recipe(
    learning_rate=0.01, weight_decay=1e-5, batch_size=32, devices=16, decay_batch_norm=False
)
MOBILE_FLOAT_RECIPE = replace(MOBILE_RECIPE, learning_rate=0.1, weight_decay=4e-5)


def main_output(model: nn.Module, inputs: object, output: object) -> object:
    """A forward hook: of several outputs (auxiliary heads in training) only the logits count, else the first."""
    while isinstance(output, (tuple, list, Mapping)) and output:
        if isinstance(output, Mapping):  # as the models of Hugging Face's transformers give them
            output = [output.get("logits", next(iter(output.values())))]
        output = output[0]
    return output
