"""FBGEMM (x86 server CPU): per-channel asymmetric weights, asymmetric activations, graph 3."""

from mqbench.backends._base import Backend
from mqbench.scheme import QuantScheme

BACKEND = Backend(
    library="FBGEMM",
    provider="Facebook",
    hardware="CPU: x86",
    weight=QuantScheme(symmetric=False, per_channel=True),
    activation=QuantScheme(symmetric=False),
    graph=3,
    bn_folding=4,
)
