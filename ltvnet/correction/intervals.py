"""Intervals that were checked on the past: pooled conformal calibration, and portfolio sums.

Shapes: E past forecasts, J nodes, B buckets of observed age, S segments, C cells, G groups of
cells, O origins.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import stdtrit

from ltvnet.data.arrays import Bools, Days, Floats, Ints
from ltvnet.data.curves import NODE_AGES, NODES
from ltvnet.data.segments import Segments
from ltvnet.forecasting.forecast import AGE_BUCKETS, Band, age_bucket

QUANTILE_LEVEL = 0.9
"""Share of outcomes at or below p90, and at or above p10."""

MIN_CALIBRATION_COHORTS = 20
"""Distinct cohorts that an order statistic takes; with fewer the parent segment's is used."""

NOISE_GRID = (0.0, *(2.0**power for power in range(-8, 9)))
"""The grid of chance in errors, in the median revenue that a cohort was forecast to grow by."""

BORROWED_HORIZONS = 3
"""A horizon that has not matured borrows the widest of so many of the longest that have."""


MIN_ORIGINS_OF_TOTALS = 4
"""Past origins without overlap that the uncertainty of sums over cohorts needs."""


@dataclass(frozen=True)
class NodeForecasts:
    """Forecasts at NODES from an observed age.

    `observed_age`, `observed_value` at it and `users` (E,), `pattern` and `band` (E, J).
    """

    observed_age: Ints
    observed_value: Floats
    users: Floats
    pattern: Floats
    band: Band

    @property
    def forecast_growth(self) -> Floats:
        """Forecast growth, the model's or the pattern's if that is more: (E, J)."""
        forecast_value = np.maximum(self.band.mean, self.pattern)
        return forecast_value - self.observed_value[:, None]

    def error_scale(self, noise: Floats) -> Floats:
        """Size that errors are measured by: sqrt(g^2 + noise g / users), (E, J), g the growth.

        A level that was mistaken errs in proportion to growth; the chance of single purchases has
        a variance that grows as growth does and falls with users (compound Poisson). `noise` (B,)
        is the growth of all users, in currency, at which the two are alike. NaN without users.
        """
        growth = np.maximum(self.forecast_growth, 0.0)
        noise_of_entry = noise[age_bucket(self.observed_age)]  # (E,)
        noise_per_user = _safe_ratio(noise_of_entry, self.users)[:, None]
        return np.sqrt(growth * (growth + noise_per_user))


@dataclass(frozen=True)
class CalibrationSample:
    """Forecasts beside what came true: `actual` (E, J), NaN where not matured.

    `cohort_index` (E,) number of the cohort, `origin` (E,), `segment` (E,) deepest.
    """

    forecast: NodeForecasts
    actual: Floats
    cohort_index: Ints
    origin: Days
    segment: Ints

    def estimate_noise(self) -> Floats:
        """Estimate the part of chance that makes errors most likely, by bucket: (B,), currency.

        Errors over their size are taken as Laplace, since some are large, with a spread of each
        node's own, as widths are: pooled, a level that errs more at some ages looks like chance.
        """
        growth = self.forecast.forecast_growth
        volume = self.forecast.users[:, None] * growth  # (E, J), in currency
        error = np.abs(self.actual - self.forecast.band.mean)
        is_usable = (volume > 0) & np.isfinite(error)

        entry, node = np.nonzero(is_usable)  # (C,) each
        cell_volume = volume[is_usable]
        relative_error = error[is_usable] / growth[is_usable]
        bucket_of_cell = age_bucket(self.forecast.observed_age)[entry]

        noise = np.zeros(len(AGE_BUCKETS))
        for bucket in np.unique(bucket_of_cell):
            cells = bucket_of_cell == bucket
            noise[bucket] = _likeliest_noise(cell_volume[cells], relative_error[cells], node[cells])
        return noise

    def scaled_misses(self, noise: Floats) -> tuple[Floats, Floats]:
        """How far outcomes fell below and above the mean, over the size of errors: (E, J) each.

        The model's own quantiles are left out: they are no better once calibrated, and a past in
        which some fits had some and others none could not be pooled.
        """
        scale = self.forecast.error_scale(noise)
        is_known = (scale > 0) & np.isfinite(self.actual)
        known_scale = np.where(is_known, scale, np.nan)
        miss_below = (self.forecast.band.mean - self.actual) / known_scale
        return miss_below, -miss_below


@dataclass(frozen=True)
class Intervals:
    """Distances of p10 and p90 from the mean, in `error_scale`: `lower`, `upper` (B, S, J).

    NaN is not known. `is_borrowed` (B, J) horizons that took another's; `noise` (B,) the part of
    chance in that scale.
    """

    segments: Segments
    lower: Floats
    upper: Floats
    is_borrowed: Bools
    noise: Floats

    @classmethod
    def blank(cls) -> Self:
        """Return intervals of which nothing has matured: they stay blank."""
        unknown = np.full((len(AGE_BUCKETS), 1, len(NODES)), np.nan)
        return cls(
            segments=Segments.from_keys((), [()]),
            lower=unknown,
            upper=unknown,
            is_borrowed=np.ones((len(AGE_BUCKETS), len(NODES)), dtype=bool),
            noise=np.zeros(len(AGE_BUCKETS)),
        )

    @classmethod
    def fit(cls, sample: CalibrationSample, segments: Segments) -> Self:
        """Take conformal order statistics of how far outcomes fell from the mean.

        The ceil(0.9 (m + 1))-th of m distinct cohorts, each weighing 1 over all its forecasts
        (split conformal prediction, with exchangeable cohorts).
        """
        noise = sample.estimate_noise()
        miss_below, miss_above = sample.scaled_misses(noise)
        lower = _order_statistics(sample, miss_below, segments)
        upper = _order_statistics(sample, miss_above, segments)

        is_borrowed = np.isnan(lower[:, 0])  # (B, J), of the segment of everything
        lower = _fill_from_longest(lower, is_borrowed)
        upper = _fill_from_longest(upper, is_borrowed)
        return cls(segments, lower, upper, is_borrowed, noise)

    def apply(self, forecast: NodeForecasts, segment: Ints) -> tuple[Band, Bools]:
        """Return the calibrated band, and which of its cells (E, J) have a borrowed width.

        p10 and p90 are not below what was observed, never fall with age, and are blank where
        nothing is known or nothing is forecast to grow; p50 is the model's, kept between them.
        """
        bucket = age_bucket(forecast.observed_age)
        scale = forecast.error_scale(self.noise)
        mean = forecast.band.mean
        p10 = mean - self.lower[bucket, segment] * scale
        p90 = mean + self.upper[bucket, segment] * scale

        is_growing = scale > 0
        floor = forecast.observed_value[:, None]
        p10 = _running_maximum(np.maximum(p10, floor))
        p10 = np.where(is_growing, p10, np.nan)
        p90 = _running_maximum(np.maximum(p90, p10))
        p90 = np.where(is_growing, p90, np.nan)
        p50 = np.fmin(np.fmax(forecast.band.p50, p10), p90)

        is_borrowed = self.is_borrowed[bucket] & np.isfinite(scale)
        return Band(mean, p10, p50, p90), is_borrowed


def _likeliest_noise(volume: Floats, relative_error: Floats, node: Ints) -> float:
    """Find the smallest noise on the grid that no other beats, of growth and errors (C,)."""
    unit = np.median(volume)
    grid = np.array(NOISE_GRID) * unit
    is_large = volume > 1e-6 * unit  # smaller may be rounding
    cells = (volume[is_large], relative_error[is_large], node[is_large])
    loss = np.array([_negative_log_likelihood(*cells, noise) for noise in grid])
    return float(grid[np.argmax(loss <= loss.min() + 1e-9)])  # alike where volumes are: none


def _negative_log_likelihood(
    volume: Floats, relative_error: Floats, node: Ints, noise: float
) -> float:
    """Mean over cells (C,) but for a constant, the spread of each node at its best."""
    squared_scale = 1 + noise / volume  # the square of the error scale over growth
    cell_count = np.bincount(node)
    scaled_error = relative_error / np.sqrt(squared_scale)
    spread = np.bincount(node, scaled_error) / np.maximum(cell_count, 1)
    spread = np.maximum(spread, np.finfo(float).tiny)
    log_scale = np.log(squared_scale) / 2
    return float(np.mean(log_scale + np.log(spread)[node]))


def _running_maximum(values: Floats) -> Floats:
    """Cumulative maximum in age; NaN stays where it is."""
    maximum = np.fmax.accumulate(values, axis=1)
    return np.where(np.isnan(values), np.nan, maximum)


def _order_statistics(sample: CalibrationSample, misses: Floats, segments: Segments) -> Floats:
    """Order statistic of each bucket, segment and node (B, S, J).

    That of the parent segment where cohorts are few. Cells are sorted once; a cohort has one
    segment, so its weights are those of all levels.
    """
    entry, node = np.nonzero(np.isfinite(misses))  # (C,) each
    miss = misses[entry, node]
    bucket = age_bucket(sample.forecast.observed_age)[entry]
    position = bucket * len(NODES) + node
    order = np.lexsort((miss, position))
    entry = entry[order]
    miss = miss[order]
    position = position[order]

    # A cohort weighs 1 at each bucket and node, however many of its forecasts are there.
    cohort_count = sample.cohort_index.max(initial=0) + 1
    cohort_at_position = position * cohort_count + sample.cohort_index[entry]
    _, group, group_size = np.unique(cohort_at_position, return_inverse=True, return_counts=True)
    weight = 1.0 / group_size[group]

    positions = len(AGE_BUCKETS) * len(NODES)
    statistics = np.full((len(segments.keys), positions), np.nan)
    for depth, segment_of_entry in enumerate(segments.lineage(sample.segment)):
        level = np.flatnonzero(segments.level == depth)
        statistics[level] = statistics[segments.parent[level]]

        segment = segment_of_entry[entry]
        cells = np.flatnonzero(segments.level[segment] == depth)
        cells = cells[np.argsort(segment[cells], kind="stable")]
        target = segment[cells] * positions + position[cells]
        target, values = _weighted_quantiles(target, miss[cells], weight[cells])
        statistics.flat[target] = values
    return statistics.reshape(-1, len(AGE_BUCKETS), len(NODES)).swapaxes(0, 1)


def _weighted_quantiles(group: Ints, miss: Floats, weight: Floats) -> tuple[Ints, Floats]:
    """Groups with enough cohorts, and their order statistics.

    `group` (C,) sorted, `miss` sorted within, `weight` adds up to m, the cohorts of a group. The
    statistic exists, as ceil(0.9 (m + 1)) <= m from m = 9 < MIN_CALIBRATION_COHORTS.
    """
    first_cell = np.flatnonzero(np.diff(group, prepend=-1))  # (G,)
    running_weight = np.concatenate(([0.0], np.cumsum(weight)))
    weight_before = running_weight[first_cell]
    weight_after = running_weight[np.append(first_cell[1:], len(group))]

    cohorts = np.rint(weight_after - weight_before)
    is_enough = cohorts >= MIN_CALIBRATION_COHORTS
    target_weight = weight_before + np.ceil(QUANTILE_LEVEL * (cohorts + 1)) - 1e-6
    cell = np.searchsorted(running_weight[1:], target_weight[is_enough])
    return group[first_cell[is_enough]], miss[cell]


def _fill_from_longest(statistics: Floats, is_borrowed: Bools) -> Floats:
    """Give horizons without a statistic the widest of the longest that have one: (B, S, J)."""
    filled = statistics.copy()
    for bucket in range(len(AGE_BUCKETS)):
        borrows = is_borrowed[bucket]  # (J,)
        matured = np.flatnonzero(~borrows)
        if len(matured):
            longest = matured[-BORROWED_HORIZONS:]
            widest = statistics[bucket][:, longest].max(axis=1)  # (S,)
            filled[bucket][:, borrows] = widest[:, None]
    return filled


@dataclass(frozen=True)
class TotalsUncertainty:
    """Uncertainty of sums over cohorts, by node: (J,) each.

    `common` variance of the error that all cohorts of an origin share and `own` of a cohort's,
    both over forecast growth; `origins` how many past origins without overlap that is worth;
    `borrowed` nodes that took another's.
    """

    common: Floats
    own: Floats
    origins: Floats
    is_borrowed: Bools

    @classmethod
    def blank(cls) -> Self:
        """Return an uncertainty of which nothing is known, as nothing has matured."""
        unknown = np.full(len(NODES), np.nan)
        no_origins = np.zeros(len(NODES))
        all_borrowed = np.ones(len(NODES), dtype=bool)
        return cls(unknown, unknown, no_origins, all_borrowed)

    @classmethod
    def fit(cls, sample: CalibrationSample, min_origins: int = MIN_ORIGINS_OF_TOTALS) -> Self:
        """Fit by moments: squared errors of past sums, less what cohorts' own errors explain.

        An origin counts at a node once half of the growth that it forecast there has matured.
        Origins closer than the days ahead share a part of what happened: those that count are
        worth at most 1 + (last - first) / days ahead. A horizon of fewer than `min_origins` takes
        the longest that has them; nothing is known before one has.
        """
        forecast = sample.forecast
        users = forecast.users[:, None]
        growth = users * np.maximum(np.nan_to_num(forecast.forecast_growth), 0.0)  # (E, J)
        error = users * (sample.actual - forecast.band.mean)
        matured_growth = np.where(np.isfinite(error), growth, 0.0)

        origin_days, origin = np.unique(sample.origin.astype("datetime64[D]"), return_inverse=True)
        matured_sum = _sum_by_origin(matured_growth, origin)  # (O, J)
        has_matured = (matured_sum > 0) & (matured_sum >= _sum_by_origin(growth, origin) / 2)
        growth = np.where(has_matured[origin], matured_growth, 0.0)
        error = np.where(growth > 0, error, 0.0)
        common, own = _error_variances(growth, error, origin)

        weighted_days = growth * (NODE_AGES - forecast.observed_age[:, None])
        days_ahead = _safe_ratio(weighted_days.sum(axis=0), growth.sum(axis=0))
        origin_count = has_matured.sum(axis=0)
        overlap_free = 1.0 + np.nan_to_num(_days_spanned(origin_days, has_matured) / days_ahead)
        origins = np.minimum(origin_count, overlap_free)

        borrowed = origin_count < min_origins
        if borrowed.all():
            return cls.blank()
        longest = np.flatnonzero(~borrowed)[-1]
        source = np.where(borrowed, longest, np.arange(len(NODES)))
        return cls(common[source], own[source], origins[source], borrowed)

    def half_width(self, grown: Floats, squared: Floats) -> Floats:
        """Half the width of the 80 % interval of a sum at each node: (J,).

        `grown` (J,) sum of users x forecast growth, `squared` (J,) sum of its squares.
        """
        variance = self.common * grown**2 + self.own * squared
        deviation = np.sqrt(variance)
        quantile = stdtrit(np.maximum(self.origins, 1.0), QUANTILE_LEVEL)  # Student's t
        half_width: Floats = quantile * deviation
        return half_width


def _sum_by_origin(cells: Floats, origin: Ints) -> Floats:
    """Sums of cells (E, J) over each origin: (O, J)."""
    origin_count = int(origin.max(initial=-1)) + 1
    sums = np.zeros((origin_count, cells.shape[1]))
    np.add.at(sums, origin, cells)
    return sums


def _safe_ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Ratio of arrays, NaN where the denominator is not positive."""
    unknown = np.full_like(denominator, np.nan)
    ratio: Floats = np.divide(numerator, denominator, out=unknown, where=denominator > 0)
    return ratio


def _days_spanned(origin_days: Days, has_matured: Bools) -> Floats:
    """Days from the first origin that has matured at each node to the last: (J,)."""
    day_of_origin = origin_days.astype(np.float64)[:, None]
    day_number = np.broadcast_to(day_of_origin, has_matured.shape)  # (O, J)
    last_day = day_number.max(axis=0, where=has_matured, initial=-np.inf)
    first_day = day_number.min(axis=0, where=has_matured, initial=np.inf)
    days: Floats = last_day - first_day
    return days


def _error_variances(growth: Floats, error: Floats, origin: Ints) -> tuple[Floats, Floats]:
    """Variances of the common error and of cohorts' own, over growth: (J,) each, NaN where unknown.

    With w the share of each cohort in the `growth` (E, J) of its origin and h = sum w^2: the
    error of the sum over its growth has variance common + own h, and a cohort's error apart from
    its share of that own growth^2 (1 - 2 w + h). Of one cohort an origin, all is common.
    """
    growth_sum = _sum_by_origin(growth, origin)  # (O, J)
    common_error = np.nan_to_num(_safe_ratio(_sum_by_origin(error, origin), growth_sum))
    share = np.nan_to_num(_safe_ratio(growth, growth_sum[origin]))  # (E, J): w
    concentration = _sum_by_origin(share**2, origin)  # (O, J): h

    residual = (error - growth * common_error[origin]) ** 2
    own_share = 1 - 2 * share + concentration[origin]
    own_unit = growth**2 * own_share
    own = np.nan_to_num(_safe_ratio(residual.sum(axis=0), own_unit.sum(axis=0)))

    has_growth = growth_sum > 0
    excess = np.where(has_growth, common_error**2 - own * concentration, 0.0)
    origin_count = has_growth.sum(axis=0).astype(np.float64)
    common = _safe_ratio(excess.sum(axis=0), origin_count)
    return np.maximum(common, 0.0), own
