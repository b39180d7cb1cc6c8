"""MinMax: the range is that of the data.

lo = min x, hi = max x; then range to parameters (SPEC section 1): asymmetric s = (hi - lo)/(2^t - 1),
symmetric s = max|x| / ((2^t - 1)/2). The paper's Section 3, "MinMax".
"""

from mqbench.functional import range_to_qparams
from mqbench.observers._base import Observer
from mqbench.scheme import QParams


class MinMax(Observer):
    """Covers everything seen; one outlier decides the scale.

    >>> import torch
    >>> from mqbench.scheme import QuantScheme
    >>> observer = MinMax(QuantScheme(bits=4, symmetric=False))
    >>> observer.observe(torch.tensor([-1.0, 0.5, 2.0]))
    >>> observer.qparams().scale
    tensor(0.2000)
    """

    def _choose(self) -> QParams:
        return range_to_qparams(*self._range(), self.scheme)


OBSERVER = MinMax
