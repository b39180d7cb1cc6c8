"""Any model of timm, with the preprocessing that its weights were trained for."""

from difflib import get_close_matches
from importlib import import_module
from typing import Any

from torch import nn

from mqbench import architectures as catalog
from mqbench.architectures._base import FLOAT_RECIPE, RECIPE, Architecture, Recipe, main_output
from mqbench.data._base import Preprocessing
from mqbench.errors import RequestError


def timm_architecture(
    model: str, recipe: Recipe = RECIPE, float_recipe: Recipe = FLOAT_RECIPE
) -> Architecture:
    """A model of timm.

    Raises:
        RequestError: timm is not installed (when it is built).
    """

    def build(classes: int, channels: int) -> nn.Module:
        network = timm().create_model(model, pretrained=False, num_classes=classes, in_chans=channels)
        network.register_forward_hook(main_output)
        return network

    return Architecture(
        build=build,
        recipe=recipe,
        float_recipe=float_recipe,
        preprocessing=lambda weights: _preprocessing(model, weights),
        timm_model=model,
    )


def named_architecture(model: str) -> Architecture:
    """The same for a name that a user gave; the paper's networks have the paper's recipe by this name too.

    Raises:
        RequestError: timm has no such model, or is not installed.
    """
    library = timm()
    if not library.is_model(model):
        near = get_close_matches(model, library.list_models(), n=3)
        raise RequestError(f"timm has no model {model!r}; near: {', '.join(near) or 'none'}")
    _check_tag(model)
    name = model.partition(".")[0]
    same = (catalog[listed] for listed in catalog)
    paper = next((entry for entry in same if entry.timm_model == name), None)
    if paper is None:
        return timm_architecture(model)
    return timm_architecture(model, paper.recipe, paper.float_recipe)


def timm() -> Any:
    """The library.

    Raises:
        RequestError: it is not installed.
    """
    try:
        return import_module("timm")
    except ImportError:
        raise RequestError("this architecture needs timm: pip install 'mqbench[vision]'") from None


def _check_tag(model: str) -> None:
    name, _, tag = model.partition(".")
    tags = timm().list_pretrained(f"{name}.*") if tag else [model]
    if model not in tags:
        known = ", ".join(tags) or "none"
        raise RequestError(f"timm has no weights {tag!r} of {name}; it has: {known}")


def _preprocessing(model: str, weights: str | None) -> Preprocessing:
    """Of the model's ``pretrained_cfg``; without weights only a size that the network is built for."""
    config = import_module("timm.models").get_pretrained_cfg(model)
    if config is None:
        return Preprocessing()
    _, height, width = config.input_size
    if height != width:
        raise RequestError(
            f"{model} takes images of {height} x {width} pixels; only square ones are prepared here"
        )
    if weights is None:
        return Preprocessing(size=height if config.fixed_input_size else None)
    return Preprocessing(
        size=height,
        crop=config.crop_pct,
        interpolation=config.interpolation,
        mean=config.mean,
        std=config.std,
    )
