"""Strategy 0: weight and bias are merged by Eq. 4 before training and the batch norm is deleted."""

from torch import Tensor

from mqbench.folding._base import BatchNormTensors, Folding
from mqbench.layers import QuantizedLayer


class Merged(Folding):
    """Trains the merged weight directly; unstable at high learning rates (paper Table 5)."""

    number = 0
    merges_at_once = True

    def train_forward(self, layer: QuantizedLayer, x: Tensor, bn: BatchNormTensors) -> Tensor:  # noqa: D102
        raise AssertionError("a merged layer has no batch norm left")


FOLDING = Merged()
