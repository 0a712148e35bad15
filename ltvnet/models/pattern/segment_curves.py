"""Expected curves of segments: credible growth and a credible level, as of today and of past days.

Shapes: N cohorts, A ages, S segments, R rows, D past days.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ltvnet.data.arrays import Floats, Ints
from ltvnet.data.segments import Segments
from ltvnet.models.pattern.credibility import credible_growth, credible_level
from ltvnet.models.pattern.decay_tilt import tilt_credibility_by_day
from ltvnet.models.pattern.development import (
    PastKnowledge,
    Triangle,
    extend_by_inverse_power,
    ratio_of_sums,
    share_earned,
)
from ltvnet.models.pattern.pattern_config import PatternConfig, Tail

UNIT_AGE = 7
"""Age by which a median cohort earns the revenue in which credibility is counted."""


@dataclass(frozen=True)
class SegmentCurves:
    """Expected curve of each segment as of a day: level(s) x beta(s, age).

    `last_supported_age` the last age that enough cohorts reached, `first_revenue_age` the first
    with revenue, `median_revenue_d7` revenue (currency) that a median cohort is expected to earn
    by D7, `tilt_constant` that of `decay_tilt.estimate_decay_tilt`, `beta` (S, A) proportion
    earned by age, `level` (S,) value per user at the last age.
    """

    segments: Segments
    last_supported_age: int
    first_revenue_age: int
    median_revenue_d7: float
    tilt_constant: float
    beta: Floats
    level: Floats


def earned_by_segment(lineage: Sequence[Ints], beta: Floats, users: Floats, age: Ints) -> Floats:
    """Add up users x proportion earned at an age, (N,) each, over each segment: (S,).

    `lineage` the segments of the cohorts at every level.
    """
    earned = np.zeros(len(beta))
    for segment in lineage:
        earned += np.bincount(segment, users * beta[segment, age], len(beta))
    return earned


def shape_of_growth(
    growth: Floats, tail: Tail, last_supported_age: int, first_revenue_age: int
) -> Floats:
    """Return the proportion earned by age (R, A) under daily growth (R, A - 1) and its tail."""
    if tail == "inverse_power":
        growth = extend_by_inverse_power(growth, last_supported_age)
    return share_earned(growth, first_revenue_age)


def estimate_segment_curves(
    config: PatternConfig,
    triangle: Triangle,
    knowledge: Sequence[PastKnowledge],
    days_ago: Sequence[int],
) -> list[SegmentCurves]:
    """Estimate the curves of segments as of each of the days, from what was known then."""
    tilt_constants = [np.inf] * len(days_ago)
    if config.tilt:
        tilt_constants = tilt_credibility_by_day(triangle, knowledge, days_ago)
    lineage = triangle.segments.lineage(triangle.segment)
    return [
        _estimate_as_of_day(config, triangle, lineage, known, tilt_constant)
        for known, tilt_constant in zip(knowledge, tilt_constants, strict=True)
    ]


def _estimate_as_of_day(
    config: PatternConfig,
    triangle: Triangle,
    lineage: Sequence[Ints],
    known: PastKnowledge,
    tilt_constant: float,
) -> SegmentCurves:
    """Estimate the curves of segments from the top level down, each shrunk to its parent."""
    segments = triangle.segments
    ages = known.last_supported_age, known.first_revenue_age
    growth = ratio_of_sums(known.sums)

    # The top level, and the revenue of a median cohort in which credibility is counted.
    k = np.maximum(known.age, 0)
    has_begun = known.age >= 0
    users = np.where(has_begun, triangle.curves.users, 0.0)
    value = triangle.curves.values[np.arange(len(k)), k]
    revenue = segments.subtotals(users * value, triangle.segment)  # (S,)
    top_beta = shape_of_growth(growth[:1], config.tail, *ages)[0]
    top_earned = (users * top_beta[k]).sum()
    top_level = max(revenue[0] / top_earned, 0.0) if top_earned > 0 else 0.0
    unit_share = top_beta[max(UNIT_AGE, known.first_revenue_age)]
    unit = float(np.median(users[has_begun]) * top_level * unit_share)

    # Growth of the levels below, each shrunk to the one above.
    for rows in segments.lower_levels():
        parents, parent_index = np.unique(segments.parent[rows], return_inverse=True)
        growth[rows] = credible_growth(
            growth[parents],
            known.sums[rows],
            config.credibility * unit,
            tilt_constant,
            parent_index,
        )
    beta = shape_of_growth(growth, config.tail, *ages)

    # Levels likewise.
    earned = earned_by_segment(lineage, beta, users, k)
    level = np.full(len(growth), top_level)
    for rows in segments.lower_levels():
        parent_level = level[segments.parent[rows]]
        level_constant = config.level_credibility * unit
        level[rows] = credible_level(parent_level, earned[rows], revenue[rows], level_constant)
    return SegmentCurves(segments, *ages, unit, tilt_constant, beta, level)
