"""The pattern is the chain ladder where it must be, and credible where it may be."""

from dataclasses import replace

import numpy as np
import pytest
from factories.cohorts import curve, history, weekly_history
from factories.patterns import make_chain_ladder, make_pattern
from factories.triangles import GENINS, GENINS_RESERVES, RAA, RAA_ULTIMATES, triangle
from hypothesis import given, settings
from hypothesis import strategies as st

from ltvnet.data.arrays import Floats
from ltvnet.data.curves import AGES, NODES, Curves
from ltvnet.models.pattern.kappa_selection import (
    KAPPA_AGES,
)
from ltvnet.models.pattern.pattern import Pattern

# Published run-off triangles: Mack (1994), and Taylor and Ashe (1983).


def ultimate(pattern: Pattern, curves: Curves, age: int = 9) -> Floats:
    forecast = pattern.fit(curves).predict(curves, [age])
    return np.where(forecast.is_ahead[:, 0], forecast.final.mean[:, 0], curves.observed_value)


def test_chain_ladder_is_exact_on_raa() -> None:
    curves = triangle(RAA)
    pattern = make_chain_ladder()
    np.testing.assert_allclose(ultimate(pattern, curves), RAA_ULTIMATES, rtol=1e-6)
    factors = (
        pattern.fitted_pattern.segment_curves.beta[0, 1:10]
        / pattern.fitted_pattern.segment_curves.beta[0, :9]
    )
    published = [2.999359, 1.623523, 1.270888, 1.171675, 1.113385, 1.041935, 1.033264, 1.016936]
    np.testing.assert_allclose(factors[:8], published, atol=6e-7)


def test_chain_ladder_is_exact_on_taylor_ashe() -> None:
    curves = triangle(GENINS)
    reserves = ultimate(make_chain_ladder(), curves) - curves.observed_value
    np.testing.assert_allclose(reserves, GENINS_RESERVES, atol=0.006)
    assert reserves.sum() == pytest.approx(18_680_855.61, abs=0.02)


@pytest.mark.parametrize(("rows", "published"), [(RAA, 1.10148212), (GENINS, 1.29243031)])
def test_inverse_power_tail_is_the_published_one(rows: list[list[int]], published: float) -> None:
    pattern = make_chain_ladder(tail="inverse_power").fit(triangle(rows))
    beta = pattern.fitted_pattern.segment_curves.beta[0]
    assert beta[109] / beta[9] == pytest.approx(published, rel=1e-7)


def test_cape_cod_level_is_the_published_one() -> None:
    pattern = make_chain_ladder().fit(triangle(RAA))
    assert pattern.fitted_pattern.segment_curves.level[0] == pytest.approx(22_010.289, abs=1e-3)
    pattern = make_chain_ladder().fit(triangle(GENINS))
    assert pattern.fitted_pattern.segment_curves.level[0] == pytest.approx(5_182_801.859, abs=1e-3)


def test_an_infinite_kappa_is_cape_cod() -> None:
    curves = triangle(RAA)
    pattern = make_chain_ladder(kappa=1e15)
    reserve = ultimate(pattern, curves) - curves.observed_value
    assert reserve.sum() == pytest.approx(59_115.891, abs=0.01)  # IBNR by Cape Cod


@given(st.lists(st.floats(0.1, 50), min_size=6, max_size=12), st.floats(0.1, 1.5))
@settings(max_examples=25, deadline=None)
def test_proportional_curves_are_forecast_exactly(levels: list[float], power: float) -> None:
    rows = [
        (
            f"2023-{m + 1:02}-01",
            f"2023-{m + 1:02}-07",
            {"Apps": "ab"[m % 2]},
            10.0 + m,
            curve(360, level, power),
        )
        for m, level in enumerate(levels)
    ]
    past = history(rows, hierarchy=("Apps",))
    curves = past.as_of("2024-02-20")
    pattern = make_pattern(kappa=0.0, min_cohorts=1).fit(curves)
    forecast = pattern.predict(curves)
    actual = past.actuals("2030-01-01")[list(NODES)].to_numpy()
    np.testing.assert_allclose(
        forecast.final.mean[forecast.is_ahead], actual[forecast.is_ahead], rtol=1e-9
    )


def test_segments_that_grow_like_their_parent_keep_its_factors() -> None:
    curves = weekly_history(40, ("a", "b"), noise=0.05).as_of("2023-12-31")
    pooled = make_pattern(levels=0).fit(curves)
    shrunk = make_pattern(credibility=1e12).fit(curves)
    for beta in shrunk.fitted_pattern.segment_curves.beta:
        np.testing.assert_allclose(beta, pooled.fitted_pattern.segment_curves.beta[0], rtol=1e-6)


def test_segments_of_different_shape_are_told_apart() -> None:
    curves = weekly_history(60, ("a", "b"), noise=0.05).as_of("2024-06-01")
    beta = make_pattern().estimate(curves).segment_curves.beta
    assert beta[1, 7] > beta[0, 7] > beta[2, 7]  # (1 + a)^0.3 earns earlier than (1 + a)^0.4
    true = (8 / 361) ** np.array([0.3, 0.4])
    np.testing.assert_allclose(beta[1:, 7], true, rtol=0.08)


def test_zero_so_far_is_forecast_above_zero() -> None:
    past = weekly_history(40)
    values = past.values.copy()
    values[-2:, :3] = 0.0
    curves = replace(past, values=values).as_of(past.start[-1] + 8)
    forecast = make_pattern().fit(curves).predict(curves)
    assert forecast.reason[-1] == "zero_revenue_so_far"
    assert (forecast.final.mean[-1, forecast.is_ahead[-1]] > 0).all()


def test_no_revenue_at_all_is_no_signal() -> None:
    past = weekly_history(12)
    curves = replace(past, values=past.values * 0).as_of("2023-03-20")
    forecast = make_pattern().fit(curves).predict(curves)
    assert set(forecast.reason) == {"no_signal", "no_complete_age"}
    assert (forecast.final.mean[forecast.is_ahead] == 0).all()


def test_revenue_that_begins_late_is_forecast_from_nothing() -> None:
    """A trial of seven days: no revenue at first, so growth has no ratio; the level carries it."""
    past = weekly_history(60)
    late = np.where(np.arange(AGES) < 7, 0.0, past.values)
    curves = replace(past, values=late).as_of("2024-03-01")
    pattern = make_pattern().fit(curves)
    assert pattern.fitted_pattern.segment_curves.first_revenue_age == 7
    forecast = pattern.predict(curves)
    young = (curves.observed_age >= 0) & (curves.observed_age < 7)
    assert young.any() and (forecast.final.mean[young, NODES.index(30)] > 0).all()


def test_refunds_never_make_a_forecast_fall() -> None:
    past = weekly_history(60)
    falls = past.values - 0.4 * past.values * (np.arange(AGES) > 20)
    curves = replace(past, values=falls).as_of("2024-03-01")
    mean = make_pattern().fit(curves).predict(curves, range(1, AGES)).final.mean
    assert (np.nan_to_num(np.diff(mean, axis=1)) >= 0).all()


def test_a_new_segment_stands_on_its_parent() -> None:
    past = weekly_history(60, ("a", "b"))
    curves = past.as_of("2024-03-01")
    pattern = make_pattern().fit(curves)
    stranger = curves.take(np.array([len(curves) - 20]))
    stranger = replace(stranger, attributes={"Apps": np.array(["new"], dtype=object)})
    forecast = pattern.predict(stranger)
    assert forecast.reason[0] == "unseen_category"
    expected = pattern.fitted_pattern.expected_curves(stranger)
    np.testing.assert_array_equal(expected.beta[0], pattern.fitted_pattern.segment_curves.beta[0])
    assert expected.segment_level[0, 0] == pattern.fitted_pattern.segment_curves.level[0]


def test_beyond_the_data_the_curve_is_flat_and_marked() -> None:
    curves = weekly_history(30).as_of("2023-07-01")
    forecast = make_pattern().fit(curves).predict(curves)
    oldest = np.sort(curves.observed_age)[::-1][4]
    assert forecast.last_supported_age == oldest == curves.age_reached_by(5)
    is_observed = curves.observed_age >= 0
    assert forecast.is_extrapolated[is_observed, NODES.index(360)].all()
    assert not forecast.is_extrapolated[:, NODES.index(30)].any()
    mean = forecast.final.mean
    np.testing.assert_array_equal(mean[:, NODES.index(300)], mean[:, NODES.index(360)])
    is_past_it = curves.observed_age >= oldest
    assert set(forecast.reason[is_past_it]) == {"extrapolated"}
    assert set(forecast.reason[~is_past_it]) == {"ok", "no_complete_age"}


def test_held_out_growth_is_that_of_a_fit_without_the_cohort() -> None:
    curves = weekly_history(40, noise=0.3).as_of("2023-11-15")
    curves = curves.take(curves.observed_age >= 0)
    pattern = make_pattern(kappa=1.0).fit(curves)
    held_out = pattern.fitted_pattern.leave_one_out_curves(curves)
    row = 21
    others = make_pattern(kappa=1.0).fit(curves.take(np.arange(len(curves)) != row))
    # credibility is in units of all cohorts, which the closed form keeps
    unit = (
        pattern.fitted_pattern.segment_curves.median_revenue_d7
        / others.fitted_pattern.segment_curves.median_revenue_d7
    )
    scaled = {"credibility": 10 * unit, "level_credibility": 10 * unit}
    others = make_pattern(kappa=1.0, **scaled).fit(curves.take(np.arange(len(curves)) != row))
    segment = others.fitted_pattern.segment_curves.segments.find_deepest(curves)[row]
    np.testing.assert_allclose(
        held_out.beta[row], others.fitted_pattern.segment_curves.beta[segment], rtol=1e-9
    )


def test_held_out_level_at_the_natural_age_is_the_one_of_prediction() -> None:
    curves = weekly_history(40, noise=0.3).as_of("2023-11-15")
    curves = curves.take(curves.observed_age >= 0)
    pattern = make_pattern().fit(curves)
    k = curves.observed_age
    natural = pattern.fitted_pattern.leave_one_out_curves(curves).segment_level[
        np.arange(len(k)), k
    ]
    np.testing.assert_allclose(
        natural, pattern.fitted_pattern.expected_curves(curves).segment_level[:, 0], rtol=1e-9
    )


@given(st.integers(1, 300))
@settings(max_examples=5, deadline=None)
def test_cohorts_are_worked_on_in_blocks_of_any_size(block: int) -> None:
    curves = weekly_history(40, noise=0.3).as_of("2023-11-15")
    results = []
    for size in (1000, block):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ltvnet.data.arrays.BLOCK", size)
            pattern = make_pattern(tilt=True, calendar=True, trend=True).fit(curves)
            held_out = pattern.fitted_pattern.leave_one_out_curves(curves)
        results.append(
            (
                pattern.fitted_pattern.kappas,
                pattern.fitted_pattern.segment_curves.beta,
                held_out.beta,
                held_out.cohort_level,
            )
        )
    for whole, blocked in zip(*results, strict=True):
        np.testing.assert_allclose(whole, blocked, rtol=1e-9)


def test_held_out_numbers_are_kept_as_precisely_as_asked() -> None:
    curves = weekly_history(40, noise=0.3).as_of("2023-11-15")
    pattern = make_pattern().fit(curves)
    exact, short = (
        pattern.fitted_pattern.leave_one_out_curves(curves),
        pattern.fitted_pattern.leave_one_out_curves(curves, np.float32),
    )
    for name in ("beta", "segment_level", "cohort_level"):
        converted = getattr(short, name)
        assert converted.dtype == np.float32
        np.testing.assert_array_equal(converted, getattr(exact, name).astype(np.float32))


def test_recent_steps_weigh_more_with_a_half_life() -> None:
    """Growth after D7 doubles half-way: a short half-life must see most of the change."""
    steep = [curve(360, 1.0, 0.3 if week < 30 else 0.6) for week in range(60)]
    days = [np.datetime64("2023-01-02") + 7 * week for week in range(60)]
    rows = [(str(d), str(d + 6), {}, 100.0, c) for d, c in zip(days, steep, strict=True)]
    curves = history(rows).as_of(days[-1] + 6)
    share = {
        half_life: make_pattern(half_life=half_life)
        .fit(curves)
        .fitted_pattern.segment_curves.beta[0]
        for half_life in (None, 14.0)
    }
    growth = {key: beta[30] / beta[7] for key, beta in share.items()}
    assert growth[None] < growth[14.0]
    assert growth[14.0] == pytest.approx((31 / 8) ** 0.6, rel=0.03)


def test_kappa_is_one_where_nothing_can_be_learned() -> None:
    curves = weekly_history(20).as_of("2023-04-01")
    pattern = make_pattern().fit(curves)
    np.testing.assert_array_equal(pattern.fitted_pattern.kappas, 1.0)


def test_kappa_between_ages_is_log_linear() -> None:
    pattern = make_pattern().estimate(weekly_history(9).as_of("2023-03-01"))
    pattern = replace(pattern, kappas=np.exp(np.log1p(KAPPA_AGES)))
    at_ages = pattern.kappa_at(np.array([0, 5, 50, 120, 300]))
    np.testing.assert_allclose(at_ages, [1, 6, 51, 121, 121])


def test_a_pattern_forecasts_only_when_it_was_fitted() -> None:
    with pytest.raises(ValueError, match="the pattern was not fitted yet: call fit"):
        make_pattern().predict(weekly_history(9).as_of("2023-03-01"))


def test_a_restored_pattern_forecasts_but_leaves_no_cohort_out() -> None:
    curves = weekly_history(30).as_of("2023-07-01")
    pattern = make_pattern().fit(curves)
    restored = Pattern.from_state(*pattern.state())
    assert restored.config == pattern.config
    mean = restored.predict(curves).raw.mean
    np.testing.assert_array_equal(mean, pattern.predict(curves).raw.mean)
    with pytest.raises(ValueError, match="restored from a bundle does not hold the sums"):
        restored.fitted_pattern.leave_one_out_curves(curves)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": -1}, "expected levels >= 0 or null, got -1"),
        ({"credibility": -1.0}, "expected credibility >= 0, got -1.0"),
        ({"kappa": "guess"}, "expected kappa=learned or a number >= 0, got 'guess'"),
        ({"kappa": -2}, "expected kappa=learned or a number >= 0, got -2"),
        ({"half_life": 0}, "expected half_life > 0 days or null, got 0"),
        ({"min_cohorts": 0}, "expected min_cohorts >= 1, got 0"),
        ({"tail": "exponential"}, "expected tail=flat or tail=inverse_power, got 'exponential'"),
    ],
)
def test_arguments_are_checked(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_pattern(**change)


def test_no_complete_age_is_refused() -> None:
    curves = weekly_history(3).as_of("2023-01-04")
    with pytest.raises(ValueError, match="no cohort has a complete age at 2023-01-04"):
        make_pattern().fit(curves)
