"""ACL as the paper's code had it: per-channel asymmetric weights as well, graph 1."""

from mqbench.backends._base import Backend
from mqbench.scheme import QuantScheme

BACKEND = Backend(
    library="ACL (paper code)",
    provider="HUAWEI",
    hardware="ASIC: Ascend310",
    weight=QuantScheme(symmetric=False, per_channel=True),
    activation=QuantScheme(symmetric=False),
    graph=1,
    bn_folding=4,
)
