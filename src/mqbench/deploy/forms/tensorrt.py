"""TensorRT: explicit Q/DQ with zero points 0, float bias, plain ReLU, moves on dequantized tensors."""

from mqbench.deploy.forms._base import Form

FORM = Form(
    activations="int8",
    clip="float",
    bias="float",
    integer_moves=False,
    weight_zero_points=False,
    activation_zero_points=False,
)
