"""Weights of models and of the pattern, by observed age."""

import numpy as np
import pytest
from factories.matured import INTERVALS, days_far_apart, matured_forecasts

from ltvnet.correction.activation import MIN_WEEKS
from ltvnet.correction.blend import Blend, weight_grid


def test_models_are_weighed_by_hand() -> None:
    """One model is right, the other far too high: the first gets all, where it can be told."""
    true = np.ones((MIN_WEEKS, INTERVALS))
    models = np.stack((true, 3 * true))
    matured = matured_forecasts(models.mean(axis=0), true, ago=days_far_apart(MIN_WEEKS))
    learned = Blend.fit(matured, models, 5 * true)
    assert learned.weight.tolist() == [[0.5, 0.5]] * 2 + [[1.0, 0.0]] + [[0.5, 0.5]] * 5
    assert learned.is_on.tolist() == [False, False, True, *[False] * 5]  # though all sum to 1
    assert not learned.pattern_weight.any()
    mixed = learned.apply(models[:, :2], 5 * true[:2], np.array([7, 30]))
    assert mixed[:, 0].tolist() == [1.0, 2.0]


def test_weights_are_all_quarters() -> None:
    assert weight_grid(1).tolist() == [[0.0], [0.25], [0.5], [0.75], [1.0]]
    assert weight_grid(2)[:6].tolist() == [[0, i / 4] for i in range(5)] + [[0.25, 0]]
    three = weight_grid(3)
    assert len(three) == 35 == len(np.unique(three, axis=0))  # 7 choose 3
    assert (three >= 0).all() and (three.sum(axis=1) <= 1).all()
    assert len(weight_grid(8)) == 495  # 12 choose 4


@pytest.mark.parametrize("models", range(1, 9))
def test_equal_weights_are_off(models: int) -> None:
    assert not Blend.equal(models).is_on.any()
    assert np.abs(Blend.equal(models).pattern_weight).max() < 1e-15


def test_blend_by_hand() -> None:
    """The pattern is right half the time by as much as the model is wrong: a mean of both wins."""
    true = np.ones((MIN_WEEKS, INTERVALS))
    matured = matured_forecasts(1.5 * true, true, ago=days_far_apart(MIN_WEEKS))
    models = matured.forecast_growth[None]
    learned = Blend.fit(matured, models, 0.5 * matured.forecast_growth / 1.5)
    assert learned.pattern_weight.tolist() == [0.0, 0.0, 0.5, *[0.0] * 5]
    assert learned.is_on.tolist() == [False, False, True, *[False] * 5]
    observed = np.array([7, 30])
    mixed = learned.apply(np.full((1, 2, INTERVALS), 4.0), np.full((2, INTERVALS), 2.0), observed)
    assert mixed[:, 0].tolist() == [3.0, 4.0]
    assert Blend.fit(matured, models, matured.actual_growth).weight[2] == 0.0
    assert Blend.fit(matured, models, 3 * matured.actual_growth).weight[2] == 1.0
