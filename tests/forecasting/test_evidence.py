"""Data enough to learn from, and candidates that are clearly worse than the best."""

from dataclasses import replace

import numpy as np
import pytest
from factories.cohorts import weekly_history

from ltvnet.forecasting.evidence import (
    COHORTS_OF_HALF_CONFIDENCE,
    confidence,
    frequent_categories,
    has_unseen_category,
    why_insufficient,
    within_one_standard_error,
)


def test_a_candidate_is_worse_when_it_loses_by_more_than_chance() -> None:
    noise = np.array([1.0, -1.0, 1.0, -1.0])
    best = np.full(4, 2.0)
    loss = np.stack((best + 1.0, best, best + 0.1 + noise))
    assert within_one_standard_error(loss).tolist() == [False, True, True]


def test_one_cluster_tells_no_error() -> None:
    assert within_one_standard_error(np.array([[3.0], [1.0]])).tolist() == [True, True]


def test_as_many_mature_cohorts_as_the_constant_give_half_confidence() -> None:
    curves = weekly_history(COHORTS_OF_HALF_CONFIDENCE, ("a",)).as_of("2026-01-01")
    assert confidence(curves) == 0.5


def test_too_few_cohorts_are_said_to_be_too_few() -> None:
    curves = weekly_history(20, ("a",)).as_of("2026-01-01")
    assert why_insufficient(curves, 1.0) == "20 cohorts, 20 of them observed to D30"
    curves = weekly_history(30, ("a",)).as_of("2026-01-01")
    assert why_insufficient(curves, 1.0) == ""
    assert why_insufficient(curves, 0.0) == "no revenue by D7"


@pytest.mark.parametrize(("min_cohorts", "apps"), [(3, ["a", "b"]), (4, [])])
def test_categories_count_cohorts(min_cohorts: int, apps: list[str]) -> None:
    curves = weekly_history(3, ("b", "a")).as_of("2026-01-01")
    assert frequent_categories(curves, min_cohorts) == {"Apps": apps}


def test_a_category_is_unseen_where_training_lacked_it_or_the_column_is_gone() -> None:
    curves = weekly_history(1, ("a", "b")).as_of("2026-01-01")
    assert has_unseen_category(curves, {"Apps": ["a"]}).tolist() == [False, True]
    without = replace(curves.take(np.arange(1)), attributes={}, hierarchy=())
    assert has_unseen_category(without, {"Apps": ["a", "b"]}).all()
