"""The effects of dates on curves: the calendar of all cohorts, and a trend from cohort to cohort.

Both are taken out of curves before these are compared, and put back into forecasts.

Shapes: N cohorts, A ages, I intervals between nodes after D7, C clusters, S segments, P shapes,
D distinct dates of cohorts.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from ltvnet.data.arrays import Floats, Ints, block_slices
from ltvnet.data.curves import AGES, NODES, Curves
from ltvnet.models.pattern.calendar_effects import Calendar
from ltvnet.models.pattern.development import (
    Development,
    cohort_development,
    ratio_of_sums,
    share_earned,
)
from ltvnet.models.pattern.gaussian_process import YEAR_DAYS

TREND_AGE = 7
"""Age after which growth may have a trend."""

MIN_TREND_YEARS = 1.0
"""Years of acquisition below which a trend cannot be told from a season."""

MAX_TREND_YEARS = 2.0
"""Years before and after which a trend changes no more."""


@dataclass(frozen=True)
class Trend:
    """Change of growth after D7, of cohorts alike until then, with the date of acquisition.

    `rate` of its logarithm a year; cohorts acquired on `reference` have multiplier 1.
    """

    reference: np.datetime64
    rate: float

    @classmethod
    def neutral(cls, reference: np.datetime64) -> Self:
        """Make a trend under which cohorts grow alike whenever they were acquired."""
        return cls(reference, 0.0)

    @classmethod
    def fit(cls, curves: Curves, segment: Ints) -> Self:
        """Fit the trend as of the origin of `curves`, of which the calendar was taken out.

        Growth in each interval is compared with the chain ladder's from D7: a weighted
        least-squares slope over dates of acquisition within intervals, shrunk by 1 - 1/t^2 (the
        positive-part estimator of James and Stein 1961 in one dimension). The standard error is
        the larger of those clustered on the acquisition day and on the `segment` (N,): the mix of
        campaigns changes with time too.
        """
        is_old = curves.observed_age > TREND_AGE
        curves = curves.take(is_old)
        segment = segment[is_old]
        years = (curves.start - curves.origin).astype(np.int64) / YEAR_DAYS  # (N,)
        if not len(years) or np.ptp(years) < MIN_TREND_YEARS:
            return cls.neutral(curves.origin)

        actual, expected = _interval_growth_after_d7(curves)
        years_from_mean = years[:, None] - _weighted_mean(years[:, None], expected)  # (N, I)
        information = (expected * years_from_mean**2).sum()
        if information <= 0:
            return cls.neutral(curves.origin)
        slope = ((actual - expected) * years_from_mean).sum() / information

        residual = actual - expected - slope * expected * years_from_mean
        score = (residual * years_from_mean).sum(axis=1)  # (N,)
        day = np.unique(curves.start, return_inverse=True)[1]
        has_segments = bool(np.ptp(segment))  # of one segment, no mix can change
        segment_error = _clustered_error(score, segment) if has_segments else 0.0
        error = max(_clustered_error(score, day), segment_error) / information

        shrinkage = 1.0 - (error / slope) ** 2 if slope else 0.0
        return cls(curves.origin, float(slope * max(shrinkage, 0.0)))

    def multipliers(self, curves: Curves) -> Floats:
        """Return the multiplier of growth of each cohort at each age: (N, A)."""
        years = (curves.start - self.reference).astype(np.int64) / YEAR_DAYS
        years = np.clip(years, -MAX_TREND_YEARS, MAX_TREND_YEARS)
        multiplier = np.exp(self.rate * years)[:, None]
        return np.where(np.arange(AGES) > TREND_AGE, multiplier, 1.0)


def _interval_growth_after_d7(curves: Curves) -> tuple[Floats, Floats]:
    """Growth in each interval after D7 in currency (N, I), and as it would be for all alike (N, I).

    Both 0 where the interval has not ended. Interval by interval they have the same sum.
    """
    base, gain = np.zeros((2, 1, AGES - 1))
    for block in block_slices(len(curves)):
        development = cohort_development(curves, AGES - 1, None, block)
        base += development.base.sum(axis=0)
        gain += development.gain.sum(axis=0)
    beta = share_earned(ratio_of_sums(Development(base, gain)), 0)  # (1, A)

    nodes = np.array([node for node in NODES if node >= TREND_AGE])
    has_ended = curves.observed_age[:, None] >= nodes[1:]
    users = np.where(has_ended, curves.users[:, None], 0.0)
    actual = users * np.diff(np.nan_to_num(curves.values[:, nodes]), axis=1)
    expected = users * curves.values[:, [TREND_AGE]] * np.diff(beta[:, nodes], axis=1)

    actual_sum = actual.sum(axis=0)
    expected_sum = expected.sum(axis=0)
    level = np.zeros_like(expected_sum)
    np.divide(actual_sum, expected_sum, out=level, where=expected_sum > 0)
    return actual, np.maximum(expected * level, 0.0)


def _weighted_mean(values: Floats, weight: Floats) -> Floats:
    """Mean over rows by weight; 0 where nothing weighs."""
    weight_sum: Floats = weight.sum(axis=0)
    weighted_sum: Floats = (values * weight).sum(axis=0)
    out = np.zeros_like(weight_sum)
    return np.divide(weighted_sum, weight_sum, out=out, where=weight_sum > 0)


def _clustered_error(score: Floats, cluster: Ints) -> float:
    """Standard error of a sum of scores (N,) that may be alike within clusters; inf for C <= 2.

    The sandwich estimator with the factor C / (C - 2) for small numbers of clusters.
    """
    _, cluster_index = np.unique(cluster, return_inverse=True)
    sums = np.bincount(cluster_index, score)
    count = len(sums)
    if count <= 2:
        return np.inf
    return float(np.sqrt((sums**2).sum() * count / (count - 2)))


@dataclass(frozen=True)
class DateEffects:
    """The calendar and the trend together."""

    calendar: Calendar
    trend: Trend

    @classmethod
    def fit(cls, curves: Curves, segment: Ints, *, calendar: bool, trend: bool) -> Self:
        """Fit the enabled effects as of the origin of `curves`; `segment` (N,) of each cohort."""
        origin = curves.origin
        fitted_calendar = Calendar.fit(curves) if calendar else Calendar.neutral(origin)
        effects = cls(fitted_calendar, Trend.neutral(origin))
        if not trend:
            return effects
        return replace(effects, trend=Trend.fit(effects.remove_from(curves), segment))

    @property
    def is_neutral(self) -> bool:
        """Return whether dates make no difference."""
        return not len(self.calendar.multiplier) and not self.trend.rate

    def has_same_effect(self, other: "DateEffects") -> bool:
        """Return whether both have the same effect on every date."""
        if self.calendar.begin != other.calendar.begin or self.trend != other.trend:
            return False
        return np.array_equal(self.calendar.multiplier, other.calendar.multiplier)

    def multipliers(self, curves: Curves) -> Floats:
        """Return the multiplier of growth of each cohort at each age: (N, A)."""
        if not self.trend.rate:
            return self.calendar.multipliers(curves)
        return self.calendar.multipliers(curves) * self.trend.multipliers(curves)

    def remove_from(self, curves: Curves) -> Curves:
        """Return the curves as they would have been if all dates were alike."""
        if self.is_neutral:
            return curves

        values = np.empty_like(curves.values)
        for block in block_slices(len(curves)):
            block_curves = curves.take(block)
            gain = np.diff(block_curves.values, axis=1, prepend=0.0)
            gain = gain / self.multipliers(block_curves)
            np.cumsum(gain, axis=1, out=values[block])
        return curves.with_values(values)

    def apply_to_shape(self, curves: Curves, beta: Floats) -> Floats:
        """Return the shape (N, A) of cohorts on their own dates, from that of dates all alike."""
        if self.is_neutral:
            return beta
        gain: Floats = np.diff(beta, axis=1, prepend=0.0) * self.multipliers(curves)
        return np.cumsum(gain, axis=1, out=gain)

    def shapes_by_segment_and_date(
        self, curves: Curves, beta: Floats, segment: Ints
    ) -> tuple[Floats, Ints]:
        """Return the distinct shapes (P, A) by segment and dates, and the index of each cohort's.

        `beta` (S, A) the shape of each segment were all dates alike, `segment` (N,) of each cohort.
        """
        date, first_of_date = self._distinct_dates(curves)
        pair, first_of_pair, shape_index = np.unique(
            date * len(beta) + segment, return_index=True, return_inverse=True
        )
        pair_segment = pair % len(beta)
        pair_date = date[first_of_pair]
        if self.is_neutral:
            return beta[pair_segment], shape_index

        gain = np.diff(beta, axis=1, prepend=0.0)  # (S, A)
        multiplier = self.multipliers(curves.take(first_of_date))  # (D, A)
        shape = np.empty((len(pair), AGES))
        for block in block_slices(len(pair)):
            dated_gain = gain[pair_segment[block]] * multiplier[pair_date[block]]
            np.cumsum(dated_gain, axis=1, out=shape[block])
        return shape, shape_index

    def observed_value_without(self, curves: Curves) -> Floats:
        """Return the value observed (N,) had all dates been alike, NaN where no age is complete.

        It is the sum of gains over their multipliers, summed by parts.
        """
        if self.is_neutral:
            return curves.observed_value

        date, first_of_date = self._distinct_dates(curves)
        weight = 1.0 / self.multipliers(curves.take(first_of_date))  # (D, A)
        next_weight = np.pad(weight, ((0, 0), (0, 1)))  # nothing is weighed after the last age
        falls = weight - next_weight[:, 1:]

        k = curves.observed_age
        value: Floats = curves.observed_value * next_weight[date, np.maximum(k, 0) + 1]
        for block in block_slices(len(k)):
            ages = np.arange(k[block].max() + 1)
            is_observed = ages <= k[block, None]
            observed = np.where(is_observed, curves.values[block, : len(ages)], 0.0)
            value[block] += np.einsum("na,na->n", observed, falls[date[block], : len(ages)])
        return value

    def _distinct_dates(self, curves: Curves) -> tuple[Ints, Ints]:
        """Number of the dates of each cohort (N,), rising, and the first cohort of each (D,).

        Cohorts are sorted by their dates.
        """
        is_new = np.diff(curves.start.astype(np.int64), prepend=0) != 0
        is_new |= np.diff(curves.end.astype(np.int64), prepend=0) != 0
        is_new[:1] = True
        return np.cumsum(is_new) - 1, np.flatnonzero(is_new)
