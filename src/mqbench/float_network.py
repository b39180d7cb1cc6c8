"""The float network that quantized runs start from, as it lies in a store beside its record."""

import copy
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, fx, nn

from mqbench.capture import capture
from mqbench.errors import StoreError
from mqbench.journal import stamp_of
from mqbench.preparation import check_model
from mqbench.record import Record
from mqbench.store import Store
from mqbench.task import RunTask

WEIGHTS, PREDICTIONS = "weights.safetensors", "predictions.safetensors"


@dataclass(frozen=True)
class FloatNetwork:
    """A float network that is trained, and what is known of it.

    Args:
        model: with its weights.
        accuracy: on the test images, None if it did not converge.
        predictions: classes of the test images, ``[N]``.
        weights: fingerprint of weights that were given, None if they were trained here.
        origin: another text for every file that a network is read from; None if it was not.
    """

    model: nn.Module
    accuracy: float | None
    predictions: Tensor
    weights: str | None
    origin: str | None = None

    def graph(self, example: Tensor) -> fx.GraphModule:
        """The network on the CPU, captured, to be changed; ``example`` is a batch of images.

        To capture a small network takes longer than to calibrate it, and most of the runs that a process makes one
        after the other start from one network: the last graph is kept.
        """
        known = _LAST.get(self.origin) if self.origin else None
        if known is None:
            with torch.random.fork_rng(devices=[]):  # the run draws the same numbers, captured anew or not
                check_model(self.model)
                known = capture(self.model.cpu(), example)
        if self.origin is None:
            return known
        _LAST.clear()
        _LAST[self.origin] = known
        return copy.deepcopy(known)

    @classmethod
    def read(cls, record: Record, store: Store, task: RunTask) -> "FloatNetwork":
        """The network of a record that is in the store.

        Raises:
            StoreError: its file is missing or damaged, or fits another version of the architecture.
        """
        key = record.setting.key
        model = task.architecture.build(task.splits.classes, task.splits.image_shape[0])
        file = store.file(key, WEIGHTS)
        origin = f"{file.absolute()} {stamp_of(file.stat())}"
        weights = _tensors(store, key, WEIGHTS)
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise StoreError(
                f"the float network in {store.root} was made by another version of architecture "
                f"{record.setting.architecture!r}; use another store ({str(error).splitlines()[-1].strip()})"
            ) from error
        predicted = _tensors(store, key, PREDICTIONS)
        if "classes" not in predicted:
            raise _damaged(store, key, PREDICTIONS, "no classes")
        given = record.provenance.weights if record.provenance else None
        return cls(model, record.accuracy, predicted["classes"], given, origin)


_LAST: dict[str, fx.GraphModule] = {}  # of this process: origin to graph, one at most


def _tensors(store: Store, key: str, name: str) -> dict[str, Tensor]:
    path = store.file(key, name)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise _damaged(store, key, name, str(error)) from error


def _damaged(store: Store, key: str, name: str, why: str) -> StoreError:
    return StoreError(
        f"damaged file {name} of record {store.root / key} ({why}); remove the record and run again"
    )
