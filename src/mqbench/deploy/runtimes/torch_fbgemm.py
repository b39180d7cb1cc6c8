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
    one_step=(
        "FBGEMM rounds rint((f32(acc) + b/(s_x s_w)) ((s_w s_x)/s_y)) + z; where that is a last bit from a half, "
        "an integer in 10^7 turns"
    ),
)
