"""PyTorch's FBGEMM kernels: x86 servers, any weight zero point, float bias."""

from mqbench.deploy.arithmetic import Arithmetic
from mqbench.deploy.runtimes._base import Runtime
from mqbench.deploy.runtimes._torch import opener, saturation, takes_depthwise_kernel

RUNTIME = Runtime(
    package="torch",
    distribution="torch",
    extra="",
    form="",
    arithmetic=Arithmetic(quantize="reciprocal", bias="float", add="premultiplied"),
    open=opener("fbgemm"),
    faults=(saturation(takes_depthwise_kernel),),
)
