"""Increments, blend and correction against numbers worked out by hand, and on simulated noise."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltvnet.correction.blend import Blend, weight_grid
from ltvnet.correction.correction import CORRECTION_KAPPAS, HALF_LIFE_DAYS, Correction
from ltvnet.correction.past_errors import MIN_WEEKS, MaturedForecasts, best_trial_by_bucket
from ltvnet.data.arrays import Bools, Floats, Ints
from ltvnet.data.curves import NODES
from ltvnet.data.segments import Segments
from ltvnet.forecasting.forecast import AGE_BUCKETS, Band
from ltvnet.forecasting.interpolation import accumulate_growth, interval_growth, rescale_growth

SEGMENTS = Segments.from_keys(("Apps",), [(), ("a",), ("b",)])
GRID = np.array(NODES)
INTERVALS = len(NODES) - 1
AFTER_7 = NODES.index(7)
"""The interval (7, 10]."""


def past(
    forecast: Floats,
    actual: Floats,
    observed: int = 7,
    week: Ints | None = None,
    users: Floats | None = None,
    segment: Ints | None = None,
    origin: Ints | None = None,
    ago: Floats | None = None,
) -> MaturedForecasts:
    """Forecasts from one observed age; by default of one user, a week and an origin each, today's.

    Segments are in turn.
    """
    number = np.arange(len(forecast))
    ahead = GRID[1:] > observed
    return MaturedForecasts(
        segments=SEGMENTS,
        segment=1 + number % 2 if segment is None else segment,
        observed_age=np.full(len(forecast), observed),
        users=np.ones(len(forecast)) if users is None else users,
        week_index=number if week is None else week,
        origin_index=number if origin is None else origin,
        days_ago=np.zeros(len(forecast)) if ago is None else ago,
        forecast_growth=np.where(ahead, forecast, 0.0),
        actual_growth=np.where(ahead, actual, 0.0),
    )


def random_past(seed: int, rows: int = 40, maturity: float = 0.8) -> MaturedForecasts:
    """Forecasts from all observed ages, with zeros among users, growth and what came true."""
    rng = np.random.default_rng(seed)
    observed = rng.integers(0, 360, rows)
    ahead = GRID[1:] > observed[:, None]
    drawn = rng.gamma(1.0, 1.0, (2, rows, INTERVALS)) * (rng.random((2, rows, INTERVALS)) < 0.8)
    ended = np.cumprod(rng.random((rows, INTERVALS)) < maturity**0.2, axis=1).astype(bool)
    origin = rng.integers(0, 9, rows)
    return MaturedForecasts(
        segments=SEGMENTS,
        segment=rng.integers(0, 3, rows),
        observed_age=observed,
        users=rng.integers(0, 50, rows).astype(float),
        week_index=rng.integers(0, 12, rows),
        origin_index=origin,
        days_ago=100.0 * (9 - origin),
        forecast_growth=np.where(ahead, drawn[0], 0.0),
        actual_growth=np.where(ahead, np.where(ended, drawn[1], np.nan), 0.0),
    )


def test_no_complete_age_stays_blank() -> None:
    band = Band(*np.full((4, 1, len(NODES)), np.nan))
    observed, value = np.array([-1]), np.array([np.nan])
    grown = interval_growth(band.mean, observed, value)
    assert np.isnan(Blend.equal().apply(grown[None], grown, observed)).all()
    assert np.isnan(rescale_growth(band, grown, observed, value).p90).all()


def test_factors_by_hand() -> None:
    """Expected 10 and 30, so K = 20 x median = 400; actual 20 and 30."""
    forecast, actual = np.ones((2, INTERVALS)), np.ones((2, INTERVALS))
    actual[0] = 2.0
    learned = Correction.fit(past(forecast, actual, users=np.array([10.0, 30.0])), 20.0)
    top = (20 + 30 + 400 * 1) / (10 + 30 + 400)
    a, b = (20 + 400 * top) / (10 + 400), (30 + 400 * top) / (30 + 400)
    np.testing.assert_allclose(learned.factor[2, :, AFTER_7], [top, a, b], rtol=1e-14)
    assert learned.increment_count[2, :, AFTER_7].tolist() == [2, 1, 1]
    others = np.delete(np.arange(len(AGE_BUCKETS)), 2)
    assert (learned.factor[others] == 1).all() and (learned.increment_count[others] == 0).all()
    assert (learned.factor[2, :, :AFTER_7] == 1).all()  # intervals that had been observed


def test_a_past_forecast_counts_half_after_the_half_life() -> None:
    """1 forecast twice; 2 came true today, 1 of the forecast two months old: (2 + 1/2) / 1.5."""
    forecast, actual = np.ones((2, INTERVALS)), np.ones((2, INTERVALS))
    actual[0] = 2.0
    known = past(forecast, actual, ago=np.array([0.0, HALF_LIFE_DAYS]))
    top = [Correction.fit(known, kappa).factor[2, 0, AFTER_7] for kappa in (0.0, 20.0)]
    assert top == pytest.approx([2.5 / 1.5, 22.5 / 21.5], rel=1e-14)
    later = replace(known, days_ago=known.days_ago + 90)  # what is old alike counts alike
    assert Correction.fit(later, 0.0).factor[2, 0, AFTER_7] == pytest.approx(2.5 / 1.5)


def test_an_interval_is_corrected_when_it_ends_and_not_before() -> None:
    forecast, actual = np.ones((4, INTERVALS)), np.full((4, INTERVALS), 3.0)
    actual[:, AFTER_7 + 1 :] = np.nan
    learned = Correction.fit(past(forecast, actual), 0.0)
    assert (learned.factor[2, :, AFTER_7] == 3).all()
    assert (learned.factor[2, :, AFTER_7 + 1 :] == 1).all()


def test_a_segment_without_rows_takes_its_parents_factor() -> None:
    """Also where K is 0, as when most forecasts were zero."""
    forecast = np.zeros((5, INTERVALS))
    forecast[0] = 1.0
    known = past(forecast, 2 * forecast, segment=np.array([1, 1, 1, 1, 1]))
    for kappa in (0.0, 20.0):
        factor = Correction.fit(known, kappa).factor[2, :, AFTER_7]
        assert factor[2] == factor[0] > 1


def test_zero_forecasts_do_not_undo_the_shrinkage() -> None:
    """K is 20 x 1 though the median over all rows is 0: (2 + 20) / (1 + 20)."""
    forecast = np.zeros((5, INTERVALS))
    forecast[0] = 1.0
    learned = Correction.fit(past(forecast, 2 * forecast), 20.0)
    assert learned.factor[2, 0, AFTER_7] == pytest.approx(22 / 21, rel=1e-14)


def test_refunds_correct_to_zero_and_no_further() -> None:
    forecast = np.ones((9, INTERVALS))
    learned = Correction.fit(past(forecast, -100 * forecast), 20.0)
    assert (learned.factor[2, :, AFTER_7:] == 0).all()


@pytest.mark.parametrize("kappa", CORRECTION_KAPPAS)
def test_no_rows_and_one_row(kappa: float) -> None:
    empty = past(np.ones((0, INTERVALS)), np.ones((0, INTERVALS)))
    assert (Correction.fit(empty, kappa).factor == 1).all()
    one = past(np.ones((1, INTERVALS)), np.full((1, INTERVALS), 5.0))
    factor = Correction.fit(one, kappa).factor[2, 0, AFTER_7:]
    np.testing.assert_allclose(factor, (5 + kappa) / (1 + kappa), rtol=1e-14)
    for known in (empty, one, replace(one, users=np.zeros(1))):
        assert (best_trial_by_bucket(known, [2 * known.forecast_growth]) == -1).all()
        assert (
            Blend.fit(known, known.forecast_growth[None], known.forecast_growth).weight == 1
        ).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_proportional_errors_are_undone_exactly_without_shrinkage(seed: int, c: float) -> None:
    known = random_past(seed)
    known = replace(
        known,
        actual_growth=np.where(known.has_matured, c * known.forecast_growth, known.actual_growth),
    )
    learned = Correction.fit(known, 0.0)
    fixed = learned.apply(known.forecast_growth, known.observed_age, known.segment, trial=True)
    use = known.has_matured & (known.users[:, None] > 0)
    np.testing.assert_allclose(fixed[use], known.actual_growth[use], rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_a_heavy_parent_is_followed(seed: int) -> None:
    learned = Correction.fit(random_past(seed), 1e15)
    np.testing.assert_allclose(learned.factor, 1.0, rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(CORRECTION_KAPPAS))
def test_money_times_1024_changes_no_factor_and_no_decision(seed: int, kappa: float) -> None:
    known = random_past(seed, rows=80)
    dear = replace(
        known,
        forecast_growth=1024 * known.forecast_growth,
        actual_growth=1024 * known.actual_growth,
    )
    one, other = Correction.fit(known, kappa), Correction.fit(dear, kappa)
    np.testing.assert_array_equal(one.factor, other.factor)
    trial = one.apply(known.forecast_growth, known.observed_age, known.segment, trial=True)
    assert (
        best_trial_by_bucket(known, [trial]).tolist()
        == best_trial_by_bucket(dear, [1024 * trial]).tolist()
    )
    pattern = np.roll(known.forecast_growth, 1, axis=0)
    weights = [
        Blend.fit(p, p.forecast_growth[None], s * pattern).weight
        for p, s in ((known, 1), (dear, 1024))
    ]
    np.testing.assert_array_equal(*weights)


def random_band(rng: np.random.Generator, rows: int) -> tuple[Band, Ints, Floats]:
    """Bands of which every interval is ordered, as a net issues them."""
    observed, value = rng.integers(0, 360, rows), rng.gamma(1.0, 1.0, rows)
    ordered = np.sort(rng.gamma(1.0, 1.0, (3, rows, INTERVALS)), axis=0)
    ordered *= rng.random((rows, INTERVALS)) < 0.8
    ordered *= GRID[1:] > observed[:, None]
    low, middle, high = (accumulate_growth(cells, observed, value) for cells in ordered)
    return Band(middle, low, middle, high), observed, value


def spread(band: Band) -> Floats:
    return np.stack([band.p10, band.p50, band.p90])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_stages_that_are_off_change_no_bit(seed: int) -> None:
    band, observed, value = random_band(np.random.default_rng(seed), 8)
    grown = interval_growth(band.mean, observed, value)
    mixed = Blend.equal().apply(grown[None], grown[::-1], observed)
    fixed = Correction.neutral().apply(mixed, observed, np.zeros(8, dtype=np.int64))
    same = rescale_growth(rescale_growth(band, mixed, observed, value), fixed, observed, value)
    np.testing.assert_array_equal(same.mean, band.mean)
    np.testing.assert_array_equal(spread(same), spread(band))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_a_corrected_band_is_ordered_monotone_and_proportional(seed: int) -> None:
    rng = np.random.default_rng(seed)
    band, observed, value = random_band(rng, 8)
    grown = interval_growth(band.mean, observed, value)
    fixed = rescale_growth(band, grown * rng.gamma(2.0, 0.5, grown.shape), observed, value)
    open_ = GRID > observed[:, None]
    for cells in (fixed.mean, *spread(fixed)):
        filled = np.where(open_, cells, value[:, None])
        assert (np.diff(filled, axis=1) >= 0).all()
    assert (np.diff(spread(fixed), axis=0)[:, open_] >= -1e-12).all()
    doubled = rescale_growth(band, 2 * grown, observed, value)
    expected = value[:, None] + 2 * (band.p90 - value[:, None])
    np.testing.assert_allclose(doubled.p90, expected, rtol=1e-12)


def test_where_the_mean_does_not_grow_quantiles_stay() -> None:
    observed, value = np.array([7]), np.array([1.0])
    flat = np.where(GRID > 7, 1.0, np.nan)[None]
    fixed = rescale_growth(
        Band(flat, flat, flat, flat + 2.0), np.ones((1, INTERVALS)), observed, value
    )
    np.testing.assert_array_equal(fixed.p90[0, AFTER_7 + 1 :], 3.0)


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


def apart(rows: int) -> Floats:
    """Days since origins so far apart that none shares a day ahead with another."""
    return 400.0 * np.arange(rows)


def constant(weeks: int, forecast: float, actual: float) -> MaturedForecasts:
    full = np.ones((weeks, INTERVALS))
    return past(forecast * full, actual * full, ago=apart(weeks))


def test_a_gain_without_noise_needs_enough_weeks() -> None:
    for weeks, found in ((MIN_WEEKS - 1, -1), (MIN_WEEKS, 1)):
        known = constant(weeks, 1.0, 2.0)
        trials = [
            0.5 * known.forecast_growth,
            2.0 * known.forecast_growth,
            1.5 * known.forecast_growth,
        ]
        assert best_trial_by_bucket(known, trials)[2] == found
        assert (np.delete(best_trial_by_bucket(known, trials), 2) == -1).all()


def test_weeks_in_which_a_trial_made_no_difference_prove_nothing() -> None:
    known = constant(20, 1.0, 2.0)
    trial = known.forecast_growth.copy()
    trial[: MIN_WEEKS - 1] *= 2
    assert best_trial_by_bucket(known, [trial])[2] == -1


def first_interval(actual: Floats, origin: Ints, ago: Floats) -> MaturedForecasts:
    """Forecasts of 1 at D7, of which the growth to D10 has come true."""
    came = np.full((len(actual), INTERVALS), np.nan)
    came[:, AFTER_7] = actual
    return past(np.ones((len(actual), INTERVALS)), came, origin=origin, ago=ago)


def test_origins_that_overlap_are_worth_less() -> None:
    """Three days ahead: in six days there is room for three origins, in three days for two."""
    for ago, worth in (([0, 0, 0], 1.0), ([0, 1, 1.5], 1.5), ([5, 6, 8], 2.0), ([0, 3, 60], 3.0)):
        known = first_interval(np.ones(3), np.arange(3), np.array(ago, dtype=float))
        assert known.independent_origins.tolist() == pytest.approx(
            [0, 0, worth, *[0] * 5], rel=1e-14
        )
    last = known.actual_growth.copy()
    last[2] = np.nan  # nothing of the forecast that was 60 days ago has come true
    assert replace(known, actual_growth=last).independent_origins[2] == pytest.approx(
        2.0, rel=1e-14
    )
    assert replace(known, origin_index=np.zeros(3, dtype=np.int64)).independent_origins[2] == 1.0


def test_days_ahead_are_weighed_by_users_and_log_age() -> None:
    """One user's growth from D7 to D14, 3 and 7 days ahead, and two users' to D10."""
    actual = np.full((2, INTERVALS), np.nan)
    actual[:, AFTER_7], actual[0, AFTER_7 + 1] = 1.0, 1.0
    users, ago = np.array([1.0, 2.0]), np.array([2.0, 0.0])
    known = past(np.ones((2, INTERVALS)), actual, users=users, ago=ago)
    near, far = np.log(11 / 8), np.log(15 / 11)
    ahead = (3 * 3 * near + 7 * far) / (3 * near + far)
    assert known.independent_origins[2] == pytest.approx(1 + 2 / ahead, rel=1e-14)


def test_a_gain_in_every_week_of_one_origin_proves_nothing() -> None:
    """Nor does it where the trial made no difference at all others."""
    known = first_interval(np.full(20, 2.0), np.arange(20), apart(20))
    trial = 2 * known.forecast_growth
    assert best_trial_by_bucket(known, [trial])[2] == 0
    same = replace(known, origin_index=np.zeros(20, dtype=np.int64), days_ago=np.zeros(20))
    assert best_trial_by_bucket(same, [trial])[2] == -1
    other = np.arange(20) // 10
    two = replace(known, origin_index=other, days_ago=apart(2)[other])
    assert two.independent_origins[2] == 2.0
    assert (
        best_trial_by_bucket(two, [np.where(other[:, None] == 0, trial, known.forecast_growth)])[2]
        == -1
    )


def test_origins_all_of_one_week_are_not_enough_either() -> None:
    known = first_interval(np.full(20, 2.0), np.arange(20), apart(20))
    close = replace(
        known, days_ago=known.days_ago / 400 / 10
    )  # 1.9 days from first to last: 1.6 origins
    assert best_trial_by_bucket(close, [2 * known.forecast_growth])[2] == -1
    assert best_trial_by_bucket(known, [2 * known.forecast_growth])[2] == 0


def test_a_season_that_reverses_is_not_corrected() -> None:
    """Six origins gained by the trial and six lost half of that, five weeks each.

    The 60 weeks alone would tell: 0.25 / (0.75 / sqrt(59)) = 2.6; the 12 origins do not, 1.1.
    """
    number = np.arange(60) // 5
    gain = np.where(number < 6, 1.0, -0.5)
    actual = (0.2 + 0.1 * gain) / np.log(1.2)  # of the deviance from 1 to 1.2
    season = first_interval(actual, number, apart(12)[::-1][number])
    trial = 1.2 * season.forecast_growth
    np.testing.assert_allclose(season.gain(trial), np.log(11 / 8) * 0.1 * gain, rtol=1e-12)
    assert season.independent_origins[2] == 12
    assert best_trial_by_bucket(season, [trial])[2] == -1
    assert (
        best_trial_by_bucket(
            replace(season, origin_index=np.arange(60), days_ago=apart(60)), [trial]
        )[2]
        == 0
    )


def test_the_gain_by_hand() -> None:
    """Growth of 1 forecast, 2 tried, 3 came true: 3 log 2 - (2 - 1), times 5 users and log age."""
    forecast, actual = np.zeros((1, INTERVALS)), np.full((1, INTERVALS), np.nan)
    forecast[0, AFTER_7], actual[0, AFTER_7] = 1.0, 3.0
    known = past(forecast, actual, users=np.array([5.0]))
    step = np.log(11 / 8)
    gain = 5 * step * (3 * np.log(2) - 1)
    assert known.gain(2 * forecast) == pytest.approx([gain], rel=1e-14)
    assert known.loss(forecast) == pytest.approx([5 * step * 2], rel=1e-14)


def test_a_trial_of_nothing_is_unlikely_and_no_error() -> None:
    """Factors are 0 after refunds; what came true otherwise is 1e-9 times as likely."""
    known = constant(20, 1.0, 2.0)
    ended = np.arange(INTERVALS) <= AFTER_7
    known = replace(known, actual_growth=np.where(ended, known.actual_growth, np.nan))
    gain = np.log(11 / 8) * (1 + 2 * np.log(1e-9))
    np.testing.assert_allclose(known.gain(0 * known.forecast_growth), gain, rtol=1e-12)
    assert best_trial_by_bucket(known, [0 * known.forecast_growth])[2] == -1


def test_the_median_of_skewed_outcomes_is_no_better_than_their_mean() -> None:
    """Exponential outcomes: forecasting their median halves no bias, it makes one of -31 %."""
    rng = np.random.default_rng(0)
    level = rng.exponential(1.0, (400, 1))
    known = past(np.ones((400, INTERVALS)), level * np.ones((1, INTERVALS)), ago=apart(400))
    median = np.log(2) * known.forecast_growth
    assert known.loss(median).sum() < known.loss(known.forecast_growth).sum()
    assert best_trial_by_bucket(known, [median])[2] == -1
    assert (
        best_trial_by_bucket(replace(known, forecast_growth=median), [known.forecast_growth])[2]
        == 0
    )


def test_models_are_weighed_by_hand() -> None:
    """One model is right, the other far too high: the first gets all, where it can be told."""
    true = np.ones((MIN_WEEKS, INTERVALS))
    models = np.stack((true, 3 * true))
    known = past(models.mean(axis=0), true, ago=apart(MIN_WEEKS))
    learned = Blend.fit(known, models, 5 * true)
    assert learned.weight.tolist() == [[0.5, 0.5]] * 2 + [[1.0, 0.0]] + [[0.5, 0.5]] * 5
    assert learned.is_on.tolist() == [False, False, True, *[False] * 5]  # though all sum to 1
    assert not learned.pattern_weight.any()
    mixed = learned.apply(models[:, :2], 5 * true[:2], np.array([7, 30]))
    assert mixed[:, 0].tolist() == [1.0, 2.0]


def test_weights_are_all_quarters() -> None:
    assert weight_grid(1).tolist() == [[0.0], [0.25], [0.5], [0.75], [1.0]]
    assert weight_grid(2)[:6].tolist() == [[0, i / 4] for i in range(5)] + [[0.25, 0]]
    three = weight_grid(3)
    assert len(three) == 35 == len(np.unique(three, axis=0))  # 7 choose 3
    assert (three >= 0).all() and (three.sum(axis=1) <= 1).all()
    assert len(weight_grid(8)) == 495  # 12 choose 4


@pytest.mark.parametrize("models", range(1, 9))
def test_equal_weights_are_off(models: int) -> None:
    assert not Blend.equal(models).is_on.any()
    assert np.abs(Blend.equal(models).pattern_weight).max() < 1e-15


def test_blend_by_hand() -> None:
    """The pattern is right half the time by as much as the model is wrong: a mean of both wins."""
    true = np.ones((MIN_WEEKS, INTERVALS))
    known = past(1.5 * true, true, ago=apart(MIN_WEEKS))
    models = known.forecast_growth[None]
    learned = Blend.fit(known, models, 0.5 * known.forecast_growth / 1.5)
    assert learned.pattern_weight.tolist() == [0.0, 0.0, 0.5, *[0.0] * 5]
    assert learned.is_on.tolist() == [False, False, True, *[False] * 5]
    observed = np.array([7, 30])
    mixed = learned.apply(np.full((1, 2, INTERVALS), 4.0), np.full((2, INTERVALS), 2.0), observed)
    assert mixed[:, 0].tolist() == [3.0, 4.0]
    assert Blend.fit(known, models, known.actual_growth).weight[2] == 0.0
    assert Blend.fit(known, models, 3 * known.actual_growth).weight[2] == 1.0


def replayed(seed: int, bias: float, sigma: float) -> Bools:
    """Where a correction learned over 60 weeks of 10 cohorts was on: (B,).

    Each origin, four weeks apart, forecasts 1 / (1 + bias) of the mean of lognormal outcomes of
    each cohort, and learns from intervals that had ended.
    """
    rng = np.random.default_rng(seed)
    week = np.repeat(np.arange(60), 10)
    mean = np.diff(np.log1p(GRID))
    drawn = rng.lognormal(-(sigma**2) / 2, sigma, (600, 1 + INTERVALS))
    came = mean * drawn[:, :1] * drawn[:, 1:]
    users = rng.lognormal(5.5, 0.8, 600)
    origins = range(12, 60, 4)
    seen = [np.flatnonzero((o > week) & (7 * (o - week - 1) + 3 < 360)) for o in origins]
    row, origin = np.concatenate(seen), np.repeat(origins, [len(rows) for rows in seen])
    observed = 7 * (origin - week[row] - 1) + 3
    share = np.log1p(GRID[1:]) - np.log1p(np.maximum(GRID[:-1], observed[:, None]))
    share = np.maximum(share, 0.0) / mean

    def known(day: int, rows: Ints) -> MaturedForecasts:
        ended = GRID[1:] <= (7 * (day - week[row] - 1) + 3)[:, None]
        actual = np.where(ended, share * came[row], np.nan)
        forecast = share * mean / (1 + bias)
        segment, volume = 1 + row % 2, users[row]
        ago = 7.0 * (day - origin)
        parts = (segment, observed, volume, week[row], origin, ago, forecast, actual)
        return MaturedForecasts(SEGMENTS, *(part[rows] for part in parts))

    everything = known(60, np.arange(len(row)))
    trials = [everything.forecast_growth.copy() for _ in CORRECTION_KAPPAS]
    for date in origins[1:]:
        before, now = known(date, np.flatnonzero(origin < date)), origin == date
        for trial, kappa in zip(trials, CORRECTION_KAPPAS, strict=True):
            fixed = Correction.fit(before, kappa)
            place = everything.observed_age[now], everything.segment[now]
            trial[now] = fixed.apply(trial[now], *place, trial=True)
    return best_trial_by_bucket(everything, trials) >= 0


@pytest.mark.parametrize("sigma", [0.25, 0.6])
def test_silent_when_nothing_is_wrong(sigma: float) -> None:
    on = np.array([replayed(seed, 0.0, sigma) for seed in range(6)])
    assert on.mean() <= 0.05


@pytest.mark.parametrize("bias", [-0.1, 0.1])
def test_a_persistent_bias_is_found_whichever_its_sign(bias: float) -> None:
    on = np.array([replayed(seed, bias, 0.25) for seed in range(4)])
    assert on[:, 3:7].mean() > 0.5
