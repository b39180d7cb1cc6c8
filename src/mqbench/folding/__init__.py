"""One batch-norm folding strategy a file (paper section 3.2, Fig. 3)."""

from mqbench.catalog import Catalog

Catalog.adopt(__name__, "FOLDING", instance_of="mqbench.folding._base:Folding")
