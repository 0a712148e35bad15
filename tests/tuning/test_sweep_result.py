"""The course of a sweep: which trials may be the best, and the best so far."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ltvnet.tuning.sweep_result import SweepResult
from ltvnet.tuning.trials import COMPLETE, FAILED, PRUNED, FinishedTrial


def make_trial(
    number: int,
    score: float,
    *,
    state: str = COMPLETE,
    allowed: bool = True,
    default: bool = False,
) -> FinishedTrial:
    fields: dict[str, Any] = {
        "number": number,
        "state": state,
        "values": {},
        "default": default,
        "score": score,
        "bias": {},
        "allowed": allowed,
        "seconds": 1.0,
        "took": 1.0,
        "days": 3,
        "error": "",
    }
    return FinishedTrial(**fields)


def make_result(trials: Sequence[FinishedTrial]) -> SweepResult:
    task: Any = None
    return SweepResult("lstm", task, trials, importances={}, pareto=False, overrides=[])


def test_the_best_so_far_never_rises() -> None:
    course = make_result(
        [
            make_trial(0, 0.3, allowed=False, default=True),
            make_trial(1, 0.4),
            make_trial(2, 0.1, state=PRUNED),
            make_trial(3, 0.2),
            make_trial(4, 0.05, allowed=False),
            make_trial(5, np.nan, state=FAILED),
            make_trial(6, 0.25),
        ]
    ).course
    assert course.numbers == [0, 1, 3, 6]  # the default may be biased, others may not
    assert course.scores.tolist() == [0.3, 0.4, 0.2, 0.25]
    assert course.best_so_far.tolist() == [0.3, 0.3, 0.2, 0.2]
    assert course.pruned_numbers == [2]


def test_where_none_is_allowed_the_best_stands_alone() -> None:
    result = make_result([make_trial(0, 0.4, allowed=False), make_trial(1, 0.3, allowed=False)])
    assert result.course.numbers == [result.best_trial.number] == [1]
    assert result.course.best_so_far.tolist() == [0.3]
