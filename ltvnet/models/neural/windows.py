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
from ltvnet.forecasting.evidence import categories
from ltvnet.forecasting.forecaster import State
from ltvnet.models.neural.covariates import Context, Covariates
from ltvnet.models.neural.lookup_tables import (
    Ahead,
    Cells,
    Ends,
    Known,
    Observed,
    Table,
    keep,
    log_age,
    mask,
    steps,
)
from ltvnet.models.neural.nets.heads import Inputs, Sizes, Targets
from ltvnet.models.pattern.pattern import Expected, Outlook

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
            columns.append(said.among(values) + 1)
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
        return windows._inputs(torch.from_numpy(k), windows._known(), cells)

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

    @property
    def grown(self) -> int:
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

    def draw(self, each: int, generator: torch.Generator) -> Tasks:
        """`each` tasks of every cohort that has grown, in random order, ages log-uniform.

        Drawn on the device of the windows, which is that of `generator`.
        """
        device, rows = self.last.device, self._grown
        order = torch.randperm(len(rows) * each, generator=generator, device=device)
        chance = torch.rand(len(order), generator=generator, device=device)
        cohort = rows.index_select(0, order.remainder_(len(rows)))
        last = self.last.index_select(0, cohort)
        age = chance.mul_(self._ends.log.index_select(0, last)).exp_().long().sub_(1)
        return Tasks(cohort, torch.minimum(age, last.sub_(1)).clamp_(min=0))

    def targets(self, tasks: Tasks) -> Targets:
        """What became of each task, with weights: step in log age x rarity of the horizon."""
        return self._targets(tasks, self._table.find(tasks.cohort), self._cells(tasks))

    def both(self, tasks: Tasks) -> tuple[Inputs, Targets]:
        """What a net sees of each task, and what became of it.

        Inputs at nodes: log of revenue so far, and since the node before, over what the segment's
        pattern expects, log age, and covariates. Scalars: the first at the observed age, the
        credible level over the segment's, users, log age, expected volume, the share earned, and
        covariates of all ages and of nodes to come.
        """
        known, cells = self._table.find(tasks.cohort), self._cells(tasks)
        return self._inputs(tasks.age, known, cells), self._targets(tasks, known, cells)

    def _inputs(self, age: Tensor, known: Known, cells: Cells) -> Inputs:
        """Of tasks at ages (B,)."""
        observed, (value, beta, prior, level) = self._observed, cells
        volume = known.volume.squeeze(1)
        usual = volume * prior
        expected_now = usual.mul(beta).clamp_(min=0.0).log1p_()
        scalars = [
            volume.mul(value).clamp_(min=-0.5).log1p_().sub_(expected_now).unsqueeze(1),
            level.div(prior).nan_to_num_(1.0).clamp_(min=1e-3).log_().unsqueeze(1),
            known.users,
            observed.log.index_select(0, age).unsqueeze(1),
            expected_now.div_(3.0).sub_(1.0).unsqueeze(1),
            beta.mul(2.0).sub_(1.0).unsqueeze(1),
            known.fixed,
        ]
        bits = observed.bits.index_select(0, age)
        if self.ahead.shape[2]:
            ahead = known.ahead.view(-1, len(NODES), self.ahead.shape[2]).clone()
            keep(ahead, ~bits.unsqueeze(2), ahead.view(torch.int32))
            scalars.append(ahead.flatten(1))
        return Inputs(
            prefix=self._prefix(known, usual, bits),
            observed=observed.nodes.index_select(0, age),
            scalars=torch.cat(scalars, dim=1),
            codes=known.codes.long(),
        )

    def _prefix(self, known: Known, usual: Tensor, bits: Tensor) -> Tensor:
        """Features at the nodes of `bits` (B, J), others 0, where a level is `usual` (B,)."""
        count, covariates = len(NODES), self.beside.shape[2]
        expected = known.beta[:, : 2 * count].mul(usual.unsqueeze(1)).log1p_()
        ratio = torch.sub(known.seen, expected, alpha=GAIN, out=expected)
        prefix = ratio.new_empty(len(bits), count, FEATURES + covariates)  # (B, J, F)
        whole, step, log, *_ = prefix.view(torch.int32).unbind(2)
        keep(ratio[:, count:], bits, whole)
        keep(ratio[:, :count], bits, step)
        keep(self._log_nodes, bits, log)
        if covariates:
            beside = known.beside.view(-1, count, covariates)
            keep(beside, bits.unsqueeze(2), prefix[..., FEATURES:].view(torch.int32))
        return prefix

    def _targets(self, tasks: Tasks, known: Known, cells: Cells) -> Targets:
        last, ends, ahead = self.last.index_select(0, tasks.cohort), self._ends, self._ahead
        pattern = known.beta[:, len(NODES) :].sub(cells.beta.unsqueeze(1)).clamp_(min=0.0)
        pattern.mul_(cells.level.unsqueeze(1))  # (B, J + 1), growth to nodes and the last age
        interval = ends.interval.index_select(0, last)
        before = pattern.gather(1, interval.unsqueeze(1)).squeeze(1)
        weight = ends.known.index_select(0, last)
        weight.mul_(ahead.weight.index_select(0, tasks.age))
        begin = ends.begin.index_select(0, last).maximum(ahead.log.index_select(0, tasks.age))
        step = ends.log.index_select(0, last).sub_(begin)
        torch.mul(step, ends.rarity.index_select(0, last), out=weight[:, -1])
        return Targets(
            growth=known.values.sub(cells.value.unsqueeze(1)),
            pattern=pattern[:, 1:],
            weight=weight,
            interval=interval,
            part=pattern[:, -1] - before,
            steps=pattern[:, 1:-1] - pattern[:, :-2],
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
    def _grown(self) -> Tensor:
        return torch.nonzero(self.last > 0).squeeze(1)

    @cached_property
    def _nodes(self) -> Tensor:
        return torch.tensor(NODES, device=self.last.device)

    @cached_property
    def _log_nodes(self) -> Tensor:
        return log_age(self._nodes)

    @cached_property
    def _ages(self) -> Tensor:
        return torch.arange(AGES, device=self.last.device)

    def _at_nodes(self, table: Tensor) -> Tensor:
        return table if table.shape[1] == len(NODES) else table.index_select(1, self._nodes)

    def _known(self) -> Known:
        """All but what became of cohorts."""
        volume = self.users / (NOISE * self.unit)
        beta = self._at_nodes(self.beta)
        seen = volume.unsqueeze(1) * self._at_nodes(self.values)
        logs = torch.cat((steps(seen), seen), dim=1).clamp_(min=-0.5).log1p_().mul_(GAIN)
        return Known(
            seen=logs,
            beta=torch.cat((steps(beta).clamp_(min=0.0), beta), dim=1),
            values=beta[:, :0],
            volume=volume.unsqueeze(1),
            users=self.users.clamp(min=1e-3).log_().unsqueeze(1),
            codes=self.codes.to(beta.dtype),
            beside=self.beside.flatten(1),
            ahead=self.ahead.flatten(1),
            fixed=self.fixed,
        )

    @cached_property
    def _table(self) -> Table:
        last, known = self.last.unsqueeze(1), self._known()
        beta = torch.cat((known.beta, self.beta.gather(1, last)), dim=1)
        ends = self._at_nodes(self.values)[:, 1:]
        values = torch.cat((ends, self.values.gather(1, last)), dim=1)
        return Table.of(known._replace(beta=beta, values=values))

    @cached_property
    def _observed(self) -> Observed:
        nodes = self._nodes <= self._ages.unsqueeze(1)  # (A, J)
        return Observed(nodes=nodes, bits=mask(nodes), log=log_age(self._ages))

    @cached_property
    def _ahead(self) -> Ahead:
        log, ends = torch.log1p(self._ages), self._nodes[1:]
        begin = torch.maximum(torch.log1p(self._nodes[:-1]), log.unsqueeze(1))
        weight = (torch.log1p(ends) - begin) * self.rarity[1:] * (ends > self._ages.unsqueeze(1))
        return Ahead(functional.pad(weight, (0, 1)), log)

    @cached_property
    def _ends(self) -> Ends:
        last, ends = self._ages, self._nodes[1:]
        interval = (torch.searchsorted(self._nodes, last) - 1).clamp(min=0)
        return Ends(
            known=functional.pad((ends <= last.unsqueeze(1)).float(), (0, 1)),
            interval=interval,
            log=torch.log1p(last),
            begin=torch.log1p(self._nodes[interval]),
            rarity=self.rarity[interval + 1] * (ends[interval] != last),
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
