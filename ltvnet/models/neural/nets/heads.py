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


class TaskInputs(NamedTuple):
    """What a net sees of a task.

    `prefix` (B, J, F) features at nodes, 0 where not observed; `observed` (B, J) which nodes
    are; `scalars` (B, S); `codes` (B, C) categories of attributes, 0 = unseen.
    """

    node_features: Tensor
    is_observed: Tensor
    scalars: Tensor
    codes: Tensor


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

    first: Tensor

    def __init__(self, *, categories: tuple[int, ...], width: int) -> None:
        """One table an attribute; category 0 is the unseen bucket."""
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(count, width) for count in categories)
        self.width = width * len(categories)
        first = torch.tensor([0, *categories[:-1]], dtype=torch.int64).cumsum(0)
        self.register_buffer("first", first, persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """Embed codes (B, C): looked up in all tables at once, as their gradients take a sort."""
        if not len(self.tables):
            return codes.new_zeros((len(codes), 0)).float()
        tables = torch.cat(list(self.tables.parameters()))
        return functional.embedding(codes + self.first, tables).flatten(1)


class Head(nn.Module):
    """Last layer: (B, D) -> raw z (B, I, Q); it starts at zero, so that the net is the pattern."""

    def __init__(self, *, width: int, intervals: int) -> None:
        """`width` D of the layer before."""
        super().__init__()
        self.linear = nn.Linear(width, intervals * 4)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Raw z of each interval and quantity."""
        raw: Tensor = self.linear(hidden)
        return raw.reshape(len(raw), raw.shape[1] // 4, 4)  # (B, I, Q)


def log_multiples(raw: Tensor, confidence: float) -> Tensor:
    """Log multiples of the pattern's growth z (Q, B, I) for mean, p10, p50, p90, of raw ones.

    The mean's z is scaled by `confidence` in 0..1; the median departs from the mean, and p10 and
    p90 from the median by positive gaps, which are not scaled. Autograd does not follow.
    """
    below, above = functional.softplus(raw[2:])
    z = torch.empty_like(raw)
    torch.mul(raw[0], confidence, out=z[0])
    torch.add(z[0], raw[1], out=z[2])
    torch.sub(z[2], below, out=z[1])
    torch.add(z[2], above, out=z[3])
    return z


class TaskTargets(NamedTuple):
    """What became of a task: at the end of each interval, and at the last age known.

    `growth` and `pattern` (B, T) actual and pattern growth since the observed age; `weight`
    (B, T), 0 where not known; `interval` (B,) the one that holds the last age and `part` (B,)
    the pattern's growth in it up to that age; `steps` (B, I) that in each interval, `value` (B,)
    revenue per user at the observed age. T = I + 1.
    """

    actual_growth: Tensor
    pattern_growth: Tensor
    weight: Tensor
    last_interval: Tensor
    last_interval_growth: Tensor
    interval_growth: Tensor
    observed_value: Tensor
