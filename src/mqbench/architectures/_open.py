"""Architectures that have no file here: any model of timm, and any factory of the user's."""

import importlib
import inspect
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from torch import nn

from mqbench.architectures._base import Architecture, Recipe
from mqbench.errors import RequestError

# the paper's recipe of ResNet-18 (Table 3), for networks that it does not name
RECIPE = Recipe(learning_rate=0.004, weight_decay=1e-4, batch_size=64, devices=8)
FLOAT_RECIPE = Recipe(learning_rate=0.1, weight_decay=1e-4, batch_size=64, devices=8)


def timm_architecture(
    model: str, recipe: Recipe = RECIPE, float_recipe: Recipe = FLOAT_RECIPE
) -> Architecture:
    """A model of timm with random weights.

    Raises:
        RequestError: timm is not installed (when it is built).
    """

    def build(classes: int, channels: int) -> nn.Module:
        return _timm().create_model(model, pretrained=False, num_classes=classes, in_chans=channels)

    return Architecture(build=build, recipe=recipe, float_recipe=float_recipe)


def named_timm_architecture(model: str) -> Architecture:
    """The same for a name that a user gave.

    Raises:
        RequestError: timm has no such model, or is not installed.
    """
    timm = _timm()
    if not timm.is_model(model):
        near = get_close_matches(model, timm.list_models(), n=3)
        raise RequestError(f"timm has no model {model!r}; near: {', '.join(near) or 'none'}")
    return timm_architecture(model)


def factory_architecture(name: str) -> Architecture:
    """What ``package.module:factory`` makes; it may take ``num_classes`` and ``in_chans``.

    Raises:
        RequestError: no such module or factory.
    """
    module_name, _, attribute = name.partition(":")
    try:
        factory: Callable[..., nn.Module] = getattr(importlib.import_module(module_name), attribute)
        accepted = inspect.signature(factory).parameters
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise RequestError(f"cannot use architecture {name!r}: {error}") from None
    anything = any(p.kind is p.VAR_KEYWORD for p in accepted.values())

    def build(classes: int, channels: int) -> nn.Module:
        offered = {"num_classes": classes, "in_chans": channels}
        model = factory(**{k: v for k, v in offered.items() if anything or k in accepted})
        if not isinstance(model, nn.Module):
            raise RequestError(f"{name} gave a {type(model).__name__}, not a torch.nn.Module")
        return model

    return Architecture(build=build, recipe=RECIPE, float_recipe=FLOAT_RECIPE)


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError:
        raise RequestError("this architecture needs timm: pip install 'mqbench[vision]'") from None
