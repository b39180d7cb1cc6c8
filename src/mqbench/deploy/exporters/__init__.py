"""One sidecar format a file: what a library wants beside or in place of the ONNX file."""

from mqbench.catalog import Catalog

Catalog.adopt(__name__, "EXPORTER", instance_of="mqbench.deploy.exporters._base:Exporter")
