"""The calendar: how the revenue of all cohorts together rises and falls with the date.

Live-ops events, weekdays, seasons and slow drift move all campaigns alike. Their effect on the
past is measured and taken out before curves are compared; their effect on the future is forecast
and put back. A constant rate of change is left to the pattern, as it keeps curves proportional.

Shapes: N cohorts, G groups of them, A ages, T dates, D dates with revenue, C known cells.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from ltvnet.data.arrays import Bools, Days, Floats, Ints, block_slices, ratio_or_zero
from ltvnet.data.curves import AGES, Curves
from ltvnet.models.pattern.gaussian_process import DateProcess

FITTING_ROUNDS = 20
"""Passes over cohorts, ages and dates, after which their effects change no more."""

MAX_AMPLITUDE_DATES = 1100
"""Latest dates that the amplitudes of the process are chosen from, at most."""

MIN_DATES = 3
"""Dates with revenue below which nothing is measured."""

MIN_MULTIPLIER = 0.3
MAX_MULTIPLIER = 3.0
"""Range of the multiplier of a date."""

EXACT_VARIANCE = 1e-6
"""Variance of a multiplier below which sampling error is not taken to be known."""


@dataclass(frozen=True)
class Calendar:
    """Multiplier of revenue (T,) on each day from `begin` on; 1 on days outside.

    The date of an age is that on which the middle of a cohort's acquisition reaches it.
    """

    begin: np.datetime64
    multiplier: Floats

    @classmethod
    def neutral(cls, begin: np.datetime64) -> Self:
        """Make a calendar in which all dates are alike."""
        return cls(begin, np.zeros(0))

    @classmethod
    def fit(cls, curves: Curves) -> Self:
        """Measure the calendar as of the origin of `curves`, and forecast it for the ages to come.

        Cohort, age and date effects of increments are fitted by iterative proportional fitting
        (the Poisson estimate of an age-period-cohort model). The date effects are then smoothed
        and forecast by Gaussian-process regression on their sampling error, as a sum of events,
        weekdays, drift and, where the dates cover two years, a yearly season, with amplitudes
        of the highest marginal likelihood (Rasmussen and Williams 2006, chapters 2, 5) and
        without their linear trend.
        """
        begin = middle_day(curves).min()
        multiplier, variance = estimate_date_multipliers(curves, begin)
        measured_days = np.flatnonzero(np.isfinite(variance))
        if len(measured_days) < MIN_DATES:
            return cls.neutral(begin)

        process = DateProcess(
            day=measured_days.astype(float),
            effect=multiplier[measured_days] - 1.0,
            noise=variance[measured_days] + EXACT_VARIANCE,
        )
        amplitudes = process.latest_dates(MAX_AMPLITUDE_DATES).fit_amplitudes()
        forecast_days = np.arange(len(multiplier) + AGES, dtype=float)
        effect = process.expected_effect(forecast_days, amplitudes)

        return cls(begin, np.clip(1.0 + effect, MIN_MULTIPLIER, MAX_MULTIPLIER))

    def multipliers(self, curves: Curves) -> Floats:
        """Return the multiplier of revenue of each cohort at each age: (N, A)."""
        days, day_of_cohort = np.unique(middle_day(curves), return_inverse=True)
        date = _date_index(days, self.begin)
        is_inside = (date >= 0) & (date < len(self.multiplier))

        multiplier_or_one = np.append(self.multiplier, 1.0)
        by_day = multiplier_or_one[np.where(is_inside, date, -1)]
        return np.asarray(by_day[day_of_cohort])


def middle_day(curves: Curves) -> Days:
    """Return the middle day of each cohort's acquisition: (N,)."""
    return curves.start + (curves.end - curves.start) // 2


def _date_index(middle_days: Days, begin: np.datetime64) -> Ints:
    """Days from `begin` to each age of cohorts with such middle days: (N, A)."""
    return (middle_days - begin).astype(np.int64)[:, None] + np.arange(AGES)


def fit_proportional_curves(gain: Floats, is_known: Bools) -> tuple[Floats, Floats]:
    """Fit the level (N,) and shape (A,) of increments (N, A) by the chain ladder: no date effects.

    `is_known` (N, A) cells observed.
    """
    value = np.cumsum(gain, axis=1)
    base = np.where(is_known[:, 1:], value[:, :-1], 0.0).sum(axis=0)
    growth = ratio_or_zero(gain[:, 1:].sum(axis=0), base)

    earned = np.cumprod(np.append(1.0, 1.0 + growth))
    first_revenue_age = int(np.argmax(gain.any(axis=0)))
    earned[:first_revenue_age] = 0.0  # nothing grows out of ages without revenue

    last_age = is_known.sum(axis=1) - 1
    level = ratio_or_zero(value[:, -1], earned[last_age])
    return level, np.diff(earned, prepend=0.0)


def pool_by_date_and_age(curves: Curves) -> tuple[Days, Floats, Bools]:
    """Add up cohorts of the same middle day and observed age, which share dates and ages.

    Returns their middle day (G,), the increments of their revenue (G, A), and which of these are
    known (G, A).
    """
    keys = np.stack((middle_day(curves).astype(np.int64), curves.observed_age), axis=1)
    keys, group_of_cohort = np.unique(keys, axis=0, return_inverse=True)

    gain = np.zeros((len(keys), AGES))
    order = np.argsort(group_of_cohort, kind="stable")
    for block in block_slices(len(order)):
        rows = order[block]
        groups, first_row = np.unique(group_of_cohort[rows], return_index=True)
        values = np.nan_to_num(curves.values[rows])
        cohort_gain = np.diff(values, axis=1, prepend=0.0) * curves.users[rows, None]
        gain[groups] += np.add.reduceat(np.maximum(cohort_gain, 0.0), first_row, axis=0)

    is_known = np.arange(AGES) <= keys[:, [1]]
    return keys[:, 0].astype("datetime64[D]"), np.where(is_known, gain, 0.0), is_known


def estimate_date_multipliers(curves: Curves, begin: np.datetime64) -> tuple[Floats, Floats]:
    """Estimate the multiplier of each date from `begin` to the origin, and its sampling variance.

    Both (T,). The variance is that of an over-dispersed Poisson: dispersion over the revenue
    expected on the date; infinite where nothing was expected.
    """
    date_count = int((curves.origin - begin).astype(np.int64)) + 1
    middle_days, gain, is_known = pool_by_date_and_age(curves)
    date = np.where(is_known, _date_index(middle_days, begin), date_count)  # (G, A)
    date_of_cell = date[is_known]  # (C,)
    date_gain = np.bincount(date_of_cell, gain[is_known], date_count).astype(np.float64)

    multiplier = np.ones(date_count + 1)
    multiplier[date_count] = 0.0  # of cells that are not known
    level, shape = fit_proportional_curves(gain, is_known)
    undated = np.zeros(len(date_of_cell))
    expected = np.zeros(date_count)
    for _ in range(FITTING_ROUNDS):
        undated = (level[:, None] * shape)[is_known]
        expected = np.bincount(date_of_cell, undated, date_count).astype(np.float64)
        multiplier[:date_count] = ratio_or_zero(date_gain, expected)
        cell_multiplier = multiplier[date]  # (G, A)
        shape = ratio_or_zero(gain.sum(axis=0), level @ cell_multiplier)
        level = ratio_or_zero(gain.sum(axis=1), cell_multiplier @ shape)

    fitted = undated * multiplier[date_of_cell]
    dispersion = _dispersion(gain[is_known], fitted, len(level) + AGES + date_count)
    variance = np.full(date_count, np.inf)
    np.divide(dispersion, expected, out=variance, where=expected > 0)
    return multiplier[:date_count], variance


def _dispersion(actual: Floats, fitted: Floats, parameters: int) -> float:
    """Variance over mean of cells (C,) about their fit, as Pearson's statistic has it."""
    is_earning = fitted > 0
    free = max(is_earning.sum() - parameters, 1)
    squared = (actual - fitted)[is_earning] ** 2 / fitted[is_earning]
    return float(squared.sum() / free)
