"""The nearest historical curves: how cohorts grew that looked like this one.

Shapes: N cohorts, B of them at a time, R of these at one node, C historical cohorts, J nodes, H
ages asked for, M neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from ltvnet.data.arrays import Floats, Ints
from ltvnet.data.curves import NODE_AGES, NODES, Curves
from ltvnet.forecasting.forecast import Forecast
from ltvnet.forecasting.forecaster import State, StateArrays, StateValues
from ltvnet.forecasting.interpolation import (
    fraction_of_interval,
    interpolate_in_log_age,
    interval_index,
)
from ltvnet.forecasting.model_spec import Config
from ltvnet.models.baselines.fallback import (
    baseline_state,
    forecast_with_fallback,
    require_fitted,
    restore_baseline,
    with_complete_age,
)
from ltvnet.models.pattern.pattern import Pattern

MIN_SHARE = 0.01
"""Share of the revenue so far below which earlier revenue is as good as none."""

MAX_DISTANCES = 2**20
"""Most distances held at a time: what bounds the memory of a prediction."""

MAX_KEPT_CURVES = 20_000
"""Most historical curves that are kept, evenly from first to last: what bounds the time."""

NEIGHBOUR_QUANTILES = (0.1, 0.9)
"""Quantiles of neighbours' growth that become P10 and P90."""


@dataclass(frozen=True)
class HistoricalCurves:
    """Curves that have matured: `values` (C, J) at NODES, NaN where not reached; `users` (C,)."""

    values: Floats
    users: Floats

    def values_at(self, age: Ints) -> Floats:
        """Values of every curve at one age a row (B,), linear in log(1 + age): (B, C)."""
        left = interval_index(age)
        right = left + (age > 0)  # no interval holds age 0: both ends are its node
        share = fraction_of_interval(
            np.log1p(age), np.log1p(NODE_AGES[left]), np.log1p(NODE_AGES[right])
        )  # (B,)
        share = share[:, None]

        begin = self.values.T[left]  # (B, C)
        end = self.values.T[right]
        return np.where(share == 1, end, begin + share * (end - begin))

    def distances(self, curves: Curves) -> Floats:
        """Squared distances (B, C) between logs: of the level at k, and of its shares at 1 and k/2.

        Infinite from and to curves without revenue at k, the observed age.
        """
        observed_age = np.maximum(curves.observed_age, 0)
        rows = np.arange(len(curves))
        value = curves.values[rows, observed_age][:, None]  # (B, 1)
        historical_value = self.values_at(observed_age)  # (B, C)

        has_revenue = (value > 0) & (historical_value > 0)
        nan_without_revenue = np.where(has_revenue, 1.0, np.nan)
        positive_value = np.where(value > 0, value, 1.0)
        squared = np.square(np.log(nan_without_revenue * historical_value / positive_value))

        for earlier_age in (np.minimum(1, observed_age), observed_age // 2):
            share = curves.values[rows, earlier_age][:, None] / positive_value
            historical_share = nan_without_revenue * self.values_at(earlier_age) / historical_value
            squared += np.square(_log_share(historical_share) - _log_share(share))

        return np.where(np.isfinite(squared), squared, np.inf)

    def growth_factors(self, curves: Curves, count: int) -> Floats:
        """Growth factor from k to each node by the nearest `count` curves: (3, B, J).

        Of sums over them and at NEIGHBOUR_QUANTILES; NaN at nodes observed and where fewer curves
        have reached the node.
        """
        squared = self.distances(curves)
        observed_age = curves.observed_age
        value_at_observed_age = self.values_at(np.maximum(observed_age, 0))  # (B, C)
        factors = np.full((3, len(curves), len(NODES)), np.nan)

        for node_index, node in enumerate(NODES):
            reached = np.flatnonzero(np.isfinite(self.values[:, node_index]))
            rows = np.flatnonzero((observed_age >= 0) & (observed_age < node))
            if len(reached) < count or not len(rows):
                continue

            candidates = squared[np.ix_(rows, reached)]
            nearest = np.argpartition(candidates, count - 1, axis=1)[:, :count]  # (R, M)
            nearest_distance = np.take_along_axis(candidates, nearest, axis=1)
            has_neighbours = np.isfinite(nearest_distance).all(axis=1)
            rows = rows[has_neighbours]
            neighbours = reached[nearest[has_neighbours]]

            begin = value_at_observed_age[rows[:, None], neighbours]
            end = self.values[neighbours, node_index]
            factors[:, rows, node_index] = _pooled_growth(begin, end, self.users[neighbours])

        return factors


def evenly_spaced_rows(rows: Ints) -> Ints:
    """Take MAX_KEPT_CURVES of rows at even steps from the first; all where there are no more."""
    count = min(len(rows), MAX_KEPT_CURVES)
    return rows[np.arange(count) * len(rows) // max(count, 1)]


def _log_share(share: Floats) -> Floats:
    return np.log(np.maximum(share, MIN_SHARE))


def _pooled_growth(begin: Floats, end: Floats, users: Floats) -> Floats:
    """Ratio of sums over neighbours (R, M), and quantiles of their ratios by users: (3, R)."""
    pooled = (users * end).sum(axis=1) / (users * begin).sum(axis=1)

    ratio = end / begin
    order = np.argsort(ratio, axis=1)
    sorted_ratio = np.take_along_axis(ratio, order, axis=1)
    weight = np.take_along_axis(users, order, axis=1)
    cumulative_share = np.cumsum(weight, axis=1) / weight.sum(axis=1, keepdims=True)

    quantiles = []
    for quantile in NEIGHBOUR_QUANTILES:
        position = np.argmax(cumulative_share >= quantile, axis=1)[:, None]
        quantiles.append(np.take_along_axis(sorted_ratio, position, axis=1)[:, 0])
    return np.stack([pooled, *quantiles])


class Neighbours:
    """Each cohort grows as its nearest historical curves did: ratio of sums over them.

    `count` neighbours, of those that have reached the horizon; where there are fewer the pattern
    forecasts, whose config is `pattern`. P10 and P90 are those of the neighbours' growth, weighted
    by users. The state, and so the bundle, is the history: the curve of each cohort at NODES and
    its users, of MAX_KEPT_CURVES at most, in order of acquisition but without key, date or
    attribute. Who may not pass on the revenue of single cohorts may not pass on this bundle; other
    models hold none. Raises ValueError for less than one neighbour.
    """

    history: HistoricalCurves  # set by fit

    def __init__(self, *, count: int, pattern: Config) -> None:
        """Take the configuration."""
        if count < 1:
            raise ValueError(f"expected count >= 1, got {count}")
        self.count = count
        self.pattern = Pattern.from_config(pattern)

    def fit(self, curves: Curves) -> Self:
        """Fit the pattern and keep curves. Raises ValueError when no age is complete."""
        curves = with_complete_age(curves)
        self.pattern.fit(curves)

        with_users = np.flatnonzero(np.nan_to_num(curves.users) > 0)
        rows = evenly_spaced_rows(with_users)
        self.history = HistoricalCurves(curves.values[:, NODES][rows], curves.users[rows])
        return self

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`, with the quantiles of its neighbours."""
        require_fitted(self)
        pattern_forecast = self.pattern.predict(curves, ages)

        factors = np.full((3, len(curves), len(NODES)), np.nan)
        rows_at_a_time = max(MAX_DISTANCES // max(len(self.history.users), 1), 1)
        for begin in range(0, len(curves), rows_at_a_time):
            rows = np.arange(begin, min(begin + rows_at_a_time, len(curves)))
            factors[:, rows] = self.history.growth_factors(curves.take(rows), self.count)

        observed_value = curves.observed_value[:, None]
        mean, p10, p90 = (
            interpolate_in_log_age(curves, observed_value * factor, pattern_forecast.ages)
            for factor in factors
        )
        return forecast_with_fallback(pattern_forecast, mean, p10, p90)

    def state(self) -> State:
        """Describe the forecaster: historical curves at NODES, and the pattern's state."""
        require_fitted(self)
        arrays = {"curves": self.history.values, "users": self.history.users}
        return baseline_state(self.pattern, {"arguments": {"count": self.count}}, arrays)

    @classmethod
    def from_state(cls, values: StateValues, arrays: StateArrays) -> Self:
        """Make the forecaster that `state()` described."""
        forecaster = restore_baseline(cls, values, arrays)
        forecaster.history = HistoricalCurves(arrays["curves"], arrays["users"])
        return forecaster
