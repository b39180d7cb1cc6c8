"""The float network that quantized runs start from, as it lies in a store beside its record."""

from dataclasses import dataclass

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mqbench.errors import StoreError
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
    """

    model: nn.Module
    accuracy: float | None
    predictions: Tensor
    weights: str | None

    @classmethod
    def read(cls, record: Record, store: Store, task: RunTask) -> "FloatNetwork":
        """The network of a record that is in the store.

        Raises:
            StoreError: its file is missing or damaged, or fits another version of the architecture.
        """
        key = record.setting.key
        model = task.architecture.build(task.splits.classes, task.splits.image_shape[0])
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
        return cls(model, record.accuracy, predicted["classes"], given)


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
