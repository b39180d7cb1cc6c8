"""One Setting -> one Record: load or train the float network, quantize, calibrate, train, evaluate."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from mqbench import architectures as architecture_catalog
from mqbench import data as dataset_catalog
from mqbench import observers as observer_catalog
from mqbench.architectures._base import Architecture, Recipe
from mqbench.backends._base import Overrides
from mqbench.calibration import calibrate
from mqbench.data._base import Dataset, Splits
from mqbench.errors import IncompatibleError, RequestError, StoreError
from mqbench.plan import Plan
from mqbench.preparation import prepare
from mqbench.provenance import Clock
from mqbench.quantizer import Role
from mqbench.record import FLOAT, Record, Setting
from mqbench.store import Store
from mqbench.training import EVALUATION_BATCH, Training, calibration_batches, evaluate, train

Progress = Callable[[str, int, int], None]
WEIGHTS = "weights.safetensors"


def _quiet(phase: str, done: int, total: int) -> None:
    pass


def validate(settings: Iterable[Setting]) -> None:
    """Check that every setting can run, before any compute.

    Raises:
        UnknownNameError: a name that is not in its catalog.
        IncompatibleError: an algorithm, backend, folding and graph that cannot go together.
    """
    seen = set()
    for setting in settings:
        same = setting.model_copy(update={"seed": 0, "epochs": None})
        if same in seen:
            continue
        seen.add(same)
        architecture_catalog[setting.architecture]
        dataset_catalog.check(setting.dataset)  # type: ignore[attr-defined]
        if setting.algorithm != FLOAT:
            _check_calibration(setting, _plan(setting))


def _check_calibration(setting: Setting, plan: Plan) -> None:
    """Refuse a calibration that does not exist, or that the algorithm would not look at."""
    chosen: tuple[tuple[Role, str | None], ...] = (
        ("weight", setting.weight_calibration),
        ("activation", setting.activation_calibration),
    )
    for role, name in chosen:
        if name is None:
            continue
        observer_catalog.check(name)
        if not plan.method.quantizer_class(role).uses_observer:
            raise IncompatibleError(
                f"{setting.algorithm!r} takes the {role} range from its own rule, so {role}_calibration={name!r} "
                "would change nothing; leave it out"
            )


def run(
    setting: Setting,
    *,
    store: Store | str | Path | None = "runs",
    data: str | None = None,
    threads: int = 1,
    progress: Progress = _quiet,
) -> Record:
    """Run one setting; a record that the store has already is returned as it is.

    A quantized run starts from the float network of ``setting.float_setting``, which is trained first (and
    stored) if the store lacks it. The record is the same, bit for bit, for the same setting on the same
    machine and number of threads.

    Args:
        setting: what to run.
        store: where records lie; None keeps nothing.
        data: folder with the datasets that are not built in.
        threads: CPU threads of this run; restored afterwards.
        progress: called with (phase, done, total).

    Raises:
        RequestError: the setting cannot run.
    """
    validate([setting])
    place = store if isinstance(store, Store) or store is None else Store(store)
    known = place.get(setting.key) if place is not None else None
    if known is not None and known.outcome != "failed":
        return known
    with _threads(threads):
        if setting.algorithm == FLOAT:
            return _run_float(setting, place, data, threads, progress)[0]
        return _run_quantized(setting, place, data, threads, progress)


@dataclass(frozen=True)
class _Task:
    """The objects that a setting names."""

    architecture: Architecture
    dataset: Dataset
    splits: Splits

    @classmethod
    def of(cls, setting: Setting, data: str | None) -> "_Task":
        architecture: Architecture = architecture_catalog[setting.architecture]
        dataset: Dataset = dataset_catalog[setting.dataset]  # type: ignore[index]
        return cls(architecture, dataset, dataset.load(data))

    def build(self) -> nn.Module:
        return self.architecture.build(self.dataset.classes, self.dataset.image_shape[0])


def _run_float(
    setting: Setting, store: Store | None, data: str | None, threads: int, progress: Progress
) -> tuple[Record, dict[str, Tensor]]:
    clock = Clock(threads)
    task = _Task.of(setting, data)
    torch.manual_seed(setting.seed)
    model = task.build()
    recipe = _recipe(task.architecture.float_recipe, setting)
    _check_batch(recipe, task)
    trained = train(
        model, task.splits, recipe, seed=setting.seed, progress=lambda d, t: progress("float", d, t)
    )
    accuracy = evaluate(model, task.splits.test.batches(EVALUATION_BATCH))
    record = _record(setting, trained, accuracy, accuracy, None, True, clock)
    weights = model.state_dict()
    if store is not None:
        store.put(record, {WEIGHTS: save(weights)}, replace=True)
    return record, weights


def _run_quantized(
    setting: Setting, store: Store | None, data: str | None, threads: int, progress: Progress
) -> Record:
    float_record, weights = _float_network(setting.float_setting, store, data, threads, progress)
    clock = Clock(threads)
    task = _Task.of(setting, data)
    model = task.build()
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        where = "here" if store is None else f"in {store.root}"
        raise StoreError(
            f"the float network {where} was made by another version of architecture {setting.architecture!r}; "
            f"use another store ({str(error).splitlines()[-1].strip()})"
        ) from error
    recipe = _recipe(task.architecture.recipe, setting)
    _check_batch(recipe, task)
    plan = _plan(setting)
    torch.manual_seed(setting.seed)
    images = task.splits.train.images
    progress("prepare", 0, 1)
    quantized = prepare(
        model,
        images[:2],
        backend=plan.backend,
        algorithm=plan.algorithm,
        bits=plan.bits,
        bn_folding=plan.bn_folding,
        graph=plan.graph,
        first_last_bits=plan.first_last_bits,
        overrides=plan.overrides,
    )
    progress("calibrate", 0, 1)
    calibrate(
        quantized,
        calibration_batches(task.splits.train, recipe, setting.seed),
        weights=setting.weight_calibration,
        activations=setting.activation_calibration,
    )
    test = task.splits.test
    calibrated = evaluate(quantized, test.batches(EVALUATION_BATCH))
    trained = train(
        quantized, task.splits, recipe, seed=setting.seed, progress=lambda d, t: progress("train", d, t)
    )
    accuracy = trained.curve[-1].test_accuracy if trained.curve else calibrated
    record = _record(
        setting, trained, accuracy, float_record.accuracy, calibrated, plan.method.deployable, clock
    )
    if store is not None:
        store.put(record, replace=True)
    return record


def _float_network(
    setting: Setting, store: Store | None, data: str | None, threads: int, progress: Progress
) -> tuple[Record, dict[str, Tensor]]:
    known = store.get(setting.key) if store is not None else None
    if store is None or known is None or known.outcome == "failed":
        return _run_float(setting, store, data, threads, progress)
    return known, load_file(store.file(setting.key, WEIGHTS))


def _plan(setting: Setting) -> Plan:
    assert setting.backend is not None
    assert setting.bits is not None
    return Plan.make(
        backend=setting.backend,
        algorithm=setting.algorithm,
        bits=setting.bits,
        bn_folding=setting.bn_folding,
        graph=setting.graph,
        first_last_bits=setting.first_last_bits,
        overrides=Overrides(**setting.overrides),
    )


def _check_batch(recipe: Recipe, task: _Task) -> None:
    images = len(task.splits.train)
    if recipe.batch_size > images:
        raise RequestError(
            f"batch_size must be at most the {images} training images, got {recipe.batch_size}"
        )


def _recipe(recipe: Recipe, setting: Setting) -> Recipe:
    names = ("epochs", "learning_rate", "weight_decay", "batch_size")
    given: dict[str, Any] = {n: value for n in names if (value := getattr(setting, n)) is not None}
    return replace(recipe, **given)


def _record(
    setting: Setting,
    trained: Training,
    accuracy: float,
    float_accuracy: float | None,
    calibrated: float | None,
    deployable: bool,
    clock: Clock,
) -> Record:
    converged = trained.not_converged is None
    return Record(
        setting=setting,
        outcome="ok" if converged else "not_converged",
        reason=trained.not_converged,
        accuracy=accuracy if converged else None,
        float_accuracy=float_accuracy,
        calibrated_accuracy=calibrated,
        deployable=deployable,
        curve=trained.curve,
        provenance=clock.provenance(),
    )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    if count < 1:
        raise RequestError(f"threads must be at least 1, got {count}")
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
