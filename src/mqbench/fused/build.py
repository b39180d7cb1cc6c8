"""Compiling a C++ text to a shared library, once for all processes of a user, and loading it."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

FLAGS = (
    "-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-fopenmp", "-ffp-contract=off",
    "-fno-math-errno", "-fno-trapping-math", "-w",
)  # fmt: skip
SWITCH = "MQBENCH_FUSED"
CACHE = "MQBENCH_CACHE"


class NoFusedKernels(RuntimeWarning):
    """Elementwise arithmetic runs as plain torch operations, which gives the same numbers more slowly."""


def is_wanted() -> bool:
    """Fused kernels are on unless the environment says ``MQBENCH_FUSED=0``."""
    return os.environ.get(SWITCH, "1") != "0"


@cache
def compiler() -> str | None:
    """Path of the C++ compiler: ``$CXX``, g++ or clang++; None, with a warning, if there is none."""
    for name in (os.environ.get("CXX"), "g++", "clang++"):
        if name and (path := shutil.which(name)):
            return path
    warn("no C++ compiler was found (set CXX, or install g++)")
    return None


@cache
def library(source: str) -> ctypes.CDLL | None:
    """The library of a source text, compiled unless any process of this user has done so before.

    None, with one warning for the process, if it cannot be made.
    """
    path = compiler()
    if path is None:
        return None
    try:
        return ctypes.CDLL(str(_compiled(source, path)))
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        warn(f"the C++ compiler {path} could not make them: {said.strip().splitlines()[0]}")
        return None


def folder() -> Path:
    """Where libraries are kept: ``$MQBENCH_CACHE``, or ``mqbench`` in the user's cache folder."""
    if chosen := os.environ.get(CACHE):
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "mqbench"


def _compiled(source: str, path: str) -> Path:
    digest = hashlib.sha256("\0".join([source, *FLAGS, *_toolchain(path)]).encode()).hexdigest()[:24]
    kept = _writable_folder()
    target = kept / f"kernel-{digest}.so"
    if target.exists():
        return target
    with _only_one(kept / f"kernel-{digest}.lock"):
        if target.exists():
            return target
        with tempfile.TemporaryDirectory(dir=kept) as scratch:
            text, made = Path(scratch, "kernel.cpp"), Path(scratch, "kernel.so")
            text.write_text(source, encoding="utf-8")
            command = [path, *FLAGS, "-o", str(made), str(text)]
            subprocess.run(command, check=True, capture_output=True, text=True)
            os.replace(made, target)
    return target


@cache
def _toolchain(path: str) -> tuple[str, ...]:
    """What a library depends on beside its text: the compiler and the processor."""
    binary = Path(path).resolve()
    stat = binary.stat()
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor += "".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))
    except OSError:
        pass
    return str(binary), str(stat.st_size), str(stat.st_mtime_ns), processor, torch.__version__


@cache
def _writable_folder() -> Path:
    try:
        folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder()):
            return folder()
    except OSError:  # a read-only home: this process compiles for itself
        return Path(tempfile.mkdtemp(prefix="mqbench-"))


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """One process at a time; the others wait for what it makes."""
    try:
        import fcntl
    except ImportError:  # not POSIX: each compiles, and the rename keeps that safe
        yield
        return
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


@cache
def warn(reason: str) -> None:
    """Say, once for each reason in a process, that there is no fused form and why."""
    warnings.warn(
        f"quantizers run without fused kernels, and slower, because {reason}; "
        f"numbers are the same. {SWITCH}=0 silences this",
        NoFusedKernels,
        stacklevel=2,
    )
