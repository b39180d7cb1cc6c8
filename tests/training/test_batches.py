"""Batches are a function of seed, epoch and step, however many processes cut them."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mqbench.architectures._base import Recipe
from mqbench.errors import RequestError
from mqbench.training import BatchPlan

RECIPE = Recipe(learning_rate=0.1, weight_decay=0.0, batch_size=4, devices=6)


@given(
    processes=st.sampled_from([1, 2, 3, 6]),
    images=st.integers(24, 200),
    seed=st.integers(0, 2**62),
    epoch=st.integers(0, 100),
)
def test_processes_share_the_same_global_batches(processes: int, images: int, seed: int, epoch: int) -> None:
    plan = BatchPlan.of(images, RECIPE, processes, seed)
    assert plan.accumulate * processes == 6
    assert plan.steps == images // 24
    whole = BatchPlan.of(images, replace(RECIPE, batch_size=24, devices=1), 1, seed).picks(epoch, 0)
    parts = [plan.picks(epoch, rank) for rank in range(processes)]
    for step, together in enumerate(whole):
        own = slice(step * plan.accumulate, (step + 1) * plan.accumulate)
        cut = [parts[rank][own][j] for j in range(plan.accumulate) for rank in range(processes)]
        assert torch.equal(torch.cat(cut), together)
    assert len(torch.cat(whole).unique()) == plan.steps * 24


def test_an_epoch_can_be_begun_anywhere() -> None:
    plan = BatchPlan.of(100, RECIPE, 2, seed=1)
    assert all(map(torch.equal, plan.picks(3, 1)[2 * 3 :], plan.picks(3, 1, first_step=2)))


def test_epochs_and_seeds_differ() -> None:
    plans = [BatchPlan.of(100, RECIPE, 1, seed) for seed in (0, 1)]
    orders = [torch.cat(plan.picks(epoch, 0)).tolist() for plan in plans for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 6
    assert len({plan.augment(epoch) for plan in plans for epoch in range(50)}) == 100


def test_too_few_images() -> None:
    with pytest.raises(RequestError, match="at most the 23 training images, got 24"):
        BatchPlan.of(23, RECIPE, 1, 0)
