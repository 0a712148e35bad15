"""What past forecasts got wrong, learned walking forward: blend with the pattern, and correction.

Both act on increments between nodes, so a forecast stays monotone and exact at what was observed,
and an error is learned as soon as its interval has ended. A stage is on, by observed age, only
where it was significantly better on forecasts issued before it was learned: over acquisition
weeks, since cohorts of a week err alike, and over origins, since a season moves all cohorts.

Shapes: E past forecasts, J nodes, I = J - 1 intervals, B buckets of observed age, S segments.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit, xlogy

from ltvnet.curves import NODES, Bools, Floats, Ints
from ltvnet.development import Segments
from ltvnet.forecasting import BUCKETS, QUANTITIES, Band, Forecast, bucket

PARTS = 4
"""Parts into which a blend divides its weight between the models and the pattern."""

KAPPAS = (20.0, 100.0, 500.0)
"""The grid of the correction's credibility, in median forecast increments."""

MIN_WEEKS = 8
"""Acquisition weeks that must have matured before a stage can be told from chance."""

SIGNIFICANT = 0.93
"""Confidence (one-sided, Student's t) that a stage was better, over weeks and over origins."""

NOTHING = 1e-9
"""A trial that forecasts no growth is judged as if it were this much of the forecast's."""

HALF_LIFE = 60.0
"""Days in which a past forecast's weight in a correction halves: what is wrong wanders."""


def increments(values: Floats, observed: Ints, value: Floats) -> Floats:
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


def accumulated(grown: Floats, observed: Ints, value: Floats) -> Floats:
    """Values at NODES (E, J) from growth in each interval (E, I); NaN at ages observed."""
    ahead = np.array(NODES) > observed[:, None]
    total = np.concatenate((np.zeros((len(grown), 1)), np.cumsum(grown, axis=1)), axis=1)
    return np.where(ahead, value[:, None] + total, np.nan)


@dataclass(frozen=True)
class Past:
    """Forecasts as they were issued beside what had come true by a day.

    `observed` (E,) age, `value` (E,) at it, `users` (E,), `week` (E,) number of the acquisition
    week, `origin` (E,) number of the origin and `ago` (E,) days since then, `segment` (E,) the
    deepest segment; `forecast` and `actual` (E, I) increments, the latter NaN where the interval
    had not ended.
    """

    segments: Segments
    segment: Ints
    observed: Ints
    users: Floats
    week: Ints
    origin: Ints
    ago: Floats
    forecast: Floats
    actual: Floats

    @property
    def matured(self) -> Bools:
        """Which increments (E, I) had come true, of intervals that were ahead."""
        ahead = np.array(NODES[1:]) > self.observed[:, None]
        return ahead & np.isfinite(self.actual)

    @property
    def step(self) -> Floats:
        """Weight of each increment (E, I): users x step in log age, 0 where not matured."""
        begin = np.maximum(np.array(NODES[:-1]), self.observed[:, None])
        step = np.log1p(np.array(NODES[1:])) - np.log1p(begin)
        return np.where(self.matured, self.users[:, None] * step, 0.0)

    def so_far(self, grown: Floats) -> Floats:
        """Growth (E, I) summed over the intervals that have come true."""
        return np.cumsum(np.where(self.matured, grown, 0.0), axis=1)

    @property
    def freedom(self) -> Floats:
        """How many origins without overlap the past is worth, by bucket: (B,).

        Origins closer than the days ahead share a part of what happened.
        """
        step, which = self.step, bucket(self.observed)
        days = step * (np.array(NODES[1:]) - self.observed[:, None])
        some = step.any(axis=1)
        worth = np.zeros(len(BUCKETS))
        for b in np.unique(which[some]):
            own = some & (which == b)
            ahead = days[own].sum() / step[own].sum()
            count = len(np.unique(self.origin[own]))
            worth[b] = min(count, 1.0 + np.ptp(self.ago[own]) / ahead)
        return worth

    def loss(self, forecast: Floats) -> Floats:
        """Error of forecast growth (E, I): (E,), in currency.

        Users x absolute error of the growth so far x step in log age, summed over the ages that
        have come true.
        """
        error = np.abs(self.so_far(forecast - self.actual))
        return np.asarray((self.step * error).sum(axis=1))

    def gain(self, trial: Floats) -> Floats:
        """How much more likely a trial (E, I) made the growth so far: (E,), in currency.

        Difference of over-dispersed-Poisson deviances, which the mean minimizes: an absolute
        error would be cut by forecasting the median, and prefer whatever is lower.
        """
        mean, other = self.so_far(self.forecast), self.so_far(trial)
        grew = mean > 0
        ratio = np.divide(other, mean, out=np.ones_like(mean), where=grew)
        ratio = np.maximum(ratio, NOTHING)
        actual = np.maximum(self.so_far(self.actual), 0.0)
        deviance = np.where(grew, mean - other + xlogy(actual, ratio), 0.0)
        return np.asarray((self.step * deviance).sum(axis=1))


def best(past: Past, trials: Sequence[Floats]) -> Ints:
    """Which of the trials forecast best, by bucket: (B,) positions, -1 where none can be told.

    `trials` (E, I) each, as they would have been issued: each is judged as a forecast of the mean
    against `past.forecast`.
    """
    return _clearest(past, np.stack([past.gain(trial) for trial in trials]))


def _clearest(past: Past, gain: Floats) -> Ints:
    """Position of the largest significant gain out of (trials, E), by bucket: (B,), -1 for none."""
    which = bucket(past.observed)
    weekly, by_origin = (_summed(gain, which, label) for label in (past.week, past.origin))
    weeks = (weekly != 0).sum(axis=2)
    clear = (weeks >= MIN_WEEKS) & _positive(weekly, weeks)
    clear &= _positive(by_origin, np.broadcast_to(past.freedom, weeks.shape))
    total = np.where(clear, weekly.sum(axis=2), -np.inf)
    return np.where(clear.any(axis=0), total.argmax(axis=0), -1).astype(np.int64)


def _summed(gain: Floats, which: Ints, label: Ints) -> Floats:
    """Sums of gains (trials, E) over bucket and label: (trials, B, labels)."""
    count = int(label.max(initial=0)) + 1
    sums = np.zeros((len(gain), len(BUCKETS) * count))
    place = which * count + label
    for total, own in zip(sums, gain, strict=True):
        total += np.bincount(place, own, minlength=len(total))
    return sums.reshape(len(gain), len(BUCKETS), count)


def _positive(sums: Floats, freedom: NDArray[Any]) -> Bools:
    """Whether sums (trials, B, L), where not 0, have a mean above 0: a t-test, (trials, B).

    `freedom` (trials, B) independent sums that they are worth, of which it takes 2.
    """
    count = np.maximum((sums != 0).sum(axis=2), 2)
    mean = sums.sum(axis=2) / count
    variance = np.maximum((sums**2).sum(axis=2) / count - mean**2, 0.0) * count / (count - 1)
    worth = np.clip(freedom, 2.0, count)
    least = stdtrit(worth - 1, SIGNIFICANT) * np.sqrt(variance / worth)
    above: Bools = (freedom >= 2) & (mean > least)
    return above


@dataclass(frozen=True)
class Blend:
    """Weights of M models by bucket of observed age: (B, M). The pattern has what is left of 1."""

    weight: Floats

    @classmethod
    def off(cls, models: int = 1) -> Self:
        """Each model the same, the pattern nothing."""
        return cls(np.full((len(BUCKETS), models), 1.0 / models))

    @classmethod
    def learned(cls, past: Past, models: Floats, pattern: Floats) -> Self:
        """The weights of the least absolute error, equal where none were significantly better.

        `past.forecast` of the models' mean, `models` (M, E, I) of each, `pattern` (E, I) of the
        pattern. Bias is left to correction.
        """
        trials = shares(len(models))  # (W, M)
        equal = past.loss(past.forecast)
        gain = [equal - past.loss(_mixed(trial, models, pattern)) for trial in trials]
        chosen = _clearest(past, np.stack(gain))
        weight = np.where(chosen[:, None] >= 0, trials[chosen], 1.0 / len(models))
        return cls(weight)

    @property
    def pattern(self) -> Floats:
        """Weight of the pattern: (B,)."""
        rest: Floats = 1.0 - self.weight.sum(axis=1)
        return rest

    @property
    def on(self) -> Bools:
        """Where weights are other than those of `off`: (B,)."""
        other = ~np.isclose(self.weight, self.off(self.weight.shape[1]).weight)
        return np.asarray(other.any(axis=1))

    def apply(self, models: Floats, pattern: Floats, observed: Ints) -> Floats:
        """Blended increments (E, I) of those of each model (M, E, I) and of the pattern."""
        return _mixed(self.weight[bucket(observed)].T[:, :, None], models, pattern)


def shares(models: int) -> Floats:
    """All ways (W, M) to give models some of PARTS equal parts of 1, the pattern the rest."""
    given = combinations_with_replacement(range(models + 1), PARTS)  # who has each part
    counts = [np.bincount(parts, minlength=models + 1)[1:] for parts in given]
    ordered: Floats = np.unique(counts, axis=0) / PARTS
    return ordered


def _mixed(weight: Floats, models: Floats, pattern: Floats) -> Floats:
    """Weighted sum of models (M, E, I) and the pattern (E, I), by weights (M, ...)."""
    own = weight.reshape(len(models), -1, 1)
    mixed: Floats = (own * models).sum(axis=0) + (1.0 - own.sum(axis=0)) * pattern
    return mixed


@dataclass(frozen=True)
class Correction:
    """Factors on increments by bucket, segment and interval (B, S, I), and where they are on.

    `on` (B,); `kappa` (B,) the credibility that was best; `rows` (B, S, I) increments behind each
    factor.
    """

    segments: Segments
    factor: Floats
    rows: Ints
    on: Bools
    kappa: Floats

    @classmethod
    def off(cls) -> Self:
        """No correction."""
        shape = (len(BUCKETS), 1, len(NODES) - 1)
        segments = Segments.named((), [()])
        ones = np.ones(shape)
        off = np.zeros(len(BUCKETS), dtype=bool)
        return cls(segments, ones, np.zeros(shape, dtype=np.int64), off, np.zeros(len(BUCKETS)))

    @classmethod
    def learned(cls, past: Past, kappa: float) -> Self:
        """Actual over expected increments, shrunk to the parent segment's factor.

        c = max(0, (sum users actual + K c_parent) / (sum users forecast + K)), K = kappa x the
        median of users x forecast increment, where positive, in that bucket and interval; c above
        the top is 1. The sums are of recent forecasts above all, see HALF_LIFE.
        """
        matured = past.matured
        users = np.where(matured, past.users[:, None], 0.0)
        whole = users * past.forecast
        fresh = 0.5 ** (past.ago[:, None] / HALF_LIFE)
        expected, actual = fresh * whole, fresh * users * np.nan_to_num(past.actual)
        shape = (len(BUCKETS), len(past.segments.keys), len(NODES) - 1)
        factor, rows = np.ones(shape), np.zeros(shape, dtype=np.int64)
        which = bucket(past.observed)
        for b in np.unique(which):
            own = which == b
            found = past.segment[own]
            middle = _median(whole[own])  # (I,)
            sums = past.segments.totals(
                np.stack((actual[own], expected[own], matured[own].astype(float)), axis=2), found
            )
            rows[b] = sums[:, :, 2].astype(np.int64)
            factor[b] = _shrunk(past.segments, sums, kappa * middle)
        off = np.zeros(len(BUCKETS), dtype=bool)
        return cls(past.segments, factor, rows, off, np.full(len(BUCKETS), kappa))

    def apply(self, grown: Floats, observed: Ints, segment: Ints, *, trial: bool = False) -> Floats:
        """Corrected increments (E, I): where the stage is on, or everywhere on trial."""
        which = bucket(observed)
        factor = self.factor[which, segment]
        return grown * (factor if trial else np.where(self.on[which][:, None], factor, 1.0))


def _median(expected: Floats) -> Floats:
    """Median of the positive cells of each interval (I,), 0 where there is none."""
    frame = pd.DataFrame(np.where(expected > 0, expected, np.nan))
    return frame.median().fillna(0.0).to_numpy()


def _shrunk(segments: Segments, sums: Floats, constant: Floats) -> Floats:
    """Factors (S, I) of sums (S, I, 3) of actual, expected and rows."""
    factor = np.ones(sums.shape[:2])
    for s in [np.zeros(1, dtype=np.int64), *segments.below()]:
        parent = factor[segments.parent[s]]  # 1 above the top
        expected = sums[s, :, 1] + constant
        actual = sums[s, :, 0] + constant * parent
        ratio = np.divide(actual, expected, out=parent.copy(), where=expected > 0)
        factor[s] = np.maximum(ratio, 0.0)
    return factor


def scaled(band: Band, mean: Floats, observed: Ints, value: Floats) -> Band:
    """A band whose mean grows by `mean` (E, I) instead, quantile increments in proportion.

    An interval in which the band's mean does not grow leaves its quantiles as they are; a row
    whose growth stays the same keeps every bit, and cells that were not forecast stay NaN.
    """
    own = increments(band.mean, observed, value)
    ratio = np.divide(mean, own, out=np.ones_like(mean), where=own > 0)
    same = (mean == own).all(axis=1)[:, None]

    def grown(cells: Floats, growth: Floats) -> Floats:
        return np.where(same | np.isnan(cells), cells, accumulated(growth, observed, value))

    def quantile(cells: Floats) -> Floats:
        return grown(cells, increments(cells, observed, value) * ratio)

    different = {id(cells): cells for cells in (band.p10, band.p50, band.p90)}
    moved = {key: quantile(cells) for key, cells in different.items()}
    p10, p50, p90 = (moved[id(cells)] for cells in (band.p10, band.p50, band.p90))
    return Band(grown(band.mean, mean), p10, p50, p90)


def between(raw: Forecast, nodes: Forecast, final: Band) -> Band:
    """A band at NODES spread over the ages of `raw`, each interval in the shape of its raw mean.

    `nodes` is `raw` at NODES. Where the raw mean does not grow, the shape is that of log age; an
    interval whose ends are as they were keeps every bit.
    """
    observed, value = raw.curves.observed_age, raw.curves.observed_value
    ages, grid = raw.ages, np.array(NODES)
    if np.array_equal(ages, grid):
        return Band(*(np.where(raw.open, getattr(final, name), np.nan) for name in QUANTITIES))
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
            return np.where(raw.open, getattr(raw.raw, name), np.nan)
        left, to = ends(getattr(final, name))
        before, after = ends(getattr(nodes.raw, name))
        cells = np.minimum(left + share * (to - left), to)  # rounding may end above a node
        cells = np.where(grid[right] == ages, to, cells)
        same = (left == before) & (to == after)
        return np.where(raw.open, np.where(same, getattr(raw.raw, name), cells), np.nan)

    mean, p10, p50, p90 = map(spread, QUANTITIES)
    return Band(mean, np.minimum(p10, p50), p50, np.maximum(p90, p50))
