"""TVM (ARM CPU): per-tensor symmetric, power-of-two scales, graph 3."""

from mqbench.backends._base import Backend
from mqbench.scheme import QuantScheme

BACKEND = Backend(
    library="TVM",
    provider="OctoML",
    hardware="CPU: ARM",
    weight=QuantScheme(symmetric=True, power_of_two=True),
    activation=QuantScheme(symmetric=True, power_of_two=True),
    graph=3,
    bn_folding=4,
)
