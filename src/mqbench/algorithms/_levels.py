"""Quantizers whose levels are not equally spaced: integers are codes, and a table leads back."""

from abc import abstractmethod

import torch
from torch import Tensor

from mqbench.errors import IncompatibleError
from mqbench.observation import at_least_float
from mqbench.quantizer import FakeQuantize
from mqbench.scheme import QParams


class LevelQuantizer(FakeQuantize):
    """Every output is one of ``levels``; `quantize` gives codes into it instead of Eq. 1's integers.

    In eval mode ``fq(x) == fq.dequantize(fq.quantize(x))``, which per tensor is
    ``fq.levels[fq.quantize(x)]``. There is no scale and no zero point: asking for them is refused.
    """

    @property
    @abstractmethod
    def levels(self) -> Tensor:
        """All levels, ``[levels]`` or ``[channels, levels]``.

        Code q stands at index q; negative codes count from the end, as indices of tensors do.
        """

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Codes of a (transformed) tensor, int64."""

    @torch.no_grad()
    def quantize(self, x: Tensor) -> Tensor:
        """Codes of ``x``: int32, same shape, within [quant_min, quant_max]."""
        self._check_ready()
        return self.encode(self.transform(at_least_float(x))).to(torch.int32)

    @torch.no_grad()
    def dequantize(self, q: Tensor) -> Tensor:
        """Real values of the codes."""
        return self.look_up(self.levels, q.long())

    def look_up(self, levels: Tensor, codes: Tensor) -> Tensor:
        """Entries of ``levels`` ([channels or none, levels]) at ``codes``; the channels' axes are matched."""
        if self.channel_axis is None:
            return levels[codes]
        rows = codes.movedim(self.channel_axis, 0)
        found = levels.gather(1, rows.reshape(len(rows), -1) % levels.shape[1])
        return found.view(rows.shape).movedim(0, self.channel_axis)

    def qparams(self) -> QParams:
        raise IncompatibleError(
            f"{type(self).__name__} has no scale and zero point: its levels are not equally spaced; "
            "use quantize(x), levels and dequantize(q)"
        )
