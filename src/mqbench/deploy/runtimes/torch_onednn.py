"""PyTorch's oneDNN kernels: symmetric weights only, float bias, no known fault."""

from mqbench.deploy.arithmetic import Arithmetic
from mqbench.deploy.runtimes._base import Runtime
from mqbench.deploy.runtimes._torch import opener

RUNTIME = Runtime(
    package="torch",
    distribution="torch",
    extra="",
    form="",
    arithmetic=Arithmetic(quantize="reciprocal", bias="float", total="real", add="premultiplied"),
    open=opener("onednn", symmetric_weights=True),
    one_step=(
        "oneDNN rounds rint(((acc s_x) s_w + b) (1/s_y) + z); compilers may fuse one multiplication and addition more, "
        "which turns a few integers in 10^6"
    ),
)
