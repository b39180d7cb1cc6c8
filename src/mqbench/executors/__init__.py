"""One way to run the settings of a study a file."""

from mqbench.catalog import Catalog

Catalog.adopt(__name__, "EXECUTOR", subclass_of="mqbench.executors._base:Executor")
