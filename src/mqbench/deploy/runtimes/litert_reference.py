"""LiteRT's reference kernels: the arithmetic of TensorFlow Lite's specification, as on microcontrollers."""

from mqbench.deploy.arithmetic import Arithmetic
from mqbench.deploy.integer import Requantization
from mqbench.deploy.runtimes._base import Runtime
from mqbench.deploy.runtimes._litert import FAULTS, opener

RUNTIME = Runtime(
    package="ai_edge_litert",
    distribution="ai-edge-litert",
    extra="litert",
    form="",
    artifact="litert",
    arithmetic=Arithmetic(quantize="away", requantization=Requantization.DOUBLING),
    open=opener("BUILTIN_REF"),
    faults=FAULTS,
    timed=False,  # loops without vector units
)
