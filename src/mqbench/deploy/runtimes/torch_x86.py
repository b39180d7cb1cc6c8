"""PyTorch's x86 engine, its default: oneDNN for symmetric weights, FBGEMM for the rest."""

from mqbench.deploy.arithmetic import Arithmetic
from mqbench.deploy.runtimes._base import Runtime
from mqbench.deploy.runtimes._torch import opener, saturation, takes_depthwise_kernel_in_x86

RUNTIME = Runtime(
    package="torch",
    distribution="torch",
    extra="",
    form="",
    arithmetic=Arithmetic(quantize="reciprocal", bias="float", add="premultiplied"),
    open=opener("x86"),
    faults=(saturation(takes_depthwise_kernel_in_x86),),
    one_step=(
        "the x86 engine rounds symmetric weights by oneDNN's rule, rint(((acc s_x) s_w + b) (1/s_y) + z), and others "
        "by FBGEMM's, rint((acc + b/(s_x s_w)) M) + z, which is the reference's; a few integers in 10^6 differ"
    ),
)
