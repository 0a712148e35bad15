"""Gains of a trial over what was forecast, and when they prove something."""

from dataclasses import replace

import numpy as np
import pytest
from factories.matured import AFTER_7, INTERVALS, days_far_apart, matured_forecasts

from ltvnet.correction.activation import MIN_WEEKS, best_trial_by_bucket
from ltvnet.correction.matured_forecasts import MaturedForecasts
from ltvnet.data.arrays import Floats, Ints


def constant_errors(weeks: int, forecast: float, actual: float) -> MaturedForecasts:
    full = np.ones((weeks, INTERVALS))
    return matured_forecasts(forecast * full, actual * full, ago=days_far_apart(weeks))


def test_a_gain_without_noise_needs_enough_weeks() -> None:
    for weeks, best_trial in ((MIN_WEEKS - 1, -1), (MIN_WEEKS, 1)):
        matured = constant_errors(weeks, 1.0, 2.0)
        trials = [
            0.5 * matured.forecast_growth,
            2.0 * matured.forecast_growth,
            1.5 * matured.forecast_growth,
        ]
        assert best_trial_by_bucket(matured, trials)[2] == best_trial
        assert (np.delete(best_trial_by_bucket(matured, trials), 2) == -1).all()


def test_weeks_in_which_a_trial_made_no_difference_prove_nothing() -> None:
    matured = constant_errors(20, 1.0, 2.0)
    trial = matured.forecast_growth.copy()
    trial[: MIN_WEEKS - 1] *= 2
    assert best_trial_by_bucket(matured, [trial])[2] == -1


def first_interval_only(actual: Floats, origin: Ints, ago: Floats) -> MaturedForecasts:
    """Forecasts of 1 at D7, of which the growth to D10 has come true."""
    actual_growth = np.full((len(actual), INTERVALS), np.nan)
    actual_growth[:, AFTER_7] = actual
    return matured_forecasts(
        np.ones((len(actual), INTERVALS)), actual_growth, origin=origin, ago=ago
    )


def test_origins_that_overlap_are_worth_less() -> None:
    """Three days ahead: in six days there is room for three origins, in three days for two."""
    for ago, worth in (([0, 0, 0], 1.0), ([0, 1, 1.5], 1.5), ([5, 6, 8], 2.0), ([0, 3, 60], 3.0)):
        matured = first_interval_only(np.ones(3), np.arange(3), np.array(ago, dtype=float))
        assert matured.independent_origins.tolist() == pytest.approx(
            [0, 0, worth, *[0] * 5], rel=1e-14
        )
    last = matured.actual_growth.copy()
    last[2] = np.nan  # nothing of the forecast that was 60 days ago has come true
    assert replace(matured, actual_growth=last).independent_origins[2] == pytest.approx(
        2.0, rel=1e-14
    )
    assert replace(matured, origin_index=np.zeros(3, dtype=np.int64)).independent_origins[2] == 1.0


def test_days_ahead_are_weighed_by_users_and_log_age() -> None:
    """One user's growth from D7 to D14, 3 and 7 days ahead, and two users' to D10."""
    actual = np.full((2, INTERVALS), np.nan)
    actual[:, AFTER_7], actual[0, AFTER_7 + 1] = 1.0, 1.0
    users, ago = np.array([1.0, 2.0]), np.array([2.0, 0.0])
    matured = matured_forecasts(np.ones((2, INTERVALS)), actual, users=users, ago=ago)
    near, far = np.log(11 / 8), np.log(15 / 11)
    ahead = (3 * 3 * near + 7 * far) / (3 * near + far)
    assert matured.independent_origins[2] == pytest.approx(1 + 2 / ahead, rel=1e-14)


def test_a_gain_in_every_week_of_one_origin_proves_nothing() -> None:
    """Nor does it where the trial made no difference at all others."""
    matured = first_interval_only(np.full(20, 2.0), np.arange(20), days_far_apart(20))
    trial = 2 * matured.forecast_growth
    assert best_trial_by_bucket(matured, [trial])[2] == 0
    one_origin = replace(matured, origin_index=np.zeros(20, dtype=np.int64), days_ago=np.zeros(20))
    assert best_trial_by_bucket(one_origin, [trial])[2] == -1
    origin_half = np.arange(20) // 10
    two = replace(matured, origin_index=origin_half, days_ago=days_far_apart(2)[origin_half])
    assert two.independent_origins[2] == 2.0
    assert (
        best_trial_by_bucket(
            two, [np.where(origin_half[:, None] == 0, trial, matured.forecast_growth)]
        )[2]
        == -1
    )


def test_origins_all_of_one_week_are_not_enough_either() -> None:
    matured = first_interval_only(np.full(20, 2.0), np.arange(20), days_far_apart(20))
    close = replace(
        matured, days_ago=matured.days_ago / 400 / 10
    )  # 1.9 days from first to last: 1.6 origins
    assert best_trial_by_bucket(close, [2 * matured.forecast_growth])[2] == -1
    assert best_trial_by_bucket(matured, [2 * matured.forecast_growth])[2] == 0


def test_a_season_that_reverses_is_not_corrected() -> None:
    """Six origins gained by the trial and six lost half of that, five weeks each.

    The 60 weeks alone would tell: 0.25 / (0.75 / sqrt(59)) = 2.6; the 12 origins do not, 1.1.
    """
    number = np.arange(60) // 5
    gain = np.where(number < 6, 1.0, -0.5)
    actual = (0.2 + 0.1 * gain) / np.log(1.2)  # of the deviance from 1 to 1.2
    season = first_interval_only(actual, number, days_far_apart(12)[::-1][number])
    trial = 1.2 * season.forecast_growth
    np.testing.assert_allclose(season.gain(trial), np.log(11 / 8) * 0.1 * gain, rtol=1e-12)
    assert season.independent_origins[2] == 12
    assert best_trial_by_bucket(season, [trial])[2] == -1
    assert (
        best_trial_by_bucket(
            replace(season, origin_index=np.arange(60), days_ago=days_far_apart(60)), [trial]
        )[2]
        == 0
    )


def test_the_gain_by_hand() -> None:
    """Growth of 1 forecast, 2 tried, 3 came true: 3 log 2 - (2 - 1), times 5 users and log age."""
    forecast, actual = np.zeros((1, INTERVALS)), np.full((1, INTERVALS), np.nan)
    forecast[0, AFTER_7], actual[0, AFTER_7] = 1.0, 3.0
    matured = matured_forecasts(forecast, actual, users=np.array([5.0]))
    step = np.log(11 / 8)
    gain = 5 * step * (3 * np.log(2) - 1)
    assert matured.gain(2 * forecast) == pytest.approx([gain], rel=1e-14)
    assert matured.loss(forecast) == pytest.approx([5 * step * 2], rel=1e-14)


def test_a_trial_of_nothing_is_unlikely_and_no_error() -> None:
    """Factors are 0 after refunds; what came true otherwise is 1e-9 times as likely."""
    matured = constant_errors(20, 1.0, 2.0)
    ended = np.arange(INTERVALS) <= AFTER_7
    matured = replace(matured, actual_growth=np.where(ended, matured.actual_growth, np.nan))
    gain = np.log(11 / 8) * (1 + 2 * np.log(1e-9))
    np.testing.assert_allclose(matured.gain(0 * matured.forecast_growth), gain, rtol=1e-12)
    assert best_trial_by_bucket(matured, [0 * matured.forecast_growth])[2] == -1


def test_the_median_of_skewed_outcomes_is_no_better_than_their_mean() -> None:
    """Exponential outcomes: forecasting their median halves no bias, it makes one of -31 %."""
    rng = np.random.default_rng(0)
    level = rng.exponential(1.0, (400, 1))
    matured = matured_forecasts(
        np.ones((400, INTERVALS)), level * np.ones((1, INTERVALS)), ago=days_far_apart(400)
    )
    median = np.log(2) * matured.forecast_growth
    assert matured.loss(median).sum() < matured.loss(matured.forecast_growth).sum()
    assert best_trial_by_bucket(matured, [median])[2] == -1
    assert (
        best_trial_by_bucket(replace(matured, forecast_growth=median), [matured.forecast_growth])[2]
        == 0
    )
