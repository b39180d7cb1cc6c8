"""A command killed again and again, each time at another place, that goes on: says what came of each."""

import os
import sys
from typing import Any

import mqbench.data.digits
import mqbench.runner  # noqa: F401  before the forks, so that torch and the like are imported once
from arming import arm
from mqbench import cli

# what is being done, the function at whose call of that number it happens, and whether its work is done then
PLACES = (
    ("calibrating", "mqbench.calibration:_pause", 1, True),
    ("evaluating the calibrated network", "mqbench.runner:predictions", 1, True),
    ("in the middle of an epoch", "mqbench.training._loop:_Loop._backward", 5, True),
    ("looking in the middle of an epoch", "mqbench.training._evaluation:predictions", 1, True),
    ("writing a checkpoint", "torch:save", 3, True),
    ("evaluating after an epoch", "mqbench.training._evaluation:predictions", 2, True),
    ("before the checkpoint of the epoch", "mqbench.training._divergence:is_dead", 1, False),
    ("between two epochs", "mqbench.training._loop:_Loop._epoch", 2, False),
    ("evaluating at the end", "mqbench.training._evaluation:predictions", 3, True),
    ("writing the record", "mqbench.record_file:sync", 1, False),
    ("the record is in its place", "mqbench.store:_moved", 1, True),
)

QUANTIZING = (
    ("training the float network", "mqbench.training._loop:_Loop._backward", 5, True),
    ("writing the model", "mqbench.deploy.onnx_file:write", 2, True),
    ("writing the network", "mqbench.deploy.program_file:save_tensors", 1, True),
    ("verifying", "mqbench.deploy.artifact:verify", 1, True),
    ("before the page", "mqbench.deploy.artifact:page", 1, True),
)


def outcome(command: list[str], *target: Any) -> int:
    """What a command ends with in a process of its own: its exit code, or minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        if target:
            arm(*target)
        os._exit(cli.main(command))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    for name, *target in {"run": PLACES, "quantize": QUANTIZING}[sys.argv[1]]:
        print(f"{name}: {outcome(sys.argv[1:], *target)}", flush=True)
    print(f"undisturbed: {outcome(sys.argv[1:])}", flush=True)
