"""One calibration method a file: from data to scale and zero point."""

from mqbench.catalog import Catalog

Catalog.adopt(__name__, "OBSERVER", subclass_of="mqbench.observers._base:Observer")
