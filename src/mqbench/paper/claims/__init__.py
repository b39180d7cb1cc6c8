"""The claims of one part of the paper a file: each recomputes them from the printed tables."""

from mqbench.catalog import Catalog

Catalog.adopt(__name__, "CLAIMS", instance_of="collections.abc:Callable")
