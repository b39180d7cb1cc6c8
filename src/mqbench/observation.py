"""What a fake quantizer sees of calibration data, from the first batch to the parameters made of it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mqbench.errors import CalibrationError, RequestError
from mqbench.observers._base import LIMIT, Observer

_HALF = (torch.float16, torch.bfloat16)


def at_least_float(x: Tensor) -> Tensor:
    """``x`` as float32 if it is of a half type: the grid needs more than 8 or 11 significant bits."""
    return x.float() if x.dtype in _HALF else x


@dataclass
class Observation:
    """One calibration of one quantizer.

    Args:
        observer: takes the batches.
        chosen: its name if the user chose it, None if it is the algorithm's own.
        name: what errors call the quantizer.
        active: batches are still taken; afterwards they only pass.
    """

    observer: Observer
    chosen: str | None
    name: str
    active: bool = True

    @property
    def own(self) -> bool:
        """The observer is the algorithm's own choice."""
        return self.chosen is None

    def take(self, x: Tensor, transform: Callable[[Tensor], Tensor]) -> None:
        """One more batch, as the quantizer transforms it before Eq. 1.

        Raises:
            RequestError: not a floating-point tensor.
            CalibrationError: values that are not finite or too large.
        """
        if not x.is_floating_point():
            raise RequestError(f"calibration data must be a floating-point tensor, got {x.dtype}")
        x = at_least_float(x)
        transformed = transform(x) if x.numel() else x
        if transformed is not x and not bool((x.abs() <= LIMIT).all()):  # tanh would hide an infinity
            raise CalibrationError(
                f"{self.name}: calibration data must be finite and within +-{LIMIT:.0e}, "
                f"got {float(x.abs().max()):.3g}"
            )
        try:
            self.observer.observe(transformed)
        except CalibrationError as error:
            raise CalibrationError(f"{self.name}: {error}") from None
