"""Batch norms that leave their computation to the one quantizer that reads them, or do it in fewer passes."""

from typing import Any

import torch
from torch import Tensor, nn

from mqbench.fused.behind import left_by
from mqbench.fused.norm import Deferred, DeferredNorm, can_defer
from mqbench.processes import is_distributed


class Deferring:
    """While training, the output is a `DeferredNorm`, if a fused pass for it exists and nobody is watching.

    Attributes:
        defers: the only reader is a quantizer; otherwise the fused pass is made here.
        enabled: with False this is torch's batch norm, to the bit.
    """

    defers = False
    enabled = True

    def forward(self: Any, x: Tensor) -> Tensor | Deferred:
        """[N, C, ...] -> the same, normalised or yet to be."""
        # where processes train together the statistics may be joint ones, which the plain path sees to
        # and a compiler fuses a batch norm with what else reads it
        alone = torch.compiler.is_compiling() and not self.defers
        if alone or not (self.training and self.enabled and can_defer(x)) or is_distributed():
            return super().forward(x)  # type: ignore[misc]
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        norm = DeferredNorm(
            output=x,
            gamma=self.weight,
            beta=self.bias,
            running_mean=self.running_mean,
            running_var=self.running_var,
            momentum=self.momentum,
            eps=self.eps,
        )
        return left_by(self, norm)


class DeferringBatchNorm1d(Deferring, nn.BatchNorm1d):  # type: ignore[misc]
    """For the outputs of 1-d convolutions."""


class DeferringBatchNorm2d(Deferring, nn.BatchNorm2d):  # type: ignore[misc]
    """For the outputs of 2-d convolutions."""


class DeferringBatchNorm3d(Deferring, nn.BatchNorm3d):  # type: ignore[misc]
    """For the outputs of 3-d convolutions."""


_FORMS: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: DeferringBatchNorm1d,
    nn.BatchNorm2d: DeferringBatchNorm2d,
    nn.BatchNorm3d: DeferringBatchNorm3d,
}
_PLAIN = {deferring: plain for plain, deferring in _FORMS.items()}


def deferring(norm: nn.Module, defers: bool) -> nn.Module | None:
    """The same batch norm, with the same tensors, in this form; None if its statistics have another rule."""
    known: Any = norm
    form = _FORMS.get(type(norm))
    if form is None or known.weight is None or known.running_mean is None or known.momentum is None:
        return None
    found: Any = _as(form, known)
    found.defers = defers
    return found


def plain(norm: nn.Module) -> nn.Module:
    """The ordinary batch norm again."""
    return _as(_PLAIN[type(norm)], norm) if type(norm) in _PLAIN else norm


def _as(form: type[nn.Module], norm: Any) -> nn.Module:
    with torch.device("meta"):
        other: Any = form(norm.num_features, eps=norm.eps, momentum=norm.momentum)
    other.weight, other.bias = norm.weight, norm.bias
    other.running_mean, other.running_var = norm.running_mean, norm.running_var
    other.num_batches_tracked = norm.num_batches_tracked
    return other.train(norm.training)
