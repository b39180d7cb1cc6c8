"""One inference library a file: frozen values, no code."""

from mqbench.catalog import Catalog

Catalog.adopt(__name__, "BACKEND")
