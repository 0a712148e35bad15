"""How a net learns, and one call of `train_net()`: plain data, checked where they are made."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self, get_args

from torch import nn

from ltvnet.models.neural.cohort_tensors import CohortTensors
from ltvnet.models.neural.nets.losses import MeanLoss
from ltvnet.models.neural.task_sampling import EpochPlan
from ltvnet.models.neural.validation import ValidationSet


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a net learns. Raises ValueError for a value outside its range.

    `epochs` of `tasks` drawn a cohort, in batches of `batch_size`, or of fewer where an epoch would
    not have `min_steps` of them; AdamW with `weight_decay` and a one-cycle rate up to `rate`, less
    for smaller batches; `loss` "deviance" or "huber" for the mean, `quantiles` weight of the
    pinball loss, `penalty` on z squared, `users` the multiple of a median cohort's users at which
    a task weighs half; `average` epochs in which a step's weight in the averaged net halves;
    `clip` norm of gradients; `patience` epochs without a better validation before the inner fit
    stops; `warm_epochs` of a fit that starts from another net; `unseen` share of attributes that
    are hidden in a step, so that new ones can be forecast.
    """

    epochs: int
    tasks: int
    batch_size: int
    min_steps: int
    rate: float
    weight_decay: float
    loss: MeanLoss
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
        for name in ("epochs", "tasks", "batch_size", "min_steps", "patience", "warm_epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {getattr(self, name)}")
        for name in ("rate", "clip", "average"):
            if getattr(self, name) <= 0:
                raise ValueError(f"expected {name} > 0, got {getattr(self, name)}")
        for name in ("weight_decay", "quantiles", "penalty", "users"):
            if getattr(self, name) < 0:
                raise ValueError(f"expected {name} >= 0, got {getattr(self, name)}")
        if not 0 <= self.unseen < 1:
            raise ValueError(f"expected unseen in [0, 1), got {self.unseen}")
        if self.loss not in get_args(MeanLoss):
            raise ValueError(f"expected loss=deviance or loss=huber, got {self.loss!r}")

    def batch_size_for(self, tasks: int) -> int:
        """Size of the batches of an epoch of so many tasks."""
        return max(min(self.batch_size, -(-tasks // self.min_steps)), 1)  # no tiny last one

    def peak_rate(self, batch: int) -> float:
        """Highest learning rate of batches of a size: the noise of a gradient falls as its root."""
        return self.rate * math.sqrt(batch / self.batch_size)


@dataclass(frozen=True)
class TrainingSchedule:
    """The steps of a fit, wherever it stops.

    `plan` of each epoch, `steps_per_epoch`, `total_steps` of all epochs, `peak_rate` the highest
    learning rate, `averaging_weight` of a step in the averaged net.
    """

    plan: EpochPlan
    steps_per_epoch: int
    total_steps: int
    peak_rate: float
    averaging_weight: float

    @classmethod
    def from_config(cls, config: TrainingConfig, cohort_tensors: CohortTensors) -> Self:
        """Work out the schedule of a fit on cohorts."""
        task_count = cohort_tensors.grown_cohort_count * config.tasks
        plan = EpochPlan(
            tasks_per_cohort=config.tasks,
            batch_size=config.batch_size_for(task_count),
            unseen_share=config.unseen,
        )
        steps_per_epoch = plan.count_batches(cohort_tensors)
        return cls(
            plan=plan,
            steps_per_epoch=steps_per_epoch,
            total_steps=config.epochs * steps_per_epoch,
            peak_rate=config.peak_rate(plan.batch_size),
            averaging_weight=1.0 - 0.5 ** (1 / (config.average * steps_per_epoch)),
        )


@dataclass(frozen=True)
class TrainingJob:
    """One call of `train_net()`: the net, its data, and when and where it stops and saves.

    `name` of the fit, under which its progress is shown; `confidence` in 0..1 scales the mean's
    departure; `stop_epoch` epochs of the schedule to run; `checkpoint_folder` for checkpoints,
    continued where it stopped, and `event_folder` for TensorBoard (both None: nothing is written).
    """

    name: str
    net: nn.Module
    cohort_tensors: CohortTensors
    validation: ValidationSet | None
    confidence: float
    seed: int
    stop_epoch: int
    checkpoint_folder: Path | None
    event_folder: Path | None
