"""Mack's standard errors are the published ones, and his method knows where it is silent."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from factories.cohorts import curve, history, weekly_history
from factories.configs import PATTERN, TRIANGLE_LADDER
from factories.triangles import GENINS, GENINS_RESERVES, RAA, RAA_ULTIMATES, triangle

from ltvnet.data.arrays import Floats
from ltvnet.data.curves import AGES
from ltvnet.models.baselines.mack import NORMAL_P90, Mack, fill_step_variances, measuring_cohorts

LAST = np.array([9])

RAA_FACTORS = [
    2.999359, 1.623523, 1.270888, 1.171675, 1.113385, 1.041935, 1.033264, 1.016936, 1.009217,
]  # fmt: skip
RAA_VARIANCE = [
    27883.479, 1108.526, 691.443, 61.230, 119.439, 40.820, 1.3434, 7.8832, 1.3434,
]  # fmt: skip
RAA_ERRORS = [0, 206.22, 623.38, 747.18, 1469.46, 2001.86, 2209.24, 5357.87, 6333.17, 24566.29]
GENINS_FACTORS = [
    3.490607, 1.747333, 1.457413, 1.173852, 1.103824, 1.086269, 1.053874, 1.076555, 1.017725,
]  # fmt: skip
GENINS_VARIANCE = [
    160280.33, 37736.86, 41965.21, 15182.90, 13731.32, 8185.77, 446.617, 1147.366, 446.617,
]  # fmt: skip
GENINS_ERRORS = [
    0, 75535.04, 121698.56, 133548.85, 261406.45, 411009.70, 558316.86, 875327.51, 971257.81,
    1363154.91,
]  # fmt: skip
GENINS_ULTIMATES = np.array(GENINS_RESERVES) + [row[-1] for row in GENINS]


def mack(recent: int | None = None, pattern: Mapping[str, Any] = TRIANGLE_LADDER) -> Mack:
    return Mack(recent=recent, pattern=pattern)


@pytest.mark.parametrize(
    ("rows", "factors", "variance"),
    [(RAA, RAA_FACTORS, RAA_VARIANCE), (GENINS, GENINS_FACTORS, GENINS_VARIANCE)],
)
def test_factors_and_their_variance_are_the_published_ones(
    rows: list[list[int]], factors: list[float], variance: list[float]
) -> None:
    ladder = mack().fit(triangle(rows)).ladder
    np.testing.assert_allclose(ladder.factors[:9], factors, atol=5.1e-7)
    printed = [0.51 * 10.0 ** -len(f"{v}".partition(".")[2]) for v in variance]
    assert (np.abs(ladder.variance[:9] - variance) <= np.maximum(printed, 5.1e-4)).all()
    assert (ladder.factors[9:] == 1).all() and (ladder.variance[9:] == 0).all()


@pytest.mark.parametrize(
    ("rows", "ultimates", "errors", "total"),
    [
        (RAA, RAA_ULTIMATES, RAA_ERRORS, 26_909.01),
        (GENINS, GENINS_ULTIMATES, GENINS_ERRORS, 2_447_094.86),
    ],
)
def test_standard_errors_are_the_published_ones(
    rows: list[list[int]], ultimates: Floats, errors: list[float], total: float
) -> None:
    curves = triangle(rows)
    ladder = mack().fit(curves).ladder
    np.testing.assert_allclose(ladder.value(curves, LAST)[:, 0], ultimates, atol=5.1e-3)
    np.testing.assert_allclose(ladder.standard_error(curves, LAST)[:, 0], errors, atol=5.1e-3)
    assert ladder.total_standard_error(curves, 9) == pytest.approx(total, abs=5.1e-3)
    assert (
        ladder.total_standard_error(curves.take(np.arange(5)), 5) == 0.0
    )  # they were all observed


def test_intervals_are_the_standard_errors_per_user() -> None:
    """Splitting an amount over more users changes nothing but the unit."""
    curves = triangle(RAA)
    shared = replace(curves, users=np.full(10, 8.0), values=curves.values / 8)
    forecast = mack().fit(shared).predict(shared, [9, 360])
    open_, errors = forecast.is_ahead[:, 0], np.array(RAA_ERRORS)
    lower_bound = np.maximum(np.array(RAA_ULTIMATES) - NORMAL_P90 * errors, curves.observed_value)
    for column in (0, 1):  # flat beyond the last age anybody reached
        low, high = (band[:, column][open_] for band in (forecast.raw.p10, forecast.raw.p90))
        np.testing.assert_allclose(8 * low, lower_bound[open_], atol=0.02)
        above = np.array(RAA_ULTIMATES) + NORMAL_P90 * errors
        np.testing.assert_allclose(8 * high, above[open_], atol=0.02)


def test_wide_intervals_begin_at_what_was_observed() -> None:
    curves = triangle(RAA)
    forecast = mack().fit(curves).predict(curves, [9])
    assert forecast.raw.p10[9, 0] == curves.observed_value[9] == 2063


def test_a_step_without_an_estimate_takes_the_least_of_those_before() -> None:
    variance = np.array([7.0, 8.0, 4.0, -1.0, 3.0, 6.0, -1.0, -1.0])
    cohorts = np.array([5, 5, 5, 1, 4, 3, 1, 0])
    filled = fill_step_variances(variance, cohorts)
    np.testing.assert_allclose(filled, [7, 8, 4, 4**2 / 8, 3, 6, 3, 3])
    single_cohorts = fill_step_variances(variance, np.array([1, 2, 1, 1, 1, 1, 1, 1]))
    np.testing.assert_array_equal(single_cohorts, 8.0)
    np.testing.assert_array_equal(fill_step_variances(variance, np.ones(8, dtype=int)), 0.0)
    zero = fill_step_variances(np.array([0.0, 5.0, 9.0]), np.array([2, 2, 1]))
    np.testing.assert_array_equal(zero, [0, 5, 0])


def test_the_last_periods_measure_each_step() -> None:
    """By hand: of the origins that completed step t of RAA the youngest two, ten minus t first."""
    curves = triangle(RAA)
    factors = mack(2).fit(curves).ladder.factors
    for t in range(9):
        rows = [row for row in RAA if len(row) > t + 1][-2:]
        assert factors[t] == pytest.approx(sum(r[t + 1] for r in rows) / sum(r[t] for r in rows))
    all_periods = mack(10).fit(curves).ladder
    np.testing.assert_array_equal(all_periods.factors, mack().fit(curves).ladder.factors)


def test_cohorts_that_ended_together_are_one_period() -> None:
    curves = weekly_history(10, ("a", "b", "c")).as_of("2023-03-01")
    is_completed = measuring_cohorts(curves, 360, 3)
    step = 6  # completed on day 7 of the cohort's age
    ends = curves.end[is_completed[:, step]]
    assert len(ends) == 9
    assert ends.min() == curves.end[curves.observed_age >= 7].max() - np.timedelta64(14, "D")
    assert not measuring_cohorts(curves, 5, 3)[:, step].any()


def test_a_change_of_shape_is_seen_by_the_last_periods() -> None:
    steep = [curve(360, 1.0, 0.3 if week < 40 else 0.6) for week in range(60)]
    days = [np.datetime64("2023-01-02") + 7 * week for week in range(60)]
    rows = [(str(d), str(d + 6), {}, 100.0, c) for d, c in zip(days, steep, strict=True)]
    curves = history(rows).as_of(days[-1] + 60)
    beta = mack(8, PATTERN).fit(curves).ladder.beta
    assert beta[30] / beta[7] == pytest.approx((31 / 8) ** 0.6)
    beta = mack(None, PATTERN).fit(curves).ladder.beta
    assert beta[30] / beta[7] < 0.9 * (31 / 8) ** 0.6


def test_no_revenue_so_far_is_left_to_the_pattern() -> None:
    cohorts = weekly_history(40)
    values = np.where(np.arange(AGES) < 3, 0.0, cohorts.values)
    values[-2:] = 0.0
    curves = replace(cohorts, values=values).as_of("2023-10-20")
    forecast = mack(None, PATTERN).fit(curves).predict(curves, range(AGES))
    for band in (forecast.raw.mean, forecast.raw.p10, forecast.raw.p90):
        assert np.isfinite(band[forecast.is_ahead]).all()
    np.testing.assert_array_equal(forecast.raw.mean[-2:], forecast.pattern[-2:])
    assert not np.array_equal(forecast.raw.mean[0], forecast.pattern[0])


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="expected recent >= 1 periods or null, got 0"):
        mack(0)
    with pytest.raises(ValueError, match=r"expected pattern.name=pattern, got 'mack'"):
        mack(None, PATTERN | {"name": "mack"})
