"""One Setting -> one artifact: float network, quantized (PTQ, or QAT), exported, proved on an engine."""

from collections.abc import Callable, Iterator

import torch
from safetensors.torch import load_file
from torch import Tensor, fx, nn

from mqbench.calibration import calibrate, calibrate_bn
from mqbench.compute import Compute
from mqbench.conversion import convert
from mqbench.data._base import Batch, Splits
from mqbench.deploy.agreement import top1
from mqbench.deploy.artifact import Request, make
from mqbench.deploy.certificate import Certificate
from mqbench.deploy.lowering import lower
from mqbench.errors import IncompatibleError, MQBenchError, RequestError
from mqbench.float_network import WEIGHTS
from mqbench.preparation import prepare
from mqbench.record import FLOAT, MQBENCH, Setting
from mqbench.runner import run
from mqbench.store import Store
from mqbench.task import RunTask, plan_of, validate
from mqbench.training import calibration_batches, train

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
        progress: called with the name of each phase.

    Raises:
        RequestError: what cannot work, before compute is spent where that can be known.
        MQBenchError: the training did not converge.
    """
    _check(setting, request, images, sample)
    validate([setting], data)
    task = RunTask.of(setting, data)
    compute = compute or Compute()
    progress("float network")
    model = float_network(setting, task, data, store, compute)
    progress("quantize")
    deployed = _quantized(model, setting, task, compute, skip)
    test = list(_some(task.splits, images))
    progress(f"verify on {request.runtime}")
    network = {
        "architecture": setting.architecture,
        "weights": setting.weights or f"trained here ({setting.float_setting.key})",
        "dataset": setting.dataset,
        "setting": setting.key,
        "skip": list(skip),
    }
    return make(
        lower(deployed),
        test,
        [test[0][0][:sample]],
        request,
        network=network,
        accuracy={"float": _accuracy(model, test)},
    )


def float_network(
    setting: Setting, task: RunTask, data: str | None, store: Store | str, compute: Compute
) -> nn.Module:
    """The float network of a setting, in eval mode.

    With given weights, or from its run in the store, which is made if the store lacks it.
    """
    if setting.weights is not None:
        return task.float_network(setting.weights)[0].eval()
    place = store if isinstance(store, Store) else Store(store)
    record = run(setting.float_setting, store=place, data=data, compute=compute)
    if record.outcome != "ok":
        raise MQBenchError(f"the float network did not train ({record.reason}); see {place.root}")
    model = task.architecture.build(task.splits.classes, task.splits.image_shape[0])
    model.load_state_dict(load_file(place.file(setting.float_setting.key, WEIGHTS)))
    return model.eval()


def _check(setting: Setting, request: Request, images: int | None, sample: int) -> None:
    if setting.algorithm == FLOAT:
        raise RequestError("quantize needs an algorithm; float is the network without quantization")
    if setting.tool != MQBENCH:
        raise RequestError(f"quantize deploys what mqbench quantizes, got a setting of {setting.tool}")
    plan = plan_of(setting)
    if not plan.method.deployable:
        raise IncompatibleError(f"{setting.algorithm!r} has no integer form that an inference library runs")
    widest = max(*plan.bits, plan.first_last_bits)
    if widest > ENGINE_BITS:
        raise IncompatibleError(f"engines here compute with up to {ENGINE_BITS} bits, got {widest}")
    for name, value in (("images", images), ("sample", sample)):
        if value is not None and value < 1:
            raise RequestError(f"{name} must be at least 1, got {value}")
    request.check()


def _quantized(
    model: nn.Module, setting: Setting, task: RunTask, compute: Compute, skip: tuple[str, ...]
) -> fx.GraphModule:
    plan, recipe, splits = plan_of(setting), task.recipe, task.splits
    torch.manual_seed(setting.seed)
    images, _ = next(iter(splits.test.batches([torch.arange(2)])))
    quantized = prepare(
        model,
        images,
        backend=plan.backend,
        algorithm=plan.algorithm,
        bits=plan.bits,
        bn_folding=plan.bn_folding,
        graph=plan.graph,
        first_last_bits=plan.first_last_bits,
        skip=skip,
    ).eval()

    def batches(count: int) -> list[Batch]:
        return calibration_batches(splits.train, count=count, batch_size=recipe.batch_size, seed=setting.seed)

    calibrate(
        quantized,
        batches(recipe.calibration_images),
        weights=setting.weight_calibration,
        activations=setting.activation_calibration,
    )
    if setting.bn_calibration:
        calibrate_bn(quantized, batches(setting.bn_calibration), weights=setting.weight_calibration)
    if recipe.epochs or setting.steps:
        trained = train(
            quantized,
            splits,
            recipe,
            seed=setting.seed,
            steps=setting.steps,
            quantizer_weight_decay=setting.quantizer_weight_decay,
            sync_bn=setting.sync_bn,
            compute=compute,
        )
        if trained.not_converged is not None:
            raise MQBenchError(f"the training did not converge: {trained.not_converged}")
    return convert(quantized.cpu().eval())


def _some(splits: Splits, images: int | None) -> Iterator[Batch]:
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
