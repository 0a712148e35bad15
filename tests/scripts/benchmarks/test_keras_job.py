"""The growth-rate LSTM beside Keras: what both are given, and what is made of the clocks."""

import numpy as np
import pytest
import torch
from factories.cohorts import weekly_history
from factories.configs import GROWTH_LSTM
from keras_job import (
    compare_costs,
    largest_cohorts,
    seconds_to_error,
    split_windows,
    time_table,
    validation_error,
)

from ltvnet.data.curves import Curves
from ltvnet.models.baselines.growth_lstm import GrowthLSTM, training_windows

SETTINGS = {"seed": 0} | {key: value for key, value in GROWTH_LSTM.items() if key != "name"}


@pytest.fixture(scope="module")
def curves() -> Curves:
    return weekly_history(60).as_of("2024-02-29")


def test_the_largest_of_those_old_enough(curves: Curves) -> None:
    found = largest_cohorts(curves, 20, 37)
    old = curves.users[curves.observed_age >= 37]
    assert len(found) == 20 and found.observed_age.min() >= 37
    np.testing.assert_array_equal(np.sort(found.users), np.sort(old)[-20:])
    with pytest.raises(ValueError, match="expected 1000 cohorts observed to D37, got "):
        largest_cohorts(curves, 1000, 37)


def test_a_split_holds_a_share_out_of_so_many_windows(curves: Curves) -> None:
    drawn = split_windows(curves, 500, 0.1, seed=0)
    assert drawn.x.shape == (450, 7) and drawn.x_held.shape == (50, 7)
    x, y = training_windows(curves.values, curves.observed_age)
    known = set(map(tuple, np.column_stack((x, y))))
    parts = [(drawn.x, drawn.y), (drawn.x_held, drawn.y_held)]
    given = [tuple(row) for part in parts for row in np.column_stack(part)]
    assert known.issuperset(given)
    with pytest.raises(ValueError, match=f"expected 1000000 windows, got {len(y)}"):
        split_windows(curves, 1_000_000, 0.1, seed=0)


def test_the_error_is_that_of_the_net_without_dropout(curves: Curves) -> None:
    """A net of zero weights says softplus(0) = log 2 units; it goes on in training mode."""
    drawn = split_windows(curves, 500, 0.1, seed=0)
    net = GrowthLSTM(**SETTINGS).train_net(drawn.x, drawn.y).net
    assert net is not None
    with torch.no_grad():
        for weight in net.parameters():
            weight.zero_()
    expected = np.square(np.log(2) * net.unit - drawn.y_held).mean()
    assert validation_error(net, drawn) == pytest.approx(expected, rel=1e-5)
    assert net.training


def test_an_error_is_reached_or_not(curves: Curves) -> None:
    drawn = split_windows(curves, 500, 0.1, seed=0)
    model = GrowthLSTM(**SETTINGS)
    assert 0 < seconds_to_error(model, drawn, np.inf) < np.inf
    assert seconds_to_error(model, drawn, 0.0) == np.inf


def test_both_tables_take_time(curves: Curves) -> None:
    fitted = GrowthLSTM(**SETTINGS).fit(curves)
    assert min(time_table(fitted, curves.take(curves.observed_age >= 37).cut(7), 30)) > 0


def test_lines_by_hand() -> None:
    """Keras: 3 epochs of 3 s, the last error first met after 2; a table of 600 calls of 10 ms."""
    theirs = {"seconds": [2.0, 3.0, 9.0], "errors": [0.9, 0.4, 0.5], "calls": [0.01, 0.01, 9.0]}
    lines = compare_costs(theirs, [0.5, 0.3, np.inf], [(0.001, 0.01)] * 3, 600)
    found = {line.what: (line.value, line.meets_target) for line in lines}
    assert found["Keras, until it first had that error, after 2"] == (6.0, None)
    assert found["growth_lstm sooner than 3 epochs of Keras"] == (18.0, False)
    assert found["growth_lstm sooner than Keras first"] == (12.0, None)
    assert found["growth_lstm, table faster"] == (pytest.approx(6000), True)
    assert found["growth_lstm, all of predict, faster"][0] == pytest.approx(600)
