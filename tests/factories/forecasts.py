"""Forecasts in round numbers, and what holds for every forecast."""

from dataclasses import astuple

import numpy as np

from factories.configs import Config
from factories.models import make_corrected, make_forecaster
from ltvnet.data.curves import AGES, Curves, History
from ltvnet.forecasting.forecast import QUANTITIES, Band, Forecast
from ltvnet.forecasting.forecaster import Predictor

OBSERVED = [11, 2, -1, 360]
"""Last complete age of cohorts a (a week), b, c (nothing known) and d (complete)."""


def four_cohorts() -> Curves:
    """Cohorts d, a, b, c on 2025-02-10, each a tenth a day from a level of its own."""
    origin = np.datetime64("2025-02-10")
    end = origin - np.array(OBSERVED)
    values = np.full((4, AGES), np.nan)
    for row, k in enumerate(OBSERVED):
        values[row, : k + 1] = 0.1 * (row + 1) + 0.1 * np.arange(k + 1)
    order = [3, 0, 1, 2]
    return Curves(
        start=(end - np.array([6, 0, 0, 0]))[order],
        end=end[order],
        attributes={
            "Source": np.array(["s", "s", "", "t"], dtype=object)[order],
            "Campaign": np.array(["x, 1", "y", "y", "x, 1"], dtype=object)[order],
        },
        users=np.array([10.0, 20.0, np.nan, 40.0])[order],
        spend=np.array([5.0, np.nan, np.nan, 7.0])[order],
        values=values[order],
        hierarchy=("Source", "Campaign"),
        lag_days=0,
        origin=origin,
    )


def linear_forecast(
    ages: range | tuple[int, ...] = range(1, AGES), *, calibrated: bool = False
) -> Forecast:
    """The mean of raw is 0.1 a day above what was observed, of final it is 0.2."""
    cohorts, ages_asked = four_cohorts(), np.array(ages)
    k, value = cohorts.observed_age[:, None], cohorts.observed_value[:, None]
    opened = (k >= 0) & (ages_asked > k)
    growth = np.where(opened, 0.1 * (ages_asked - k), np.nan)
    raw = Band(*(np.where(opened, value + growth * scale, np.nan) for scale in (1, 0.5, 1, 2)))
    final = Band(*(np.where(opened, value + growth * scale, np.nan) for scale in (2, 1, 2, 4)))
    reason = np.array(["complete", "ok", "young", "no_complete_age"], dtype=object)
    return Forecast(cohorts, ages_asked, raw.mean, raw, final, reason, 360, calibrated)


def fit_as_of(config: Config, history: History, date: object) -> Predictor:
    """A forecaster fitted as of a day: on curves, or on the history whose past is replayed."""
    if config["name"] == "corrected":
        return make_corrected(config).fit(history, date)
    return make_forecaster(config).fit(history.as_of(date))


def assert_sound(forecast: Forecast) -> None:
    """Check that it is finite, monotone, ordered, not below what was observed, blank up to there.

    The mean lies in the range from P10 to P90, P50 on either side of it.
    P10 and P90 that the past was asked for are blank together, where it could not tell.
    """
    value = forecast.curves.observed_value[:, None]
    for band in (forecast.raw, forecast.final):
        has_bounds = forecast.is_ahead
        if band is not forecast.raw:
            has_bounds = has_bounds & np.isfinite(band.p10)
            assert forecast.is_calibrated or not has_bounds.any()

        for quantity in QUANTITIES:
            cells = getattr(band, quantity)
            is_forecast = has_bounds if quantity in ("p10", "p90") else forecast.is_ahead
            np.testing.assert_array_equal(np.isfinite(cells), is_forecast)
            falls = np.nan_to_num(np.diff(cells, axis=1)) < -1e-9 * np.nan_to_num(value)
            assert not falls.any()
            assert (cells >= value * (1 - 1e-12))[is_forecast].all()

        mean, low, middle, high = (getattr(band, q)[has_bounds] for q in QUANTITIES)
        assert (low <= middle).all() and (middle <= high).all()
        assert (low <= mean).all() and (mean <= high).all()
    assert np.isfinite(forecast.pattern[forecast.is_ahead]).all()


def assert_same_forecasts(first: Forecast, second: Forecast) -> None:
    """Check that two forecasts are equal to the bit."""
    assert first.curves.index.equals(second.curves.index)
    np.testing.assert_array_equal(first.pattern, second.pattern)
    for band in ("raw", "final"):
        for quantity in QUANTITIES:
            cells, other_cells = (getattr(getattr(f, band), quantity) for f in (first, second))
            np.testing.assert_array_equal(cells, other_cells)

    assert (
        first.reason.tolist() == second.reason.tolist()
        and first.last_supported_age == second.last_supported_age
    )
    assert first.is_calibrated == second.is_calibrated
    np.testing.assert_array_equal(first.is_borrowed, second.is_borrowed)
    assert type(first.portfolio_spread) is type(second.portfolio_spread)
    if first.portfolio_spread is not None:
        for field, other_field in zip(
            astuple(first.portfolio_spread), astuple(second.portfolio_spread), strict=True
        ):
            np.testing.assert_array_equal(field, other_field)
