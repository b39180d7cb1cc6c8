"""One inference engine a file."""

from mqbench.catalog import Catalog

Catalog.adopt(__name__, "RUNTIME", instance_of="mqbench.deploy.runtimes._base:Runtime")
