"""Two gloo processes on halves of a batch train like one process on the whole of it."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing import spawn  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel

import mqbench
from captures import remember
from mqbench.training import share_statistics

WORLD = 2
BATCH = 8
ALGORITHMS = ["lsq", "pact", "dsq", "qil", "lqnet"]


def prepared(algorithm: str) -> tuple[Any, Tensor, Tensor]:
    """A network whose every parameter gets a gradient, the joint batch, and a target."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3),
    )
    x, target = torch.randn(BATCH, 3, 8, 8), torch.randn(BATCH, 4, 2, 2)
    q = mqbench.prepare(net, x, backend="academic", algorithm=algorithm, bits=4, first_last_bits=4)
    mqbench.calibrate(q, [x])
    for name, p in q.named_parameters():
        if name.endswith(".alpha"):
            p.data.fill_(0.7)  # so that something is clipped
    q.train()
    for module in q.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return q, x, target


def gradients(model: Any, x: Tensor, target: Tensor) -> dict[str, Tensor]:
    (model(x) - target).square().mean().backward()
    return {
        name.removeprefix("module."): p.grad.clone()
        for name, p in model.named_parameters()
        if p.requires_grad and p.grad is not None
    }


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    remember()
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    found = {}
    try:
        for algorithm in ALGORITHMS:
            q, x, target = prepared(algorithm)
            part = slice(rank * BATCH // WORLD, (rank + 1) * BATCH // WORLD)
            share_statistics(q, synchronize=True, batches=WORLD)
            result = gradients(DistributedDataParallel(q), x[part], target[part])
            found[algorithm] = {"gradients": result, "state": q.state_dict()}
        torch.save(found, Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the two processes found, for every algorithm: they start once."""
    folder = tmp_path_factory.mktemp("both")
    spawn(worker, (str(folder),), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


@pytest.mark.skipif(sys.platform == "win32" or not dist.is_gloo_available(), reason="no gloo")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_two_processes_equal_one(algorithm: str, both: list[dict[str, Any]]) -> None:
    first, second = (found[algorithm] for found in both)
    torch.testing.assert_close(second["gradients"], first["gradients"], rtol=0, atol=0)
    q, x, target = prepared(algorithm)
    joint = gradients(q, x, target)
    assert joint.keys() == first["gradients"].keys()
    assert {name for name, p in q.named_parameters() if p.requires_grad} == joint.keys()
    for name, gradient in joint.items():
        torch.testing.assert_close(first["gradients"][name], gradient, rtol=1e-4, atol=1e-6)
        assert bool((gradient != 0).any()), name
    for name, buffer in q.named_buffers():  # what follows the data follows that of all processes
        for one in (first, second):
            torch.testing.assert_close(one["state"][name], buffer, rtol=1e-4, atol=1e-6)
