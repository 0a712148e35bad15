"""What the inputs and targets of a task are made of: tables by cohort, and tables by age.

Shapes: N cohorts, A ages, B tasks, J nodes, I = J - 1 intervals, F features a node, H covariates
of nodes to come, P of all ages, T = I + 1 targets.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor


class TaskValues(NamedTuple):
    """What the tables hold of tasks at their observed ages, each (B,)."""

    value: Tensor
    beta: Tensor
    prior: Tensor
    level: Tensor


class CohortRows(NamedTuple):
    """What cohorts bring to their tasks: of all cohorts, or a row a task.

    `seen` (N, 2 x J) GAIN x log of revenue since the node before, and by each node; `beta`
    (N, 2 x J + 1) the share of their level that was expected of both, and by the last age;
    `values` (N, T) at the ends of intervals and at the last age; `volume` (N, 1) to one of revenue,
    and log `users` (N, 1); `codes` (N, C), `beside` (N, J x E), `ahead` (N, J x H) and `fixed`
    (N, P) those of Windows, whole numbers as floats. Without the last age and `values` where
    nothing is known of them, as in `Windows.now`.
    """

    log_revenue: Tensor
    expected_shares: Tensor
    target_values: Tensor
    volume_factor: Tensor
    log_users: Tensor
    codes: Tensor
    node_covariates: Tensor
    future_calendar: Tensor
    static_covariates: Tensor


@dataclass(frozen=True)
class CohortTable:
    """Columns of cohorts side by side, `rows` (N, W): one look-up finds all that a task needs."""

    rows: Tensor
    widths: list[int]

    @classmethod
    def from_rows(cls, known: CohortRows) -> Self:
        """What is known of all cohorts."""
        return cls(torch.cat(known, dim=1), [part.shape[1] for part in known])

    def gather(self, cohort: Tensor) -> CohortRows:
        """What is known of tasks (B,), a row each."""
        return CohortRows(*torch.split(self.rows.index_select(0, cohort), self.widths, dim=1))


class AgeInputTable(NamedTuple):
    """What each observed age brings to the inputs of a task.

    `nodes` (A, J) which nodes are observed, `bits` (A, J) the same for `keep`, and the `log` (A,)
    of the age.
    """

    is_observed: Tensor
    bits: Tensor
    scaled_log_age: Tensor


class AgeWeightTable(NamedTuple):
    """What each observed age brings to the targets of a task: `weight` (A, T), `log` (A,) of it."""

    target_weight: Tensor
    log_age: Tensor


class LastAgeTable(NamedTuple):
    """What each last age brings to the targets of a task.

    `known` (A, T) 1 or 0, `interval` (A,) that holds it, and for its own weight the `log` (A,) of
    it, `begin` (A,) that of the node before, and `rarity` (A,) of that horizon.
    """

    is_known: Tensor
    last_interval: Tensor
    log_last_age: Tensor
    log_interval_start: Tensor
    rarity: Tensor


def node_increments(curve: Tensor) -> Tensor:
    """Growth since the node before: (N, J) -> (N, J)."""
    return torch.diff(curve, dim=1, prepend=torch.zeros_like(curve[:, :1]))


def scaled_log_age(age: Tensor) -> Tensor:
    """Log of ages, of the order of one."""
    return torch.log1p(age) / 3.0 - 1.0


def bit_mask(chosen: Tensor) -> Tensor:
    """All bits or none: (...), int32, for `keep`."""
    return -chosen.to(torch.int32)


def copy_masked(values: Tensor, bits: Tensor, out: Tensor) -> None:
    """Bits of `values` where all `bits` are set, else of 0 whatever they are: a fast choice.

    `values` float32, `bits` int32 of -1 and 0, `out` int32, of shapes that go together.
    """
    torch.bitwise_and(values.view(torch.int32), bits, out=out)
