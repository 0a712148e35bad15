"""DateEffects that move all cohorts alike are measured, taken out and put back."""

from dataclasses import replace

import numpy as np
import pytest
from cohorts import history, weekly
from hypothesis import given, settings
from hypothesis import strategies as st

from ltvnet.data.arrays import Floats
from ltvnet.data.curves import AGES, Curves
from ltvnet.models.pattern.calendar_effects import (
    EXACT_VARIANCE,
    Calendar,
    estimate_date_multipliers,
    middle_day,
    pool_by_date_and_age,
)
from ltvnet.models.pattern.date_effects import DateEffects, Trend
from ltvnet.models.pattern.gaussian_process import (
    DRIFT_DAYS,
    KERNELS,
    SEASON,
    YEAR_DAYS,
    BandedCovariance,
    DateProcess,
)

DAY = "2024-06-30"


def moved(by: Floats, noise: float = 0.0, weeks: int = 80) -> Curves:
    """Weekly cohorts alike but for the multiplier `by` (T,) of each date since the first."""
    rng = np.random.default_rng(0)
    rows = []
    for week in range(weeks):
        start = np.datetime64("2023-01-02") + 7 * week
        gain = (1.0 + np.arange(AGES)) ** -0.8 * by[7 * week + np.arange(AGES)]
        if noise:
            gain = gain * rng.gamma(1 / noise**2, noise**2, AGES)
        values = np.cumsum(gain) * (1 + week % 3)
        rows.append((str(start), str(start + 6), {"Apps": "ab"[week % 2]}, 100.0, values))
    return history(rows, hierarchy=("Apps",)).as_of(DAY)


def waves(days: int = 1000) -> Floats:
    """An event of nine days every seven weeks, on a slow wave."""
    at = np.arange(days)
    return (1 + 0.3 * (at % 49 < 9)) * (1 + 0.15 * np.sin(2 * np.pi * at / 200))


def only(calendar: Calendar) -> DateEffects:
    return DateEffects(calendar, Trend.neutral(calendar.begin))


def straightened(log: Floats) -> Floats:
    at = np.arange(len(log))
    return log - np.polyval(np.polyfit(at, log, 1), at)


@pytest.mark.parametrize(("noise", "tolerance"), [(0.0, 0.03), (0.1, 0.05)])
def test_what_dates_did_is_found_up_to_a_constant_rate(noise: float, tolerance: float) -> None:
    by, curves = waves(), moved(waves(), noise)
    days = int((curves.origin - middle_day(curves).min()).astype(int)) + 1
    found = straightened(np.log(Calendar.fit(curves).multiplier[:days]))
    true = straightened(np.log(by[:days]))
    assert true.std() > 0.12
    assert np.sqrt(np.mean((found - true) ** 2)) < tolerance


def test_curves_without_their_calendar_are_proportional() -> None:
    """A constant rate of change is left in them: it keeps them proportional."""
    curves = moved(waves())
    plain = only(Calendar.fit(curves)).remove_from(curves)
    old = plain.values[plain.observed_age >= 200][:, :201]
    growth = old[:, 7:] / old[:, [7]]
    before = curves.values[curves.observed_age >= 200][:, :201]
    assert (before[:, 7:] / before[:, [7]]).std(axis=0)[-1] > 0.1
    assert growth.std(axis=0)[-1] < 0.02


def test_dates_that_are_alike_change_nothing() -> None:
    curves = moved(np.ones(1000))
    calendar = Calendar.fit(curves)
    np.testing.assert_allclose(calendar.multiplier, 1.0, atol=1e-6)
    np.testing.assert_array_equal(
        only(Calendar.neutral(curves.origin)).remove_from(curves).values, curves.values
    )
    np.testing.assert_array_equal(Calendar.neutral(curves.origin).multipliers(curves), 1.0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_putting_back_undoes_taking_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    curves = weekly(30, seed=3).as_of("2024-01-31")
    calendar = Calendar(curves.start.min(), rng.lognormal(0, 0.3, 500))
    known = np.isfinite(curves.values)
    dates = DateEffects(calendar, Trend(curves.origin, rng.normal(0, 0.3)))
    again = dates.apply_to_shape(curves, dates.remove_from(curves).values)
    np.testing.assert_allclose(again[known], curves.values[known], rtol=1e-12)
    np.testing.assert_array_equal(np.isfinite(again), known)


def test_a_date_is_the_middle_of_acquisition_and_the_age() -> None:
    rows = [("2024-01-01", "2024-01-07", {}, 1.0, np.arange(AGES) + 1.0)]
    curves = history(rows).as_of("2024-01-10")
    calendar = Calendar(np.datetime64("2024-01-05"), np.array([2.0, 3.0]))
    assert calendar.multipliers(curves)[0, :4].tolist() == pytest.approx([1, 2, 3, 1])


def test_revenue_in_another_unit_and_other_levels_are_the_same_dates() -> None:
    curves = moved(waves(), 0.5)
    dear = replace(curves, values=curves.values * 1024)
    np.testing.assert_array_equal(Calendar.fit(dear).multiplier, Calendar.fit(curves).multiplier)


def test_variance_is_dispersion_over_what_was_expected() -> None:
    """Of twice the users, or of two cohorts alike, the multipliers are the same."""
    one = moved(np.ones(1000), 0.5)
    begin = middle_day(one).min()
    effect, variance = estimate_date_multipliers(one, begin)
    other, same = estimate_date_multipliers(replace(one, users=2 * one.users), begin)
    np.testing.assert_allclose(other, effect, rtol=1e-12)
    np.testing.assert_allclose(same, variance, rtol=1e-12)  # noise is of cells, not of users
    young = np.isfinite(variance)
    expected = variance[young].min() / variance[young]
    assert expected.max() == 1.0 and (expected > 0).all()


def test_cohorts_of_the_same_days_are_added_up() -> None:
    curves = weekly(30, ("a", "b", "c")).as_of("2024-01-31")
    days, gain, known = pool_by_date_and_age(curves)
    assert len(days) == 30 and known.shape == gain.shape == (30, AGES)
    np.testing.assert_allclose(gain.sum(), (curves.users * curves.observed_value).sum())
    first = curves.start == curves.start.min()
    value = (curves.users * curves.observed_value)[first].sum()
    np.testing.assert_allclose(gain[0].sum(), value)


def test_a_season_takes_two_years() -> None:
    """A bend of half a year is drift, which is not repeated."""
    at = np.arange(200.0)
    bend = DateProcess(at, 0.2 * np.sin(np.pi * at / 200), np.full(200, 1e-4))
    assert bend.fit_amplitudes()[SEASON] == 0
    at = np.arange(900.0)
    wave = DateProcess(at, 0.2 * np.sin(2 * np.pi * at / YEAR_DAYS), np.full(900, 1e-3))
    chosen = wave.fit_amplitudes()
    assert chosen[SEASON] > 0
    ahead = np.arange(900.0, 1200.0)
    told = wave.expected_effect(ahead, chosen)
    assert np.corrcoef(told, np.sin(2 * np.pi * ahead / YEAR_DAYS))[0, 1] > 0.95


def test_a_pause_of_years_is_no_error() -> None:
    rows = [
        (day, day, {}, 10.0, np.arange(AGES) + 1.0)
        for day in ("2015-01-01", "2015-01-08", "2024-06-30")
    ]
    assert len(Calendar.fit(history(rows).as_of(DAY)).multiplier)


def test_without_revenue_all_dates_are_alike() -> None:
    rows = [("2024-01-01", "2024-01-07", {}, 5.0, np.zeros(AGES))]
    curves = history(rows).as_of(DAY)
    assert not len(Calendar.fit(curves).multiplier)


def test_a_process_by_hand() -> None:
    """Of a constant and a line nothing is left; drift between two days decays with the distance."""
    at = np.arange(10.0)
    line = DateProcess(at, 0.3 + 0.01 * at, np.full(10, EXACT_VARIANCE))
    chosen = np.array([0.1, 0.1, 0.0, 0.0])
    np.testing.assert_allclose(line.expected_effect(np.arange(20.0), chosen), 0.0, atol=1e-9)
    days, zero = np.array([0.0, DRIFT_DAYS, 7.0]), np.array([0.0])
    event, wander, weekday, wave = (kind(days, zero)[:, 0] for kind in KERNELS)
    assert wander.tolist() == pytest.approx([1.0, np.exp(-1), np.exp(-7 / DRIFT_DAYS)])
    assert weekday.tolist() == pytest.approx([1.0, -1 / 6, 1.0])
    assert event[1] < 1e-9 and wave[0] == 1.0


def covariance(amplitudes: Floats, one: Floats, other: Floats) -> Floats:
    """Of effects without sampling error, kind by kind: (len(one), len(other))."""
    kinds = [kind(one, other) for kind in KERNELS]
    return np.tensordot(amplitudes**2, kinds, axes=1)


@pytest.mark.parametrize("days", [5, 300])
@pytest.mark.parametrize("amplitudes", [(0.1, 0.2), (0.0, 0.3), (0.3, 0.0), (0.0, 0.0)])
def test_bands_stand_for_the_covariance(days: int, amplitudes: tuple[float, float]) -> None:
    rng = np.random.default_rng(days)
    at = np.cumsum(rng.choice([1.0, 1.0, 2.0, 40.0], days))
    noise, columns = rng.uniform(1e-4, 1e-2, days), rng.normal(size=(days, 3))
    dense = covariance(np.array([*amplitudes, 0.0, 0.0]), at, at) + np.diag(noise)
    solved, volume = BandedCovariance.from_days(at, noise).solve(*amplitudes, columns)
    np.testing.assert_allclose(dense @ solved, columns, atol=1e-8)
    assert volume == pytest.approx(np.linalg.slogdet(dense)[1], rel=1e-9)


@pytest.mark.parametrize("amplitudes", [(0.1, 0.2, 0.05, 0.1), (0.2, 0.0, 0.0, 0.1), (0, 0, 0, 0)])
def test_the_expected_effect_is_the_regression_written_out(amplitudes: tuple[float, ...]) -> None:
    """A trend by generalised least squares, and the rest by its covariance with what was seen."""
    rng, scale = np.random.default_rng(1), np.array(amplitudes)
    at = np.flatnonzero(rng.random(800) < 0.7).astype(float)
    effect, noise = 0.1 * rng.normal(size=len(at)), rng.uniform(1e-3, 1e-2, len(at))
    inverse = np.linalg.inv(covariance(scale, at, at) + np.diag(noise))
    trend = np.stack((np.ones_like(at), at), axis=1)
    slope = np.linalg.solve(trend.T @ inverse @ trend, trend.T @ inverse @ effect)
    later = np.arange(1000.0)
    told = covariance(scale, later, at) @ inverse @ (effect - trend @ slope)
    found = DateProcess(at, effect, noise).expected_effect(later, scale)
    np.testing.assert_allclose(found, told, atol=1e-9)


def test_amplitudes_are_those_of_what_varies() -> None:
    """Weekdays alone differ: no other kind of variation gets an amplitude."""
    rng, at = np.random.default_rng(1), np.arange(210.0)
    effect = np.where(at % 7 == 0, 0.4, -0.4 / 6) + rng.normal(0, 0.01, 210)
    event, drift, weekday, season = DateProcess(at, effect, np.full(210, 1e-4)).fit_amplitudes()
    assert weekday > 0 and event == drift == season == 0
