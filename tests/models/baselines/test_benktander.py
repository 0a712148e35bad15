"""Bornhuetter-Ferguson, Cape Cod, Benktander are the published ones and meet where they must."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from factories.cohorts import curve, history, weekly_history
from factories.configs import PATTERN, TRIANGLE_LADDER
from factories.triangles import GENINS, GENINS_RESERVES, RAA, RAA_ULTIMATES, triangle
from hypothesis import given, settings
from hypothesis import strategies as st

from ltvnet.data.arrays import Floats
from ltvnet.data.curves import Curves
from ltvnet.models.baselines.benktander import Benktander, additive_curve
from ltvnet.models.baselines.mack import Mack


def benktander(
    iterations: int = 1,
    prior: str = "cape_cod",
    half_life: float | None = None,
    pattern: Mapping[str, Any] = TRIANGLE_LADDER,
) -> Benktander:
    return Benktander(iterations=iterations, prior=prior, half_life=half_life, pattern=pattern)


def reserves(forecaster: Benktander, curves: Curves) -> Floats:
    forecast = forecaster.fit(curves).predict(curves, [9])
    return np.where(forecast.is_ahead[:, 0], forecast.raw.mean[:, 0] - curves.observed_value, 0.0)


@pytest.mark.parametrize(
    ("rows", "prior", "level", "reserve"),
    [
        (RAA, "cape_cod", 22_010.289, 59_115.891),
        (RAA, "mean_ultimate", 21_312.223, 57_241.004),
        (RAA, "additive", None, 59_023.43),
        (GENINS, "cape_cod", 5_182_801.859, 17_469_928.588),
        (GENINS, "mean_ultimate", None, 17_878_101.796),
        (GENINS, "additive", None, 16_676_253.615),
    ],
)
def test_reserves_are_the_published_ones(
    rows: list[list[int]], prior: str, level: float | None, reserve: float
) -> None:
    forecaster = benktander(prior=prior)
    total_reserve = reserves(forecaster, triangle(rows)).sum()
    assert total_reserve == pytest.approx(
        reserve, abs=0.51 * 10.0 ** -len(f"{reserve}".split(".")[1])
    )
    if level is not None:
        assert forecaster.prior_ultimate == pytest.approx(level, abs=5.1e-4)


def test_a_second_iteration_starts_from_the_first() -> None:
    """Mack (2000): U2 = C + (1 - beta) U1, with U1 = C + (1 - beta) A, by hand for each origin."""
    curves = triangle(RAA)
    first = curves.observed_value + reserves(benktander(), curves)
    second = benktander(2)
    ultimate = curves.observed_value + reserves(second, curves)
    share_left = 1 - second.beta[curves.observed_age]
    np.testing.assert_allclose(ultimate, curves.observed_value + share_left * first, rtol=1e-12)
    third = curves.observed_value + reserves(benktander(3), curves)
    np.testing.assert_allclose(third, curves.observed_value + share_left * ultimate, rtol=1e-12)


@pytest.mark.parametrize("prior", ["cape_cod", "mean_ultimate"])
def test_iterated_for_ever_it_is_the_chain_ladder(prior: str) -> None:
    for rows, ultimates in ((RAA, RAA_ULTIMATES), (GENINS, None)):
        curves = triangle(rows)
        limit = reserves(benktander(10_000, prior), curves)
        expected = GENINS_RESERVES if ultimates is None else ultimates - curves.observed_value
        np.testing.assert_allclose(limit, expected, atol=6e-3)


def test_with_the_chain_ladders_ultimate_a_priori_it_is_the_chain_ladder() -> None:
    curves = weekly_history(30, noise=0.3).as_of("2023-07-20")
    ladder = Mack(recent=None, pattern=PATTERN).fit(curves)
    ultimate = ladder.ladder.value(curves, np.array([360]))[:, 0]
    forecaster = benktander(pattern=PATTERN).fit(curves)
    for row in (3, 17, 40):
        forecaster.prior_ultimate = float(ultimate[row])
        benktander_mean, ladder_mean = (
            f.predict(curves).raw.mean[row] for f in (forecaster, ladder)
        )
        np.testing.assert_allclose(benktander_mean, ladder_mean, rtol=1e-12)


@given(st.lists(st.floats(0.1, 50), min_size=4, max_size=9), st.floats(0.1, 1.5))
@settings(max_examples=25, deadline=None)
def test_equal_cohorts_are_forecast_exactly(users: list[float], power: float) -> None:
    """One level and one shape: every prior, every number of iterations says the truth."""
    rows = [
        (f"2023-{m + 1:02}-01", f"2023-{m + 1:02}-07", {}, size, curve(360, 3.0, power))
        for m, size in enumerate(users)
    ]
    cohorts, pattern = history(rows), PATTERN | {"min_cohorts": 1}
    curves = cohorts.as_of("2024-02-20")
    actual = 3.0 * (1.0 + np.array([30, 180, 360])) ** power
    for prior, iterations in (("cape_cod", 1), ("mean_ultimate", 3), ("additive", 1)):
        forecaster = benktander(iterations, prior, pattern=pattern).fit(curves)
        forecast = forecaster.predict(curves, [30, 180, 360])
        expected = np.broadcast_to(actual, forecast.is_ahead.shape)[forecast.is_ahead]
        np.testing.assert_allclose(forecast.raw.mean[forecast.is_ahead], expected, rtol=1e-9)


def test_the_mean_curve_without_censoring_is_the_mean_over_users() -> None:
    curves = weekly_history(12, noise=0.3).as_of("2026-01-01")
    mean = additive_curve(curves, 360, None)
    np.testing.assert_allclose(mean, curves.users @ curves.values / curves.users.sum())


def test_zero_so_far_is_forecast_from_the_prior() -> None:
    cohorts = weekly_history(40)
    values = cohorts.values.copy()
    values[-2:, :3] = 0.0
    curves = replace(cohorts, values=values).as_of(cohorts.start[-1] + 8)
    for iterations in (1, 2, 5):
        forecast = benktander(iterations, pattern=PATTERN).fit(curves).predict(curves)
        assert forecast.reason[-1] == "zero_revenue_so_far"
        assert (forecast.raw.mean[-1, forecast.is_ahead[-1]] > 0).all()


def test_revenue_that_begins_late_has_no_share_to_divide_by() -> None:
    cohorts = weekly_history(60)
    late = np.where(np.arange(cohorts.values.shape[1]) < 7, 0.0, cohorts.values)
    curves = replace(cohorts, values=late).as_of("2024-03-01")
    young = (curves.observed_age >= 0) & (curves.observed_age < 7)
    for prior in ("cape_cod", "mean_ultimate", "additive"):
        forecaster = benktander(2, prior, pattern=PATTERN).fit(curves)
        mean = forecaster.predict(curves, [360]).raw.mean
        np.testing.assert_allclose(mean[young], forecaster.prior_ultimate)


def test_no_revenue_at_all_is_forecast_as_none() -> None:
    cohorts = weekly_history(12)
    curves = replace(cohorts, values=cohorts.values * 0).as_of("2023-03-20")
    for prior in ("cape_cod", "mean_ultimate", "additive"):
        forecast = benktander(2, prior, pattern=PATTERN).fit(curves).predict(curves)
        assert (forecast.raw.mean[forecast.is_ahead] == 0).all()


def test_recent_steps_weigh_more_with_a_half_life() -> None:
    steep = [curve(360, 1.0, 0.3 if week < 30 else 0.6) for week in range(60)]
    days = [np.datetime64("2023-01-02") + 7 * week for week in range(60)]
    rows = [(str(d), str(d + 6), {}, 100.0, c) for d, c in zip(days, steep, strict=True)]
    curves = history(rows).as_of(days[-1] + 6)
    for prior in ("cape_cod", "additive"):
        beta = {h: benktander(1, prior, h, PATTERN).fit(curves).beta for h in (None, 14.0)}
        growth = {half_life: b[30] / b[7] for half_life, b in beta.items()}
        assert growth[None] < 0.9 * growth[14.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": 0}, "expected iterations >= 1, got 0"),
        ({"prior": "mean"}, "expected prior out of cape_cod, mean_ultimate, additive, got 'mean'"),
        ({"half_life": 0.0}, "expected half_life > 0 days or null, got 0.0"),
    ],
)
def test_arguments_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        benktander(**change)
