"""Processes that train together on parts of a batch end where one process on the whole of it does."""

import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor, nn

import mqbench
from captures import remember
from mqbench.architectures._base import Recipe
from mqbench.compute import Compute
from mqbench.data._base import Splits, TensorSplit
from mqbench.errors import IncompatibleError, MQBenchError, RequestError
from mqbench.preparation import quantizers
from mqbench.training import BatchPlan, Checkpoint, launch, train
from mqbench.training._processes import failure
from networks import Basic, Net, images, trained

RECIPE = Recipe(learning_rate=0.05, weight_decay=1e-4, batch_size=8, devices=2, epochs=1)
TWO = Compute(accelerator="cpu", devices=2, precision="64-true")
ONE = replace(TWO, devices=1)
JOINT = replace(RECIPE, batch_size=16, devices=1)
ACCUMULATED = replace(RECIPE, batch_size=4, devices=4)
CASES = ("float", "-1", "0", "1", "2", "3", "4")
ASYNCHRONOUS = ("-1", "2", "3", "4")
STILL = replace(RECIPE, learning_rate=1e-30, weight_decay=0.0)

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not dist.is_gloo_available(), reason="no gloo here"
)


def splits() -> Splits:
    x = images(64, seed=3)
    y = (x.mean((1, 2, 3)) > 0).long()
    return Splits(TensorSplit(x.double(), y), TensorSplit(x[:32].double(), y[:32]), 2, (3, 12, 12), "")


def network(case: str) -> nn.Module:
    torch.manual_seed(0)
    net = trained(Net(Basic()))
    if case == "float":
        return net
    q = mqbench.prepare(net, images(), backend="tensorrt", algorithm="lsq", bn_folding=int(case))
    mqbench.calibrate(q, [images(16)])
    for name, fq in quantizers(q):  # a rounding of activations would amplify the last bit
        fq.enabled = fq.role == "weight" or name.endswith("stem_0")
        fq.requires_grad_(fq.enabled)
    return q


def states(fabric: Fabric, recipe: Recipe, compute: Compute, file: str) -> None:
    """Train every case; the first process notes what it ends in (tensors do not outlive their process)."""
    remember()
    found = {}
    for case in CASES:
        model = network(case)
        # strategies 0 and 1 have no statistics of a batch, so that micro-batches add up to it
        cut = ACCUMULATED if compute is not ONE and case in ("0", "1") else recipe
        result = train(model, splits(), cut, seed=1, fabric=fabric, compute=compute)
        point = result.curve[0].model_dump()
        found[case] = {"state": model.state_dict(), "curve": point, "rank": fabric.global_rank}
    for case in ASYNCHRONOUS if fabric.world_size > 1 else ():
        model = network(case)
        train(model, splits(), STILL, seed=1, sync_bn=False, fabric=fabric, compute=compute)
        found[f"asynchronous {case}"] = {"state": model.state_dict()}
    if fabric.global_rank == 0:
        torch.save(found, file)


def together(fabric: Fabric, folder: str) -> None:
    """All that two processes are needed for: they start once."""
    states(fabric, RECIPE, TWO, str(Path(folder) / "two.pt"))
    go_on(fabric, folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With what two processes and one end in."""
    found = tmp_path_factory.mktemp("states")
    launch(TWO, together, str(found))
    launch(ONE, states, JOINT, ONE, str(found / "one.pt"))
    return found


@pytest.fixture(scope="module")
def both(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    two, one = (torch.load(folder / f"{name}.pt", weights_only=True) for name in ("two", "one"))
    return two, one


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one(both: Any, case: str) -> None:
    two, one = both[0][case], both[1][case]
    assert two["rank"] == 0
    assert two["state"].keys() == one["state"].keys()
    for name, want in one["state"].items():
        torch.testing.assert_close(two["state"][name], want, rtol=1e-8, atol=1e-9, msg=name)
    assert two["curve"]["test_accuracy"] == one["curve"]["test_accuracy"]
    assert two["curve"]["train_accuracy"] == one["curve"]["train_accuracy"]
    assert two["curve"]["train_loss"] == pytest.approx(
        one["curve"]["train_loss"], rel=1e-6
    )  # logits come back as float32


@torch.no_grad()
@pytest.mark.parametrize("case", ASYNCHRONOUS)
def test_asynchronous_statistics_are_those_of_the_own_batches(both: Any, case: str) -> None:
    alone: Any = network(case)
    alone.double().train()
    data = splits().train
    for batch, _ in data.batches(BatchPlan.of(len(data), STILL, 2, seed=1).picks(0, rank=0)):
        alone(batch)
    state = both[0][f"asynchronous {case}"]["state"]
    running = [name for name in state if "running" in name]
    assert len(running) >= 6
    for name in running:
        torch.testing.assert_close(state[name], alone.state_dict()[name], rtol=1e-8, atol=1e-9, msg=name)


def frozen() -> Any:
    """Nothing of it depends on the batch that an image is in."""
    torch.manual_seed(0)
    net = trained(Net(Basic()))
    q = mqbench.prepare(net, images(), backend="tensorrt", algorithm="lsq", bn_folding=1)
    mqbench.calibrate(q, [images(16)])
    return q.double()


def test_accumulation_equals_the_global_batch() -> None:
    found: list[dict[str, Tensor]] = []
    for recipe in (replace(RECIPE, batch_size=4, devices=4), JOINT):
        q = frozen()
        launch(
            ONE,
            lambda fabric, q=q, recipe=recipe: train(q, splits(), recipe, seed=1, fabric=fabric, compute=ONE),
        )
        found.append(q.state_dict())
    for name, want in found[1].items():
        torch.testing.assert_close(found[0][name], want, rtol=1e-8, atol=1e-9, msg=name)


def test_a_global_batch_that_cannot_be_cut_is_refused() -> None:
    with pytest.raises(RequestError, match="global batch of 24 images"):
        train(network("float"), splits(), replace(RECIPE, batch_size=8, devices=3), seed=0, fabric=_Pretend())  # type: ignore[arg-type]


class _Pretend:
    """A fabric of two processes, as far as the plan of batches looks at it."""

    world_size, device = 2, torch.device("cpu")


def test_several_nodes_are_started_from_outside() -> None:
    assert "RANK" not in os.environ
    with pytest.raises(RequestError, match="torchrun --nnodes 3 --nproc-per-node 1"):
        launch(Compute(accelerator="cpu", nodes=3), lambda fabric: None)


def test_an_accelerator_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(RequestError, match="cannot use 1 x gpu"):
        launch(Compute(accelerator="gpu"), lambda fabric: None)


def test_half_precision_needs_a_gpu() -> None:
    with pytest.raises(RequestError, match="16-mixed needs a GPU; on a CPU there is bf16-mixed"):
        launch(Compute(accelerator="cpu", precision="16-mixed"), lambda fabric: None)


def test_processes_from_outside_must_be_as_many_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RequestError, match="has started 2 processes, but 1 nodes with 1 devices each make 1"):
        launch(Compute(accelerator="cpu"), lambda fabric: None)


def fail(fabric: Fabric) -> None:
    raise ArithmeticError(f"bad luck of {fabric.world_size}")


def test_a_failure_of_a_spawned_process_says_why() -> None:
    with pytest.raises(MQBenchError, match=r"process [01] of the run failed: ArithmeticError: bad luck of 2"):
        launch(TWO, fail)


def test_what_a_spawned_process_refuses_is_refused() -> None:
    name = f"{IncompatibleError.__module__}.{IncompatibleError.__qualname__}"  # as a traceback has it
    found = failure(1, f"{name}: float: no")
    assert (type(found), str(found)) == (RequestError, "float: no")


TWICE = replace(RECIPE, epochs=2)
OFTEN = replace(TWO, checkpoint_minutes=1e-9)


def stop(done: int, total: int) -> None:
    if done == 7:
        raise InterruptedError


def go_on(fabric: Fabric, folder: str) -> None:
    """Train undisturbed, and once more with a death in the second epoch, with statistics of the own batches."""
    remember()
    found = {}
    for name in ("whole", "cut", "again"):
        model, checkpoint = network("4"), None
        if name != "whole":
            checkpoint = Checkpoint(Path(folder) / "run.pt", minutes=1e-9)
        options: dict[str, Any] = {"seed": 1, "sync_bn": False, "fabric": fabric, "compute": OFTEN}
        with suppress(InterruptedError):
            train(
                model, splits(), TWICE, checkpoint=checkpoint,
                progress=stop if name == "cut" else lambda done, total: None, **options,
            )  # fmt: skip
        found[name] = model.state_dict()
        fabric.barrier()
    torch.save(found, Path(folder) / f"{fabric.global_rank}.pt")


def test_processes_that_die_go_on_with_their_own_statistics(folder: Path) -> None:
    every = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for found in every:
        for name, want in found["whole"].items():
            assert torch.equal(found["again"][name], want), name
    running = next(name for name in every[0]["whole"] if name.endswith("running_mean"))
    first, second = (found["whole"][running] for found in every)
    assert not torch.equal(first, second)  # else there would have been nothing to lose
    with pytest.raises(RequestError, match="holds a run of 2 processes that was interrupted"):
        train(network("4"), splits(), TWICE, seed=1, checkpoint=Checkpoint(folder / "run.pt"))
