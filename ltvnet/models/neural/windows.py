"""Curves as tensors on a device, where tasks (a cohort at an observed age) are gathered by index.

Shapes: N cohorts, A ages, B tasks, J nodes, I = J - 1 intervals, F features a node, S scalars,
C attributes, T = I + 1 targets; of covariates E features, H of nodes to come, P scalars.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ltvnet.data.arrays import Floats
from ltvnet.data.curves import AGES, NODES, Curves
from ltvnet.forecasting.evidence import frequent_categories
from ltvnet.forecasting.forecaster import State
from ltvnet.models.neural.covariates import CovariateConfig, CovariateScaling
from ltvnet.models.neural.lookup_tables import (
    AgeInputTable,
    AgeWeightTable,
    CohortRows,
    CohortTable,
    LastAgeTable,
    TaskValues,
    bit_mask,
    copy_masked,
    node_increments,
    scaled_log_age,
)
from ltvnet.models.neural.nets.heads import InputSizes, TaskInputs, TaskTargets
from ltvnet.models.pattern.pattern import CurrentExpectation, ExpectedCurves

CURVE_FEATURES, CURVE_SCALARS = 3, 6

DAMPING_VOLUME = 0.1
"""Revenue by which log ratios are damped, in volume units: ratios of less are mostly chance."""

INPUT_GAIN = 8.0
"""Log ratios at nodes are of the order of 0.1; nets want inputs of the order of one."""

MAX_RARITY = 5.0
"""Most by which a horizon that few cohorts have reached weighs more than a common one."""


class Tasks(NamedTuple):
    """Cohorts (row numbers) at observed ages, each (B,)."""

    cohort_index: Tensor
    observed_age: Tensor

    def split(self, size: int) -> Iterator["Tasks"]:
        """Tasks in batches of at most `size`."""
        return map(
            Tasks, torch.split(self.cohort_index, size), torch.split(self.observed_age, size)
        )


@dataclass(frozen=True)
class InputScaling:
    """Constants of the training data that tensors are made with.

    `unit` revenue (currency) of a median cohort to D7, `users` of a median cohort,
    `categories` attribute -> values that have a category of their own, in order, from 1;
    all others share category 0, the unseen bucket; `context` what stood beside the curves.
    """

    unit_revenue: float
    median_users: float
    categories: Mapping[str, Sequence[str]]
    covariates: CovariateScaling

    @classmethod
    def fit(cls, curves: Curves, unit: float, chosen: CovariateConfig) -> Self:
        """Scaling as of the origin of `curves`, with the covariates that are chosen."""
        curves = curves.take(curves.observed_age >= 0)
        own = frequent_categories(curves, chosen.min_category)
        return cls(unit, float(np.median(curves.users)), own, CovariateScaling.fit(curves, chosen))

    @property
    def input_sizes(self) -> InputSizes:
        """Widths of the inputs of a net."""
        categories = tuple(len(values) + 1 for values in self.categories.values())
        features, scalars = (
            CURVE_FEATURES + self.covariates.node_feature_count,
            CURVE_SCALARS + self.covariates.scalar_count,
        )
        return InputSizes(len(NODES), features, scalars, categories)

    def encode_categories(self, curves: Curves) -> Tensor:
        """Category of each attribute: (N, C)."""
        columns = []
        for name, values in self.categories.items():
            said = curves.attribute_codes.get(name)
            if said is None:
                columns.append(np.zeros(len(curves), dtype=np.int64))
                continue
            columns.append(said.positions_in(values) + 1)
        empty = np.zeros((len(curves), 0), dtype=np.int64)
        return torch.from_numpy(np.stack(columns, axis=1) if columns else empty)

    def state(self) -> State:
        """JSON values and arrays."""
        values, arrays = self.covariates.state()
        own = {"unit": self.unit_revenue, "users": self.median_users, "categories": self.categories}
        return {**own, "context": values}, arrays

    @classmethod
    def from_state(cls, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The scaling that `state()` described."""
        context = CovariateScaling.from_state(values["context"], arrays)
        return cls(values["unit"], values["users"], values["categories"], context)


@dataclass(frozen=True)
class CohortTensors:
    """Everything that tasks are gathered from, resident on one device.

    `values` (N, A) revenue per user, 0 where unknown; `last` (N,) the last age known; `beta`
    (N, A), `prior` and `level` (N, A) or (N, 1) what the pattern expects (see Expected); `users`
    (N,) over those of a median cohort; `codes` (N, C); `beside` (N, J, E), `ahead` (N, J, H) and
    `fixed` (N, P) what covariates say at nodes, of nodes to come, and at all ages; `rarity` (J,)
    weight of each node; `unit` the volume unit per user of a median cohort.
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
        """Tensors of cohorts, each with at least one complete age."""
        return cls._of(curves, curves.values, expected, scaling)

    @classmethod
    def current_inputs(
        cls, curves: Curves, outlook: CurrentExpectation, scaling: InputScaling
    ) -> TaskInputs:
        """What a net sees of each cohort where it stands: `inputs` made of nodes alone."""
        k, nodes = np.maximum(curves.observed_age, 0), np.array(NODES)
        prior, level = outlook.segment_level, outlook.cohort_level
        expected = ExpectedCurves(outlook.proportion_earned(nodes), prior[:, None], level[:, None])
        windows = cls._of(curves, curves.values[:, nodes], expected, scaling)
        value, beta = (
            np.nan_to_num(curves.observed_value),
            outlook.proportion_earned(k[:, None])[:, 0],
        )
        cells = TaskValues(*map(_float32, (value, beta, prior, level)))
        return windows._inputs(torch.from_numpy(k), windows._known(), cells)

    @classmethod
    def _of(
        cls, curves: Curves, values: Floats, expected: ExpectedCurves, scaling: InputScaling
    ) -> Self:
        """The same, of `values` and an expected `beta` at all ages or at nodes alone."""
        seen = scaling.covariates.covariate_arrays(curves)
        reached = (curves.observed_age[:, None] >= np.array(NODES)).sum(axis=0)
        return cls(
            values=_float32(np.nan_to_num(values)),
            last_age=torch.from_numpy(curves.observed_age),
            beta=_float32(expected.beta),
            prior=_float32(expected.segment_level),
            level=_float32(expected.cohort_level),
            relative_users=_float32(curves.users / scaling.median_users),
            codes=scaling.encode_categories(curves),
            node_covariates=_float32(seen.at_nodes),
            future_calendar=_float32(seen.future_calendar),
            static_covariates=_float32(seen.static),
            rarity=_float32(np.minimum(len(curves) / np.maximum(reached, 1), MAX_RARITY)),
            unit_per_user=scaling.unit_revenue / scaling.median_users,
        )

    def __len__(self) -> int:
        """Number of cohorts."""
        return len(self.last_age)

    @property
    def grown_cohort_count(self) -> int:
        """Number of cohorts that have grown, so that there is something to learn of them."""
        return len(self._grown)

    def to(self, device: torch.device) -> Self:
        """The same on a device."""
        moved: dict[str, Any] = {
            field.name: value.to(device)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)

    def draw_tasks(self, tasks_per_cohort: int, generator: torch.Generator) -> Tasks:
        """`each` tasks of every cohort that has grown, in random order, ages log-uniform.

        Drawn on the device of the windows, which is that of `generator`.
        """
        device, rows = self.last_age.device, self._grown
        order = torch.randperm(len(rows) * tasks_per_cohort, generator=generator, device=device)
        chance = torch.rand(len(order), generator=generator, device=device)
        cohort = rows.index_select(0, order.remainder_(len(rows)))
        last = self.last_age.index_select(0, cohort)
        age = chance.mul_(self._ends.log_last_age.index_select(0, last)).exp_().long().sub_(1)
        return Tasks(cohort, torch.minimum(age, last.sub_(1)).clamp_(min=0))

    def targets(self, tasks: Tasks) -> TaskTargets:
        """What became of each task, with weights: step in log age x rarity of the horizon."""
        return self._targets(tasks, self._table.gather(tasks.cohort_index), self._cells(tasks))

    def inputs_and_targets(self, tasks: Tasks) -> tuple[TaskInputs, TaskTargets]:
        """What a net sees of each task, and what became of it.

        Inputs at nodes: log of revenue so far, and since the node before, over what the segment's
        pattern expects, log age, and covariates. Scalars: the first at the observed age, the
        credible level over the segment's, users, log age, expected volume, the share earned, and
        covariates of all ages and of nodes to come.
        """
        known, cells = self._table.gather(tasks.cohort_index), self._cells(tasks)
        return self._inputs(tasks.observed_age, known, cells), self._targets(tasks, known, cells)

    def _inputs(self, age: Tensor, known: CohortRows, cells: TaskValues) -> TaskInputs:
        """Of tasks at ages (B,)."""
        observed, (value, beta, prior, level) = self._observed, cells
        volume = known.volume_factor.squeeze(1)
        usual = volume * prior
        expected_now = usual.mul(beta).clamp_(min=0.0).log1p_()
        scalars = [
            volume.mul(value).clamp_(min=-0.5).log1p_().sub_(expected_now).unsqueeze(1),
            level.div(prior).nan_to_num_(1.0).clamp_(min=1e-3).log_().unsqueeze(1),
            known.log_users,
            observed.scaled_log_age.index_select(0, age).unsqueeze(1),
            expected_now.div_(3.0).sub_(1.0).unsqueeze(1),
            beta.mul(2.0).sub_(1.0).unsqueeze(1),
            known.static_covariates,
        ]
        bits = observed.bits.index_select(0, age)
        if self.future_calendar.shape[2]:
            ahead = known.future_calendar.view(
                -1, len(NODES), self.future_calendar.shape[2]
            ).clone()
            copy_masked(ahead, ~bits.unsqueeze(2), ahead.view(torch.int32))
            scalars.append(ahead.flatten(1))
        return TaskInputs(
            node_features=self._prefix(known, usual, bits),
            is_observed=observed.is_observed.index_select(0, age),
            scalars=torch.cat(scalars, dim=1),
            codes=known.codes.long(),
        )

    def _prefix(self, known: CohortRows, usual: Tensor, bits: Tensor) -> Tensor:
        """Features at the nodes of `bits` (B, J), others 0, where a level is `usual` (B,)."""
        count, covariates = len(NODES), self.node_covariates.shape[2]
        expected = known.expected_shares[:, : 2 * count].mul(usual.unsqueeze(1)).log1p_()
        ratio = torch.sub(known.log_revenue, expected, alpha=INPUT_GAIN, out=expected)
        prefix = ratio.new_empty(len(bits), count, CURVE_FEATURES + covariates)  # (B, J, F)
        whole, step, log, *_ = prefix.view(torch.int32).unbind(2)
        copy_masked(ratio[:, count:], bits, whole)
        copy_masked(ratio[:, :count], bits, step)
        copy_masked(self._log_nodes, bits, log)
        if covariates:
            beside = known.node_covariates.view(-1, count, covariates)
            copy_masked(beside, bits.unsqueeze(2), prefix[..., CURVE_FEATURES:].view(torch.int32))
        return prefix

    def _targets(self, tasks: Tasks, known: CohortRows, cells: TaskValues) -> TaskTargets:
        last, ends, ahead = (
            self.last_age.index_select(0, tasks.cohort_index),
            self._ends,
            self._ahead,
        )
        pattern = (
            known.expected_shares[:, len(NODES) :].sub(cells.beta.unsqueeze(1)).clamp_(min=0.0)
        )
        pattern.mul_(cells.level.unsqueeze(1))  # (B, J + 1), growth to nodes and the last age
        interval = ends.last_interval.index_select(0, last)
        before = pattern.gather(1, interval.unsqueeze(1)).squeeze(1)
        weight = ends.is_known.index_select(0, last)
        weight.mul_(ahead.target_weight.index_select(0, tasks.observed_age))
        begin = ends.log_interval_start.index_select(0, last).maximum(
            ahead.log_age.index_select(0, tasks.observed_age)
        )
        step = ends.log_last_age.index_select(0, last).sub_(begin)
        torch.mul(step, ends.rarity.index_select(0, last), out=weight[:, -1])
        return TaskTargets(
            actual_growth=known.target_values.sub(cells.value.unsqueeze(1)),
            pattern_growth=pattern[:, 1:],
            weight=weight,
            last_interval=interval,
            last_interval_growth=pattern[:, -1] - before,
            interval_growth=pattern[:, 1:-1] - pattern[:, :-2],
            observed_value=cells.value,
        )

    def _cells(self, tasks: Tasks) -> TaskValues:
        place = tasks.cohort_index * self.values.shape[1] + tasks.observed_age
        tables = self.values, self.beta, self.prior, self.level
        found = (
            table.view(-1).index_select(0, tasks.cohort_index if table.shape[1] == 1 else place)
            for table in tables
        )
        return TaskValues(*found)

    @cached_property
    def _grown(self) -> Tensor:
        return torch.nonzero(self.last_age > 0).squeeze(1)

    @cached_property
    def _nodes(self) -> Tensor:
        return torch.tensor(NODES, device=self.last_age.device)

    @cached_property
    def _log_nodes(self) -> Tensor:
        return scaled_log_age(self._nodes)

    @cached_property
    def _ages(self) -> Tensor:
        return torch.arange(AGES, device=self.last_age.device)

    def _at_nodes(self, table: Tensor) -> Tensor:
        return table if table.shape[1] == len(NODES) else table.index_select(1, self._nodes)

    def _known(self) -> CohortRows:
        """All but what became of cohorts."""
        volume = self.relative_users / (DAMPING_VOLUME * self.unit_per_user)
        beta = self._at_nodes(self.beta)
        seen = volume.unsqueeze(1) * self._at_nodes(self.values)
        logs = (
            torch.cat((node_increments(seen), seen), dim=1)
            .clamp_(min=-0.5)
            .log1p_()
            .mul_(INPUT_GAIN)
        )
        return CohortRows(
            log_revenue=logs,
            expected_shares=torch.cat((node_increments(beta).clamp_(min=0.0), beta), dim=1),
            target_values=beta[:, :0],
            volume_factor=volume.unsqueeze(1),
            log_users=self.relative_users.clamp(min=1e-3).log_().unsqueeze(1),
            codes=self.codes.to(beta.dtype),
            node_covariates=self.node_covariates.flatten(1),
            future_calendar=self.future_calendar.flatten(1),
            static_covariates=self.static_covariates,
        )

    @cached_property
    def _table(self) -> CohortTable:
        last, known = self.last_age.unsqueeze(1), self._known()
        beta = torch.cat((known.expected_shares, self.beta.gather(1, last)), dim=1)
        ends = self._at_nodes(self.values)[:, 1:]
        values = torch.cat((ends, self.values.gather(1, last)), dim=1)
        return CohortTable.from_rows(known._replace(expected_shares=beta, target_values=values))

    @cached_property
    def _observed(self) -> AgeInputTable:
        nodes = self._nodes <= self._ages.unsqueeze(1)  # (A, J)
        return AgeInputTable(
            is_observed=nodes, bits=bit_mask(nodes), scaled_log_age=scaled_log_age(self._ages)
        )

    @cached_property
    def _ahead(self) -> AgeWeightTable:
        log, ends = torch.log1p(self._ages), self._nodes[1:]
        begin = torch.maximum(torch.log1p(self._nodes[:-1]), log.unsqueeze(1))
        weight = (torch.log1p(ends) - begin) * self.rarity[1:] * (ends > self._ages.unsqueeze(1))
        return AgeWeightTable(functional.pad(weight, (0, 1)), log)

    @cached_property
    def _ends(self) -> LastAgeTable:
        last, ends = self._ages, self._nodes[1:]
        interval = (torch.searchsorted(self._nodes, last) - 1).clamp(min=0)
        return LastAgeTable(
            is_known=functional.pad((ends <= last.unsqueeze(1)).float(), (0, 1)),
            last_interval=interval,
            log_last_age=torch.log1p(last),
            log_interval_start=torch.log1p(self._nodes[interval]),
            rarity=self.rarity[interval + 1] * (ends[interval] != last),
        )


@dataclass(frozen=True)
class ValidationSet:
    """Tasks at an inner origin, windows that hold what became of them, and their clusters.

    `week` (B,) number of the acquisition week of each task: tasks of a week err alike.
    """

    cohort_tensors: CohortTensors
    tasks: Tasks
    week_index: Tensor


def _float32(array: NDArray[np.floating[Any]]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
