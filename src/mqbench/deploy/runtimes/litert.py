"""LiteRT (TensorFlow Lite) as it comes: int8 kernels of XNNPACK, and its own for what that delegate leaves."""

from mqbench.deploy.arithmetic import Arithmetic
from mqbench.deploy.runtimes._base import Runtime
from mqbench.deploy.runtimes._litert import FAULTS, opener

RUNTIME = Runtime(
    package="ai_edge_litert",
    distribution="ai-edge-litert",
    extra="litert",
    form="",
    artifact="litert",
    arithmetic=Arithmetic(quantize="reciprocal", add="shifted"),
    open=opener("BUILTIN"),
    faults=FAULTS,
)
