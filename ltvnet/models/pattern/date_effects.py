"""What dates do to curves: the calendar of all cohorts, and a trend from cohort to cohort.

Both are taken out of curves before these are compared, and put back into what is forecast.

Shapes: N cohorts, A ages, I intervals between nodes after D7, C clusters.
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
from ltvnet.models.pattern.gaussian_process import YEAR_DAYS as YEAR

AFTER = 7
"""Age after which growth may have a trend."""

SPAN = 1.0
"""Years of acquisition below which a trend cannot be told from a season."""

SIGHT = 2.0
"""Years before and after which a trend changes no more."""


@dataclass(frozen=True)
class Trend:
    """How growth after D7, of cohorts alike until then, changes with the date of acquisition.

    `rate` of its logarithm a year; cohorts acquired on `reference` have multiplier 1.
    """

    reference: np.datetime64
    rate: float

    @classmethod
    def none(cls, reference: np.datetime64) -> Self:
        """Cohorts grow alike whenever they were acquired."""
        return cls(reference, 0.0)

    @classmethod
    def learned(cls, curves: Curves, found: Ints) -> Self:
        """The trend as of the origin of `curves`, of which the calendar was taken out.

        Growth in each interval is compared with the chain ladder's from D7: a weighted
        least-squares slope over dates of acquisition within intervals, shrunk by 1 - 1/t^2 (the
        positive-part estimator of James and Stein 1961 in one dimension). The standard error is
        the larger of those clustered on the acquisition day and on the segment `found` (N,): the
        mix of campaigns changes with time too.
        """
        old = curves.observed_age > AFTER
        curves, found = curves.take(old), found[old]
        years = (curves.start - curves.origin).astype(np.int64) / YEAR  # (N,)
        if not len(years) or np.ptp(years) < SPAN:
            return cls.none(curves.origin)
        actual, expected = _grown(curves)
        center = _weighted_mean(years[:, None], expected)
        apart = years[:, None] - center  # (N, I)
        information = (expected * apart**2).sum()
        if information <= 0:
            return cls.none(curves.origin)
        slope = ((actual - expected) * apart).sum() / information
        rest = ((actual - expected - slope * expected * apart) * apart).sum(axis=1)
        day = np.unique(curves.start, return_inverse=True)[1]
        mixed = _clustered(rest, found) if np.ptp(found) else 0.0  # one segment: nothing is mixed
        error = max(_clustered(rest, day), mixed) / information
        certain = 1.0 - (error / slope) ** 2 if slope else 0.0
        return cls(curves.origin, float(slope * max(certain, 0.0)))

    def multipliers(self, curves: Curves) -> Floats:
        """What the trend does to each cohort at each age: (N, A)."""
        years = (curves.start - self.reference).astype(np.int64) / YEAR
        multiplier = np.exp(self.rate * np.clip(years, -SIGHT, SIGHT))[:, None]
        return np.where(np.arange(AGES) > AFTER, multiplier, 1.0)


def _grown(curves: Curves) -> tuple[Floats, Floats]:
    """Growth in each interval after D7 (N, I) in currency, and what it would be for all alike.

    Both 0 where the interval has not ended. Interval by interval they have the same sum.
    """
    nodes = np.array([node for node in NODES if node >= AFTER])
    base, gain = np.zeros((2, 1, AGES - 1))
    for block in block_slices(len(curves)):
        own = cohort_development(curves, AGES - 1, None, block)
        base += own.base.sum(axis=0)
        gain += own.gain.sum(axis=0)
    beta = share_earned(ratio_of_sums(Development(base, gain)), 0)  # (1, A)
    known = curves.observed_age[:, None] >= nodes[1:]
    users = np.where(known, curves.users[:, None], 0.0)
    actual = users * np.diff(np.nan_to_num(curves.values[:, nodes]), axis=1)
    expected = users * curves.values[:, [AFTER]] * np.diff(beta[:, nodes], axis=1)
    whole, told = actual.sum(axis=0), expected.sum(axis=0)
    level = np.divide(whole, told, out=np.zeros_like(told), where=told > 0)
    return actual, np.maximum(expected * level, 0.0)


def _weighted_mean(values: Floats, weight: Floats) -> Floats:
    total: Floats = weight.sum(axis=0)
    whole: Floats = (values * weight).sum(axis=0)
    return np.divide(whole, total, out=np.zeros_like(total), where=total > 0)


def _clustered(rest: Floats, cluster: Ints) -> float:
    """Standard error of a sum of rests (N,) that may be alike within clusters; inf for two or less.

    The sandwich estimator with the factor C / (C - 2) for small numbers of clusters.
    """
    _, place = np.unique(cluster, return_inverse=True)
    sums = np.bincount(place, rest)
    count = len(sums)
    return float(np.sqrt((sums**2).sum() * count / (count - 2))) if count > 2 else np.inf


@dataclass(frozen=True)
class Dates:
    """The calendar and the trend together."""

    calendar: Calendar
    trend: Trend

    @classmethod
    def learned(cls, curves: Curves, found: Ints, *, calendar: bool, trend: bool) -> Self:
        """Those of the two that are wanted, as of the origin of `curves`; `found` (N,) segments."""
        origin = curves.origin
        dates = cls(
            Calendar.fit(curves) if calendar else Calendar.neutral(origin), Trend.none(origin)
        )
        if not trend:
            return dates
        return replace(dates, trend=Trend.learned(dates.without(curves), found))

    @property
    def alike(self) -> bool:
        """Whether dates make no difference."""
        return not len(self.calendar.multiplier) and not self.trend.rate

    def like(self, other: "Dates") -> bool:
        """Whether dates do the same by another."""
        ours, theirs = self.calendar, other.calendar
        same = ours.begin == theirs.begin and self.trend == other.trend
        return bool(same) and np.array_equal(ours.multiplier, theirs.multiplier)

    def multipliers(self, curves: Curves) -> Floats:
        """What dates do to each cohort at each age: (N, A)."""
        if not self.trend.rate:
            return self.calendar.multipliers(curves)
        return self.calendar.multipliers(curves) * self.trend.multipliers(curves)

    def without(self, curves: Curves) -> Curves:
        """The curves as they would have been if all dates were alike."""
        if self.alike:
            return curves
        values = np.empty_like(curves.values)
        for block in block_slices(len(curves)):
            part = curves.take(block)
            gain = np.diff(part.values, axis=1, prepend=0.0) / self.multipliers(part)
            np.cumsum(gain, axis=1, out=values[block])
        return curves.with_values(values)

    def dated(self, curves: Curves, beta: Floats) -> Floats:
        """The shape (N, A) that cohorts have on their own dates, of one where all are alike."""
        return beta if self.alike else _stretched(beta, self.multipliers(curves))

    def shapes(self, curves: Curves, beta: Floats, found: Ints) -> tuple[Floats, Ints]:
        """The same, once (P, A) for all cohorts of a segment and of the same dates; which is whose.

        `beta` (S, A) the shape of each segment, `found` (N,) the segments.
        """
        date, first = self._alike(curves)
        pair, row, which = np.unique(
            date * len(beta) + found, return_index=True, return_inverse=True
        )
        own, day = pair % len(beta), date[row]
        if self.alike:
            return beta[own], which
        gain, times = np.diff(beta, axis=1, prepend=0.0), self.multipliers(curves.take(first))
        shape = np.empty((len(pair), AGES))
        for block in block_slices(len(pair)):
            np.cumsum(gain[own[block]] * times[day[block]], axis=1, out=shape[block])
        return shape, which

    def value(self, curves: Curves) -> Floats:
        """What was observed (N,) had all dates been alike, NaN where no age is complete.

        The sum of gains over their multipliers, summed by parts.
        """
        if self.alike:
            return curves.observed_value
        date, first = self._alike(curves)
        weight = 1.0 / self.multipliers(curves.take(first))  # (D, A)
        after = np.pad(weight, ((0, 0), (0, 1)))  # nothing is weighed after the last age
        falls, k = weight - after[:, 1:], curves.observed_age
        value: Floats = curves.observed_value * after[date, np.maximum(k, 0) + 1]
        for block in block_slices(len(k)):
            ages = np.arange(k[block].max() + 1)
            seen = np.where(ages <= k[block, None], curves.values[block, : len(ages)], 0.0)
            value[block] += np.einsum("na,na->n", seen, falls[date[block], : len(ages)])
        return value

    def _alike(self, curves: Curves) -> tuple[Ints, Ints]:
        """Number of the dates of each cohort (N,), rising, and the first cohort of each (D,)."""
        new = np.diff(curves.start.astype(np.int64), prepend=0) != 0
        new |= np.diff(curves.end.astype(np.int64), prepend=0) != 0
        new[:1] = True
        return np.cumsum(new) - 1, np.flatnonzero(new)


def _stretched(beta: Floats, times: Floats) -> Floats:
    """Shapes (N, A) whose daily gains are multiplied."""
    stretched: Floats = np.diff(beta, axis=1, prepend=0.0) * times
    return np.cumsum(stretched, axis=1, out=stretched)
