"""The nearest historical curves: how cohorts grew that looked like this one.

Shapes: N cohorts, B of them at a time, C historical cohorts, J nodes, H ages asked for, M
neighbours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ltvnet.data.arrays import Floats, Ints
from ltvnet.data.curves import NODES, Curves
from ltvnet.forecasting.forecast import Forecast
from ltvnet.forecasting.forecaster import State
from ltvnet.models.baselines.fallback import (
    baseline_state,
    create_pattern,
    forecast_with_fallback,
    interpolate_in_log_age,
    restore_baseline,
    with_complete_age,
)

MIN_SHARE = 0.01
"""Share of the revenue so far below which earlier revenue is as good as none."""

MAX_DISTANCES = 2**20
"""Most distances held at a time: what bounds the memory of a prediction."""

MAX_KEPT_CURVES = 20_000
"""Most historical curves that are kept, evenly from first to last: what bounds the time."""

QUANTILES = (0.1, 0.9)


@dataclass(frozen=True)
class HistoricalCurves:
    """Historical curves: `values` (C, J) at NODES, NaN where not reached, and `users` (C,)."""

    values: Floats
    users: Floats

    def at(self, age: Ints) -> Floats:
        """Values at one age a row (B,), linear in log(1 + age) between nodes: (B, C)."""
        nodes = np.array(NODES)
        right = np.searchsorted(nodes, age)
        left = np.maximum(right - 1, 0)
        width = np.log1p(nodes[right]) - np.log1p(nodes[left])
        part = np.log1p(age) - np.log1p(nodes[left])
        share = np.divide(part, width, out=np.zeros(len(age)), where=width > 0)[:, None]
        begin, end = self.values.T[left], self.values.T[right]
        return np.where(share == 1, end, begin + share * (end - begin))

    def distances(self, curves: Curves) -> Floats:
        """Squared distances (B, C) between logs: of the level at k, and of its shares at 1 and k/2.

        Infinite from and to curves without revenue at k.
        """
        k, rows = np.maximum(curves.observed_age, 0), np.arange(len(curves))
        own, theirs = curves.values[rows, k][:, None], self.at(k)
        alike = np.where((own > 0) & (theirs > 0), 1.0, np.nan)
        squared = np.square(np.log(alike * theirs / np.where(own > 0, own, 1.0)))
        for age in (np.minimum(1, k), k // 2):
            mine = _log_share(curves.values[rows, age][:, None] / np.where(own > 0, own, 1.0))
            squared += np.square(_log_share(alike * self.at(age) / theirs) - mine)
        return np.where(np.isfinite(squared), squared, np.inf)

    def factors(self, curves: Curves, count: int) -> Floats:
        """Growth factor from k to each node, of sums and at two quantiles: (3, B, J)."""
        squared, k = self.distances(curves), curves.observed_age
        begun = self.at(np.maximum(k, 0))
        told = np.full((3, len(curves), len(NODES)), np.nan)
        for j, node in enumerate(NODES):
            reached = np.flatnonzero(np.isfinite(self.values[:, j]))
            rows = np.flatnonzero((k >= 0) & (k < node))
            if len(reached) < count or not len(rows):
                continue
            apart = squared[np.ix_(rows, reached)]
            near = np.argpartition(apart, count - 1, axis=1)[:, :count]  # (R, M)
            enough = np.isfinite(np.take_along_axis(apart, near, axis=1)).all(axis=1)
            rows, near = rows[enough], reached[near[enough]]
            base, grown = begun[rows[:, None], near], self.values[near, j]
            told[:, rows, j] = _growth(base, grown, self.users[near])
        return told


def evenly_spaced_rows(rows: Ints) -> Ints:
    """MOST of rows at even steps, the first among them; all where there are no more."""
    count = min(len(rows), MAX_KEPT_CURVES)
    return rows[np.arange(count) * len(rows) // max(count, 1)]


def _log_share(share: Floats) -> Floats:
    return np.log(np.maximum(share, MIN_SHARE))


def _growth(base: Floats, grown: Floats, users: Floats) -> Floats:
    """Ratio of sums over neighbours (R, M), and quantiles of their ratios by users: (3, R)."""
    ratio = grown / base
    order = np.argsort(ratio, axis=1)
    ratio, weight = (np.take_along_axis(cells, order, axis=1) for cells in (ratio, users))
    below_it = np.cumsum(weight, axis=1) / weight.sum(axis=1, keepdims=True)
    place = [np.argmax(below_it >= q, axis=1)[:, None] for q in QUANTILES]
    low, high = (np.take_along_axis(ratio, p, axis=1)[:, 0] for p in place)
    pooled = (users * grown).sum(axis=1) / (users * base).sum(axis=1)
    return np.stack([pooled, low, high])


class Neighbours:
    """Each cohort grows as its nearest historical curves did: ratio of sums over them.

    `count` neighbours, of those that have reached the horizon; where there are fewer the pattern
    speaks, whose config is `pattern`. P10 and P90 are those of the neighbours' growth, weighted
    by users. Its state, and so its bundle, is its history: the curve of each cohort at NODES and
    its users, of MOST at most, in order of acquisition but without key, date or attribute. Who
    may not pass on the revenue of single cohorts may not pass on this bundle; other models hold
    none. Raises ValueError for less than one neighbour.
    """

    def __init__(self, *, count: int, pattern: Mapping[str, Any]) -> None:
        """Take the configuration."""
        if count < 1:
            raise ValueError(f"expected count >= 1, got {count}")
        self.count = count
        self.pattern = create_pattern(pattern)

    def fit(self, curves: Curves) -> Self:
        """Fit the pattern and keep curves. Raises ValueError when no age is complete."""
        curves = with_complete_age(curves)
        self.pattern.fit(curves)
        rows = evenly_spaced_rows(np.flatnonzero(np.nan_to_num(curves.users) > 0))
        self.past = HistoricalCurves(curves.values[:, NODES][rows], curves.users[rows])
        return self

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`, with the quantiles of its neighbours."""
        beside = self.pattern.predict(curves, ages)
        told = np.full((3, len(curves), len(NODES)), np.nan)
        step = max(MAX_DISTANCES // max(len(self.past.users), 1), 1)
        for begin in range(0, len(curves), step):
            rows = np.arange(begin, min(begin + step, len(curves)))
            told[:, rows] = self.past.factors(curves.take(rows), self.count)
        value = curves.observed_value[:, None]
        return forecast_with_fallback(
            beside, *(interpolate_in_log_age(curves, value * f, beside.ages) for f in told)
        )

    def state(self) -> State:
        """Historical curves at NODES, and the pattern's state."""
        own = {"curves": self.past.values, "users": self.past.users}
        return baseline_state(self.pattern, {"arguments": {"count": self.count}}, own)

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The neighbours that `state()` described."""
        fitted = restore_baseline(cls, values, arrays)
        fitted.past = HistoricalCurves(arrays["curves"], arrays["users"])
        return fitted
