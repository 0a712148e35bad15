"""Training of a net on windows: the LightningModule and `fit()`.

Shapes: B tasks, I intervals, Q quantities, T targets.
"""

import hashlib
import logging
import os
import pickle
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    EarlyStopping,
    ModelCheckpoint,
    RichProgressBar,
)
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.strategies import DDPStrategy, Strategy
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch import distributed as dist
from torch.optim.lr_scheduler import OneCycleLR

from ltvnet.draws import BLOCK, Block, Draws, Plan, Share
from ltvnet.jobs import Job, Machine, Training
from ltvnet.nets.heads import Inputs, Targets, at_targets, departures, deviance, huber, pinball
from ltvnet.windows import Tasks, Validation, Windows

log = logging.getLogger(__name__)

NEGLIGIBLE = 1e-6
"""Targets whose pattern growth is below this share of the mean are masked."""

PROCESS = 1_000_003
"""Between the seeds of processes: more than there are of epochs."""


class Shared(DDPStrategy):
    """Processes whose module adds up gradients by itself, as a loss is a ratio of sums."""

    def configure_ddp(self) -> None:
        """Wrap nothing."""


class Departure(pl.LightningModule):
    """A net learning its departure from the pattern.

    Lightning's own steps cost as much as those of a small net, so that one of them takes a block
    of batches; gradients of several processes are added up here.
    """

    scale: Tensor

    def __init__(self, *, job: Job, training: Training, machine: Machine) -> None:
        """Take the net and its data; nothing is random here."""
        super().__init__()
        self.automatic_optimization = False
        self.net, self.windows, self.validation = job.net, job.windows, job.validation
        self.confidence, self.seed = job.confidence, job.seed
        self.config, self.machine = training, machine
        self.plan = Plan(each=training.tasks, size=training.batch_size, unseen=training.unseen)
        self.steps = self.plan.steps(job.windows)
        self.weight = 1.0 - 0.5 ** (1 / (training.average * self.steps))
        self.average = deepcopy(self.net).eval().requires_grad_(requires_grad=False)
        self.register_buffer("scale", torch.zeros(()))
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

    def _counted(self, targets: Targets) -> tuple[Targets, Tensor]:
        """Targets without those of next to no pattern growth, and 1 at these, else 0: (B, T, 1).

        They get weight 0, and pattern growth 1 that ratios can be formed with; what is added to
        the forecast serves the same end.
        """
        counts = (targets.pattern > NEGLIGIBLE * self.scale).float()
        left_out = 1.0 - counts
        pattern = targets.pattern * counts + left_out
        weight = targets.weight * counts
        return targets._replace(pattern=pattern, weight=weight), left_out.unsqueeze(2)

    def grown(self, inputs: Inputs, targets: Targets) -> tuple[Tensor, Tensor]:
        """Forecast growth at targets (B, T, Q), and the mean's z (B, I)."""
        net = self.net if self.training else self.average
        raw = net(inputs).float()  # (B, I, Q)
        forecast = at_targets(departures(raw, self.confidence), targets)
        return forecast, self.confidence * raw[..., 0]

    def loss(self, forecast: Tensor, targets: Targets) -> Tensor:
        """Loss of forecast growth (B, T, Q) at each target: (B, T)."""
        if self.config.loss == "deviance":
            mean = deviance(forecast[..., 0], targets, self.scale)
        else:
            mean = huber(forecast[..., 0], targets, targets.value.unsqueeze(1))
        return mean + self.config.quantiles * pinball(forecast[..., 1:], targets)

    def training_step(self, block: Block, _: int) -> None:
        """Steps through the batches of a block."""
        targets, left_out = self._counted(block.batch.targets)
        targets = targets._replace(weight=targets.weight * self._credible(block.batch.cohort))
        total = torch.stack([part.sum() for part in torch.split(targets.weight, block.own)])
        summed(total)
        batches = block.batch._replace(targets=targets).split(block.own)
        optimizer, schedule = self.optimizers(), self.lr_schedulers()
        assert isinstance(optimizer, LightningOptimizer) and isinstance(schedule, OneCycleLR)
        for batch, out, weight, size in zip(
            batches, torch.split(left_out, block.own), total, block.sizes, strict=True
        ):
            forecast, z = self.grown(batch.inputs, batch.targets)
            loss = (batch.targets.weight * self.loss(forecast + out, batch.targets)).sum() / weight
            loss = loss + self.config.penalty * z.square().sum() / (size * z.shape[1])
            optimizer.zero_grad()
            loss.backward()
            self._add_up()
            nn.utils.clip_grad_norm_(self.net.parameters(), self.config.clip)
            self.rates.append(float(schedule.get_last_lr()[0]))
            optimizer.step()
            schedule.step()
            self._averaged(schedule.last_epoch)
            self.losses.append(loss.detach())
        self.sizes.extend(block.sizes)

    def _add_up(self) -> None:
        """Add up gradients over processes."""
        if self.trainer.world_size == 1:
            return
        gradients = [x.grad for x in self.net.parameters() if x.grad is not None]
        whole = torch.cat([gradient.flatten() for gradient in gradients])
        summed(whole)
        parts = torch.split(whole, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    @torch.no_grad()
    def _averaged(self, steps: int) -> None:
        """Average the weights of the steps so far; the first stands for itself."""
        mean, now = ([x.data for x in net.parameters()] for net in (self.average, self.net))
        torch._foreach_lerp_(mean, now, 1.0 if steps == 1 else self.weight)

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
            targets, out = self._counted(targets)
            forecast, _ = self.grown(inputs, targets)
            loss = targets.weight * self.loss(forecast + out, targets)
            error = forecast[:, -1, 0] - targets.growth[:, -1]
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
            self.net.parameters(),
            lr=self.config.rate,
            weight_decay=self.config.weight_decay,
            fused=True,
        )
        steps = self.config.epochs * self.steps
        schedule = OneCycleLR(optimizer, self.config.rate, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @cached_property
    def _data(self) -> str:
        return fingerprint(self.windows)

    def get_extra_state(self) -> dict[str, Any]:
        """The scores of the epochs so far, and which data they are of: with the weights."""
        return {"scores": self.scores, "data": self._data}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up the scores of the epochs so far."""
        self.scores = list(state["scores"])


def summed(part: Tensor) -> None:
    """Add up a tensor over processes, in place."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(part)


def fingerprint(windows: Windows) -> str:
    """SHA-256 of the curves that a net learns from."""
    return hashlib.sha256(windows.values.cpu().numpy().tobytes()).hexdigest()


def _processes(machine: Machine) -> Strategy | str:
    """Lightning's strategy."""
    return Shared(start_method=_start_method(machine)) if machine.strategy == "ddp" else "auto"


def _start_method(machine: Machine) -> Literal["fork", "spawn"]:
    """Forking is fast, but does not go with CUDA."""
    cpu = machine.accelerator == "cpu" or not torch.accelerator.is_available()
    return "fork" if cpu and hasattr(os, "fork") else "spawn"


def fit(job: Job, training: Training, machine: Machine) -> list[list[float]]:
    """Train the net of `job` in place: it takes the averaged weights.

    Returns each week's part of the validation loss before training and after each epoch. With a
    folder, TensorBoard events and the checkpoints `best` and `last` are written there, and
    a fit that was cut off continues from `last`. Raises ValueError when that file is not a plain
    checkpoint of this net, or one of other data.
    """
    last = None if job.folder is None else job.folder / "last.ckpt"
    resume = last if last is not None and last.exists() else None
    if resume:
        _check(resume, job)
    torch.set_num_threads(machine.threads)
    module = Departure(job=job, training=training, machine=machine)
    torch.set_float32_matmul_precision("high" if machine.precision == "tf32" else "highest")
    with _tamed():
        trainer = pl.Trainer(
            accelerator=machine.accelerator,
            devices=machine.devices,
            strategy=_processes(machine),
            precision="bf16-mixed" if machine.precision == "bf16-mixed" else "32-true",
            max_epochs=job.stop,
            logger=_tensorboard(job.events),
            callbacks=list(_callbacks(job, training)),
            enable_checkpointing=job.folder is not None,
            enable_model_summary=False,
            enable_progress_bar=job.folder is not None and sys.stderr.isatty(),
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
            default_root_dir=job.folder,
        )
        trainer.fit(module, ckpt_path=resume, weights_only=True)
    job.net.load_state_dict(module.average.state_dict())
    job.net.cpu().eval()
    return module.scores


def _check(checkpoint: Path, job: Job) -> None:
    """Raise ValueError unless a file holds plain tensors and numbers, whole, of the same data."""
    try:
        with warnings.catch_warnings(action="ignore"):
            found = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{checkpoint} is not a checkpoint of plain tensors (it may be cut off, or hold code) "
            "and was not loaded: delete it to train anew"
        ) from error
    state = found.get("state_dict", {}).get("_extra_state")
    if state is None:
        raise ValueError(f"{checkpoint} was written by another version: delete it to train anew")
    if state["data"] != fingerprint(job.windows):
        raise ValueError(
            "the data have changed since this run was cut off: train anew, with another out"
        )


def _callbacks(job: Job, training: Training) -> Iterator[pl.Callback]:
    if job.folder is None:
        return
    if sys.stderr.isatty():
        yield RichProgressBar()
    monitor = "val/loss" if job.validation is not None else None
    yield ModelCheckpoint(
        job.folder,
        "best",
        monitor=monitor,
        save_last=True,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    if job.validation is not None:
        yield EarlyStopping("val/loss", patience=training.patience, check_on_train_epoch_end=True)


def _tensorboard(events: Path | None) -> TensorBoardLogger | bool:
    return False if events is None else TensorBoardLogger(events.parent, events.name, "")


@contextmanager
def _tamed() -> Iterator[None]:
    """Keep Lightning's hints off the log, and its port out of the environment; hand ctrl-C on."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels, stop = [logger.level for logger in loggers], signal.getsignal(signal.SIGINT)
    given = {name: os.environ.get(name) for name in ("MASTER_ADDR", "MASTER_PORT")}
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            yield
    except SystemExit as error:  # which Lightning makes of it, and ignores it from then on
        signal.signal(signal.SIGINT, stop)
        raise KeyboardInterrupt from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name, value in given.items():
            os.environ.pop(name, None)
            os.environ |= {} if value is None else {name: value}
