"""TensorRT (NVIDIA GPU): per-channel symmetric weights, symmetric activations, graph 2."""

from mqbench.backends._base import Backend
from mqbench.scheme import QuantScheme

BACKEND = Backend(
    library="TensorRT",
    provider="NVIDIA",
    hardware="GPU: Tesla T4/P4",
    weight=QuantScheme(symmetric=True, per_channel=True),
    activation=QuantScheme(symmetric=True),
    graph=2,
    bn_folding=4,
    form="tensorrt",
)
