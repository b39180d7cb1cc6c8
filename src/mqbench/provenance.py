"""When, where and with what a run was made."""

import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

from mqbench.compute import Compute
from mqbench.record import Provenance


class Clock:
    """Started with a run, asked at its end."""

    def __init__(self, compute: Compute) -> None:
        self.compute = compute
        self.started = datetime.now(UTC)
        self.begin = time.perf_counter()

    def provenance(
        self,
        *,
        device: object = None,
        data: str | None = None,
        weights: str | None = None,
        versions: Mapping[str, str] = {},
    ) -> Provenance:
        """Of the run that ends now, on a device, with the fingerprints of its data and float weights.

        ``versions`` are those of what else took part.
        """
        packages = ("mqbench", "torch", "numpy", "timm", "torchvision")
        return Provenance(
            started=self.started.isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - self.begin, 3),
            hostname=platform.node(),
            machine=f"{platform.system()} {platform.machine()}",
            threads=self.compute.threads,
            python=sys.version.split()[0],
            versions={name: _version(name) for name in packages} | dict(versions),
            git_revision=_git_revision(),
            compute=asdict(self.compute),
            device=None if device is None else _device_name(str(device)),
            data=data,
            weights=weights,
        )


@cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


@cache
def _git_revision() -> str | None:
    """Revision of the source tree that this package runs from, None for an installed copy.

    As it was at the first run of this process, whose code is that of the time.
    """
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        result = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _device_name(device: str) -> str:
    """Name of the processor: of the GPU, or the CPU's model."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or device
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or device
