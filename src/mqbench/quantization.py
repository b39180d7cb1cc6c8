"""A setting's network quantized as a run of the benchmark does it: prepare, calibrate, the one training pipeline."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file, save
from torch import Tensor, fx, nn

from mqbench.compute import Compute
from mqbench.data._base import Splits
from mqbench.float_network import FloatNetwork
from mqbench.post_training import calibrate_as
from mqbench.preparation import insert_quantizers, prepare
from mqbench.processes import threads
from mqbench.record import Setting
from mqbench.task import RunTask, plan_of
from mqbench.training import Checkpoint, check_checkpoint, launch, train

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Quantized:
    """A quantized network that is calibrated and, where the setting says so, trained.

    Args:
        network: in eval mode, on the CPU.
        not_converged: why the training did not converge, None if it did.
    """

    network: fx.GraphModule
    not_converged: str | None


def quantized(
    model: nn.Module,
    setting: Setting,
    task: RunTask,
    *,
    data: str | None,
    compute: Compute,
    skip: tuple[str, ...] = (),
    layer_bits: Mapping[str, int] = MappingProxyType({}),
    checkpoint: Path | None = None,
    progress: Progress = lambda phase: None,
) -> Quantized:
    """Quantize a float network as a run of the benchmark would, on as many processes as ``compute`` says.

    Args:
        model: the float network, which is not changed.
        setting: the quantization, its calibration and training.
        task: the setting's objects, with data opened in ``data``.
        data: folder of the datasets.
        compute: of calibration and training.
        skip: layers that stay float.
        layer_bits: bits of single layers by name.
        checkpoint: where a training that was killed goes on.
        progress: called with the name of each phase.

    Raises:
        RequestError: what cannot work.
    """
    if checkpoint is not None:
        check_checkpoint(checkpoint, compute.processes)
    weights = {name: value.cpu() for name, value in model.state_dict().items()}
    report = progress if compute.processes == 1 else _quiet  # other processes cannot call back
    with threads(compute.threads), TemporaryDirectory() as folder:
        # a process can hand over neither a graph nor much memory: its network comes back as a file
        file = Path(folder) / "state.safetensors"
        bits = dict(layer_bits)
        reason = launch(compute, _work, setting, data, compute, weights, skip, bits, checkpoint, file, report)
        network = prepared(model, setting, task.splits, skip, bits)
        network.load_state_dict(load_file(file))
    return Quantized(network.eval(), reason)


def _quiet(phase: str) -> None:
    pass


def _work(
    fabric: Fabric,
    setting: Setting,
    data: str | None,
    compute: Compute,
    weights: Mapping[str, Tensor],
    skip: tuple[str, ...],
    layer_bits: Mapping[str, int],
    checkpoint: Path | None,
    file: Path,
    progress: Progress,
) -> str | None:
    """What each process does: the first writes the network's state; why it did not converge."""
    task = RunTask.of(setting, data, compute.workers)
    model = task.architecture.build(task.splits.classes, task.splits.image_shape[0])
    model.load_state_dict(weights)
    torch.manual_seed(setting.seed)
    network = prepared(model.eval(), setting, task.splits, skip, layer_bits).to(fabric.device)
    place = None if checkpoint is None else Checkpoint(checkpoint, compute.checkpoint_minutes)
    progress("calibrate")
    calibrate_as(setting, network, task.splits.train, task.recipe, fabric.device)
    if task.recipe.epochs or setting.steps:
        progress("train")
    trained = train(
        network,
        task.splits,
        task.recipe,
        seed=setting.seed,
        steps=setting.steps,
        quantizer_weight_decay=setting.quantizer_weight_decay,
        sync_bn=setting.sync_bn,
        compute=compute,
        fabric=fabric,
        checkpoint=place,
    )
    if fabric.global_rank == 0:
        state = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
        file.write_bytes(save(state))
        if place is not None:
            place.remove()
    return trained.not_converged


def prepared(
    model: nn.Module,
    setting: Setting,
    splits: Splits,
    skip: tuple[str, ...] = (),
    layer_bits: Mapping[str, int] = MappingProxyType({}),
) -> fx.GraphModule:
    """The quantized network of a setting, not calibrated yet."""
    plan = plan_of(setting)
    return prepare(
        model,
        _example(splits),
        backend=plan.backend,
        algorithm=plan.algorithm,
        bits=plan.bits,
        bn_folding=plan.bn_folding,
        graph=plan.graph,
        first_last_bits=plan.first_last_bits,
        overrides=plan.overrides,
        skip=skip,
        layer_bits=layer_bits,
    )


def prepared_from(network: FloatNetwork, setting: Setting, splits: Splits) -> fx.GraphModule:
    """The same from a float network of a store, which is captured once if runs that start from it follow each other."""
    return insert_quantizers(network.graph(_example(splits)), plan_of(setting))


def _example(splits: Splits) -> Tensor:
    images, _ = next(iter(splits.test.batches([torch.arange(2)])))
    return images
