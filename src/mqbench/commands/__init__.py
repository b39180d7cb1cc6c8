"""One command of the command line a file."""

from mqbench.catalog import Catalog

Catalog.adopt(__name__, "COMMAND", instance_of="collections.abc:Callable")
