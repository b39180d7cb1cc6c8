"""The training loop: SGD over global batches, watched, checkpointed, ended early when it has diverged."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from mqbench.architectures._base import Recipe
from mqbench.compute import Compute
from mqbench.data._base import Batch, Splits
from mqbench.record import CurvePoint
from mqbench.training import _divergence as divergence
from mqbench.training._batches import BatchPlan
from mqbench.training._board import Board
from mqbench.training._checkpoint import Checkpoint, saved_for
from mqbench.training._evaluation import evaluate, some_images
from mqbench.training._memory import keep_freed_memory
from mqbench.training._monitor import Monitor, files_of_calibration
from mqbench.training._processes import (
    SynchronizedBatchNorm,
    first_process_statistics,
    share_statistics,
    summed,
)
from mqbench.training._result import Training
from mqbench.training._schedule import optimizer_of, rate_factor, warmup_steps
from mqbench.training._state import restore, state_of
from mqbench.training._tally import Tally

_LOOK_EVERY = 20  # steps between checks of the loss where a look waits for the device
_SMOOTHING = 0.98  # of the loss that is watched for a blow-up
Progress = Callable[[int, int], None]


def train(
    model: nn.Module,
    splits: Splits,
    recipe: Recipe,
    *,
    seed: int,
    steps: int | None = None,
    quantizer_weight_decay: float | None = None,
    sync_bn: bool = True,
    compute: Compute | None = None,
    fabric: Fabric | None = None,
    checkpoint: Checkpoint | None = None,
    extra: str = "",
    board: Board | None = None,
    progress: Progress = lambda done, total: None,
) -> Training:
    """Train ``model`` in place for ``recipe.epochs`` epochs, or for ``steps`` optimizer steps.

    SGD 0.9 Nesterov, linear warm-up then cosine to zero, both by step, label smoothing (section 2.1). A
    training that has diverged ends at once; an accuracy at the end that is hardly above chance counts as
    not converged too (the paper's NC).

    Args:
        model: any module from images to logits.
        splits: training and test images.
        recipe: hyper-parameters; its global batch is kept on any number of processes, by accumulation.
        seed: of the order and augmentation of the images, and of dropout.
        steps: optimizer steps in all, instead of the recipe's epochs.
        quantizer_weight_decay: L2 of scales and thresholds, None for that of the weights.
        sync_bn: batch statistics are those of all processes.
        compute: devices and precision; by default one CPU process.
        fabric: of the process, where it was launched with others.
        checkpoint: where to go on from, and where to note how far the training is.
        extra: text of the caller that checkpoints keep.
        board: TensorBoard's, if it is to be written.
        progress: called with (steps done, steps).

    Raises:
        RequestError: a global batch that the processes cannot make up, or a checkpoint of another number of them.
        StoreError: the checkpoint cannot be written.
    """
    if recipe.epochs == 0 and steps is None:  # nothing to cut into batches: any number of images will do
        first = fabric is None or fabric.global_rank == 0
        images = some_images(splits, fabric.device if fabric else torch.device("cpu"))
        return Training((), files=files_of_calibration(model, images) if first else {})
    compute = compute or Compute(accelerator="cpu", threads=torch.get_num_threads())
    fabric = fabric or Fabric(accelerator=compute.accelerator, devices=1, precision=compute.precision)
    keep_freed_memory()
    loop = _Loop(model, splits, recipe, seed, steps, sync_bn, compute, fabric, board)
    return loop.run(quantizer_weight_decay, checkpoint, extra, progress)


class _Loop:
    # What a checkpoint holds (`_state`): model, optimizer, step, curve, monitor, tallies, smooth_loss.

    def __init__(
        self,
        model: nn.Module,
        splits: Splits,
        recipe: Recipe,
        seed: int,
        steps: int | None,
        sync_bn: bool,
        compute: Compute,
        fabric: Fabric,
        board: Board | None,
    ) -> None:
        self.model, self.splits, self.recipe, self.fabric = model, splits, recipe, fabric
        self.seed, self.sync_bn = seed, sync_bn
        self.plan = BatchPlan.of(len(splits.train), recipe, fabric.world_size, seed)
        self.total = self.plan.total(recipe.epochs, steps)
        self.epochs = math.ceil(self.total / self.plan.steps)
        self.warmup = warmup_steps(self.total, self.plan.steps, recipe)
        self.compute = compute
        self.monitor = Monitor(compute.monitor_steps, board if fabric.global_rank == 0 else None)
        self.look_every = 1 if fabric.device.type == "cpu" and fabric.world_size == 1 else _LOOK_EVERY
        self.step = 0
        self.smooth_loss: float | None = None
        self.curve: list[CurvePoint] = []
        self.epoch_tally, self.window = Tally(), Tally()
        self._pending: list[Tensor] = []
        """Loss, hits and images of micro-batches, still on the device."""

    def run(
        self,
        quantizer_weight_decay: float | None,
        checkpoint: Checkpoint | None,
        extra: str,
        progress: Progress,
    ) -> Training:
        batches = self.plan.processes * self.plan.accumulate
        share_statistics(self.model, synchronize=self.sync_bn, batches=batches)
        if self.compute.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.optimizer = optimizer_of(self.model, self.recipe, quantizer_weight_decay)
        module: Any = torch.compile(self.model) if self.compute.compile else self.model
        self.module, self.stepper = self.fabric.setup(module, self.optimizer)
        saved = saved_for(checkpoint, self.total, self.plan.processes) if checkpoint is not None else None
        if saved is not None:
            restore(self, saved)
        if self.fabric.global_rank:
            torch.manual_seed(self.seed + self.fabric.global_rank)  # dropout of another process
        while self.step < self.total:
            ended = self._epoch(checkpoint, extra, progress)
            if ended is not None:
                return self._result(*ended)
            point = self.curve[-1]
            if divergence.is_dead(self.curve, self.epochs, self.splits.classes):
                kind = self._chance()
                return self._result(kind, f"{kind} after {point.epoch} epochs")
            self._save(checkpoint, extra)
        if self.curve and divergence.is_at_chance(self.curve[-1].test_accuracy, self.splits.classes):
            kind = self._chance()
            return self._result(kind, f"{kind} at the end")
        return self._result(None, None)

    # -- one epoch --------------------------------------------------------------------------------

    def _epoch(
        self, checkpoint: Checkpoint | None, extra: str, progress: Progress
    ) -> tuple[divergence.Kind, str] | None:
        """Train to the end of the epoch; gives the kind and reason if the training is to end here."""
        epoch, begin = divmod(self.step, self.plan.steps)
        end = min(self.plan.steps, begin + self.total - self.step)
        self.module.train()
        batches = self._batches(epoch, begin, end)
        for _ in range(begin, end):
            rate = self._set_rate()
            for part in range(self.plan.accumulate):
                self._backward(next(batches), last=part == self.plan.accumulate - 1)
            self.step += 1
            if self.step % self.look_every == 0 or self.step == self.total:
                ended = self._blown_up(epoch)  # before the step would spread a NaN to every parameter
                if ended is not None:
                    return ended
            self.stepper.step()
            self.stepper.zero_grad(set_to_none=True)
            if self.step % self.plan.steps and self.step < self.total:  # the end of the epoch has its own
                if self.step % self.monitor.every == 0:
                    self._look(epoch, rate)
                if checkpoint is not None and self._is_due(checkpoint):
                    self._save(checkpoint, extra)
            progress(self.step, self.total)
        self._look(epoch, rate)
        tally = self.epoch_tally.of_all()
        self.curve.append(
            CurvePoint(
                epoch=epoch + 1,
                learning_rate=rate,
                train_loss=tally.mean_loss,
                train_accuracy=tally.accuracy,
                test_accuracy=self.monitor.curve[-1]["test_accuracy"],
            )
        )
        self.epoch_tally = Tally()
        return None

    def _batches(self, epoch: int, begin: int, end: int) -> Iterator[Batch]:
        picks = self.plan.picks(epoch, self.fabric.global_rank, begin)[: (end - begin) * self.plan.accumulate]
        augment = self.plan.augment(epoch)
        return self.splits.train.batches(picks, augment=augment, device=self.fabric.device)

    def _backward(self, batch: Batch, *, last: bool) -> None:
        x, y = batch
        if self.compute.channels_last and x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        quiet = self.plan.processes > 1 and not last
        waiting: AbstractContextManager[Any] = (
            self.fabric.no_backward_sync(self.module) if quiet else nullcontext()
        )
        with waiting, self._statistics():
            logits = self.module(x)
            loss = F.cross_entropy(logits, y, label_smoothing=self.recipe.label_smoothing)
            self.fabric.backward(loss / self.plan.accumulate)
        self._count(loss.detach(), logits.detach(), y)

    def _statistics(self) -> AbstractContextManager[Any]:
        return SynchronizedBatchNorm() if self.sync_bn and self.plan.processes > 1 else nullcontext()

    def _count(self, loss: Tensor, logits: Tensor, y: Tensor) -> None:
        correct = (logits.argmax(1) == y).sum()
        self._pending.append(torch.stack([loss.double(), correct.double(), torch.full_like(loss, len(y))]))

    def _flush(self) -> None:
        """Bring what was counted since the last look from the device."""
        for value, correct, images in torch.stack(self._pending).tolist() if self._pending else ():
            self.epoch_tally.add(value, correct, images)
            self.window.add(value, correct, images)
            before = value if self.smooth_loss is None else self.smooth_loss
            self.smooth_loss = _SMOOTHING * before + (1 - _SMOOTHING) * value
        self._pending.clear()

    def _set_rate(self) -> float:
        rate = self.recipe.learning_rate * rate_factor(self.step, self.total, self.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    # -- looking ----------------------------------------------------------------------------------

    def _blown_up(self, epoch: int) -> tuple[divergence.Kind, str] | None:
        self._flush()
        assert self.smooth_loss is not None
        (loss,) = summed(self.smooth_loss)
        if not divergence.is_blown_up(loss / self.plan.processes, self.splits.classes):
            return None
        kind, where = divergence.kind_of_blow_up(self.model)
        place = f" in {where}" if where else ""
        return kind, f"{kind}{place}: loss {loss:.3g} in epoch {epoch + 1}, step {self.step}"

    def _look(self, epoch: int, rate: float) -> None:
        self._flush()
        window, self.window = self.window.of_all(), Tally()
        with first_process_statistics(self.model) if not self.sync_bn else nullcontext():
            test = evaluate(
                self.module,
                self.splits,
                device=self.fabric.device,
                rank=self.fabric.global_rank,
                processes=self.plan.processes,
            )
        self.monitor.look(
            self.model,
            {"train_accuracy": window.accuracy, "test_accuracy": test},
            step=self.step,
            epoch=epoch + 1,
            learning_rate=rate,
            train_loss=window.mean_loss,
        )

    def _chance(self) -> divergence.Kind:
        self.module.eval()
        with torch.no_grad():
            return divergence.kind_at_chance(
                self.model, self.module(some_images(self.splits, self.fabric.device))
            )

    def _result(self, kind: divergence.Kind | None, reason: str | None) -> Training:
        files: dict[str, bytes] = {}
        if self.monitor.curve and self.fabric.global_rank == 0:
            files = self.monitor.files(self.model, some_images(self.splits, self.fabric.device))
        return Training(tuple(self.curve), reason, kind, files)

    # -- checkpoints --------------------------------------------------------------------------------

    def _is_due(self, checkpoint: Checkpoint) -> bool:
        if self.plan.processes == 1:
            return checkpoint.is_due
        if self.step % _LOOK_EVERY:
            return False
        (due,) = summed(float(checkpoint.is_due and self.fabric.global_rank == 0))
        return due > 0

    def _save(self, checkpoint: Checkpoint | None, extra: str) -> None:
        if checkpoint is None or self.step == self.total:
            return
        self._flush()
        state = state_of(self, extra)
        if self.fabric.global_rank == 0:
            checkpoint.save(state)
