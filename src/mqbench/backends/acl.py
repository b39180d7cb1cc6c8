"""ACL (Huawei Ascend): per-channel symmetric weights, asymmetric activations, graph 1."""

from mqbench.backends._base import Backend
from mqbench.scheme import QuantScheme

BACKEND = Backend(
    library="ACL",
    provider="HUAWEI",
    hardware="ASIC: Ascend310",
    weight=QuantScheme(symmetric=True, per_channel=True),
    activation=QuantScheme(symmetric=False),
    graph=1,
    bn_folding=4,
)
