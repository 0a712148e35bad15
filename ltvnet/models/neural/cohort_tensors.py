"""Curves as tensors on a device, where tasks (a cohort at an observed age) are gathered by index.

Shapes: N cohorts, A ages, B tasks, J nodes, I = J - 1 intervals, C attributes, T = I + 1 targets;
of covariates E features a node, H of nodes to come, P that do not change with age.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltvnet.data.arrays import Floats
from ltvnet.data.curves import NODE_AGES, NODES, Curves
from ltvnet.models.neural.input_scaling import InputScaling
from ltvnet.models.neural.lookup_tables import (
    CohortRows,
    CohortTable,
    TaskValues,
    node_ages,
    node_increments,
)
from ltvnet.models.neural.nets.heads import TaskInputs, TaskTargets
from ltvnet.models.neural.task_inputs import INPUT_GAIN, TaskInputBuilder
from ltvnet.models.neural.task_targets import TaskTargetBuilder
from ltvnet.models.pattern.expected_curves import CurrentExpectation, ExpectedCurves

DAMPING_VOLUME = 0.1
"""Revenue by which log ratios are damped, in volume units: ratios of less are mostly chance."""

MAX_RARITY = 5.0
"""Most by which a horizon that few cohorts have reached weighs more than a common one."""


class Tasks(NamedTuple):
    """Cohorts (row numbers) at observed ages, each (B,)."""

    cohort_index: Tensor
    observed_age: Tensor

    def split(self, size: int) -> Iterator["Tasks"]:
        """Split into batches of at most `size` tasks."""
        cohorts = torch.split(self.cohort_index, size)
        ages = torch.split(self.observed_age, size)
        return map(Tasks, cohorts, ages)


@dataclass(frozen=True)
class CohortTensors:
    """Everything that tasks are gathered from, resident on one device.

    `values` (N, A) revenue per user, 0 where unknown; `last_age` (N,) the last age known; `beta`
    (N, A), `prior` and `level` (N, A) or (N, 1) what the pattern expects (see ExpectedCurves);
    `relative_users` (N,) over those of a median cohort; `codes` (N, C); `node_covariates`
    (N, J, E), `future_calendar` (N, J, H) and `static_covariates` (N, P) what covariates say at
    nodes, of nodes to come, and at all ages; `rarity` (J,) weight of each node; `unit_per_user` the
    volume unit (currency) per user of a median cohort.
    """

    values: Tensor
    last_age: Tensor
    beta: Tensor
    prior: Tensor
    level: Tensor
    relative_users: Tensor
    codes: Tensor
    node_covariates: Tensor
    future_calendar: Tensor
    static_covariates: Tensor
    rarity: Tensor
    unit_per_user: float

    @classmethod
    def from_curves(cls, curves: Curves, expected: ExpectedCurves, scaling: InputScaling) -> Self:
        """Make the tensors of cohorts, each with at least one complete age."""
        return cls._from_values(curves, curves.values, expected, scaling)

    @classmethod
    def current_inputs(
        cls, curves: Curves, outlook: CurrentExpectation, scaling: InputScaling
    ) -> TaskInputs:
        """Make the inputs of each cohort at its observed age, of values at nodes alone: (N, ...).

        Faster than `from_curves` for a forecast, which needs no other ages and no targets.
        """
        observed_age = np.maximum(curves.observed_age, 0)
        prior = outlook.segment_level
        level = outlook.cohort_level
        beta_at_nodes = outlook.proportion_earned(NODE_AGES)
        expected = ExpectedCurves(beta_at_nodes, prior[:, None], level[:, None])
        tensors = cls._from_values(curves, curves.values[:, NODE_AGES], expected, scaling)

        value = np.nan_to_num(curves.observed_value)
        beta = outlook.proportion_earned(observed_age[:, None])[:, 0]
        task_values = TaskValues(_float32(value), _float32(beta), _float32(prior), _float32(level))
        return tensors._input_builder.build(
            torch.from_numpy(observed_age), tensors._input_rows(), task_values
        )

    @classmethod
    def _from_values(
        cls, curves: Curves, values: Floats, expected: ExpectedCurves, scaling: InputScaling
    ) -> Self:
        """Make the tensors of `values` and an expected `beta`, both at all ages or at nodes."""
        covariates = scaling.covariates.covariate_arrays(curves)
        reached_count = (curves.observed_age[:, None] >= NODE_AGES).sum(axis=0)  # (J,)
        rarity = np.minimum(len(curves) / np.maximum(reached_count, 1), MAX_RARITY)
        return cls(
            values=_float32(np.nan_to_num(values)),
            last_age=torch.from_numpy(curves.observed_age),
            beta=_float32(expected.beta),
            prior=_float32(expected.segment_level),
            level=_float32(expected.cohort_level),
            relative_users=_float32(curves.users / scaling.median_users),
            codes=scaling.encode_categories(curves),
            node_covariates=_float32(covariates.at_nodes),
            future_calendar=_float32(covariates.future_calendar),
            static_covariates=_float32(covariates.static),
            rarity=_float32(rarity),
            unit_per_user=scaling.unit_revenue / scaling.median_users,
        )

    def __len__(self) -> int:
        """Number of cohorts."""
        return len(self.last_age)

    @property
    def grown_cohort_count(self) -> int:
        """Number of cohorts that have grown, so that there is something to learn of them."""
        return len(self._grown_cohorts)

    def to(self, device: torch.device) -> Self:
        """Copy all tensors to a device."""
        moved: dict[str, Any] = {
            field.name: value.to(device)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)

    def draw_tasks(self, tasks_per_cohort: int, generator: torch.Generator) -> Tasks:
        """Draw tasks of every cohort that has grown, in random order, ages log-uniform.

        Drawn on the device of the tensors, which is that of `generator`.
        """
        device = self.last_age.device
        grown_cohorts = self._grown_cohorts
        task_count = len(grown_cohorts) * tasks_per_cohort
        order = torch.randperm(task_count, generator=generator, device=device)
        chance = torch.rand(task_count, generator=generator, device=device)

        cohort_index = grown_cohorts.index_select(0, order.remainder_(len(grown_cohorts)))
        last_age = self.last_age.index_select(0, cohort_index)
        log_last_age = self._target_builder.by_last_age.log_last_age.index_select(0, last_age)
        age = chance.mul_(log_last_age).exp_().long().sub_(1)
        oldest = last_age.sub_(1)  # one day at least is left to forecast
        return Tasks(cohort_index, torch.minimum(age, oldest).clamp_(min=0))

    def targets(self, tasks: Tasks) -> TaskTargets:
        """Targets of tasks, with weights: step in log age x rarity of the horizon."""
        rows = self._cohort_table.gather(tasks.cohort_index)
        return self._build_targets(tasks, rows, self._task_values(tasks))

    def inputs_and_targets(self, tasks: Tasks) -> tuple[TaskInputs, TaskTargets]:
        """Inputs and targets of tasks, which share the look-ups."""
        rows = self._cohort_table.gather(tasks.cohort_index)
        values = self._task_values(tasks)
        inputs = self._input_builder.build(tasks.observed_age, rows, values)
        return inputs, self._build_targets(tasks, rows, values)

    def _build_targets(self, tasks: Tasks, rows: CohortRows, values: TaskValues) -> TaskTargets:
        last_age = self.last_age.index_select(0, tasks.cohort_index)
        return self._target_builder.build(tasks.observed_age, last_age, rows, values)

    def _task_values(self, tasks: Tasks) -> TaskValues:
        """Look up values at the observed ages of tasks: (B,) each."""
        cell_index = tasks.cohort_index * self.values.shape[1] + tasks.observed_age

        def look_up(table: Tensor) -> Tensor:
            """Cells of a table (N, A), or rows of one that is the same at all ages (N, 1)."""
            index = tasks.cohort_index if table.shape[1] == 1 else cell_index
            return table.view(-1).index_select(0, index)

        return TaskValues(
            value=look_up(self.values),
            beta=look_up(self.beta),
            prior=look_up(self.prior),
            level=look_up(self.level),
        )

    @cached_property
    def _grown_cohorts(self) -> Tensor:
        """Row numbers of cohorts with more than one age."""
        return torch.nonzero(self.last_age > 0).squeeze(1)

    @cached_property
    def _node_ages(self) -> Tensor:
        return node_ages(self.last_age.device)

    def _at_nodes(self, table: Tensor) -> Tensor:
        """Columns of the nodes (N, J) of a table of all ages, or of nodes alone."""
        if table.shape[1] == len(NODES):
            return table
        return table.index_select(1, self._node_ages)

    def _input_rows(self) -> CohortRows:
        """Rows of all cohorts, without what only targets need."""
        volume_factor = self.relative_users / (DAMPING_VOLUME * self.unit_per_user)  # (N,)
        beta = self._at_nodes(self.beta)
        volume = volume_factor.unsqueeze(1) * self._at_nodes(self.values)  # (N, J)
        since_node_and_so_far = torch.cat((node_increments(volume), volume), dim=1)
        log_revenue = since_node_and_so_far.clamp_(min=-0.5).log1p_().mul_(INPUT_GAIN)
        return CohortRows(
            log_revenue=log_revenue,
            expected_shares=torch.cat((node_increments(beta).clamp_(min=0.0), beta), dim=1),
            target_values=beta[:, :0],
            volume_factor=volume_factor.unsqueeze(1),
            log_users=self.relative_users.clamp(min=1e-3).log_().unsqueeze(1),
            codes=self.codes.to(beta.dtype),
            node_covariates=self.node_covariates.flatten(1),
            future_calendar=self.future_calendar.flatten(1),
            static_covariates=self.static_covariates,
        )

    @cached_property
    def _cohort_table(self) -> CohortTable:
        """Rows of all cohorts, with what targets need."""
        rows = self._input_rows()
        last_age = self.last_age.unsqueeze(1)
        beta_at_last_age = self.beta.gather(1, last_age)
        shares = torch.cat((rows.expected_shares, beta_at_last_age), dim=1)
        values_at_ends = self._at_nodes(self.values)[:, 1:]
        target_values = torch.cat((values_at_ends, self.values.gather(1, last_age)), dim=1)
        return CohortTable.from_rows(
            rows._replace(expected_shares=shares, target_values=target_values)
        )

    @cached_property
    def _input_builder(self) -> TaskInputBuilder:
        return TaskInputBuilder.on_device(
            self.last_age.device,
            node_covariate_width=self.node_covariates.shape[2],
            future_calendar_width=self.future_calendar.shape[2],
        )

    @cached_property
    def _target_builder(self) -> TaskTargetBuilder:
        return TaskTargetBuilder.from_rarity(self.rarity)


def _float32(array: NDArray[np.floating[Any]]) -> Tensor:
    """Copy an array to a float32 tensor, row by row; one that is so already is shared."""
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
