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

Floats = NDArray[np.float64]
Labels = NDArray[Any]

CONFIDENCE = 0.95
"""Level of the intervals of a comparison."""


def wape(actual: Floats, forecast: Floats, weight: Floats) -> float:
    """Weighted absolute percentage error: sum of w |f - a| over sum of w |a|; NaN without cells."""
    a, f, w = _matched(actual, forecast, weight)
    return _over(float(np.abs(f - a) @ w), float(np.abs(a) @ w))


def bias(actual: Floats, forecast: Floats, weight: Floats) -> float:
    """Weighted relative bias: sum of w (f - a) over sum of w |a|; above 0 is too high."""
    a, f, w = _matched(actual, forecast, weight)
    return _over(float((f - a) @ w), float(np.abs(a) @ w))


def median_ape(actual: Floats, forecast: Floats, weight: Floats) -> float:
    """Weighted median of |f - a| / |a| over the cells where a is not 0: a share.

    Half of the weight lies on either side; where the middle falls between two cells, their mean.
    """
    a, f, w = _matched(actual, forecast, weight)
    a, f, w = a[a != 0], f[a != 0], w[a != 0]
    return _median(np.abs(f - a) / np.abs(a), w)


def rmse(actual: Floats, forecast: Floats, weight: Floats) -> float:
    """Root of the weighted mean squared error, in the units of `actual`."""
    a, f, w = _matched(actual, forecast, weight)
    return float(np.sqrt(_over(float((f - a) ** 2 @ w), float(w.sum()))))


def pinball(actual: Floats, quantile_forecast: Floats, weight: Floats, *, level: float) -> float:
    """Pinball loss of the quantile at `level`, over sum of w |a|, so without units.

    Koenker and Bassett (1978): level x (a - q) above the quantile, (1 - level) x (q - a) below.
    At level 0.5 it is half of the WAPE.
    """
    assert 0 < level < 1, level
    a, q, w = _matched(actual, quantile_forecast, weight)
    loss = np.maximum(level * (a - q), (level - 1) * (a - q))
    return _over(float(loss @ w), float(np.abs(a) @ w))


def inside_interval(actual: Floats, lower: Floats, upper: Floats) -> Floats:
    """Whether each actual lies in [lower, upper], 1 or 0, and NaN where one is unknown: (N,)."""
    known = np.isfinite(actual) & np.isfinite(lower) & np.isfinite(upper)
    return np.where(known, (actual >= lower) & (actual <= upper), np.nan)


def coverage(actual: Floats, lower: Floats, upper: Floats, weight: Floats) -> float:
    """Weighted share of cells whose actual lies in [lower, upper]."""
    inside, w = _matched(inside_interval(actual, lower, upper), weight)
    return _over(float(inside @ w), float(w.sum()))


def interval_width(actual: Floats, lower: Floats, upper: Floats, weight: Floats) -> float:
    """Weighted width of intervals: sum of w (upper - lower) over sum of w |a|, without units."""
    a, low, high, w = _matched(actual, lower, upper, weight)
    return _over(float((high - low) @ w), float(np.abs(a) @ w))


def skill(score: float, reference: float) -> float:
    """Share of a reference's score that is saved, 1 - score / reference: 1 perfect, 0 no better.

    Murphy (1988), for scores whose best value is 0.
    """
    return 1 - _over(score, reference)


def gini(actual: Floats, forecast: Floats, weight: Floats) -> float:
    """Normalised Gini of the ranking: 1 in the order of the actuals, 0 at random, -1 reversed.

    Concentration of w x actual along the forecasts over that along the actuals, each as a
    covariance with fractional mid-ranks (Lerman and Yitzhaki 1989). Tied forecasts share a rank:
    the mean over all their orders. NaN where all actuals are equal.
    """
    a, f, w = _matched(actual, forecast, weight)
    return _over(float((w * a) @ _ranks(f, w)), float((w * a) @ _ranks(a, w)))


def spearman(actual: Floats, forecast: Floats) -> float:
    """Spearman's rank correlation, every cell weighing 1 and ties taking their mean rank.

    NaN where all actuals or all forecasts are equal.
    """
    a, f, one = _matched(actual, forecast, np.ones(np.shape(actual)))
    ranks, others = _ranks(a, one), _ranks(f, one)
    return _over(float(ranks @ others), float(np.sqrt((ranks @ ranks) * (others @ others))))


def noise_floor(value: Floats, standard_error: Floats, weight: Floats) -> float:
    """The WAPE that is left to a forecaster who knows the expectation of every cohort.

    `standard_error` of each `value` from the sampling of users, in its units. A normal error of
    standard deviation s has mean size sqrt(2 / pi) s; with few users and heavy tails, less.
    """
    v, error, w = _matched(value, standard_error, weight)
    return _over(float(np.sqrt(2 / np.pi) * (error @ w)), float(np.abs(v) @ w))


def pit(actual: Floats, p10: Floats, p50: Floats, p90: Floats) -> Floats:
    """Probability integral transform of each actual, uniform if the quantiles are right: (N,).

    Linear between the three quantiles; beyond p10 and p90 the slope of the adjacent half goes on
    until 0 and 1, so no more than the tenths of a histogram mean anything there (Dawid 1984).
    NaN where one is unknown or not p10 < p50 < p90, wherever the actual fell: leaving out only
    those that fell in the empty half would tilt the rest.
    """
    known = np.isfinite(actual) & np.isfinite(p10) & np.isfinite(p90) & (p10 < p50) & (p50 < p90)
    a, low, middle, high = actual[known], p10[known], p50[known], p90[known]
    below = 0.1 + 0.4 * ((a - low) / (middle - low))
    above = 0.5 + 0.4 * ((a - middle) / (high - middle))
    found = np.full(np.shape(actual), np.nan)
    found[known] = np.clip(np.where(a < middle, below, above), 0, 1)
    return found


@dataclass(frozen=True)
class Comparison:
    """A forecaster against a reference on the same rows, with 95 % intervals.

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
        """Difference over the reference's WAPE."""
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
    loss: Floats, reference: Floats, scale: Floats, clusters: Labels, *, draws: int, seed: int
) -> Comparison:
    """Compare two forecasters' WAPE by a paired bootstrap of whole clusters.

    `loss` and `reference` (N,) the size of the two errors x weight and `scale` (N,) |actual| x
    weight, all in currency; `clusters` (N,) label of the rows that err alike, such as the
    acquisition week. The interval is the expanded percentile one (Hesterberg 2014), which is not
    too narrow with few clusters. Its bounds are NaN with fewer than 2 clusters, or where a draw
    had nothing to divide by.
    """
    rows = np.isfinite(loss) & np.isfinite(reference) & np.isfinite(scale)
    columns = [column[rows] for column in (loss, reference, scale)]
    assert all((column >= 0).all() for column in columns), "errors and scale are sizes, not signed"
    sums = _by_cluster(columns, clusters[rows])  # (G, 3)
    groups = len(sums)
    bounds = np.full((2, 2), np.nan)
    if groups >= 2:
        even = np.full(groups, 1 / groups)
        counts = np.random.default_rng(seed).multinomial(groups, even, size=draws)  # (D, G)
        bounds = np.quantile(_contrast(counts @ sums), _tails(groups), axis=0)
    (difference, saved), (low, skill_low), (high, skill_high) = np.concatenate(
        [_contrast(sums.sum(axis=0, keepdims=True)), bounds]
    ).tolist()
    return Comparison(difference, low, high, saved, skill_low, skill_high, groups)


def clustered_standard_error(inside: Floats, weight: Floats, clusters: Labels) -> float:
    """Standard error of the weighted mean of `inside`, rows of one cluster varying together.

    All (N,); `inside` is any share, such as that of `covered`. The linearised ratio estimator with
    the G / (G - 1) correction (Cochran 1977, chapter 6), some 5 to 10 % low where few clusters
    carry most of the weight; NaN with fewer than 2 clusters.
    """
    counts = _counting(inside, weight)
    x, w = inside[counts], weight[counts]
    sums = _by_cluster([w * x, w], clusters[counts])  # (G, 2)
    groups = len(sums)
    if groups < 2:
        return float("nan")
    total, whole = sums.sum(axis=0)
    apart = sums[:, 0] - sums[:, 1] * (total / whole)  # (G,)
    return float(np.sqrt(groups / (groups - 1) * (apart @ apart)) / whole)


def _counting(*arrays: Floats) -> NDArray[np.bool_]:
    """The cells where all arrays are finite and the last, the weight, is above 0: (N,)."""
    counts = np.isfinite(arrays[0])
    for array in arrays[1:]:
        counts = counts & np.isfinite(array)
    return counts & (arrays[-1] > 0)


def _matched(*arrays: Floats) -> list[Floats]:
    """Each array's cells that count: a list of (N,)."""
    counts = _counting(*arrays)
    return [array[counts] for array in arrays]


def _over(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _median(values: Floats, weight: Floats) -> float:
    if not len(values):
        return float("nan")
    order = np.argsort(values)
    reached = np.cumsum(weight[order])
    slack = np.array([1 - 1e-12, 1 + 1e-12])  # rounding must not decide a tie at the middle
    middle = np.searchsorted(reached, reached[-1] / 2 * slack)
    return float(values[order][middle].mean())


def _ranks(values: Floats, weight: Floats) -> Floats:
    """Share of the weight below each value, ties counting half, less its mean of a half: (N,)."""
    _, which = np.unique(values, return_inverse=True)
    mass = np.bincount(which, weight)
    share: Floats = (np.cumsum(mass) - mass / 2) / mass.sum() - 0.5
    return share[which]


def _by_cluster(columns: Sequence[Floats], clusters: Labels) -> Floats:
    """Sums of columns (N,) over the rows of each cluster: (G, C)."""
    labels, which = np.unique(clusters, return_inverse=True)
    return np.stack([np.bincount(which, column, len(labels)) for column in columns], axis=1)


def _contrast(sums: Floats) -> Floats:
    """Difference of the WAPEs and skill from sums (D, 3) of loss, reference and scale: (D, 2)."""
    loss, reference, scale = sums.T
    unknown = np.full(len(sums), np.nan)
    difference = np.divide(loss - reference, scale, out=unknown.copy(), where=scale > 0)
    left = np.divide(loss, reference, out=unknown, where=reference > 0)
    return np.stack([difference, 1 - left], axis=1)


def _tails(groups: int) -> Floats:
    """Levels of the bootstrap quantiles that match a t interval of G clusters: (2,)."""
    t = stdtrit(groups - 1, (1 - CONFIDENCE) / 2)
    beyond = ndtr(np.sqrt(groups / (groups - 1)) * t)
    return np.array([beyond, 1 - beyond])
