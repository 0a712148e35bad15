"""What every forecaster promises."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cohorts import curve, history, weekly
from test_leaks import FORECASTERS

from ltvnet.curves import AGES, NODES, Curves, History
from ltvnet.forecasting import REGISTRY, Forecast, Forecaster, create, resolve

QUANTITIES = ("mean", "p10", "p50", "p90")


@pytest.fixture(scope="module")
def known() -> History:
    return weekly(70, ("a", "b", "c"), noise=0.4)


@pytest.fixture(scope="module")
def curves(known: History) -> Curves:
    return known.as_of("2024-03-14")


@pytest.fixture(scope="module", params=FORECASTERS)
def fitted(request: pytest.FixtureRequest, curves: Curves) -> tuple[dict[str, Any], Forecaster]:
    config = FORECASTERS[request.param]
    return config, create(config).fit(curves)


def test_every_registered_forecaster_is_met_here() -> None:
    assert {config["name"] for config in FORECASTERS.values()} == set(REGISTRY)
    for name in REGISTRY:
        assert issubclass(resolve(name), Forecaster)


def assert_sound(forecast: Forecast) -> None:
    """Finite, monotone, ordered, never below what was observed, blank where observed."""
    value = forecast.curves.observed_value[:, None]
    for band in (forecast.raw, forecast.final):
        for quantity in QUANTITIES:
            cells = getattr(band, quantity)
            assert np.isfinite(cells[forecast.open]).all()
            assert np.isnan(cells[~forecast.open]).all()
            falls = np.nan_to_num(np.diff(cells, axis=1)) < -1e-9 * np.nan_to_num(value)
            assert not falls.any()
            assert (cells >= value * (1 - 1e-12))[forecast.open].all()
        low, middle, high = (getattr(band, q)[forecast.open] for q in QUANTITIES[1:])
        assert (low <= middle).all() and (middle <= high).all()
    assert np.isfinite(forecast.pattern[forecast.open]).all()


def test_forecasts_are_sound(fitted: tuple[dict[str, Any], Forecaster], curves: Curves) -> None:
    assert_sound(fitted[1].predict(curves, range(AGES)))


def edge(age: int, users: float, values: np.ndarray | None = None, app: str = "a") -> Curves:
    """One cohort at an observed age on the day of the fixture."""
    end = np.datetime64("2024-03-14") - age
    row = (str(end), str(end), {"Apps": app}, users, curve(age) if values is None else values)
    return history([row], hierarchy=("Apps",)).as_of("2024-03-14")


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
def test_edges_are_sound_and_say_why(
    fitted: tuple[dict[str, Any], Forecaster], rows: Curves, reason: str
) -> None:
    forecast = fitted[1].predict(rows, range(1, AGES))
    assert_sound(forecast)
    assert forecast.reason.tolist() == [reason]
    if reason == "zero_revenue_so_far" and fitted[0].get("kappa") == "learned":
        assert (forecast.final.mean[forecast.open] > 0).all()


def test_no_complete_age_is_a_row_of_blanks(fitted: tuple[dict[str, Any], Forecaster]) -> None:
    rows = history(
        [("2024-03-11", "2024-03-17", {"Apps": "a"}, 5.0, curve(9))], hierarchy=("Apps",)
    )
    forecast = fitted[1].predict(rows.as_of("2024-03-14"))
    assert forecast.reason.tolist() == ["no_complete_age"]
    assert np.isnan(forecast.final.mean).all() and np.isnan(forecast.pattern).all()


def test_an_absent_attribute_is_unseen(
    fitted: tuple[dict[str, Any], Forecaster], curves: Curves
) -> None:
    nameless = replace(edge(10, 50.0), attributes={}, hierarchy=())
    forecast = fitted[1].predict(nameless)
    assert forecast.reason.tolist() == ["unseen_category"]
    assert_sound(forecast)


def test_the_order_of_rows_changes_nothing(
    fitted: tuple[dict[str, Any], Forecaster], known: History, curves: Curves
) -> None:
    config, forecaster = fitted
    order = np.random.default_rng(0).permutation(len(known))
    names = ("start", "end", "users", "spend", "values", "snapshot")
    parts: dict[str, Any] = {name: getattr(known, name)[order] for name in names}
    apps = {"Apps": known.attributes["Apps"][order]}
    shuffled = replace(known, **parts, attributes=apps).as_of("2024-03-14")
    again = create(config).fit(shuffled).predict(shuffled)
    np.testing.assert_array_equal(again.final.mean, forecaster.predict(curves).final.mean)


def test_a_row_depends_on_no_other_row(
    fitted: tuple[dict[str, Any], Forecaster], curves: Curves
) -> None:
    whole = fitted[1].predict(curves)
    for rows in (np.array([33]), np.arange(50, 117)):
        part = fitted[1].predict(curves.take(rows))
        np.testing.assert_allclose(part.final.mean, whole.final.mean[rows], rtol=1e-5)
        np.testing.assert_allclose(part.final.p90, whole.final.p90[rows], rtol=1e-5)


def test_the_state_travels_as_json_and_arrays(
    fitted: tuple[dict[str, Any], Forecaster], curves: Curves
) -> None:
    config, forecaster = fitted
    values, arrays = forecaster.state()
    again = resolve(config["name"]).from_state(json.loads(json.dumps(values)), arrays)
    ours, theirs = forecaster.predict(curves), again.predict(curves)
    for quantity in QUANTITIES:
        np.testing.assert_array_equal(
            getattr(ours.final, quantity), getattr(theirs.final, quantity)
        )
    assert ours.reason.tolist() == theirs.reason.tolist() and ours.reach == theirs.reach


def test_money_in_another_unit_scales_every_forecast(
    fitted: tuple[dict[str, Any], Forecaster], curves: Curves
) -> None:
    config, forecaster = fitted
    scaled = replace(curves, values=curves.values * 1024)
    again = create(config).fit(scaled).predict(scaled)
    ours = forecaster.predict(curves)
    for quantity in QUANTITIES:
        one, other = (getattr(f.final, quantity)[f.open] for f in (ours, again))
        np.testing.assert_allclose(other, 1024 * one, rtol=1e-6)


def test_few_cohorts_are_no_error(
    fitted: tuple[dict[str, Any], Forecaster], known: History
) -> None:
    for weeks in (1, 3, 20):
        early = known.as_of(known.end.min() + 7 * (weeks - 1))
        forecast = create(fitted[0]).fit(early).predict(early, NODES)
        assert_sound(forecast)
        assert not set(forecast.reason) & {"ok"}
