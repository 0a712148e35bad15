"""What past forecasts got wrong, learned walking forward: blend with the pattern, and correction.

Both act on increments between nodes, so a forecast stays monotone and exact at what was observed,
and an error is learned as soon as its interval has ended. A stage is on, by observed age, only
where it was significantly better on forecasts issued before it was learned: over acquisition
weeks, since cohorts of a week err alike, and over origins, since a season moves all cohorts.

Shapes: E past forecasts, J nodes, I = J - 1 intervals, B buckets of observed age, S segments.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from ltvnet.correction.past_errors import MaturedForecasts
from ltvnet.data.arrays import Bools, Floats, Ints
from ltvnet.data.curves import NODES
from ltvnet.data.segments import Segments
from ltvnet.forecasting.forecast import AGE_BUCKETS, age_bucket

CORRECTION_KAPPAS = (20.0, 100.0, 500.0)
"""The grid of the correction's credibility, in median forecast increments."""

HALF_LIFE_DAYS = 60.0
"""Days in which a past forecast's weight in a correction halves: what is wrong wanders."""


@dataclass(frozen=True)
class Correction:
    """Factors on increments by bucket, segment and interval (B, S, I), and where they are on.

    `on` (B,); `kappa` (B,) the credibility that was best; `rows` (B, S, I) increments behind each
    factor.
    """

    segments: Segments
    factor: Floats
    increment_count: Ints
    is_on: Bools
    kappa: Floats

    @classmethod
    def neutral(cls) -> Self:
        """No correction."""
        shape = (len(AGE_BUCKETS), 1, len(NODES) - 1)
        segments = Segments.from_keys((), [()])
        ones = np.ones(shape)
        off = np.zeros(len(AGE_BUCKETS), dtype=bool)
        return cls(segments, ones, np.zeros(shape, dtype=np.int64), off, np.zeros(len(AGE_BUCKETS)))

    @classmethod
    def fit(cls, past: MaturedForecasts, kappa: float) -> Self:
        """Actual over expected increments, shrunk to the parent segment's factor.

        c = max(0, (sum users actual + K c_parent) / (sum users forecast + K)), K = kappa x the
        median of users x forecast increment, where positive, in that bucket and interval; c above
        the top is 1. The sums are of recent forecasts above all, see HALF_LIFE.
        """
        matured = past.has_matured
        users = np.where(matured, past.users[:, None], 0.0)
        whole = users * past.forecast_growth
        fresh = 0.5 ** (past.days_ago[:, None] / HALF_LIFE_DAYS)
        expected, actual = fresh * whole, fresh * users * np.nan_to_num(past.actual_growth)
        shape = (len(AGE_BUCKETS), len(past.segments.keys), len(NODES) - 1)
        factor, rows = np.ones(shape), np.zeros(shape, dtype=np.int64)
        which = age_bucket(past.observed_age)
        for b in np.unique(which):
            own = which == b
            found = past.segment[own]
            middle = _median(whole[own])  # (I,)
            sums = past.segments.subtotals(
                np.stack((actual[own], expected[own], matured[own].astype(float)), axis=2), found
            )
            rows[b] = sums[:, :, 2].astype(np.int64)
            factor[b] = _shrunk(past.segments, sums, kappa * middle)
        off = np.zeros(len(AGE_BUCKETS), dtype=bool)
        return cls(past.segments, factor, rows, off, np.full(len(AGE_BUCKETS), kappa))

    def apply(self, grown: Floats, observed: Ints, segment: Ints, *, trial: bool = False) -> Floats:
        """Corrected increments (E, I): where the stage is on, or everywhere on trial."""
        which = age_bucket(observed)
        factor = self.factor[which, segment]
        return grown * (factor if trial else np.where(self.is_on[which][:, None], factor, 1.0))


def _median(expected: Floats) -> Floats:
    """Median of the positive cells of each interval (I,), 0 where there is none."""
    frame = pd.DataFrame(np.where(expected > 0, expected, np.nan))
    return frame.median().fillna(0.0).to_numpy()


def _shrunk(segments: Segments, sums: Floats, constant: Floats) -> Floats:
    """Factors (S, I) of sums (S, I, 3) of actual, expected and rows."""
    factor = np.ones(sums.shape[:2])
    for s in [np.zeros(1, dtype=np.int64), *segments.lower_levels()]:
        parent = factor[segments.parent[s]]  # 1 above the top
        expected = sums[s, :, 1] + constant
        actual = sums[s, :, 0] + constant * parent
        ratio = np.divide(actual, expected, out=parent.copy(), where=expected > 0)
        factor[s] = np.maximum(ratio, 0.0)
    return factor
