"""What an architecture is: a builder, and the training recipes that every algorithm shares."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


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


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One network.

    Args:
        build: (number of classes, image channels) -> float model with random weights.
        recipe: for quantization-aware fine-tuning.
        float_recipe: for training the float network from scratch.
    """

    build: Callable[[int, int], nn.Module]
    recipe: Recipe
    float_recipe: Recipe
