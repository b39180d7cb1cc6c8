"""When a training has failed, and what kind of failure it is (the paper's NC, told apart)."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor, nn

from mqbench.algorithms._levels import LevelQuantizer
from mqbench.layers import QuantizedLayer
from mqbench.preparation import quantizers
from mqbench.record import CurvePoint

Kind = Literal["exploding scale", "fold blow-up", "dead activations", "chance accuracy", "loss blow-up"]
KINDS = get_args(Kind)

AT_CHANCE, DEAD = 0.5, 0.1  # how far above guessing, as a share of it, a network still counts as guessing
BLOW_UP = 10.0  # times the loss of a network that knows nothing, ln(classes)
DEAD_EPOCHS = 3
_HUGE = 1e6  # times what any scale or running variance of a working network is


def is_blown_up(loss: float, classes: int) -> bool:
    """A (mean) loss that is not finite, or far above that of guessing."""
    return not math.isfinite(loss) or loss > BLOW_UP * math.log(max(classes, 2))


def kind_of_blow_up(model: nn.Module) -> tuple[Kind, str]:
    """What in the network has grown beyond all bounds, and where: a scale, a running variance, or neither."""
    for name, fq in quantizers(model):
        if not isinstance(fq, LevelQuantizer) and _is_huge(fq.scale):
            return "exploding scale", name
    if any(isinstance(module, QuantizedLayer) and module.folding for module in model.modules()):
        for name, buffer in model.named_buffers():
            if name.endswith("running_var") and _is_huge(buffer):
                return "fold blow-up", name.removesuffix(".running_var")
    return "loss blow-up", ""


def is_at_chance(accuracy: float, classes: int, share: float = AT_CHANCE) -> bool:
    """Hardly above guessing, in percent: below 14.5 of 10 classes, 62.5 of two."""
    guessing = 1 / max(classes, 1)
    return accuracy < 100 * guessing * (1 + share * (1 - guessing))


def is_dead(curve: Sequence[CurvePoint], epochs: int, classes: int) -> bool:
    """Training accuracy has stood at chance for epochs on end, and the warm-up is over."""
    if len(curve) < max(DEAD_EPOCHS, epochs // 10) or len(curve) == epochs:
        return False
    return all(is_at_chance(point.train_accuracy, classes, DEAD) for point in curve[-DEAD_EPOCHS:])


def kind_at_chance(model: nn.Module, logits: Tensor) -> Kind:
    """Why a network is at chance: what has exploded, or else whether it tells images apart at all.

    ``logits`` [N, classes] are those of some images.
    """
    kind, _ = kind_of_blow_up(model)
    if kind != "loss blow-up":
        return kind
    if len(logits) > 1 and bool((logits == logits[:1]).all()):
        return "dead activations"
    return "chance accuracy"


def _is_huge(values: Tensor) -> bool:
    # NaN is what the rest of the network becomes once something else has exploded
    return bool((values.detach().abs() > _HUGE).any())
