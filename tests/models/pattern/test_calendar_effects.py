"""DateEffects that move all cohorts alike are measured, taken out and put back."""

from dataclasses import replace

import numpy as np
import pytest
from factories.cohorts import history, weekly_history
from hypothesis import given, settings
from hypothesis import strategies as st

from ltvnet.data.arrays import Floats
from ltvnet.data.curves import AGES, Curves
from ltvnet.models.pattern.calendar_effects import (
    Calendar,
    estimate_date_multipliers,
    middle_day,
    pool_by_date_and_age,
)
from ltvnet.models.pattern.date_effects import DateEffects, Trend

DAY = "2024-06-30"


def curves_with_dates(multiplier: Floats, noise: float = 0.0, weeks: int = 80) -> Curves:
    """Weekly cohorts alike but for the `multiplier` (T,) of each date since the first."""
    rng = np.random.default_rng(0)
    rows = []
    for week in range(weeks):
        start = np.datetime64("2023-01-02") + 7 * week
        gain = (1.0 + np.arange(AGES)) ** -0.8 * multiplier[7 * week + np.arange(AGES)]
        if noise:
            gain = gain * rng.gamma(1 / noise**2, noise**2, AGES)
        values = np.cumsum(gain) * (1 + week % 3)
        rows.append((str(start), str(start + 6), {"Apps": "ab"[week % 2]}, 100.0, values))
    return history(rows, hierarchy=("Apps",)).as_of(DAY)


def waves(days: int = 1000) -> Floats:
    """An event of nine days every seven weeks, on a slow wave."""
    day = np.arange(days)
    return (1 + 0.3 * (day % 49 < 9)) * (1 + 0.15 * np.sin(2 * np.pi * day / 200))


def calendar_only(calendar: Calendar) -> DateEffects:
    return DateEffects(calendar, Trend.neutral(calendar.begin))


def without_line(log: Floats) -> Floats:
    day = np.arange(len(log))
    return log - np.polyval(np.polyfit(day, log, 1), day)


@pytest.mark.parametrize(("noise", "tolerance"), [(0.0, 0.03), (0.1, 0.05)])
def test_what_dates_did_is_found_up_to_a_constant_rate(noise: float, tolerance: float) -> None:
    multiplier = waves()
    curves = curves_with_dates(multiplier, noise)
    days = int((curves.origin - middle_day(curves).min()).astype(int)) + 1
    estimated = without_line(np.log(Calendar.fit(curves).multiplier[:days]))
    true = without_line(np.log(multiplier[:days]))
    assert true.std() > 0.12
    assert np.sqrt(np.mean((estimated - true) ** 2)) < tolerance


def test_curves_without_their_calendar_are_proportional() -> None:
    """A constant rate of change is left in them: it keeps them proportional."""
    curves = curves_with_dates(waves())
    undated = calendar_only(Calendar.fit(curves)).remove_from(curves)
    old = undated.values[undated.observed_age >= 200][:, :201]
    growth = old[:, 7:] / old[:, [7]]
    dated = curves.values[curves.observed_age >= 200][:, :201]
    assert (dated[:, 7:] / dated[:, [7]]).std(axis=0)[-1] > 0.1
    assert growth.std(axis=0)[-1] < 0.02


def test_dates_that_are_alike_change_nothing() -> None:
    curves = curves_with_dates(np.ones(1000))
    calendar = Calendar.fit(curves)
    np.testing.assert_allclose(calendar.multiplier, 1.0, atol=1e-6)
    np.testing.assert_array_equal(
        calendar_only(Calendar.neutral(curves.origin)).remove_from(curves).values, curves.values
    )
    np.testing.assert_array_equal(Calendar.neutral(curves.origin).multipliers(curves), 1.0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_putting_back_undoes_taking_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    curves = weekly_history(30, seed=3).as_of("2024-01-31")
    calendar = Calendar(curves.start.min(), rng.lognormal(0, 0.3, 500))
    is_observed = np.isfinite(curves.values)
    dates = DateEffects(calendar, Trend(curves.origin, rng.normal(0, 0.3)))
    restored = dates.apply_to_shape(curves, dates.remove_from(curves).values)
    np.testing.assert_allclose(restored[is_observed], curves.values[is_observed], rtol=1e-12)
    np.testing.assert_array_equal(np.isfinite(restored), is_observed)


def test_a_date_is_the_middle_of_acquisition_and_the_age() -> None:
    rows = [("2024-01-01", "2024-01-07", {}, 1.0, np.arange(AGES) + 1.0)]
    curves = history(rows).as_of("2024-01-10")
    calendar = Calendar(np.datetime64("2024-01-05"), np.array([2.0, 3.0]))
    assert calendar.multipliers(curves)[0, :4].tolist() == pytest.approx([1, 2, 3, 1])


def test_revenue_in_another_unit_and_other_levels_are_the_same_dates() -> None:
    curves = curves_with_dates(waves(), 0.5)
    dear = replace(curves, values=curves.values * 1024)
    np.testing.assert_array_equal(Calendar.fit(dear).multiplier, Calendar.fit(curves).multiplier)


def test_variance_is_dispersion_over_what_was_expected() -> None:
    """Of twice the users, or of two cohorts alike, the multipliers are the same."""
    one = curves_with_dates(np.ones(1000), 0.5)
    begin = middle_day(one).min()
    effect, variance = estimate_date_multipliers(one, begin)
    doubled, same_variance = estimate_date_multipliers(replace(one, users=2 * one.users), begin)
    np.testing.assert_allclose(doubled, effect, rtol=1e-12)
    np.testing.assert_allclose(
        same_variance, variance, rtol=1e-12
    )  # noise is of cells, not of users
    young = np.isfinite(variance)
    expected = variance[young].min() / variance[young]
    assert expected.max() == 1.0 and (expected > 0).all()


def test_cohorts_of_the_same_days_are_added_up() -> None:
    curves = weekly_history(30, ("a", "b", "c")).as_of("2024-01-31")
    days, gain, is_known = pool_by_date_and_age(curves)
    assert len(days) == 30 and is_known.shape == gain.shape == (30, AGES)
    np.testing.assert_allclose(gain.sum(), (curves.users * curves.observed_value).sum())
    first = curves.start == curves.start.min()
    value = (curves.users * curves.observed_value)[first].sum()
    np.testing.assert_allclose(gain[0].sum(), value)


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
