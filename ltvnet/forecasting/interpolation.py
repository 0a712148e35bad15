"""Values between nodes: growth by interval, and every day in the shape of a pattern.

Legend: N cohorts, E entries, H ages, A all ages, J nodes, I intervals, P shapes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ltvnet.data.arrays import Floats, Ints
from ltvnet.data.curves import AGES, NODES, Curves
from ltvnet.forecasting.forecast import QUANTITIES, Band, Forecast

DAYS_TOGETHER = 2048
"""Cohorts whose means at every day are made together."""


@dataclass(frozen=True)
class InterpolationShape:
    """How means go from node to node: they grow as `shape` (P, A) does.

    `which` (N,) of the shapes each cohort has.
    """

    shape: Floats
    shape_index: Ints

    def daily_means(self, curves: Curves, means: Sequence[Floats]) -> list[NDArray[np.float32]]:
        """Means at every age (A, N) of cohorts whose `means` (N, J) at NODES are known.

        At ages observed they are what was observed. Where the shape does not grow, theirs is that
        of log age.
        """
        made = [np.empty((AGES, len(curves)), np.float32) for _ in means]
        shape = np.ascontiguousarray(self.shape.T)
        for first in range(0, len(curves), DAYS_TOGETHER):
            rows = slice(first, first + DAYS_TOGETHER)
            known = curves.values[rows], curves.observed_age[rows]
            own = [mean[rows] for mean in means]
            _fill([cells[:, rows] for cells in made], shape, self.shape_index[rows], known, own)
        return made


def _fill(
    made: Sequence[NDArray[np.float32]],
    shape: Floats,
    which: Ints,
    known: tuple[Floats, Ints],
    means: Sequence[Floats],
) -> None:
    """Means at every age, `made` (A, N), as `Course.days` has them, of a block of cohorts.

    `shape` (A, P), `which` (N,) of them, values (N, A) that are `known` up to ages (N,), and
    `means` (N, J) at NODES.
    """
    values, k = known
    now = np.maximum(k, 0)
    value = np.where(k < 0, np.nan, values[np.arange(len(k)), now])
    for j, (begin, end) in enumerate(pairwise(NODES)):
        if (k >= end).all():
            continue
        part = _gained(shape, which, np.maximum(begin, now), range(begin + 1, end + 1))  # (H, N)
        whole = part[-1].copy()
        for mean, cells in zip(means, made, strict=True):
            left, right = np.where(begin > k, mean[:, j], value), mean[:, j + 1]
            each = np.divide(right - left, whole, where=whole > 0, out=np.zeros_like(whole))
            days = part * each
            days += left
            np.minimum(days, right, out=cells[begin + 1 : end + 1])  # rounding may end above a node
            cells[end] = right
    seen = int(now.max()) + 1
    observed = np.arange(seen)[:, None] <= k
    for cells in made:
        np.copyto(cells[:seen], values[:, :seen].T, where=observed, casting="same_kind")
        cells[0, k < 0] = np.nan


def _gained(shape: Floats, which: Ints, low: Ints, ages: range) -> Floats:
    """What shapes (A, P) gain from ages `low` (N,) to each of `ages`: (H, N), or log age does."""
    part = shape[ages.start : ages.stop].take(which, axis=1)
    part -= shape[low, which]
    flat = np.flatnonzero(part[-1] <= 0)
    if len(flat):
        part[:, flat] = np.log1p(ages)[:, None] - np.log1p(low[flat])
    return part


def interval_growth(values: Floats, observed: Ints, value: Floats) -> Floats:
    """Growth in each interval after the observed age: (E, I), 0 before it.

    `values` (E, J) at NODES, `observed` and `value` (E,) the age and value it grows from. Nodes
    that were not forecast (NaN: the prefix was cut) leave their growth to the next one that was.
    """
    ahead = np.array(NODES) > observed[:, None]
    cells = np.where(ahead, values, value[:, None])
    unknown = np.isnan(cells)
    cut = np.flatnonzero(unknown.any(axis=1))
    last = np.maximum.accumulate(np.where(unknown[cut], 0, np.arange(len(NODES))), axis=1)
    cells[cut] = np.take_along_axis(cells[cut], last, axis=1)
    return np.diff(cells, axis=1)


def accumulate_growth(grown: Floats, observed: Ints, value: Floats) -> Floats:
    """Values at NODES (E, J) from growth in each interval (E, I); NaN at ages observed."""
    ahead = np.array(NODES) > observed[:, None]
    total = np.concatenate((np.zeros((len(grown), 1)), np.cumsum(grown, axis=1)), axis=1)
    return np.where(ahead, value[:, None] + total, np.nan)


def rescale_growth(band: Band, mean: Floats, observed: Ints, value: Floats) -> Band:
    """A band whose mean grows by `mean` (E, I) instead, quantile increments in proportion.

    An interval in which the band's mean does not grow leaves its quantiles as they are; a row
    whose growth stays the same keeps every bit, and cells that were not forecast stay NaN.
    """
    own = interval_growth(band.mean, observed, value)
    ratio = np.divide(mean, own, out=np.ones_like(mean), where=own > 0)
    same = (mean == own).all(axis=1)[:, None]

    def grown(cells: Floats, growth: Floats) -> Floats:
        return np.where(same | np.isnan(cells), cells, accumulate_growth(growth, observed, value))

    def quantile(cells: Floats) -> Floats:
        return grown(cells, interval_growth(cells, observed, value) * ratio)

    different = {id(cells): cells for cells in (band.p10, band.p50, band.p90)}
    moved = {key: quantile(cells) for key, cells in different.items()}
    p10, p50, p90 = (moved[id(cells)] for cells in (band.p10, band.p50, band.p90))
    return Band(grown(band.mean, mean), p10, p50, p90)


def interpolate_between_nodes(raw: Forecast, nodes: Forecast, final: Band) -> Band:
    """A band at NODES spread over the ages of `raw`, each interval in the shape of its raw mean.

    `nodes` is `raw` at NODES. Where the raw mean does not grow, the shape is that of log age; an
    interval whose ends are as they were keeps every bit.
    """
    observed, value = raw.curves.observed_age, raw.curves.observed_value
    ages, grid = raw.ages, np.array(NODES)
    if np.array_equal(ages, grid):
        return Band(*(np.where(raw.is_ahead, getattr(final, name), np.nan) for name in QUANTITIES))
    right = np.maximum(np.searchsorted(grid, ages), 1)  # (H,)
    begin = np.maximum(grid[right - 1], observed[:, None])  # (N, H)
    ahead = grid > observed[:, None]  # (N, J)

    def ends(cells: Floats) -> tuple[Floats, Floats]:
        filled = np.where(ahead, cells, value[:, None])
        return filled[:, right - 1], filled[:, right]

    low, high = ends(nodes.raw.mean)
    grown = high - low
    length = np.log1p(grid[right]) - np.log1p(begin)
    part = np.log1p(ages) - np.log1p(begin)
    share = np.divide(part, length, out=np.zeros_like(length), where=length > 0)
    share = np.divide(raw.raw.mean - low, grown, out=share, where=grown > 0)

    def spread(name: str) -> Floats:
        if getattr(final, name) is getattr(nodes.raw, name):
            return np.where(raw.is_ahead, getattr(raw.raw, name), np.nan)
        left, to = ends(getattr(final, name))
        before, after = ends(getattr(nodes.raw, name))
        cells = np.minimum(left + share * (to - left), to)  # rounding may end above a node
        cells = np.where(grid[right] == ages, to, cells)
        same = (left == before) & (to == after)
        return np.where(raw.is_ahead, np.where(same, getattr(raw.raw, name), cells), np.nan)

    mean, p10, p50, p90 = map(spread, QUANTITIES)
    return Band(mean, np.minimum(p10, p50), p50, np.maximum(p90, p50))


def interpolate_in_log_age(curves: Curves, node_values: Floats, ages: Ints) -> Floats:
    """Interpolate values at NODES (N, J) to other ages, linearly in log(1 + age): (N, H).

    The first interval begins with what was observed; an interval with an end that is NaN is NaN.
    """
    nodes = np.array(NODES)
    observed_age = curves.observed_age[:, None]
    is_ahead = nodes > observed_age  # (N, J)
    values = np.where(is_ahead, node_values, curves.observed_value[:, None])
    log_age = np.log1p(np.maximum(nodes, observed_age))  # (N, J)

    right = np.searchsorted(nodes, ages)  # (H,)
    left = np.maximum(right - 1, 0)
    share = fraction_of_interval(np.log1p(ages), log_age[:, left], log_age[:, right])  # (N, H)
    within = values[:, left] + share * (values[:, right] - values[:, left])
    return np.where(ages == nodes[right], node_values[:, right], within)


def fraction_of_interval(position: Floats, begin: Floats, end: Floats) -> Floats:
    """Share of an interval that lies before a position within it; 0 where it has no length.

    `begin` and `end` share a shape, to which `position` broadcasts.
    """
    length = end - begin
    return np.divide(position - begin, length, out=np.zeros_like(length), where=length > 0)
