"""Training of a net on windows: the LightningModule and `fit()`.

Shapes: B tasks, I intervals, Q quantities, T targets.
"""

import hashlib
import logging
import pickle
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
)
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ltvnet.nets.heads import Targets, at_targets, departures, deviance, huber, pinball
from ltvnet.windows import Tasks, Validation, Windows

log = logging.getLogger(__name__)

NEGLIGIBLE = 1e-6
"""Targets whose pattern growth is below this share of the mean are masked."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a net learns. Raises ValueError for a value outside its range.

    `epochs` of `tasks` drawn a cohort, in batches of `batch_size`; AdamW with `weight_decay` and
    a one-cycle rate up to `rate`; `loss` "deviance" or "huber" for the mean, `quantiles` weight
    of the pinball loss, `penalty` on z squared, `users` the multiple of a median cohort's users
    at which a task weighs half; `average` epochs in which a step's weight in the averaged net
    halves; `clip` norm of gradients; `patience` epochs without a better
    validation before the inner fit stops; `warm_epochs` of a fit that starts from another net;
    `unseen` share of attributes that are hidden in a step, so that new ones can be forecast.
    """

    epochs: int
    tasks: int
    batch_size: int
    rate: float
    weight_decay: float
    loss: str
    quantiles: float
    penalty: float
    users: float
    average: float
    clip: float
    patience: int
    warm_epochs: int
    unseen: float

    def __post_init__(self) -> None:
        """Check ranges."""
        counts = (self.epochs, self.tasks, self.batch_size, self.patience, self.warm_epochs)
        if min(counts) < 1:
            raise ValueError("expected epochs, tasks, batch_size, patience and warm_epochs >= 1")
        if (
            min(self.rate, self.clip, self.average) <= 0
            or min(self.weight_decay, self.penalty, self.users) < 0
        ):
            raise ValueError(
                "expected rate, clip and average > 0; weight_decay, penalty and users >= 0"
            )
        if not 0 <= self.unseen < 1:
            raise ValueError(f"expected unseen in [0, 1), got {self.unseen}")
        if self.loss not in ("deviance", "huber"):
            raise ValueError(f"expected loss=deviance or loss=huber, got {self.loss!r}")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a net learns: Lightning's accelerator, devices and strategy, and CPU threads.

    `log_every` steps between logged losses.
    """

    accelerator: str
    devices: int | str
    strategy: str
    threads: int
    log_every: int


@dataclass(frozen=True)
class Job:
    """One call of `fit()`: the net, its data, and when and where it stops and saves.

    `confidence` in 0..1 scales the mean's departure; `stop` epochs of the schedule to run;
    `folder` for checkpoints, continued where it stopped, and `events` for TensorBoard (both None:
    nothing is written).
    """

    net: nn.Module
    windows: Windows
    validation: Validation | None
    confidence: float
    seed: int
    stop: int
    folder: Path | None
    events: Path | None


class Draws:
    """Batches of tasks of one epoch, drawn from a seed."""

    def __init__(self, *, windows: Windows, config: Training, seed: int) -> None:
        """Draw all of them."""
        self.tasks = windows.draw(config.tasks, torch.Generator().manual_seed(seed))
        self.size = config.batch_size

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.tasks.cohort) // self.size)

    def __iter__(self) -> Iterator[Tasks]:
        """The batches in order."""
        return batches(self.tasks, self.size)


def batches(tasks: Tasks, size: int) -> Iterator[Tasks]:
    """Tasks in batches of at most `size`."""
    return map(Tasks, torch.split(tasks.cohort, size), torch.split(tasks.age, size))


class Departure(pl.LightningModule):
    """A net learning its departure from the pattern."""

    scale: Tensor

    def __init__(self, *, job: Job, training: Training) -> None:
        """Take the net and its data; nothing is random here."""
        super().__init__()
        self.net, self.windows, self.validation = job.net, job.windows, job.validation
        self.confidence, self.seed, self.config = job.confidence, job.seed, training
        self.scores: list[list[float]] = []
        decay = 0.5 ** (1 / (training.average * len(self._draws(0))))
        self.average = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]
        tasks = self._draws(0).tasks
        targets = self.windows.targets(tasks, self.windows.steps(tasks))
        users = self.windows.users[tasks.cohort].unsqueeze(1)
        weight = targets.weight * users / (users + training.users)
        self.register_buffer("scale", (weight * targets.pattern).sum() / weight.sum())

    def _seed(self, epoch: int) -> int:
        return self.seed * 100_003 + epoch

    def _draws(self, epoch: int) -> Draws:
        return Draws(windows=self.windows, config=self.config, seed=self._seed(epoch))

    def grown(self, windows: Windows, tasks: Tasks) -> tuple[Tensor, Targets, Tensor]:
        """Forecast growth at the targets of tasks (B, T, Q), the targets, and the mean's z (B, I).

        Targets with next to no pattern growth get weight 0, and growth 1 that ratios can be
        formed with.
        """
        steps = windows.steps(tasks)
        targets = windows.targets(tasks, steps)
        net = self.net if self.training else self.average
        inputs = windows.inputs(tasks)
        if self.training:
            inputs = inputs._replace(codes=self._hidden(inputs.codes))
        raw = net(inputs)  # (B, I, Q)
        forecast = at_targets(departures(raw, self.confidence), steps, targets)
        counts = targets.pattern > NEGLIGIBLE * self.scale  # (B, T)
        targets = targets._replace(
            pattern=torch.where(counts, targets.pattern, 1.0),
            weight=torch.where(counts, targets.weight, 0.0),
        )
        forecast = torch.where(counts.unsqueeze(-1), forecast, 1.0)
        return forecast, targets, self.confidence * raw[..., 0]

    def _hidden(self, codes: Tensor) -> Tensor:
        """Codes (B, C) of which a few are hidden: what stands for the unseen is learned so."""
        chance = torch.rand(codes.shape, device=codes.device)
        return torch.where(chance < self.config.unseen, 0, codes)

    def losses(self, forecast: Tensor, targets: Targets, value: Tensor) -> Tensor:
        """Sums over the targets of each task of weighted losses and of weights: (B, 2).

        `forecast` (B, T, Q) growth, `value` (B,) revenue per user at the observed age.
        """
        if self.config.loss == "deviance":
            mean = deviance(forecast[..., 0], targets, self.scale)
        else:
            mean = huber(forecast[..., 0], targets, value.unsqueeze(1))
        loss = mean + self.config.quantiles * pinball(forecast[..., 1:], targets)
        return torch.stack(((targets.weight * loss).sum(1), targets.weight.sum(1)), dim=1)

    def training_step(self, batch: Tasks, _: int) -> Tensor:
        """Weighted mean loss of a batch, with the penalty on the departure."""
        forecast, targets, z = self.grown(self.windows, batch)
        sums = self.losses(forecast, targets, self.windows.values[batch])
        users = self.windows.users[batch.cohort]
        credible = (users / (users + self.config.users)).unsqueeze(1)
        total = (credible * sums).sum(dim=0)
        loss = total[0] / total[1] + self.config.penalty * z.square().mean()
        self.log("train/loss", loss.detach(), on_step=True, on_epoch=True)
        return loss

    @torch.no_grad()
    def validate(self) -> tuple[list[float], float, float]:
        """Each week's part of the user-weighted training loss after the inner origin.

        And the WAPE and the bias of the mean at the last age known.
        """
        assert self.validation is not None
        windows, week, size = self.validation.windows, self.validation.week, self.config.batch_size
        sums = torch.zeros(int(week.max()) + 1, 5, device=self.device)
        self.eval()
        pieces = zip(batches(self.validation.tasks, size), torch.split(week, size), strict=True)
        for batch, weeks in pieces:
            forecast, targets, _ = self.grown(windows, batch)
            losses = self.losses(forecast, targets, windows.values[batch])
            error = forecast[:, -1, 0] - targets.growth[:, -1]
            value = windows.values[batch.cohort, windows.last[batch.cohort]]
            parts = torch.column_stack((losses, error.abs(), error, value.abs()))
            sums.index_add_(0, weeks, windows.users[batch.cohort].unsqueeze(1) * parts)
        self.train()
        total = sums.sum(dim=0)
        weeks_losses = [float(part) for part in sums[:, 0] / total[1]]
        return weeks_losses, float(total[2] / total[4]), float(total[3] / total[4])

    def setup(self, stage: str) -> None:
        """Bring the data to the device of the net."""
        self.windows = self.windows.to(self.device)
        if self.validation is not None:
            moved = Tasks(*(x.to(self.device) for x in self.validation.tasks))
            windows, week = self.validation.windows, self.validation.week
            self.validation = Validation(windows.to(self.device), moved, week.to(self.device))

    def on_train_start(self) -> None:
        """Score the untrained net: training must beat it."""
        if self.validation is not None and not self.scores:
            self.scores.append(self.validate()[0])

    def train_dataloader(self) -> Draws:
        """The tasks of this epoch; called anew for each, so that a resumed run draws the same."""
        torch.manual_seed(self._seed(self.current_epoch))
        return self._draws(self.current_epoch)

    def on_train_batch_end(self, *_: object) -> None:
        """Average the weights of the steps so far."""
        self.average.update_parameters(self.net)

    def on_train_epoch_end(self) -> None:
        """Score the epoch."""
        if self.validation is not None:
            losses, wape, bias = self.validate()
            self.scores.append(losses)
            self.log_dict({"val/loss": sum(losses), "val/wape": wape, "val/bias": bias})

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW under a one-cycle rate over the whole schedule, wherever this fit stops."""
        optimizer = torch.optim.AdamW(
            self.net.parameters(),
            lr=self.config.rate,
            weight_decay=self.config.weight_decay,
            fused=True,
        )
        steps = self.config.epochs * len(self._draws(0))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.config.rate, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @cached_property
    def _data(self) -> str:
        return hashlib.sha256(self.windows.values.cpu().numpy().tobytes()).hexdigest()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the scores of the epochs so far, and which data they are of."""
        checkpoint["scores"], checkpoint["data"] = list(self.scores), self._data

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the scores of the epochs so far. Raises ValueError for those of other data."""
        if checkpoint["data"] != self._data:
            raise ValueError(
                "the data have changed since this run was cut off: train anew, with another out"
            )
        self.scores = list(checkpoint["scores"])


class Lines(pl.Callback):
    """A plain log line an epoch, where there is no terminal for a bar."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the epoch's losses."""
        metrics = trainer.callback_metrics
        losses = [name for name in ("train/loss_epoch", "val/loss", "val/wape") if name in metrics]
        text = ", ".join(f"{name} {float(metrics[name]):.5f}" for name in losses)
        log.info("epoch %d of %d: %s", trainer.current_epoch + 1, trainer.max_epochs, text)


def fit(job: Job, training: Training, machine: Machine) -> list[list[float]]:
    """Train the net of `job` in place: it takes the averaged weights.

    Returns each week's part of the validation loss before training and after each epoch. With a
    folder, TensorBoard events and the checkpoints `best` and `last` are written there, and
    a fit that was cut off continues from `last`. Raises ValueError when that file is not a plain
    checkpoint of this net.
    """
    torch.set_num_threads(machine.threads)
    module = Departure(job=job, training=training)
    last = None if job.folder is None else job.folder / "last.ckpt"
    resume = last if last is not None and last.exists() else None
    if resume:
        _refuse_code(resume)
    with _tamed():
        trainer = pl.Trainer(
            accelerator=machine.accelerator,
            devices=machine.devices,
            strategy=machine.strategy,
            max_epochs=job.stop,
            gradient_clip_val=training.clip,
            logger=_tensorboard(job.events),
            callbacks=list(_callbacks(job, training)),
            enable_checkpointing=job.folder is not None,
            enable_model_summary=False,
            enable_progress_bar=job.folder is not None and sys.stderr.isatty(),
            log_every_n_steps=machine.log_every,
            reload_dataloaders_every_n_epochs=1,
            default_root_dir=job.folder,
        )
        trainer.fit(module, ckpt_path=resume, weights_only=True)
    job.net.load_state_dict(module.average.module.state_dict())
    job.net.cpu().eval()
    return module.scores


def _refuse_code(checkpoint: Path) -> None:
    """Raise ValueError unless a file holds plain tensors and numbers, whole."""
    try:
        with warnings.catch_warnings(action="ignore"):
            torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{checkpoint} is not a checkpoint of plain tensors (it may be cut off, or hold code) "
            "and was not loaded: delete it to train anew"
        ) from error


def _callbacks(job: Job, training: Training) -> Iterator[pl.Callback]:
    if job.folder is None:
        return
    yield RichProgressBar() if sys.stderr.isatty() else Lines()
    yield LearningRateMonitor(logging_interval="step")
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
    """Keep Lightning's hints, which are about data loaders, off the log; hand ctrl-C on."""
    logger, stop = logging.getLogger("pytorch_lightning"), signal.getsignal(signal.SIGINT)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            yield
    except SystemExit as error:  # which Lightning makes of it, and ignores it from then on
        signal.signal(signal.SIGINT, stop)
        raise KeyboardInterrupt from error
    finally:
        logger.setLevel(level)
