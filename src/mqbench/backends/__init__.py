"""One inference library a file: frozen values, no code."""

from mqbench.catalog import Catalog

Catalog.adopt(__name__, "BACKEND", instance_of="mqbench.backends._base:Backend")
