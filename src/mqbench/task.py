"""What a setting names, as objects: architecture, data, recipe, plan; checked before any compute."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import nn

from mqbench import architectures as architecture_catalog
from mqbench import data as dataset_catalog
from mqbench import observers as observer_catalog
from mqbench import tools as tool_catalog
from mqbench.architectures._base import Architecture, Recipe
from mqbench.architectures._check import check_network
from mqbench.backends._base import Overrides
from mqbench.compute import Compute
from mqbench.data._base import Dataset, Splits
from mqbench.errors import IncompatibleError, RequestError
from mqbench.plan import Plan
from mqbench.quantizer import Role
from mqbench.record import FLOAT, MQBENCH, Setting
from mqbench.tools._base import Job, Tool
from mqbench.training import calibration_batches, check_batch
from mqbench.weights import check_weights, load_float_network


@dataclass(frozen=True)
class RunTask:
    """The objects that a setting names; ``name`` is the architecture's."""

    name: str
    architecture: Architecture
    splits: Splits
    recipe: Recipe

    @classmethod
    def of(cls, setting: Setting, data: str | None, workers: int | None = None) -> "RunTask":
        """Open the dataset, to be read by so many processes, and work out the recipe."""
        architecture: Architecture = architecture_catalog[setting.architecture]
        dataset: Dataset = dataset_catalog[setting.dataset]  # type: ignore[index]
        splits = dataset.open(data, architecture.preprocessing(setting.weights))
        splits.train.workers = splits.test.workers = workers
        return cls(setting.architecture, architecture, splits, recipe_of(setting))

    def float_network(self, weights: str | None) -> tuple[nn.Module, str | None]:
        """The float network, and the fingerprint of its weights if they are given rather than random.

        Raises:
            RequestError: it does not take the images, or weights that do not fit.
        """
        classes, shape = self.splits.classes, self.splits.image_shape
        if weights is None:
            model, fingerprint = self.architecture.build(classes, shape[0]), None
        else:
            given = load_float_network(self.architecture, weights, classes, shape[0])
            model, fingerprint = given.model, given.fingerprint
        check_network(model, self.name, shape, classes)
        return model, fingerprint


def plan_of(setting: Setting) -> Plan:
    """The quantization of a setting."""
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


def recipe_of(setting: Setting) -> Recipe:
    """The architecture's recipe with the setting's overrides.

    A float network that is given, rather than trained, is trained no further unless the setting says so.

    Raises:
        RequestError: a global batch that is no multiple of the batch size.
    """
    architecture: Architecture = architecture_catalog[setting.architecture]
    is_float = setting.algorithm == FLOAT
    recipe = architecture.float_recipe if is_float else architecture.recipe
    if is_float and setting.weights is not None:
        recipe = replace(recipe, epochs=0)
    for name in ("epochs", "learning_rate", "weight_decay", "batch_size", "calibration_images"):
        value = getattr(setting, name)
        if value is not None:
            recipe = replace(recipe, **{name: value})
    if setting.global_batch is not None:
        devices, rest = divmod(setting.global_batch, recipe.batch_size)
        if rest or not devices:
            raise RequestError(
                f"global_batch must be a multiple of batch_size, got {setting.global_batch} with batch_size "
                f"{recipe.batch_size}"
            )
        recipe = replace(recipe, devices=devices)
    return recipe


def job_of(setting: Setting, task: RunTask, plan: Plan, network: nn.Module, threads: int) -> Job:
    """What another toolkit is asked for: our float network, and the calibration images that we would take."""
    recipe, splits = task.recipe, task.splits
    example, _ = next(iter(splits.test.batches([torch.arange(2)])))
    batches = calibration_batches(
        splits.train, count=recipe.calibration_images, batch_size=recipe.batch_size, seed=setting.seed
    )
    return Job(
        network=network.cpu().eval(),
        example=example,
        images=[x for x, _ in batches],
        plan=plan,
        weight_calibration=setting.weight_calibration,
        activation_calibration=setting.activation_calibration,
        trains=recipe.epochs > 0 or setting.steps is not None,
        threads=threads,
    )


def tool_versions(setting: Setting) -> dict[str, str]:
    """Distribution and version of the toolkit that a setting names; nothing where that is this package."""
    if setting.tool == MQBENCH:
        return {}
    tool: Tool = tool_catalog[setting.tool]  # type: ignore[index]
    return {tool.distribution: tool.version}


def validate(
    settings: Iterable[Setting],
    data: str | None = None,
    compute: Compute | None = None,
    *,
    need_data: bool = True,
) -> None:
    """Check that every setting can run, before any compute.

    Args:
        settings: of the runs.
        data: folder of the datasets.
        compute: whose processes make up the batches; one process if it is not given.
        need_data: the data must be there now.

    Raises:
        UnknownNameError: a name that is not in its catalog.
        IncompatibleError: an algorithm, backend, folding and graph that cannot go together, or that the tool does
            not compute.
        RequestError: data or a tool that is not there, or a batch that cannot be made.
    """
    seen = set()
    images: dict[str, int | None] = {}
    for setting in settings:
        trains = recipe_of(setting).epochs > 0 or setting.steps is not None
        same = setting.model_copy(update={"seed": 0})
        if setting.tool == MQBENCH:  # to which it matters whether there is training at all
            same = same.model_copy(update={"epochs": int(trains), "steps": None})
        if same in seen:
            continue
        seen.add(same)
        dataset: Dataset = dataset_catalog[setting.dataset]  # type: ignore[index]
        if setting.dataset not in images:
            known = dataset.check(data) if need_data else None
            images[setting.dataset] = known or (dataset.facts.train_images if dataset.facts else None)
        if trains:
            _check_batch(setting, images[setting.dataset], compute.processes if compute else 1)
        if setting.weights is not None:
            check_weights(architecture_catalog[setting.architecture], setting.weights)
        if setting.tool != MQBENCH:
            tool: Tool = tool_catalog[setting.tool]  # type: ignore[index]
            tool.check(setting.tool, setting, plan_of(setting), recipe_of(setting))
            tool.require(setting.tool)
        elif setting.algorithm != FLOAT:
            _check_calibration(setting, plan_of(setting))


def _check_batch(setting: Setting, images: int | None, processes: int) -> None:
    """Refuse a batch that the processes cannot make up, or the training images."""
    cure = None
    if setting.algorithm == FLOAT and setting.batch_size == setting.global_batch:
        # no quantized run's batch reaches it: it has its recipe's, or all of a float_batch in one process
        given = {name: getattr(setting, name) for name in ("epochs", "batch_size", "global_batch")}
        options = (
            f" --{name.replace('_', '-')} {value}" for name, value in given.items() if value is not None
        )
        cure = (
            f"the float {setting.architecture} is trained with that batch: make it first, "
            f"with --algorithm float --devices 1{''.join(options)}"
        )
    check_batch(recipe_of(setting), processes, images, cure)


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
