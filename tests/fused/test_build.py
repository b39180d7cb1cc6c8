"""Compiled libraries: shared by processes, safe with many at once, and not needed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mqbench.fused.build import compiler

WORK = """
import torch, mqbench
fq = mqbench.fake_quantizer("lsq", "weight", scheme=mqbench.QuantScheme(bits=4))
x = torch.linspace(-0.4, 1, 4096).requires_grad_()
y = fq.initialize(x.detach())(x)
y.square().sum().backward()
print(y.sum().item(), x.grad.sum().item(), fq.step_size.grad.item())
"""


def start(folder: Path, **environment: str) -> "subprocess.Popen[str]":
    env = {**os.environ, "MQBENCH_CACHE": str(folder), **environment}
    return subprocess.Popen(
        [sys.executable, "-c", WORK], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process: "subprocess.Popen[str]") -> tuple[list[float], str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return [float(v) for v in out.split()], err


@pytest.mark.skipif(compiler() is None, reason="no C++ compiler")
def test_processes_share_one_compilation(tmp_path: Path) -> None:
    results = [finish(p) for p in [start(tmp_path) for _ in range(3)]]
    assert results[0][0] == results[1][0] == results[2][0]
    made = sorted(p.name for p in tmp_path.iterdir() if p.suffix == ".so")
    assert len(made) == 3  # forward, backward and the observer's pass
    times = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    finish(start(tmp_path))
    assert times == {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir() if p.name in times} or all(
        times[name] == (tmp_path / name).stat().st_mtime_ns for name in made
    )
    assert not [p for p in tmp_path.iterdir() if p.suffix not in (".so", ".lock")]


def test_without_a_compiler_it_says_so_once_and_works(tmp_path: Path) -> None:
    fused, _ = finish(start(tmp_path))
    plain, said = finish(start(tmp_path, PATH="", CXX=""))
    assert said.count("quantizers run without fused kernels") == 1
    assert "no C++ compiler was found" in said
    assert plain == pytest.approx(fused, rel=1e-5)
    off, silent = finish(start(tmp_path, MQBENCH_FUSED="0"))
    assert "compiler" not in silent
    assert off == plain


@pytest.mark.skipif(compiler() is None, reason="no C++ compiler")
def test_a_broken_compiler_is_no_failure(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'no such target' >&2\nexit 1\n")
    broken.chmod(0o755)
    _, said = finish(start(tmp_path / "cache", CXX=str(broken)))
    assert "no such target" in said
    assert said.count("quantizers run without fused kernels") == 1
