"""Conformal intervals against order statistics counted by hand, and coverage by simulation."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import stdtrit

from ltvnet.correction import intervals
from ltvnet.correction.intervals import (
    MIN_CALIBRATION_COHORTS,
    NOISE_GRID,
    CalibrationSample,
    Intervals,
    NodeForecasts,
    TotalsUncertainty,
)
from ltvnet.data.arrays import Bools, Days, Floats, Ints
from ltvnet.data.curves import NODES, parse_day
from ltvnet.data.segments import Segments
from ltvnet.forecasting.forecast import AGE_BUCKETS, Band, age_bucket

TOP = Segments.from_keys((), [()])
APPS = Segments.from_keys(("Apps",), [(), ("a",), ("b",)])
GRID = np.array(NODES)
J = len(NODES)
D30, D360 = NODES.index(30), NODES.index(360)


def unit_growth_forecasts(rows: int, observed: int = 7, value: float = 1.0) -> NodeForecasts:
    """Forecasts that grow by 1 up to each node, without quantiles of their own."""
    mean = np.where(observed < GRID, value + 1.0, np.nan) * np.ones((rows, 1))
    band = Band(mean, mean, mean, mean)
    return NodeForecasts(np.full(rows, observed), np.full(rows, value), np.ones(rows), mean, band)


def scored_forecasts(
    grown: Floats,
    observed: int = 7,
    cohort: Ints | None = None,
    segment: Ints | None = None,
    origin: Days | None = None,
    users: Floats | None = None,
) -> CalibrationSample:
    """Forecasts of a growth of 1 beside what they grew by, (E,) at all nodes or (E, J)."""
    rows = len(grown)
    cells = grown[:, None] if grown.ndim == 1 else grown
    forecast = unit_growth_forecasts(rows, observed)
    return CalibrationSample(
        forecast=forecast if users is None else replace(forecast, users=users),
        actual=np.where(observed < GRID, 1.0 + cells, np.nan),
        cohort_index=np.arange(rows) if cohort is None else cohort,
        origin=np.full(rows, parse_day("2024-01-01")) if origin is None else origin,
        segment=np.zeros(rows, dtype=np.int64) if segment is None else segment,
    )


@pytest.mark.parametrize(("cohorts", "rank"), [(20, 19), (28, 27), (29, 27), (99, 90), (100, 91)])
def test_the_order_statistic_by_hand(cohorts: int, rank: int) -> None:
    """ceil(0.9 (m + 1)): outcomes 1, 2 .. m above a forecast of 1 miss it by 0, 1 .. m - 1."""
    outcomes = np.random.default_rng(0).permutation(cohorts) + 1.0
    learned = Intervals.fit(scored_forecasts(outcomes), TOP)
    assert (learned.upper[2, 0, D30:] == rank - 1).all()
    assert (learned.lower[2, 0, D30:] == 1 - (cohorts + 1 - rank)).all()
    assert np.isnan(learned.upper[[0, 1, *range(3, 8)]]).all()
    assert not learned.is_borrowed[2, D30:].any() and learned.is_borrowed[3].all()


@pytest.mark.parametrize("rows", [0, 1, MIN_CALIBRATION_COHORTS - 1])
def test_too_few_cohorts_stay_blank(rows: int) -> None:
    learned = Intervals.fit(scored_forecasts(np.arange(rows) + 1.0), TOP)
    for unknown in (learned, Intervals.blank()):
        assert np.isnan(unknown.upper).all() and unknown.is_borrowed.all()
        band, borrowed = unknown.apply(unit_growth_forecasts(3), np.zeros(3, dtype=np.int64))
        assert np.isnan(band.p10).all() and np.isnan(band.p90).all()
        assert (band.mean[:, D30:] == 2).all() and (band.p50[:, D30:] == 2).all()
        assert borrowed[:, D30:].all() and not borrowed[:, 0].any()


def test_a_cohort_weighs_one_however_often_it_was_forecast() -> None:
    """The 19th of 20 cohorts, of which the worst has 100 forecasts."""
    outcomes = np.concatenate((np.arange(1.0, 20.0), np.full(100, 50.0)))
    cohort = np.concatenate((np.arange(19), np.full(100, 19)))
    learned = Intervals.fit(scored_forecasts(outcomes, cohort=cohort), TOP)
    assert learned.upper[2, 0, D30] == 19 - 1


def test_forecasts_of_one_cohort_share_its_weight() -> None:
    """20 cohorts of three forecasts each, 1 .. 60: a weight of 19 is reached at the 57th."""
    order = np.random.default_rng(0).permutation(60)
    learned = Intervals.fit(scored_forecasts(order + 1.0, cohort=order % 20), TOP)
    assert learned.upper[2, 0, D30] == 57 - 1


def test_rows_of_few_cohorts_count_as_few() -> None:
    outcomes = np.arange(1.0, 101.0)
    learned = Intervals.fit(scored_forecasts(outcomes, cohort=np.arange(100) % 19), TOP)
    assert np.isnan(learned.upper).all()


def test_a_segment_of_few_cohorts_takes_its_parents() -> None:
    """a has 20 cohorts missing by 0 .. 19, b 19 missing by 100; the top's is the 36th of 39."""
    outcomes = np.concatenate((np.arange(1.0, 21.0), np.full(19, 101.0)))
    segment = np.repeat([1, 2], [20, 19])
    learned = Intervals.fit(scored_forecasts(outcomes, segment=segment), APPS)
    assert learned.upper[2, :, D30].tolist() == [100.0, 18.0, 100.0]
    assert learned.lower[2, :, D30].tolist() == [-3.0, -1.0, -3.0]


def test_a_horizon_that_has_not_matured_borrows_the_widest_of_the_longest_three() -> None:
    """Misses at D30 9, D45 5, D60 7, D90 6: D120 and later take 7, though D30's is wider."""
    grown = np.full((20, J), np.nan)
    for node, miss in ((30, 9), (45, 5), (60, 7), (90, 6)):
        grown[:, NODES.index(node)] = 1.0 + miss
    learned = Intervals.fit(scored_forecasts(grown), TOP)
    assert learned.upper[2, 0, D30:].tolist() == [9, 5, 7, 6] + [7] * 6
    assert learned.lower[2, 0, D30:].tolist() == [-9, -5, -7, -6] + [-5] * 6
    assert learned.is_borrowed[2, D30:].tolist() == [False] * 4 + [True] * 6
    _, borrowed = learned.apply(unit_growth_forecasts(1), np.zeros(1, dtype=np.int64))
    assert borrowed[0].tolist() == [*[False] * 8, *[True] * 3, *[False] * 4, *[True] * 6]


def constant_intervals(lower: float, upper: float, noise: float = 0.0) -> Intervals:
    """Widths, and chance from an observed age of 7."""
    shape = (len(AGE_BUCKETS), 1, J)
    borrowed = np.zeros(shape[::2], dtype=bool)
    chance = np.where(np.arange(len(AGE_BUCKETS)) == 2, noise, np.nan)
    return Intervals(TOP, np.full(shape, lower), np.full(shape, upper), borrowed, chance)


def test_the_size_of_errors_by_hand() -> None:
    """Growth of 4, noise 12: sqrt(16 + 48) = 8 of one user, sqrt(16 + 9) = 5 of 16/3."""
    mean = np.where(GRID > 7, 6.0, np.nan) * np.ones((2, 1))
    band = Band(mean, mean, mean, mean)
    forecast = NodeForecasts(np.full(2, 7), np.full(2, 2.0), np.array([1.0, 16 / 3]), mean, band)
    noise = constant_intervals(0.0, 0.0, 12.0).noise
    size = forecast.error_scale(noise)
    np.testing.assert_allclose(size[:, 8:], [[8.0] * 13, [5.0] * 13], rtol=1e-15)
    assert np.isnan(size[:, :8]).all()
    assert (forecast.error_scale(np.zeros(len(AGE_BUCKETS)))[:, 8:] == 4).all()
    wide, _ = constant_intervals(0.25, 0.5, 12.0).apply(forecast, np.zeros(2, dtype=np.int64))
    np.testing.assert_allclose(wide.p10[:, D30], [6 - 8 / 4, 6 - 5 / 4], rtol=1e-15)
    np.testing.assert_allclose(wide.p90[:, D30], [6 + 8 / 2, 6 + 5 / 2], rtol=1e-15)
    past = CalibrationSample(
        forecast, mean + 2, np.arange(2), np.full(2, parse_day("2024-01-01")), np.zeros(2, int)
    )
    below, above = past.scaled_misses(noise)
    np.testing.assert_allclose(above[:, D30], [2 / 8, 2 / 5], rtol=1e-15)
    np.testing.assert_allclose(below[:, D30], [-2 / 8, -2 / 5], rtol=1e-15)


def test_issued_intervals_by_hand() -> None:
    """Growth of 4 from 2 to a mean of 6, less 1/4 and plus 1/2 of it; the band's own are left."""
    mean = np.where(GRID > 7, 6.0, np.nan)[None]
    band = Band(mean, mean - 1, mean, mean + 1)
    forecast = NodeForecasts(np.array([7]), np.array([2.0]), np.ones(1), mean - 1, band)
    band, _ = constant_intervals(0.25, 0.5).apply(forecast, np.zeros(1, dtype=np.int64))
    assert (band.p10[0, D30], band.p50[0, D30], band.p90[0, D30]) == (5.0, 6.0, 8.0)
    wider, _ = constant_intervals(9.0, -9.0).apply(forecast, np.zeros(1, dtype=np.int64))
    bounds = (wider.p10[0, D30], wider.p50[0, D30], wider.p90[0, D30])
    assert bounds == (2.0, 2.0, 2.0)  # not below what was observed, and p50 between
    narrow, _ = constant_intervals(-9.0, 0.0).apply(forecast, np.zeros(1, dtype=np.int64))
    assert (narrow.p10[0, D30], narrow.p50[0, D30]) == (42.0, 42.0)


def test_growth_is_the_models_or_the_patterns_and_none_is_blank() -> None:
    flat = np.where(GRID > 7, 2.0, np.nan)[None]
    band_of_pattern = Band(flat, flat, flat, flat)
    still = NodeForecasts(np.array([7]), np.array([2.0]), np.ones(1), flat, band_of_pattern)
    band, _ = constant_intervals(0.5, 0.5).apply(still, np.zeros(1, dtype=np.int64))
    assert np.isnan(band.p10).all() and np.isnan(band.p90).all() and band.mean[0, D360] == 2
    grows = replace(still, pattern=flat + 4)
    band, _ = constant_intervals(0.0, 0.5).apply(grows, np.zeros(1, dtype=np.int64))
    assert band.p90[0, D360] == 2 + 0.5 * 4
    unused = replace(
        scored_forecasts(np.ones(30)),
        forecast=replace(unit_growth_forecasts(30), observed_value=np.full(30, 2.0)),
    )
    assert np.isnan(Intervals.fit(unused, TOP).upper).all()


@pytest.mark.parametrize("noise", [0.0, 3.0])
@pytest.mark.parametrize("users", [0.0, np.nan])
def test_cohorts_without_users_are_blank(users: float, noise: float) -> None:
    forecast = replace(unit_growth_forecasts(2), users=np.array([users, 1.0]))
    band, borrowed = constant_intervals(0.5, 0.5, noise).apply(
        forecast, np.zeros(2, dtype=np.int64)
    )
    assert np.isnan(band.p10[0]).all() and np.isnan(band.p90[0]).all() and not borrowed.any()
    assert (band.mean[:, D30:] == 2).all() and (band.p50[:, D30:] == 2).all()
    assert np.isfinite(band.p10[1, D30:]).all() and np.isfinite(band.p90[1, D30:]).all()


@pytest.mark.parametrize(("users", "fall"), [(0.0, 0.0), (np.nan, 0.0), (5.0, 99.0), (5.0, np.nan)])
def test_rows_without_users_or_growth_teach_nothing(users: float, fall: float) -> None:
    past = purchase_forecasts(np.random.default_rng(0), 60, 0.1)
    useless = np.arange(60) < 10
    forecast = replace(
        past.forecast,
        users=np.where(useless, users, past.forecast.users),
        observed_value=np.where(
            useless, past.forecast.observed_value + fall, past.forecast.observed_value
        ),
    )
    with_useless_rows = Intervals.fit(replace(past, forecast=forecast), TOP)
    without_useless_rows = Intervals.fit(rows_of(past, ~useless), TOP)
    assert without_useless_rows.noise[2] > 0 and np.isfinite(without_useless_rows.upper[2]).any()
    np.testing.assert_array_equal(with_useless_rows.noise, without_useless_rows.noise)
    np.testing.assert_array_equal(with_useless_rows.upper, without_useless_rows.upper)
    np.testing.assert_array_equal(with_useless_rows.lower, without_useless_rows.lower)


def rows_of(past: CalibrationSample, rows: Bools) -> CalibrationSample:
    f = past.forecast
    band = Band(*(cells[rows] for cells in (f.band.mean, f.band.p10, f.band.p50, f.band.p90)))
    forecast = NodeForecasts(
        f.observed_age[rows], f.observed_value[rows], f.users[rows], f.pattern[rows], band
    )
    return CalibrationSample(
        forecast, past.actual[rows], past.cohort_index[rows], past.origin[rows], past.segment[rows]
    )


def any_forecast(rng: np.random.Generator, rows: int) -> NodeForecasts:
    """From any age, also none; with zeros, also of users; quantiles are ordered at each node."""
    observed = rng.integers(-1, 360, rows)
    value = np.where(observed < 0, np.nan, rng.gamma(1.0, 1.0, rows))
    shape = (5, rows, J)
    grown = np.cumsum(rng.gamma(1.0, 1.0, shape) * (rng.random(shape) < 0.6), axis=2)
    low, middle, high, mean, pattern = np.concatenate((np.sort(grown[:3], axis=0), grown[3:]))
    later = (GRID > observed[:, None]) & (observed >= 0)[:, None]
    cells = [np.where(later, value[:, None] + g, np.nan) for g in (mean, low, middle, high)]
    pattern = np.where(later, value[:, None] + pattern, np.nan)
    users = np.where(observed < 0, np.nan, rng.integers(0, 9, rows))
    return NodeForecasts(observed, value, users, pattern, Band(*cells))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_issued_intervals_are_ordered_and_monotone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    forecast = any_forecast(rng, 8)
    lower, upper = rng.normal(0, 1, (2, len(AGE_BUCKETS), 1, J))
    noise = rng.gamma(1.0, 4.0, len(AGE_BUCKETS))
    drawn = Intervals(TOP, lower, upper, np.zeros((len(AGE_BUCKETS), J), dtype=bool), noise)
    band, _ = drawn.apply(forecast, np.zeros(8, dtype=np.int64))
    has_interval = (forecast.forecast_growth > 0) & (forecast.users > 0)[:, None]
    for cells in (band.p10, band.p90):
        assert (np.isfinite(cells) == has_interval).all()
    low, middle, high = band.p10[has_interval], band.p50[has_interval], band.p90[has_interval]
    assert (
        low >= np.broadcast_to(forecast.observed_value[:, None], has_interval.shape)[has_interval]
    ).all()
    assert ((low <= middle) & (middle <= high)).all()
    for cells in (band.p10, band.p50, band.p90):
        for row, use in zip(cells, has_interval, strict=True):
            assert (np.diff(row[use]) >= 0).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_money_times_1024_widens_1024_times(seed: int) -> None:
    """And users x 16 at the same revenue per user: noise is revenue of a cohort."""
    rng = np.random.default_rng(seed)
    forecast = any_forecast(rng, 400)
    actual = forecast.band.mean * rng.gamma(4.0, 0.25, (400, J))
    past = CalibrationSample(
        forecast,
        actual,
        rng.integers(0, 300, 400),
        parse_day("2024-01-01") + 7 * rng.integers(0, 9, 400),
        rng.integers(0, 3, 400),
    )
    dear = replace(
        forecast, observed_value=1024 * forecast.observed_value, pattern=1024 * forecast.pattern
    )
    quantiles = (forecast.band.mean, forecast.band.p10, forecast.band.p50, forecast.band.p90)
    dear = replace(dear, band=Band(*(1024 * cells for cells in quantiles)))
    many = replace(forecast, users=16 * forecast.users)
    intervals_before = Intervals.fit(past, APPS)
    assert np.isfinite(intervals_before.upper).any()
    assume((intervals_before.noise > 0).any())  # about one draw in a thousand is without
    band, _ = intervals_before.apply(forecast, past.segment)
    for scaled_past, money, revenue in (
        (replace(past, forecast=dear, actual=1024 * actual), 1024, 1024),
        (replace(past, forecast=many), 1, 16),
    ):
        larger = Intervals.fit(scaled_past, APPS)
        np.testing.assert_array_equal(larger.noise, revenue * intervals_before.noise)
        np.testing.assert_array_equal(larger.upper, intervals_before.upper)
        np.testing.assert_array_equal(larger.lower, intervals_before.lower)
        wide, _ = larger.apply(scaled_past.forecast, past.segment)
        np.testing.assert_array_equal(wide.p10, money * band.p10)
        np.testing.assert_array_equal(wide.p90, money * band.p90)
        sums, totals = TotalsUncertainty.fit(past), TotalsUncertainty.fit(scaled_past)
        np.testing.assert_array_equal(sums.common, totals.common)
        np.testing.assert_array_equal(sums.own, totals.own)


def lognormal_forecasts(rng: np.random.Generator, number: int) -> CalibrationSample:
    """Cohorts forecast at one to three ages of a bucket, with lognormal growth of their own.

    Their forecasts have quantiles that are too narrow, and a mean that is too high by a tenth.
    """
    cohort = np.repeat(np.arange(number), rng.integers(1, 4, number))
    observed = rng.integers(14, 30, len(cohort))
    later = GRID > observed[:, None]
    mean = np.where(later, np.log1p(GRID) - np.log1p(observed)[:, None], np.nan)
    level = rng.lognormal(0.0, 0.5, number)[cohort][:, None]
    drawn = rng.lognormal(0.0, 0.3, (number, J))[cohort]
    steps = np.diff(np.nan_to_num(mean), axis=1, prepend=0.0) * drawn
    actual = np.where(later, 1.0 + level * np.cumsum(steps, axis=1), np.nan)
    band = Band(1.0 + 1.1 * mean, 1.0 + 0.9 * mean, 1.0 + mean, 1.0 + 1.2 * mean)
    ones = np.ones(len(cohort))
    forecast = NodeForecasts(observed, ones, ones, 1.0 + mean, band)
    origin, segment = (
        np.full(len(cohort), parse_day("2024-01-01")),
        np.zeros(len(cohort), dtype=np.int64),
    )
    return CalibrationSample(forecast, actual, cohort, origin, segment)


def test_eight_of_ten_new_cohorts_fall_inside_and_one_on_either_side() -> None:
    """The cohorts are the clusters: means of each, over 60 replications of 60 and 100 cohorts."""
    below, above = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        learned, fresh = (
            Intervals.fit(lognormal_forecasts(rng, 60), TOP),
            lognormal_forecasts(rng, 100),
        )
        band, _ = learned.apply(fresh.forecast, fresh.segment)
        later = np.isfinite(band.p10) & np.isfinite(fresh.actual)
        weight = later.sum(axis=1)
        below.append(((fresh.actual < band.p10) & later).sum() / weight.sum())
        above.append(((fresh.actual > band.p90) & later).sum() / weight.sum())
    for misses in (np.array(below), np.array(above)):
        error = misses.std(ddof=1) / np.sqrt(len(misses))
        assert error < 0.01
        # between 1 - 55 / 61 = 9.8 %, what is promised, and 10 %, within noise
        assert abs(misses.mean() - 0.1) < 0.005 + 2.5 * error


def forecasts_with_noise(
    rng: np.random.Generator, rows: int, level: Floats, noise: float
) -> CalibrationSample:
    """Cohorts whose errors are exactly `level` (J,) x sqrt(g^2 + noise g / users), either way."""
    users, level_by_cohort = rng.lognormal(4.0, 1.5, rows), rng.lognormal(0.0, 0.5, (rows, 1))
    grown = np.where(GRID > 7, level_by_cohort * (np.log1p(GRID) - np.log(8)), np.nan)
    missed = level * np.sqrt(grown * (grown + noise / users[:, None]))
    past = scored_forecasts(grown + missed * rng.choice([-1.0, 1.0], grown.shape), users=users)
    band = Band(*[1.0 + grown] * 4)
    return replace(past, forecast=replace(past.forecast, pattern=1.0 + grown, band=band))


def volume_of(past: CalibrationSample) -> float:
    volume = past.forecast.users[:, None] * past.forecast.forecast_growth
    return float(np.median(volume[np.isfinite(volume)]))


@pytest.mark.parametrize("fall", [0.0, 0.5, -0.5])
def test_errors_in_proportion_to_growth_have_no_noise(fall: float) -> None:
    """Where size is in proportion to errors the likelihood is at its best, by Jensen.

    Also when a level errs more at some ages than at others, where growth is another.
    """
    level = 0.05 * (1.0 + GRID) ** fall
    past = forecasts_with_noise(np.random.default_rng(0), 200, level, 0.0)
    assert past.estimate_noise().tolist() == [0.0] * len(AGE_BUCKETS)


@pytest.mark.parametrize("times", NOISE_GRID)
def test_noise_on_the_grid_is_found(times: float) -> None:
    level = np.random.default_rng(1).uniform(0.1, 0.4, J)
    median = volume_of(forecasts_with_noise(np.random.default_rng(0), 200, level, 0.0))
    past = forecasts_with_noise(np.random.default_rng(0), 200, level, times * median)
    assert past.estimate_noise()[2] == times * median
    assert not past.estimate_noise()[[0, 1, *range(3, 8)]].any()


def test_errors_of_chance_alone_have_the_most_noise() -> None:
    """Errors in proportion to sqrt(g / users): the noisier, the likelier."""
    past = forecasts_with_noise(np.random.default_rng(0), 200, np.full(J, 1e-6), 1e12)
    assert past.estimate_noise()[2] == NOISE_GRID[-1] * volume_of(past)


def test_cohorts_that_are_alike_have_no_noise() -> None:
    """Any noise is as likely there, but for rounding."""
    rng = np.random.default_rng(0)
    for users in rng.lognormal(3.0, 1.0, 20):
        past = scored_forecasts(rng.lognormal(0.0, 0.5, 50), users=np.full(50, users))
        assert not past.estimate_noise().any()


def purchase_forecasts(
    rng: np.random.Generator, number: int, spread: float = 0.25
) -> CalibrationSample:
    """Compound Poisson growth: purchases of 1 on average, exponential, and a level of each cohort.

    Of a revenue of v the variance is 2 v + (spread v)^2, so that noise is 2 / spread^2.
    """
    users, rate = rng.lognormal(5.0, 1.5, number), rng.lognormal(0.0, 0.3, (number, 1))
    grown = np.where(GRID > 7, rate * (np.log1p(GRID) - np.log(8)), 0.0)
    level = np.exp(rng.normal(-(spread**2) / 2, spread, (number, 1)))
    count = rng.poisson(level * users[:, None] * np.diff(grown, axis=1, prepend=0.0))
    bought = np.cumsum(rng.gamma(count), axis=1)
    past = scored_forecasts(bought / users[:, None], users=users)
    mean = np.where(GRID > 7, 1.0 + grown, np.nan)
    forecast = replace(past.forecast, pattern=mean, band=Band(mean, mean, mean, mean))
    return replace(past, forecast=forecast)


@pytest.mark.parametrize("spread", [0.1, 0.25, 0.5])
def test_noise_of_purchases_is_recovered(spread: float) -> None:
    noises = [
        purchase_forecasts(np.random.default_rng(s), 1000, spread).estimate_noise()[2]
        for s in range(10)
    ]
    ratio = np.array(noises) * spread**2 / 2
    assert ((ratio > 1 / 4) & (ratio < 4)).all() and 1 / 2 < np.exp(np.log(ratio).mean()) < 2


def test_growth_that_is_rounding_makes_no_noise() -> None:
    """One row forecast to grow by 1e-15 that grew by 1, beside 500 others."""
    past = purchase_forecasts(np.random.default_rng(0), 501)
    mean, actual = past.forecast.band.mean.copy(), past.actual.copy()
    mean[0], actual[0] = np.where(GRID > 7, 1 + 1e-15, np.nan), np.where(GRID > 7, 2.0, np.nan)
    forecast = replace(past.forecast, pattern=mean, band=Band(mean, mean, mean, mean))
    noise = replace(past, forecast=forecast, actual=actual).estimate_noise()[2]
    assert noise == pytest.approx(rows_of(past, np.arange(501) > 0).estimate_noise()[2], rel=0.02)


def coverage_by_size(seeds: int) -> Floats:
    """Share of new cohorts inside at D360, by quarters of their number of users: (4,)."""
    shares = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        learned, fresh = (
            Intervals.fit(purchase_forecasts(rng, 200, 0.1), TOP),
            purchase_forecasts(rng, 1000, 0.1),
        )
        band, _ = learned.apply(fresh.forecast, fresh.segment)
        inside = (fresh.actual >= band.p10) & (fresh.actual <= band.p90)
        order = np.argsort(fresh.forecast.users)
        shares.append(inside[order, D360].reshape(4, -1).mean(axis=1))
    return np.mean(shares, axis=0)


def test_eight_of_ten_small_and_large_cohorts_fall_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """With errors in proportion to growth it would be few small ones, and nearly all large ones."""
    share = coverage_by_size(20)
    assert (np.abs(share - 0.8) < 0.03).all()
    monkeypatch.setattr(intervals, "NOISE_GRID", (0.0,))
    proportional = coverage_by_size(20)
    assert proportional[0] < 0.7 and proportional[3] > 0.85
    assert abs(proportional.mean() - 0.8) < 0.02


def test_variances_of_sums_by_hand() -> None:
    """Growth of 1 and 3 forecast, 1.2 and 3.3 came: shared 0.5 / 4 = 0.125, residuals +-0.075.

    Own: 2 x 0.075^2 / (1 (1 - 2/4 + 10/16) + 9 (1 - 6/4 + 10/16)) = 0.01125 / 2.25.
    """
    past = scored_forecasts(np.array([1.2, 1.1]), users=np.array([1.0, 3.0]))
    learned = TotalsUncertainty.fit(past, min_origins=1)
    assert learned.own[D360] == pytest.approx(0.005, rel=1e-12)
    assert learned.common[D360] == pytest.approx(0.125**2 - 0.005 * 10 / 16, rel=1e-12)
    assert learned.origins[D360] == 1 and not learned.is_borrowed[D360]
    width = learned.half_width(np.full(J, 4.0), np.full(J, 10.0))
    deviation = np.sqrt(0.0125 * 16 + 0.005 * 10)
    assert width[D360] == pytest.approx(stdtrit(1, 0.9) * deviation, rel=1e-12)


def test_nothing_matured_leaves_sums_without_an_interval() -> None:
    for unknown in (TotalsUncertainty.blank(), TotalsUncertainty.fit(scored_forecasts(np.ones(0)))):
        assert (
            np.isnan(unknown.half_width(np.ones(J), np.ones(J))).all() and unknown.is_borrowed.all()
        )
    learned = TotalsUncertainty.fit(scored_forecasts(np.full(5, 2.0), users=np.zeros(5)))
    assert np.isnan(learned.common).all()


def test_one_cohort_an_origin_is_all_common() -> None:
    origin = parse_day("2024-01-01") + 364 * np.arange(4)
    learned = TotalsUncertainty.fit(scored_forecasts(np.array([1.1, 0.9, 1.1, 0.9]), origin=origin))
    assert learned.own[D360] == 0
    assert learned.common[D360] == pytest.approx(0.01, rel=1e-12)
    assert learned.origins[D360] == 4


def test_origins_that_share_days_are_worth_fewer() -> None:
    """Five origins 28 days apart: 112 days, and D30 lies 23 ahead, D360 353."""
    origin = parse_day("2024-01-01") + 28 * np.arange(5)
    learned = TotalsUncertainty.fit(scored_forecasts(np.full(5, 1.1), origin=origin))
    assert learned.origins[D30] == 5
    assert learned.origins[D360] == pytest.approx(1 + 112 / 353)


def test_an_origin_counts_once_half_of_its_growth_has_matured() -> None:
    grown = np.full((4, J), 1.1)
    grown[0, D360], grown[2:, D360] = np.nan, np.nan
    origin = parse_day("2024-01-01") + 364 * np.array([0, 0, 1, 1])
    learned = TotalsUncertainty.fit(scored_forecasts(grown, origin=origin), min_origins=1)
    assert (learned.origins[D360], learned.origins[D30]) == (1, 2)
    late = scored_forecasts(grown, origin=origin, users=np.array([3.0, 2.9, 1.0, 1.0]))
    assert TotalsUncertainty.fit(late, min_origins=1).is_borrowed[D360]


def test_a_horizon_of_few_origins_borrows_for_sums_too() -> None:
    grown = np.full((8, J), np.nan)
    grown[:, D30], grown[:, D30 + 1], grown[:2, D30 + 2] = 1.1, 1.2, 1.9
    origin = parse_day("2024-01-01") + 364 * np.arange(8)
    learned = TotalsUncertainty.fit(scored_forecasts(grown, origin=origin))
    assert learned.is_borrowed[D30:].tolist() == [False, False, *[True] * 8]
    np.testing.assert_allclose(learned.common[D30:], [0.01, *[0.04] * 9], rtol=1e-12)


def test_sums_of_fewer_origins_than_it_takes_have_no_interval() -> None:
    origin = parse_day("2024-01-01") + 364 * np.arange(3)
    totals = TotalsUncertainty.fit(
        scored_forecasts(np.array([1.1, 0.9, 1.1]), origin=origin), min_origins=4
    )
    assert np.isnan(totals.half_width(np.ones(J), np.ones(J))).all() and totals.is_borrowed.all()


def portfolio_forecasts(rng: np.random.Generator, origins: int, number: int) -> CalibrationSample:
    """Equal cohorts at each origin: a common error of 0.1, their own of 0.3, half of it kept."""
    cohort = np.tile(np.arange(number), origins)
    origin = np.repeat(np.arange(origins), number)
    lasting, new = rng.normal(0, 0.3 * np.sqrt(0.5), (2, origins * number))
    error = rng.normal(0, 0.1, origins)[origin] + lasting[cohort] + new
    users = rng.lognormal(5, 1, number)[cohort]
    origin = parse_day("2010-01-04") + 364 * origin
    return scored_forecasts(1.0 + error, cohort=cohort, origin=origin, users=users)


@pytest.mark.parametrize("number", [2, 6, 30])
def test_variances_of_sums_are_unbiased(number: int) -> None:
    """But for what is cut below 0, which matters where cohorts are few."""
    rng = np.random.default_rng(0)
    learned = [TotalsUncertainty.fit(portfolio_forecasts(rng, 12, number)) for _ in range(150)]
    own_variance = np.array([totals.own[D30] for totals in learned])
    assert abs(own_variance.mean() - 0.09) < 2.5 * own_variance.std() / np.sqrt(150)
    common = np.array([totals.common[D30] for totals in learned])
    assert abs(common.mean() - 0.01) < 2.5 * common.std() / np.sqrt(150) + 0.02 / number


def test_eight_of_ten_sums_fall_inside() -> None:
    inside = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        learned = TotalsUncertainty.fit(portfolio_forecasts(rng, 6, 12))
        new = portfolio_forecasts(rng, 1, 12)
        users = new.forecast.users
        size = users[:, None] * new.forecast.forecast_growth
        width = learned.half_width(size.sum(axis=0), (size**2).sum(axis=0))
        missed = users @ (new.actual - new.forecast.band.mean)
        inside.append(abs(missed[D360]) < width[D360])
    assert abs(np.mean(inside) - 0.8) < 2.5 * np.sqrt(0.16 / 400)


def test_buckets_are_told_apart() -> None:
    early, late = (
        scored_forecasts(np.arange(20) + 1.0),
        scored_forecasts(np.full(20, 5.0), observed=30),
    )
    forecast = NodeForecasts(
        *(
            np.concatenate([getattr(p.forecast, n) for p in (early, late)])
            for n in ("observed_age", "observed_value", "users", "pattern")
        ),
        Band(*[np.concatenate([p.forecast.band.mean for p in (early, late)])] * 4),
    )
    both_ages = CalibrationSample(
        forecast,
        np.concatenate([early.actual, late.actual]),
        np.tile(np.arange(20), 2),
        np.tile(early.origin, 2),
        np.zeros(40, dtype=np.int64),
    )
    learned = Intervals.fit(both_ages, TOP)
    assert age_bucket(np.array([7, 30])).tolist() == [2, 4]
    assert (learned.upper[2, 0, D360], learned.upper[4, 0, D360]) == (18.0, 4.0)
