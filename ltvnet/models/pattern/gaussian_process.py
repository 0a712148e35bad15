"""Gaussian-process regression of date effects: events, drift, weekdays and a yearly season.

Events and drift are solved as bands, in time that grows with the number of dates; weekdays and
seasons are few columns that are added (Rasmussen and Williams 2006, appendices A.3 and B).

Shapes: D dates with revenue, T dates asked for, K kinds of variation, R columns.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from scipy.linalg import lapack

from ltvnet.data.arrays import Floats, Ints

AMPLITUDES = np.array([0.0, 0.03, 0.06, 0.12, 0.24])
"""Standard deviations of the multiplier that each kind of variation may have."""

INITIAL_AMPLITUDE = AMPLITUDES[2]

EVENT_DAYS = 3.0
DRIFT_DAYS = 250.0
"""Days over which events and drift are alike."""

WEEK_DAYS = 7
YEAR_DAYS = 365.25

MIN_SEASON_YEARS = 2.0
"""Years of dates below which a season cannot be told from drift."""

AMPLITUDE_SEARCHES = 2
"""Passes over the kinds of variation, after which their amplitudes change no more."""

BAND_DAYS = 26
"""Days beyond which events are not alike to the last digit: EVENT_DAYS sqrt(2 log 1e16)."""

WEEKDAY_COLUMNS = 7
SEASON_COLUMNS = 2
CYCLE_COLUMNS = WEEKDAY_COLUMNS + SEASON_COLUMNS
TREND_COLUMNS = 2
"""Columns of `DateProcess._columns`: weekdays, seasons, the trend, and one of effects."""


@dataclass(frozen=True)
class BandedCovariance:
    """Covariance of events, drift and noise between D dates: K, with P (e^2 E + V) + d^2 I = P K.

    E is the correlation of events and V the sampling error, both bands; P is the inverse of the
    correlation of drift, tridiagonal as drift has no memory (Rasmussen and Williams 2006,
    appendix B). `events` and `noise` are P E and P V as LAPACK stores bands, `diagonal` (D,) and
    `off_diagonal` (D - 1,) are those of P, `log_determinant` the log of its determinant.
    """

    events: Floats
    noise: Floats
    diagonal: Floats
    off_diagonal: Floats
    log_determinant: float

    @classmethod
    def from_days(cls, day: Floats, noise: Floats) -> Self:
        """Build the bands of increasing days (D,) with their sampling variances (D,)."""
        drift_correlation = np.exp(-np.diff(day) / DRIFT_DAYS)
        drift_precision = -1.0 / np.expm1(-2 * np.diff(day) / DRIFT_DAYS)
        diagonal = np.ones_like(day)
        for neighbours in (diagonal[1:], diagonal[:-1]):
            neighbours += drift_correlation**2 * drift_precision

        date = np.arange(len(day))[:, None] + np.arange(-BAND_DAYS, BAND_DAYS + 1)
        days_apart = day[date.clip(0, len(day) - 1)] - day[:, None]
        event_correlation = np.exp(-0.5 * (days_apart / EVENT_DAYS) ** 2)
        event_correlation[(date < 0) | (date >= len(day))] = 0.0
        is_diagonal = date == date[:, [BAND_DAYS]]
        error = np.where(is_diagonal, noise[:, None], 0.0)

        covariance = cls(
            events=event_correlation,
            noise=error,
            diagonal=diagonal,
            off_diagonal=-drift_correlation * drift_precision,
            log_determinant=float(np.log(drift_precision).sum()),
        )
        return replace(
            covariance,
            events=covariance._as_lapack_band(event_correlation),
            noise=covariance._as_lapack_band(error),
        )

    def multiply_by_precision(self, columns: Floats) -> Floats:
        """Multiply P by columns: (D, R) -> (D, R)."""
        product: Floats = self.diagonal[:, None] * columns
        product[1:] += self.off_diagonal[:, None] * columns[:-1]
        product[:-1] += self.off_diagonal[:, None] * columns[1:]
        return product

    def _as_lapack_band(self, band: Floats) -> Floats:
        """Multiply P by a band (D, 2 x BAND_DAYS + 1), row by row, as LAPACK stores the product."""
        dates = len(band)
        width = BAND_DAYS + 1  # P is tridiagonal: its product with a band is one wider
        product = np.zeros((dates, 2 * width + 1))
        product[:, 1:-1] = self.diagonal[:, None] * band
        product[1:, :-2] += self.off_diagonal[:, None] * band[:-1]
        product[:-1, 2:] += self.off_diagonal[:, None] * band[1:]

        stored = np.zeros((3 * width + 1, dates))
        for offset in range(-width, width + 1):
            rows = np.arange(max(0, -offset), max(min(dates, dates - offset), 0))
            stored[2 * width - offset, rows + offset] = product[rows, offset + width]
        return stored

    def solve(
        self, event_amplitude: float, drift_amplitude: float, columns: Floats
    ) -> tuple[Floats, float]:
        """Return K^-1 times columns (D, R), and the log of K's determinant, for such amplitudes."""
        width = BAND_DAYS + 1
        stored = event_amplitude**2 * self.events + self.noise
        stored[2 * width] += drift_amplitude**2

        factor, pivots, _ = lapack.dgbtrf(stored, width, width, overwrite_ab=1)
        product = self.multiply_by_precision(columns)
        solution, _ = lapack.dgbtrs(factor, width, width, product, pivots)

        log_determinant = np.log(np.abs(factor[2 * width])).sum() - self.log_determinant
        return solution, float(log_determinant)


@dataclass(frozen=True)
class Detrended:
    """Date effects less their linear trend, under some amplitudes.

    `weight` (D,) K^-1 times them; `log_determinant` of their covariance K; `information` (2, 2)
    about the trend.
    """

    weight: Floats
    log_determinant: float
    information: Floats


@dataclass(frozen=True)
class DateProcess:
    """Gaussian-process regression of date effects.

    `day` (D,) increasing, `effect` (D,) multipliers less one, `noise` (D,) their sampling variance.
    """

    day: Floats
    effect: Floats
    noise: Floats

    def latest_dates(self, count: int) -> "DateProcess":
        """Restrict the regression to the latest dates."""
        return DateProcess(self.day[-count:], self.effect[-count:], self.noise[-count:])

    def fit_amplitudes(self) -> Floats:
        """Choose the standard deviation of each kind (K,) by the likelihood, one at a time."""
        kinds = [kind for kind in range(len(KERNELS)) if kind != SEASON or self._covers_seasons]
        best = np.zeros(len(KERNELS))
        best[kinds] = INITIAL_AMPLITUDE

        likelihoods: dict[tuple[float, ...], float] = {}
        for kind in kinds * AMPLITUDE_SEARCHES:
            for amplitude in AMPLITUDES:
                trial = best.copy()
                trial[kind] = amplitude
                for amplitudes in (best, trial):
                    if tuple(amplitudes) not in likelihoods:
                        likelihoods[tuple(amplitudes)] = self._log_likelihood(amplitudes)
                if likelihoods[tuple(trial)] > likelihoods[tuple(best)]:
                    best = trial
        return best

    @property
    def _covers_seasons(self) -> bool:
        return bool(np.ptp(self.day) >= MIN_SEASON_YEARS * YEAR_DAYS)

    def expected_effect(self, days: Floats, amplitudes: Floats) -> Floats:
        """Return the expected effect at `days` (T,), without the linear trend: (T,)."""
        weight = self._detrend(amplitudes).weight
        days_apart = np.abs(days[:, None] - self.day).astype(np.int64)  # (T, D)
        return np.asarray(_covariance(amplitudes, days_apart) @ weight)

    @cached_property
    def _bands(self) -> BandedCovariance:
        return BandedCovariance.from_days(self.day, self.noise)

    @cached_property
    def _columns(self) -> Floats:
        """Roots of the correlation of weekdays and seasons, the trend, and effects: (D, 12)."""
        weekday_number = (self.day % WEEK_DAYS).astype(np.int64)
        weekday = np.eye(WEEK_DAYS)[weekday_number] - 1 / WEEK_DAYS
        angle = 2 * np.pi * self.day / YEAR_DAYS
        others = (
            np.cos(angle),
            np.sin(angle),
            np.ones_like(angle),
            self.day / YEAR_DAYS,
            self.effect,
        )
        return np.concatenate((np.sqrt(7 / 6) * weekday, np.stack(others, axis=1)), axis=1)

    @cached_property
    def _solutions(self) -> dict[tuple[float, float], tuple[Floats, float]]:
        """Results of `BandedCovariance.solve` for the columns, by amplitudes of events and drift.

        Amplitudes are tried one kind at a time, so that most of them are wanted again.
        """
        return {}

    def _detrend(self, amplitudes: Floats) -> Detrended:
        """Take the linear trend out of effects.

        The trend has a flat prior (Rasmussen and Williams 2006, section 2.7). Weekdays and seasons
        are columns that are added to the covariance of the rest (their appendix A.3).
        """
        event_amplitude, drift_amplitude, *cycle_amplitudes = map(float, amplitudes)
        key = event_amplitude, drift_amplitude
        if key not in self._solutions:
            self._solutions[key] = self._bands.solve(*key, self._columns)
        solution, log_determinant = self._solutions[key]

        scale = np.repeat(cycle_amplitudes, (WEEKDAY_COLUMNS, SEASON_COLUMNS))
        root = self._columns[:, :CYCLE_COLUMNS] * scale
        solved_cycles = solution[:, :CYCLE_COLUMNS]
        solved_others = solution[:, CYCLE_COLUMNS:]  # (D, 3): the trend and the effects
        inner = np.eye(CYCLE_COLUMNS) + root.T @ solved_cycles * scale
        explained = np.linalg.solve(inner, root.T @ solved_others)
        remaining = solved_others - (solved_cycles * scale) @ explained

        trend = self._columns[:, CYCLE_COLUMNS : CYCLE_COLUMNS + TREND_COLUMNS]
        information = trend.T @ remaining[:, :TREND_COLUMNS]
        slope = np.linalg.solve(information, trend.T @ remaining[:, TREND_COLUMNS])
        weight = remaining[:, TREND_COLUMNS] - remaining[:, :TREND_COLUMNS] @ slope
        return Detrended(weight, log_determinant + np.linalg.slogdet(inner)[1], information)

    def _log_likelihood(self, amplitudes: Floats) -> float:
        """Log of the marginal likelihood of the effects, but for a constant."""
        detrended = self._detrend(amplitudes)
        log_determinant = detrended.log_determinant
        log_determinant += np.linalg.slogdet(detrended.information)[1]
        return float(-0.5 * (self.effect @ detrended.weight + log_determinant))


def _covariance(amplitudes: Floats, days_apart: Ints) -> Floats:
    """Covariance of effects so many days apart, (T, D), without sampling error."""
    lags = np.arange(days_apart.max(initial=0) + 1.0)
    correlations = np.stack([kernel(lags, np.zeros(1))[:, 0] for kernel in KERNELS])  # (K, lags)
    by_lag: Floats = (amplitudes**2) @ correlations
    return by_lag[days_apart]


def _days_apart(days: Floats, other_days: Floats) -> Floats:
    return np.asarray(np.abs(days[:, None] - other_days))


def event_correlation(days: Floats, other_days: Floats) -> Floats:
    """Return the correlation of events, which last a few days: (len(days), len(other_days))."""
    return np.asarray(np.exp(-0.5 * (_days_apart(days, other_days) / EVENT_DAYS) ** 2))


def drift_correlation(days: Floats, other_days: Floats) -> Floats:
    """Return the correlation of drift, which wanders and returns."""
    return np.asarray(np.exp(-_days_apart(days, other_days) / DRIFT_DAYS))


def weekday_correlation(days: Floats, other_days: Floats) -> Floats:
    """Return the correlation of effects of weekdays, which sum to nothing."""
    return np.where(_days_apart(days, other_days) % WEEK_DAYS == 0, 1.0, -1 / 6)


def season_correlation(days: Floats, other_days: Floats) -> Floats:
    """Return the correlation of a yearly wave."""
    return np.asarray(np.cos(2 * np.pi * _days_apart(days, other_days) / YEAR_DAYS))


KERNELS = (event_correlation, drift_correlation, weekday_correlation, season_correlation)
"""The correlation of each kind of variation (K,)."""

SEASON = KERNELS.index(season_correlation)
