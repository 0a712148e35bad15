"""The calendar: how the revenue of all cohorts together rises and falls with the date.

Live-ops events, weekdays, seasons and slow drift move all campaigns alike. What they did to the
past is measured and taken out before curves are compared; what they will do is forecast and put
back. A constant rate of change is left to the pattern, as it keeps curves proportional.

Shapes: N cohorts, G groups of them, A ages, T dates, D dates with revenue to compare, K kinds of
variation.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from scipy.linalg import lapack

from ltvnet.data.arrays import Bools, Days, Floats, Ints, block_slices
from ltvnet.data.curves import AGES, Curves

AMPLITUDES = np.array([0.0, 0.03, 0.06, 0.12, 0.24])
"""Standard deviations of the multiplier that each kind of variation may have."""

EVENT, DRIFT, YEAR = 3.0, 250.0, 365.25
"""Days over which events and drift are alike, and of a season."""

SEASONS = 2.0
"""Years of dates below which a season cannot be told from drift."""

ROUNDS, SEARCHES = 20, 2
"""Passes over cohorts, ages and dates, and over the amplitudes, until they change no more."""

RECENT = 1100
"""Dates that the amplitudes are chosen from, at most."""

BAND = 26
"""Days beyond which events are not alike to the last digit of a number: EVENT sqrt(2 log 1e16)."""

LEAST, MOST = 0.3, 3.0
"""Range of the multiplier of a date."""

EXACT = 1e-6
"""Variance of a multiplier below which sampling error is not taken to be known."""


@dataclass(frozen=True)
class Calendar:
    """What revenue is multiplied by (T,), on each day from `begin` on; 1 on days outside.

    The date of an age is that on which the middle of a cohort's acquisition reaches it.
    """

    begin: np.datetime64
    multiplier: Floats

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
        weekdays, drift and, where the dates cover SEASONS years, a yearly season, with amplitudes
        of the highest marginal likelihood (Rasmussen and Williams 2006, chapters 2, 5) and
        without their linear trend.
        """
        begin = middle(curves).min()
        effect, variance = effects(curves, begin)
        at = np.flatnonzero(np.isfinite(variance))
        if len(at) < 3:
            return cls.none(begin)
        process = Process(at.astype(float), effect[at] - 1.0, variance[at] + EXACT)
        later = np.arange(len(effect) + AGES, dtype=float)
        told = process.mean(later, process.recent(RECENT).amplitudes())
        return cls(begin, np.clip(1.0 + told, LEAST, MOST))

    def multipliers(self, curves: Curves) -> Floats:
        """What the calendar does to each cohort at each age: (N, A)."""
        days, which = np.unique(middle(curves), return_inverse=True)
        place = _places(days, self.begin)
        known = (place >= 0) & (place < len(self.multiplier))
        table = np.append(self.multiplier, 1.0)[np.where(known, place, -1)]
        return np.asarray(table[which])


def middle(curves: Curves) -> Days:
    """The middle day of each cohort's acquisition: (N,)."""
    return curves.start + (curves.end - curves.start) // 2


def _places(middles: Days, begin: np.datetime64) -> Ints:
    """Days from `begin` to each age of cohorts with such middle days: (N, A)."""
    return (middles - begin).astype(np.int64)[:, None] + np.arange(AGES)


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


def together(curves: Curves) -> tuple[Days, Floats, Bools]:
    """Cohorts of the same middle day and observed age, added up; they share dates and ages.

    Their middle day (G,), the increments of their revenue (G, A), which of them are known (G, A).
    """
    keys = np.stack((middle(curves).astype(np.int64), curves.observed_age), axis=1)
    keys, which = np.unique(keys, axis=0, return_inverse=True)
    order, gain = np.argsort(which, kind="stable"), np.zeros((len(keys), AGES))
    for block in block_slices(len(order)):
        rows = order[block]
        group, begin = np.unique(which[rows], return_index=True)
        values = np.nan_to_num(curves.values[rows])
        own = np.diff(values, axis=1, prepend=0.0) * curves.users[rows, None]
        gain[group] += np.add.reduceat(np.maximum(own, 0.0), begin, axis=0)
    known = np.arange(AGES) <= keys[:, [1]]
    return keys[:, 0].astype("datetime64[D]"), np.where(known, gain, 0.0), known


def effects(curves: Curves, begin: np.datetime64) -> tuple[Floats, Floats]:
    """Multiplier of each date from `begin` to the origin, and its sampling variance: (T,) each.

    The variance is that of an over-dispersed Poisson: dispersion over the revenue expected on the
    date; infinite where nothing was expected.
    """
    days = int((curves.origin - begin).astype(np.int64)) + 1
    middles, gain, known = together(curves)
    cell = np.where(known, _places(middles, begin), days)  # (G, A)
    at = cell[known]
    whole = np.bincount(at, gain[known], days).astype(np.float64)
    effect = np.ones(days + 1)
    effect[days] = 0.0  # of cells that are not known
    level, shape = proportional(gain, known)
    alike, expected = np.zeros(len(at)), np.zeros(days)
    for _ in range(ROUNDS):
        alike = (level[:, None] * shape)[known]
        expected = np.bincount(at, alike, days).astype(np.float64)
        effect[:days] = _share(whole, expected)
        dates = effect[cell]  # (G, A)
        shape = _share(gain.sum(axis=0), level @ dates)
        level = _share(gain.sum(axis=1), dates @ shape)
    fitted = alike * effect[at]
    earning = fitted > 0
    free = max(earning.sum() - len(level) - AGES - days, 1)
    squared = (gain[known] - fitted)[earning] ** 2 / fitted[earning]
    variance = np.full(days, np.inf)
    np.divide(squared.sum() / free, expected, out=variance, where=expected > 0)
    return effect[:days], variance


@dataclass(frozen=True)
class Bands:
    """Events, drift and sampling error between D dates: (P (e^2 E + V) + d^2 I) = P K.

    E the correlation of events and V the sampling error, both bands; P the inverse of that of
    drift, tridiagonal as drift has no memory (Rasmussen and Williams 2006, appendix B). `events`
    and `noise` are P E and P V as LAPACK stores bands, `whole` (D,) and `beside` (D - 1,) the
    diagonals of P, `volume` the log of its determinant.
    """

    events: Floats
    noise: Floats
    whole: Floats
    beside: Floats
    volume: float

    @classmethod
    def of(cls, at: Floats, noise: Floats) -> Self:
        """Those of days (D,), rising, and the sampling variance of each."""
        alike = np.exp(-np.diff(at) / DRIFT)
        rest = -1.0 / np.expm1(-2 * np.diff(at) / DRIFT)
        whole = np.ones_like(at)
        for side in (whole[1:], whole[:-1]):
            side += alike**2 * rest
        place = np.arange(len(at))[:, None] + np.arange(-BAND, BAND + 1)
        lag = at[place.clip(0, len(at) - 1)] - at[:, None]
        correlation = np.exp(-0.5 * (lag / EVENT) ** 2)
        correlation[(place < 0) | (place >= len(at))] = 0.0
        error = np.where(place == place[:, [BAND]], noise[:, None], 0.0)
        bands = cls(correlation, error, whole, -alike * rest, float(np.log(rest).sum()))
        return replace(bands, events=bands._stored(correlation), noise=bands._stored(error))

    def times(self, columns: Floats) -> Floats:
        """P times columns: (D, R) -> (D, R)."""
        product: Floats = self.whole[:, None] * columns
        product[1:] += self.beside[:, None] * columns[:-1]
        product[:-1] += self.beside[:, None] * columns[1:]
        return product

    def _stored(self, band: Floats) -> Floats:
        """P times a band (D, 2 x BAND + 1), row by row from left to right, as LAPACK stores it."""
        count, width = len(band), BAND + 1
        product = np.zeros((count, 2 * width + 1))
        product[:, 1:-1] = self.whole[:, None] * band
        product[1:, :-2] += self.beside[:, None] * band[:-1]
        product[:-1, 2:] += self.beside[:, None] * band[1:]
        stored = np.zeros((3 * width + 1, count))
        for k in range(-width, width + 1):
            rows = np.arange(max(0, -k), max(min(count, count - k), 0))
            stored[2 * width - k, rows + k] = product[rows, k + width]
        return stored

    def solved(self, events: float, drift: float, columns: Floats) -> tuple[Floats, float]:
        """K^-1 times columns (D, R), and the log of K's determinant, for such amplitudes."""
        width = BAND + 1
        stored = events**2 * self.events + self.noise
        stored[2 * width] += drift**2
        factor, pivots, _ = lapack.dgbtrf(stored, width, width, overwrite_ab=1)
        solved, _ = lapack.dgbtrs(factor, width, width, self.times(columns), pivots)
        return solved, float(np.log(np.abs(factor[2 * width])).sum() - self.volume)


@dataclass(frozen=True)
class Process:
    """Gaussian-process regression of date effects.

    `at` (D,) days, `effect` (D,) multipliers less one, `noise` (D,) their sampling variance.
    """

    at: Floats
    effect: Floats
    noise: Floats

    def recent(self, count: int) -> "Process":
        """The same of the last dates only."""
        return Process(self.at[-count:], self.effect[-count:], self.noise[-count:])

    def amplitudes(self) -> Floats:
        """Standard deviation of each kind of variation (K,), by the likelihood, one at a time."""
        kinds = [kind for kind in range(len(KINDS)) if kind != SEASON or self._seasons]
        chosen = np.zeros(len(KINDS))
        chosen[kinds] = AMPLITUDES[2]
        tried: dict[tuple[float, ...], float] = {}
        for kind in kinds * SEARCHES:
            for amplitude in AMPLITUDES:
                trial = chosen.copy()
                trial[kind] = amplitude
                for one in (chosen, trial):
                    if tuple(one) not in tried:
                        tried[tuple(one)] = self._likelihood(one)
                if tried[tuple(trial)] > tried[tuple(chosen)]:
                    chosen = trial
        return chosen

    @property
    def _seasons(self) -> bool:
        return bool(np.ptp(self.at) >= SEASONS * YEAR)

    def mean(self, later: Floats, amplitudes: Floats) -> Floats:
        """The expected effect at days `later` (T,), without the linear trend: (T,)."""
        weight, _, _ = self._trendless(amplitudes)
        apart = np.abs(later[:, None] - self.at).astype(np.int64)  # (T, D)
        return np.asarray(_covariance(amplitudes, apart) @ weight)

    @cached_property
    def _bands(self) -> Bands:
        return Bands.of(self.at, self.noise)

    @cached_property
    def _columns(self) -> Floats:
        """Roots of the correlation of weekdays and seasons, the trend, and effects: (D, 12)."""
        weekday = np.eye(7)[(self.at % 7).astype(np.int64)] - 1 / 7
        angle = 2 * np.pi * self.at / YEAR
        trend = np.ones_like(angle), self.at / YEAR
        own = np.cos(angle), np.sin(angle), *trend, self.effect
        return np.concatenate((np.sqrt(7 / 6) * weekday, np.stack(own, axis=1)), axis=1)

    @cached_property
    def _solved(self) -> dict[tuple[float, float], tuple[Floats, float]]:
        """What `Bands.solved` found of the columns, by amplitudes."""
        return {}

    def _trendless(self, amplitudes: Floats) -> tuple[Floats, float, Floats]:
        """K^-1 times effects less their linear trend (D,), log of K's determinant, and information.

        `information` (2, 2) about the trend, which has a flat prior (Rasmussen and Williams 2006,
        section 2.7). Weekdays and seasons are columns that are added to the covariance of the rest
        (their appendix A.3).
        """
        events, drift, *few = map(float, amplitudes)
        if (events, drift) not in self._solved:
            self._solved[events, drift] = self._bands.solved(events, drift, self._columns)
        solved, volume = self._solved[events, drift]
        scale = np.repeat(few, (7, 2))
        root, trend = self._columns[:, :9] * scale, self._columns[:, 9:11]
        inner = np.eye(9) + root.T @ solved[:, :9] * scale
        left = solved[:, 9:] - (solved[:, :9] * scale) @ np.linalg.solve(
            inner, root.T @ solved[:, 9:]
        )
        information = trend.T @ left[:, :2]
        slope = np.linalg.solve(information, trend.T @ left[:, 2])
        return left[:, 2] - left[:, :2] @ slope, volume + np.linalg.slogdet(inner)[1], information

    def _likelihood(self, amplitudes: Floats) -> float:
        weight, volume, information = self._trendless(amplitudes)
        volume += np.linalg.slogdet(information)[1]
        return float(-0.5 * (self.effect @ weight + volume))


def _covariance(amplitudes: Floats, apart: Ints) -> Floats:
    """Covariance of effects so many days apart, (T, D), without sampling error."""
    lags = np.arange(apart.max(initial=0) + 1.0)
    kinds = np.stack([kind(lags, np.zeros(1))[:, 0] for kind in KINDS])  # (K, lags)
    table: Floats = (amplitudes**2) @ kinds
    return table[apart]


def _apart(one: Floats, other: Floats) -> Floats:
    return np.asarray(np.abs(one[:, None] - other))


def events(one: Floats, other: Floats) -> Floats:
    """Correlation of what lasts a few days, between days: (len(one), len(other))."""
    return np.asarray(np.exp(-0.5 * (_apart(one, other) / EVENT) ** 2))


def drift(one: Floats, other: Floats) -> Floats:
    """Correlation of what wanders and returns."""
    return np.asarray(np.exp(-_apart(one, other) / DRIFT))


def weekdays(one: Floats, other: Floats) -> Floats:
    """Correlation of days of the week, which sum to nothing."""
    return np.where(_apart(one, other) % 7 == 0, 1.0, -1 / 6)


def season(one: Floats, other: Floats) -> Floats:
    """Correlation of a yearly wave."""
    return np.asarray(np.cos(2 * np.pi * _apart(one, other) / YEAR))


KINDS = (events, drift, weekdays, season)
"""The kinds of variation (K,)."""

SEASON = KINDS.index(season)
