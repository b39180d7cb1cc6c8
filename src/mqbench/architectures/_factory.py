"""Any callable of the user's that gives a module, named as ``package.module:factory``."""

import sys
from collections.abc import Callable
from importlib import import_module
from inspect import signature
from pathlib import Path

from torch import nn

from mqbench.architectures._base import FLOAT_RECIPE, RECIPE, Architecture, main_output
from mqbench.errors import RequestError


def named_architecture(name: str) -> Architecture:
    """What ``package.module:factory`` makes; it may take ``num_classes`` and ``in_chans``.

    The module is one that Python finds, or lies in the working directory (behind all else, as its name may be
    that of a package).

    Raises:
        RequestError: no such module or factory.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise RequestError(f"an architecture of your own is named PACKAGE.MODULE:FACTORY, got {name!r}")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        factory: Callable[..., nn.Module] = getattr(import_module(module_name), attribute)
        accepted = signature(factory).parameters
        if isinstance(factory, nn.Module):
            raise TypeError("it is a network; give a function or class that makes one")
    except (Exception, SystemExit) as error:  # the code of a user may raise anything
        raise _unusable(name, error) from error
    anything = any(p.kind is p.VAR_KEYWORD for p in accepted.values())

    def build(classes: int, channels: int) -> nn.Module:
        offered = {"num_classes": classes, "in_chans": channels}
        try:
            model = factory(**{k: v for k, v in offered.items() if anything or k in accepted})
        except (Exception, SystemExit) as error:
            raise _unusable(name, error) from error
        if not isinstance(model, nn.Module):
            raise RequestError(f"{name} gave a {type(model).__name__}, not a torch.nn.Module")
        model.register_forward_hook(main_output)
        return model

    return Architecture(build=build, recipe=RECIPE, float_recipe=FLOAT_RECIPE)


def _unusable(name: str, error: BaseException) -> RequestError:
    said = " ".join(str(error).split()) or "no message"
    return RequestError(f"cannot use architecture {name!r}: {type(error).__name__}: {said}")
