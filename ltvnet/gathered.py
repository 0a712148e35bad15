"""What the inputs and targets of a task are made of: tables by cohort, and tables by age.

Shapes: N cohorts, A ages, B tasks, J nodes, I = J - 1 intervals, F features a node, H covariates
of nodes to come, T = I + 1 targets.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Cells(NamedTuple):
    """What the tables hold of tasks at their observed ages, each (B,)."""

    value: Tensor
    beta: Tensor
    prior: Tensor
    level: Tensor


class Cohorts(NamedTuple):
    """What each cohort brings to the inputs of its tasks.

    `seen` (N, J x F) features but for what was expected by then, `beta` (N, J x F) the share of
    its level that was, `own` (N, 3) its users, its volume to one of revenue, and log users.
    """

    seen: Tensor
    beta: Tensor
    own: Tensor


class Observed(NamedTuple):
    """What each observed age brings to the inputs of a task.

    `nodes` (A, J) which nodes are observed, `features` (A, J x F) and `ahead` (A, J x H) masks of
    bits, `log` (A,) of the age.
    """

    nodes: Tensor
    features: Tensor
    ahead: Tensor
    log: Tensor


class Outcomes(NamedTuple):
    """What became of each cohort, at the end of each interval and at its last age.

    `values` and `beta` (N, T), `known` (N, T) 1 or 0, `interval` (N,) that holds the last age, and
    `last` (N, 3): log of the last age and of the node before, and the rarity of that horizon.
    """

    values: Tensor
    beta: Tensor
    known: Tensor
    interval: Tensor
    last: Tensor


class Ahead(NamedTuple):
    """What of each target is after each observed age: `later` 1 or 0, and `weight`, (A, T) each.

    `log` (A,) of the age.
    """

    later: Tensor
    weight: Tensor
    log: Tensor


def steps(curve: Tensor) -> Tensor:
    """Growth since the node before: (N, J) -> (N, J)."""
    return torch.diff(curve, dim=1, prepend=torch.zeros_like(curve[:, :1]))


def log_age(age: Tensor) -> Tensor:
    """Log of ages, of the order of one."""
    return torch.log1p(age) / 3.0 - 1.0


def log_ratio(seen: Tensor, expected: Tensor) -> Tensor:
    """Log of what was seen over what was expected, both in volume units."""
    return torch.log1p(seen.clamp(min=-0.5)) - torch.log1p(expected.clamp(min=0.0))


def mask(chosen: Tensor) -> Tensor:
    """All bits or none: (...), int32, for `kept`."""
    return -chosen.to(torch.int32)


def kept(values: Tensor, bits: Tensor) -> Tensor:
    """Values where all `bits` are set, else 0 whatever they are: a choice by bits is fast.

    In place; `values` float32 and `bits` int32 of -1 and 0.
    """
    values.view(torch.int32).bitwise_and_(bits)
    return values
