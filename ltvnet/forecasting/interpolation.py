"""Values between nodes: growth by interval, and every day in the shape of a pattern or of log age.

Interval j is (node_j, node_j+1]; the first that a cohort grows in begins at its observed age k.

Shapes: N cohorts, E entries, H ages asked for, A all ages, J nodes, I = J - 1 intervals, P shapes,
B cohorts of a block, D days of an interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ltvnet.data.arrays import Bools, Floats, Ints
from ltvnet.data.curves import AGES, NODE_AGES, NODES, Curves
from ltvnet.forecasting.forecast import Band, Forecast

DAILY_BLOCK = 2048
"""Cohorts whose means at every day are made at a time."""


def interval_index(ages: Ints) -> Ints:
    """Return the interval (node_j, node_j+1] that holds each age: j; 0 for age 0."""
    return np.maximum(np.searchsorted(NODE_AGES, ages) - 1, 0)


def fraction_of_interval(log_age: Floats, log_begin: Floats, log_end: Floats) -> Floats:
    """Return the share of an interval that lies before an age, all as log(1 + age); they broadcast.

    0 where the interval has no length.
    """
    length = log_end - log_begin
    elapsed = log_age - log_begin
    return np.divide(elapsed, length, out=np.zeros_like(length), where=length > 0)


def interpolate_in_log_age(curves: Curves, at_nodes: Floats, ages: Ints) -> Floats:
    """Return values at any ages (N, H) from those at NODES (N, J): linear in log(1 + age).

    The first interval begins with what was observed; one with an end that is NaN is NaN.
    """
    k = curves.observed_age[:, None]
    observed_value = curves.observed_value[:, None]
    value = np.where(k < NODE_AGES, at_nodes, observed_value)  # (N, J)
    log_node = np.log1p(np.maximum(NODE_AGES, k))  # (N, J)

    begin = interval_index(ages)  # (H,)
    end = np.searchsorted(NODE_AGES, ages)  # the same as begin at age 0
    share = fraction_of_interval(np.log1p(ages), log_node[:, begin], log_node[:, end])  # (N, H)
    begin_value = value[:, begin]
    growth = value[:, end] - begin_value
    within = begin_value + share * growth
    is_node = ages == NODE_AGES[end]
    return np.where(is_node, at_nodes[:, end], within)


def smooth_between_exported_ages(forecast: Forecast) -> Forecast:
    """Return a forecast whose cells at ages that were not exported lie between their neighbours.

    Where curves were exported at some ages alone, models know them as steps. Between the exported
    ages around it, a cell is linear in log(1 + age); after the last one it stays as it is. Raises
    ValueError for a forecast that lacks one of these ages.
    """
    curves = forecast.curves
    exported_ages = np.array(curves.exported_ages)
    position = np.searchsorted(exported_ages, forecast.ages)  # of the next exported age: (H,)
    has_neighbours = (position > 0) & (position < len(exported_ages))
    columns = np.flatnonzero(has_neighbours & ~curves.is_exported(forecast.ages))
    if not len(columns):
        return forecast

    begin_age = exported_ages[position[columns] - 1]
    end_age = exported_ages[position[columns]]
    begin = np.searchsorted(forecast.ages, begin_age)
    end = np.searchsorted(forecast.ages, end_age)
    if not np.isin(np.union1d(begin_age, end_age), forecast.ages).all():
        raise ValueError("expected a forecast at the exported ages around those asked for")
    log_begin, log_end = np.log1p(begin_age), np.log1p(end_age)
    share = fraction_of_interval(np.log1p(forecast.ages[columns]), log_begin, log_end)
    is_ahead = forecast.is_ahead[:, columns]  # (N, C)

    def smooth(cells: Floats) -> Floats:
        known = np.where(forecast.is_ahead, cells, curves.observed_value[:, None])
        between = known[:, begin] + share * (known[:, end] - known[:, begin])
        smoothed = cells.copy()
        smoothed[:, columns] = np.where(is_ahead, between, np.nan)
        return smoothed

    raw = final = forecast.raw.map(smooth).widen_to_mean()  # quantiles round by themselves
    if forecast.final is not forecast.raw:
        final = forecast.final.map(smooth).widen_to_mean()
    return replace(forecast, pattern=smooth(forecast.pattern), raw=raw, final=final)


def smooth_shape(shape: Floats, exported_ages: Sequence[int]) -> Floats:
    """Return shapes (P, A) linear in log(1 + age) between the exported ages."""
    ages = np.arange(shape.shape[1])
    position = np.searchsorted(exported_ages, ages).clip(1, len(exported_ages) - 1)
    begin = np.array(exported_ages)[position - 1]
    end = np.array(exported_ages)[position]
    share = fraction_of_interval(np.log1p(ages), np.log1p(begin), np.log1p(end))
    between = shape[:, begin] + share * (shape[:, end] - shape[:, begin])
    is_between = (begin < ages) & (ages < end)
    return np.where(is_between, between, shape)


@dataclass(frozen=True)
class InterpolationShape:
    """Daily shapes in proportion to which means grow from node to node.

    `shape` (P, A) distinct proportions earned by age; `shape_index` (N,) of each cohort's.
    """

    shape: Floats
    shape_index: Ints

    def daily_means(self, curves: Curves, means: Sequence[Floats]) -> list[NDArray[np.float32]]:
        """Return means at every age (A, N) of cohorts from each of their `means` (N, J) at NODES.

        At ages observed they are what was observed. Where the shape does not grow, means grow as
        log age does.
        """
        daily = [np.empty((AGES, len(curves)), np.float32) for _ in means]
        shape_by_age = np.ascontiguousarray(self.shape.T)  # (A, P)
        for first in range(0, len(curves), DAILY_BLOCK):
            rows = slice(first, first + DAILY_BLOCK)
            block = _DailyBlock(
                shape_by_age=shape_by_age,
                shape_index=self.shape_index[rows],
                observed_age=curves.observed_age[rows],
                values=curves.values[rows],
            )
            block_daily = [days[:, rows] for days in daily]
            block.fill_intervals(block_daily, [mean[rows] for mean in means])
            block.fill_observed(block_daily)
        return daily


@dataclass(frozen=True)
class _DailyBlock:
    """Cohorts whose means at every day are made together.

    `shape_by_age` (A, P), `shape_index` (B,) of each cohort's, `observed_age` (B,), and `values`
    (B, A) observed.
    """

    shape_by_age: Floats
    shape_index: Ints
    observed_age: Ints
    values: Floats

    def fill_intervals(self, daily: Sequence[NDArray[np.float32]], means: Sequence[Floats]) -> None:
        """Write means at the days after each node into `daily` (A, B), from `means` (B, J)."""
        k = self.observed_age
        last_age = np.maximum(k, 0)
        value_at_last_age = self.values[np.arange(len(k)), last_age]
        last_value = np.where(k < 0, np.nan, value_at_last_age)

        for j, (begin, end) in enumerate(pairwise(NODES)):
            if (k >= end).all():
                continue
            begin_age = np.maximum(begin, last_age)
            growth = self._growth_of_shapes(begin_age, range(begin + 1, end + 1))
            interval_growth = growth[-1].copy()  # (B,)
            for mean, days in zip(means, daily, strict=True):
                begin_value = np.where(begin > k, mean[:, j], last_value)
                end_value = mean[:, j + 1]
                rate = np.zeros_like(interval_growth)
                np.divide(
                    end_value - begin_value, interval_growth, where=interval_growth > 0, out=rate
                )
                value = growth * rate  # (D, B)
                value += begin_value
                # Rounding may end above a node.
                np.minimum(value, end_value, out=days[begin + 1 : end + 1])
                days[end] = end_value

    def _growth_of_shapes(self, begin: Ints, ages: range) -> Floats:
        """Growth of shapes, or of log age, from ages `begin` (B,) to each of `ages`: (D, B)."""
        shapes = self.shape_by_age[ages.start : ages.stop]  # (D, P)
        growth = shapes.take(self.shape_index, axis=1)  # (D, B)
        growth -= self.shape_by_age[begin, self.shape_index]
        flat = np.flatnonzero(growth[-1] <= 0)
        if len(flat):
            log_age = np.log1p(ages)[:, None]
            growth[:, flat] = log_age - np.log1p(begin[flat])
        return growth

    def fill_observed(self, daily: Sequence[NDArray[np.float32]]) -> None:
        """Write observed values into `daily` (A, B); NaN at age 0 where none is complete."""
        age_count = int(np.maximum(self.observed_age, 0).max()) + 1
        is_observed = np.arange(age_count)[:, None] <= self.observed_age
        for days in daily:
            observed = self.values[:, :age_count].T
            np.copyto(days[:age_count], observed, where=is_observed, casting="same_kind")
            days[0, self.observed_age < 0] = np.nan


def interval_growth(values: Floats, observed_age: Ints, observed_value: Floats) -> Floats:
    """Return growth in each interval after the observed age: (E, I), 0 before it.

    `values` (E, J) at NODES, `observed_age` and `observed_value` (E,) that they grow from. Nodes
    that were not forecast (NaN: the prefix was cut) leave their growth to the next one that was.
    """
    is_ahead = observed_age[:, None] < NODE_AGES
    cells = np.where(is_ahead, values, observed_value[:, None])

    is_missing = np.isnan(cells)
    rows = np.flatnonzero(is_missing.any(axis=1))
    node = np.where(is_missing[rows], 0, np.arange(len(NODES)))
    last_node = np.maximum.accumulate(node, axis=1)
    cells[rows] = np.take_along_axis(cells[rows], last_node, axis=1)
    return np.diff(cells, axis=1)


def accumulate_growth(growth: Floats, observed_age: Ints, observed_value: Floats) -> Floats:
    """Return values at NODES (E, J) from growth by interval (E, I); NaN at ages observed."""
    is_ahead = observed_age[:, None] < NODE_AGES
    start = np.zeros((len(growth), 1))
    total = np.concatenate((start, np.cumsum(growth, axis=1)), axis=1)
    return np.where(is_ahead, observed_value[:, None] + total, np.nan)


def rescale_growth(
    band: Band, mean_growth: Floats, observed_age: Ints, observed_value: Floats
) -> Band:
    """Return the band whose mean grows by `mean_growth` (E, I), its quantiles in proportion.

    An interval in which the band's mean does not grow leaves its quantiles as they are; a row
    whose growth stays the same keeps every bit, and cells that were not forecast stay NaN.
    """
    old_growth = interval_growth(band.mean, observed_age, observed_value)
    unchanged = np.ones_like(mean_growth)
    ratio = np.divide(mean_growth, old_growth, out=unchanged, where=old_growth > 0)
    is_same_row = (mean_growth == old_growth).all(axis=1)[:, None]

    def with_growth(cells: Floats, growth: Floats) -> Floats:
        moved = accumulate_growth(growth, observed_age, observed_value)
        return np.where(is_same_row | np.isnan(cells), cells, moved)

    def rescale(cells: Floats) -> Floats:
        return with_growth(cells, interval_growth(cells, observed_age, observed_value) * ratio)

    # Quantiles are often one array: it is rescaled once.
    quantiles = (band.p10, band.p50, band.p90)
    distinct = {id(cells): cells for cells in quantiles}
    rescaled = {key: rescale(cells) for key, cells in distinct.items()}
    return Band(
        mean=with_growth(band.mean, mean_growth),
        p10=rescaled[id(band.p10)],
        p50=rescaled[id(band.p50)],
        p90=rescaled[id(band.p90)],
    )


def interpolate_between_nodes(raw: Forecast, nodes: Forecast, final: Band) -> Band:
    """Return a band at NODES at all ages of `raw`, each interval in the shape of its raw mean.

    `nodes` is `raw` at NODES. Where the raw mean does not grow, the shape is that of log age; an
    interval whose ends are as they were keeps every bit.
    """
    is_ahead = raw.is_ahead
    if np.array_equal(raw.ages, NODES):
        return final.map(lambda cells: np.where(is_ahead, cells, np.nan))
    intervals = _ForecastIntervals.of_forecast(raw, nodes)

    def interpolate(final_cells: Floats, node_cells: Floats, raw_cells: Floats) -> Floats:
        if final_cells is node_cells:
            return np.where(is_ahead, raw_cells, np.nan)
        begin_value, end_value = intervals.ends(final_cells)
        old_begin_value, old_end_value = intervals.ends(node_cells)
        cells = begin_value + intervals.share * (end_value - begin_value)
        cells = np.minimum(cells, end_value)  # rounding may end above a node
        cells = np.where(intervals.end_age == raw.ages, end_value, cells)
        is_same = (begin_value == old_begin_value) & (end_value == old_end_value)
        return np.where(is_ahead, np.where(is_same, raw_cells, cells), np.nan)

    mean = interpolate(final.mean, nodes.raw.mean, raw.raw.mean)
    p10 = interpolate(final.p10, nodes.raw.p10, raw.raw.p10)
    p50 = interpolate(final.p50, nodes.raw.p50, raw.raw.p50)
    p90 = interpolate(final.p90, nodes.raw.p90, raw.raw.p90)
    return Band(mean, np.minimum(p10, p50), p50, np.maximum(p90, p50))


@dataclass(frozen=True)
class _ForecastIntervals:
    """Intervals that hold the ages of a forecast.

    `interval` (H,) of each age and `end_age` (H,) its end; `share` (N, H) of the growth in the
    interval that the raw mean has by the age; `is_ahead` (N, J) nodes after the observed age,
    `observed_value` (N,).
    """

    interval: Ints
    end_age: Ints
    share: Floats
    is_ahead: Bools
    observed_value: Floats

    @classmethod
    def of_forecast(cls, raw: Forecast, nodes: Forecast) -> "_ForecastIntervals":
        """Find the intervals of the ages of `raw`, and the share of growth of its mean."""
        k = raw.curves.observed_age[:, None]
        interval = interval_index(raw.ages)
        end_age = NODE_AGES[interval + 1]
        log_begin = np.log1p(np.maximum(NODE_AGES[interval], k))  # (N, H)
        share = fraction_of_interval(np.log1p(raw.ages), log_begin, np.log1p(end_age))
        intervals = cls(interval, end_age, share, k < NODE_AGES, raw.curves.observed_value)

        # Log age tells the share only where the mean does not grow.
        begin_value, end_value = intervals.ends(nodes.raw.mean)
        growth = end_value - begin_value
        growth_by_age = raw.raw.mean - begin_value
        np.divide(growth_by_age, growth, out=share, where=growth > 0)
        return intervals

    def ends(self, cells: Floats) -> tuple[Floats, Floats]:
        """Return values (N, H) at the begin and the end of each interval, of `cells` at NODES."""
        from_observed = np.where(self.is_ahead, cells, self.observed_value[:, None])
        begin_value = from_observed[:, self.interval]
        end_value = from_observed[:, self.interval + 1]
        return begin_value, end_value
