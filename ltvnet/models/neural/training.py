"""`fit()`: Lightning's trainer around a net, its checkpoints and its log."""

import logging
import os
import pickle
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    EarlyStopping,
    ModelCheckpoint,
    RichProgressBar,
)
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.strategies import DDPStrategy, Strategy

from ltvnet.forecasting.run_context import HardwareConfig
from ltvnet.models.neural.training_config import TrainingConfig, TrainingJob
from ltvnet.models.neural.training_module import ResidualTrainingModule, hash_curve_values


class ManualReduceDDP(DDPStrategy):
    """Processes whose module adds up gradients by itself, as a loss is a ratio of sums."""

    def configure_ddp(self) -> None:
        """Wrap nothing."""


def _processes(machine: HardwareConfig) -> Strategy | str:
    """Lightning's strategy."""
    return (
        ManualReduceDDP(start_method=_start_method(machine))
        if machine.strategy == "ddp"
        else "auto"
    )


def _start_method(machine: HardwareConfig) -> Literal["fork", "spawn"]:
    """Forking is fast, but does not go with CUDA."""
    cpu = machine.accelerator == "cpu" or not torch.accelerator.is_available()
    return "fork" if cpu and hasattr(os, "fork") else "spawn"


def train_net(
    job: TrainingJob, training: TrainingConfig, machine: HardwareConfig
) -> list[list[float]]:
    """Train the net of `job` in place: it takes the averaged weights.

    Returns each week's part of the validation loss before training and after each epoch. With a
    folder, TensorBoard events and the checkpoints `best` and `last` are written there, and
    a fit that was cut off continues from `last`. Raises ValueError when that file is not a plain
    checkpoint of this net, or one of other data or another schedule.
    """
    last = None if job.checkpoint_folder is None else job.checkpoint_folder / "last.ckpt"
    resume = last if last is not None and last.exists() else None
    torch.set_num_threads(machine.threads)
    module = ResidualTrainingModule(job=job, training=training, machine=machine)
    if resume:
        _check(resume, module)
    torch.set_float32_matmul_precision("high" if machine.precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = machine.precision == "tf32"
    with _tamed():
        trainer = pl.Trainer(
            accelerator=machine.accelerator,
            devices=machine.devices,
            strategy=_processes(machine),
            max_epochs=job.stop_epoch,
            logger=_tensorboard(job.event_folder),
            callbacks=list(_callbacks(job, training)),
            enable_checkpointing=job.checkpoint_folder is not None,
            enable_model_summary=False,
            enable_progress_bar=job.checkpoint_folder is not None and sys.stderr.isatty(),
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
            default_root_dir=job.checkpoint_folder,
        )
        trainer.fit(module, ckpt_path=resume, weights_only=True)
    module.captured_graph = None  # it holds the module, and memory of the GPU
    job.net.load_state_dict(module.average.state_dict())
    job.net.cpu().eval()
    return module.validation_scores


def _check(checkpoint: Path, module: ResidualTrainingModule) -> None:
    """Raise ValueError unless a file holds plain tensors and numbers, whole, of the same fit."""
    try:
        with warnings.catch_warnings(action="ignore"):
            found = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{checkpoint} is not a checkpoint of plain tensors (it may be cut off, or hold code) "
            "and was not loaded: delete it to train anew"
        ) from error
    state = found.get("state_dict", {}).get("_extra_state")
    if state is None or state.get("steps") != module.schedule_steps:
        raise ValueError(
            f"{checkpoint} was written by another version or with another schedule (epochs, tasks, "
            "batches): delete it to train anew"
        )
    if state["data"] != hash_curve_values(module.cohort_tensors):
        raise ValueError(
            "the data have changed since this run was cut off: train anew, with another out"
        )


def _callbacks(job: TrainingJob, training: TrainingConfig) -> Iterator[pl.Callback]:
    if job.checkpoint_folder is None:
        return
    if sys.stderr.isatty():
        yield RichProgressBar()
    monitor = "val/loss" if job.validation is not None else None
    yield ModelCheckpoint(
        job.checkpoint_folder,
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
