"""Levels and growth move from the prior to what was seen, by volume."""

import numpy as np
import pytest

from ltvnet.data.curves import AGES
from ltvnet.models.pattern.credibility import credible_growth, credible_level, credible_ratio
from ltvnet.models.pattern.development import (
    Development,
)


def test_without_a_tilt_growth_is_credible_by_interval() -> None:
    """(actual + prior) / (expected + prior), as it was: 10 expected, 20 seen, prior 10."""
    parent = np.full((1, AGES - 1), 0.1)
    development = Development(np.zeros((1, AGES - 1)), np.zeros((1, AGES - 1)))
    development.base[0, 0] = 100.0
    development.gain[0, 0] = 20.0
    growth = credible_growth(parent, development, 100.0)
    assert growth[0, 0] == pytest.approx(0.1 * (20 + 10) / (10 + 10))
    assert growth[0, 1] == pytest.approx(0.1)


def test_credible_level_lies_between_the_prior_and_the_cohorts_own() -> None:
    prior, earned, own = np.array([10.0]), np.array([4.0]), np.array([80.0])
    assert credible_level(prior, earned, own, 0.0)[0] == pytest.approx(20.0)
    assert credible_level(prior, earned, own, 40.0)[0] == pytest.approx(10 * 120 / 80)
    assert credible_level(prior, earned, own, 1e12)[0] == pytest.approx(10.0)
    assert credible_level(prior, earned, np.array([0.0]), 40.0)[0] == pytest.approx(5.0)
    assert credible_level(np.zeros(1), earned, np.zeros(1), 0.0)[0] == 0.0


def test_a_credible_ratio_lies_between_the_prior_and_actual_over_expected() -> None:
    actual, expected = np.array([30.0, 0.0, -90.0]), np.array([10.0, 0.0, 1.0])
    assert credible_ratio(actual, expected, 10.0).tolist() == [2.0, 1.0, 0.0]
    assert credible_ratio(actual, expected, 0.0, 7.0).tolist() == [3.0, 7.0, 0.0]
