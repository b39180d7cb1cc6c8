"""PyTorch's FBGEMM kernels: x86 servers, any weight zero point, float bias."""

from mqbench.deploy.arithmetic import Arithmetic
from mqbench.deploy.runtimes._base import Runtime
from mqbench.deploy.runtimes._torch import opener, saturation, takes_depthwise_kernel

RUNTIME = Runtime(
    package="torch",
    distribution="torch",
    extra="",
    form="",
    arithmetic=Arithmetic(bias="float", add="premultiplied"),
    open=opener("fbgemm"),
    faults=(saturation(takes_depthwise_kernel),),
    one_step="FBGEMM multiplies by 1/s where Eq. 1 divides by s, so ties of the quantized input may differ",
)
