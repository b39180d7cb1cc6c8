"""One figure a file: a page of the report, and a command (``mqbench draw NAME``)."""

from mqbench.catalog import Catalog

Catalog.adopt(__name__, "FIGURE", instance_of="mqbench.report.figures._base:Figure")
