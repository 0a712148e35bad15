"""Growth by interval comes back as values, and days between nodes lie between them."""

import numpy as np
import pytest
from factories.cohorts import curve, history
from factories.forecasts import OBSERVED, linear_forecast
from factories.matured import GRID, INTERVALS, random_band, stack_quantiles
from hypothesis import given, settings
from hypothesis import strategies as st

from ltvnet.correction.blend import Blend
from ltvnet.data.curves import AGES, NODE_AGES, NODES
from ltvnet.forecasting.forecast import QUANTITIES, Band, Forecast
from ltvnet.forecasting.interpolation import (
    InterpolationShape,
    accumulate_growth,
    fraction_of_interval,
    interpolate_between_nodes,
    interval_growth,
    interval_index,
    rescale_growth,
)

AFTER_7 = NODES.index(7)


def test_each_age_is_in_the_interval_that_it_ends_or_lies_in() -> None:
    assert interval_index(np.array([0, 1, 2, 8, 10, 11, 360])).tolist() == [0, 0, 1, 7, 7, 8, 19]


def test_half_an_interval_is_half_its_length() -> None:
    begin, end = np.array([1.0, 2.0]), np.array([3.0, 2.0])
    assert fraction_of_interval(np.array([2.0, 2.0]), begin, end).tolist() == [0.5, 0.0]


def test_growth_begins_at_the_observed_age() -> None:
    values = np.arange(len(NODES), dtype=float)[None] ** 2
    observed_age, observed_value = np.array([8]), np.array([60.0])
    growth = interval_growth(values, observed_age, observed_value)
    assert growth[0, : AFTER_7 + 2].tolist() == [0.0] * AFTER_7 + [64.0 - 60.0, 81.0 - 64.0]

    restored = accumulate_growth(growth, observed_age, observed_value)
    np.testing.assert_array_equal(restored[0, AFTER_7 + 1 :], values[0, AFTER_7 + 1 :])
    assert np.isnan(restored[0, : AFTER_7 + 1]).all()


def test_a_node_that_was_not_forecast_leaves_its_growth_to_the_next() -> None:
    values = np.full((1, len(NODES)), np.nan)
    values[0, NODES.index(14) :] = 5.0  # cut to age 7, but observed to 11
    observed_age, observed_value = np.array([7]), np.array([2.0])
    growth = interval_growth(values, observed_age, observed_value)
    assert growth[0, AFTER_7 : AFTER_7 + 3].tolist() == [0.0, 3.0, 0.0]

    band = Band(values, values, values, values + 1.0)
    doubled = rescale_growth(band, 2 * growth, observed_age, observed_value)
    assert np.isnan(doubled.mean[0, : NODES.index(14)]).all()
    assert doubled.mean[0, NODES.index(14) :].tolist() == [8.0] * 12
    assert doubled.p90[0, -1] == 2.0 + 2 * 4.0


def random_daily_forecast(seed: int, rows: int = 12) -> Forecast:
    """Random daily forecasts, of which some days bring nothing, some values are zero."""
    rng = np.random.default_rng(seed)
    today = np.datetime64("2024-02-28")
    end_days = today - rng.integers(0, 360, rows)
    levels = np.where(rng.random(rows) < 0.3, 0.0, rng.gamma(1.0, 1.0, rows))
    cohorts = [
        (str(end), str(end), {"Apps": str(i)}, 9.0, curve(360, level))
        for i, (end, level) in enumerate(zip(end_days, levels, strict=True))
    ]
    curves = history(cohorts).as_of(today)

    ages = np.arange(AGES)
    is_ahead = ages > curves.observed_age[:, None]
    gains = rng.gamma(1.0, 1.0, (4, rows, AGES)) * (rng.random((4, rows, AGES)) < 0.7) * is_ahead
    values = curves.observed_value[:, None] + np.cumsum(gains, axis=2)
    values[1:] = np.sort(values[1:], axis=0)
    band = Band(*np.where(is_ahead, values, np.nan))
    reasons = np.full(rows, "ok", dtype=object)
    return Forecast(curves, ages, band.mean, band, band, reasons, 360)


def assert_between_nodes(raw: Forecast, final: Band) -> None:
    """Exact at nodes, monotone from what was observed, ordered."""
    observed_value = raw.curves.observed_value[:, None]
    daily = interpolate_between_nodes(raw, raw.at(NODES), final)
    for quantity in QUANTITIES:
        days = getattr(daily, quantity)
        np.testing.assert_array_equal(days[:, NODES], getattr(final, quantity))
        assert (np.diff(np.where(raw.is_ahead, days, observed_value), axis=1) >= 0).all()
    assert (daily.p10 <= daily.p50)[raw.is_ahead].all()
    assert (daily.p50 <= daily.p90)[raw.is_ahead].all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_days_between_nodes_lie_between_them(seed: int) -> None:
    raw, rng = random_daily_forecast(seed), np.random.default_rng(seed)
    nodes = raw.at(NODES)
    value = raw.curves.observed_value[:, None]
    gains = rng.gamma(1.0, 9.0, nodes.is_ahead.shape) * (rng.random(nodes.is_ahead.shape) < 0.8)
    low = value + np.cumsum(np.where(nodes.is_ahead, gains, 0.0), axis=1)
    scaled = [np.where(nodes.is_ahead, low * scale, np.nan) for scale in (1.5, 1.0, 1.5, 1.7)]
    assert_between_nodes(raw, Band(*scaled))
    assert_between_nodes(raw, Band(scaled[0], *[nodes.raw.p50] * 3))  # p50 keeps its shape


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_intervals_that_stay_keep_every_bit(seed: int) -> None:
    raw = random_daily_forecast(seed)
    nodes = raw.at(NODES)
    daily = interpolate_between_nodes(raw, nodes, nodes.raw)
    for quantity in QUANTITIES:
        np.testing.assert_array_equal(getattr(daily, quantity), getattr(raw.raw, quantity))


def test_days_between_nodes_by_hand() -> None:
    """From D8 and 2: raw grows by 1 to D9, 3 to D10; then not at all to D14, as log age."""
    cohort = ("2024-02-20", "2024-02-20", {}, 9.0, curve(360, 2 / 3))
    curves = history([cohort]).as_of("2024-02-28")
    assert curves.observed_age.tolist() == [8]
    assert curves.observed_value[0] == pytest.approx(2.0)
    value = curves.observed_value[0]

    ages = np.arange(AGES)
    mean = np.where(ages > 8, value + np.minimum(ages - 8, 2) * 1.5, np.nan)[None]
    mean[0, 9] = value + 1
    raw = Band.from_mean(mean)
    forecast = Forecast(curves, ages, mean, raw, raw, np.array(["ok"], dtype=object), 360)

    doubled = value + 2 * (mean[:, NODES] - value)
    doubled[:, NODE_AGES >= 14] += 5.0
    band = interpolate_between_nodes(forecast, forecast.at(NODES), Band.from_mean(doubled))
    growth = band.mean[0] - value
    assert np.isnan(growth[:9]).all()
    np.testing.assert_allclose(growth[[9, 10, 14]], [2.0, 6.0, 11.0], rtol=1e-12)
    shape = np.log(np.array([12, 13, 14]) / 11) / np.log(15 / 11)
    np.testing.assert_allclose(growth[11:14], 6 + 5 * shape, rtol=1e-12)


def test_no_complete_age_stays_blank() -> None:
    band = Band(*np.full((4, 1, len(NODES)), np.nan))
    observed, value = np.array([-1]), np.array([np.nan])
    grown = interval_growth(band.mean, observed, value)
    assert np.isnan(Blend.equal().apply(grown[None], grown, observed)).all()
    assert np.isnan(rescale_growth(band, grown, observed, value).p90).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_a_corrected_band_is_ordered_monotone_and_proportional(seed: int) -> None:
    rng = np.random.default_rng(seed)
    band, observed, value = random_band(rng, 8)
    grown = interval_growth(band.mean, observed, value)
    fixed = rescale_growth(band, grown * rng.gamma(2.0, 0.5, grown.shape), observed, value)
    open_ = GRID > observed[:, None]
    for cells in (fixed.mean, *stack_quantiles(fixed)):
        filled = np.where(open_, cells, value[:, None])
        assert (np.diff(filled, axis=1) >= 0).all()
    assert (np.diff(stack_quantiles(fixed), axis=0)[:, open_] >= -1e-12).all()
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


def test_days_where_the_shape_does_not_grow_are_those_of_log_age() -> None:
    at_nodes = linear_forecast(NODES)
    flat = InterpolationShape(np.ones((1, AGES)), np.zeros(4, dtype=np.int64))
    (days,) = flat.daily_means(at_nodes.curves, [at_nodes.raw.mean])
    row = OBSERVED.index(11) + 1
    share = np.log(13 / 12) / np.log(15 / 12)  # of the way from D11 to D14, of 0.3
    value = at_nodes.curves.observed_value[row]
    np.testing.assert_allclose(days[[11, 12, 14], row] - value, [0, 0.3 * share, 0.3], atol=1e-6)
