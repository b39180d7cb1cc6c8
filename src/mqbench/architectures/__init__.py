"""One architecture family a file, with its training recipes."""

from mqbench.catalog import Catalog

Catalog.adopt(__name__, "ARCHITECTURE")
