"""How credible a cohort's own level is: kappa, learned by forecasting again what has come true.

Shapes: N cohorts, A ages, J intervals between nodes, R rows, G kappas, W weeks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltvnet.data.arrays import Floats, Ints
from ltvnet.data.curves import NODE_AGES, Curves, is_within_week_past
from ltvnet.forecasting.evidence import within_one_standard_error
from ltvnet.models.pattern.credibility import credible_level
from ltvnet.models.pattern.development import PastKnowledge
from ltvnet.models.pattern.segment_curves import SegmentCurves

KAPPA_AGES = np.array([0, 1, 3, 7, 14, 30, 60, 120])
"""Observed ages at which kappa is learned; between them its log is linear in log(1 + age)."""

KAPPA_GRID = np.array([1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16, 64])
"""Kappas to choose from (G,), in revenue that a median cohort is expected to earn by D7."""

REPLAY_ORIGINS = 12
REPLAY_EVERY_DAYS = 28
MIN_REPLAY_COHORTS = 30
"""Past origins that kappa is learned from: how many, days apart, cohorts needed at each."""

MIN_KAPPA_WEEKS = 8
"""Acquisition weeks below which an age takes the kappa of its neighbours."""


@dataclass(frozen=True)
class KappaErrors:
    """Absolute errors of growth at one past origin and observed age, for every kappa of the grid.

    `age_index` the position in KAPPA_AGES; `start` (R,) first acquisition day; `loss` (R, G)
    users x error x step in log age, in currency.
    """

    age_index: int
    start: NDArray[np.datetime64]
    loss: Floats


def kappa_replay_days(curves: Curves) -> list[int]:
    """Return how many days ago growth is forecast, each time from what was known then.

    But for the effects of dates, which are taken out of all curves as they are known now.
    """
    days_ago = [(number + 1) * REPLAY_EVERY_DAYS for number in range(REPLAY_ORIGINS)]
    cohort_counts = (curves.observed_ages_before(days_ago) >= 0).sum(axis=1)
    pairs = zip(days_ago, cohort_counts, strict=True)
    return [days for days, count in pairs if count >= MIN_REPLAY_COHORTS]


def replay_kappa_errors(
    segment_curves: SegmentCurves,
    past_knowledge: PastKnowledge,
    curves: Curves,
    segment: Ints,
) -> Iterator[KappaErrors]:
    """Forecast cohorts that were within a week of each age, and compare with what is known now.

    `segment_curves` and `past_knowledge` as of the past origin, `curves` as of now; `segment` (N,)
    the deepest of each cohort.
    """
    node_weight = np.diff(np.log1p(NODE_AGES), prepend=0.0)
    for age_index, age in enumerate(KAPPA_AGES):
        rows = np.flatnonzero(is_within_week_past(past_knowledge.age, age))
        beta = segment_curves.beta[segment[rows]]
        users = curves.users[rows]
        value = curves.values[rows, age]
        level = credible_level(
            segment_curves.level[segment[rows]][:, None],
            (users * beta[:, age])[:, None],
            (users * value)[:, None],
            KAPPA_GRID * segment_curves.median_revenue_d7,
        )  # (R, G)

        share_of_growth = (beta[:, NODE_AGES] - beta[:, [age]])[:, None, :]
        forecast = level[:, :, None] * share_of_growth  # (R, G, J + 1)
        actual = curves.values[rows[:, None], NODE_AGES] - value[:, None]  # (R, J + 1)
        error = np.abs(actual[:, None, :] - forecast)

        is_scored = NODE_AGES > past_knowledge.age[rows, None]
        is_scored &= NODE_AGES <= curves.observed_age[rows, None]
        is_scored &= NODE_AGES <= segment_curves.last_supported_age
        weighted = np.where(is_scored[:, None, :], error * node_weight, 0.0)
        loss = weighted.sum(axis=2) * users[:, None]
        yield KappaErrors(age_index, curves.start[rows], loss)


def fit_kappas(replays: Iterator[KappaErrors]) -> Floats:
    """Choose kappa at each of KAPPA_AGES: the smallest within one standard error of the best.

    The standard error is that of the difference to the best, clustered on the acquisition week;
    ages with fewer than MIN_KAPPA_WEEKS take their neighbours' kappa, none at all 1; smoothed over
    neighbours.
    """
    by_age: dict[int, list[KappaErrors]] = {}
    for errors in replays:
        by_age.setdefault(errors.age_index, []).append(errors)

    log_kappa = np.full(len(KAPPA_AGES), np.nan)
    for age_index, age_errors in by_age.items():
        start = np.concatenate([errors.start for errors in age_errors])
        weeks, week_index = np.unique(start, return_inverse=True)
        loss = np.zeros((len(weeks), len(KAPPA_GRID)))  # (W, G)
        np.add.at(loss, week_index, np.concatenate([errors.loss for errors in age_errors]))
        if len(loss) >= MIN_KAPPA_WEEKS:
            smallest = np.argmax(within_one_standard_error(loss.T))
            log_kappa[age_index] = np.log(KAPPA_GRID[smallest])

    is_learned = np.isfinite(log_kappa)
    if not is_learned.any():
        return np.ones(len(KAPPA_AGES))
    ages = np.arange(len(log_kappa))
    filled = np.interp(ages, np.flatnonzero(is_learned), log_kappa[is_learned])
    padded = np.pad(filled, 1, mode="edge")
    smoothed: Floats = np.exp((padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4)
    return smoothed
