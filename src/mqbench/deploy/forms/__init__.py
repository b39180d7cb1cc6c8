"""One form of ONNX file a file: frozen values, no code."""

from mqbench.catalog import Catalog

Catalog.adopt(__name__, "FORM", instance_of="mqbench.deploy.forms._base:Form")
