"""How steeply the revenue of a segment falls off, measured at all ages together."""

from dataclasses import replace

import numpy as np
import pytest
from cohorts import weekly
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
    share_earned,
    sum_by_interval,
)

LOG = np.log1p(np.arange(AGES))


def growth(decay: float) -> Floats:
    """Daily growth of a curve whose daily revenue falls as (1 + age)^-decay: (1, A - 1)."""
    revenue = np.exp(-decay * LOG)
    return (revenue[1:] / np.cumsum(revenue)[:-1])[None]


def developed(decay: float, last: int, level: float = 1e6) -> Development:
    """A segment with such a curve, observed to an age."""
    value = level * np.cumsum(np.exp(-decay * LOG))
    known = np.arange(1, AGES) <= last
    return Development(np.where(known, value[:-1], 0.0)[None], np.diff(value)[None] * known)


@given(st.floats(0.2, 2.0))
def test_lean_is_the_derivative_of_log_growth(decay: float) -> None:
    step = 1e-6
    before, after = (sum_by_interval(growth(decay + s)) for s in (-step, step))
    assert np.allclose(
        decay_sensitivity(growth(decay)), -np.log(after / before) / (2 * step), rtol=1e-5
    )


@given(st.floats(-0.45, 0.45), st.floats(0.3, 1.5))
def test_a_tilt_is_found_where_nothing_holds_it_back(theta: float, decay: float) -> None:
    leans, expected = decay_sensitivity(growth(decay)), 100 * sum_by_interval(growth(decay))
    actual = expected * np.exp(theta * leans)
    assert estimate_decay_tilt(actual, expected, leans, 0.0)[0, 0] == pytest.approx(theta, abs=2e-3)
    assert abs(estimate_decay_tilt(actual, expected, leans, 1e12)[0, 0]) < 1e-6
    assert abs(estimate_decay_tilt(100 * actual, expected, leans, 0.0)[0, 0]) <= MAX_TILT


def test_a_young_segment_tells_its_late_growth_by_its_early_growth() -> None:
    """Seen to D30 only, it falls off less steeply: D360 over D30 is told within a few per cent."""
    parent, truth, own = growth(1.0), growth(0.9), developed(0.9, 30)
    told = {
        name: np.log1p(credible_growth(parent, own, 0.0, constant))[:, 30:].sum()
        for name, constant in (("tilted", 1e-9), ("not", np.inf))
    }
    right, flat = np.log1p(truth)[:, 30:].sum(), np.log1p(parent)[:, 30:].sum()
    assert told["not"] == pytest.approx(flat)
    assert abs(told["tilted"] - right) < 0.1 * abs(flat - right)


def test_segments_that_differ_by_chance_only_are_not_tilted() -> None:
    rng = np.random.default_rng(0)
    top, found = growth(1.0), np.repeat(np.arange(10), 20)

    def constant(decays: Floats) -> float:
        cohorts = [developed(decay, 360, 1e3 * rng.gamma(20.0)) for decay in decays]
        own = Development(*(np.concatenate([getattr(c, x) for c in cohorts])
                            for x in ("base", "gain")))  # fmt: skip
        return tilt_credibility(tilt_scores(tilt_weights(top), own), found)

    noise = rng.normal(0.0, 0.1, 200)
    alike = [constant(1.0 + noise[rng.permutation(200)]) for _ in range(5)]
    apart = constant(1.0 + 0.2 * (found % 2) + 0.1 * noise)
    assert np.isfinite(apart) and apart < 0.1 * min(alike)
    one = Development(*(np.repeat(x, 3, axis=0) for x in vars(developed(1.0, 360)).values()))
    told = tilt_scores(tilt_weights(top), one)
    assert tilt_credibility(told, np.zeros(3, dtype=int)) == np.inf
    assert tilt_credibility(told, np.arange(3)) == np.inf  # a cohort each: nothing to tell by


def test_without_a_tilt_growth_is_credible_by_interval() -> None:
    """(actual + prior) / (expected + prior), as it was: 10 expected, 20 seen, prior 10."""
    parent = np.full((1, AGES - 1), 0.1)
    own = Development(np.zeros((1, AGES - 1)), np.zeros((1, AGES - 1)))
    own.base[0, 0], own.gain[0, 0] = 100.0, 20.0
    found = credible_growth(parent, own, 100.0)
    assert found[0, 0] == pytest.approx(0.1 * (20 + 10) / (10 + 10))
    assert found[0, 1] == pytest.approx(0.1)


def test_lean_counts_from_the_first_revenue() -> None:
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


def test_a_day_of_full_refunds_has_a_lean() -> None:
    falling = growth(1.0)
    falling[0, 20] = -1.0
    assert np.isfinite(decay_sensitivity(falling)).all()


@pytest.mark.parametrize("half_life", [None, 60.0])
def test_what_stood_on_past_days_is_what_curves_of_these_days_show(half_life: float | None) -> None:
    """Sums, reach and first age, each day cut by `as_of`; one segment earned nothing."""
    known = weekly(60, ("a", "b", "c"))
    values = np.where((known.attributes["Apps"] == "c")[:, None], 0.0, known.values)
    curves = replace(known, values=values).as_of("2024-01-31")
    curves = curves.take(curves.observed_age >= 0)
    segments = Segments.from_curves(curves, None)
    triangle = Triangle(curves, segments, segments.find_deepest(curves), half_life)
    ago = [0, 28, 200]
    for days, standing in zip(ago, triangle.past_knowledge(ago, 5), strict=True):
        then = curves.as_of(curves.origin - np.timedelta64(days, "D"))
        then = then.take(then.observed_age >= 0)
        own = cohort_development(then, then.age_reached_by(5), half_life)
        found = segments.find_deepest(then)
        assert (
            standing.last_supported_age == then.age_reached_by(5)
            and standing.first_revenue_age == 0
        )
        assert standing.age[: len(then)].tolist() == then.observed_age.tolist()
        assert (standing.age[len(then) :] == -1).all()
        for name in ("base", "gain"):
            made, direct = (
                getattr(standing.sums, name),
                segments.subtotals(getattr(own, name), found),
            )
            np.testing.assert_allclose(made, direct, rtol=1e-12)
        assert not standing.sums.base[3].any()


def test_the_tilt_of_a_past_day_is_that_of_its_curves() -> None:
    curves = weekly(60).as_of("2024-01-31")
    curves = curves.take(curves.observed_age >= 0)
    segments = Segments.from_curves(curves, None)
    found = segments.find_deepest(curves)
    triangle = Triangle(curves, segments, found, None)
    standings = triangle.past_knowledge([0, 84], 5)
    then = curves.as_of(curves.origin - np.timedelta64(84, "D"))
    then = then.take(then.observed_age >= 0)
    own = cohort_development(then, then.age_reached_by(5), None)
    pooled = Development(own.base.sum(axis=0)[None], own.gain.sum(axis=0)[None])
    weights = tilt_weights(ratio_of_sums(pooled))
    direct = tilt_credibility(tilt_scores(weights, own), found[: len(then)])
    assert tilt_credibility_by_day(triangle, standings, [0, 84])[1] == pytest.approx(
        direct, rel=1e-9
    )


def test_segments_that_share_a_parent_need_it_once() -> None:
    own = Development(*(np.concatenate(x) for x in zip(
        *(vars(developed(decay, last)).values() for decay, last in ((0.8, 60), (1.2, 200), (1, 9))),
        strict=True)))  # fmt: skip
    parents, whose = np.concatenate((growth(1.0), growth(0.7))), np.array([1, 0, 1])
    once = credible_growth(parents, own, 1e5, 1e3, whose)
    np.testing.assert_array_equal(once, credible_growth(parents[whose], own, 1e5, 1e3))


def test_the_share_earned_begins_with_the_first_revenue_and_never_falls() -> None:
    """Nothing by day 1, then 1, 2, a refund to 1.5, 3: over the last."""
    daily = np.zeros((1, AGES - 1))
    daily[0, :5] = [7.0, 7.0, 1.0, -0.25, 1.0]
    share = share_earned(daily, 2)[0]
    assert share[:6].tolist() == pytest.approx([0, 0, 1 / 3, 2 / 3, 2 / 3, 1])
    assert (share[5:] == 1).all() and daily[0, 0] == 7.0
