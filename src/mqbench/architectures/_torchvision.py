"""Any classification model of torchvision, with the preprocessing that its weights were trained for."""

from difflib import get_close_matches
from importlib import import_module
from typing import Any

from torch import nn

from mqbench.architectures._base import FLOAT_RECIPE, RECIPE, Architecture, main_output
from mqbench.data._base import Preprocessing
from mqbench.errors import RequestError

# auxiliary heads train the first layers of a network from scratch and are no part of it afterwards
_OPTIONS: dict[str, dict[str, bool]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def named_architecture(model: str) -> Architecture:
    """A model of ``torchvision.models``.

    Raises:
        RequestError: torchvision has no such model, or is not installed; or, when it is built, images that do
            not have three channels.
    """
    models = _models()
    known = models.list_models(module=models)
    if model not in known:
        near = get_close_matches(model, known, n=3)
        raise RequestError(f"torchvision has no model {model!r}; near: {', '.join(near) or 'none'}")

    def build(classes: int, channels: int) -> nn.Module:
        if channels != 3:
            raise RequestError(f"torchvision/{model} takes images of 3 channels, got {channels}")
        network = models.get_model(model, weights=None, num_classes=classes, **_OPTIONS.get(model, {}))
        network.register_forward_hook(main_output)
        return network

    return Architecture(
        build=build,
        recipe=RECIPE,
        float_recipe=FLOAT_RECIPE,
        preprocessing=lambda weights: _preprocessing(models, model, weights),
    )


def _models() -> Any:
    try:
        return import_module("torchvision.models")
    except ImportError:
        raise RequestError("this architecture needs torchvision: pip install 'mqbench[vision]'") from None


def _preprocessing(models: Any, model: str, weights: str | None) -> Preprocessing:
    """Of the library's default weights; nothing for weights that are trained here."""
    if weights is None:
        return Preprocessing()
    preset = models.get_model_weights(model).DEFAULT.transforms()
    size, resized = preset.crop_size[0], preset.resize_size[0]
    return Preprocessing(
        size=size,
        crop=size / resized,
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )
