"""Qualcomm's QNN through ONNX Runtime: nothing but Q/DQ touches integers, uint8 activations."""

from mqbench.deploy.forms._base import Form

FORM = Form(activations="uint8", clip="float", integer_moves=False)
