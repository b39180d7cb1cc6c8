"""PyTorch's x86 engine, its default: oneDNN for symmetric weights, FBGEMM for the rest."""

from mqbench.deploy.arithmetic import Arithmetic
from mqbench.deploy.runtimes._base import Runtime
from mqbench.deploy.runtimes._torch import opener, saturation, takes_depthwise_kernel_in_x86
from mqbench.deploy.runtimes.torch_onednn import ORDER

RUNTIME = Runtime(
    package="torch",
    distribution="torch",
    extra="",
    form="",
    arithmetic=Arithmetic(bias="float", add="premultiplied"),
    open=opener("x86"),
    faults=(saturation(takes_depthwise_kernel_in_x86),),
    one_step=ORDER,
)
