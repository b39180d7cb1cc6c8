"""One Setting -> one artifact: float network, quantized (PTQ, or QAT), exported, proved on an engine."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from mqbench.calibration import calibrate
from mqbench.compute import Compute
from mqbench.conversion import convert
from mqbench.data._base import Batch, Splits
from mqbench.deploy.agreement import top1
from mqbench.deploy.artifact import Request, make, rehearse
from mqbench.deploy.certificate import Certificate
from mqbench.deploy.lowering import lower
from mqbench.errors import IncompatibleError, RequestError, RunFailedError
from mqbench.float_network import FloatNetwork
from mqbench.quantization import prepared, quantized
from mqbench.record import FLOAT, MQBENCH, Setting
from mqbench.runner import check_start, run
from mqbench.store import Store
from mqbench.task import RunTask, plan_of, validate
from mqbench.training import calibration_batches

ENGINE_BITS = 8
VERIFICATION_BATCH = 32
Progress = Callable[[str], None]


def quantize(
    setting: Setting,
    request: Request,
    *,
    data: str | None = None,
    store: Store | str = "runs",
    compute: Compute | None = None,
    images: int | None = None,
    sample: int = 8,
    skip: tuple[str, ...] = (),
    layer_bits: Mapping[str, int] = MappingProxyType({}),
    progress: Progress = lambda phase: None,
) -> Certificate:
    """Quantize a network for a backend and leave a folder with files, program and certificate.

    Args:
        setting: the network, its weights and data, algorithm, backend and bits; its epochs (or steps) of
            training are 0 for post-training quantization.
        request: folder, engine, bar.
        data: folder of the datasets.
        store: where the float network is, or is put, if the setting trains it here.
        compute: of the training.
        images: test images that are compared; None takes all.
        sample: test images that are kept in the folder, to verify it later on.
        skip: layers that stay float.
        layer_bits: bits of single layers by name.
        progress: called with the name of each phase.

    Raises:
        RequestError: what cannot work, before compute is spent where that can be known.
        RunFailedError: a training did not converge.
    """
    _check(setting, request, images, sample, layer_bits)
    compute = compute or Compute()
    place = store if isinstance(store, Store) else Store(store)
    validate([setting], data, compute)
    if setting.weights is None:
        check_start(setting.float_setting, place, data, compute)
    task = RunTask.of(setting, data)
    trains = bool(task.recipe.epochs or setting.steps)
    if trains:
        place.check_writable()  # where the training's checkpoints lie
    if trains or setting.weights is None:
        _rehearse(setting, request, task, skip, layer_bits)
    progress("float network")
    model = float_network(setting, task, data, place, compute)
    progress("quantize")
    made = quantized(
        model,
        setting,
        task,
        data=data,
        compute=compute,
        skip=skip,
        layer_bits=layer_bits,
        checkpoint=_checkpoint(place, setting, skip, layer_bits) if trains else None,
        progress=progress,
    )
    if made.not_converged is not None:
        raise RunFailedError(f"the training did not converge: {made.not_converged}")
    test = list(some_of(task.splits, images))
    progress(f"verify on {request.runtime}")
    network = {
        "architecture": setting.architecture,
        "weights": setting.weights or f"trained here ({setting.float_setting.key})",
        "dataset": setting.dataset,
        "setting": setting.key,
        "skip": list(skip),
        "layer_bits": [f"{name}={bits}" for name, bits in layer_bits.items()],
    }
    return make(
        lower(convert(made.network)),
        test,
        [test[0][0][:sample]],
        request,
        network=network,
        accuracy={"float": _accuracy(model, test)},
    )


def float_network(
    setting: Setting, task: RunTask, data: str | None, store: Store, compute: Compute
) -> nn.Module:
    """The float network of a setting, in eval mode.

    With given weights, or from its run in the store, which is made if the store lacks it.
    """
    if setting.weights is not None:
        return task.float_network(setting.weights)[0].eval()
    record = run(setting.float_setting, store=store, data=data, compute=compute)
    if record.outcome != "ok":
        raise RunFailedError(f"the float network did not train ({record.reason}); see {store.root}")
    return FloatNetwork.read(record, store, task).model.eval()


def _check(
    setting: Setting, request: Request, images: int | None, sample: int, layer_bits: Mapping[str, int]
) -> None:
    if setting.algorithm == FLOAT:
        raise RequestError("quantize needs an algorithm; float is the network without quantization")
    if setting.tool != MQBENCH:
        raise RequestError(f"quantize deploys what mqbench quantizes, got a setting of {setting.tool}")
    plan = plan_of(setting)
    if not plan.method.deployable:
        raise IncompatibleError(f"{setting.algorithm!r} has no integer form that an inference library runs")
    widest = max(*plan.bits, plan.first_last_bits, *layer_bits.values())
    if widest > ENGINE_BITS:
        raise IncompatibleError(f"engines here compute with up to {ENGINE_BITS} bits, got {widest}")
    for name, value in (("images", images), ("sample", sample)):
        if value is not None and value < 1:
            raise RequestError(f"{name} must be at least 1, got {value}")
    request.check()


def _rehearse(
    setting: Setting,
    request: Request,
    task: RunTask,
    skip: tuple[str, ...],
    layer_bits: Mapping[str, int],
) -> None:
    """Refuse before training what engine and formats would refuse after it."""
    torch.manual_seed(setting.seed)
    model = task.architecture.build(task.splits.classes, task.splits.image_shape[0]).eval()
    network = prepared(model, setting, task.splits, skip, layer_bits)
    calibrate(network, calibration_batches(task.splits.train, count=2, batch_size=2, seed=setting.seed))
    rehearse(lower(convert(network)), request)


def _checkpoint(store: Store, setting: Setting, skip: tuple[str, ...], layer_bits: Mapping[str, int]) -> Path:
    """Apart from a run's own: here single layers may be treated apart."""
    digest = hashlib.sha256(json.dumps([skip, dict(layer_bits)]).encode()).hexdigest()[:8]
    return store.scratch(f"{setting.key}-{digest}")


def some_of(splits: Splits, images: int | None) -> Iterator[Batch]:
    """Batches of so many test images, evenly spread; None takes all."""
    count = len(splits.test) if images is None else min(images, len(splits.test))
    picks = torch.arange(len(splits.test))
    if count < len(splits.test):  # datasets are often sorted by class
        picks = picks[torch.linspace(0, len(splits.test) - 1, count).long()]
    yield from splits.test.batches(picks.split(VERIFICATION_BATCH))


@torch.no_grad()
def _accuracy(model: nn.Module, batches: list[Batch]) -> float:
    correct, count = 0, 0
    for x, labels in batches:
        output: Tensor = model(x)
        correct, count = correct + top1(output, labels), count + len(labels)
    return 100 * correct / count
