"""One Setting -> one Record: load or train the float network, quantize, calibrate, train, evaluate."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from safetensors.torch import save
from torch import Tensor, nn

from mqbench import tools as tool_catalog
from mqbench.compute import Compute
from mqbench.data._base import Splits
from mqbench.elsewhere import run_elsewhere
from mqbench.errors import RequestError
from mqbench.float_network import PREDICTIONS, WEIGHTS, FloatNetwork
from mqbench.plan import Plan
from mqbench.post_training import calibrate_as
from mqbench.processes import threads
from mqbench.provenance import Clock
from mqbench.quantization import prepared_from
from mqbench.record import FLOAT, MQBENCH, Record, Setting
from mqbench.store import Store
from mqbench.task import RunTask, job_of, plan_of, tool_versions, validate
from mqbench.tools._base import Tool
from mqbench.tools._elsewhere import python_of
from mqbench.training import (
    BatchPlan,
    Board,
    Checkpoint,
    Training,
    accuracy,
    check_checkpoint,
    launch,
    predictions,
    saved_for,
    train,
)

__all__ = ["check_start", "run", "validate"]

Progress = Callable[[str, int, int], None]


def _quiet(phase: str, done: int, total: int) -> None:
    pass


def run(
    setting: Setting,
    *,
    store: Store | str | Path | None = "runs",
    data: str | None = None,
    compute: Compute | None = None,
    progress: Progress = _quiet,
) -> Record:
    """Run one setting; a record that the store has already is returned as it is.

    A quantized run starts from the float network of ``setting.float_setting``, which is trained first (and
    stored) if the store lacks it. The record is the same, bit for bit, for the same setting on the same
    machine with the same ``compute``; a run that was killed goes on from its last checkpoint and ends in
    the same record.

    Args:
        setting: what to run.
        store: where records lie; None keeps nothing.
        data: folder with the datasets that are not built in.
        compute: devices, processes, threads, precision; by default one thread of a CPU, or a GPU.
        progress: called with (phase, done, total).

    Raises:
        RequestError: the setting cannot run.
    """
    validate([setting], data, compute)
    place = store if isinstance(store, Store) or store is None else Store(store)
    known = _result(place, setting)
    if known is not None:
        return known
    compute = compute or Compute()
    check_start(setting, place, data, compute)
    if setting.tool != MQBENCH:
        if compute.processes > 1:
            raise RequestError(f"{setting.tool} runs in one process, got {compute.processes}")
        if (python := python_of(setting.tool)) is not None:
            return run_elsewhere(python, setting, run, place, data=data, compute=compute, progress=progress)
    if compute.processes > 1:
        progress = _quiet  # other processes cannot call back
    with threads(compute.threads):
        return launch(compute, _Run.make, setting, place, data, compute, progress)


def check_start(setting: Setting, store: Store | None, data: str | None, compute: Compute) -> None:
    """Look at what a run starts from: a float network, perhaps to be trained first, and checkpoints.

    Raises:
        RequestError: the float network cannot be trained so, or a run that was killed cannot go on so.
        UnwritableError: what is made could not be kept.
    """
    first = setting.float_setting
    missing = [needed for needed in dict.fromkeys((first, setting)) if _result(store, needed) is None]
    validate([needed for needed in missing if needed == first], data, compute)
    if store is not None and missing:
        store.check_writable()
        for needed in missing:
            check_checkpoint(store.scratch(needed.key), compute.processes)


def _result(store: Store | None, setting: Setting) -> Record | None:
    """The record of a setting, unless it failed."""
    record = store.get(setting.key) if store is not None else None
    return None if record is None or record.outcome == "failed" else record


class _Run:
    """One run in one process; of several that train together, the first writes."""

    def __init__(
        self,
        fabric: Fabric,
        setting: Setting,
        store: Store | None,
        data: str | None,
        compute: Compute,
        progress: Progress,
    ) -> None:
        self.fabric, self.setting, self.compute, self.progress = fabric, setting, compute, progress
        self.store = store
        self.data = data
        self.clock = Clock(compute)

    @classmethod
    def make(
        cls,
        fabric: Fabric,
        setting: Setting,
        store: Store | None,
        data: str | None,
        compute: Compute,
        progress: Progress,
    ) -> Record:
        """The record of a setting."""
        this = cls(fabric, setting, store, data, compute, progress)
        if setting.algorithm == FLOAT:
            return this.float_run()[0]
        return this.quantized_run()

    def float_run(self) -> tuple[Record, FloatNetwork]:
        """Train the float network, and store it."""
        task = RunTask.of(self.setting, self.data, self.compute.workers)
        torch.manual_seed(self.setting.seed)
        model, weights = task.float_network(self.setting.weights)
        trained = self._train(model, task, "float")
        predicted = self._predictions(model, task.splits)
        found = accuracy(predicted, task.splits.test)
        record = self._record(trained, task.splits, accuracy=found, float_accuracy=found, weights=weights)
        if self.store is not None and self.fabric.global_rank == 0:
            state = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
            files = {WEIGHTS: save(state), PREDICTIONS: save({"classes": predicted})}
            self._put(record, {**files, **trained.files})
        self.fabric.barrier()
        return record, FloatNetwork(model.float(), record.accuracy, predicted, weights)

    def quantized_run(self) -> Record:
        """Quantize the float network, calibrate, train, evaluate."""
        task = RunTask.of(self.setting, self.data, self.compute.workers)
        network = self._float_network(task)
        plan = plan_of(self.setting)
        torch.manual_seed(self.setting.seed)
        self.progress("prepare", 0, 1)
        saved = self._saved(task)
        if self.setting.tool == MQBENCH:
            quantized = self._prepared(network, task, calibrated=saved is None)
        else:
            quantized = self._prepared_by_tool(network.model, task, plan)
        notes = json.loads(saved["extra"]) if saved else self._notes(quantized, network, task)
        trained = self._train(quantized, task, "train", json.dumps(notes))
        final = trained.curve[-1].test_accuracy if trained.curve else notes["calibrated_accuracy"]
        record = self._record(
            trained,
            task.splits,
            accuracy=final,
            float_accuracy=network.accuracy,
            deployable=plan.method.deployable,
            weights=network.weights,
            **notes,
        )
        if self.store is not None and self.fabric.global_rank == 0:
            self._put(record, trained.files)
        self.fabric.barrier()
        return record

    # -- steps ------------------------------------------------------------------------------------

    def _prepared(self, network: FloatNetwork, task: RunTask, *, calibrated: bool) -> nn.Module:
        """Quantized, and calibrated unless a checkpoint holds what calibration would set."""
        quantized = prepared_from(network, self.setting, task.splits).to(self.fabric.device)
        if calibrated:
            self.progress("calibrate", 0, 1)
            calibrate_as(self.setting, quantized, task.splits.train, task.recipe, self.fabric.device)
        return quantized

    def _prepared_by_tool(self, model: nn.Module, task: RunTask, plan: Plan) -> nn.Module:
        """Quantized and calibrated by another toolkit, on the images that we would take."""
        tool: Tool = tool_catalog[self.setting.tool]  # type: ignore[index]
        job = job_of(self.setting, task, plan, model, self.compute.threads)
        return tool.network(job).to(self.fabric.device)

    def _notes(self, quantized: nn.Module, network: FloatNetwork, task: RunTask) -> dict[str, float]:
        """What the calibrated network is worth."""
        predicted = self._predictions(quantized, task.splits)
        same = float((predicted == network.predictions).double().mean()) * 100
        return {"calibrated_accuracy": accuracy(predicted, task.splits.test), "agreement": same}

    def _train(self, model: nn.Module, task: RunTask, phase: str, extra: str = "") -> Training:
        checkpoint = self._checkpoint()
        folder = self.compute.tensorboard
        return train(
            model.to(self.fabric.device),
            task.splits,
            task.recipe,
            seed=self.setting.seed,
            steps=self.setting.steps,
            quantizer_weight_decay=self.setting.quantizer_weight_decay,
            sync_bn=self.setting.sync_bn,
            compute=self.compute,
            fabric=self.fabric,
            checkpoint=checkpoint,
            extra=extra,
            board=None if folder is None else Board(Path(folder) / self.setting.key),
            progress=lambda done, total: self.progress(phase, done, total),
        )

    def _predictions(self, model: nn.Module, splits: Splits) -> Tensor:
        model.to(self.fabric.device)
        return predictions(model, splits, device=self.fabric.device)

    def _float_network(self, task: RunTask) -> FloatNetwork:
        setting = self.setting.float_setting
        known = _result(self.store, setting)
        if self.store is None or known is None:
            other = _Run(self.fabric, setting, self.store, self.data, self.compute, self.progress)
            return other.float_run()[1]
        return FloatNetwork.read(known, self.store, task)  # which has its architecture and data

    # -- the record -------------------------------------------------------------------------------

    def _checkpoint(self) -> Checkpoint | None:
        if self.store is None:
            return None
        return Checkpoint(self.store.scratch(self.setting.key), self.compute.checkpoint_minutes)

    def _saved(self, task: RunTask) -> dict[str, Any] | None:
        """What the training of this run will go on from: without it the network must be calibrated."""
        checkpoint = self._checkpoint()
        if checkpoint is None or not task.recipe.epochs + (self.setting.steps or 0):
            return None
        processes = self.fabric.world_size
        plan = BatchPlan.of(len(task.splits.train), task.recipe, processes, self.setting.seed)
        return saved_for(checkpoint, plan.total(task.recipe.epochs, self.setting.steps), processes)

    def _put(self, record: Record, files: dict[str, bytes]) -> None:
        assert self.store is not None
        self.store.put(record, files, replace=True)
        checkpoint = self._checkpoint()
        assert checkpoint is not None
        checkpoint.remove()

    def _record(
        self,
        trained: Training,
        splits: Splits,
        *,
        accuracy: float,
        float_accuracy: float | None,
        calibrated_accuracy: float | None = None,
        agreement: float | None = None,
        deployable: bool = True,
        weights: str | None = None,
    ) -> Record:
        converged = trained.not_converged is None
        versions = tool_versions(self.setting)
        return Record(
            setting=self.setting,
            outcome="ok" if converged else "not_converged",
            nc_kind=trained.kind,
            reason=trained.not_converged,
            accuracy=accuracy if converged else None,
            float_accuracy=float_accuracy if converged or self.setting.algorithm != FLOAT else None,
            calibrated_accuracy=calibrated_accuracy,
            agreement=agreement,
            deployable=deployable,
            tool_version=next(iter(versions.values()), None),
            curve=trained.curve,
            provenance=self.clock.provenance(
                device=self.fabric.device, data=splits.fingerprint, weights=weights, versions=versions
            ),
        )
