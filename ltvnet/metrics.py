"""Scores: plain functions of actual, forecast and weight.

Values are in currency per user, weights are users: their product is currency, sums are ratios of
sums. The arrays of one call have one shape. A cell counts where all of them are finite and its
weight is above 0; a score without such cells, or over a sum of 0, is NaN.

Shapes: N cells (of any one shape) or rows, G clusters, C columns, D draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

FloatArray = NDArray[np.float64]
Labels = NDArray[Any]

CONFIDENCE = 0.95
"""Level of the intervals of a comparison."""


def wape(actual: FloatArray, forecast: FloatArray, weight: FloatArray) -> float:
    """Weighted absolute percentage error: sum of w |f - a| over sum of w |a|; NaN without cells."""
    a, f, w = _valid_cells(actual, forecast, weight)
    return _divide(_absolute_sum(f - a, w), _absolute_sum(a, w))


def bias(actual: FloatArray, forecast: FloatArray, weight: FloatArray) -> float:
    """Weighted relative bias: sum of w (f - a) over sum of w |a|; above 0 is too high."""
    a, f, w = _valid_cells(actual, forecast, weight)
    error = float((f - a) @ w)
    return _divide(error, _absolute_sum(a, w))


def median_ape(actual: FloatArray, forecast: FloatArray, weight: FloatArray) -> float:
    """Weighted median of |f - a| / |a| over the cells where a is not 0: a share.

    Half of the weight lies on either side; where the middle falls between two cells, their mean.
    """
    a, f, w = _valid_cells(actual, forecast, weight)
    nonzero = a != 0
    a = a[nonzero]
    relative_error = np.abs(f[nonzero] - a) / np.abs(a)
    return _weighted_median(relative_error, w[nonzero])


def rmse(actual: FloatArray, forecast: FloatArray, weight: FloatArray) -> float:
    """Root of the weighted mean squared error, in the units of `actual`."""
    a, f, w = _valid_cells(actual, forecast, weight)
    squared_error = float((f - a) ** 2 @ w)
    mean_square = _divide(squared_error, float(w.sum()))
    return float(np.sqrt(mean_square))


def pinball(
    actual: FloatArray, quantile_forecast: FloatArray, weight: FloatArray, *, level: float
) -> float:
    """Pinball loss of the quantile at `level`, over sum of w |a|, so without units.

    Koenker and Bassett (1978): level x (a - q) above the quantile, (1 - level) x (q - a) below.
    At level 0.5 it is half of the WAPE.
    """
    assert 0 < level < 1, level
    a, q, w = _valid_cells(actual, quantile_forecast, weight)
    excess = a - q
    loss = np.maximum(level * excess, (level - 1) * excess)
    return _divide(float(loss @ w), _absolute_sum(a, w))


def inside_interval(actual: FloatArray, lower: FloatArray, upper: FloatArray) -> FloatArray:
    """Mark each actual in [lower, upper] by 1, others by 0, NaN where one is unknown: (N,)."""
    is_known = np.isfinite(actual) & np.isfinite(lower) & np.isfinite(upper)
    is_inside = (actual >= lower) & (actual <= upper)
    return np.where(is_known, is_inside, np.nan)


def coverage(actual: FloatArray, lower: FloatArray, upper: FloatArray, weight: FloatArray) -> float:
    """Weighted share of cells whose actual lies in [lower, upper]."""
    inside, w = _valid_cells(inside_interval(actual, lower, upper), weight)
    return _divide(float(inside @ w), float(w.sum()))


def interval_width(
    actual: FloatArray, lower: FloatArray, upper: FloatArray, weight: FloatArray
) -> float:
    """Weighted width of intervals: sum of w (upper - lower) over sum of w |a|, without units."""
    a, low, high, w = _valid_cells(actual, lower, upper, weight)
    width = float((high - low) @ w)
    return _divide(width, _absolute_sum(a, w))


def skill(score: float, reference: float) -> float:
    """Share of a reference's score that is saved, 1 - score / reference: 1 perfect, 0 no better.

    Murphy (1988), for scores whose best value is 0.
    """
    return 1 - _divide(score, reference)


def gini(actual: FloatArray, forecast: FloatArray, weight: FloatArray) -> float:
    """Normalised Gini of the ranking: 1 in the order of the actuals, 0 at random, -1 reversed.

    Concentration of w x actual along the forecasts over that along the actuals, each as a
    covariance with fractional mid-ranks (Lerman and Yitzhaki 1989). Tied forecasts share a rank:
    the mean over all their orders. NaN where all actuals are equal.
    """
    a, f, w = _valid_cells(actual, forecast, weight)
    revenue = w * a
    by_forecast = float(revenue @ _centered_ranks(f, w))
    by_actual = float(revenue @ _centered_ranks(a, w))
    return _divide(by_forecast, by_actual)


def spearman(actual: FloatArray, forecast: FloatArray) -> float:
    """Spearman's rank correlation, every cell weighing 1 and ties taking their mean rank.

    NaN where all actuals or all forecasts are equal.
    """
    equal_weight = np.ones(np.shape(actual))
    a, f, ones = _valid_cells(actual, forecast, equal_weight)
    a_ranks = _centered_ranks(a, ones)
    f_ranks = _centered_ranks(f, ones)
    norm = float(np.sqrt((a_ranks @ a_ranks) * (f_ranks @ f_ranks)))
    return _divide(float(a_ranks @ f_ranks), norm)


def noise_floor(value: FloatArray, standard_error: FloatArray, weight: FloatArray) -> float:
    """WAPE that is left to a forecaster who knows the expectation of every cohort.

    `standard_error` of each `value` from the sampling of users, in its units. A normal error of
    standard deviation s has mean size sqrt(2 / pi) s; with few users and heavy tails, less.
    """
    v, error, w = _valid_cells(value, standard_error, weight)
    mean_size = np.sqrt(2 / np.pi)  # of a normal error, in standard deviations
    expected_error = float(mean_size * (error @ w))
    return _divide(expected_error, _absolute_sum(v, w))


def pit(actual: FloatArray, p10: FloatArray, p50: FloatArray, p90: FloatArray) -> FloatArray:
    """Probability integral transform of each actual, uniform if the quantiles are right: (N,).

    Linear between the three quantiles; beyond p10 and p90 the slope of the adjacent half goes on
    until 0 and 1, so no more than the tenths of a histogram mean anything there (Dawid 1984).
    NaN where one is unknown or not p10 < p50 < p90, wherever the actual fell: leaving out only
    those that fell in the empty half would tilt the rest.
    """
    is_finite = np.isfinite(actual) & np.isfinite(p10) & np.isfinite(p90)
    is_valid = is_finite & (p10 < p50) & (p50 < p90)
    a = actual[is_valid]
    low = p10[is_valid]
    middle = p50[is_valid]
    high = p90[is_valid]

    lower_half = 0.1 + 0.4 * ((a - low) / (middle - low))
    upper_half = 0.5 + 0.4 * ((a - middle) / (high - middle))
    probability = np.full(np.shape(actual), np.nan)
    on_line = np.where(a < middle, lower_half, upper_half)
    probability[is_valid] = np.clip(on_line, 0, 1)
    return probability


@dataclass(frozen=True)
class Comparison:
    """Errors of a forecaster beside a reference's on the same rows, with 95 % intervals.

    `difference` of the WAPEs, below 0 where the forecaster is better, in [`low`, `high`];
    `skill` in [`skill_low`, `skill_high`], the relative difference with its sign reversed;
    `clusters` G that they rest on.
    """

    difference: float
    low: float
    high: float
    skill: float
    skill_low: float
    skill_high: float
    clusters: int

    @property
    def relative_difference(self) -> float:
        """Difference of the WAPEs over the reference's WAPE."""
        return -self.skill

    @property
    def is_better(self) -> bool:
        """Whether the whole interval of the difference lies below 0."""
        return self.high < 0

    @property
    def is_worse(self) -> bool:
        """Whether the whole interval of the difference lies above 0."""
        return self.low > 0


def compare_wape(
    loss: FloatArray,
    reference: FloatArray,
    scale: FloatArray,
    clusters: Labels,
    *,
    draws: int,
    seed: int,
) -> Comparison:
    """Compare two forecasters' WAPE by a paired bootstrap of whole clusters.

    `loss` and `reference` (N,) the size of the two errors x weight and `scale` (N,) |actual| x
    weight, all in currency; `clusters` (N,) label of the rows that err alike, such as the
    acquisition week. The interval is the expanded percentile one (Hesterberg 2014), which is not
    too narrow with few clusters. Its bounds are NaN with fewer than 2 clusters, or where a draw
    had nothing to divide by.
    """
    is_valid = np.isfinite(loss) & np.isfinite(reference) & np.isfinite(scale)
    columns = [column[is_valid] for column in (loss, reference, scale)]
    assert all((column >= 0).all() for column in columns), "errors and scale are sizes, not signed"

    cluster_sums = _cluster_sums(columns, clusters[is_valid])  # (G, 3)
    total = cluster_sums.sum(axis=0, keepdims=True)
    [(difference, saved)] = _difference_and_skill(total).tolist()
    bounds = _bootstrap_bounds(cluster_sums, draws, seed)
    (low, skill_low), (high, skill_high) = bounds.tolist()
    return Comparison(
        difference=difference,
        low=low,
        high=high,
        skill=saved,
        skill_low=skill_low,
        skill_high=skill_high,
        clusters=len(cluster_sums),
    )


def _bootstrap_bounds(cluster_sums: FloatArray, draws: int, seed: int) -> FloatArray:
    """Lower and upper bound (2, 2) of difference and skill, from sums of clusters (G, 3)."""
    cluster_count = len(cluster_sums)
    if cluster_count < 2:
        return np.full((2, 2), np.nan)

    equal_chances = np.full(cluster_count, 1 / cluster_count)
    rng = np.random.default_rng(seed)
    times_drawn = rng.multinomial(cluster_count, equal_chances, size=draws)  # (D, G)
    replicates = _difference_and_skill(times_drawn @ cluster_sums)  # (D, 2)
    bounds: FloatArray = np.quantile(replicates, _expanded_levels(cluster_count), axis=0)
    return bounds


def clustered_standard_error(inside: FloatArray, weight: FloatArray, clusters: Labels) -> float:
    """Standard error of the weighted mean of `inside`, rows of one cluster varying together.

    All (N,); `inside` is any share, such as that of `inside_interval`. The linearised ratio
    estimator with the G / (G - 1) correction (Cochran 1977, chapter 6), some 5 to 10 % low where
    few clusters carry most of the weight; NaN with fewer than 2 clusters.
    """
    is_valid = _is_valid(inside, weight)
    x = inside[is_valid]
    w = weight[is_valid]
    cluster_sums = _cluster_sums([w * x, w], clusters[is_valid])  # (G, 2)
    cluster_count = len(cluster_sums)
    if cluster_count < 2:
        return float("nan")

    total_inside, total_weight = cluster_sums.sum(axis=0)
    mean = total_inside / total_weight
    deviation = cluster_sums[:, 0] - cluster_sums[:, 1] * mean  # (G,)
    correction = cluster_count / (cluster_count - 1)
    return float(np.sqrt(correction * (deviation @ deviation)) / total_weight)


def _is_valid(*arrays: FloatArray) -> NDArray[np.bool_]:
    """Return where all arrays are finite and the last, the weight, is above 0: (N,)."""
    is_valid = np.isfinite(arrays[0])
    for array in arrays[1:]:
        is_valid = is_valid & np.isfinite(array)
    return is_valid & (arrays[-1] > 0)


def _valid_cells(*arrays: FloatArray) -> list[FloatArray]:
    """Return the cells of each array, the last of which is the weight, that count: (N,) each."""
    is_valid = _is_valid(*arrays)
    return [array[is_valid] for array in arrays]


def _absolute_sum(values: FloatArray, weight: FloatArray) -> float:
    """Weighted sum of the sizes of values (N,)."""
    return float(np.abs(values) @ weight)


def _divide(numerator: float, denominator: float) -> float:
    """Divide, NaN over 0."""
    return numerator / denominator if denominator else float("nan")


def _weighted_median(values: FloatArray, weight: FloatArray) -> float:
    """Value with half of the weight on either side; NaN without values."""
    if not len(values):
        return float("nan")
    order = np.argsort(values)
    cumulative_weight = np.cumsum(weight[order])
    half = cumulative_weight[-1] / 2
    slack = np.array([1 - 1e-12, 1 + 1e-12])  # rounding must not decide a tie at the middle
    middle = np.searchsorted(cumulative_weight, half * slack)
    return float(values[order][middle].mean())


def _centered_ranks(values: FloatArray, weight: FloatArray) -> FloatArray:
    """Share of the weight below each value, ties counting half, less its mean of a half: (N,)."""
    _, value_index = np.unique(values, return_inverse=True)
    value_weight = np.bincount(value_index, weight)
    share_below = (np.cumsum(value_weight) - value_weight / 2) / value_weight.sum()
    centered: FloatArray = share_below - 0.5
    return centered[value_index]


def _cluster_sums(columns: Sequence[FloatArray], clusters: Labels) -> FloatArray:
    """Sums of columns (N,) over the rows of each cluster: (G, C)."""
    labels, cluster_index = np.unique(clusters, return_inverse=True)
    sums = [np.bincount(cluster_index, column, len(labels)) for column in columns]
    return np.stack(sums, axis=1)


def _difference_and_skill(sums: FloatArray) -> FloatArray:
    """Difference of the WAPEs and skill from sums (D, 3) of loss, reference and scale: (D, 2)."""
    loss, reference, scale = sums.T
    unknown = np.full(len(sums), np.nan)
    excess = loss - reference
    difference = np.divide(excess, scale, out=unknown.copy(), where=scale > 0)
    remaining = np.divide(loss, reference, out=unknown, where=reference > 0)
    return np.stack([difference, 1 - remaining], axis=1)


def _expanded_levels(cluster_count: int) -> FloatArray:
    """Levels of the bootstrap quantiles that match a t interval of G clusters: (2,)."""
    t = stdtrit(cluster_count - 1, (1 - CONFIDENCE) / 2)
    lower_level = ndtr(np.sqrt(cluster_count / (cluster_count - 1)) * t)
    return np.array([lower_level, 1 - lower_level])
