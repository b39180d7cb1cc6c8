"""One page of the report a file, but for the figures, which are pages of their own, and the page of each run."""

from mqbench.catalog import Catalog

Catalog.adopt(__name__, "PAGE", instance_of="mqbench.report.pages._base:Page")
