"""PyTorch's oneDNN kernels: symmetric weights only, float bias, no known fault."""

from mqbench.deploy.arithmetic import Arithmetic
from mqbench.deploy.runtimes._base import Runtime
from mqbench.deploy.runtimes._torch import opener

ORDER = (
    "oneDNN rounds rint((acc s_x s_w + b) (1/s_y) + z) where FBGEMM rounds rint((acc + b/(s_x s_w)) M) + z"
)

RUNTIME = Runtime(
    package="torch",
    distribution="torch",
    extra="",
    form="",
    arithmetic=Arithmetic(bias="float", add="premultiplied"),
    open=opener("onednn", symmetric_weights=True),
    one_step=ORDER,
)
