"""What a checkpoint of the loop holds, and how the loop goes on from it."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from mqbench.record import CurvePoint
from mqbench.training._tally import Tally

if TYPE_CHECKING:
    from mqbench.training._loop import _Loop


def state_of(loop: "_Loop", extra: str) -> dict[str, Any]:
    """Tensors, numbers and strings; the random state and the buffers are those of every process."""
    own: dict[str, Any] = {"random": torch.get_rng_state(), "buffers": dict(loop.model.named_buffers())}
    if loop.fabric.device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state()
    every: list[Any] = [own]
    if loop.plan.processes > 1:
        every = [None] * loop.plan.processes
        dist.all_gather_object(every, own)
    plain = {
        "curve": [point.model_dump() for point in loop.curve],
        "monitor": loop.monitor.state(),
        "epoch": asdict(loop.epoch_tally.of_all()),
        "window": asdict(loop.window.of_all()),
        "smooth_loss": loop.smooth_loss,
    }
    return {
        "step": loop.step,
        "total": loop.total,
        "model": loop.model.state_dict(),
        "optimizer": loop.optimizer.state_dict(),
        "processes": every,
        "plain": json.dumps(plain),
        "extra": extra,
    }


def restore(loop: "_Loop", state: dict[str, Any]) -> None:
    """Go on from `state_of` the same training on the same number of processes."""
    loop.model.load_state_dict(state["model"])
    loop.optimizer.load_state_dict(state["optimizer"])
    own = state["processes"][loop.fabric.global_rank]
    buffers = dict(loop.model.named_buffers())
    for name, value in own["buffers"].items():
        buffers[name].copy_(value)
    torch.set_rng_state(own["random"])
    if "cuda" in own:
        torch.cuda.set_rng_state(own["cuda"])
    loop.step = state["step"]
    plain = json.loads(state["plain"])
    loop.curve = [CurvePoint.model_validate(point) for point in plain["curve"]]
    loop.monitor.restore(plain["monitor"])
    loop.smooth_loss = plain["smooth_loss"]
    if loop.fabric.global_rank == 0:  # the sums are of all processes
        loop.epoch_tally, loop.window = Tally(**plain["epoch"]), Tally(**plain["window"])
