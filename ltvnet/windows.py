"""Curves as tensors on a device, where tasks (a cohort at an observed age) are gathered by index.

Shapes: N cohorts, A ages, B tasks, J nodes, I = J - 1 intervals, F features a node, S scalars,
C attributes, T = I + 1 targets; of covariates E features, H of nodes to come, P scalars.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltvnet.covariates import Context, Covariates
from ltvnet.curves import AGES, NODES, Curves, Floats
from ltvnet.forecasting import State, categories
from ltvnet.gathered import (
    Ahead,
    Cells,
    Cohorts,
    Observed,
    Outcomes,
    kept,
    log_age,
    log_ratio,
    mask,
    steps,
)
from ltvnet.nets.heads import Inputs, Sizes, Targets
from ltvnet.pattern import Expected, Outlook

FEATURES, SCALARS = 3, 6

NOISE = 0.1
"""Revenue by which log ratios are damped, in volume units: ratios of less are mostly chance."""

GAIN = 8.0
"""Log ratios at nodes are of the order of 0.1; nets want inputs of the order of one."""

MAX_RARITY = 5.0
"""Most by which a horizon that few cohorts have reached weighs more than a common one."""


class Tasks(NamedTuple):
    """Cohorts (row numbers) at observed ages, each (B,)."""

    cohort: Tensor
    age: Tensor

    def split(self, size: int) -> Iterator["Tasks"]:
        """Tasks in batches of at most `size`."""
        return map(Tasks, torch.split(self.cohort, size), torch.split(self.age, size))


@dataclass(frozen=True)
class Scaling:
    """Constants of the training data that tensors are made with.

    `unit` revenue (currency) of a median cohort to D7, `users` of a median cohort,
    `categories` attribute -> values that have a category of their own, in order, from 1;
    all others share category 0, the unseen bucket; `context` what stood beside the curves.
    """

    unit: float
    users: float
    categories: Mapping[str, Sequence[str]]
    context: Context

    @classmethod
    def of(cls, curves: Curves, unit: float, chosen: Covariates) -> Self:
        """Scaling as of the origin of `curves`, with the covariates that are chosen."""
        curves = curves.take(curves.observed_age >= 0)
        own = categories(curves, chosen.min_category)
        return cls(unit, float(np.median(curves.users)), own, Context.of(curves, chosen))

    @property
    def sizes(self) -> Sizes:
        """Widths of the inputs of a net."""
        categories = tuple(len(values) + 1 for values in self.categories.values())
        features, scalars = FEATURES + self.context.features, SCALARS + self.context.scalars
        return Sizes(len(NODES), features, scalars, categories)

    def codes(self, curves: Curves) -> Tensor:
        """Category of each attribute: (N, C)."""
        columns = []
        for name, values in self.categories.items():
            said = curves.words.get(name)
            if said is None:
                columns.append(np.zeros(len(curves), dtype=np.int64))
                continue
            known = pd.Index(values).get_indexer(pd.Index(said.values)) + 1
            columns.append(known[said.codes])
        empty = np.zeros((len(curves), 0), dtype=np.int64)
        return torch.from_numpy(np.stack(columns, axis=1) if columns else empty)

    def state(self) -> State:
        """JSON values and arrays."""
        values, arrays = self.context.state()
        own = {"unit": self.unit, "users": self.users, "categories": self.categories}
        return {**own, "context": values}, arrays

    @classmethod
    def from_state(cls, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The scaling that `state()` described."""
        context = Context.from_state(values["context"], arrays)
        return cls(values["unit"], values["users"], values["categories"], context)


@dataclass(frozen=True)
class Windows:
    """Everything that tasks are gathered from, resident on one device.

    `values` (N, A) revenue per user, 0 where unknown; `last` (N,) the last age known; `beta`
    (N, A), `prior` and `level` (N, A) or (N, 1) what the pattern expects (see Expected); `users`
    (N,) over those of a median cohort; `codes` (N, C); `beside` (N, J, E), `ahead` (N, J, H) and
    `fixed` (N, P) what covariates say at nodes, of nodes to come, and at all ages; `rarity` (J,)
    weight of each node; `unit` the volume unit per user of a median cohort.
    """

    values: Tensor
    last: Tensor
    beta: Tensor
    prior: Tensor
    level: Tensor
    users: Tensor
    codes: Tensor
    beside: Tensor
    ahead: Tensor
    fixed: Tensor
    rarity: Tensor
    unit: float

    @classmethod
    def of(cls, curves: Curves, expected: Expected, scaling: Scaling) -> Self:
        """Tensors of cohorts, each with at least one complete age."""
        return cls._of(curves, curves.values, expected, scaling)

    @classmethod
    def now(cls, curves: Curves, outlook: Outlook, scaling: Scaling) -> Inputs:
        """What a net sees of each cohort where it stands: `inputs` made of nodes alone."""
        k, nodes = np.maximum(curves.observed_age, 0), np.array(NODES)
        prior, level = outlook.prior, outlook.level
        expected = Expected(outlook.earned(nodes), prior[:, None], level[:, None])
        windows = cls._of(curves, curves.values[:, nodes], expected, scaling)
        value, beta = np.nan_to_num(curves.observed_value), outlook.earned(k[:, None])[:, 0]
        cells = Cells(*map(_float32, (value, beta, prior, level)))
        return windows._inputs(Tasks(torch.arange(len(k)), torch.from_numpy(k)), cells)

    @classmethod
    def _of(cls, curves: Curves, values: Floats, expected: Expected, scaling: Scaling) -> Self:
        """The same, of `values` and an expected `beta` at all ages or at nodes alone."""
        seen = scaling.context.seen(curves)
        reached = (curves.observed_age[:, None] >= np.array(NODES)).sum(axis=0)
        return cls(
            values=_float32(np.nan_to_num(values)),
            last=torch.from_numpy(curves.observed_age),
            beta=_float32(expected.beta),
            prior=_float32(expected.prior),
            level=_float32(expected.level),
            users=_float32(curves.users / scaling.users),
            codes=scaling.codes(curves),
            beside=_float32(seen.nodes),
            ahead=_float32(seen.ahead),
            fixed=_float32(seen.fixed),
            rarity=_float32(np.minimum(len(curves) / np.maximum(reached, 1), MAX_RARITY)),
            unit=scaling.unit / scaling.users,
        )

    def __len__(self) -> int:
        """Number of cohorts."""
        return len(self.last)

    def to(self, device: torch.device) -> Self:
        """The same on a device."""
        moved: dict[str, Any] = {
            field.name: value.to(device)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)

    def draw(self, each: int, generator: torch.Generator) -> Tasks:
        """`each` tasks of every cohort that has grown, in random order, ages log-uniform.

        Drawn on the device of the windows, which is that of `generator`.
        """
        device = self.last.device
        rows = torch.nonzero(self.last > 0).squeeze(1)
        order = torch.randperm(len(rows) * each, generator=generator, device=device) % len(rows)
        chance = torch.rand(len(order), generator=generator, device=device)
        cohort = rows[order]
        last = self.last.index_select(0, cohort)
        age = torch.exp(chance * torch.log1p(last)).long() - 1
        return Tasks(cohort, torch.minimum(age, last - 1).clamp_(min=0))

    def inputs(self, tasks: Tasks) -> Inputs:
        """What a net sees of each task.

        At nodes: log of revenue so far, and since the node before, over what the segment's
        pattern expects, log age, and covariates. Scalars: the first at the observed age, the
        credible level over the segment's, users, log age, expected volume, the share earned, and
        covariates of all ages and of nodes to come.
        """
        return self._inputs(tasks, self._cells(tasks))

    def targets(self, tasks: Tasks) -> Targets:
        """What became of each task, with weights: step in log age x rarity of the horizon."""
        return self._targets(tasks, self._cells(tasks))

    def both(self, tasks: Tasks) -> tuple[Inputs, Targets]:
        """Inputs and targets."""
        cells = self._cells(tasks)
        return self._inputs(tasks, cells), self._targets(tasks, cells)

    def _inputs(self, tasks: Tasks, cells: Cells) -> Inputs:
        cohort, age = tasks
        known, observed = self._cohorts, self._observed
        value, beta, prior, level = cells
        _, volume, log_users = known.own.index_select(0, cohort).unbind(1)
        usual = volume * prior
        expected = known.beta.index_select(0, cohort).mul_(usual.unsqueeze(1))  # (B, J x F)
        prefix = known.seen.index_select(0, cohort)
        prefix.sub_(expected.clamp_(min=0.0).log1p_(), alpha=GAIN)
        prefix = kept(prefix, observed.features.index_select(0, age))

        expected_now = usual * beta
        scalars = torch.stack(
            (
                log_ratio(volume * value, expected_now),
                level.div(prior).nan_to_num_(1.0).clamp_(min=1e-3).log_(),
                log_users,
                observed.log.index_select(0, age),
                torch.log1p(expected_now) / 3.0 - 1.0,
                beta * 2.0 - 1.0,
            ),
            dim=1,
        )
        ahead = self.ahead.flatten(1).index_select(0, cohort)
        ahead = kept(ahead, observed.ahead.index_select(0, age))
        return Inputs(
            prefix=prefix.view(len(age), len(NODES), -1),
            observed=observed.nodes.index_select(0, age),
            scalars=torch.cat((scalars, self.fixed.index_select(0, cohort), ahead), dim=1),
            codes=self.codes.index_select(0, cohort),
        )

    def _targets(self, tasks: Tasks, cells: Cells) -> Targets:
        cohort, age = tasks
        known, ahead = self._outcomes, self._ahead
        earned = known.beta.index_select(0, cohort).sub_(cells.beta.unsqueeze(1))  # (B, T)
        earned.mul_(ahead.later.index_select(0, age))
        pattern = earned.mul_(cells.level.unsqueeze(1))
        each = pattern[:, :-1].clone()
        each[:, 1:] -= pattern[:, :-2]
        interval = known.interval.index_select(0, cohort)
        before = pattern.gather(1, (interval - 1).clamp_(min=0).unsqueeze(1)).squeeze(1)
        part = pattern[:, -1] - before.mul_(interval > 0)
        weight = known.known.index_select(0, cohort).mul_(ahead.weight.index_select(0, age))
        log_last, log_left, rarity = known.last.index_select(0, cohort).unbind(1)
        weight[:, -1] = rarity * (log_last - log_left.maximum(ahead.log.index_select(0, age)))
        return Targets(
            growth=known.values.index_select(0, cohort).sub_(cells.value.unsqueeze(1)),
            pattern=pattern,
            weight=weight,
            interval=interval,
            part=part,
            steps=each,
            value=cells.value,
        )

    def _cells(self, tasks: Tasks) -> Cells:
        place = tasks.cohort * self.values.shape[1] + tasks.age
        tables = self.values, self.beta, self.prior, self.level
        found = (
            table.view(-1).index_select(0, tasks.cohort if table.shape[1] == 1 else place)
            for table in tables
        )
        return Cells(*found)

    @cached_property
    def _nodes(self) -> Tensor:
        return torch.tensor(NODES, device=self.last.device)

    @cached_property
    def _ages(self) -> Tensor:
        return torch.arange(AGES, device=self.last.device)

    def _at_nodes(self, table: Tensor) -> Tensor:
        return table if table.shape[1] == len(NODES) else table.index_select(1, self._nodes)

    @cached_property
    def _cohorts(self) -> Cohorts:
        volume = self.users / (NOISE * self.unit)
        beta = self._at_nodes(self.beta)
        seen = volume.unsqueeze(1) * self._at_nodes(self.values)
        logs = [GAIN * torch.log1p(x.clamp(min=-0.5)) for x in (seen, steps(seen))]
        columns = [*logs, log_age(self._nodes).expand_as(beta)]
        nothing = torch.zeros_like(torch.cat((beta.unsqueeze(2), self.beside), dim=2))
        expected = torch.cat((torch.stack((beta, steps(beta)), dim=2), nothing), dim=2)
        own = self.users, volume, self.users.clamp(min=1e-3).log()
        return Cohorts(
            seen=torch.cat((torch.stack(columns, dim=2), self.beside), dim=2).flatten(1),
            beta=expected.flatten(1),
            own=torch.stack(own, dim=1),
        )

    @cached_property
    def _observed(self) -> Observed:
        nodes = self._nodes <= self._ages.unsqueeze(1)  # (A, J)
        features, calendar = FEATURES + self.beside.shape[2], self.ahead.shape[2]
        return Observed(
            nodes=nodes,
            features=mask(nodes.repeat_interleave(features, dim=1)),
            ahead=mask(~nodes.repeat_interleave(calendar, dim=1)),
            log=log_age(self._ages),
        )

    @cached_property
    def _outcomes(self) -> Outcomes:
        ends, last = self._nodes[1:], self.last
        interval = (torch.searchsorted(self._nodes, last) - 1).clamp(min=0)
        between = ends[interval] != last
        known = torch.cat((ends <= last.unsqueeze(1), between.unsqueeze(1)), dim=1)
        logs = torch.log1p(torch.stack((last, self._nodes[interval]), dim=1))
        rarity = self.rarity[interval + 1] * between
        ages = torch.cat((ends.expand(len(self), -1), last.unsqueeze(1)), dim=1)  # (N, T)
        return Outcomes(
            values=self.values.gather(1, ages),
            beta=self.beta.gather(1, ages),
            known=known.float(),
            interval=interval,
            last=torch.cat((logs, rarity.unsqueeze(1)), dim=1),
        )

    @cached_property
    def _ahead(self) -> Ahead:
        age, ends = self._ages.unsqueeze(1), self._nodes[1:]
        log = torch.log1p(self._ages)
        begin = torch.log1p(torch.maximum(self._nodes[:-1], age))
        later = ends > age  # (A, I)
        weight = (torch.log1p(ends) - begin) * self.rarity[1:] * later
        one = torch.ones_like(log).unsqueeze(1)
        return Ahead(
            later=torch.cat((later, one), dim=1), weight=torch.cat((weight, one), dim=1), log=log
        )


@dataclass(frozen=True)
class Validation:
    """Tasks at an inner origin, windows that hold what became of them, and their clusters.

    `week` (B,) number of the acquisition week of each task: tasks of a week err alike.
    """

    windows: Windows
    tasks: Tasks
    week: Tensor


def _float32(array: NDArray[np.floating[Any]]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
