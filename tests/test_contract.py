"""What every forecaster promises."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cohorts import curve, history, weekly
from test_leaks import FORECASTERS, Config, learned

from ltvnet.data.curves import AGES, NODES, Curves, History
from ltvnet.forecasting.forecast import QUANTITIES, Forecast
from ltvnet.forecasting.forecaster import Forecaster, Predictor
from ltvnet.forecasting.registry import REGISTRY, forecaster_class

DAY = "2024-03-14"

Fitted = tuple[Config, Predictor]


@pytest.fixture(scope="module")
def known() -> History:
    return weekly(70, ("a", "b", "c"), noise=0.4)


@pytest.fixture(scope="module")
def curves(known: History) -> Curves:
    return known.as_of(DAY)


@pytest.fixture(scope="module", params=FORECASTERS)
def fitted(request: pytest.FixtureRequest, known: History) -> Fitted:
    config = FORECASTERS[request.param]
    return config, learned(config, known, DAY)


def test_every_registered_forecaster_is_met_here() -> None:
    assert {config["name"] for config in FORECASTERS.values()} == set(REGISTRY)
    for name in REGISTRY:
        assert issubclass(forecaster_class(name), Forecaster)


def assert_sound(forecast: Forecast) -> None:
    """Finite, monotone, ordered, never below what was observed, blank where observed.

    P10 and P90 that the past was asked for are blank together, where it could not tell.
    """
    value = forecast.curves.observed_value[:, None]
    for band in (forecast.raw, forecast.final):
        known = forecast.is_ahead
        if band is not forecast.raw:
            known = known & np.isfinite(band.p10)
            assert forecast.is_calibrated or not known.any()
        for quantity in QUANTITIES:
            cells = getattr(band, quantity)
            least = known if quantity in ("p10", "p90") else forecast.is_ahead
            np.testing.assert_array_equal(np.isfinite(cells), least)
            falls = np.nan_to_num(np.diff(cells, axis=1)) < -1e-9 * np.nan_to_num(value)
            assert not falls.any()
            assert (cells >= value * (1 - 1e-12))[least].all()
        low, middle, high = (getattr(band, q)[known] for q in QUANTITIES[1:])
        assert (low <= middle).all() and (middle <= high).all()
    assert np.isfinite(forecast.pattern[forecast.is_ahead]).all()


def test_forecasts_are_sound(fitted: Fitted, curves: Curves) -> None:
    assert_sound(fitted[1].predict(curves, range(AGES)))


def test_intervals_were_checked_on_the_past(fitted: Fitted, curves: Curves) -> None:
    """Those of a model are its own; where the past was replayed most are known."""
    forecast = fitted[1].predict(curves)
    assert forecast.is_calibrated == (fitted[0]["name"] == "corrected")
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
def test_edges_are_sound_and_say_why(fitted: Fitted, rows: Curves, reason: str) -> None:
    forecast = fitted[1].predict(rows, range(1, AGES))
    assert_sound(forecast)
    assert forecast.reason.tolist() == [reason]
    if reason == "zero_revenue_so_far" and fitted[0].get("kappa") == "learned":
        assert (forecast.final.mean[forecast.is_ahead] > 0).all()


def test_no_complete_age_is_a_row_of_blanks(fitted: Fitted) -> None:
    rows = history(
        [("2024-03-11", "2024-03-17", {"Apps": "a"}, 5.0, curve(9))], hierarchy=("Apps",)
    )
    forecast = fitted[1].predict(rows.as_of(DAY))
    assert forecast.reason.tolist() == ["no_complete_age"]
    assert np.isnan(forecast.final.mean).all() and np.isnan(forecast.pattern).all()


def test_an_absent_attribute_is_unseen(fitted: Fitted, curves: Curves) -> None:
    nameless = replace(edge(10, 50.0), attributes={}, hierarchy=())
    forecast = fitted[1].predict(nameless)
    assert forecast.reason.tolist() == ["unseen_category"]
    assert_sound(forecast)


def test_the_order_of_rows_changes_nothing(fitted: Fitted, known: History, curves: Curves) -> None:
    config, forecaster = fitted
    order = np.random.default_rng(0).permutation(len(known))
    names = ("start", "end", "users", "spend", "values", "snapshot")
    parts: dict[str, Any] = {name: getattr(known, name)[order] for name in names}
    apps = {"Apps": known.attributes["Apps"][order]}
    shuffled = replace(known, **parts, attributes=apps)
    again = learned(config, shuffled, DAY).predict(shuffled.as_of(DAY)).final
    once = forecaster.predict(curves).final
    np.testing.assert_array_equal(again.mean, once.mean)
    np.testing.assert_array_equal(again.p90, once.p90)


def test_a_row_depends_on_no_other_row(fitted: Fitted, curves: Curves) -> None:
    whole = fitted[1].predict(curves)
    for rows in (np.array([33]), np.arange(50, 117)):
        part = fitted[1].predict(curves.take(rows))
        np.testing.assert_allclose(part.final.mean, whole.final.mean[rows], rtol=1e-5)
        np.testing.assert_allclose(part.final.p90, whole.final.p90[rows], rtol=1e-5)


def test_the_state_travels_as_json_and_arrays(fitted: Fitted, curves: Curves) -> None:
    config, forecaster = fitted
    values, arrays = forecaster.state()
    again = forecaster_class(config["name"]).from_state(json.loads(json.dumps(values)), arrays)
    ours, theirs = forecaster.predict(curves), again.predict(curves)
    for quantity in QUANTITIES:
        np.testing.assert_array_equal(
            getattr(ours.final, quantity), getattr(theirs.final, quantity)
        )
    assert (
        ours.reason.tolist() == theirs.reason.tolist()
        and ours.last_supported_age == theirs.last_supported_age
    )


def test_money_in_another_unit_scales_every_forecast(
    fitted: Fitted, known: History, curves: Curves
) -> None:
    config, forecaster = fitted
    scaled = replace(known, values=known.values * 1024)
    again = learned(config, scaled, DAY).predict(scaled.as_of(DAY))
    ours = forecaster.predict(curves)
    for quantity in QUANTITIES:
        one, other = (getattr(f.final, quantity)[f.is_ahead] for f in (ours, again))
        np.testing.assert_allclose(other, 1024 * one, rtol=1e-6)


def test_few_cohorts_are_no_error(fitted: Fitted, known: History) -> None:
    for weeks in (1, 3, 20):
        date = known.end.min() + 7 * (weeks - 1)
        forecast = learned(fitted[0], known, date).predict(known.as_of(date), NODES)
        assert_sound(forecast)
        assert not set(forecast.reason) & {"ok"}
