"""Curves as tensors on a device, where tasks (a cohort at an observed age) are gathered by index.

Shapes: N cohorts, A ages, B tasks, J nodes, I = J - 1 intervals, F features a node, S scalars,
C attributes, T = I + 1 targets; of covariates E features, H of nodes to come, P scalars.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltvnet.covariates import Context, Covariates
from ltvnet.curves import NODES, Curves
from ltvnet.forecasting import State, categories
from ltvnet.nets.heads import Inputs, Sizes, Targets
from ltvnet.pattern import Expected

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
        columns = [
            pd.Index(values).get_indexer(pd.Index(curves.attributes[name])) + 1
            if name in curves.attributes
            else np.zeros(len(curves), dtype=np.int64)
            for name, values in self.categories.items()
        ]
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
        seen = scaling.context.seen(curves)
        reached = (curves.observed_age[:, None] >= np.array(NODES)).sum(axis=0)
        return cls(
            values=_float32(np.nan_to_num(curves.values)),
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
        """`each` tasks of every cohort that has grown, in random order, ages log-uniform."""
        rows = torch.nonzero(self.last.cpu() > 0).squeeze(1)
        order = torch.randperm(len(rows) * each, generator=generator) % len(rows)
        chance = torch.rand(len(order), generator=generator)
        cohort, chance = rows[order].to(self.last.device), chance.to(self.last.device)
        age = torch.exp(chance * torch.log1p(self.last[cohort])).long() - 1
        return Tasks(cohort, torch.minimum(age, self.last[cohort] - 1).clamp(min=0))

    def inputs(self, tasks: Tasks) -> Inputs:
        """What a net sees of each task.

        At nodes: log of revenue so far, and since the node before, over what the segment's
        pattern expects, log age, and covariates. Scalars: the first at the observed age, the
        credible level over the segment's, users, log age, expected volume, the share earned, and
        covariates of all ages and of nodes to come.
        """
        cohort, age = tasks
        nodes = self._nodes()
        rows = cohort.unsqueeze(1)
        volume = (self.users[cohort] / (NOISE * self.unit)).unsqueeze(1)  # (B, 1)
        prior = _at(self.prior, tasks)
        expected = volume * prior.unsqueeze(1) * self.beta[rows, nodes]  # (B, J)
        seen = volume * self.values[rows, nodes]
        level = GAIN * _log_ratio(seen, expected)
        growth = GAIN * _log_ratio(_steps(seen), _steps(expected))
        place = _log_age(nodes).expand_as(level)
        observed = nodes <= age.unsqueeze(1)
        stacked = torch.stack((level, growth, place), dim=-1)
        features = torch.cat((stacked, self.beside[cohort]), dim=-1)  # (B, J, F)
        prefix = torch.where(observed.unsqueeze(-1), features, 0.0)

        beta = _at(self.beta, tasks)
        expected_now = volume[:, 0] * prior * beta
        scalars = torch.stack(
            (
                _log_ratio(volume[:, 0] * _at(self.values, tasks), expected_now),
                _at(self.level, tasks).div(prior).nan_to_num(1.0).clamp(min=1e-3).log(),
                self.users[cohort].clamp(min=1e-3).log(),
                _log_age(age),
                torch.log1p(expected_now) / 3.0 - 1.0,
                beta * 2.0 - 1.0,
            ),
            dim=1,
        )
        ahead = torch.where(observed.unsqueeze(-1), 0.0, self.ahead[cohort]).flatten(1)
        scalars = torch.cat((scalars, self.fixed[cohort], ahead), dim=1)
        return Inputs(prefix, observed, scalars, self.codes[cohort])

    def steps(self, tasks: Tasks) -> Tensor:
        """The pattern's growth in each interval after the observed age: (B, I)."""
        bounds = torch.maximum(self._nodes(), tasks.age.unsqueeze(1))  # (B, J)
        beta = self.beta[tasks.cohort.unsqueeze(1), bounds]
        return _at(self.level, tasks).unsqueeze(1) * torch.diff(beta, dim=1)

    def targets(self, tasks: Tasks, steps: Tensor) -> Targets:
        """What became of each task, with weights: step in log age x rarity of the horizon."""
        cohort, age = tasks
        nodes = self._nodes()
        last = self.last[cohort]
        value = _at(self.values, tasks).unsqueeze(1)
        begin = torch.maximum(nodes[:-1], age.unsqueeze(1))  # (B, I)
        known = (nodes[1:] > age.unsqueeze(1)) & (nodes[1:] <= last.unsqueeze(1))
        weight = torch.log1p(nodes[1:]) - torch.log1p(begin)
        grown = self.values[cohort.unsqueeze(1), nodes[1:]] - value

        interval = (torch.searchsorted(nodes, last) - 1).clamp(min=0)  # (B,)
        left = torch.maximum(nodes[interval], age)
        part = _at(self.level, tasks) * (self.beta[cohort, last] - self.beta[cohort, left])
        between = nodes[interval + 1] != last
        last_weight = (torch.log1p(last) - torch.log1p(left)) * self.rarity[interval + 1] * between
        pattern = torch.cumsum(steps, dim=1)
        row = torch.arange(len(cohort), device=age.device)
        before = torch.where(interval > 0, pattern[row, (interval - 1).clamp(min=0)], 0.0)
        return Targets(
            growth=torch.cat((grown, self.values[cohort, last].unsqueeze(1) - value), dim=1),
            pattern=torch.cat((pattern, (before + part).unsqueeze(1)), dim=1),
            weight=torch.cat((weight * self.rarity[1:] * known, last_weight.unsqueeze(1)), dim=1),
            interval=interval,
            part=part,
        )

    def _nodes(self) -> Tensor:
        return torch.tensor(NODES, device=self.last.device)


@dataclass(frozen=True)
class Validation:
    """Tasks at an inner origin, windows that hold what became of them, and their clusters.

    `week` (B,) number of the acquisition week of each task: tasks of a week err alike.
    """

    windows: Windows
    tasks: Tasks
    week: Tensor


def _at(table: Tensor, tasks: Tasks) -> Tensor:
    return table[tasks.cohort, tasks.age.clamp(max=table.shape[1] - 1)]


def _steps(curve: Tensor) -> Tensor:
    return torch.diff(curve, dim=1, prepend=torch.zeros_like(curve[:, :1]))


def _log_age(age: Tensor) -> Tensor:
    return torch.log1p(age) / 3.0 - 1.0


def _log_ratio(seen: Tensor, expected: Tensor) -> Tensor:
    return torch.log1p(seen.clamp(min=-0.5)) - torch.log1p(expected.clamp(min=0.0))


def _float32(array: NDArray[np.floating[Any]]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
