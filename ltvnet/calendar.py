"""The calendar: how the revenue of all cohorts together rises and falls with the date.

Live-ops events, weekdays, seasons and slow drift move all campaigns alike. What they did to the
past is measured and taken out before curves are compared; what they will do is forecast and put
back. A constant rate of change is left to the pattern, as it keeps curves proportional.

Shapes: N cohorts, A ages, T dates, D dates with revenue to compare, K kinds of variation.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import linalg

from ltvnet.curves import AGES, Bools, Curves, Days, Floats, Ints

AMPLITUDES = np.array([0.0, 0.03, 0.06, 0.12, 0.24])
"""Standard deviations of the multiplier that each kind of variation may have."""

EVENT, DRIFT, YEAR = 3.0, 90.0, 365.25
"""Days over which events and drift are alike, and of a season."""

ROUNDS, SEARCHES = 20, 2
"""Passes over cohorts, ages and dates, and over the amplitudes, until they change no more."""

RECENT = 1100
"""Days from which the amplitudes are chosen, at most: the cost grows with their cube."""

LEAST, MOST = 0.3, 3.0
"""Range of the multiplier of a date."""

EXACT = 1e-6
"""Variance of a multiplier below which sampling error is not taken to be known."""


@dataclass(frozen=True)
class Calendar:
    """Multipliers of revenue by date: `log` (T,) their logarithms from the day `begin` on.

    Dates outside have multiplier 1. The date of an age is that on which the middle of a cohort's
    acquisition reaches it.
    """

    begin: np.datetime64
    log: Floats

    @classmethod
    def none(cls, begin: np.datetime64) -> Self:
        """All dates are alike."""
        return cls(begin, np.zeros(0))

    @classmethod
    def learned(cls, curves: Curves) -> Self:
        """The calendar as of the origin of `curves`, and its forecast for the ages to come.

        Cohort, age and date effects of increments are fitted by iterative proportional fitting
        (the Poisson estimate of an age-period-cohort model). The date effects are then smoothed
        and forecast by Gaussian-process regression on their sampling error, as a sum of events,
        weekdays, a yearly season and drift, with amplitudes of the highest marginal likelihood
        (Rasmussen and Williams 2006, chapters 2, 5) and without their linear trend.
        """
        begin = middle(curves).min()
        days = int((curves.origin - begin).astype(np.int64)) + 1
        effect, variance = effects(curves, _places(curves, begin), days)
        at = np.flatnonzero(np.isfinite(variance))
        if len(at) < 3:
            return cls.none(begin)
        process = Process(at.astype(float), effect[at] - 1.0, variance[at] + EXACT)
        later = np.arange(days + AGES, dtype=float)
        told = process.mean(later, process.recent(RECENT).amplitudes())
        return cls(begin, np.log(np.clip(1.0 + told, LEAST, MOST)))

    def multipliers(self, curves: Curves) -> Floats:
        """What the calendar does to each cohort at each age: (N, A)."""
        place = _places(curves, self.begin)
        known = (place >= 0) & (place < len(self.log))
        log = np.append(self.log, 0.0)[np.where(known, place, -1)]
        return np.asarray(np.exp(log))


def middle(curves: Curves) -> Days:
    """The middle day of each cohort's acquisition: (N,)."""
    return curves.start + (curves.end - curves.start) // 2


def _places(curves: Curves, begin: np.datetime64) -> Ints:
    """Days from `begin` to each age of each cohort: (N, A)."""
    return (middle(curves) - begin).astype(np.int64)[:, None] + np.arange(AGES)


def _share(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros(np.shape(part)), where=whole > 0)


def proportional(gain: Floats, known: Bools) -> tuple[Floats, Floats]:
    """Level (N,) and shape (A,) of increments (N, A) were all dates alike: the chain ladder's."""
    value = np.cumsum(gain, axis=1)
    base = np.where(known[:, 1:], value[:, :-1], 0.0).sum(axis=0)
    growth = _share(gain[:, 1:].sum(axis=0), base)
    earned = np.cumprod(np.append(1.0, 1.0 + growth))
    begin = int(np.argmax(gain.any(axis=0)))  # nothing grows out of ages without revenue
    earned[:begin] = 0.0
    last = known.sum(axis=1) - 1
    return _share(value[:, -1], earned[last]), np.diff(earned, prepend=0.0)


def effects(curves: Curves, place: Ints, days: int) -> tuple[Floats, Floats]:
    """Multiplier of each date, and the variance of its sampling error: (T,) each.

    `place` (N, A) the date of each cell out of `days` T. The variance is that of an
    over-dispersed Poisson: dispersion over the revenue expected on the date; infinite where
    nothing was expected.
    """
    known = np.isfinite(curves.values)
    gain = np.diff(np.nan_to_num(curves.values), axis=1, prepend=0.0) * curves.users[:, None]
    gain = np.where(known, np.maximum(gain, 0.0), 0.0)
    cell, at = np.where(known, place, days), place[known]
    whole = np.bincount(at, gain[known], days).astype(np.float64)
    effect = np.ones(days + 1)
    effect[days] = 0.0  # of cells that are not known
    level, shape = proportional(gain, known)
    alike, expected = np.zeros(len(at)), np.zeros(days)
    for _ in range(ROUNDS):
        alike = (level[:, None] * shape)[known]
        expected = np.bincount(at, alike, days).astype(np.float64)
        effect[:days] = _share(whole, expected)
        dates = effect[cell]  # (N, A)
        shape = _share(gain.sum(axis=0), level @ dates)
        level = _share(gain.sum(axis=1), dates @ shape)
    fitted = alike * effect[at]
    earning = fitted > 0
    free = max(earning.sum() - len(curves) - AGES - days, 1)
    squared = (gain[known] - fitted)[earning] ** 2 / fitted[earning]
    variance = np.full(days, np.inf)
    np.divide(squared.sum() / free, expected, out=variance, where=expected > 0)
    return effect[:days], variance


@dataclass(frozen=True)
class Process:
    """Gaussian-process regression of date effects.

    `at` (D,) days, `effect` (D,) multipliers less one, `noise` (D,) their sampling variance.
    """

    at: Floats
    effect: Floats
    noise: Floats

    def recent(self, days: int) -> "Process":
        """The same of the last days only."""
        late = self.at > self.at[-1] - days
        return Process(self.at[late], self.effect[late], self.noise[late])

    def amplitudes(self) -> Floats:
        """Standard deviation of each kind of variation (K,), by the likelihood, one at a time."""
        kinds = alikeness(self.at, self.at)
        chosen = np.full(len(kinds), AMPLITUDES[2])
        best = self._likelihood(chosen, kinds)
        for kind in [*range(len(kinds))] * SEARCHES:
            for amplitude in AMPLITUDES:
                trial = chosen.copy()
                trial[kind] = amplitude
                found = best if (trial == chosen).all() else self._likelihood(trial, kinds)
                if found > best:
                    best, chosen = found, trial
        return chosen

    def mean(self, later: Floats, amplitudes: Floats) -> Floats:
        """The expected effect at days `later` (T,), without the linear trend: (T,)."""
        rest, (factor, lower), _ = self._trendless(amplitudes, alikeness(self.at, self.at))
        weight = linalg.cho_solve((factor, lower), rest)
        return np.asarray(np.tensordot(amplitudes**2, alikeness(later, self.at), 1) @ weight)

    def _trendless(
        self, amplitudes: Floats, kinds: Floats
    ) -> tuple[Floats, tuple[Floats, bool], Floats]:
        """Effects less their linear trend, the factor of their covariance, and that of the trend.

        The trend has a flat prior (Rasmussen and Williams 2006, section 2.7).
        """
        factor = linalg.cho_factor(
            np.tensordot(amplitudes**2, kinds, 1) + np.diag(self.noise), lower=True
        )
        trend = np.stack((np.ones_like(self.at), self.at / YEAR), axis=1)
        solved = linalg.cho_solve(factor, trend)
        information = trend.T @ solved
        slope = np.linalg.solve(information, solved.T @ self.effect)
        return self.effect - trend @ slope, factor, information

    def _likelihood(self, amplitudes: Floats, kinds: Floats) -> float:
        rest, factor, information = self._trendless(amplitudes, kinds)
        fit = rest @ linalg.cho_solve(factor, rest)
        volume = 2 * np.log(np.diag(factor[0])).sum() + np.linalg.slogdet(information)[1]
        return float(-0.5 * (fit + volume))


def alikeness(one: Floats, other: Floats) -> Floats:
    """Correlation of events, drift, weekdays and season between days: (K, len(one), len(other))."""
    apart = np.abs(one[:, None] - other)
    event = np.exp(-0.5 * (apart / EVENT) ** 2)
    drift = np.exp(-apart / DRIFT)
    weekday = np.where(apart % 7 == 0, 1.0, -1 / 6)
    season = np.cos(2 * np.pi * apart / YEAR)
    return np.stack((event, drift, weekday, season))
