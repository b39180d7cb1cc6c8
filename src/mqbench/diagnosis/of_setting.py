"""One Setting -> its quantized network, examined on test images."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from mqbench.compute import Compute
from mqbench.deployment import float_network, some_of
from mqbench.diagnosis.examination import Examination, examine
from mqbench.errors import RequestError, RunFailedError
from mqbench.quantization import quantized
from mqbench.record import FLOAT, Setting
from mqbench.store import Store
from mqbench.task import RunTask, validate


def examine_setting(
    setting: Setting,
    *,
    data: str | None = None,
    store: Store | str = "runs",
    compute: Compute | None = None,
    skip: tuple[str, ...] = (),
    layer_bits: Mapping[str, int] = MappingProxyType({}),
    images: int | None = 256,
    sensitivity_images: int = 64,
    progress: Callable[[str], None] = lambda phase: None,
) -> Examination:
    """Make the quantized network of a setting and measure what each of its quantizers costs.

    Args:
        setting: the network, its weights and data, algorithm, backend and bits.
        data: folder of the datasets.
        store: where the float network is, or is put, if the setting trains it here.
        compute: of the training.
        skip: layers that stay float.
        layer_bits: bits of single layers by name.
        images: test images, evenly spread; None takes all.
        sensitivity_images: of them, for the sensitivities, evenly spread too.
        progress: called with the name of each phase.

    Raises:
        RequestError: what cannot work, before compute is spent where that can be known.
        RunFailedError: a training did not converge.
    """
    if setting.algorithm == FLOAT:
        raise RequestError("diagnose needs an algorithm; float is the network without quantization")
    if images is not None and images < 1:
        raise RequestError(f"images must be at least 1, got {images}")
    validate([setting], data, compute)
    task = RunTask.of(setting, data)
    compute = compute or Compute()
    progress("float network")
    place = store if isinstance(store, Store) else Store(store)
    model = float_network(setting, task, data, place, compute)
    progress("quantize")
    made = quantized(model, setting, task, data=data, compute=compute, skip=skip, layer_bits=layer_bits)
    if made.not_converged is not None:
        raise RunFailedError(f"the training did not converge: {made.not_converged}")
    progress("diagnose")
    batches = list(some_of(task.splits, images))
    if sensitivity_images:  # datasets are often sorted by class, so the first images will not do
        some = list(some_of(task.splits, min(sensitivity_images, sum(len(y) for _, y in batches))))
        return examine(made.network, batches, sensitivity=some)
    return examine(made.network, batches, sensitivity=())
