"""A power law is exact on a power curve, and speaks only where there are two points."""

import numpy as np
import pytest
from factories.cohorts import curve, history, weekly_history
from factories.configs import PATTERN

from ltvnet.data.arrays import Floats
from ltvnet.data.curves import AGES, Curves
from ltvnet.models.baselines.power_law import PowerLaw, fit_exponents

DAY = "2025-06-30"


def cohort(values: Floats) -> Curves:
    return history(
        [("2023-01-01", "2023-01-01", {"Apps": "a"}, 9.0, values)], hierarchy=("Apps",)
    ).as_of(DAY)


@pytest.fixture(scope="module")
def fitted_model() -> PowerLaw:
    return PowerLaw(pattern=PATTERN).fit(weekly_history(40).as_of(DAY))


@pytest.mark.parametrize("age", [1, 7, 100])
@pytest.mark.parametrize("power", [0.0, 0.37, 1.0])
def test_a_power_curve_is_forecast_exactly(fitted_model: PowerLaw, age: int, power: float) -> None:
    observed = cohort(curve(360, 3.0, power))
    forecast = fitted_model.predict(observed.cut(age), range(AGES)).raw.mean
    np.testing.assert_allclose(forecast[:, age + 1 :], observed.values[:, age + 1 :], rtol=1e-10)


def test_the_law_begins_where_revenue_does(fitted_model: PowerLaw) -> None:
    """Ages without revenue have no log: those after them alone make the exponent."""
    values = np.where(np.arange(AGES) < 3, 0.0, curve(360, 1.0, 0.6))
    assert fit_exponents(cohort(values).cut(9))[0] == pytest.approx(0.6, rel=1e-12)


def test_exponent_by_hand() -> None:
    """Logs of 1, 2, 2 at log(1 + age) = log 1, log 2, log 3."""
    values = np.where(np.arange(AGES) == 0, 1.0, 2.0)
    x, y = np.log([1.0, 2.0, 3.0]), np.log([1.0, 2.0, 2.0])
    assert fit_exponents(cohort(values).cut(2))[0] == pytest.approx(
        np.polyfit(x, y, 1)[0], rel=1e-12
    )


def test_daily_revenue_does_not_rise(fitted_model: PowerLaw) -> None:
    """A curve that jumps on its last day continues in proportion to age at most."""
    values = np.where(np.arange(AGES) < 9, 0.01, 10.0)
    forecast = fitted_model.predict(cohort(values).cut(9)).raw.mean[0, -1]
    assert forecast == pytest.approx(10.0 * 361 / 10, rel=1e-12)


@pytest.mark.parametrize("positive", [0, 1])
def test_fewer_than_two_points_let_the_pattern_speak(fitted_model: PowerLaw, positive: int) -> None:
    values = np.where(np.arange(AGES) > 9 - positive, 2.0, 0.0)
    forecast = fitted_model.predict(cohort(values).cut(9))
    np.testing.assert_array_equal(forecast.raw.mean, forecast.pattern)
