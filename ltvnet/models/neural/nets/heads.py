"""The shape contract of all nets, and their head; losses.py has what they are trained by.

A net predicts the departure from the historical pattern, one z an interval between nodes, so an
untrained net is the pattern. Growth is a sum of positive multiples of the pattern's growth:
monotone, and exact on every day.

Shapes: B tasks (a cohort at an observed age), J nodes, I = J - 1 intervals, F features a node,
S scalars, C attributes, Q = 4 quantities (mean, p10, p50, p90), T targets.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

QUANTITY_COUNT = 4
"""Outputs Q of a net an interval: mean, p10, p50 and p90."""


class TaskInputs(NamedTuple):
    """Inputs of a net: all it sees of tasks.

    `node_features` (B, J, F) features at nodes, 0 where not observed; `is_observed` (B, J) which
    nodes are; `scalars` (B, S); `codes` (B, C) categories of attributes, 0 = unseen.
    """

    node_features: Tensor
    is_observed: Tensor
    scalars: Tensor
    codes: Tensor


class TaskTargets(NamedTuple):
    """Targets of a net: growth of tasks to the end of each interval, and to the last age known.

    `actual_growth` and `pattern_growth` (B, T) since the observed age; `weight` (B, T), 0 where
    not known; `last_interval` (B,) the one that holds the last age and `last_interval_growth` (B,)
    the pattern's growth in it up to that age; `interval_growth` (B, I) the pattern's growth in each
    interval; `observed_value` (B,) revenue per user at the observed age. T = I + 1.
    """

    actual_growth: Tensor
    pattern_growth: Tensor
    weight: Tensor
    last_interval: Tensor
    last_interval_growth: Tensor
    interval_growth: Tensor
    observed_value: Tensor


class InputSizes(NamedTuple):
    """Widths of the inputs: nodes J, features F, scalars S, and categories C of each attribute."""

    nodes: int
    features: int
    scalars: int
    categories: tuple[int, ...]


class AttributeEmbeddings(nn.Module):
    """Embeddings of all attributes, side by side: (B, C) -> (B, C x width).

    A net holds it as `attributes`, where a warm start looks for it.
    """

    first_row: Tensor

    def __init__(self, *, categories: tuple[int, ...], width: int) -> None:
        """One table an attribute; category 0 is the unseen bucket."""
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(count, width) for count in categories)
        self.width = width * len(categories)
        first_row = torch.tensor([0, *categories[:-1]], dtype=torch.int64).cumsum(0)
        self.register_buffer("first_row", first_row, persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """Embed codes (B, C): looked up in all tables at once, as their gradients take a sort."""
        if not len(self.tables):
            return codes.new_zeros((len(codes), 0)).float()
        joined_tables = torch.cat(list(self.tables.parameters()))
        embeddings = functional.embedding(codes + self.first_row, joined_tables)  # (B, C, width)
        return embeddings.flatten(1)


class Head(nn.Module):
    """Last layer: (B, D) -> raw z (B, I, Q); it starts at zero, so that the net is the pattern."""

    def __init__(self, *, width: int, intervals: int) -> None:
        """`width` D of the layer before."""
        super().__init__()
        self.linear = nn.Linear(width, intervals * QUANTITY_COUNT)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Raw z of each interval and quantity."""
        raw: Tensor = self.linear(hidden)
        interval_count = raw.shape[1] // QUANTITY_COUNT
        return raw.reshape(len(raw), interval_count, QUANTITY_COUNT)  # (B, I, Q)


def log_multiples(raw: Tensor, confidence: float) -> Tensor:
    """Log multiples z of the pattern's growth, for mean, p10, p50 and p90, of raw z: (Q, B, I).

    The mean's z is scaled by `confidence` in 0..1; the median departs from the mean, and p10 and
    p90 from the median by positive gaps, which are not scaled. Autograd does not follow.
    """
    gap_below, gap_above = functional.softplus(raw[2:])
    z = torch.empty_like(raw)
    mean, p10, p50, p90 = z
    torch.mul(raw[0], confidence, out=mean)
    torch.add(mean, raw[1], out=p50)
    torch.sub(p50, gap_below, out=p10)
    torch.add(p50, gap_above, out=p90)
    return z
