"""ONNX Runtime on x86: uint8 activations (int8 stays float there), int32 bias, clips on integers."""

from mqbench.deploy.forms._base import Form

FORM = Form(activations="uint8")
