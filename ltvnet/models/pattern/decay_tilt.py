"""Decay tilt: how much less steeply than its parent's the revenue of a segment falls off with age.

One exponent for all ages of a segment, so that late growth of a young segment is told by its
early growth.

Shapes: N cohorts, A ages, J intervals between nodes, R rows, D past days.
"""

from collections.abc import Sequence

import numpy as np

from ltvnet.data.arrays import Floats, Ints, block_slices
from ltvnet.data.curves import AGES
from ltvnet.models.pattern.development import (
    INTERVAL_OF_STEP,
    Development,
    PastKnowledge,
    Triangle,
    cohort_development,
    ratio_of_sums,
    sum_by_interval,
)

LOG_AGE = np.log1p(np.arange(AGES))

NEWTON_ROUNDS = 4
"""Steps of Newton's method."""

MAX_TILT = 0.5
"""Largest exponent of a segment's tilt from its parent."""

LEVEL_SHARE = 0.5
"""Part of the variance between the deepest segments' tilts that each level is given: chosen on
simulated portfolios, where twice as much did as well."""


def decay_sensitivity(growth: Floats) -> Floats:
    """Return how much log growth of each interval falls as the exponent of decay rises: (R, J).

    `growth` (R, A - 1) of each daily step. Revenue that falls as (1 + age)^-c more than it did
    grows by exp(-c x sensitivity) as much: the log of 1 + age, less its mean over the revenue
    earned before, to first order in c.
    """
    first_revenue_age = np.argmax(growth > 0, axis=1)
    earned = np.empty_like(growth)  # by the beginning of each step, over the first revenue
    earned[:, 0] = 1.0
    np.add(growth[:, :-1], 1.0, out=earned[:, 1:])
    np.cumprod(earned, axis=1, out=earned)

    mean_log_age = np.empty_like(growth)  # of the revenue earned before each step
    mean_log_age[:, 0] = LOG_AGE[first_revenue_age]
    np.subtract(earned[:, 1:], earned[:, :-1], out=mean_log_age[:, 1:])
    mean_log_age[:, 1:] *= LOG_AGE[1:-1]
    np.cumsum(mean_log_age, axis=1, out=mean_log_age)
    is_refunded = earned <= 0
    if is_refunded.any():
        earned[is_refunded] = 1.0
        mean_log_age[is_refunded] = 0.0
    mean_log_age /= earned

    weighted = np.subtract(LOG_AGE[1:], mean_log_age, out=mean_log_age)
    weighted *= growth
    interval_growth = sum_by_interval(growth)
    interval_weighted = sum_by_interval(weighted)
    out = np.zeros_like(interval_growth)
    return np.divide(interval_weighted, interval_growth, out=out, where=interval_growth > 0)


def estimate_decay_tilt(
    actual: Floats, expected: Floats, sensitivity: Floats, constant: float
) -> Floats:
    """Estimate how much less steeply than expected revenue fell, as an exponent: (R, 1).

    The maximum a posteriori of a Poisson log-linear model of growth in intervals (R, J), by
    Newton's method, within MAX_TILT; `constant` (currency) over the variance of the exponent: the
    dispersion.
    """
    tilt = np.zeros((len(expected), 1))
    for _ in range(NEWTON_ROUNDS):
        tilted = expected * np.exp(tilt * sensitivity)
        score = ((actual - tilted) * sensitivity).sum(axis=1, keepdims=True) - constant * tilt
        information = (tilted * sensitivity**2).sum(axis=1, keepdims=True) + constant
        step = np.divide(score, information, out=np.zeros_like(score), where=information > 0)
        tilt = np.clip(tilt + step, -MAX_TILT, MAX_TILT)
    return tilt


def tilt_weights(growth: Floats) -> Floats:
    """Return what `tilt_scores` weighs base (twice) and gain by: (3, A - 1).

    `growth` (1, A - 1) of each daily step.
    """
    sensitivity = decay_sensitivity(growth)[:, INTERVAL_OF_STEP]
    return np.concatenate((growth * sensitivity, growth * sensitivity**2, sensitivity))


def tilt_scores(weights: Floats, development: Development) -> Floats:
    """Return the derivative of the likelihood of cohorts by their tilt, and information: (N, 2)."""
    scores: Floats = development.base @ weights[:2].T
    scores[:, 0] = development.gain @ weights[2] - scores[:, 0]
    return scores


def tilt_credibility(scores: Floats, segment: Ints) -> float:
    """Return how much revenue (currency) a tilt needs to be credible: `constant` of an estimate.

    The dispersion of growth over the variance between segments of their tilt. `scores` (N, 2) of
    `tilt_scores`, `segment` (N,) of each cohort. By moments (Buhlmann and Straub 1970): cohorts
    about their segment tell the dispersion, segments about all the variance, of which each level
    of the hierarchy has LEVEL_SHARE. Infinite, so that nothing is tilted, where segments differ by
    no more than chance or there is only one.
    """
    score, volume = scores.T
    segment_score = np.bincount(segment, score)
    segment_volume = np.bincount(segment, volume)
    out = np.zeros_like(segment_score)
    segment_mean = np.divide(segment_score, segment_volume, out=out, where=segment_volume > 0)

    cohort_count = (volume > 0).sum()
    segment_count = (segment_volume > 0).sum()
    free = cohort_count - segment_count
    if free < 1 or segment_count < 2:
        return np.inf

    residual = score - segment_mean[segment] * volume
    squared = (residual**2).sum() * cohort_count / free
    dispersion = squared / segment_volume.sum()
    between = (segment_score**2).sum() - dispersion * segment_volume.sum()
    if between <= 0:
        return np.inf
    return float(dispersion * (segment_volume**2).sum() / between / LEVEL_SHARE)


def tilt_credibility_by_day(
    triangle: Triangle, knowledge: Sequence[PastKnowledge], days_ago: Sequence[int]
) -> list[float]:
    """Return `tilt_credibility` as of each past day."""
    top = np.array([0])
    weights = [tilt_weights(ratio_of_sums(known.sums[top])) for known in knowledge]
    scores = np.zeros((len(knowledge), len(triangle.segment), 2))
    for block in block_slices(len(triangle.segment)):
        development = cohort_development(triangle.curves, AGES - 1, triangle.half_life, block)
        for day, known in enumerate(knowledge):
            last_age = np.minimum(known.age[block], known.last_supported_age)
            age_of_all = max(last_age.min(), 0)  # every cohort of the block had reached it
            age_of_any = max(last_age.max(), 0)
            complete = development.steps(0, age_of_all)
            ragged = development.steps_up_to(age_of_all, age_of_any, last_age)
            scores[day, block] = tilt_scores(weights[day][:, :age_of_all], complete)
            scores[day, block] += tilt_scores(weights[day][:, age_of_all:age_of_any], ragged)

    if triangle.half_life is not None:
        scores *= 2.0 ** (np.array(days_ago) / triangle.half_life)[:, None, None]
    return [tilt_credibility(day_scores, triangle.segment) for day_scores in scores]
