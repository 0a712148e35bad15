"""A net that learns its departure from the pattern, as a LightningModule.

Shapes: B tasks, I intervals, Q quantities, T targets.
"""

import hashlib
import logging
import sys
from collections.abc import Iterator
from copy import deepcopy
from functools import cached_property, partial
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch import distributed as dist
from torch.optim.lr_scheduler import OneCycleLR

from ltvnet.forecasting.run_context import HardwareConfig
from ltvnet.models.neural.cohort_tensors import CohortTensors, Tasks, ValidationSet
from ltvnet.models.neural.cuda_graphs import CapturedGraph
from ltvnet.models.neural.nets.heads import TaskInputs, TaskTargets
from ltvnet.models.neural.nets.losses import (
    LossConfig,
    forecast_growth,
    loss_and_gradient,
    target_losses,
)
from ltvnet.models.neural.task_sampling import (
    TASKS_PER_GROUP,
    Batch,
    BatchGroup,
    EpochPlan,
    EpochSampler,
    ProcessShard,
)
from ltvnet.models.neural.training_config import TrainingConfig, TrainingJob

log = logging.getLogger(__name__)

NEGLIGIBLE_GROWTH = 1e-6
"""Targets whose pattern growth is below this share of the mean are masked."""

MIN_BATCH_WEIGHT = 1e-30
"""Least weight of a batch: of one in which nothing counts, nothing is learned."""

PROCESS_SEED_STRIDE = 1_000_003
"""Between the seeds of processes: more than there are of epochs."""


class ResidualTrainingModule(pl.LightningModule):
    """A net learning its departure from the pattern.

    Lightning's own steps cost as much as those of a small net, so that one of them takes a block
    of batches; gradients of several processes are added up here.
    """

    scale: Tensor

    def __init__(
        self, *, job: TrainingJob, training: TrainingConfig, machine: HardwareConfig
    ) -> None:
        """Take the net and its data; nothing is random here."""
        super().__init__()
        self.automatic_optimization = False
        self.net, self.cohort_tensors, self.validation = job.net, job.cohort_tensors, job.validation
        self.confidence, self.seed = job.confidence, job.seed
        self.training_config, self.hardware = training, machine
        size = training.batch_size_for(job.cohort_tensors.grown_cohort_count * training.tasks)
        self.plan = EpochPlan(
            tasks_per_cohort=training.tasks, batch_size=size, unseen_share=training.unseen
        )
        self.steps_per_epoch = self.plan.count_batches(job.cohort_tensors)
        self.weight = 1.0 - 0.5 ** (1 / (training.average * self.steps_per_epoch))
        self.average = deepcopy(self.net).eval().requires_grad_(requires_grad=False)
        self.register_buffer("scale", torch.zeros(()))
        self.captured_graph: CapturedGraph | None = None
        self.told = (
            job.checkpoint_folder is not None and not sys.stderr.isatty()
        )  # else there is a bar
        self.validation_scores: list[list[float]] = []
        self.losses: list[Tensor] = []
        self.sizes: list[int] = []
        self.rates: list[float] = []

    def setup(self, stage: str) -> None:
        """Bring the data to the device of the net, and measure the scale of the loss there."""
        torch.set_num_threads(self.hardware.threads)  # Lightning sets others in its processes
        self.cohort_tensors = self.cohort_tensors.to(self.device)
        if self.validation is not None:
            moved = Tasks(*(x.to(self.device) for x in self.validation.tasks))
            windows, week = self.validation.cohort_tensors, self.validation.week_index
            self.validation = ValidationSet(windows.to(self.device), moved, week.to(self.device))
        sums = torch.zeros(2, device=self.device)
        for tasks in self._draws(0).tasks.split(TASKS_PER_GROUP):
            targets = self.cohort_tensors.targets(tasks)
            weight = targets.weight * self._credible(tasks.cohort_index)
            sums += torch.stack(((weight * targets.pattern_growth).sum(), weight.sum()))
        self.scale = (sums[0] / sums[1]).to(self.scale.device)

    def _seed(self, epoch: int) -> int:
        return self.seed * 100_003 + epoch

    def _draws(self, epoch: int) -> EpochSampler:
        share = ProcessShard(self.global_rank, self.trainer.world_size)
        return EpochSampler(
            windows=self.cohort_tensors, plan=self.plan, seed=self._seed(epoch), share=share
        )

    def _credible(self, cohort: Tensor) -> Tensor:
        """Weight of cohorts by their users: (B, 1)."""
        users = self.cohort_tensors.relative_users.index_select(0, cohort)
        return (users / (users + self.training_config.users)).unsqueeze(1)

    @property
    def loss_config(self) -> LossConfig:
        """What is learned, on the scale of these data."""
        return LossConfig(
            self.training_config.loss, self.confidence, self.training_config.quantiles, self.scale
        )

    def _counted(self, targets: TaskTargets) -> TaskTargets:
        """Targets of which those of next to no pattern growth have weight 0.

        They get pattern growth 1 too, that ratios can be formed with.
        """
        counts = (targets.pattern_growth > NEGLIGIBLE_GROWTH * self.scale).float()
        pattern = targets.pattern_growth * counts + (1.0 - counts)
        return targets._replace(pattern_growth=pattern, weight=targets.weight * counts)

    def predict_raw(self, inputs: TaskInputs) -> Tensor:
        """Raw z (B, I, Q) of the net, or of its average where it does not train."""
        net = self.net if self.training else self.average
        bfloat16 = self.hardware.precision == "bf16-mixed"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
            found: Tensor = net(inputs)
        return found

    def training_step(self, block: BatchGroup, _: int) -> None:
        """Steps through the batches of a block."""
        optimizer, schedule = self.optimizers(), self.lr_schedulers()
        assert isinstance(optimizer, LightningOptimizer) and isinstance(schedule, OneCycleLR)
        for batch, size in zip(self.normalized_batches(block), block.global_sizes, strict=True):
            self.losses.append(self.compute_gradient(batch, size))
            self.rates.append(float(schedule.get_last_lr()[0]))
            optimizer.step()
            schedule.step()
            self._averaged(schedule.last_epoch)
        self.sizes.extend(block.global_sizes)

    def normalized_batches(self, block: BatchGroup) -> Iterator[Batch]:
        """The batches of a block, the weights of whose targets add up to 1 over all processes."""
        targets = self._counted(block.batch.targets)
        targets = targets._replace(weight=targets.weight * self._credible(block.batch.cohort_index))
        total = torch.stack([part.sum() for part in torch.split(targets.weight, block.local_sizes)])
        all_reduce_sum(total)
        batches = block.batch._replace(targets=targets).split(block.local_sizes)
        for batch, weight in zip(batches, total.clamp_(min=MIN_BATCH_WEIGHT), strict=True):
            share = batch.targets.weight / weight
            yield batch._replace(targets=batch.targets._replace(weight=share))

    def compute_gradient(self, batch: Batch, size: int) -> Tensor:
        """What `gradient` does; on one GPU as a piece of work that is recorded once."""
        if self.captured_graph is None and self.device.type == "cuda" and is_single_process():
            self.captured_graph = CapturedGraph(
                partial(self.compute_gradient_eagerly, size=size), batch
            )
        if self.captured_graph is not None and self.captured_graph.matches_shapes(batch):
            return self.captured_graph(batch)
        return self.compute_gradient_eagerly(batch, size)

    def compute_gradient_eagerly(self, batch: Batch, size: int) -> Tensor:
        """Loss of a batch of `size` in all processes; its clipped gradient is left in the net."""
        for weight in self.net_parameters:
            if self.captured_graph is None or weight.grad is None:
                weight.grad = None
            else:  # a replay knows where it is
                weight.grad.zero_()
        raw = self.predict_raw(batch.inputs)
        penalty = self.training_config.penalty / (size * raw.shape[1])
        loss, slope = loss_and_gradient(
            raw.detach().float(), batch.targets, self.loss_config, penalty
        )
        raw.backward(slope.to(raw.dtype))  # type: ignore[no-untyped-call]
        self._add_up()
        nn.utils.clip_grad_norm_(self.net_parameters, self.training_config.clip)
        return loss

    def _add_up(self) -> None:
        """Add up gradients over processes."""
        if is_single_process():
            return
        gradients = [x.grad for x in self.net_parameters if x.grad is not None]
        whole = torch.cat([gradient.flatten() for gradient in gradients])
        all_reduce_sum(whole)
        parts = torch.split(whole, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    @torch.no_grad()
    def _averaged(self, steps: int) -> None:
        """Average the weights of the steps so far; the first stands for itself."""
        pace = 1.0 if steps == 1 else self.weight
        torch._foreach_lerp_(self.averaged_parameters, self.net_parameters, pace)  # type: ignore[arg-type]

    @torch.no_grad()
    def validate(self) -> tuple[list[float], float, float]:
        """Each week's part of the user-weighted training loss after the inner origin.

        And the WAPE and the bias of the mean at the last age known.
        """
        assert self.validation is not None
        windows, week = self.validation.cohort_tensors, self.validation.week_index
        sums = torch.zeros(int(week.max()) + 1, 5, device=self.device)
        self.eval()
        pieces = list(
            zip(
                self.validation.tasks.split(TASKS_PER_GROUP),
                torch.split(week, TASKS_PER_GROUP),
                strict=True,
            )
        )
        for tasks, weeks in pieces[self.global_rank :: self.trainer.world_size]:
            inputs, targets = windows.inputs_and_targets(tasks)
            targets = self._counted(targets)
            forecast = forecast_growth(
                self.predict_raw(inputs).float(), targets, self.confidence
            ).growth
            loss = targets.weight * target_losses(forecast, targets, self.loss_config).loss
            error = forecast[0, :, -1] - targets.actual_growth[:, -1]
            value = targets.observed_value + targets.actual_growth[:, -1]
            columns = (loss.sum(1), targets.weight.sum(1), error.abs(), error, value.abs())
            users = windows.relative_users[tasks.cohort_index].unsqueeze(1)
            sums.index_add_(0, weeks, users * torch.column_stack(columns))
        self.train()
        all_reduce_sum(sums)
        total = sums.sum(dim=0)
        weeks_losses = (sums[:, 0] / total[1]).tolist()
        return weeks_losses, float(total[2] / total[4]), float(total[3] / total[4])

    def on_train_start(self) -> None:
        """Score the untrained net: training must beat it."""
        if self.validation is not None and not self.validation_scores:
            self.validation_scores.append(self.validate()[0])

    def train_dataloader(self) -> EpochSampler:
        """The tasks of this epoch; called anew for each, so that a resumed run draws the same.

        Dropout goes on from there, and differs between processes.
        """
        torch.manual_seed(self._seed(self.current_epoch) + PROCESS_SEED_STRIDE * self.global_rank)
        return self._draws(self.current_epoch)

    def transfer_batch_to_device(self, batch: BatchGroup, *_: object) -> BatchGroup:
        """All is on the device."""
        return batch

    def on_train_epoch_end(self) -> None:
        """Score the epoch, and log each so many steps."""
        losses = torch.stack(self.losses)
        all_reduce_sum(losses)
        sizes = torch.tensor(self.sizes, device=self.device)
        metrics = {"train/loss_epoch": float((losses * sizes).sum() / sizes.sum())}
        self._logged(losses.tolist())
        self.losses, self.sizes, self.rates = [], [], []
        if self.validation is not None:
            weeks, wape, bias = self.validate()
            self.validation_scores.append(weeks)
            metrics |= {"val/loss": sum(weeks), "val/wape": wape, "val/bias": bias}
        self.log_dict(metrics)
        if self.told and self.trainer.is_global_zero:
            text = ", ".join(f"{name} {value:.5f}" for name, value in metrics.items())
            log.info("epoch %d of %d: %s", self.current_epoch + 1, self.trainer.max_epochs, text)

    def _logged(self, losses: list[float]) -> None:
        """Write each so many losses of the steps of an epoch."""
        first = self.current_epoch * self.steps_per_epoch
        if self.logger is None:
            return
        for step, (loss, rate) in enumerate(zip(losses, self.rates, strict=True), start=first):
            if (step + 1) % self.hardware.log_every == 0:
                self.logger.log_metrics({"train/loss_step": loss, "rate": rate}, step)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW under a one-cycle rate over the whole schedule, wherever this fit stops."""
        optimizer = torch.optim.AdamW(
            self.net_parameters,
            lr=self.training_config.peak_rate(self.plan.batch_size),
            weight_decay=self.training_config.weight_decay,
            fused=True,
        )
        schedule = OneCycleLR(
            optimizer, self.training_config.peak_rate(self.plan.batch_size), self.schedule_steps
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @cached_property
    def net_parameters(self) -> list[nn.Parameter]:
        """Those of the net: looking for them takes a while, at each step."""
        return list(self.net.parameters())

    @cached_property
    def averaged_parameters(self) -> list[nn.Parameter]:
        """Those of the averaged net."""
        return list(self.average.parameters())

    @property
    def schedule_steps(self) -> int:
        """Steps of the whole schedule, wherever this fit stops."""
        return self.training_config.epochs * self.steps_per_epoch

    @cached_property
    def _data(self) -> str:
        return hash_curve_values(self.cohort_tensors)

    def get_extra_state(self) -> dict[str, Any]:
        """With the weights: scores of the epochs so far, and of what data and schedule they are."""
        return {"scores": self.validation_scores, "data": self._data, "steps": self.schedule_steps}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up the scores of the epochs so far."""
        self.validation_scores = list(state["scores"])


def is_single_process() -> bool:
    """Whether there is one process."""
    return not (dist.is_available() and dist.is_initialized())


def all_reduce_sum(part: Tensor) -> None:
    """Add up a tensor over processes, in place."""
    if not is_single_process():
        dist.all_reduce(part)


def hash_curve_values(windows: CohortTensors) -> str:
    """SHA-256 of the curves that a net learns from."""
    return hashlib.sha256(windows.values.cpu().numpy().tobytes()).hexdigest()
