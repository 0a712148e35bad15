"""Correction: factors on growth, by segment and age, learned from what past forecasts got wrong.

It acts on increments between nodes, as the blend before it does, so a forecast stays monotone and
exact at what was observed, and an error is learned as soon as its interval has ended. A stage is
on, by observed age, only where it was significantly better on forecasts issued before it was
learned: over acquisition weeks, since cohorts of a week err alike, and over origins, since a season
moves all cohorts.

Shapes: E past forecasts, J nodes, I = J - 1 intervals, B buckets of observed age, S segments.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import pandas as pd

from ltvnet.correction.matured_forecasts import MaturedForecasts
from ltvnet.data.arrays import Bools, Floats, Ints
from ltvnet.data.curves import NODES
from ltvnet.data.segments import Segments
from ltvnet.forecasting.forecast import AGE_BUCKETS, age_bucket
from ltvnet.models.pattern.credibility import credible_ratio

CORRECTION_KAPPAS = (20.0, 100.0, 500.0)
"""The grid of the correction's credibility, in median forecast increments."""

HALF_LIFE_DAYS = 60.0
"""Days in which a past forecast's weight in a correction halves: what is wrong wanders."""

SMALLEST_CHANGE = 0.005
"""Distance from 1 of the factors of an interval below which they are not worth telling."""


class IntervalFactor(NamedTuple):
    """Factors on the growth of an interval in one bucket: that of all cohorts, and by segment.

    `interval` the index of its first node, `overall` the factor at the top, `lowest` and `highest`
    of the segments with increments of their own, `increment_count` behind the factor at the top.
    """

    interval: int
    overall: float
    lowest: float
    highest: float
    increment_count: int


@dataclass(frozen=True)
class Correction:
    """Factors on increments by bucket, segment and interval (B, S, I), and where they are on.

    `is_on` (B,); `kappa` (B,) the credibility that was best; `increment_count` (B, S, I) increments
    behind each factor.
    """

    segments: Segments
    factor: Floats
    increment_count: Ints
    is_on: Bools
    kappa: Floats

    @classmethod
    def neutral(cls) -> Self:
        """Return a correction that changes nothing."""
        shape = (len(AGE_BUCKETS), 1, len(NODES) - 1)
        return cls(
            segments=Segments.from_keys((), [()]),
            factor=np.ones(shape),
            increment_count=np.zeros(shape, dtype=np.int64),
            is_on=np.zeros(len(AGE_BUCKETS), dtype=bool),
            kappa=np.zeros(len(AGE_BUCKETS)),
        )

    @classmethod
    def fit(cls, past: MaturedForecasts, kappa: float) -> Self:
        """Fit actual over expected increments, shrunk to the parent segment's factor.

        c = max(0, (sum users actual + K c_parent) / (sum users forecast + K)), K = kappa x the
        median of users x forecast increment, where positive, in that bucket and interval; c above
        the top is 1. The sums are of recent forecasts above all, see HALF_LIFE_DAYS. The factors
        are on nowhere yet.
        """
        has_matured = past.has_matured
        users = np.where(has_matured, past.users[:, None], 0.0)
        forecast = users * past.forecast_growth  # (E, I), in currency
        recency = 0.5 ** (past.days_ago[:, None] / HALF_LIFE_DAYS)
        expected = recency * forecast
        actual = recency * users * np.nan_to_num(past.actual_growth)

        shape = (len(AGE_BUCKETS), len(past.segments.keys), len(NODES) - 1)
        factor = np.ones(shape)
        increment_count = np.zeros(shape, dtype=np.int64)
        bucket_of_entry = age_bucket(past.observed_age)
        for bucket in np.unique(bucket_of_entry):
            in_bucket = bucket_of_entry == bucket
            addends = (actual[in_bucket], expected[in_bucket], has_matured[in_bucket].astype(float))
            sums = past.segments.subtotals(np.stack(addends, axis=2), past.segment[in_bucket])
            increment_count[bucket] = sums[:, :, 2].astype(np.int64)
            constant = kappa * _positive_median(forecast[in_bucket])  # (I,)
            factor[bucket] = _shrink_to_parents(past.segments, sums, constant)

        return cls(
            segments=past.segments,
            factor=factor,
            increment_count=increment_count,
            is_on=np.zeros(len(AGE_BUCKETS), dtype=bool),
            kappa=np.full(len(AGE_BUCKETS), kappa),
        )

    def apply(
        self, growth: Floats, observed_age: Ints, segment: Ints, *, trial: bool = False
    ) -> Floats:
        """Correct increments (E, I): where the stage is on, or everywhere on trial."""
        bucket = age_bucket(observed_age)
        factor = self.factor[bucket, segment]
        if not trial:
            factor = np.where(self.is_on[bucket][:, None], factor, 1.0)
        return growth * factor

    def noticeable_factors(self, bucket: int) -> list[IntervalFactor]:
        """Return the factors of a bucket by interval, where any is SMALLEST_CHANGE off 1 or more.

        Intervals without an increment have none.
        """
        factors = []
        for interval in np.flatnonzero(self.increment_count[bucket, 0]):
            has_increments = self.increment_count[bucket, :, interval] > 0  # (S,)
            by_segment = self.factor[bucket, has_increments, interval]
            if np.abs(by_segment - 1).max() < SMALLEST_CHANGE:
                continue
            factors.append(
                IntervalFactor(
                    interval=int(interval),
                    overall=float(self.factor[bucket, 0, interval]),
                    lowest=float(by_segment.min()),
                    highest=float(by_segment.max()),
                    increment_count=int(self.increment_count[bucket, 0, interval]),
                )
            )
        return factors


def _positive_median(expected: Floats) -> Floats:
    """Median of the positive cells of each interval (I,), 0 where there is none."""
    frame = pd.DataFrame(np.where(expected > 0, expected, np.nan))
    return frame.median().fillna(0.0).to_numpy()


def _shrink_to_parents(segments: Segments, sums: Floats, constant: Floats) -> Floats:
    """Factors (S, I) of sums (S, I, 3) of actual, expected and rows, each shrunk to its parent's.

    `constant` (I,) is what a parent's factor counts beside what was expected, in currency.
    """
    factor = np.ones(sums.shape[:2])
    top = np.zeros(1, dtype=np.int64)
    for level in [top, *segments.lower_levels()]:
        parent_factor = factor[segments.parent[level]]  # 1 above the top
        actual = sums[level, :, 0]
        expected = sums[level, :, 1]
        factor[level] = credible_ratio(actual, expected, constant, parent_factor)
    return factor
