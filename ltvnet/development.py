"""How cohorts developed from age to age: segments, sums of revenue, credible growth, its shape.

Every ratio is a ratio of sums over users, so zeros are data.

Shapes: N cohorts, A ages, J intervals between nodes, S segments, R rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltvnet.curves import AGES, NODES, Curves, Floats, Ints, Strings

STEPS = np.arange(1, AGES)
"""Age at which each daily step of development ends: (A - 1,)."""

INTERVAL = np.repeat(np.arange(len(NODES) - 1), np.diff(NODES))
"""Interval j, (node_j, node_j+1], that holds each daily step: (A - 1,)."""

TILT_ROUNDS, MOST_TILT = 4, 0.5
"""Steps of Newton's method, and the largest exponent, of a segment's tilt from its parent."""

SHARE = 0.5
"""Part of the variance between the deepest segments' tilts that each level is given: chosen on
simulated portfolios, where twice as much did as well."""


class Attributed(Protocol):
    """Rows with attributes: cohorts, or forecasts of them."""

    @property
    def attributes(self) -> Mapping[str, Strings]:
        """Text of each attribute: name -> (N,)."""
        ...

    def __len__(self) -> int:
        """Number of rows N."""
        ...


@dataclass(frozen=True)
class Segments:
    """The segments of all levels, stacked: a parent always before its children.

    `keys` (S,) the attribute values of each, () for everything; `level` (S,) their number;
    `parent` (S,) the segment one level up, of the first segment itself.
    """

    names: tuple[str, ...]
    keys: list[tuple[str, ...]]
    level: Ints
    parent: Ints

    @classmethod
    def named(cls, names: tuple[str, ...], keys: list[tuple[str, ...]]) -> Self:
        """Segments from their keys, sorted by level."""
        place = {key: s for s, key in enumerate(keys)}
        parent = [place[key[:-1]] for key in keys]
        return cls(names, keys, np.array([len(key) for key in keys]), np.array(parent))

    @classmethod
    def of(cls, curves: Curves, levels: int | None) -> Self:
        """The segments that stand in `curves`, down to `levels` names of the hierarchy."""
        depth = len(curves.hierarchy[:levels])
        keys = [key for level in range(depth + 1) for key in curves.segments(level)[1]]
        return cls.named(curves.hierarchy[:depth], keys)

    def below(self) -> list[Ints]:
        """The segments of each level under the top, from the top down."""
        return [np.flatnonzero(self.level == n) for n in range(1, len(self.names) + 1)]

    def find(self, cohorts: Attributed) -> Ints:
        """The deepest known segment of each cohort: (N,)."""
        found = np.zeros(len(cohorts), dtype=np.int64)
        absent = np.full(len(cohorts), "", dtype=object)
        alive = np.ones(len(cohorts), dtype=bool)
        for name, known in zip(self.names, self.below(), strict=True):
            values, code = np.unique([self.keys[s][-1] for s in known], return_inverse=True)
            pairs = self.parent[known] * len(values) + code  # a parent and a value: one child
            order = np.argsort(pairs)
            code = pd.Index(values).get_indexer(pd.Index(cohorts.attributes.get(name, absent)))
            pair = found * len(values) + code
            place = order[np.searchsorted(pairs, pair, sorter=order).clip(max=len(order) - 1)]
            alive &= (code >= 0) & (pairs[place] == pair)
            found = np.where(alive, known[place], found)
        return found

    def lineage(self, found: Ints) -> list[Ints]:
        """The segment of each row at every level from the top: a list of (R,) down to `found`."""
        line = [found]
        for level in range(len(self.names), 0, -1):
            line.insert(0, np.where(self.level[line[0]] == level, self.parent[line[0]], line[0]))
        return line

    def totals(self, rows: Floats, found: Ints) -> Floats:
        """Sums of rows (N, ...) over each segment and its descendants: (S, ...)."""
        order = np.argsort(found, kind="stable")
        present, begin = np.unique(found[order], return_index=True)
        sums = np.zeros((len(self.keys), *rows.shape[1:]))
        sums[present] = np.add.reduceat(rows[order], begin, axis=0)
        for below in reversed(self.below()):
            np.add.at(sums, self.parent[below], sums[below])
        return sums


@dataclass(frozen=True)
class Development:
    """Sums of users x value over the cohorts that completed each daily step.

    `base` at the age where the step begins and `gain` during it, each (R, A - 1).
    """

    base: Floats
    gain: Floats

    def __sub__(self, other: "Development") -> "Development":
        """The sums without some of the cohorts."""
        return Development(self.base - other.base, self.gain - other.gain)

    def __getitem__(self, rows: NDArray[np.generic]) -> "Development":
        """The sums of some of the rows."""
        return Development(self.base[rows], self.gain[rows])

    def totals(self, segments: Segments, found: Ints) -> "Development":
        """The sums of each segment (S, A - 1) from those of its cohorts."""
        return Development(segments.totals(self.base, found), segments.totals(self.gain, found))


def development(curves: Curves, last: int, half_life: float | None) -> Development:
    """Each cohort's own development up to age `last`, older steps weighing less: (N, A - 1)."""
    known = (curves.observed_age[:, None] >= STEPS) & (last >= STEPS)
    weight = np.where(known, curves.users[:, None], 0.0)
    if half_life is not None:
        ended = (curves.origin - curves.end).astype(np.int64)[:, None] - STEPS
        weight = weight * 0.5 ** (ended / half_life)
    values = np.nan_to_num(curves.values)
    return Development(weight * values[:, :-1], weight * np.diff(values, axis=1))


def ratio_of_sums(own: Development) -> Floats:
    """Daily growth, the chain ladder's factors less one; 0 where there was no revenue to grow."""
    return np.divide(own.gain, own.base, out=np.zeros_like(own.base), where=own.base > 0)


def by_interval(daily: Floats) -> Floats:
    """Sums of daily steps (R, A - 1) over the intervals between nodes: (R, J)."""
    first = np.searchsorted(INTERVAL, np.arange(len(NODES) - 1))
    sums: Floats = np.add.reduceat(daily, first, axis=1)
    return sums


def lean(growth: Floats) -> Floats:
    """How far log growth (R, A - 1) of each interval falls with the exponent of its decay: (R, J).

    Revenue that falls as (1 + age)^-c more than it did grows by exp(-c x lean) as much: the log of
    1 + age, less its mean over the revenue earned before, to first order in c.
    """
    log = np.log1p(np.arange(AGES))
    first = np.argmax(growth > 0, axis=1)[:, None]  # age of the revenue that there is to grow
    earned = np.cumprod(np.pad(1.0 + growth, ((0, 0), (1, 0)), constant_values=1.0), axis=1)
    weighted = earned[:, :1] * log[first] + np.pad(
        np.cumsum(np.diff(earned, axis=1) * log[1:], axis=1), ((0, 0), (1, 0))
    )
    mean = np.divide(weighted, earned, out=np.zeros_like(earned), where=earned > 0)
    whole = by_interval(growth)
    part = by_interval(growth * (log[1:] - mean[:, :-1]))
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)


def tilt(actual: Floats, expected: Floats, leans: Floats, constant: float) -> Floats:
    """How much less steeply than expected revenue fell, as an exponent: (R, 1), within MOST_TILT.

    The maximum a posteriori of a Poisson log-linear model of growth in intervals (R, J), by
    Newton's method; `constant` (currency) over the variance of the exponent: the dispersion.
    """
    found = np.zeros((len(expected), 1))
    for _ in range(TILT_ROUNDS):
        now = expected * np.exp(found * leans)
        score = ((actual - now) * leans).sum(axis=1, keepdims=True) - constant * found
        information = (now * leans**2).sum(axis=1, keepdims=True) + constant
        step = np.divide(score, information, out=np.zeros_like(score), where=information > 0)
        found = np.clip(found + step, -MOST_TILT, MOST_TILT)
    return found


def tilt_constant(growth: Floats, own: Development, found: Ints) -> float:
    """Dispersion of growth over the variance between segments of their tilt, in currency.

    `growth` (1, A - 1) of all, `own` (N, A - 1) of cohorts, `found` (N,) their segments. By
    moments (Buhlmann and Straub 1970): cohorts about their segment tell the dispersion, segments
    about all the variance, of which each level of the hierarchy has SHARE. Infinite, so that
    nothing is tilted, where segments differ by no more than chance or there is only one.
    """
    leans, expected = lean(growth), by_interval(own.base * growth)
    score = ((by_interval(own.gain) - expected) * leans).sum(axis=1)
    volume = (expected * leans**2).sum(axis=1)
    scores, volumes = np.bincount(found, score), np.bincount(found, volume)
    mean = np.divide(scores, volumes, out=np.zeros_like(scores), where=volumes > 0)
    free = (volume > 0).sum() - (volumes > 0).sum()
    if free < 1 or (volumes > 0).sum() < 2:
        return np.inf
    rest = ((score - mean[found] * volume) ** 2).sum() * (volume > 0).sum() / free
    dispersion = rest / volumes.sum()
    between = (scores**2).sum() - dispersion * volumes.sum()
    if between <= 0:
        return np.inf
    return float(dispersion * (volumes**2).sum() / between / SHARE)


def credible_growth(
    parent: Floats, own: Development, credibility: float, tilting: float = np.inf
) -> Floats:
    """A segment's daily growth (R, A - 1), shrunk to its parent's.

    The parent's growth is first tilted as the segment's is over all ages (`tilting`, the constant
    of `tilt`; infinite: not at all): late growth of a young segment is told by its early growth.
    Then each interval's actual over expected growth against the parent's daily factors, with
    `credibility` (currency) of revenue that grew as the tilted parent did: Buhlmann-Straub with a
    constant volume. Curves proportional to the parent's are left as they are.
    """
    expected, actual = by_interval(own.base * parent), by_interval(own.gain)
    tilted = np.ones_like(expected)
    if np.isfinite(tilting):
        leans = lean(parent)
        tilted = np.exp(tilt(actual, expected, leans, tilting) * leans)
    prior = credibility * by_interval(parent)
    volume = expected + prior
    ratio = np.divide(actual + prior * tilted, volume, out=tilted.copy(), where=volume > 0)
    return parent * np.maximum(ratio, 0.0)[:, INTERVAL]


def share_earned(growth: Floats, first: int) -> Floats:
    """Proportion beta(a) of the last age's value that is earned by age a: (R, A).

    `first` is the first age at which anybody had revenue. Where refunds made sums fall, the
    share stays at its highest so far.
    """
    factors = np.ones((len(growth), AGES))
    factors[:, 1:] = np.cumprod(1.0 + np.where(first < STEPS, growth, 0.0), axis=1)
    factors = np.maximum.accumulate(factors, axis=1)
    factors[:, :first] = 0.0
    return factors / factors[:, -1:]


def with_tail(growth: Floats, last: int) -> Floats:
    """Continue growth (R, A - 1) beyond age `last` along b x age^-c.

    Ordinary least squares of log growth on log age over the steps that grew: the inverse-power
    tail of reserving practice. Rows with fewer than three such steps stay flat.
    """
    tailed = growth.copy()
    for row in tailed:
        grew = (row > 0) & (last >= STEPS)
        if grew.sum() >= 3:
            slope, level = np.polyfit(np.log(STEPS[grew]), np.log(row[grew]), 1)
            row[last < STEPS] = np.exp(level + slope * np.log(STEPS[last < STEPS]))
    return tailed
