"""A network that somebody made, and the images of a dataset: do they go together?"""

import torch
from torch import Tensor, nn

from mqbench.errors import RequestError


def check_network(model: nn.Module, name: str, image_shape: tuple[int, ...], classes: int) -> None:
    """Let a network look at one empty image, in eval mode; it is left in the mode that it had.

    Args:
        model: on the CPU.
        name: of the architecture, for messages.
        image_shape: channels, height, width.
        classes: of which each must have an output.

    Raises:
        RequestError: its parameters are not float32, it does not take such an image, or does not give a number
            for each class.
    """
    kinds = {value.dtype for value in model.parameters() if value.is_floating_point()} - {torch.float32}
    if kinds:
        got = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
        raise RequestError(
            f"{name} has parameters of {got}; networks are kept in float32: give it with .float(), and choose the "
            "arithmetic by --precision"
        )
    training = model.training
    shape = " x ".join(map(str, image_shape))
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            output = model.eval()(torch.zeros(1, *image_shape))
    except Exception as error:  # whatever a network raises for an image that it is not made for
        said = str(error).strip().partition("\n")[0]
        raise RequestError(
            f"{name} does not take images of {shape} (channels, height, width), which the dataset has; a factory is "
            f"given their channels if it has a parameter in_chans ({said})"
        ) from error
    finally:
        model.train(training)
    if not isinstance(output, Tensor) or output.shape != (1, classes):
        got = f"a tensor of {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise RequestError(
            f"{name} must give a number for each of {classes} classes, [1, {classes}] for one image, got {got}; a "
            "factory is given their number if it has a parameter num_classes"
        )
