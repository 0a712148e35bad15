"""How credible a cohort's own level is: kappa, learned by forecasting again what has come true.

Shapes: N cohorts, A ages, J intervals between nodes, S segments, R rows, G kappas.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltvnet.data.arrays import Floats, Ints
from ltvnet.data.curves import NODES, Curves
from ltvnet.data.segments import Segments
from ltvnet.models.pattern.development import Standing

KAPPA_AGES = np.array([0, 1, 3, 7, 14, 30, 60, 120])
"""Observed ages at which kappa is learned; between them its log is linear in log(1 + age)."""

KAPPAS = np.array([1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16, 64])
"""The grid of kappa, in revenue that a median cohort is expected to earn by D7."""

KAPPA_ORIGINS, KAPPA_EVERY, KAPPA_COHORTS = 12, 28, 30
"""Past origins that kappa is learned from: how many, days apart, cohorts needed at each."""


def credible_level(prior: Floats, earned: Floats, own: Floats, constant: float | Floats) -> Floats:
    """Move a level to what was seen, by volume: prior x (K + own) / (K + prior x earned).

    `prior` value at the last age; `earned` = users x beta(k); `own` = users x y(k); `constant`
    = K in currency; all broadcast. K = 0 is the chain ladder; where nothing was expected and
    nothing seen the prior stays.
    """
    volume = constant + prior * earned
    known = True if volume.min(initial=1.0) > 0 else volume > 0
    ratio = np.divide(constant + own, volume, out=np.ones_like(volume), where=known)
    level: Floats = prior * np.maximum(ratio, 0.0, out=ratio)
    return level


@dataclass(frozen=True)
class SegmentCurves:
    """What was measured as of an origin.

    `reach` last age that enough cohorts reached, `first` the first age with revenue, `unit`
    revenue (currency) that a median cohort is expected to earn by D7, `tilting` the constant of
    `development.tilt`, `beta` (S, A) proportion earned by age, `level` (S,) value per user at last.
    """

    segments: Segments
    last_supported_age: int
    first_revenue_age: int
    median_revenue_d7: float
    tilting: float
    beta: Floats
    level: Floats


def earned_by(line: Sequence[Ints], beta: Floats, users: Floats, age: Ints) -> Floats:
    """Users x proportion earned at an age, (N,) each, summed over each segment: (S,).

    `line` the segments of the cohorts at every level.
    """
    earned = np.zeros(len(beta))
    for ids in line:
        earned += np.bincount(ids, users * beta[ids, age], len(beta))
    return earned


@dataclass(frozen=True)
class KappaErrors:
    """Absolute errors of growth at one past origin and observed age, for every kappa of the grid.

    `age` the position in KAPPA_AGES; `start` (R,) first acquisition day; `loss` (R, G) users x
    error x step in log age, in currency.
    """

    age: int
    start: NDArray[np.datetime64]
    loss: Floats


def replay_kappa_errors(
    measured: SegmentCurves, known: Standing, curves: Curves, found: Ints
) -> Iterator[KappaErrors]:
    """Forecast cohorts that were within a week of each age, and compare with what is known now.

    `measured` and `known` as of the past origin, `curves` as of now; `found` (N,) the segments of
    the cohorts.
    """
    nodes = np.array(NODES)
    weight = np.diff(np.log1p(nodes), prepend=0.0)
    for position, age in enumerate(KAPPA_AGES):
        rows = np.flatnonzero((known.age >= age) & (known.age < age + 7))
        natural, reached = known.age[rows, None], curves.observed_age[rows, None]
        beta, users = measured.beta[found[rows]], curves.users[rows]
        own = curves.values[rows, age]
        level = credible_level(
            measured.level[found[rows]][:, None],
            (users * beta[:, age])[:, None],
            (users * own)[:, None],
            KAPPAS * measured.median_revenue_d7,
        )  # (R, G)
        grown = level[:, :, None] * (beta[:, nodes] - beta[:, [age]])[:, None, :]  # (R, G, J + 1)
        actual = curves.values[rows[:, None], nodes] - own[:, None]  # (R, J + 1)
        error = np.abs(actual[:, None, :] - grown)
        scored = (nodes > natural) & (nodes <= reached) & (nodes <= measured.last_supported_age)
        loss = np.where(scored[:, None, :], error * weight, 0.0).sum(axis=2) * users[:, None]
        yield KappaErrors(position, curves.start[rows], loss)


def fit_kappas(replays: Iterator[KappaErrors]) -> Floats:
    """Kappa at each of KAPPA_AGES: the smallest within one standard error of the best.

    The standard error is that of the difference to the best, clustered on the acquisition week;
    ages with fewer than 8 weeks take their neighbours' kappa, none at all 1; smoothed over
    neighbours.
    """
    chosen = np.full(len(KAPPA_AGES), np.nan)
    by_age: dict[int, list[KappaErrors]] = {}
    for one in replays:
        by_age.setdefault(one.age, []).append(one)
    for age, parts in by_age.items():
        start, week = np.unique(np.concatenate([p.start for p in parts]), return_inverse=True)
        loss = np.zeros((len(start), len(KAPPAS)))  # (weeks, G)
        np.add.at(loss, week, np.concatenate([p.loss for p in parts]))
        if len(loss) >= 8:
            best = loss.sum(axis=0).argmin()
            worse = loss - loss[:, [best]]
            error = worse.std(axis=0, ddof=1) * np.sqrt(len(loss))
            chosen[age] = np.log(KAPPAS[np.argmax(worse.sum(axis=0) <= error)])
    known = np.isfinite(chosen)
    if not known.any():
        return np.ones(len(KAPPA_AGES))
    filled = np.interp(np.arange(len(chosen)), np.flatnonzero(known), chosen[known])
    padded = np.pad(filled, 1, mode="edge")
    smooth: Floats = np.exp((padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4)
    return smooth
