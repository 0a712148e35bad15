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
from ltvnet.models.neural.cuda_graphs import Recorded
from ltvnet.models.neural.nets.heads import Inputs, Targets
from ltvnet.models.neural.nets.losses import Rule, graded, grown, learned
from ltvnet.models.neural.task_sampling import BLOCK, Batch, Block, Draws, Plan, Share
from ltvnet.models.neural.training_config import Job, Training
from ltvnet.models.neural.windows import Tasks, Validation, Windows

log = logging.getLogger(__name__)

NEGLIGIBLE = 1e-6
"""Targets whose pattern growth is below this share of the mean are masked."""

TINY = 1e-30
"""Least weight of a batch: of one in which nothing counts, nothing is learned."""

PROCESS = 1_000_003
"""Between the seeds of processes: more than there are of epochs."""


class Departure(pl.LightningModule):
    """A net learning its departure from the pattern.

    Lightning's own steps cost as much as those of a small net, so that one of them takes a block
    of batches; gradients of several processes are added up here.
    """

    scale: Tensor

    def __init__(self, *, job: Job, training: Training, machine: HardwareConfig) -> None:
        """Take the net and its data; nothing is random here."""
        super().__init__()
        self.automatic_optimization = False
        self.net, self.windows, self.validation = job.net, job.windows, job.validation
        self.confidence, self.seed = job.confidence, job.seed
        self.config, self.machine = training, machine
        size = training.batch(job.windows.grown * training.tasks)
        self.plan = Plan(each=training.tasks, size=size, unseen=training.unseen)
        self.steps = self.plan.steps(job.windows)
        self.weight = 1.0 - 0.5 ** (1 / (training.average * self.steps))
        self.average = deepcopy(self.net).eval().requires_grad_(requires_grad=False)
        self.register_buffer("scale", torch.zeros(()))
        self.recorded: Recorded | None = None
        self.told = job.folder is not None and not sys.stderr.isatty()  # else there is a bar
        self.scores: list[list[float]] = []
        self.losses: list[Tensor] = []
        self.sizes: list[int] = []
        self.rates: list[float] = []

    def setup(self, stage: str) -> None:
        """Bring the data to the device of the net, and measure the scale of the loss there."""
        torch.set_num_threads(self.machine.threads)  # Lightning sets others in its processes
        self.windows = self.windows.to(self.device)
        if self.validation is not None:
            moved = Tasks(*(x.to(self.device) for x in self.validation.tasks))
            windows, week = self.validation.windows, self.validation.week
            self.validation = Validation(windows.to(self.device), moved, week.to(self.device))
        sums = torch.zeros(2, device=self.device)
        for tasks in self._draws(0).tasks.split(BLOCK):
            targets = self.windows.targets(tasks)
            weight = targets.weight * self._credible(tasks.cohort)
            sums += torch.stack(((weight * targets.pattern).sum(), weight.sum()))
        self.scale = (sums[0] / sums[1]).to(self.scale.device)

    def _seed(self, epoch: int) -> int:
        return self.seed * 100_003 + epoch

    def _draws(self, epoch: int) -> Draws:
        share = Share(self.global_rank, self.trainer.world_size)
        return Draws(windows=self.windows, plan=self.plan, seed=self._seed(epoch), share=share)

    def _credible(self, cohort: Tensor) -> Tensor:
        """Weight of cohorts by their users: (B, 1)."""
        users = self.windows.users.index_select(0, cohort)
        return (users / (users + self.config.users)).unsqueeze(1)

    @property
    def rule(self) -> Rule:
        """What is learned, on the scale of these data."""
        return Rule(self.config.loss, self.confidence, self.config.quantiles, self.scale)

    def _counted(self, targets: Targets) -> Targets:
        """Targets of which those of next to no pattern growth have weight 0.

        They get pattern growth 1 too, that ratios can be formed with.
        """
        counts = (targets.pattern > NEGLIGIBLE * self.scale).float()
        pattern = targets.pattern * counts + (1.0 - counts)
        return targets._replace(pattern=pattern, weight=targets.weight * counts)

    def raw(self, inputs: Inputs) -> Tensor:
        """Raw z (B, I, Q) of the net, or of its average where it does not train."""
        net = self.net if self.training else self.average
        bfloat16 = self.machine.precision == "bf16-mixed"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
            found: Tensor = net(inputs)
        return found

    def training_step(self, block: Block, _: int) -> None:
        """Steps through the batches of a block."""
        optimizer, schedule = self.optimizers(), self.lr_schedulers()
        assert isinstance(optimizer, LightningOptimizer) and isinstance(schedule, OneCycleLR)
        for batch, size in zip(self.batches(block), block.sizes, strict=True):
            self.losses.append(self.learn(batch, size))
            self.rates.append(float(schedule.get_last_lr()[0]))
            optimizer.step()
            schedule.step()
            self._averaged(schedule.last_epoch)
        self.sizes.extend(block.sizes)

    def batches(self, block: Block) -> Iterator[Batch]:
        """The batches of a block, the weights of whose targets add up to 1 over all processes."""
        targets = self._counted(block.batch.targets)
        targets = targets._replace(weight=targets.weight * self._credible(block.batch.cohort))
        total = torch.stack([part.sum() for part in torch.split(targets.weight, block.own)])
        summed(total)
        batches = block.batch._replace(targets=targets).split(block.own)
        for batch, weight in zip(batches, total.clamp_(min=TINY), strict=True):
            share = batch.targets.weight / weight
            yield batch._replace(targets=batch.targets._replace(weight=share))

    def learn(self, batch: Batch, size: int) -> Tensor:
        """What `gradient` does; on one GPU as a piece of work that is recorded once."""
        if self.recorded is None and self.device.type == "cuda" and alone():
            self.recorded = Recorded(partial(self.gradient, size=size), batch)
        if self.recorded is not None and self.recorded.fits(batch):
            return self.recorded(batch)
        return self.gradient(batch, size)

    def gradient(self, batch: Batch, size: int) -> Tensor:
        """Loss of a batch of `size` in all processes; its clipped gradient is left in the net."""
        for weight in self.weights:
            if self.recorded is None or weight.grad is None:
                weight.grad = None
            else:  # a replay knows where it is
                weight.grad.zero_()
        raw = self.raw(batch.inputs)
        penalty = self.config.penalty / (size * raw.shape[1])
        loss, slope = learned(raw.detach().float(), batch.targets, self.rule, penalty)
        raw.backward(slope.to(raw.dtype))  # type: ignore[no-untyped-call]
        self._add_up()
        nn.utils.clip_grad_norm_(self.weights, self.config.clip)
        return loss

    def _add_up(self) -> None:
        """Add up gradients over processes."""
        if alone():
            return
        gradients = [x.grad for x in self.weights if x.grad is not None]
        whole = torch.cat([gradient.flatten() for gradient in gradients])
        summed(whole)
        parts = torch.split(whole, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    @torch.no_grad()
    def _averaged(self, steps: int) -> None:
        """Average the weights of the steps so far; the first stands for itself."""
        pace = 1.0 if steps == 1 else self.weight
        torch._foreach_lerp_(self.averages, self.weights, pace)  # type: ignore[arg-type]

    @torch.no_grad()
    def validate(self) -> tuple[list[float], float, float]:
        """Each week's part of the user-weighted training loss after the inner origin.

        And the WAPE and the bias of the mean at the last age known.
        """
        assert self.validation is not None
        windows, week = self.validation.windows, self.validation.week
        sums = torch.zeros(int(week.max()) + 1, 5, device=self.device)
        self.eval()
        pieces = list(
            zip(self.validation.tasks.split(BLOCK), torch.split(week, BLOCK), strict=True)
        )
        for tasks, weeks in pieces[self.global_rank :: self.trainer.world_size]:
            inputs, targets = windows.both(tasks)
            targets = self._counted(targets)
            forecast = grown(self.raw(inputs).float(), targets, self.confidence).forecast
            loss = targets.weight * graded(forecast, targets, self.rule).loss
            error = forecast[0, :, -1] - targets.growth[:, -1]
            value = targets.value + targets.growth[:, -1]
            columns = (loss.sum(1), targets.weight.sum(1), error.abs(), error, value.abs())
            users = windows.users[tasks.cohort].unsqueeze(1)
            sums.index_add_(0, weeks, users * torch.column_stack(columns))
        self.train()
        summed(sums)
        total = sums.sum(dim=0)
        weeks_losses = (sums[:, 0] / total[1]).tolist()
        return weeks_losses, float(total[2] / total[4]), float(total[3] / total[4])

    def on_train_start(self) -> None:
        """Score the untrained net: training must beat it."""
        if self.validation is not None and not self.scores:
            self.scores.append(self.validate()[0])

    def train_dataloader(self) -> Draws:
        """The tasks of this epoch; called anew for each, so that a resumed run draws the same.

        Dropout goes on from there, and differs between processes.
        """
        torch.manual_seed(self._seed(self.current_epoch) + PROCESS * self.global_rank)
        return self._draws(self.current_epoch)

    def transfer_batch_to_device(self, batch: Block, *_: object) -> Block:
        """All is on the device."""
        return batch

    def on_train_epoch_end(self) -> None:
        """Score the epoch, and log each so many steps."""
        losses = torch.stack(self.losses)
        summed(losses)
        sizes = torch.tensor(self.sizes, device=self.device)
        metrics = {"train/loss_epoch": float((losses * sizes).sum() / sizes.sum())}
        self._logged(losses.tolist())
        self.losses, self.sizes, self.rates = [], [], []
        if self.validation is not None:
            weeks, wape, bias = self.validate()
            self.scores.append(weeks)
            metrics |= {"val/loss": sum(weeks), "val/wape": wape, "val/bias": bias}
        self.log_dict(metrics)
        if self.told and self.trainer.is_global_zero:
            text = ", ".join(f"{name} {value:.5f}" for name, value in metrics.items())
            log.info("epoch %d of %d: %s", self.current_epoch + 1, self.trainer.max_epochs, text)

    def _logged(self, losses: list[float]) -> None:
        """Write each so many losses of the steps of an epoch."""
        first = self.current_epoch * self.steps
        if self.logger is None:
            return
        for step, (loss, rate) in enumerate(zip(losses, self.rates, strict=True), start=first):
            if (step + 1) % self.machine.log_every == 0:
                self.logger.log_metrics({"train/loss_step": loss, "rate": rate}, step)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW under a one-cycle rate over the whole schedule, wherever this fit stops."""
        optimizer = torch.optim.AdamW(
            self.weights,
            lr=self.config.peak(self.plan.size),
            weight_decay=self.config.weight_decay,
            fused=True,
        )
        schedule = OneCycleLR(optimizer, self.config.peak(self.plan.size), self.schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @cached_property
    def weights(self) -> list[nn.Parameter]:
        """Those of the net: looking for them takes a while, at each step."""
        return list(self.net.parameters())

    @cached_property
    def averages(self) -> list[nn.Parameter]:
        """Those of the averaged net."""
        return list(self.average.parameters())

    @property
    def schedule(self) -> int:
        """Steps of the whole schedule, wherever this fit stops."""
        return self.config.epochs * self.steps

    @cached_property
    def _data(self) -> str:
        return fingerprint(self.windows)

    def get_extra_state(self) -> dict[str, Any]:
        """With the weights: scores of the epochs so far, and of what data and schedule they are."""
        return {"scores": self.scores, "data": self._data, "steps": self.schedule}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up the scores of the epochs so far."""
        self.scores = list(state["scores"])


def alone() -> bool:
    """Whether there is one process."""
    return not (dist.is_available() and dist.is_initialized())


def summed(part: Tensor) -> None:
    """Add up a tensor over processes, in place."""
    if not alone():
        dist.all_reduce(part)


def fingerprint(windows: Windows) -> str:
    """SHA-256 of the curves that a net learns from."""
    return hashlib.sha256(windows.values.cpu().numpy().tobytes()).hexdigest()
