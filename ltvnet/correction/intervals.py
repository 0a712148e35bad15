"""Intervals that were checked on the past: pooled conformal calibration, and portfolio sums.

Shapes: E past forecasts, J nodes, B buckets of observed age, S segments, C cells.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import stdtrit

from ltvnet.data.arrays import Bools, Days, Floats, Ints
from ltvnet.data.curves import NODES
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


@dataclass(frozen=True)
class Intervals:
    """Distances of p10 and p90 from the mean, in `Growing.size`: `lower`, `upper` (B, S, J).

    NaN is not known. `borrowed` (B, J) horizons that took another's; `noise`
    (B,) the part of chance in that size.
    """

    segments: Segments
    lower: Floats
    upper: Floats
    is_borrowed: Bools
    noise: Floats

    @classmethod
    def blank(cls) -> Self:
        """Nothing has matured: intervals stay blank."""
        unknown = np.full((len(AGE_BUCKETS), 1, len(NODES)), np.nan)
        segments = Segments.from_keys((), [()])
        borrowed = np.ones(unknown.shape[::2], dtype=bool)
        return cls(segments, unknown, unknown, borrowed, np.zeros(len(AGE_BUCKETS)))

    @classmethod
    def fit(cls, issued: "CalibrationSample", segments: Segments) -> Self:
        """Conformal order statistics of how far outcomes fell from the mean.

        The ceil(0.9 (m + 1))-th of m distinct cohorts, each weighing 1 over all its forecasts
        (split conformal prediction, with exchangeable cohorts).
        """
        noise = issued.estimate_noise()
        below, above = issued.scaled_misses(noise)
        lower = _order_statistics(issued, below, segments)
        upper = _order_statistics(issued, above, segments)
        borrowed = np.isnan(lower[:, 0])
        lower, upper = _borrowing(lower, borrowed), _borrowing(upper, borrowed)
        return cls(segments, lower, upper, borrowed, noise)

    def apply(self, forecast: "NodeForecasts", segment: Ints) -> tuple[Band, Bools]:
        """The calibrated band, and its cells (E, J) with a borrowed width.

        p10 and p90 are not below what was observed, never fall with age, and are blank where
        nothing is known or nothing is forecast to grow; p50 is the model's, kept between them.
        """
        which = age_bucket(forecast.observed_age)
        size = forecast.error_scale(self.noise)
        value = forecast.observed_value[:, None]
        known = size > 0
        p10 = forecast.band.mean - self.lower[which, segment] * size
        p90 = forecast.band.mean + self.upper[which, segment] * size
        p10 = np.where(known, _rising(np.maximum(p10, value)), np.nan)
        p90 = np.where(known, _rising(np.maximum(p90, p10)), np.nan)
        p50 = np.fmin(np.fmax(forecast.band.p50, p10), p90)
        band = Band(forecast.band.mean, p10, p50, p90)
        return band, self.is_borrowed[which] & np.isfinite(size)


@dataclass(frozen=True)
class NodeForecasts:
    """Forecasts at NODES from an observed age.

    `observed` age, `value` at it and `users` (E,), `pattern` (E, J).
    """

    observed_age: Ints
    observed_value: Floats
    users: Floats
    pattern: Floats
    band: Band

    @property
    def forecast_growth(self) -> Floats:
        """Forecast growth, the model's or the pattern's if that is more: (E, J)."""
        return np.maximum(self.band.mean, self.pattern) - self.observed_value[:, None]

    def error_scale(self, noise: Floats) -> Floats:
        """What errors are measured by: sqrt(g^2 + noise g / users), (E, J), g the growth.

        A level that was mistaken errs in proportion to growth; the chance of single purchases has
        a variance that grows as growth does and falls with users (compound Poisson). `noise` (B,)
        is the growth of all users, in currency, at which the two are alike. NaN without users.
        """
        grown = np.maximum(self.forecast_growth, 0.0)
        chance = _ratio(noise[age_bucket(self.observed_age)], self.users)[:, None]
        return np.sqrt(grown * (grown + chance))


@dataclass(frozen=True)
class CalibrationSample:
    """Forecasts beside what came true: `actual` (E, J), NaN where not matured.

    `cohort` (E,) number of the cohort, `origin` (E,), `segment` (E,) deepest.
    """

    forecast: NodeForecasts
    actual: Floats
    cohort_index: Ints
    origin: Days
    segment: Ints

    def estimate_noise(self) -> Floats:
        """The part of chance in errors that made them most likely, by bucket: (B,), currency.

        Errors over their size are taken as Laplace, since some are large, with a spread of each
        node's own, as widths are: pooled, a level that errs more at some ages looks like chance.
        """
        scale = self.forecast.forecast_growth
        volume = self.forecast.users[:, None] * scale
        error = np.abs(self.actual - self.forecast.band.mean)
        known = (volume > 0) & np.isfinite(error)
        row, node = np.nonzero(known)  # (C,)
        volume, relative = volume[known], error[known] / scale[known]
        which = age_bucket(self.forecast.observed_age)[row]
        noise = np.zeros(len(AGE_BUCKETS))
        for b in np.unique(which):
            own = which == b
            noise[b] = _likeliest(volume[own], relative[own], node[own])
        return noise

    def scaled_misses(self, noise: Floats) -> tuple[Floats, Floats]:
        """How far outcomes fell below and above the mean, over the size of errors: (E, J) each.

        The model's own quantiles are left out: they are no better once calibrated, and a past in
        which some fits had some and others none could not be pooled.
        """
        size = self.forecast.error_scale(noise)
        known = (size > 0) & np.isfinite(self.actual)
        unit = np.where(known, size, np.nan)
        miss = (self.forecast.band.mean - self.actual) / unit
        return miss, -miss


def _likeliest(volume: Floats, relative: Floats, node: Ints) -> float:
    """The smallest noise on the grid that no other beats, of growth and relative errors (C,)."""
    unit = np.median(volume)
    grid, large = np.array(NOISE_GRID) * unit, volume > 1e-6 * unit  # smaller may be rounding
    cells = (volume[large], relative[large], node[large])
    loss = np.array([_unlikely(*cells, noise) for noise in grid])
    return float(grid[np.argmax(loss <= loss.min() + 1e-9)])  # alike where volumes are: none


def _unlikely(volume: Floats, relative: Floats, node: Ints, noise: float) -> float:
    """Mean negative log-likelihood but for a constant, the spread of each node at its best."""
    bare = 1 + noise / volume  # the square of size over growth
    spread = np.bincount(node, relative / np.sqrt(bare)) / np.maximum(np.bincount(node), 1)
    spread = np.maximum(spread, np.finfo(float).tiny)
    return float(np.mean(np.log(bare) / 2 + np.log(spread)[node]))


def _rising(values: Floats) -> Floats:
    """Cumulative maximum in age; NaN stays where it is."""
    return np.where(np.isnan(values), np.nan, np.fmax.accumulate(values, axis=1))


def _order_statistics(issued: CalibrationSample, misses: Floats, segments: Segments) -> Floats:
    """The order statistic of each bucket, segment and node, of its parent where cohorts are few.

    Cells are sorted once; a cohort has one segment, so its weights are those of all levels.
    """
    row, node = np.nonzero(np.isfinite(misses))  # (C,)
    miss = misses[row, node]
    place = age_bucket(issued.forecast.observed_age)[row] * len(NODES) + node
    order = np.lexsort((miss, place))
    row, miss, place = row[order], miss[order], place[order]
    pair = place * (issued.cohort_index.max(initial=0) + 1) + issued.cohort_index[row]
    _, same, count = np.unique(pair, return_inverse=True, return_counts=True)
    weight = 1.0 / count[same]
    found = np.full((len(segments.keys), len(AGE_BUCKETS) * len(NODES)), np.nan)
    for depth, line in enumerate(segments.lineage(issued.segment)):
        at = np.flatnonzero(segments.level == depth)
        found[at] = found[segments.parent[at]]
        s = line[row]
        own = np.flatnonzero(segments.level[s] == depth)
        own = own[np.argsort(s[own], kind="stable")]
        group, value = _weighted(s[own] * found.shape[1] + place[own], miss[own], weight[own])
        found.flat[group] = value
    return found.reshape(-1, len(AGE_BUCKETS), len(NODES)).swapaxes(0, 1)


def _weighted(group: Ints, miss: Floats, weight: Floats) -> tuple[Ints, Floats]:
    """Groups with enough cohorts, and their order statistics.

    `group` (C,) sorted, `miss` sorted within, `weight` adds up to m, the cohorts of a group. The
    statistic exists, as ceil(0.9 (m + 1)) <= m from m = 9 < MIN_COHORTS.
    """
    begin = np.flatnonzero(np.diff(group, prepend=-1))  # (G,)
    running = np.concatenate(([0.0], np.cumsum(weight)))
    before = running[begin]
    cohorts = np.rint(running[np.append(begin[1:], len(group))] - before)
    enough = cohorts >= MIN_CALIBRATION_COHORTS
    reached = before + np.ceil(QUANTILE_LEVEL * (cohorts + 1)) - 1e-6
    place = np.searchsorted(running[1:], reached[enough])
    return group[begin[enough]], miss[place]


def _borrowing(found: Floats, borrowed: Bools) -> Floats:
    """Horizons without a statistic take the widest of the longest that have one."""
    filled = found.copy()
    for b in range(len(AGE_BUCKETS)):
        matured = np.flatnonzero(~borrowed[b])
        if len(matured):
            widest = found[b][:, matured[-BORROWED_HORIZONS:]].max(axis=1)  # (S,)
            filled[b][:, borrowed[b]] = widest[:, None]
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
    borrowed: Bools

    @classmethod
    def blank(cls) -> Self:
        """Nothing has matured."""
        unknown = np.full(len(NODES), np.nan)
        return cls(unknown, unknown, np.zeros(len(NODES)), np.ones(len(NODES), dtype=bool))

    @classmethod
    def fit(cls, issued: CalibrationSample, min_origins: int = 4) -> Self:
        """Method of moments: squared errors of past sums, less what cohorts' own errors explain.

        An origin counts at a node once half of the growth that it forecast there has matured.
        Origins closer than the days ahead share a part of what happened: those that count are
        worth at most 1 + (last - first) / days ahead. A horizon of fewer than `min_origins` takes
        the longest that has them; nothing is known before one has.
        """
        scale = issued.forecast.users[:, None] * np.maximum(
            np.nan_to_num(issued.forecast.forecast_growth), 0.0
        )
        error = issued.forecast.users[:, None] * (issued.actual - issued.forecast.band.mean)
        day, origin = np.unique(issued.origin.astype("datetime64[D]"), return_inverse=True)
        known = np.where(np.isfinite(error), scale, 0.0)
        grown = _sums(known, origin)  # (origins, J)
        seen = (grown > 0) & (grown >= _sums(scale, origin) / 2)
        size = np.where(seen[origin], known, 0.0)
        common, own = _variances(size, np.where(size > 0, error, 0.0), origin)
        days = size * (np.array(NODES) - issued.forecast.observed_age[:, None])
        ahead = _ratio(days.sum(axis=0), size.sum(axis=0))
        count = seen.sum(axis=0)
        origins = np.minimum(count, 1.0 + np.nan_to_num(_span(day, seen) / ahead))
        borrowed = count < min_origins
        if borrowed.all():
            return cls.blank()
        longest = np.flatnonzero(~borrowed)[-1]
        place = np.where(borrowed, longest, np.arange(len(NODES)))
        return cls(common[place], own[place], origins[place], borrowed)

    def half_width(self, grown: Floats, squared: Floats) -> Floats:
        """Half the width of the 80 % interval of a sum at each node: (J,).

        `grown` (J,) sum of users x forecast growth, `squared` (J,) sum of its squares.
        """
        deviation = np.sqrt(self.common * grown**2 + self.own * squared)
        quantile = stdtrit(np.maximum(self.origins, 1.0), QUANTILE_LEVEL)  # Student's t
        width: Floats = quantile * deviation
        return width


def _sums(cells: Floats, origin: Ints) -> Floats:
    """Sums of cells (E, J) over each origin: (origins, J)."""
    total = np.zeros((int(origin.max(initial=-1)) + 1, cells.shape[1]))
    np.add.at(total, origin, cells)
    return total


def _ratio(above: Floats, below: Floats) -> Floats:
    """NaN where there is nothing below."""
    ratio: Floats = np.divide(above, below, out=np.full_like(below, np.nan), where=below > 0)
    return ratio


def _span(day: Days, seen: Bools) -> Floats:
    """Days from the first origin seen at each node to the last: (J,)."""
    number = np.broadcast_to(day.astype(np.float64)[:, None], seen.shape)
    last = number.max(axis=0, where=seen, initial=-np.inf)
    span: Floats = last - number.min(axis=0, where=seen, initial=np.inf)
    return span


def _variances(size: Floats, error: Floats, origin: Ints) -> tuple[Floats, Floats]:
    """Of the common error and of cohorts' own, over growth: (J,) each, NaN where none is seen.

    With w the share of each cohort in the growth `size` (E, J) of its origin and h = sum w^2: the
    error of the sum over its growth has variance common + own h, and a cohort's error apart from
    its share of that own size^2 (1 - 2 w + h). Of one cohort an origin, all is common.
    """
    grown = _sums(size, origin)  # (origins, J)
    shared = np.nan_to_num(_ratio(_sums(error, origin), grown))
    share = np.nan_to_num(_ratio(size, grown[origin]))
    spread = _sums(share**2, origin)
    residual = (error - size * shared[origin]) ** 2
    freedom = size**2 * (1 - 2 * share + spread[origin])
    own = np.nan_to_num(_ratio(residual.sum(axis=0), freedom.sum(axis=0)))
    excess = np.where(grown > 0, shared**2 - own * spread, 0.0)
    common = _ratio(excess.sum(axis=0), (grown > 0).sum(axis=0).astype(np.float64))
    return np.maximum(common, 0.0), own
