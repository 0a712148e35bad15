"""`train_net()`: Lightning's trainer around a net, its checkpoints and its log."""

import logging
import os
import pickle
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.strategies import DDPStrategy, Strategy
from rich.console import Console
from rich.progress import Progress

from ltvnet.forecasting.run_context import HardwareConfig
from ltvnet.models.neural.training_config import TrainingConfig, TrainingJob
from ltvnet.models.neural.training_module import ResidualTrainingModule, hash_curve_values
from ltvnet.storage import report_event_errors_once


class ManualReduceDDP(DDPStrategy):
    """Processes whose module adds up gradients by itself, as a loss is a ratio of sums."""

    def configure_ddp(self) -> None:
        """Wrap nothing."""


def train_net(
    job: TrainingJob, training: TrainingConfig, hardware: HardwareConfig
) -> list[list[float]]:
    """Train the net of `job` in place: it takes the averaged weights.

    Returns each week's part of the validation loss before training and after each epoch. With a
    folder, TensorBoard events and the checkpoints `best` and `last` are written there, and
    a fit that was cut off continues from `last`. Raises ValueError when that file is not a plain
    checkpoint of this net, or one of other data or another schedule, and for hardware that is not
    there.
    """
    torch.set_num_threads(hardware.threads)
    module = ResidualTrainingModule(job=job, training=training, hardware=hardware)
    checkpoint = _checkpoint_to_resume(job)
    if checkpoint is not None:
        _check_checkpoint(checkpoint, module)

    torch.set_float32_matmul_precision("high" if hardware.precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = hardware.precision == "tf32"
    with _quiet_lightning(), report_event_errors_once(job.event_folder or Path()):
        try:
            trainer = _make_trainer(job, training, hardware)
        except MisconfigurationException as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"expected trainer=cpu, or hardware for trainer.accelerator={hardware.accelerator} "
                f"and trainer.devices={hardware.devices}, got none: {reason}"
            ) from error
        trainer.fit(module, ckpt_path=checkpoint, weights_only=True)

    module.captured_graph = None  # it holds the module, and memory of the GPU
    job.net.load_state_dict(module.average.state_dict())
    job.net.cpu().eval()
    return module.validation_scores


def _make_trainer(
    job: TrainingJob, training: TrainingConfig, machine: HardwareConfig
) -> pl.Trainer:
    writes_checkpoints = job.checkpoint_folder is not None
    return pl.Trainer(
        accelerator=machine.accelerator,
        devices=machine.devices,
        strategy=_lightning_strategy(machine),
        # processes are ours, whatever scheduler (SLURM, LSF, torchrun) this one was started by
        plugins=[LightningEnvironment()],
        max_epochs=job.stop_epoch,
        logger=_event_logger(job.event_folder),
        callbacks=list(_callbacks(job, training)),
        enable_checkpointing=writes_checkpoints,
        enable_model_summary=False,
        enable_progress_bar=False,  # ours has a name, and counts all epochs
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        default_root_dir=job.checkpoint_folder,
    )


def _lightning_strategy(machine: HardwareConfig) -> Strategy | str:
    if machine.strategy == "ddp":
        return ManualReduceDDP(start_method=process_start_method(machine))
    return "auto"


def process_start_method(machine: HardwareConfig) -> Literal["fork", "spawn"]:
    """How processes are started: forking is fast, but does not go with CUDA."""
    on_cpu = machine.accelerator == "cpu" or not torch.accelerator.is_available()
    return "fork" if on_cpu and hasattr(os, "fork") else "spawn"


def _callbacks(job: TrainingJob, training: TrainingConfig) -> Iterator[pl.Callback]:
    """Yield what shows progress, writes checkpoints and stops early, if anything is written."""
    if job.checkpoint_folder is None:
        return
    if sys.stderr.isatty():
        yield TrainingBar(job.name)
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


class EventLogger(TensorBoardLogger):
    """TensorBoard's logger without what nobody reads: the number of each epoch, an empty file."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write metrics of a step, but for the number of its epoch."""
        super().log_metrics({name: metrics[name] for name in metrics if name != "epoch"}, step)

    def save(self) -> None:
        """Write what was logged so far; no file of hyper-parameters, as there are none here."""
        self.experiment.flush()


class TrainingBar(pl.Callback):
    """Bar of a fit on a terminal: its name, the epoch, steps of all epochs and the time left."""

    def __init__(self, name: str) -> None:
        """Take the name of the fit."""
        self.name = name
        self.progress = Progress(console=Console(stderr=True), transient=True)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        assert isinstance(pl_module, ResidualTrainingModule)
        assert trainer.max_epochs is not None
        if trainer.is_global_zero:
            steps = trainer.max_epochs * pl_module.schedule.steps_per_epoch
            self.bar = self.progress.add_task(self.name, total=steps)
            self.progress.start()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Move the bar on."""
        if trainer.is_global_zero:
            assert trainer.max_epochs is not None
            self.progress.update(
                self.bar,
                description=describe_epoch(self.name, trainer.current_epoch, trainer.max_epochs),
                completed=trainer.global_step,
            )

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Remove the bar."""
        self.progress.stop()

    def on_exception(self, *_: object) -> None:
        """Remove the bar."""
        self.progress.stop()


def describe_epoch(name: str, epochs_done: int, epochs: int) -> str:
    """Say how far a fit is.

    >>> describe_epoch("lstm", 0, 12)
    'lstm, epoch 1 of 12'
    """
    return f"{name}, epoch {epochs_done + 1} of {epochs}"


def _event_logger(event_folder: Path | None) -> TensorBoardLogger | bool:
    """TensorBoard's logger into a folder; False for none."""
    if event_folder is None:
        return False
    return EventLogger(event_folder.parent, event_folder.name, "")


def _checkpoint_to_resume(job: TrainingJob) -> Path | None:
    """The last checkpoint of a fit that was cut off; None where there is none."""
    if job.checkpoint_folder is None:
        return None
    checkpoint = job.checkpoint_folder / "last.ckpt"
    return checkpoint if checkpoint.exists() else None


def _check_checkpoint(checkpoint: Path, module: ResidualTrainingModule) -> None:
    """Raise ValueError unless a file holds plain tensors and numbers, whole, of the same fit."""
    try:
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{checkpoint} is not a checkpoint of plain tensors (it may be cut off, or hold code) "
            "and was not loaded: delete it to train anew"
        ) from error

    state = content.get("state_dict", {}).get("_extra_state")
    if state is None or state.get("steps") != module.schedule.total_steps:
        raise ValueError(
            f"{checkpoint} was written by another version or with another schedule (epochs, tasks, "
            "batches): delete it to train anew"
        )
    if state["data"] != hash_curve_values(module.cohort_tensors):
        raise ValueError(
            "the data have changed since this run was cut off: train anew, with another out"
        )


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's hints off the log, and its port out of the environment; hand ctrl-C on."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    interrupt_handler = signal.getsignal(signal.SIGINT)
    environment = {name: os.environ.get(name) for name in ("MASTER_ADDR", "MASTER_PORT")}

    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            yield
    except SystemExit as error:  # which Lightning makes of it, and ignores it from then on
        signal.signal(signal.SIGINT, interrupt_handler)
        raise KeyboardInterrupt from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name, value in environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
