"""What a run is to be computed with, asked of this machine before anything is."""

from mqbench.compute import Compute
from mqbench.files import check_folder
from mqbench.training._board import check_board
from mqbench.training._processes import fabric_of


def check_compute(compute: Compute) -> None:
    """Raise `RequestError` if this machine lacks a device, a precision, a package or a place; starts nothing."""
    fabric_of(compute)
    if compute.tensorboard is not None:
        check_board()
        check_folder(compute.tensorboard)
