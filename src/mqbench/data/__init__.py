"""One dataset a file."""

from mqbench.catalog import Catalog

Catalog.adopt(__name__, "DATASET", instance_of="mqbench.data._base:Dataset")
