"""A net that learns its departure from the pattern, as a LightningModule.

Shapes: B tasks, I intervals, Q quantities, T targets.
"""

import logging
import sys
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.loggers.logger import Logger
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from ltvnet.data.fingerprints import Fingerprint
from ltvnet.forecasting.run_context import HardwareConfig
from ltvnet.models.neural.cohort_tensors import CohortTensors, Tasks
from ltvnet.models.neural.cuda_graphs import CapturedGraph
from ltvnet.models.neural.nets.heads import TaskInputs, TaskTargets
from ltvnet.models.neural.nets.losses import (
    LossConfig,
    forecast_growth,
    loss_and_gradient,
    target_losses,
)
from ltvnet.models.neural.process_group import (
    all_reduce_gradients,
    all_reduce_sum,
    is_single_process,
)
from ltvnet.models.neural.task_sampling import (
    TASKS_PER_GROUP,
    Batch,
    BatchGroup,
    EpochPlan,
    EpochSampler,
    ProcessShard,
)
from ltvnet.models.neural.task_targets import mask_small_growth, user_weight
from ltvnet.models.neural.training_config import TrainingConfig, TrainingJob, TrainingSchedule
from ltvnet.models.neural.validation import ValidationResult, error_columns

log = logging.getLogger(__name__)

NEGLIGIBLE_GROWTH = 1e-6
"""Targets whose pattern growth is below this share of the mean are masked."""

MIN_BATCH_WEIGHT = 1e-30
"""Least weight of a batch: of one in which nothing counts, nothing is learned."""

SEED_STRIDE = 100_003
"""Between the seeds of fits: more than there are epochs of one."""

PROCESS_SEED_STRIDE = 1_000_003
"""Between the seeds of processes: more than there are of epochs."""


@dataclass
class StepLog:
    """Loss, batch size and learning rate of each step of an epoch so far."""

    losses: list[Tensor] = field(default_factory=list)
    batch_sizes: list[int] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def add(self, loss: Tensor, batch_size: int, rate: float) -> None:
        """Add a step; its loss stays on its device."""
        self.losses.append(loss)
        self.batch_sizes.append(batch_size)
        self.rates.append(rate)

    def total_losses(self) -> Tensor:
        """Loss of each step in all processes, on its device."""
        losses = torch.stack(self.losses)
        all_reduce_sum(losses)
        return losses

    def epoch_loss(self, total_losses: Tensor) -> float:
        """Mean of the losses of steps, weighted by the sizes of their batches."""
        sizes = torch.tensor(self.batch_sizes, device=total_losses.device)
        return float((total_losses * sizes).sum() / sizes.sum())

    def write(self, logger: Logger, total_losses: Tensor, first_step: int, log_every: int) -> None:
        """Write loss and learning rate of every `log_every`-th step; steps count over epochs."""
        steps = zip(total_losses.tolist(), self.rates, strict=True)
        for step, (loss, rate) in enumerate(steps, start=first_step):
            if (step + 1) % log_every == 0:
                logger.log_metrics({"train/loss_step": loss, "rate": rate}, step)


class ResidualTrainingModule(pl.LightningModule):
    """A net learning its departure from the pattern.

    Lightning's own steps cost as much as those of a small net, so that one of them takes a group
    of batches; gradients of several processes are added up here. `net`, `average` (of its weights
    over steps) and `scale` (weighted mean growth of the pattern) are names in checkpoints.
    """

    scale: Tensor

    def __init__(
        self, *, job: TrainingJob, training: TrainingConfig, hardware: HardwareConfig
    ) -> None:
        """Take the net and its data; nothing is random here."""
        super().__init__()
        self.automatic_optimization = False
        self.net = job.net
        self.cohort_tensors = job.cohort_tensors
        self.validation = job.validation
        self.confidence = job.confidence
        self.seed = job.seed
        self.training_config = training
        self.hardware = hardware
        self.schedule = TrainingSchedule.from_config(training, job.cohort_tensors)

        self.average = deepcopy(self.net).eval().requires_grad_(requires_grad=False)
        self.register_buffer("scale", torch.zeros(()))
        self.captured_graph: CapturedGraph | None = None

        has_progress_bar = sys.stderr.isatty()
        self.name = job.name
        self.logs_epochs = job.checkpoint_folder is not None and not has_progress_bar
        self.step_log = StepLog()
        self.validation_scores: list[list[float]] = []

    @property
    def plan(self) -> EpochPlan:
        """Tasks and batches of an epoch."""
        return self.schedule.plan

    def setup(self, stage: str) -> None:
        """Bring the data to the device of the net, and measure the scale of the loss there."""
        torch.set_num_threads(self.hardware.threads)  # Lightning sets others in its processes
        self.cohort_tensors = self.cohort_tensors.to(self.device)
        if self.validation is not None:
            self.validation = self.validation.to(self.device)

        sums = torch.zeros(2, device=self.device)
        for tasks in self._epoch_sampler(0).tasks.split(TASKS_PER_GROUP):
            targets = self.cohort_tensors.targets(tasks)
            weight = targets.weight * self._user_weight(tasks.cohort_index)
            sums += torch.stack(((weight * targets.pattern_growth).sum(), weight.sum()))
        self.scale = (sums[0] / sums[1]).to(self.scale.device)

    def _epoch_seed(self, epoch: int) -> int:
        return self.seed * SEED_STRIDE + epoch

    def _epoch_sampler(self, epoch: int) -> EpochSampler:
        """Draw the tasks of an epoch, of which this process takes its share."""
        return EpochSampler(
            cohort_tensors=self.cohort_tensors,
            plan=self.plan,
            seed=self._epoch_seed(epoch),
            shard=ProcessShard(self.global_rank, self.trainer.world_size),
        )

    def _user_weight(self, cohort_index: Tensor) -> Tensor:
        """Weight of cohorts by their users: (B, 1)."""
        relative_users = self.cohort_tensors.relative_users.index_select(0, cohort_index)
        return user_weight(relative_users, self.training_config.users)

    def _without_negligible(self, targets: TaskTargets) -> TaskTargets:
        """Targets of which those of next to no pattern growth have weight 0."""
        return mask_small_growth(targets, NEGLIGIBLE_GROWTH * self.scale)

    @property
    def loss_config(self) -> LossConfig:
        """The loss that is learned by, on the scale of these data."""
        return LossConfig(
            mean_loss=self.training_config.loss,
            confidence=self.confidence,
            quantile_weight=self.training_config.quantiles,
            growth_scale=self.scale,
        )

    def predict_raw(self, inputs: TaskInputs) -> Tensor:
        """Raw z (B, I, Q) of the net, or of its average where it does not train."""
        net = self.net if self.training else self.average
        bfloat16 = self.hardware.precision == "bf16-mixed"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
            raw: Tensor = net(inputs)
        return raw

    def training_step(self, group: BatchGroup, _: int) -> None:
        """Step through the batches of a group."""
        optimizer = self.optimizers()
        rate_schedule = self.lr_schedulers()
        assert isinstance(optimizer, LightningOptimizer)
        assert isinstance(rate_schedule, OneCycleLR)

        for batch, size in zip(self.normalized_batches(group), group.global_sizes, strict=True):
            loss = self.compute_gradient(batch, size)
            self.step_log.add(loss, size, float(rate_schedule.get_last_lr()[0]))
            optimizer.step()
            rate_schedule.step()
            self._update_average(rate_schedule.last_epoch)

    def normalized_batches(self, group: BatchGroup) -> Iterator[Batch]:
        """Yield the batches of a group; the weights of one add up to 1 over all processes."""
        targets = self._without_negligible(group.batch.targets)
        weight = targets.weight * self._user_weight(group.batch.cohort_index)
        targets = targets._replace(weight=weight)

        # of all batches at once: an exchange between processes costs more than the sums
        batch_weights = [part.sum() for part in torch.split(weight, group.local_sizes)]
        total_weights = torch.stack(batch_weights)
        all_reduce_sum(total_weights)

        batches = group.batch._replace(targets=targets).split(group.local_sizes)
        for batch, total in zip(batches, total_weights.clamp_(min=MIN_BATCH_WEIGHT), strict=True):
            share = batch.targets.weight / total
            yield batch._replace(targets=batch.targets._replace(weight=share))

    def compute_gradient(self, batch: Batch, size: int) -> Tensor:
        """Compute loss and gradient of a batch; on one GPU as work that is recorded once.

        See `compute_gradient_eagerly`.
        """
        if self.captured_graph is None and self.device.type == "cuda" and is_single_process():
            work = partial(self.compute_gradient_eagerly, size=size)
            self.captured_graph = CapturedGraph(work, batch)
        if self.captured_graph is not None and self.captured_graph.matches_shapes(batch):
            return self.captured_graph(batch)
        return self.compute_gradient_eagerly(batch, size)

    def compute_gradient_eagerly(self, batch: Batch, size: int) -> Tensor:
        """Loss of a batch of `size` in all processes; its clipped gradient is left in the net."""
        for parameter in self.net_parameters:
            if self.captured_graph is None or parameter.grad is None:
                parameter.grad = None
            else:  # a replay knows where it is
                parameter.grad.zero_()

        raw = self.predict_raw(batch.inputs)
        penalty = self.training_config.penalty / (size * raw.shape[1])
        loss, gradient = loss_and_gradient(
            raw.detach().float(), batch.targets, self.loss_config, penalty
        )
        raw.backward(gradient.to(raw.dtype))  # type: ignore[no-untyped-call]
        all_reduce_gradients(self.net_parameters)
        nn.utils.clip_grad_norm_(self.net_parameters, self.training_config.clip)
        return loss

    @torch.no_grad()
    def _update_average(self, step_count: int) -> None:
        """Average the weights of the steps so far; the first stands for itself."""
        weight = 1.0 if step_count == 1 else self.schedule.averaging_weight
        torch._foreach_lerp_(self.averaged_parameters, self.net_parameters, weight)  # type: ignore[arg-type]

    @torch.no_grad()
    def validate(self) -> ValidationResult:
        """Score the averaged net on what became of tasks after the inner origin.

        The loss is that of training, weighted by users.
        """
        assert self.validation is not None
        sums = torch.zeros(self.validation.week_count, 5, device=self.device)
        self.eval()
        parts = self.validation.split(TASKS_PER_GROUP)
        for tasks, week_index in parts[self.global_rank :: self.trainer.world_size]:
            sums.index_add_(0, week_index, self._weighted_errors(tasks))
        self.train()
        all_reduce_sum(sums)
        return ValidationResult.from_sums(sums)

    def _weighted_errors(self, tasks: Tasks) -> Tensor:
        """Columns (B, 5) of `error_columns` for validation tasks, times users."""
        assert self.validation is not None
        tensors = self.validation.cohort_tensors
        inputs, targets = tensors.inputs_and_targets(tasks)
        targets = self._without_negligible(targets)
        raw = self.predict_raw(inputs).float()
        forecast = forecast_growth(raw, targets, self.confidence).growth
        loss = targets.weight * target_losses(forecast, targets, self.loss_config).loss
        users = tensors.relative_users[tasks.cohort_index].unsqueeze(1)
        return users * error_columns(forecast, loss, targets)

    def on_train_start(self) -> None:
        """Score the untrained net: training must beat it."""
        if self.validation is not None and not self.validation_scores:
            self.validation_scores.append(self.validate().weekly_losses)

    def train_dataloader(self) -> EpochSampler:
        """Draw the tasks of this epoch; called anew for each, so that a resumed run draws the same.

        Dropout goes on from there, and differs between processes.
        """
        epoch_seed = self._epoch_seed(self.current_epoch)
        torch.manual_seed(epoch_seed + PROCESS_SEED_STRIDE * self.global_rank)
        return self._epoch_sampler(self.current_epoch)

    def transfer_batch_to_device(self, batch: BatchGroup, *_: object) -> BatchGroup:
        """Return the batch as it is: all is on the device."""
        return batch

    def on_train_epoch_end(self) -> None:
        """Log the steps of the epoch, and score the net."""
        losses = self.step_log.total_losses()
        metrics = {"train/loss_epoch": self.step_log.epoch_loss(losses)}
        if self.logger is not None:
            first_step = self.current_epoch * self.schedule.steps_per_epoch
            self.step_log.write(self.logger, losses, first_step, self.hardware.log_every)
        self.step_log = StepLog()

        if self.validation is not None:
            result = self.validate()
            self.validation_scores.append(result.weekly_losses)
            metrics["val/loss"] = sum(result.weekly_losses)
            metrics["val/wape"] = result.wape
            metrics["val/bias"] = result.bias
        self.log_dict(metrics)

        if self.logs_epochs and self.trainer.is_global_zero:
            text = ", ".join(f"{name} {value:.5f}" for name, value in metrics.items())
            epoch = self.current_epoch + 1
            log.info("%s, epoch %d of %d: %s", self.name, epoch, self.trainer.max_epochs, text)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW under a one-cycle rate over the whole schedule, wherever this fit stops."""
        peak_rate = self.schedule.peak_rate
        optimizer = torch.optim.AdamW(
            self.net_parameters,
            lr=peak_rate,
            weight_decay=self.training_config.weight_decay,
            fused=True,
        )
        rate_schedule = OneCycleLR(optimizer, peak_rate, self.schedule.total_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": rate_schedule, "interval": "step"},
        }

    @cached_property
    def net_parameters(self) -> list[nn.Parameter]:
        """Weights of the net: looking for them takes a while, at each step."""
        return list(self.net.parameters())

    @cached_property
    def averaged_parameters(self) -> list[nn.Parameter]:
        """Weights of the averaged net."""
        return list(self.average.parameters())

    @cached_property
    def _data_hash(self) -> str:
        return hash_curve_values(self.cohort_tensors)

    def get_extra_state(self) -> dict[str, Any]:
        """Scores of the epochs so far, and of what data and schedule they are."""
        return {
            "scores": self.validation_scores,
            "data": self._data_hash,
            "steps": self.schedule.total_steps,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up the scores of the epochs so far."""
        self.validation_scores = list(state["scores"])


def hash_curve_values(cohort_tensors: CohortTensors) -> str:
    """SHA-256 of the curves that a net learns from."""
    return Fingerprint().add_arrays(cohort_tensors.values.cpu().numpy()).hex()
