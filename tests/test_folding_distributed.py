"""Folding with synchronised statistics: two gloo processes compute what one does on the joint batch."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing import spawn  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel

import mqbench
from captures import remember
from mqbench.layers import QuantizedLayer
from mqbench.preparation import quantizers
from networks import Basic, Net, images, trained

WORLD, BATCH = 2, 8
SYNCHRONISED = (2, 3, 4)
CASES = [*((number, True) for number in SYNCHRONISED), (4, False)]

pytestmark = pytest.mark.skipif(sys.platform == "win32" or not dist.is_gloo_available(), reason="no gloo")


def prepared(number: int, synchronize: bool = True) -> Any:
    q = mqbench.prepare(
        trained(Net(Basic())), images(), backend="tensorrt", algorithm="ptq", bn_folding=number
    )
    mqbench.calibrate(q, [images(BATCH)])
    for _, fq in quantizers(q):
        fq.enabled = fq.role == "weight"  # a rounding of activations would amplify the last bit
    for module in q.modules():
        if isinstance(module, QuantizedLayer):
            module.synchronize = synchronize
    return q.double().train()


def step(model: Any, x: Tensor) -> dict[str, Tensor]:
    model(x.double()).square().mean().backward()
    inner = getattr(model, "module", model)
    found = {f"grad {n}": p.grad for n, p in inner.named_parameters() if p.grad is not None}
    return {**found, **{n: b for n, b in inner.named_buffers() if "running" in n}}


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    remember()
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    part = images(BATCH, seed=3)[rank * BATCH // WORLD : (rank + 1) * BATCH // WORLD]
    try:
        found = [
            step(DistributedDataParallel(prepared(*case), broadcast_buffers=False), part) for case in CASES
        ]
        torch.save(found, Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, bool], tuple[Any, Any]]:
    """For each case what the two processes found; they start once."""
    folder = tmp_path_factory.mktemp("both")
    spawn(worker, (str(folder),), nprocs=WORLD)
    ranks = (torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD))
    return dict(zip(CASES, zip(*ranks, strict=True), strict=True))


@pytest.mark.parametrize("number", SYNCHRONISED)
def test_two_processes_equal_one(number: int, both: Any) -> None:
    first, second = both[number, True]
    joint = step(prepared(number), images(BATCH, seed=3))
    assert joint.keys() == first.keys()
    for name, want in joint.items():
        torch.testing.assert_close(first[name], want, rtol=1e-7, atol=1e-10)
        torch.testing.assert_close(second[name], first[name], rtol=1e-9, atol=1e-12)


def test_asynchronous_statistics_are_each_workers_own(both: Any) -> None:
    first, second = both[4, False]
    assert not torch.equal(first["stem.1.running_mean"], second["stem.1.running_mean"])
