"""SNPE (Qualcomm DSP): per-tensor asymmetric weights and activations, graph 3."""

from mqbench.backends._base import Backend
from mqbench.scheme import QuantScheme

BACKEND = Backend(
    library="SNPE",
    provider="Qualcomm",
    hardware="DSP: Snapdragon",
    weight=QuantScheme(symmetric=False),
    activation=QuantScheme(symmetric=False),
    graph=3,
    bn_folding=4,
)
