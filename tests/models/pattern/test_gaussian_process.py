"""Events, drift, weekdays and seasons are expected apart, and forecast as they vary."""

import numpy as np
import pytest

from ltvnet.data.arrays import Floats
from ltvnet.models.pattern.calendar_effects import (
    EXACT_VARIANCE,
)
from ltvnet.models.pattern.gaussian_process import (
    DRIFT_DAYS,
    KERNELS,
    SEASON,
    YEAR_DAYS,
    BandedCovariance,
    DateProcess,
)


def test_a_season_takes_two_years() -> None:
    """A bend of half a year is drift, which is not repeated."""
    day = np.arange(200.0)
    bend = DateProcess(day, 0.2 * np.sin(np.pi * day / 200), np.full(200, 1e-4))
    assert bend.fit_amplitudes()[SEASON] == 0
    day = np.arange(900.0)
    wave = DateProcess(day, 0.2 * np.sin(2 * np.pi * day / YEAR_DAYS), np.full(900, 1e-3))
    amplitudes = wave.fit_amplitudes()
    assert amplitudes[SEASON] > 0
    later = np.arange(900.0, 1200.0)
    expected = wave.expected_effect(later, amplitudes)
    assert np.corrcoef(expected, np.sin(2 * np.pi * later / YEAR_DAYS))[0, 1] > 0.95


def test_a_process_by_hand() -> None:
    """Of a constant and a line nothing is left; drift between two days decays with the distance."""
    day = np.arange(10.0)
    line = DateProcess(day, 0.3 + 0.01 * day, np.full(10, EXACT_VARIANCE))
    amplitudes = np.array([0.1, 0.1, 0.0, 0.0])
    np.testing.assert_allclose(line.expected_effect(np.arange(20.0), amplitudes), 0.0, atol=1e-9)
    days, zero = np.array([0.0, DRIFT_DAYS, 7.0]), np.array([0.0])
    event, wander, weekday, wave = (kind(days, zero)[:, 0] for kind in KERNELS)
    assert wander.tolist() == pytest.approx([1.0, np.exp(-1), np.exp(-7 / DRIFT_DAYS)])
    assert weekday.tolist() == pytest.approx([1.0, -1 / 6, 1.0])
    assert event[1] < 1e-9 and wave[0] == 1.0


def covariance(amplitudes: Floats, one_days: Floats, other_days: Floats) -> Floats:
    """Of effects without sampling error, kind by kind: (len(one_days), len(other_days))."""
    kinds = [kind(one_days, other_days) for kind in KERNELS]
    return np.tensordot(amplitudes**2, kinds, axes=1)


@pytest.mark.parametrize("days", [5, 300])
@pytest.mark.parametrize("amplitudes", [(0.1, 0.2), (0.0, 0.3), (0.3, 0.0), (0.0, 0.0)])
def test_bands_stand_for_the_covariance(days: int, amplitudes: tuple[float, float]) -> None:
    rng = np.random.default_rng(days)
    day = np.cumsum(rng.choice([1.0, 1.0, 2.0, 40.0], days))
    noise, columns = rng.uniform(1e-4, 1e-2, days), rng.normal(size=(days, 3))
    dense = covariance(np.array([*amplitudes, 0.0, 0.0]), day, day) + np.diag(noise)
    solved, volume = BandedCovariance.from_days(day, noise).solve(*amplitudes, columns)
    np.testing.assert_allclose(dense @ solved, columns, atol=1e-8)
    assert volume == pytest.approx(np.linalg.slogdet(dense)[1], rel=1e-9)


@pytest.mark.parametrize("amplitudes", [(0.1, 0.2, 0.05, 0.1), (0.2, 0.0, 0.0, 0.1), (0, 0, 0, 0)])
def test_the_expected_effect_is_the_regression_written_out(amplitudes: tuple[float, ...]) -> None:
    """A trend by generalised least squares, and the rest by its covariance with what was seen."""
    rng, scale = np.random.default_rng(1), np.array(amplitudes)
    day = np.flatnonzero(rng.random(800) < 0.7).astype(float)
    effect, noise = 0.1 * rng.normal(size=len(day)), rng.uniform(1e-3, 1e-2, len(day))
    inverse = np.linalg.inv(covariance(scale, day, day) + np.diag(noise))
    trend = np.stack((np.ones_like(day), day), axis=1)
    slope = np.linalg.solve(trend.T @ inverse @ trend, trend.T @ inverse @ effect)
    later = np.arange(1000.0)
    expected = covariance(scale, later, day) @ inverse @ (effect - trend @ slope)
    effect_later = DateProcess(day, effect, noise).expected_effect(later, scale)
    np.testing.assert_allclose(effect_later, expected, atol=1e-9)


def test_amplitudes_are_those_of_what_varies() -> None:
    """Weekdays alone differ: no other kind of variation gets an amplitude."""
    rng, day = np.random.default_rng(1), np.arange(210.0)
    effect = np.where(day % 7 == 0, 0.4, -0.4 / 6) + rng.normal(0, 0.01, 210)
    event, drift, weekday, season = DateProcess(day, effect, np.full(210, 1e-4)).fit_amplitudes()
    assert weekday > 0 and event == drift == season == 0
