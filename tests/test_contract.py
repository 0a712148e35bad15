"""The promises of every forecaster."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from factories.all_forecasters import FORECASTERS
from factories.cohorts import curve, history, weekly_history
from factories.configs import Config
from factories.forecasts import assert_sound, fit_as_of

from ltvnet.data.curves import AGES, NODES, Curves, History
from ltvnet.forecasting.forecast import QUANTITIES
from ltvnet.forecasting.forecaster import Forecaster, Predictor
from ltvnet.forecasting.registry import REGISTRY, forecaster_class

DAY = "2024-03-14"

Fitted = tuple[Config, Predictor]


@pytest.fixture(scope="module")
def known_history() -> History:
    return weekly_history(70, ("a", "b", "c"), noise=0.4)


@pytest.fixture(scope="module")
def curves(known_history: History) -> Curves:
    return known_history.as_of(DAY)


@pytest.fixture(scope="module", params=FORECASTERS)
def fitted_model(request: pytest.FixtureRequest, known_history: History) -> Fitted:
    config = FORECASTERS[request.param]
    return config, fit_as_of(config, known_history, DAY)


def test_every_registered_forecaster_is_met_here() -> None:
    assert {config["name"] for config in FORECASTERS.values()} == set(REGISTRY)
    for name in REGISTRY:
        assert issubclass(forecaster_class(name), Forecaster)


def test_forecasts_are_sound(fitted_model: Fitted, curves: Curves) -> None:
    assert_sound(fitted_model[1].predict(curves, range(AGES)))


def test_intervals_were_checked_on_the_past(fitted_model: Fitted, curves: Curves) -> None:
    """Intervals of a model are its own; where the past was replayed most are known."""
    forecast = fitted_model[1].predict(curves)
    assert forecast.is_calibrated == (fitted_model[0]["name"] == "corrected")
    assert np.isfinite(forecast.final.p10[forecast.is_ahead]).mean() > 0.5


def edge(age: int, users: float, values: np.ndarray | None = None, app: str = "a") -> Curves:
    """One cohort at an observed age on the day of the fixture."""
    end = np.datetime64(DAY) - age
    row = (str(end), str(end), {"Apps": app}, users, curve(age) if values is None else values)
    return history([row], hierarchy=("Apps",)).as_of(DAY)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (edge(0, 100.0), "young"),
        (edge(359, 100.0), "ok"),
        (edge(10, 20.0), "ok"),
        (edge(10, 1.0), "ok"),
        (edge(10, 100.0, np.where(np.arange(AGES) <= 10, 0.0, np.nan)), "zero_revenue_so_far"),
        (edge(10, 100.0, app="never seen"), "unseen_category"),
        (edge(360, 100.0), "complete"),
    ],
)
def test_edges_are_sound_and_say_why(fitted_model: Fitted, rows: Curves, reason: str) -> None:
    forecast = fitted_model[1].predict(rows, range(1, AGES))
    assert_sound(forecast)
    assert forecast.reason.tolist() == [reason]
    if reason == "zero_revenue_so_far" and fitted_model[0].get("kappa") == "learned":
        assert (forecast.final.mean[forecast.is_ahead] > 0).all()


def test_no_complete_age_is_a_row_of_blanks(fitted_model: Fitted) -> None:
    rows = history(
        [("2024-03-11", "2024-03-17", {"Apps": "a"}, 5.0, curve(9))], hierarchy=("Apps",)
    )
    forecast = fitted_model[1].predict(rows.as_of(DAY))
    assert forecast.reason.tolist() == ["no_complete_age"]
    assert np.isnan(forecast.final.mean).all() and np.isnan(forecast.pattern).all()


def test_an_absent_attribute_is_unseen(fitted_model: Fitted, curves: Curves) -> None:
    nameless = replace(edge(10, 50.0), attributes={}, hierarchy=())
    forecast = fitted_model[1].predict(nameless)
    assert forecast.reason.tolist() == ["unseen_category"]
    assert_sound(forecast)


def test_the_order_of_rows_changes_nothing(
    fitted_model: Fitted, known_history: History, curves: Curves
) -> None:
    config, forecaster = fitted_model
    order = np.random.default_rng(0).permutation(len(known_history))
    names = ("start", "end", "users", "spend", "values", "snapshot")
    shuffled_arrays: dict[str, Any] = {name: getattr(known_history, name)[order] for name in names}
    apps = {"Apps": known_history.attributes["Apps"][order]}
    shuffled = replace(known_history, **shuffled_arrays, attributes=apps)
    again = fit_as_of(config, shuffled, DAY).predict(shuffled.as_of(DAY)).final
    once = forecaster.predict(curves).final
    np.testing.assert_array_equal(again.mean, once.mean)
    np.testing.assert_array_equal(again.p90, once.p90)


def test_a_row_depends_on_no_other_row(fitted_model: Fitted, curves: Curves) -> None:
    all_rows = fitted_model[1].predict(curves)
    for rows in (np.array([33]), np.arange(50, 117)):
        some_rows = fitted_model[1].predict(curves.take(rows))
        np.testing.assert_allclose(some_rows.final.mean, all_rows.final.mean[rows], rtol=1e-5)
        np.testing.assert_allclose(some_rows.final.p90, all_rows.final.p90[rows], rtol=1e-5)


def test_the_state_travels_as_json_and_arrays(fitted_model: Fitted, curves: Curves) -> None:
    config, forecaster = fitted_model
    values, arrays = forecaster.state()
    again = forecaster_class(config["name"]).from_state(json.loads(json.dumps(values)), arrays)
    forecast, restored_forecast = forecaster.predict(curves), again.predict(curves)
    for quantity in QUANTITIES:
        np.testing.assert_array_equal(
            getattr(forecast.final, quantity), getattr(restored_forecast.final, quantity)
        )
    assert (
        forecast.reason.tolist() == restored_forecast.reason.tolist()
        and forecast.last_supported_age == restored_forecast.last_supported_age
    )


def test_money_in_another_unit_scales_every_forecast(
    fitted_model: Fitted, known_history: History, curves: Curves
) -> None:
    config, forecaster = fitted_model
    scaled = replace(known_history, values=known_history.values * 1024)
    again = fit_as_of(config, scaled, DAY).predict(scaled.as_of(DAY))
    forecast = forecaster.predict(curves)
    for quantity in QUANTITIES:
        cells, scaled_cells = (getattr(f.final, quantity)[f.is_ahead] for f in (forecast, again))
        np.testing.assert_allclose(scaled_cells, 1024 * cells, rtol=1e-6)


def test_few_cohorts_are_no_error(fitted_model: Fitted, known_history: History) -> None:
    for weeks in (1, 3, 20):
        date = known_history.end.min() + 7 * (weeks - 1)
        forecast = fit_as_of(fitted_model[0], known_history, date).predict(
            known_history.as_of(date), NODES
        )
        assert_sound(forecast)
        oldest_age = forecast.curves.observed_age.max()
        assert forecast.last_supported_age <= oldest_age < 360
        assert forecast.is_extrapolated[:, -1].any() and not forecast.is_within_reach[-1]
        is_at_reach = forecast.curves.observed_age >= max(forecast.last_supported_age, 0)
        assert set(forecast.reason[is_at_reach]) == {"extrapolated"}
