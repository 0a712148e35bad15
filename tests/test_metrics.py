"""Scores in derivable numbers, their invariants, and their standard errors against simulations."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import permutations
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import ndtri, stdtrit
from scipy.stats import spearmanr

from ltvnet import metrics
from ltvnet.metrics import Comparison, FloatArray

Score = Callable[[FloatArray, FloatArray, FloatArray], float]

SCORES: dict[str, Score] = {
    "wape": metrics.wape,
    "bias": metrics.bias,
    "median_ape": metrics.median_ape,
    "rmse": metrics.rmse,
    "pinball": partial(metrics.pinball, level=0.9),
    "coverage": lambda a, f, w: metrics.coverage(a, f - 4, f + 4, w),
    "width": lambda a, f, w: metrics.interval_width(a, f, 2 * f + 1, w),
    "gini": metrics.gini,
    "noise_floor": metrics.noise_floor,
}
MONEY = {"rmse"}
"""Scores in the units of the data."""

few = settings(max_examples=25, deadline=None)
every_score = pytest.mark.parametrize("name", SCORES)
cells = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 4)), min_size=1, max_size=12
).map(lambda rows: np.array(rows, dtype=np.float64).T)  # actual, forecast, weight: (3, N)


def array(*numbers: float) -> FloatArray:
    return np.array(numbers, dtype=np.float64)


def assert_same(one: float, other: float) -> None:
    assert one == pytest.approx(other, rel=1e-9, abs=1e-12, nan_ok=True)


def test_scores_are_ratios_of_weighted_sums() -> None:
    actual, forecast, weight = array(1, 2, -5), array(2, 1, -5), array(1, 3, 1)
    assert metrics.wape(actual, forecast, weight) == pytest.approx((1 + 3) / (1 + 6 + 5))
    assert metrics.bias(actual, forecast, weight) == pytest.approx((1 - 3) / (1 + 6 + 5))
    assert metrics.rmse(actual, forecast, weight) == pytest.approx(np.sqrt((1 + 3) / 5))
    assert metrics.interval_width(actual, forecast, forecast + 2, weight) == pytest.approx(
        2 * 5 / 12
    )
    root = np.sqrt(2 / np.pi)
    assert metrics.noise_floor(actual, array(3, 1, 0), weight) == pytest.approx(root * 6 / 12)


@pytest.mark.parametrize(
    ("forecast", "weight", "expected"),
    [
        ([11, 14, 90, 5], [1, 1, 1, 7], 0.4),  # of 0.1, 0.4 and 8: the cell that earned 0 is out
        ([11, 14, 90, 5], [5, 1, 1, 7], 0.1),
        ([11, 14, 90, 5], [2, 1, 1, 7], 0.25),  # half of the weight is at 0.1: between 0.1 and 0.4
        ([9, 6, 90, 5], [0.1, 0.2, 0.3, 7], (0.4 + 8) / 2),  # 0.1 + 0.2 is above 0.3 by rounding
    ],
)
def test_median_ape_has_half_of_the_weight_on_either_side(
    forecast: list[float], weight: list[float], expected: float
) -> None:
    score = metrics.median_ape(array(10, 10, 10, 0), array(*forecast), array(*weight))
    assert score == pytest.approx(expected)


@few
@given(cells)
def test_median_ape_of_repeated_rows_is_the_ordinary_median(drawn: FloatArray) -> None:
    actual, forecast, weight = drawn
    assume(actual.any())
    repeated = np.repeat(drawn[:2, actual != 0], weight[actual != 0].astype(int), axis=1)
    ordinary = np.median(np.abs(repeated[1] - repeated[0]) / repeated[0])
    assert_same(metrics.median_ape(actual, forecast, weight), float(ordinary))


def test_pinball_weighs_the_two_sides_by_the_level() -> None:
    actual, quantile, weight = array(10, 10), array(8, 13), array(1, 2)
    score = metrics.pinball(actual, quantile, weight, level=0.9)
    assert score == pytest.approx((0.9 * 2 + 0.1 * 3 * 2) / 30)
    with pytest.raises(AssertionError, match="90"):
        metrics.pinball(actual, quantile, weight, level=90)


@few
@given(cells)
def test_pinball_of_the_median_is_half_of_wape(drawn: FloatArray) -> None:
    assert_same(2 * metrics.pinball(*drawn, level=0.5), metrics.wape(*drawn))


@few
@given(cells, st.integers(0, 20), st.sampled_from([0.1, 0.5, 0.9]))
def test_pinball_rewards_the_quantile(drawn: FloatArray, other: int, level: float) -> None:
    actual, _, weight = drawn
    assume(actual.any())
    repeated = np.repeat(actual, weight.astype(int))
    best = np.quantile(repeated, level, method="inverted_cdf")
    loss = [
        metrics.pinball(actual, np.full(len(actual), q), weight, level=level) for q in (best, other)
    ]
    assert loss[0] <= loss[1] + 1e-12


def test_coverage_counts_known_intervals_with_their_bounds() -> None:
    actual, lower, upper = (
        array(1, 2, 3, 4, np.nan),
        array(1, 0, 4, np.nan, 0),
        array(2, 2, 5, 9, 9),
    )
    weight = array(1, 2, 3, 50, 50)
    assert metrics.coverage(actual, lower, upper, weight) == pytest.approx((1 + 2) / 6)
    assert metrics.interval_width(actual, lower, upper, weight) == pytest.approx(
        (1 + 4 + 3) / (1 + 4 + 9)
    )
    np.testing.assert_array_equal(
        metrics.inside_interval(actual, lower, upper), array(1, 1, 0, np.nan, np.nan)
    )


def test_skill_is_the_share_of_the_reference_that_is_saved() -> None:
    assert metrics.skill(0.15, 0.2) == pytest.approx(0.25)
    assert metrics.skill(0.3, 0.2) == pytest.approx(-0.5)
    assert np.isnan(metrics.skill(0.1, 0.0))


@every_score
@few
@given(drawn=cells, bad=st.sampled_from([np.nan, np.inf, -np.inf]))
def test_cells_that_are_not_known_do_not_count(name: str, drawn: FloatArray, bad: float) -> None:
    unknown = np.full((3, 4), 7.0)
    unknown[np.arange(3), np.arange(3)] = bad
    unknown[:, 3] = 100.0, 1.0, 0.0  # and no weight
    assert_same(SCORES[name](*drawn), SCORES[name](*np.hstack([unknown, drawn])))
    assert np.isnan(SCORES[name](*unknown))


@every_score
@few
@given(drawn=cells, shuffle=st.randoms(use_true_random=False))
def test_order_of_rows_changes_nothing(name: str, drawn: FloatArray, shuffle: Random) -> None:
    order = list(range(drawn.shape[1]))
    shuffle.shuffle(order)
    assert_same(SCORES[name](*drawn), SCORES[name](*drawn[:, order]))


@every_score
@few
@given(drawn=cells)
def test_a_weight_is_a_number_of_rows(name: str, drawn: FloatArray) -> None:
    repeated = np.repeat(drawn, drawn[2].astype(int), axis=1)
    repeated[2] = 1.0
    assert_same(SCORES[name](*drawn), SCORES[name](*repeated))


@pytest.mark.parametrize("name", sorted(SCORES.keys() - {"coverage", "width"}))
@few
@given(drawn=cells)
def test_units_of_money_and_of_weight_change_nothing(name: str, drawn: FloatArray) -> None:
    actual, forecast, weight = drawn
    unit = 1024.0 if name in MONEY else 1.0
    once, scored = SCORES[name](*drawn), SCORES[name](1024 * actual, 1024 * forecast, weight / 64)
    np.testing.assert_array_equal(scored, unit * once)  # to the bit


def along(actual: FloatArray, order: FloatArray, weight: FloatArray) -> float:
    """Area between the diagonal and the curve of w x actual along ascending `order`."""
    levels = np.unique(order)
    users = np.cumsum([0.0, *(weight[order == v].sum() for v in levels)])
    money = np.cumsum([0.0, *((weight * actual)[order == v].sum() for v in levels)])
    return float(0.5 - np.trapezoid(money / money[-1], users / users[-1]))


@few
@given(cells)
def test_gini_is_the_ratio_of_areas_under_concentration_curves(drawn: FloatArray) -> None:
    actual, forecast, weight = drawn
    assume(len(set(actual)) > 1)
    score = metrics.gini(actual, forecast, weight)
    assert_same(score, along(actual, forecast, weight) / along(actual, actual, weight))
    assert -1 - 1e-12 <= score <= 1 + 1e-12
    assert_same(metrics.gini(actual, -forecast, weight), -score)
    assert_same(metrics.gini(actual, actual**3, weight), 1.0)


def test_gini_in_numbers() -> None:
    ones = np.ones(3)
    # ranks -1/3, 1/3, 0 on 1, 2, 3 give 1/3; in their own order 2/3
    assert metrics.gini(array(1, 2, 3), array(1, 3, 2), ones) == pytest.approx(0.5)
    assert metrics.gini(array(1, 2, 3), array(4, 4, 4), ones) == 0.0
    assert np.isnan(metrics.gini(array(0.1, 0.1, 0.1), array(1, 2, 3), ones))


def test_gini_of_a_random_ranking_is_about_nothing() -> None:
    actual, forecast, weight = np.random.default_rng(0).lognormal(0, 0.5, (3, 40_000))
    assert abs(metrics.gini(actual, forecast, weight)) < 0.02


@few
@given(st.lists(st.integers(0, 9), min_size=4, max_size=4), st.sampled_from([2, 3, 4]))
def test_tied_forecasts_score_the_mean_over_their_orders(money: list[int], tied: int) -> None:
    assume(len(set(money)) > 1)
    actual, ones = array(*money), np.ones(4)
    orders = [array(*order, *range(tied, 4)) for order in permutations(range(tied))]
    broken = [metrics.gini(actual, order, ones) for order in orders]
    forecast = array(*[(tied - 1) / 2] * tied, *range(tied, 4))
    assert_same(metrics.gini(actual, forecast, ones), float(np.mean(broken)))


@few
@given(cells)
def test_spearman_is_the_published_one(drawn: FloatArray) -> None:
    actual, forecast, _ = drawn
    assume(len(set(actual)) > 1 and len(set(forecast)) > 1)
    score = metrics.spearman(actual, forecast)
    assert_same(score, float(spearmanr(actual, forecast).statistic))
    assert_same(metrics.spearman(np.exp(actual), forecast**3), score)
    unknown = array(np.nan, 3)
    joined = [np.append(actual, unknown), np.append(forecast, unknown[::-1])]
    assert_same(metrics.spearman(*joined), score)


@pytest.mark.parametrize("actual", [[], [1.0], [2.0, 2.0]])
def test_spearman_without_a_ranking_is_not_known(actual: list[float]) -> None:
    assert np.isnan(metrics.spearman(array(*actual), np.arange(float(len(actual)))))


def test_the_noise_floor_is_what_the_true_expectation_scores() -> None:
    rng = np.random.default_rng(0)
    expected, users = rng.uniform(1, 5, 20_000), rng.integers(50, 500, 20_000).astype(float)
    actual = expected * rng.gamma(users) / users  # each user spends an exponential amount
    floor = metrics.noise_floor(expected, expected / np.sqrt(users), users)
    assert metrics.wape(actual, expected, users) == pytest.approx(floor, rel=0.02)


def test_pit_of_a_uniform_is_itself() -> None:
    actual = np.linspace(-0.5, 1.5, 41)
    tenth, half = np.full(41, 0.1), np.full(41, 0.5)
    probability = metrics.pit(actual, tenth, half, 9 * tenth)
    np.testing.assert_allclose(probability, np.clip(actual, 0, 1), atol=1e-12)


def test_pit_of_right_quantiles_fills_every_outer_tenth_evenly() -> None:
    actual = np.random.default_rng(0).lognormal(0, 0.5, 40_000)
    p10, p50, p90 = (np.full(40_000, np.exp(0.5 * ndtri(level))) for level in (0.1, 0.5, 0.9))
    probability = metrics.pit(actual, p10, p50, p90)
    share = np.histogram(probability, [0, 0.1, 0.5, 0.9, 1])[0] / 40_000
    np.testing.assert_allclose(share, [0.1, 0.4, 0.4, 0.1], atol=0.007)
    inside = np.mean((probability >= 0.1) & (probability <= 0.9))
    assert inside == metrics.coverage(actual, p10, p90, np.ones(40_000))


@few
@given(
    st.lists(st.integers(0, 30), min_size=3, max_size=3, unique=True).map(sorted),
    st.integers(-20, 50),
    st.integers(0, 9),
)
def test_pit_rises_and_meets_the_quantiles(band: list[int], actual: int, more: int) -> None:
    points = array(*band, actual, actual + more)
    probability = metrics.pit(points, *(np.full(5, float(q)) for q in band))
    np.testing.assert_array_equal(
        probability[:3], [0.1, 0.5, 0.9]
    )  # to the bit: they are bin edges
    assert 0 <= probability[3] <= probability[4] <= 1


@pytest.mark.parametrize(
    "cell",
    [
        (np.nan, 1, 2, 3),
        (np.inf, 1, 2, 3),
        (2, np.nan, 2, 3),
        (2, 1, np.nan, 3),
        (2, 1, 2, np.nan),
        (2, -np.inf, 2, 3),
        (2, 1, 2, np.inf),
        (5, 1, 1, 3),  # empty lower half, though the outcome is in the other
        (1, 1, 3, 3),
        (2, 3, 2, 1),
    ],
)
def test_pit_is_not_known_without_three_rising_quantiles(cell: tuple[float, ...]) -> None:
    actual, p10, p50, p90 = (array(value, value) for value in cell)
    actual[1], p10[1], p50[1], p90[1] = 2.5, 1.0, 2.0, 3.0
    np.testing.assert_allclose(metrics.pit(actual, p10, p50, p90), [np.nan, 0.7])


def paired(
    groups: int, rows: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Errors of a forecaster and a reference that share shocks by cluster; it is better by 0.02."""
    week = np.repeat(np.arange(groups), rows)
    shock = rng.normal(0, 0.05, groups)[week] + rng.normal(0, 0.02, groups * rows)
    reference = rng.uniform(0.5, 1.5, groups * rows)
    return reference + shock - 0.1, reference, np.full(groups * rows, 5.0), week


def numbers(comparison: Comparison) -> tuple[float, ...]:
    return tuple(value for name, value in asdict(comparison).items() if name != "clusters")


def test_two_clusters_in_numbers() -> None:
    comparison = metrics.compare_wape(
        array(1, 3.5), array(2, 2), array(10, 10), np.array(["a", "b"]), draws=200, seed=0
    )
    # a draw is one of the clusters twice, or both
    assert comparison == Comparison(0.025, -0.1, 0.15, -0.125, -0.75, 0.5, 2)
    assert (
        comparison.relative_difference == 0.125
        and not comparison.is_better
        and not comparison.is_worse
    )


def test_a_comparison_is_of_wapes() -> None:
    actual, one, other, users = np.random.default_rng(0).lognormal(size=(4, 60))
    week = np.repeat(np.datetime64("2024-01-01") + 7 * np.arange(12), 5)
    comparison = metrics.compare_wape(
        users * abs(one - actual), users * abs(other - actual), users * actual, week,
        draws=100, seed=0,
    )  # fmt: skip
    ours, theirs = metrics.wape(actual, one, users), metrics.wape(actual, other, users)
    assert comparison.difference == pytest.approx(ours - theirs)
    assert comparison.relative_difference == pytest.approx((ours - theirs) / theirs)
    assert comparison.skill == pytest.approx(metrics.skill(ours, theirs))
    assert comparison.low < comparison.difference < comparison.high and comparison.clusters == 12
    assert comparison.skill_low < comparison.skill < comparison.skill_high


def test_better_and_worse_are_whole_intervals() -> None:
    loss, reference, scale, week = paired(30, 4, np.random.default_rng(0))
    better = metrics.compare_wape(loss, reference, scale, week, draws=500, seed=0)
    worse = metrics.compare_wape(reference, loss, scale, week, draws=500, seed=0)
    assert better.high < 0 and better.is_better and not better.is_worse
    assert worse.low > 0 and worse.is_worse and not worse.is_better
    assert (worse.low, worse.high) == pytest.approx((-better.high, -better.low))
    equal = metrics.compare_wape(reference, reference, scale, week, draws=500, seed=0)
    assert numbers(equal) == (0.0,) * 6
    assert not equal.is_better and not equal.is_worse


def test_a_comparison_is_deterministic_in_its_seed() -> None:
    drawn = paired(20, 3, np.random.default_rng(0))
    first, again, other = (metrics.compare_wape(*drawn, draws=50, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.low != other.low and first.difference == other.difference


def test_rows_of_one_cluster_are_drawn_together() -> None:
    drawn = paired(25, 1, np.random.default_rng(0))
    once = metrics.compare_wape(*drawn, draws=2000, seed=0)
    loss, reference, scale, week = (np.tile(column, 4) for column in drawn)
    copied = metrics.compare_wape(loss, reference, scale, week, draws=2000, seed=0)
    assert numbers(copied) == pytest.approx(numbers(once))
    apart = metrics.compare_wape(loss, reference, scale, np.arange(100), draws=2000, seed=0)
    narrower = stdtrit(99, 0.975) / stdtrit(24, 0.975) / np.sqrt(100 / 24) * np.sqrt(100 / 99)
    assert (apart.high - apart.low) / (once.high - once.low) == pytest.approx(narrower, rel=0.1)


@few
@given(unit=st.sampled_from([1 / 64, 1024.0]), seed=st.integers(0, 99))
def test_units_of_money_do_not_change_a_comparison(unit: float, seed: int) -> None:
    loss, reference, scale, week = paired(8, 2, np.random.default_rng(seed))
    comparison = metrics.compare_wape(loss, reference, scale, week, draws=50, seed=seed)
    scaled = metrics.compare_wape(
        unit * loss, unit * reference, unit * scale, week, draws=50, seed=seed
    )
    assert scaled == comparison


def test_the_interval_is_the_t_interval_of_equal_clusters() -> None:
    gain = 0.2 + ndtri((np.arange(12) + 0.5) / 12)
    comparison = metrics.compare_wape(
        5 + gain, np.full(12, 5.0), np.full(12, 10.0), np.arange(12), draws=40_000, seed=0
    )
    half = stdtrit(11, 0.975) * gain.std(ddof=1) / np.sqrt(12)
    expected = [(0.2 - half) / 10, (0.2 + half) / 10]
    np.testing.assert_allclose([comparison.low, comparison.high], expected, atol=0.02 * half / 10)
    # the reference is constant, so skill is the difference in other units
    np.testing.assert_allclose(
        [comparison.skill_high, comparison.skill_low], [-2 * comparison.low, -2 * comparison.high]
    )


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = []
    for seed in range(600):
        comparison = metrics.compare_wape(*paired(10, 3, rng), draws=300, seed=seed)
        held.append(comparison.low <= -0.02 <= comparison.high)
    assert 0.92 <= np.mean(held) <= 0.98  # 0.95 with a standard error of 0.009


def test_a_comparison_without_enough_clusters_has_no_bounds() -> None:
    comparison = metrics.compare_wape(
        array(1, 2), array(2, 2), array(5, 5), np.array(["a", "a"]), draws=9, seed=0
    )
    assert (comparison.difference, comparison.skill, comparison.clusters) == (-0.1, 0.25, 1)
    assert np.isnan(
        [comparison.low, comparison.high, comparison.skill_low, comparison.skill_high]
    ).all()
    assert not comparison.is_better and not comparison.is_worse
    nothing = metrics.compare_wape(array(), array(), array(), np.array([]), draws=9, seed=0)
    assert np.isnan(numbers(nothing)).all() and nothing.clusters == 0


def test_draws_with_nothing_to_divide_by_leave_no_bounds() -> None:
    comparison = metrics.compare_wape(
        array(1, 1), array(2, 0), array(5, 0), np.array([0, 1]), draws=200, seed=0
    )
    assert (comparison.difference, comparison.skill) == (0.0, 0.0)
    assert np.isnan(
        [comparison.low, comparison.high, comparison.skill_low, comparison.skill_high]
    ).all()


@pytest.mark.parametrize("column", [0, 1, 2])
def test_rows_that_one_forecaster_lacks_are_left_out_of_both(column: int) -> None:
    drawn = paired(12, 2, np.random.default_rng(0))
    extra = array(9, 9, 9, 99)
    extra[column] = np.nan
    loss, reference, scale, week = (np.append(*pair) for pair in zip(drawn, extra, strict=True))
    comparison = metrics.compare_wape(loss, reference, scale, week, draws=50, seed=0)
    assert comparison == metrics.compare_wape(*drawn, draws=50, seed=0)


def test_signed_errors_are_refused() -> None:
    with pytest.raises(AssertionError, match="not signed"):
        metrics.compare_wape(array(-1, 1), array(1, 1), array(1, 1), np.arange(2), draws=9, seed=0)


@few
@given(st.integers(1, 9), st.integers(1, 9))
def test_clustered_error_of_single_rows_is_that_of_a_share(inside: int, outside: int) -> None:
    values = np.repeat([1.0, 0.0], [inside, outside])
    n, share = inside + outside, inside / (inside + outside)
    expected = np.sqrt(share * (1 - share) / (n - 1))
    assert_same(
        metrics.clustered_standard_error(values, np.full(n, 3.0), np.arange(n)), float(expected)
    )
    twice = metrics.clustered_standard_error(
        np.tile(values, 2), np.ones(2 * n), np.tile(np.arange(n), 2)
    )
    assert_same(twice, float(expected))  # a copy in the same cluster tells nothing new


def test_clustered_error_is_the_spread_of_a_weighted_share() -> None:
    rng = np.random.default_rng(0)
    shares, errors = [], []
    week = np.repeat(np.arange(40), 5)
    for _ in range(1500):
        chance = rng.beta(4, 1, 40)[week]  # weeks are hit together
        inside = (rng.random(200) < chance).astype(np.float64)
        weight = rng.uniform(1, 3, 40)[week] * rng.uniform(1, 3, 200)
        shares.append(np.average(inside, weights=weight))
        errors.append(metrics.clustered_standard_error(inside, weight, week) ** 2)
    assert np.sqrt(np.mean(errors)) == pytest.approx(np.std(shares), rel=0.06)


def test_clustered_error_leaves_out_unknown_rows() -> None:
    inside, weight, week = array(1, 0, 1, 1), array(1, 2, 1, 1), np.array([0, 1, 1, 2])
    error = metrics.clustered_standard_error(inside, weight, week)
    # share 3/5; clusters miss it by 1 x 2/5, -2 x 3/5 + 2/5, 2/5
    assert error == pytest.approx(np.sqrt(3 / 2 * (0.4**2 + 0.8**2 + 0.4**2)) / 5)
    longer = metrics.clustered_standard_error(
        np.append(inside, [np.nan, 1, 1]),
        np.append(weight, [9, np.nan, 0]),
        np.append(week, [3, 4, 5]),
    )
    assert longer == pytest.approx(error)


@pytest.mark.parametrize("rows", [0, 1, 4])
def test_clustered_error_needs_two_clusters(rows: int) -> None:
    assert np.isnan(metrics.clustered_standard_error(np.ones(rows), np.ones(rows), np.zeros(rows)))
