"""OpenVINO, every quantizer kept: that before a residual add is written as division, rounding and clip."""

from mqbench.deploy.forms._base import Form

FORM = Form(activations="uint8", residual="float")
