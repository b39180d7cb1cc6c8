"""One quantization algorithm a file."""

from mqbench.catalog import Catalog

Catalog.adopt(__name__, "ALGORITHM", instance_of="mqbench.algorithm:Algorithm")
