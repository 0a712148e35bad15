"""Matured past forecasts beside what came true, and which trial forecast best.

Legend: E entries, I intervals, B buckets of observed age.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit, xlogy

from ltvnet.data.arrays import Bools, Floats, Ints
from ltvnet.data.curves import NODES
from ltvnet.data.segments import Segments
from ltvnet.forecasting.forecast import AGE_BUCKETS, age_bucket

MIN_WEEKS = 8
"""Acquisition weeks that must have matured before a stage can be told from chance."""

STAGE_CONFIDENCE = 0.93
"""Confidence (one-sided, Student's t) that a stage was better, over weeks and over origins."""

MIN_GROWTH_RATIO = 1e-9
"""A trial that forecasts no growth is judged as if it were this much of the forecast's."""


@dataclass(frozen=True)
class MaturedForecasts:
    """Forecasts as they were issued beside what had come true by a day.

    `observed` (E,) age, `value` (E,) at it, `users` (E,), `week` (E,) number of the acquisition
    week, `origin` (E,) number of the origin and `ago` (E,) days since then, `segment` (E,) the
    deepest segment; `forecast` and `actual` (E, I) increments, the latter NaN where the interval
    had not ended.
    """

    segments: Segments
    segment: Ints
    observed_age: Ints
    users: Floats
    week_index: Ints
    origin_index: Ints
    days_ago: Floats
    forecast_growth: Floats
    actual_growth: Floats

    @property
    def has_matured(self) -> Bools:
        """Which increments (E, I) had come true, of intervals that were ahead."""
        ahead = np.array(NODES[1:]) > self.observed_age[:, None]
        return ahead & np.isfinite(self.actual_growth)

    @property
    def growth_weight(self) -> Floats:
        """Weight of each increment (E, I): users x step in log age, 0 where not matured."""
        begin = np.maximum(np.array(NODES[:-1]), self.observed_age[:, None])
        step = np.log1p(np.array(NODES[1:])) - np.log1p(begin)
        return np.where(self.has_matured, self.users[:, None] * step, 0.0)

    def cumulate(self, grown: Floats) -> Floats:
        """Growth (E, I) summed over the intervals that have come true."""
        return np.cumsum(np.where(self.has_matured, grown, 0.0), axis=1)

    @property
    def independent_origins(self) -> Floats:
        """How many origins without overlap the past is worth, by bucket: (B,).

        Origins closer than the days ahead share a part of what happened.
        """
        step, which = self.growth_weight, age_bucket(self.observed_age)
        days = step * (np.array(NODES[1:]) - self.observed_age[:, None])
        some = step.any(axis=1)
        worth = np.zeros(len(AGE_BUCKETS))
        for b in np.unique(which[some]):
            own = some & (which == b)
            ahead = days[own].sum() / step[own].sum()
            count = len(np.unique(self.origin_index[own]))
            worth[b] = min(count, 1.0 + np.ptp(self.days_ago[own]) / ahead)
        return worth

    def loss(self, forecast: Floats) -> Floats:
        """Error of forecast growth (E, I): (E,), in currency.

        Users x absolute error of the growth so far x step in log age, summed over the ages that
        have come true.
        """
        error = np.abs(self.cumulate(forecast - self.actual_growth))
        return np.asarray((self.growth_weight * error).sum(axis=1))

    def gain(self, trial: Floats) -> Floats:
        """How much more likely a trial (E, I) made the growth so far: (E,), in currency.

        Difference of over-dispersed-Poisson deviances, which the mean minimizes: an absolute
        error would be cut by forecasting the median, and prefer whatever is lower.
        """
        mean, other = self.cumulate(self.forecast_growth), self.cumulate(trial)
        grew = mean > 0
        ratio = np.divide(other, mean, out=np.ones_like(mean), where=grew)
        ratio = np.maximum(ratio, MIN_GROWTH_RATIO)
        actual = np.maximum(self.cumulate(self.actual_growth), 0.0)
        deviance = np.where(grew, mean - other + xlogy(actual, ratio), 0.0)
        return np.asarray((self.growth_weight * deviance).sum(axis=1))


def best_trial_by_bucket(past: MaturedForecasts, trials: Sequence[Floats]) -> Ints:
    """Which of the trials forecast best, by bucket: (B,) positions, -1 where none can be told.

    `trials` (E, I) each, as they would have been issued: each is judged as a forecast of the mean
    against `past.forecast`.
    """
    return clearest_gain_by_bucket(past, np.stack([past.gain(trial) for trial in trials]))


def clearest_gain_by_bucket(past: MaturedForecasts, gain: Floats) -> Ints:
    """Position of the largest significant gain out of (trials, E), by bucket: (B,), -1 for none."""
    which = age_bucket(past.observed_age)
    weekly, by_origin = (
        _summed(gain, which, label) for label in (past.week_index, past.origin_index)
    )
    weeks = (weekly != 0).sum(axis=2)
    clear = (weeks >= MIN_WEEKS) & _positive(weekly, weeks)
    clear &= _positive(by_origin, np.broadcast_to(past.independent_origins, weeks.shape))
    total = np.where(clear, weekly.sum(axis=2), -np.inf)
    return np.where(clear.any(axis=0), total.argmax(axis=0), -1).astype(np.int64)


def _summed(gain: Floats, which: Ints, label: Ints) -> Floats:
    """Sums of gains (trials, E) over bucket and label: (trials, B, labels)."""
    count = int(label.max(initial=0)) + 1
    sums = np.zeros((len(gain), len(AGE_BUCKETS) * count))
    place = which * count + label
    for total, own in zip(sums, gain, strict=True):
        total += np.bincount(place, own, minlength=len(total))
    return sums.reshape(len(gain), len(AGE_BUCKETS), count)


def _positive(sums: Floats, freedom: NDArray[Any]) -> Bools:
    """Whether sums (trials, B, L), where not 0, have a mean above 0: a t-test, (trials, B).

    `freedom` (trials, B) independent sums that they are worth, of which it takes 2.
    """
    count = np.maximum((sums != 0).sum(axis=2), 2)
    mean = sums.sum(axis=2) / count
    variance = np.maximum((sums**2).sum(axis=2) / count - mean**2, 0.0) * count / (count - 1)
    worth = np.clip(freedom, 2.0, count)
    least = stdtrit(worth - 1, STAGE_CONFIDENCE) * np.sqrt(variance / worth)
    above: Bools = (freedom >= 2) & (mean > least)
    return above
