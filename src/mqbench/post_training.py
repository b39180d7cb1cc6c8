"""What a setting does to a network before any training: quantizers, then batch-norm statistics or biases, from data."""

from torch import fx

from mqbench.architectures._base import Recipe
from mqbench.bias_correction import correct_bias
from mqbench.calibration import calibrate, calibrate_bn
from mqbench.data._base import Batch, Device, Split
from mqbench.record import Setting
from mqbench.training import calibration_batches


def calibrate_as(
    setting: Setting, model: fx.GraphModule, images: Split, recipe: Recipe, device: Device = "cpu"
) -> None:
    """Calibrate a prepared network as a setting says, with training images that its seed draws."""

    def drawn(count: int) -> list[Batch]:
        return calibration_batches(
            images, count=count, batch_size=recipe.batch_size, seed=setting.seed, device=device
        )

    calibrate(
        model,
        drawn(recipe.calibration_images),
        weights=setting.weight_calibration,
        activations=setting.activation_calibration,
    )
    if setting.bn_calibration:
        calibrate_bn(model, drawn(setting.bn_calibration), weights=setting.weight_calibration)
    if setting.bias_correction:
        correct_bias(model, drawn(setting.bias_correction))
