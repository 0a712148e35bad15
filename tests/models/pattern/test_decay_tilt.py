"""How steeply the revenue of a segment falls off, measured at all ages together."""

import numpy as np
import pytest
from factories.cohorts import weekly_history
from hypothesis import given
from hypothesis import strategies as st

from ltvnet.data.arrays import Floats
from ltvnet.data.curves import AGES
from ltvnet.data.segments import Segments
from ltvnet.models.pattern.credibility import credible_growth
from ltvnet.models.pattern.decay_tilt import (
    MAX_TILT,
    decay_sensitivity,
    estimate_decay_tilt,
    tilt_credibility,
    tilt_credibility_by_day,
    tilt_scores,
    tilt_weights,
)
from ltvnet.models.pattern.development import (
    Development,
    Triangle,
    cohort_development,
    ratio_of_sums,
    sum_by_interval,
)

LOG = np.log1p(np.arange(AGES))


def growth(decay: float) -> Floats:
    """Daily growth of a curve whose daily revenue falls as (1 + age)^-decay: (1, A - 1)."""
    revenue = np.exp(-decay * LOG)
    return (revenue[1:] / np.cumsum(revenue)[:-1])[None]


def segment_development(decay: float, last: int, level: float = 1e6) -> Development:
    """A segment with such a curve, observed to an age."""
    value = level * np.cumsum(np.exp(-decay * LOG))
    is_observed = np.arange(1, AGES) <= last
    return Development(
        np.where(is_observed, value[:-1], 0.0)[None], np.diff(value)[None] * is_observed
    )


@given(st.floats(0.2, 2.0))
def test_sensitivity_is_the_derivative_of_log_growth(decay: float) -> None:
    step = 1e-6
    before, after = (sum_by_interval(growth(decay + s)) for s in (-step, step))
    assert np.allclose(
        decay_sensitivity(growth(decay)), -np.log(after / before) / (2 * step), rtol=1e-5
    )


@given(st.floats(-0.45, 0.45), st.floats(0.3, 1.5))
def test_a_tilt_is_found_where_nothing_holds_it_back(theta: float, decay: float) -> None:
    sensitivity, expected = decay_sensitivity(growth(decay)), 100 * sum_by_interval(growth(decay))
    actual = expected * np.exp(theta * sensitivity)
    assert estimate_decay_tilt(actual, expected, sensitivity, 0.0)[0, 0] == pytest.approx(
        theta, abs=2e-3
    )
    assert abs(estimate_decay_tilt(actual, expected, sensitivity, 1e12)[0, 0]) < 1e-6
    assert abs(estimate_decay_tilt(100 * actual, expected, sensitivity, 0.0)[0, 0]) <= MAX_TILT


def test_a_young_segment_tells_its_late_growth_by_its_early_growth() -> None:
    """Seen to D30 only, it falls off less steeply: D360 over D30 is told within a few per cent."""
    parent = growth(1.0)
    development = segment_development(0.9, 30)
    late_growth = {
        name: np.log1p(credible_growth(parent, development, 0.0, constant))[:, 30:].sum()
        for name, constant in (("tilted", 1e-9), ("not", np.inf))
    }
    true_growth = np.log1p(growth(0.9))[:, 30:].sum()
    parent_growth = np.log1p(parent)[:, 30:].sum()
    assert late_growth["not"] == pytest.approx(parent_growth)
    error = abs(late_growth["tilted"] - true_growth)
    assert error < 0.1 * abs(parent_growth - true_growth)


def test_segments_that_differ_by_chance_only_are_not_tilted() -> None:
    rng = np.random.default_rng(0)
    top_growth = growth(1.0)
    segment = np.repeat(np.arange(10), 20)

    def constant(decays: Floats) -> float:
        cohorts = [segment_development(decay, 360, 1e3 * rng.gamma(20.0)) for decay in decays]
        development = Development(
            np.concatenate([cohort.base for cohort in cohorts]),
            np.concatenate([cohort.gain for cohort in cohorts]),
        )
        return tilt_credibility(tilt_scores(tilt_weights(top_growth), development), segment)

    noise = rng.normal(0.0, 0.1, 200)
    by_chance = [constant(1.0 + noise[rng.permutation(200)]) for _ in range(5)]
    different = constant(1.0 + 0.2 * (segment % 2) + 0.1 * noise)
    assert np.isfinite(different) and different < 0.1 * min(by_chance)

    cohort = segment_development(1.0, 360)
    three_cohorts = Development(
        np.repeat(cohort.base, 3, axis=0), np.repeat(cohort.gain, 3, axis=0)
    )
    scores = tilt_scores(tilt_weights(top_growth), three_cohorts)
    assert tilt_credibility(scores, np.zeros(3, dtype=int)) == np.inf
    assert tilt_credibility(scores, np.arange(3)) == np.inf  # a cohort each: nothing to tell by


def test_sensitivity_counts_from_the_first_revenue() -> None:
    """Where nobody pays before day 2, the revenue of day 2 is that of day 2."""

    def late(decay: float) -> Floats:
        revenue = np.where(np.arange(AGES) < 2, 0.0, np.exp(-decay * LOG))
        value = np.cumsum(revenue)[:-1]
        return np.divide(revenue[1:], value, out=np.zeros(AGES - 1), where=value > 0)[None]

    step = 1e-6
    before, after = (sum_by_interval(late(0.8 + s))[:, 2:] for s in (-step, step))
    assert np.allclose(
        decay_sensitivity(late(0.8))[:, 2:], -np.log(after / before) / (2 * step), rtol=1e-5
    )


def test_a_day_of_full_refunds_has_a_sensitivity() -> None:
    falling = growth(1.0)
    falling[0, 20] = -1.0
    assert np.isfinite(decay_sensitivity(falling)).all()


def test_the_tilt_of_a_past_day_is_that_of_its_curves() -> None:
    curves = weekly_history(60).as_of("2024-01-31")
    curves = curves.take(curves.observed_age >= 0)
    segments = Segments.from_curves(curves, None)
    segment = segments.find_deepest(curves)
    triangle = Triangle(curves, segments, segment, None)
    knowledge = triangle.past_knowledge([0, 84], 5)
    past_curves = curves.as_of(curves.origin - np.timedelta64(84, "D"))
    past_curves = past_curves.take(past_curves.observed_age >= 0)
    development = cohort_development(past_curves, past_curves.age_reached_by(5), None)
    pooled = Development(development.base.sum(axis=0)[None], development.gain.sum(axis=0)[None])
    weights = tilt_weights(ratio_of_sums(pooled))
    direct = tilt_credibility(tilt_scores(weights, development), segment[: len(past_curves)])
    assert tilt_credibility_by_day(triangle, knowledge, [0, 84])[1] == pytest.approx(
        direct, rel=1e-9
    )


def test_segments_that_share_a_parent_need_it_once() -> None:
    segments = [
        segment_development(0.8, 60),
        segment_development(1.2, 200),
        segment_development(1, 9),
    ]
    development = Development(
        np.concatenate([segment.base for segment in segments]),
        np.concatenate([segment.gain for segment in segments]),
    )
    parents = np.concatenate((growth(1.0), growth(0.7)))
    parent_index = np.array([1, 0, 1])
    once = credible_growth(parents, development, 1e5, 1e3, parent_index)
    each = credible_growth(parents[parent_index], development, 1e5, 1e3)
    np.testing.assert_array_equal(once, each)
