"""Targets of a net from the look-up tables: growth of tasks after their observed ages, weighted.

Shapes: B tasks, J nodes, I = J - 1 intervals, T = I + 1 targets.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ltvnet.data.curves import NODES
from ltvnet.models.neural.lookup_tables import (
    AgeWeightTable,
    CohortRows,
    LastAgeTable,
    TaskValues,
)
from ltvnet.models.neural.nets.heads import TaskTargets


@dataclass(frozen=True)
class TaskTargetBuilder:
    """Makes the targets of tasks, on one device.

    `by_age` weights by the observed age, `by_last_age` what depends on a cohort's last age.
    """

    by_age: AgeWeightTable
    by_last_age: LastAgeTable

    @classmethod
    def from_rarity(cls, rarity: Tensor) -> Self:
        """Make the tables on the device of the `rarity` (J,) of nodes."""
        return cls(AgeWeightTable.from_rarity(rarity), LastAgeTable.from_rarity(rarity))

    def build(
        self, observed_age: Tensor, last_age: Tensor, rows: CohortRows, values: TaskValues
    ) -> TaskTargets:
        """Make the targets of tasks at ages (B,) whose cohorts are known to `last_age` (B,)."""
        share_ahead = rows.expected_shares[:, len(NODES) :].sub(values.beta.unsqueeze(1))
        pattern = share_ahead.clamp_(min=0.0)
        pattern.mul_(values.level.unsqueeze(1))  # (B, J + 1), growth to nodes and the last age

        interval = self.by_last_age.last_interval.index_select(0, last_age)
        growth_to_interval = pattern.gather(1, interval.unsqueeze(1)).squeeze(1)
        return TaskTargets(
            actual_growth=rows.target_values.sub(values.value.unsqueeze(1)),
            pattern_growth=pattern[:, 1:],
            weight=self._weight(observed_age, last_age),
            last_interval=interval,
            last_interval_growth=pattern[:, -1] - growth_to_interval,
            interval_growth=pattern[:, 1:-1] - pattern[:, :-2],
            observed_value=values.value,
        )

    def _weight(self, observed_age: Tensor, last_age: Tensor) -> Tensor:
        """Weights of targets (B, T): step in log age x rarity, 0 where not known."""
        ends = self.by_last_age
        weight = ends.is_known.index_select(0, last_age)
        weight.mul_(self.by_age.target_weight.index_select(0, observed_age))

        # the last age is a target too: from the node before it, or from the observed age
        log_observed = self.by_age.log_age.index_select(0, observed_age)
        log_start = ends.log_interval_start.index_select(0, last_age).maximum(log_observed)
        step = ends.log_last_age.index_select(0, last_age).sub_(log_start)
        torch.mul(step, ends.rarity.index_select(0, last_age), out=weight[:, -1])
        return weight


def user_weight(relative_users: Tensor, half_weight_users: float) -> Tensor:
    """Weight of cohorts by their users (B,): (B, 1), one half at `half_weight_users`.

    Both are multiples of a median cohort's users.
    """
    return (relative_users / (relative_users + half_weight_users)).unsqueeze(1)


def mask_small_growth(targets: TaskTargets, smallest_growth: Tensor) -> TaskTargets:
    """Give weight 0 to targets whose pattern growth is not above `smallest_growth` (scalar).

    They get pattern growth 1 too, that ratios can be formed with.
    """
    counts = (targets.pattern_growth > smallest_growth).float()
    pattern_growth = targets.pattern_growth * counts + (1.0 - counts)
    return targets._replace(pattern_growth=pattern_growth, weight=targets.weight * counts)
