"""The paper as data: its tables as records, and its claims recomputed from them."""

from mqbench.paper.beside import beside as beside
from mqbench.paper.beside import proxies as proxies
from mqbench.paper.check import recompute as recompute
from mqbench.paper.frames import figure as figure
from mqbench.paper.frames import table as table
from mqbench.paper.tables import records as records

__all__ = ["beside", "figure", "proxies", "recompute", "records", "table"]
