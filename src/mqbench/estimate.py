"""What a study will cost, from a few training steps and one evaluation batch of each kind of run."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from mqbench import architectures as architecture_catalog
from mqbench import data as dataset_catalog
from mqbench.architectures._base import Recipe
from mqbench.architectures._check import check_network
from mqbench.calibration import calibrate
from mqbench.compute import Compute
from mqbench.data._base import Dataset, Facts, Preprocessing, Splits, TensorSplit
from mqbench.errors import RequestError
from mqbench.processes import threads
from mqbench.quantization import prepared
from mqbench.record import FLOAT, Setting
from mqbench.task import recipe_of
from mqbench.training import BatchPlan, train

MEASURED_STEPS = 3
_VALUES = 4 * 3 * 224 * 224  # in a measured batch; the time of a larger one is taken to be proportional


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one run costs.

    Args:
        setting: of the run.
        steps: optimizer steps, each of ``global_batch`` images.
        global_batch: images of a step.
        train_images_per_second, test_images_per_second: measured on this machine, in one process.
        train_seconds, test_seconds: of the whole run, training and evaluations.
    """

    setting: Setting
    steps: int
    global_batch: int
    train_images_per_second: float
    test_images_per_second: float
    train_seconds: float
    test_seconds: float

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return self.train_seconds + self.test_seconds


def estimate(
    settings: Iterable[Setting],
    *,
    data: str | None = None,
    compute: Compute | None = None,
    progress: Callable[[Setting], None] = lambda setting: None,
) -> list[Cost]:
    """The cost of every setting; runs that compute the same (but for seeds and rates) are measured once.

    A run of another toolkit is taken to cost what the same cell costs here. Nothing is read but the dataset's
    size, and not even that where the dataset is not here but its size is known (ImageNet).

    Args:
        settings: the runs, float networks among them.
        data: folder of the datasets.
        compute: precision, compilation and threads to measure with.
        progress: is told what is measured next.

    Raises:
        RequestError: a setting that cannot run, or a dataset whose size is not known.
    """
    compute = compute or Compute()
    facts: dict[str, Facts] = {}
    speeds: dict[tuple[object, ...], tuple[float, float]] = {}
    costs = []
    for setting in settings:
        if setting.dataset not in facts:
            facts[setting.dataset] = _facts(setting.dataset, data)
        about = facts[setting.dataset]
        recipe = recipe_of(setting)
        steps, of_an_epoch = 0, 1
        if recipe.epochs or setting.steps is not None:
            of_an_epoch = BatchPlan.of(about.train_images, recipe, compute.processes, seed=0).steps
            steps = setting.steps if setting.steps is not None else recipe.epochs * of_an_epoch
        kind = _kind(setting, recipe)
        if kind not in speeds:
            progress(setting)
            with threads(compute.threads):
                speeds[kind] = _measure(setting, recipe, about, compute)
        costs.append(_cost(setting, recipe, steps, of_an_epoch, about, compute, speeds[kind]))
    return costs


def _kind(setting: Setting, recipe: Recipe) -> tuple[object, ...]:
    """What the time of a step depends on."""
    return (
        setting.architecture, setting.dataset, setting.algorithm, setting.backend, setting.bits,
        setting.bn_folding, setting.graph, setting.first_last_bits, recipe.batch_size, *setting.overrides.items(),
    )  # fmt: skip


def _cost(
    setting: Setting,
    recipe: Recipe,
    steps: int,
    steps_per_epoch: int,
    about: Facts,
    compute: Compute,
    speed: tuple[float, float],
) -> Cost:
    train_speed, test_speed = speed
    looks = -(-steps // min(steps_per_epoch, compute.monitor_steps)) if steps else 0
    tests = about.test_images * (looks + 1) + (0 if setting.algorithm == FLOAT else recipe.calibration_images)
    tests += setting.bn_calibration + 2 * setting.bias_correction
    return Cost(
        setting=setting,
        steps=steps,
        global_batch=recipe.global_batch,
        train_images_per_second=train_speed,
        test_images_per_second=test_speed,
        train_seconds=steps * recipe.global_batch / train_speed / compute.processes,
        test_seconds=tests / test_speed / compute.processes,
    )


def _facts(name: str, data: str | None) -> Facts:
    dataset: Dataset = dataset_catalog[name]  # type: ignore[index]
    try:
        dataset.check(data)
    except RequestError:
        if dataset.facts is None:
            raise
        return dataset.facts
    splits = dataset.open(data, Preprocessing())
    return Facts(
        train_images=len(splits.train),
        test_images=len(splits.test),
        classes=splits.classes,
        image_shape=splits.image_shape,
    )


def _measure(setting: Setting, recipe: Recipe, about: Facts, compute: Compute) -> tuple[float, float]:
    """Images a second of training and of evaluation, on random images."""
    size = min(recipe.batch_size, max(_VALUES // math.prod(about.image_shape), 2))
    splits = _random_splits(about, size)
    recipe = _small(recipe, size)
    architecture = architecture_catalog[setting.architecture]
    model: nn.Module = architecture.build(about.classes, about.image_shape[0])
    check_network(model, setting.architecture, about.image_shape, about.classes)
    if setting.algorithm != FLOAT:
        model = prepared(model, setting, splits)
        calibrate(model, splits.test.batches([torch.arange(size)]))
    times = [time.perf_counter()]
    train(
        model,
        splits,
        recipe,
        seed=0,
        steps=1 + MEASURED_STEPS,
        compute=compute,
        progress=lambda done, total: times.append(time.perf_counter()),
    )
    steps = sorted(after - before for before, after in pairwise(times[1:]))
    model.eval()
    x: Tensor = splits.test.images.to(next(model.parameters()))  # type: ignore[attr-defined]
    with torch.no_grad():
        model(x)
        begin = time.perf_counter()
        model(x)
    return size / steps[len(steps) // 2], size / (time.perf_counter() - begin)


def _small(recipe: Recipe, size: int) -> Recipe:
    return replace(recipe, batch_size=size, devices=1)


def _random_splits(about: Facts, size: int) -> Splits:
    x = torch.randn(size * (1 + MEASURED_STEPS), *about.image_shape)
    y = torch.arange(len(x)) % about.classes
    return Splits(
        TensorSplit(x, y), TensorSplit(x[:size], y[:size]), about.classes, about.image_shape, "random"
    )
