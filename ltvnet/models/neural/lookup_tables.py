"""Tables that the inputs and targets of tasks are gathered from: by cohort, and by age.

Shapes: N cohorts, A ages, B tasks, J nodes, I = J - 1 intervals, T = I + 1 targets (the ends of
the intervals and the last age), C attributes; of covariates E features a node, H of nodes to come,
P that do not change with age.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional

from ltvnet.data.curves import AGES, NODES


class TaskValues(NamedTuple):
    """Values of tasks at their observed ages, each (B,).

    `value` revenue per user, `beta` the share of its level that a cohort has earned by the
    pattern, `prior` the level of its segment and `level` its own (see ExpectedCurves).
    """

    value: Tensor
    beta: Tensor
    prior: Tensor
    level: Tensor


class CohortRows(NamedTuple):
    """Columns that do not depend on the observed age: a row a cohort, or the cohort's row a task.

    `log_revenue` (N, 2 x J) INPUT_GAIN x log of revenue since the node before, and by each node;
    `expected_shares` (N, 2 x J + 1) the shares of the level expected of both, and by the last age;
    `target_values` (N, T) revenue per user at the ends of intervals and at the last age;
    `volume_factor` (N, 1) from revenue per user to volume units; `log_users` (N, 1); `codes`
    (N, C), `node_covariates` (N, J x E), `future_calendar` (N, J x H) and `static_covariates`
    (N, P) as in CohortTensors, whole numbers as floats. Without the last age and `target_values`
    where no target is known, as in `CohortTensors.current_inputs`.
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
    """Columns of cohorts side by side, `rows` (N, W): one look-up finds all that a task needs.

    `widths` how many of the W columns belong to each field of CohortRows.
    """

    rows: Tensor
    widths: list[int]

    @classmethod
    def from_rows(cls, rows: CohortRows) -> Self:
        """Join the columns of all cohorts."""
        return cls(torch.cat(rows, dim=1), [columns.shape[1] for columns in rows])

    def gather(self, cohort_index: Tensor) -> CohortRows:
        """Look up the cohorts of tasks (B,), a row a task."""
        rows = self.rows.index_select(0, cohort_index)  # (B, W)
        return CohortRows(*torch.split(rows, self.widths, dim=1))


class AgeInputTable(NamedTuple):
    """Inputs that depend on the observed age alone.

    `is_observed` (A, J) which nodes are, `bits` (A, J) the same for `copy_masked`, and
    `scaled_log_age` (A,).
    """

    is_observed: Tensor
    bits: Tensor
    scaled_log_age: Tensor

    @classmethod
    def on_device(cls, device: torch.device) -> Self:
        """Make the table on a device."""
        ages = torch.arange(AGES, device=device)
        is_observed = node_ages(device) <= ages.unsqueeze(1)  # (A, J)
        return cls(is_observed, bit_mask(is_observed), scaled_log_age(ages))


class AgeWeightTable(NamedTuple):
    """Weights of targets by the observed age.

    `target_weight` (A, T) step in log age from the observed age, or from the node before, x rarity
    of the node; 0 at nodes already observed and for the last age, whose weight depends on it;
    `log_age` (A,).
    """

    target_weight: Tensor
    log_age: Tensor

    @classmethod
    def from_rarity(cls, rarity: Tensor) -> Self:
        """Make the table on the device of the `rarity` (J,) of nodes."""
        nodes = node_ages(rarity.device)
        ages = torch.arange(AGES, device=rarity.device)
        log_age = torch.log1p(ages)

        interval_end = nodes[1:]
        log_start = torch.maximum(torch.log1p(nodes[:-1]), log_age.unsqueeze(1))  # (A, I)
        is_ahead = interval_end > ages.unsqueeze(1)
        weight = (torch.log1p(interval_end) - log_start) * rarity[1:] * is_ahead
        return cls(functional.pad(weight, (0, 1)), log_age)


class LastAgeTable(NamedTuple):
    """Parts of targets that depend on the last age of a cohort alone.

    `is_known` (A, T) 1 or 0, the last age itself 0; `last_interval` (A,) the interval that holds
    it; and for the weight of the last age its log `log_last_age` (A,), `log_interval_start` (A,)
    that of the node before, and `rarity` (A,) of the node after, 0 where it is a node itself.
    """

    is_known: Tensor
    last_interval: Tensor
    log_last_age: Tensor
    log_interval_start: Tensor
    rarity: Tensor

    @classmethod
    def from_rarity(cls, rarity: Tensor) -> Self:
        """Make the table on the device of the `rarity` (J,) of nodes."""
        nodes = node_ages(rarity.device)
        last_age = torch.arange(AGES, device=rarity.device)
        interval_end = nodes[1:]

        is_known = (interval_end <= last_age.unsqueeze(1)).float()  # (A, I)
        interval = (torch.searchsorted(nodes, last_age) - 1).clamp(min=0)
        return cls(
            is_known=functional.pad(is_known, (0, 1)),
            last_interval=interval,
            log_last_age=torch.log1p(last_age),
            log_interval_start=torch.log1p(nodes[interval]),
            rarity=rarity[interval + 1] * (interval_end[interval] != last_age),
        )


def node_ages(device: torch.device) -> Tensor:
    """Ages of the nodes (J,), int64, on a device."""
    return torch.tensor(NODES, device=device)


def node_increments(curve: Tensor) -> Tensor:
    """Growth since the node before: (N, J) -> (N, J)."""
    return torch.diff(curve, dim=1, prepend=torch.zeros_like(curve[:, :1]))


def scaled_log_age(age: Tensor) -> Tensor:
    """Log of ages, of the order of one."""
    return torch.log1p(age) / 3.0 - 1.0


def bit_mask(condition: Tensor) -> Tensor:
    """All 32 bits set where a condition (...) holds, else none: int32, for `copy_masked`."""
    return -condition.to(torch.int32)


def copy_masked(values: Tensor, bits: Tensor, out: Tensor) -> None:
    """Write `values` to `out` where all `bits` are set, else zeros, whatever the values are.

    An `and` of bits, which is faster than a choice and lets no NaN through. `values` float32,
    `bits` int32 of -1 and 0, `out` int32, of shapes that go together.
    """
    torch.bitwise_and(values.view(torch.int32), bits, out=out)
