"""Academic: the setting of research papers; layer inputs and weights only, batch norm unfolded."""

from mqbench.backends._base import Backend
from mqbench.scheme import QuantScheme

BACKEND = Backend(
    library="Academic",
    provider="none",
    hardware="none",
    weight=QuantScheme(symmetric=True),
    activation=QuantScheme(symmetric=True),
    graph=1,
    bn_folding=-1,
    adaptive_sign=True,
    integer=False,
    form="standard",
)
