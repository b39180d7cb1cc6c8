"""When, where and with what a run was made."""

import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from mqbench.record import Provenance


class Clock:
    """Started with a run, asked at its end."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.started = datetime.now(UTC)
        self.begin = time.perf_counter()

    def provenance(self) -> Provenance:
        """Of the run that ends now."""
        packages = ("mqbench", "torch", "numpy")
        return Provenance(
            started=self.started.isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - self.begin, 3),
            hostname=platform.node(),
            machine=f"{platform.system()} {platform.machine()}",
            threads=self.threads,
            python=sys.version.split()[0],
            versions={name: _version(name) for name in packages},
            git_revision=_git_revision(),
        )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _git_revision() -> str | None:
    """Revision of the source tree that this package runs from, None for an installed copy."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
