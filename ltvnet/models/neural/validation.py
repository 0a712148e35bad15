"""Validation of a net at an inner origin: tasks of which is known what became of them.

Shapes: B tasks, T targets, Q quantities (mean first), W acquisition weeks.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from ltvnet.models.neural.cohort_tensors import CohortTensors, Tasks
from ltvnet.models.neural.nets.heads import TaskTargets


@dataclass(frozen=True)
class ValidationSet:
    """Tasks at an inner origin, cohorts with what became of them since, and clusters of tasks.

    `week_index` (B,) number of the acquisition week of each task: tasks of a week err alike.
    """

    cohort_tensors: CohortTensors
    tasks: Tasks
    week_index: Tensor

    @property
    def week_count(self) -> int:
        """Number W of acquisition weeks."""
        return int(self.week_index.max()) + 1

    def to(self, device: torch.device) -> Self:
        """Copy all tensors to a device."""
        tasks = Tasks(self.tasks.cohort_index.to(device), self.tasks.observed_age.to(device))
        return type(self)(self.cohort_tensors.to(device), tasks, self.week_index.to(device))

    def split(self, size: int) -> list[tuple[Tasks, Tensor]]:
        """Split into tasks with the numbers of their weeks, at most `size` at a time."""
        week_parts = torch.split(self.week_index, size)
        return list(zip(self.tasks.split(size), week_parts, strict=True))


class ValidationResult(NamedTuple):
    """Each week's part of the validation loss, and WAPE and bias of the mean at the last age."""

    weekly_losses: list[float]
    wape: float
    bias: float

    @classmethod
    def from_sums(cls, sums: Tensor) -> Self:
        """Form ratios of sums (W, 5) of the columns of `error_columns`."""
        _, weight, absolute_error, error, value = sums.sum(dim=0)
        weekly_losses = (sums[:, 0] / weight).tolist()
        return cls(weekly_losses, float(absolute_error / value), float(error / value))


def error_columns(forecast: Tensor, loss: Tensor, targets: TaskTargets) -> Tensor:
    """Loss, weight, absolute error, error and absolute value at the last age of tasks: (B, 5).

    `forecast` (Q, B, T) growth, `loss` (B, T) weighted.
    """
    error = forecast[0, :, -1] - targets.actual_growth[:, -1]
    value = targets.observed_value + targets.actual_growth[:, -1]
    columns = (loss.sum(1), targets.weight.sum(1), error.abs(), error, value.abs())
    return torch.column_stack(columns)
