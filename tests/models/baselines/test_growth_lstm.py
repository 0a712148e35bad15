"""Growth rates of a curve by hand, the roll-out day by day, and when the pattern speaks."""

import json
import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from factories.cohorts import weekly_history
from factories.configs import GROWTH_LSTM, arguments_of

from ltvnet.data.curves import AGES, Curves
from ltvnet.models.baselines.growth_lstm import (
    GrowthLSTM,
    GrowthRateNet,
    growth_rates,
    rate_windows,
    roll_out,
    training_windows,
)

SETTINGS = arguments_of(GROWTH_LSTM) | {"seed": 0}


@pytest.fixture(scope="module")
def fitted_model(curves: Curves) -> GrowthLSTM:
    return GrowthLSTM(**SETTINGS).fit(curves)


def constant_rate_net(rate: float) -> GrowthRateNet:
    """A net that always says the same rate: softplus(log(e - 1)) = 1 unit."""
    net = GrowthRateNet(units=[2, 2], dense=2, dropout=0.0, unit=rate)
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias.fill_(np.log(np.e - 1))
    return net.eval()


def test_rates_of_a_curve() -> None:
    values = np.array([[0.0, 2.0, 3.0, 3.0, 4.5, np.nan]])
    np.testing.assert_array_equal(growth_rates(values), [[0.0, 0.5, 0.0, 0.5, np.nan]])


def test_a_window_holds_the_week_before_an_age() -> None:
    values = np.cumprod(np.r_[1.0, 1 + np.arange(1, 10) / 16])[None]  # rates 1/16 2/16 .. 9/16
    sixteenths = 16 * rate_windows(values)[0]
    np.testing.assert_allclose(sixteenths[0], 0.0)
    np.testing.assert_allclose(sixteenths[2], [0, 0, 0, 0, 0, 1, 2], atol=1e-12)
    np.testing.assert_allclose(sixteenths[9], [3, 4, 5, 6, 7, 8, 9])


def test_sequences_by_hand() -> None:
    """Targets from D1 on, up to the last age, where there is something to grow from."""
    values = np.array([[1.0, 2.0, 3.0, 6.0, 9.0], [0.0, 0.0, 4.0, 5.0, np.nan]])
    window, target = training_windows(values, np.array([3, 3]))
    np.testing.assert_allclose(target, [0.5, 1.0, 0.25])
    expected = [[0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1, 0.5], [0, 0, 0, 0, 0, 0, 0]]
    np.testing.assert_allclose(window, expected)


def test_a_constant_rate_compounds(curves: Curves) -> None:
    """y(k) (1 + r) ** (h - k) from each cohort's own age, blank up to it."""
    k, ages = curves.observed_age, np.array([7, 30, 45, 200, 360])
    forecast = roll_out(constant_rate_net(0.01), curves, ages)
    expected = curves.observed_value[:, None] * 1.01 ** (ages - k[:, None])
    speaks = (k[:, None] >= 1) & (ages > k[:, None])
    np.testing.assert_allclose(forecast[speaks], expected[speaks], rtol=1e-5)
    assert np.isnan(forecast[~speaks]).all() and speaks.sum() > 150


class Newest(GrowthRateNet):
    """Halves the newest rate."""

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        """Half of the last of the window."""
        return window[:, -1] / 2


def test_the_window_moves_on_by_the_forecast_rate(curves: Curves) -> None:
    """Newest rate r: growth by r/2, r/4, r/8."""
    rows = curves.take(curves.observed_age >= 2).cut(2)
    newest = rows.values[:, 2] / rows.values[:, 1] - 1
    forecast = roll_out(Newest(units=[1], dense=1, dropout=0.0, unit=1.0), rows, [5])[:, 0]
    expected = rows.values[:, 2] * (1 + newest / 2) * (1 + newest / 4) * (1 + newest / 8)
    np.testing.assert_allclose(forecast, expected, rtol=1e-5)


def test_it_learns_a_rate_that_falls_by_age() -> None:
    """Rates 0.3 * 0.9 ** a without noise: the next of D10 to D40 is found, not the mean of all."""
    grown = 0.3 * 0.9 ** np.arange(60)
    values = np.tile(np.cumprod(np.r_[1.0, 1 + grown]), (40, 1))
    window, target = training_windows(values, np.full(40, 60))
    model = GrowthLSTM(**SETTINGS | {"epochs": 15, "batch_size": 64, "rate": 0.02})
    net = model.train_net(window, target).net
    assert net is not None
    age = np.arange(10, 40)
    with torch.no_grad():
        rate = net(torch.from_numpy(rate_windows(values)[0, age].astype(np.float32))).numpy()
    error = np.abs(rate - grown[age]).mean()
    assert error < 0.2 * np.abs(target.mean() - grown[age]).mean()


@pytest.mark.parametrize("size", [1, 7])
def test_batch_size_changes_nothing(fitted_model: GrowthLSTM, curves: Curves, size: int) -> None:
    all_rows = fitted_model.predict(curves).final.mean
    rows = np.arange(40, 40 + size)
    some_rows = fitted_model.predict(curves.take(rows)).final.mean
    np.testing.assert_allclose(some_rows, all_rows[rows], rtol=1e-5)


def test_money_in_another_unit_changes_no_bit(fitted_model: GrowthLSTM, curves: Curves) -> None:
    scaled = replace(curves, values=curves.values * 1024)
    again = GrowthLSTM(**SETTINGS).fit(scaled).predict(scaled, range(1, AGES))
    has_rate = curves.observed_age >= 1
    mean = fitted_model.predict(curves, range(1, AGES)).final.mean
    np.testing.assert_array_equal(again.final.mean[has_rate], 1024 * mean[has_rate])


def test_the_pattern_speaks_where_no_rate_is_known(
    fitted_model: GrowthLSTM, curves: Curves
) -> None:
    for rows in (
        curves.cut(0),
        replace(curves, values=curves.values * 0.0),
    ):
        forecast = fitted_model.predict(rows)
        np.testing.assert_array_equal(forecast.final.mean, forecast.pattern)
    forecast = fitted_model.predict(curves.take(curves.observed_age >= 7).cut(7))
    assert (forecast.final.mean != forecast.pattern)[forecast.is_ahead].mean() > 0.9


def test_what_explodes_is_left_to_the_pattern(fitted_model: GrowthLSTM, curves: Curves) -> None:
    wild = GrowthLSTM.from_state(*fitted_model.state())
    wild.net = constant_rate_net(100.0)
    mean = wild.predict(curves).final.mean
    assert np.isfinite(mean[wild.predict(curves).is_ahead]).all()


def test_seeds_are_repeatable_differ_and_touch_no_other(curves: Curves) -> None:
    torch.manual_seed(3)
    state_before = torch.random.get_rng_state()
    models = [GrowthLSTM(**SETTINGS | {"seed": s}).fit(curves) for s in (1, 1, 2)]
    means = [model.predict(curves, [60, 90]) for model in models]
    assert torch.equal(torch.random.get_rng_state(), state_before)
    np.testing.assert_array_equal(means[0].final.mean, means[1].final.mean)
    assert not np.array_equal(means[0].final.mean, means[2].final.mean, equal_nan=True)


def test_the_state_is_the_forecaster(fitted_model: GrowthLSTM, curves: Curves) -> None:
    values, arrays = fitted_model.state()
    again = GrowthLSTM.from_state(json.loads(json.dumps(values)), arrays)
    np.testing.assert_array_equal(
        again.predict(curves).final.mean, fitted_model.predict(curves).final.mean
    )
    assert json.dumps(again.state()[0]) == json.dumps(values)


@pytest.mark.parametrize(
    ("weeks", "date", "lack"),
    [(14, "2023-04-09", "28 cohorts, 26 of them"), (60, "2023-01-10", "2 cohorts, 0 of them")],
)
def test_too_little_data_leaves_the_pattern_alone(
    weeks: int, date: str, lack: str, caplog: pytest.LogCaptureFixture
) -> None:
    few_cohorts = weekly_history(weeks).as_of(date)
    with caplog.at_level(logging.WARNING):
        model = GrowthLSTM(**SETTINGS).fit(few_cohorts)
    assert f"too little data for growth rates ({lack} observed to D7)" in caplog.text
    assert len(caplog.records) == 1 and model.net is None
    forecast = model.predict(few_cohorts)
    np.testing.assert_array_equal(forecast.final.mean, forecast.pattern)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs, windows and batch_size >= 1 and rate > 0, got 0"),
        ({"rate": 0.0}, "rate > 0, got 1, 2000, 256 and 0.0"),
        ({"net": SETTINGS["net"] | {"units": []}}, r"units of a layer or more.*got \[\], "),
        ({"net": SETTINGS["net"] | {"dropout": 1.0}}, r"dropout in \[0, 1\), got .* and 1.0"),
    ],
)
def test_wrong_settings_are_told(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GrowthLSTM(**SETTINGS | change)
