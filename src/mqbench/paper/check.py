"""Every claim of the paper's text that its tables can check, recomputed."""

from importlib import import_module
from typing import Any

from mqbench.paper.claims._base import Finding


def recompute() -> list[Finding]:
    """The findings, in the order of the paper's sections; exactly as found, those that fail included."""
    sections: Any = import_module("mqbench.paper.claims")
    found = [finding for name in sections for finding in sections[name]()]
    return sorted(found, key=lambda finding: finding.section)
