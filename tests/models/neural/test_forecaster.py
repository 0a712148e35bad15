"""A net on the pattern: untrained it is the pattern; trained it is exact, monotone, portable."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from factories.cohorts import weekly_history, with_complete_age
from factories.configs import LSTM, LSTM_NET, arguments_of
from factories.models import make_run_context
from factories.neural import make_full_schedule, make_neural, train_for

from ltvnet.data.curves import AGES, NODES, Curves
from ltvnet.models.neural.forecaster import (
    NETS,
    NeuralForecaster,
    best_epoch,
    build_net,
    inner_origin,
)


@pytest.fixture(scope="module")
def trained_model(curves: Curves) -> NeuralForecaster:
    return make_full_schedule().fit(curves)


def test_an_untrained_net_is_the_pattern(trained_model: NeuralForecaster, curves: Curves) -> None:
    untrained = build_net(LSTM_NET, trained_model.fitted_net.scaling.input_sizes).eval()
    model = NeuralForecaster.from_state(*trained_model.state())
    model.fitted_net = replace(model.fitted_net, net=untrained)
    forecast = model.predict(curves, range(1, AGES))
    cells = forecast.is_ahead
    np.testing.assert_allclose(
        forecast.final.mean[cells], forecast.pattern[cells], rtol=1e-6, atol=0
    )


def test_training_changes_the_forecast(trained_model: NeuralForecaster, curves: Curves) -> None:
    forecast = trained_model.predict(curves)
    assert trained_model.fitted_net.net is not None
    assert np.nanmax(np.abs(forecast.final.mean / forecast.pattern - 1)) > 1e-3


def test_forecasts_are_finite_monotone_and_ordered(
    trained_model: NeuralForecaster, curves: Curves
) -> None:
    forecast = trained_model.predict(curves, range(1, AGES))
    for band in (forecast.final.mean, forecast.final.p10, forecast.final.p50, forecast.final.p90):
        assert np.isfinite(band[forecast.is_ahead]).all()
        assert (np.nan_to_num(np.diff(band, axis=1)) >= -1e-12).all()
        assert (band >= curves.observed_value[:, None])[forecast.is_ahead].all()
    p10, p50, p90 = (getattr(forecast.final, q)[forecast.is_ahead] for q in ("p10", "p50", "p90"))
    assert (p10 <= p50).all() and (p50 <= p90).all()


def test_days_between_nodes_follow_the_anchored_formula(
    trained_model: NeuralForecaster, curves: Curves
) -> None:
    """value(h) = value(l) + exp(z_j) (pattern(h) - pattern(l)) within the interval of h."""
    forecast = trained_model.predict(curves, range(1, AGES))
    row = int(np.flatnonzero(curves.observed_age == 18)[0])
    mean, pattern = forecast.final.mean[row], forecast.pattern[row]
    last = curves.observed_value[row]
    for low, high in ((18, 21), (21, 30), (300, 360)):
        ages = np.arange(low + 1, high + 1)
        begin = (last, last) if low == 18 else (mean[low - 1], pattern[low - 1])
        ratio = (mean[ages - 1] - begin[0]) / (pattern[ages - 1] - begin[1])
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)


def test_nodes_do_not_depend_on_the_ages_asked_for(
    trained_model: NeuralForecaster, curves: Curves
) -> None:
    daily = trained_model.predict(curves, range(1, AGES)).final.p90[:, np.array(NODES[1:]) - 1]
    np.testing.assert_allclose(trained_model.predict(curves).final.p90[:, 1:], daily, rtol=1e-12)


@pytest.mark.parametrize("size", [1, 7])
def test_batch_size_changes_nothing(
    trained_model: NeuralForecaster, curves: Curves, size: int
) -> None:
    all_rows = trained_model.predict(curves).final.mean
    rows = np.arange(40, 40 + size)
    some_rows = trained_model.predict(curves.take(rows)).final.mean
    np.testing.assert_allclose(some_rows, all_rows[rows], rtol=1e-5)


def test_the_state_is_the_forecaster(trained_model: NeuralForecaster, curves: Curves) -> None:
    values, arrays = trained_model.state()
    again = NeuralForecaster.from_state(json.loads(json.dumps(values)), arrays)
    np.testing.assert_array_equal(
        again.predict(curves).final.p10, trained_model.predict(curves).final.p10
    )


def test_a_restored_forecaster_says_that_it_cannot_fit(
    trained_model: NeuralForecaster, curves: Curves
) -> None:
    restored = NeuralForecaster.from_state(*trained_model.state())
    message = "restored from its state predicts, and fits no more: make a new"
    with pytest.raises(ValueError, match=message):
        restored.fit(curves)
    with pytest.raises(ValueError, match=message):
        restored.start_from(trained_model.state())


def test_an_unfitted_forecaster_says_that_it_cannot_predict(curves: Curves) -> None:
    with pytest.raises(ValueError, match=r"the net was not fitted yet: call fit\(curves\) first"):
        make_neural().predict(curves)


def test_money_in_another_unit_changes_nothing(
    curves: Curves, trained_model: NeuralForecaster
) -> None:
    scaled = replace(curves, values=curves.values * 1024)
    again = make_full_schedule().fit(scaled)
    cells = trained_model.predict(curves).is_ahead
    for quantity in ("mean", "p10", "p90"):
        cells_once = getattr(trained_model.predict(curves).final, quantity)[cells]
        cells_again = getattr(again.predict(scaled).final, quantity)[cells]
        np.testing.assert_allclose(cells_again, 1024 * cells_once, rtol=1e-6)
    np.testing.assert_allclose(
        again.predict(scaled).pattern[cells], 1024 * trained_model.predict(curves).pattern[cells]
    )


def test_seeds_are_repeatable_and_differ(curves: Curves) -> None:
    first, equal_seed, other_seed = (make_neural(seed).fit(curves) for seed in (1, 1, 2))
    means = [model.predict(curves).final.p90 for model in (first, equal_seed, other_seed)]
    np.testing.assert_array_equal(means[0], means[1])
    assert not np.array_equal(means[0], means[2], equal_nan=True)


@pytest.mark.parametrize("loss", ["deviance", "huber"])
def test_every_parameter_learns(curves: Curves, loss: str) -> None:
    """The head starts at zero, so what feeds it moves from the second step on."""
    model = make_neural(loss=loss)
    learnable = with_complete_age(curves)
    fitted = model.prepare(learnable)
    torch.manual_seed(0)
    start = build_net(LSTM_NET, fitted.scaling.input_sizes).state_dict()
    net = train_for(model, learnable, epochs=1)
    moved = {
        name: (weight != start[name]).any(dim=-1 if weight.ndim > 1 else 0).any()
        for name, weight in net.state_dict().items()
    }
    assert all(moved.values()), [name for name, change in moved.items() if not change]


def test_too_little_data_leaves_the_pattern_alone(caplog: pytest.LogCaptureFixture) -> None:
    young = weekly_history(12).as_of("2023-03-05")
    with caplog.at_level(logging.WARNING):
        model = make_neural().fit(young)
    assert "too little data for a net (18 cohorts, 8 of them observed to D30)" in caplog.text
    forecast = model.predict(young)
    np.testing.assert_array_equal(forecast.final.mean, forecast.pattern)
    again = NeuralForecaster.from_state(*model.state())
    np.testing.assert_array_equal(again.predict(young).final.mean, forecast.pattern)


def test_no_revenue_leaves_the_pattern_alone(caplog: pytest.LogCaptureFixture) -> None:
    cohorts = weekly_history(60)
    curves = replace(cohorts, values=cohorts.values * 0.0).as_of("2024-02-29")
    with caplog.at_level(logging.WARNING):
        model = make_neural().fit(curves)
    assert "too little data for a net (no revenue by D7)" in caplog.text
    assert set(model.predict(curves).reason) <= {"no_signal", "no_complete_age", "complete"}


def test_the_inner_origin_is_eight_weeks_or_a_share_of_history_ago() -> None:
    assert inner_origin(weekly_history(20).as_of("2023-05-28")) == np.datetime64("2023-04-02")
    late = weekly_history(20).as_of("2025-01-07")
    days = int((late.origin - late.end.min()).astype(int))
    assert inner_origin(late) == late.origin - np.timedelta64(round(0.15 * days), "D")


def test_a_worse_epoch_must_be_worse_beyond_chance() -> None:
    good = np.ones(16)
    noise = np.random.default_rng(0).normal(0, 1, 16)
    assert best_epoch(np.stack([good + 1, good, good + 0.5 + 0.1 * noise])) == 1
    assert best_epoch(np.stack([good + 1, good, good + 0.01 + noise - noise.mean()])) == 2
    assert best_epoch(np.stack([good, good + 1, good + 1])) == 0
    assert best_epoch(np.ones((3, 1))) == 2


def test_an_unknown_net_is_refused() -> None:
    with pytest.raises(ValueError, match=f"expected net.kind out of {', '.join(NETS)}, got 'rnn'"):
        NeuralForecaster(
            **arguments_of(LSTM) | {"net": LSTM_NET | {"kind": "rnn"}}, context=make_run_context()
        )
