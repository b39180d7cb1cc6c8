"""OpenVINO: as others take it; it drops a quantizer between a convolution and a residual add."""

from mqbench.deploy.forms._base import Form

FORM = Form(activations="uint8")
