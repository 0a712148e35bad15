"""Correction factors against numbers worked out by hand, and on simulated noise."""

from dataclasses import replace

import numpy as np
import pytest
from factories.matured import (
    AFTER_7,
    GRID,
    INTERVALS,
    SEGMENTS,
    matured_forecasts,
    random_matured_forecasts,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ltvnet.correction.activation import best_trial_by_bucket
from ltvnet.correction.blend import Blend
from ltvnet.correction.correction import CORRECTION_KAPPAS, HALF_LIFE_DAYS, Correction
from ltvnet.correction.matured_forecasts import MaturedForecasts
from ltvnet.data.arrays import Bools, Ints
from ltvnet.forecasting.forecast import AGE_BUCKETS


def test_factors_by_hand() -> None:
    """Expected 10 and 30, so K = 20 x median = 400; actual 20 and 30."""
    forecast, actual = np.ones((2, INTERVALS)), np.ones((2, INTERVALS))
    actual[0] = 2.0
    learned = Correction.fit(
        matured_forecasts(forecast, actual, users=np.array([10.0, 30.0])), 20.0
    )
    top = (20 + 30 + 400 * 1) / (10 + 30 + 400)
    a, b = (20 + 400 * top) / (10 + 400), (30 + 400 * top) / (30 + 400)
    np.testing.assert_allclose(learned.factor[2, :, AFTER_7], [top, a, b], rtol=1e-14)
    assert learned.increment_count[2, :, AFTER_7].tolist() == [2, 1, 1]
    other_buckets = np.delete(np.arange(len(AGE_BUCKETS)), 2)
    assert (learned.factor[other_buckets] == 1).all() and (
        learned.increment_count[other_buckets] == 0
    ).all()
    assert (learned.factor[2, :, :AFTER_7] == 1).all()  # intervals that had been observed


def test_factors_are_told_where_they_change_something() -> None:
    """Segments without an increment of their own say nothing."""
    nothing = Correction.fit(matured_forecasts(np.ones((2, INTERVALS)), np.ones((2, INTERVALS))), 0)
    assert nothing.noticeable_factors(2) == []
    factor = nothing.factor.copy()
    factor[2, :, AFTER_7] = [1.1, 0.8, 3.0]
    factor[2, :, AFTER_7 + 1] = 1.004
    increment_count = np.zeros_like(nothing.increment_count)
    increment_count[2, :2, AFTER_7:] = 4
    learned = replace(nothing, factor=factor, increment_count=increment_count)
    (told,) = learned.noticeable_factors(2)
    assert told == (AFTER_7, 1.1, 0.8, 1.1, 4)
    assert learned.noticeable_factors(3) == []


def test_a_past_forecast_counts_half_after_the_half_life() -> None:
    """1 forecast twice; 2 came true today, 1 of the forecast two months old: (2 + 1/2) / 1.5."""
    forecast, actual = np.ones((2, INTERVALS)), np.ones((2, INTERVALS))
    actual[0] = 2.0
    matured = matured_forecasts(forecast, actual, ago=np.array([0.0, HALF_LIFE_DAYS]))
    top = [Correction.fit(matured, kappa).factor[2, 0, AFTER_7] for kappa in (0.0, 20.0)]
    assert top == pytest.approx([2.5 / 1.5, 22.5 / 21.5], rel=1e-14)
    later = replace(matured, days_ago=matured.days_ago + 90)  # what is old alike counts alike
    assert Correction.fit(later, 0.0).factor[2, 0, AFTER_7] == pytest.approx(2.5 / 1.5)


def test_an_interval_is_corrected_when_it_ends_and_not_before() -> None:
    forecast, actual = np.ones((4, INTERVALS)), np.full((4, INTERVALS), 3.0)
    actual[:, AFTER_7 + 1 :] = np.nan
    learned = Correction.fit(matured_forecasts(forecast, actual), 0.0)
    assert (learned.factor[2, :, AFTER_7] == 3).all()
    assert (learned.factor[2, :, AFTER_7 + 1 :] == 1).all()


def test_a_segment_without_rows_takes_its_parents_factor() -> None:
    """Also where K is 0, as when most forecasts were zero."""
    forecast = np.zeros((5, INTERVALS))
    forecast[0] = 1.0
    matured = matured_forecasts(forecast, 2 * forecast, segment=np.array([1, 1, 1, 1, 1]))
    for kappa in (0.0, 20.0):
        factor = Correction.fit(matured, kappa).factor[2, :, AFTER_7]
        assert factor[2] == factor[0] > 1


def test_zero_forecasts_do_not_undo_the_shrinkage() -> None:
    """K is 20 x 1 though the median over all rows is 0: (2 + 20) / (1 + 20)."""
    forecast = np.zeros((5, INTERVALS))
    forecast[0] = 1.0
    learned = Correction.fit(matured_forecasts(forecast, 2 * forecast), 20.0)
    assert learned.factor[2, 0, AFTER_7] == pytest.approx(22 / 21, rel=1e-14)


def test_refunds_correct_to_zero_and_no_further() -> None:
    forecast = np.ones((9, INTERVALS))
    learned = Correction.fit(matured_forecasts(forecast, -100 * forecast), 20.0)
    assert (learned.factor[2, :, AFTER_7:] == 0).all()


@pytest.mark.parametrize("kappa", CORRECTION_KAPPAS)
def test_no_rows_and_one_row(kappa: float) -> None:
    empty = matured_forecasts(np.ones((0, INTERVALS)), np.ones((0, INTERVALS)))
    assert (Correction.fit(empty, kappa).factor == 1).all()
    single = matured_forecasts(np.ones((1, INTERVALS)), np.full((1, INTERVALS), 5.0))
    factor = Correction.fit(single, kappa).factor[2, 0, AFTER_7:]
    np.testing.assert_allclose(factor, (5 + kappa) / (1 + kappa), rtol=1e-14)
    for matured in (empty, single, replace(single, users=np.zeros(1))):
        assert (best_trial_by_bucket(matured, [2 * matured.forecast_growth]) == -1).all()
        assert (
            Blend.fit(matured, matured.forecast_growth[None], matured.forecast_growth).weight == 1
        ).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_proportional_errors_are_undone_exactly_without_shrinkage(seed: int, c: float) -> None:
    matured = random_matured_forecasts(seed)
    matured = replace(
        matured,
        actual_growth=np.where(
            matured.has_matured, c * matured.forecast_growth, matured.actual_growth
        ),
    )
    learned = Correction.fit(matured, 0.0)
    fixed = learned.apply(
        matured.forecast_growth, matured.observed_age, matured.segment, trial=True
    )
    use = matured.has_matured & (matured.users[:, None] > 0)
    np.testing.assert_allclose(fixed[use], matured.actual_growth[use], rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_a_heavy_parent_is_followed(seed: int) -> None:
    learned = Correction.fit(random_matured_forecasts(seed), 1e15)
    np.testing.assert_allclose(learned.factor, 1.0, rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(CORRECTION_KAPPAS))
def test_money_times_1024_changes_no_factor_and_no_decision(seed: int, kappa: float) -> None:
    matured = random_matured_forecasts(seed, rows=80)
    dear = replace(
        matured,
        forecast_growth=1024 * matured.forecast_growth,
        actual_growth=1024 * matured.actual_growth,
    )
    correction, dear_correction = (
        Correction.fit(matured, kappa),
        Correction.fit(dear, kappa),
    )
    np.testing.assert_array_equal(correction.factor, dear_correction.factor)
    trial = correction.apply(
        matured.forecast_growth, matured.observed_age, matured.segment, trial=True
    )
    assert (
        best_trial_by_bucket(matured, [trial]).tolist()
        == best_trial_by_bucket(dear, [1024 * trial]).tolist()
    )
    pattern = np.roll(matured.forecast_growth, 1, axis=0)
    weights = [
        Blend.fit(p, p.forecast_growth[None], s * pattern).weight
        for p, s in ((matured, 1), (dear, 1024))
    ]
    np.testing.assert_array_equal(*weights)


def test_a_correction_acts_where_it_is_on() -> None:
    shape = (len(AGE_BUCKETS), len(SEGMENTS.keys), INTERVALS)
    on = np.arange(len(AGE_BUCKETS)) == 2
    twice = Correction(
        SEGMENTS, np.full(shape, 2.0), np.ones(shape, dtype=np.int64), on, np.ones(len(AGE_BUCKETS))
    )
    observed, segment = np.array([2, 7, 13, 14]), np.zeros(4, dtype=np.int64)
    grown = np.ones((4, INTERVALS))
    assert twice.apply(grown, observed, segment)[:, 0].tolist() == [1.0, 2.0, 2.0, 1.0]
    assert (twice.apply(grown, observed, segment, trial=True) == 2).all()


def buckets_corrected(seed: int, bias: float, sigma: float) -> Bools:
    """Where a correction learned over 60 weeks of 10 cohorts was on: (B,).

    Each origin, four weeks apart, forecasts 1 / (1 + bias) of the mean of lognormal outcomes of
    each cohort, and learns from intervals that had ended.
    """
    rng = np.random.default_rng(seed)
    week = np.repeat(np.arange(60), 10)
    mean = np.diff(np.log1p(GRID))
    drawn = rng.lognormal(-(sigma**2) / 2, sigma, (600, 1 + INTERVALS))
    growth = mean * drawn[:, :1] * drawn[:, 1:]
    users = rng.lognormal(5.5, 0.8, 600)
    origins = range(12, 60, 4)
    rows_by_origin = [np.flatnonzero((o > week) & (7 * (o - week - 1) + 3 < 360)) for o in origins]
    row, origin = (
        np.concatenate(rows_by_origin),
        np.repeat(origins, [len(rows) for rows in rows_by_origin]),
    )
    observed = 7 * (origin - week[row] - 1) + 3
    share = np.log1p(GRID[1:]) - np.log1p(np.maximum(GRID[:-1], observed[:, None]))
    share = np.maximum(share, 0.0) / mean

    def matured_by(day: int, rows: Ints) -> MaturedForecasts:
        ended = GRID[1:] <= (7 * (day - week[row] - 1) + 3)[:, None]
        actual = np.where(ended, share * growth[row], np.nan)
        forecast = share * mean / (1 + bias)
        segment, volume = 1 + row % 2, users[row]
        ago = 7.0 * (day - origin)
        columns = (segment, observed, volume, week[row], origin, ago, forecast, actual)
        return MaturedForecasts(SEGMENTS, *(column[rows] for column in columns))

    everything = matured_by(60, np.arange(len(row)))
    trials = [everything.forecast_growth.copy() for _ in CORRECTION_KAPPAS]
    for date in origins[1:]:
        matured_before, is_origin = matured_by(date, np.flatnonzero(origin < date)), origin == date
        for trial, kappa in zip(trials, CORRECTION_KAPPAS, strict=True):
            fixed = Correction.fit(matured_before, kappa)
            buckets_and_segments = everything.observed_age[is_origin], everything.segment[is_origin]
            trial[is_origin] = fixed.apply(trial[is_origin], *buckets_and_segments, trial=True)
    return best_trial_by_bucket(everything, trials) >= 0


@pytest.mark.parametrize("sigma", [0.25, 0.6])
def test_silent_when_nothing_is_wrong(sigma: float) -> None:
    on = np.array([buckets_corrected(seed, 0.0, sigma) for seed in range(6)])
    assert on.mean() <= 0.05


@pytest.mark.parametrize("bias", [-0.1, 0.1])
def test_a_persistent_bias_is_found_whichever_its_sign(bias: float) -> None:
    on = np.array([buckets_corrected(seed, bias, 0.25) for seed in range(4)])
    assert on[:, 3:7].mean() > 0.5
