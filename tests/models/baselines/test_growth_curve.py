"""Clark's growth curves are the published ones, and find the curve that made the data."""

from dataclasses import replace

import numpy as np
import pytest
from factories.cohorts import history, weekly_history
from factories.configs import PATTERN
from factories.triangles import GENINS, triangle

from ltvnet.data.arrays import Floats
from ltvnet.data.curves import AGES, Curves
from ltvnet.models.baselines.growth_curve import (
    AGE_OFFSET,
    GrowthCurve,
    ParametricCurve,
    log_growth,
)


@pytest.mark.parametrize(
    ("family", "omega", "theta", "dispersion"),
    [("loglogistic", 1.435535, 48.5033, 64_400.7), ("weibull", 1.297283, 48.8214, 62_897.6)],
)
def test_the_fit_is_the_published_one(
    family: str, omega: float, theta: float, dispersion: float
) -> None:
    """Years of development are ages here; their mean age is half a year less, theta in months."""
    curves = triangle(GENINS)
    growth = ParametricCurve.fit(family, curves, 0.5)
    assert growth.omega == pytest.approx(omega, rel=1e-4)
    assert 12 * growth.theta == pytest.approx(theta, rel=1e-4)
    assert growth.dispersion(curves) == pytest.approx(dispersion, rel=1e-5)


@pytest.mark.parametrize(
    ("family", "limit"), [("loglogistic", 35_500_000.0), ("weibull", 21_200_000.0)]
)
def test_the_reserve_to_infinity_is_the_published_one(family: str, limit: float) -> None:
    curves = triangle(GENINS)
    share_now = ParametricCurve.fit(family, curves, 0.5).share_earned()[curves.observed_age]
    reserve = (curves.observed_value * (1 / share_now - 1)).sum()
    assert reserve == pytest.approx(limit, abs=50_000)


def share(family: str, omega: float, theta: float, days: Floats) -> Floats:
    u = (days / theta) ** omega
    return 1 - np.exp(-u) if family == "weibull" else u / (1 + u)


def cohorts_along(family: str, omega: float, theta: float) -> Curves:
    """Monthly cohorts of different levels along one curve."""
    rows = [
        (
            f"2023-{m + 1:02}-01",
            f"2023-{m + 1:02}-07",
            {},
            10.0 + m,
            (1.0 + m) * share(family, omega, theta, np.arange(1.0, AGES + 1)),
        )
        for m in range(8)
    ]
    return history(rows).as_of("2023-11-20")


@pytest.mark.parametrize("family", ["weibull", "loglogistic"])
@pytest.mark.parametrize(("omega", "theta"), [(0.3, 500.0), (0.8, 40.0), (2.0, 90.0)])
def test_curves_of_the_family_are_found_and_continued(
    family: str, omega: float, theta: float
) -> None:
    """Beyond the oldest cohort as well: what grew as one curve is forecast exactly."""
    curves = cohorts_along(family, omega, theta)
    forecaster = GrowthCurve(family=family, pattern=PATTERN).fit(curves)
    assert forecaster.curve.omega == pytest.approx(omega, rel=1e-5)
    assert forecaster.curve.theta == pytest.approx(theta, rel=1e-4)
    forecast = forecaster.predict(curves, [30, 90, 360])
    assert forecast.is_ahead[:, 2].all() and forecast.is_extrapolated[:, 2].all()
    g = share(family, omega, theta, np.array([31.0, 91.0, 361.0]))
    expected = np.arange(1.0, 9.0)[:, None] * g
    np.testing.assert_allclose(
        forecast.raw.mean[forecast.is_ahead], expected[forecast.is_ahead], rtol=1e-5
    )


@pytest.mark.parametrize("family", ["weibull", "loglogistic"])
def test_no_other_curve_is_likelier(family: str) -> None:
    """The likelihood written out cell by cell, each ultimate at its own maximum."""
    curves = cohorts_along("weibull", 0.6, 30.0)
    noise = np.random.default_rng(0).gamma(4.0, 0.25, curves.values.shape)
    curves = replace(curves, values=np.cumsum(noise * np.diff(curves.values, prepend=0.0), axis=1))
    best = ParametricCurve.fit(family, curves, AGE_OFFSET)

    def likelihood(omega: float, theta: float) -> float:
        g = share(family, omega, theta, np.arange(1.0, AGES + 1))
        total = 0.0
        for users, row, k in zip(curves.users, curves.values, curves.observed_age, strict=True):
            cells = users * np.diff(row[: k + 1], prepend=0.0)
            mean = users * row[k] / g[k] * np.diff(g, prepend=0.0)[: k + 1]
            total += (cells * np.log(mean) - mean).sum()
        return float(total)

    highest = likelihood(best.omega, best.theta)
    for step in (0.98, 1.02):
        assert likelihood(best.omega * step, best.theta) < highest
        assert likelihood(best.omega, best.theta * step) < highest
    assert likelihood(0.9 * best.omega, 1.1 * best.theta) < highest


@pytest.mark.parametrize("family", ["weibull", "loglogistic"])
def test_nothing_overflows_within_the_bounds(family: str) -> None:
    omega, theta = (
        np.array([[1 / 32], [8.0], [1 / 32], [8.0]]),
        np.array([[1e6, 1e6, 0.02, 0.02]]).T,
    )
    level, growth = log_growth(family, omega, theta, np.arange(1.0, AGES + 1))
    assert np.isfinite(level).all() and np.isfinite(growth).all()
    assert (level <= 0).all() and (np.diff(level, axis=1) >= 0).all()


def test_too_few_ages_are_left_to_the_pattern() -> None:
    curves = weekly_history(3).as_of("2023-01-09")  # one cohort of each app, at ages 0 and 1
    forecaster = GrowthCurve(family="weibull", pattern=PATTERN).fit(curves)
    assert np.isnan(forecaster.curve.omega)
    forecast = forecaster.predict(curves)
    np.testing.assert_array_equal(forecast.raw.mean, forecast.pattern)


def test_no_revenue_so_far_is_left_to_the_pattern() -> None:
    cohorts = weekly_history(40)
    values = cohorts.values.copy()
    values[-2:, :3] = 0.0
    curves = replace(cohorts, values=values).as_of(cohorts.start[-1] + 8)
    forecast = GrowthCurve(family="loglogistic", pattern=PATTERN).fit(curves).predict(curves)
    np.testing.assert_array_equal(forecast.raw.mean[-2:], forecast.pattern[-2:])
    assert (forecast.raw.mean != forecast.pattern)[:-2][forecast.is_ahead[:-2]].any()


def test_refunds_are_increments_of_nothing() -> None:
    cohorts = weekly_history(40)
    falls = cohorts.values - 0.4 * cohorts.values * (np.arange(AGES) > 20)
    curves = replace(cohorts, values=falls).as_of("2023-09-01")
    forecaster = GrowthCurve(family="weibull", pattern=PATTERN).fit(curves)
    assert np.isfinite([forecaster.curve.omega, forecaster.curve.theta]).all()
    mean = forecaster.predict(curves, range(1, AGES)).raw.mean
    assert (np.nan_to_num(np.diff(mean, axis=1)) >= 0).all()


def test_too_few_cells_have_no_dispersion() -> None:
    curves = cohorts_along("weibull", 0.8, 40.0)
    growth = ParametricCurve("weibull", 0.8, 40.0, AGE_OFFSET)
    assert growth.dispersion(curves) == pytest.approx(0.0, abs=1e-12)
    assert np.isnan(growth.dispersion(curves.cut(0)))


def test_the_family_is_checked() -> None:
    with pytest.raises(ValueError, match="expected family out of weibull, loglogistic, got 'gom'"):
        GrowthCurve(family="gom", pattern=PATTERN)
