"""How cohorts developed from age to age: segments, sums of revenue, credible growth, its shape.

Every ratio is a ratio of sums over users, so zeros are data.

Shapes: N cohorts, A ages, J intervals between nodes, S segments, R rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltvnet.data.arrays import Floats, Ints, block_slices
from ltvnet.data.curves import AGES, NODES, Curves
from ltvnet.data.segments import Segments

STEP_END_AGES = np.arange(1, AGES)
"""Age at which each daily step of development ends: (A - 1,)."""

LOG_AGE = np.log1p(np.arange(AGES))

LENGTHS = np.diff(NODES)
"""Daily steps of each interval between nodes: (J,)."""

INTERVAL = np.repeat(np.arange(len(NODES) - 1), LENGTHS)
"""Interval j, (node_j, node_j+1], that holds each daily step: (A - 1,)."""

TILT_ROUNDS, MOST_TILT = 4, 0.5
"""Steps of Newton's method, and the largest exponent, of a segment's tilt from its parent."""

SHARE = 0.5
"""Part of the variance between the deepest segments' tilts that each level is given: chosen on
simulated portfolios, where twice as much did as well."""


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

    def steps(self, begin: int, end: int, last: Ints) -> "Development":
        """Some of the steps, those up to an age of each row (R,)."""
        known = STEP_END_AGES[begin:end] <= last[:, None]
        return Development(self.base[:, begin:end] * known, self.gain[:, begin:end] * known)


def cohort_development(
    curves: Curves, last: int, half_life: float | None, rows: Ints | slice = slice(None)
) -> Development:
    """Each cohort's own development up to age `last`, older steps weighing less: (N, A - 1).

    Of all cohorts or of some `rows`, in any order.
    """
    seen = curves.observed_age[rows, None] >= np.arange(AGES)
    weight = np.where(seen[:, 1:] & (last >= STEP_END_AGES), curves.users[rows, None], 0.0)
    if half_life is not None:
        ended = (curves.origin - curves.end[rows]).astype(np.int64)[:, None] - STEP_END_AGES
        weight = weight * 0.5 ** (ended / half_life)
    values = np.where(seen, curves.values[rows], 0.0)
    gain = values[:, 1:] - values[:, :-1]
    return Development(np.multiply(weight, values[:, :-1], out=values[:, :-1]), gain * weight)


@dataclass(frozen=True)
class Standing:
    """What had been seen of some cohorts by a day.

    `age` (N,) last complete age, -1 where there was none; `reach` the last age that enough cohorts
    had reached, `first` the first age with revenue; `sums` (S, A - 1) of segments up to `reach`.
    """

    age: Ints
    reach: int
    first: int
    sums: Development


@dataclass(frozen=True)
class Triangle:
    """Cohorts in their segments, `found` (N,), older steps of development weighing less."""

    curves: Curves
    segments: Segments
    found: Ints
    half_life: float | None

    def standings(self, ago: Sequence[int], cohorts: int) -> list[Standing]:
        """As of so many days ago (D,), increasing; `cohorts` are enough to tell of an age.

        A cell is added up once, among those that as many of the days had seen; those of a day are
        the cells that so many days or more had seen. Nothing is taken away, so that no rounding
        is left where there was no revenue.
        """
        ages = self.curves.observed_ages_before(ago)  # (D, N)
        order = np.argsort(self.found, kind="stable")
        present, place = np.unique(self.found[order], return_inverse=True)
        sums = np.zeros((2, len(self.segments.keys), len(ago) + 1, AGES - 1))
        revenue = np.zeros((len(ago) + 1, AGES))
        for block in block_slices(len(order)):
            rows, first = order[block], place[block.start]
            seen, local = _seen(ages[:, rows]), place[block] - first
            cell = (local[:, None] * (len(ago) + 1) + seen) * AGES + np.arange(AGES)
            own = cohort_development(self.curves, AGES - 1, self.half_life, rows)
            at, shape = present[first : first + local[-1] + 1], (-1, len(ago) + 1, AGES)
            for total, part in zip(sums, (own.base, own.gain), strict=True):
                added = np.bincount(cell[:, 1:].ravel(), part.ravel(), len(at) * revenue.size)
                total[at] += added.reshape(shape)[:, :, 1:]
            earned = self.curves.users[rows, None] * np.nan_to_num(self.curves.values[rows])
            cell = seen * AGES + np.arange(AGES)
            revenue += np.bincount(cell.ravel(), earned.ravel(), revenue.size).reshape(-1, AGES)
        for day in range(len(ago), 0, -1):
            revenue[day - 1] += revenue[day]
            sums[:, :, day - 1] += sums[:, :, day]
        base, gain = map(self.segments.add_descendants, sums)
        found = []
        for day, age in enumerate(ages):
            reach = int(np.sort(age)[-cohorts]) if len(age) >= cohorts else -1
            weight = 1.0 if self.half_life is None else 2.0 ** (ago[day] / self.half_life)
            known = np.where(reach >= STEP_END_AGES, weight, 0.0)
            totals = Development(base[:, day + 1] * known, gain[:, day + 1] * known)
            first = int(np.argmax(revenue[day + 1] > 0))
            found.append(Standing(age, reach, first, totals))
        return found

    def tiltings(self, standings: Sequence[Standing], ago: Sequence[int]) -> list[float]:
        """The constant of `tilt` as of each day."""
        weights = [tilt_weights(ratio_of_sums(known.sums[np.array([0])])) for known in standings]
        scores = np.zeros((len(standings), len(self.found), 2))
        for block in block_slices(len(self.found)):
            own = cohort_development(self.curves, AGES - 1, self.half_life, block)
            for day, standing in enumerate(standings):
                last = np.minimum(standing.age[block], standing.reach)
                sure, most = max(last.min(), 0), max(last.max(), 0)  # all and some have seen these
                whole = Development(own.base[:, :sure], own.gain[:, :sure])
                part = own.steps(sure, most, last)
                scores[day, block] = tilt_scores(weights[day][:, :sure], whole)
                scores[day, block] += tilt_scores(weights[day][:, sure:most], part)
        if self.half_life is not None:
            scores *= 2.0 ** (np.array(ago) / self.half_life)[:, None, None]
        return [tilt_constant(told, self.found) for told in scores]


def _seen(ages: Ints) -> Ints:
    """Of how many days, at which cohorts had these ages (D, R), each age was known: (R, A)."""
    count = np.zeros((ages.shape[1], AGES), dtype=np.uint8)
    for age in ages.astype(np.int16):
        count += age[:, None] >= np.arange(AGES, dtype=np.int16)
    return count.astype(np.int64)


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
    first = np.argmax(growth > 0, axis=1)  # age of the revenue that there is to grow
    earned, weighted = np.empty_like(growth), np.empty_like(growth)
    earned[:, 0], weighted[:, 0] = 1.0, LOG_AGE[first]
    np.add(growth[:, :-1], 1.0, out=earned[:, 1:])
    np.cumprod(earned, axis=1, out=earned)
    np.subtract(earned[:, 1:], earned[:, :-1], out=weighted[:, 1:])
    weighted[:, 1:] *= LOG_AGE[1:-1]
    np.cumsum(weighted, axis=1, out=weighted)
    nothing = earned <= 0
    if nothing.any():
        earned[nothing], weighted[nothing] = 1.0, 0.0
    weighted /= earned
    np.subtract(LOG_AGE[1:], weighted, out=weighted)
    weighted *= growth
    whole, part = by_interval(growth), by_interval(weighted)
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


def tilt_weights(growth: Floats) -> Floats:
    """What `tilt_scores` weighs base (twice) and gain by, from growth (1, A - 1): (3, A - 1)."""
    leans = lean(growth)[:, INTERVAL]
    return np.concatenate((growth * leans, growth * leans**2, leans))


def tilt_scores(weights: Floats, own: Development) -> Floats:
    """Derivative of the likelihood of cohorts (N, A - 1) by their tilt, and information: (N, 2)."""
    told: Floats = own.base @ weights[:2].T
    told[:, 0] = own.gain @ weights[2] - told[:, 0]
    return told


def tilt_constant(scores: Floats, found: Ints) -> float:
    """Dispersion of growth over the variance between segments of their tilt, in currency.

    `scores` (N, 2) of `tilt_scores`, `found` (N,) the cohorts' segments. By moments (Buhlmann and
    Straub 1970): cohorts about their segment tell the dispersion, segments about all the variance,
    of which each level of the hierarchy has SHARE. Infinite, so that nothing is tilted, where
    segments differ by no more than chance or there is only one.
    """
    score, volume = scores.T
    sums, volumes = np.bincount(found, score), np.bincount(found, volume)
    mean = np.divide(sums, volumes, out=np.zeros_like(sums), where=volumes > 0)
    free = (volume > 0).sum() - (volumes > 0).sum()
    if free < 1 or (volumes > 0).sum() < 2:
        return np.inf
    rest = ((score - mean[found] * volume) ** 2).sum() * (volume > 0).sum() / free
    dispersion = rest / volumes.sum()
    between = (sums**2).sum() - dispersion * volumes.sum()
    if between <= 0:
        return np.inf
    return float(dispersion * (volumes**2).sum() / between / SHARE)


def credible_growth(
    parent: Floats,
    own: Development,
    credibility: float,
    tilting: float = np.inf,
    whose: Ints | slice = slice(None),
) -> Floats:
    """A segment's daily growth (R, A - 1), shrunk to its parent's: row `whose` (R,) of parents.

    The parent's growth is first tilted as the segment's is over all ages (`tilting`, the constant
    of `tilt`; infinite: not at all): late growth of a young segment is told by its early growth.
    Then each interval's actual over expected growth against the parent's daily factors, with
    `credibility` (currency) of revenue that grew as the tilted parent did: Buhlmann-Straub with a
    constant volume. Curves proportional to the parent's are left as they are.
    """
    growth: Floats = parent[whose]
    expected, actual = by_interval(own.base * growth), by_interval(own.gain)
    tilted = np.ones_like(expected)
    if np.isfinite(tilting):
        leans = lean(parent)[whose]
        tilted = np.exp(tilt(actual, expected, leans, tilting) * leans)
    prior = credibility * by_interval(parent)[whose]
    volume = expected + prior
    ratio = np.divide(actual + prior * tilted, volume, out=tilted.copy(), where=volume > 0)
    credible: Floats = np.repeat(np.maximum(ratio, 0.0), LENGTHS, axis=1)
    credible *= growth
    return credible


def share_earned(growth: Floats, first: int) -> Floats:
    """Proportion beta(a) of the last age's value that is earned by age a: (R, A).

    `first` is the first age at which anybody had revenue. Where refunds made sums fall, the
    share stays at its highest so far.
    """
    factors = np.empty((len(growth), AGES))
    factors[:, : first + 1] = 1.0
    np.add(growth[:, first:], 1.0, out=factors[:, first + 1 :])
    np.cumprod(factors[:, first:], axis=1, out=factors[:, first:])
    if growth.min(initial=0.0) < 0:
        np.maximum.accumulate(factors, axis=1, out=factors)
    factors[:, :first] = 0.0
    factors /= factors[:, -1:].copy()
    return factors


def with_tail(growth: Floats, last: int) -> Floats:
    """Continue growth (R, A - 1) beyond age `last` along b x age^-c.

    Ordinary least squares of log growth on log age over the steps that grew: the inverse-power
    tail of reserving practice. Rows with fewer than three such steps stay flat.
    """
    tailed = growth.copy()
    for row in tailed:
        grew = (row > 0) & (last >= STEP_END_AGES)
        if grew.sum() >= 3:
            slope, level = np.polyfit(np.log(STEP_END_AGES[grew]), np.log(row[grew]), 1)
            row[last < STEP_END_AGES] = np.exp(
                level + slope * np.log(STEP_END_AGES[last < STEP_END_AGES])
            )
    return tailed
