"""OpenVINO: a clip after every quantizer, because a bare one before a residual add is dropped."""

from mqbench.deploy.forms._base import Form

FORM = Form(activations="uint8", clip="always")
