"""OpenVINO without its faults: quantizers before a residual add as arithmetic, padding apart from average pooling."""

from mqbench.deploy.forms._base import Form

FORM = Form(activations="uint8", residual="float", padded_pools=False)
