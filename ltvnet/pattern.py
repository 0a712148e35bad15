"""The historical pattern: how curves of a segment grew from age to age, and a credible level.

Every ratio is a ratio of sums over users, so zeros are data; segments shrink to their parent by
credibility. With one segment and kappa = 0 the pattern is the chain ladder.

Shapes: N cohorts, A ages, J intervals between nodes, S segments, R rows, H ages, G kappas.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltvnet.calendar import Calendar
from ltvnet.curves import AGES, NODES, Curves, Floats, Ints
from ltvnet.dates import Dates, Trend
from ltvnet.development import (
    Segments,
    credible_growth,
    development,
    ratio_of_sums,
    share_earned,
    tilt_constant,
    with_tail,
)
from ltvnet.forecasting import (
    Band,
    Forecast,
    Parts,
    State,
    checked_ages,
    filled,
    reasons,
    unseen,
)

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
    ratio = np.divide(constant + own, volume, out=np.ones_like(volume), where=volume > 0)
    return prior * np.maximum(ratio, 0.0)


@dataclass(frozen=True)
class Measured:
    """What was measured as of an origin.

    `reach` last age that enough cohorts reached, `first` the first age with revenue, `unit`
    revenue (currency) that a median cohort is expected to earn by D7, `tilting` the constant of
    `development.tilt`, `beta` (S, A) proportion earned by age, `level` (S,) value per user at last.
    """

    segments: Segments
    reach: int
    first: int
    unit: float
    tilting: float
    beta: Floats
    level: Floats


@dataclass(frozen=True)
class Expected:
    """What history expects of each cohort: `pattern(h) = y(k) + A_n (beta(h) - beta(k))`.

    `beta` (N, A) proportion earned by age, on the cohort's own dates; `prior` = A_s, the level of
    its segment, and `level` = A_n, its own: both (N, 1) at the observed age, or (N, A) for every
    age k at which the cohort could stand.
    """

    beta: Floats
    prior: Floats
    level: Floats


def earned_by(segments: Segments, beta: Floats, found: Ints, curves: Curves) -> Floats:
    """Users x proportion earned at the observed age, summed over each segment: (S,)."""
    earned = np.zeros(len(beta))
    for ids in segments.lineage(found):
        np.add.at(earned, ids, curves.users * beta[ids, curves.observed_age])
    return earned


@dataclass(frozen=True)
class Replay:
    """Absolute errors of growth at one past origin and observed age, for every kappa of the grid.

    `age` the position in KAPPA_AGES; `start` (R,) first acquisition day; `loss` (R, G) users x
    error x step in log age, in currency.
    """

    age: int
    start: NDArray[np.datetime64]
    loss: Floats


def replay(measured: Measured, then: Curves, found: Ints, now: Curves) -> Iterator[Replay]:
    """Forecast at a past origin the cohorts within a week of each age, and compare with `now`.

    `found` (N,) the segments of the cohorts; rows of `then` and `now` are the same cohorts.
    """
    nodes = np.array(NODES)
    weight = np.diff(np.log1p(nodes), prepend=0.0)
    natural, reached = then.observed_age, now.observed_age
    for position, age in enumerate(KAPPA_AGES):
        rows = np.flatnonzero((natural >= age) & (natural < age + 7))
        beta, users = measured.beta[found[rows]], then.users[rows]
        own = then.values[rows, age]
        level = credible_level(
            measured.level[found[rows]][:, None],
            (users * beta[:, age])[:, None],
            (users * own)[:, None],
            KAPPAS * measured.unit,
        )  # (R, G)
        grown = level[:, :, None] * (beta[:, nodes] - beta[:, [age]])[:, None, :]  # (R, G, J + 1)
        actual = now.values[rows][:, nodes] - own[:, None]  # (R, J + 1)
        error = np.abs(actual[:, None, :] - grown)
        scored = (nodes > natural[rows, None]) & (nodes <= reached[rows, None])
        scored &= nodes <= measured.reach
        loss = np.where(scored[:, None, :], error * weight, 0.0).sum(axis=2) * users[:, None]
        yield Replay(position, then.start[rows], loss)


def learned_kappas(replays: Iterator[Replay]) -> Floats:
    """Kappa at each of KAPPA_AGES: the smallest within one standard error of the best.

    The standard error is that of the difference to the best, clustered on the acquisition week;
    ages with fewer than 8 weeks take their neighbours' kappa, none at all 1; smoothed over
    neighbours.
    """
    chosen = np.full(len(KAPPA_AGES), np.nan)
    by_age: dict[int, list[pd.DataFrame]] = {}
    for one in replays:
        by_age.setdefault(one.age, []).append(pd.DataFrame(one.loss, index=one.start))
    for age, frames in by_age.items():
        loss = pd.concat(frames).groupby(level=0).sum().to_numpy()  # (weeks, G)
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


@dataclass(kw_only=True)
class Pattern:
    """The historical pattern as a forecaster.

    `levels` how many names of the hierarchy to use (None: all). `credibility`,
    `level_credibility` and `kappa`: how much revenue the growth of a segment, the level of a
    segment and the level of a cohort need before they outweigh what stands above them, in units
    of the revenue that a median cohort is expected to earn by D7; `kappa="learned"` chooses it
    per observed age, walking forward. `tilt` whether a segment's growth may fall off faster or more
    slowly at all ages together. `calendar` and `trend` whether dates of revenue and of
    acquisition are told apart: what they did to the past is taken out, what they will do is put
    back. `half_life` days in which a step of development halves in weight (None: all weigh the
    same). Ages that fewer than `min_cohorts` cohorts reached are extrapolated by `tail`, "flat" or
    "inverse_power". Raises ValueError for other values.
    """

    levels: int | None
    credibility: float
    level_credibility: float
    kappa: float | str
    tilt: bool
    calendar: bool
    trend: bool
    half_life: float | None
    min_cohorts: int
    tail: str

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.levels is not None and self.levels < 0:
            raise ValueError(f"expected levels >= 0 or null, got {self.levels}")
        if min(self.credibility, self.level_credibility) < 0:
            raise ValueError("expected credibility and level_credibility >= 0")
        if self.kappa != "learned" and (isinstance(self.kappa, str) or self.kappa < 0):
            raise ValueError(f"expected kappa=learned or a number >= 0, got {self.kappa!r}")
        if self.half_life is not None and self.half_life <= 0:
            raise ValueError(f"expected half_life > 0 days or null, got {self.half_life}")
        if self.min_cohorts < 1:
            raise ValueError(f"expected min_cohorts >= 1, got {self.min_cohorts}")
        if self.tail not in ("flat", "inverse_power"):
            raise ValueError(f"expected tail=flat or tail=inverse_power, got {self.tail!r}")

    def fit(self, curves: Curves) -> Self:
        """Measure growth and levels as of the origin of `curves`, and learn kappa before it.

        Raises ValueError when no cohort has a complete age.
        """
        curves = curves.take(curves.observed_age >= 0)
        if not len(curves):
            raise ValueError(
                f"no cohort has a complete age at {curves.origin}: choose a later as-of date, or "
                "check the dates of the cohorts"
            )
        segments = Segments.of(curves, self.levels)
        found = segments.find(curves)
        self.dates = Dates.learned(curves, found, calendar=self.calendar, trend=self.trend)
        curves = self.dates.without(curves)
        self.vocabulary = {name: sorted(set(text)) for name, text in curves.attributes.items()}
        self.measured = self._measure(curves, segments, found)
        if isinstance(self.kappa, str):
            self.kappas = learned_kappas(self._replayed(curves, segments, found))
        else:
            self.kappas = np.full(len(KAPPA_AGES), float(self.kappa))
        return self

    def _measure(self, curves: Curves, segments: Segments, found: Ints) -> Measured:
        k, users = curves.observed_age, curves.users
        last = curves.reach(self.min_cohorts)
        first = int(np.argmax(np.nansum(users[:, None] * curves.values, axis=0) > 0))
        own = development(curves, last, self.half_life)
        sums = own.totals(segments, found)

        rate = ratio_of_sums(sums)
        top = self._share(rate[:1], last, first)[0]
        seen = segments.totals(users * curves.observed_value, found)
        volume = (users * top[k]).sum()
        level = np.full(len(rate), max(seen[0] / volume, 0.0) if volume > 0 else 0.0)
        unit = float(np.median(users) * level[0] * top[max(7, first)])

        tilting = tilt_constant(rate[:1], own, found) if self.tilt else np.inf
        for s in segments.below():
            parent = rate[segments.parent[s]]
            rate[s] = credible_growth(parent, sums[s], self.credibility * unit, tilting)
        beta = self._share(rate, last, first)
        earned = earned_by(segments, beta, found, curves)
        for s in segments.below():
            prior = level[segments.parent[s]]
            level[s] = credible_level(prior, earned[s], seen[s], self.level_credibility * unit)
        return Measured(segments, last, first, unit, tilting, beta, level)

    def _share(self, rate: Floats, last: int, first: int) -> Floats:
        tailed = with_tail(rate, last) if self.tail == "inverse_power" else rate
        return share_earned(tailed, first)

    def _replayed(self, curves: Curves, segments: Segments, found: Ints) -> Iterator[Replay]:
        """Errors of growth forecast at past origins, each fitted on what was known then.

        But for what dates did, which was taken out of all `curves` as it is known now.
        """
        for weeks in range(KAPPA_ORIGINS):
            origin = curves.origin - np.timedelta64((weeks + 1) * KAPPA_EVERY, "D")
            rows = np.flatnonzero(curves.end + curves.lag_days <= origin)
            if len(rows) >= KAPPA_COHORTS:
                now = curves.take(rows)
                then = now.as_of(origin)
                measured = self._measure(then, segments, found[rows])
                yield from replay(measured, then, found[rows], now)

    def expected(self, curves: Curves) -> Expected:
        """What the pattern expects of cohorts at their observed age, for prediction."""
        m = self.measured
        found = m.segments.find(curves)
        beta, users = m.beta[found], curves.users
        k = np.maximum(curves.observed_age, 0)
        earned = users * beta[np.arange(len(k)), k]
        dated, value = self.dates.apply(curves, beta)
        level = credible_level(m.level[found], earned, users * value, self.kappa_at(k) * m.unit)
        return Expected(dated, m.level[found][:, None], level[:, None])

    def held_out(self, curves: Curves) -> Expected:
        """What the pattern would expect of each fitted cohort if it stood at any age, for training.

        `curves` are those of `fit`. Growth is of all other cohorts; the levels of its segments
        are of all cohorts, the cohort itself taken at that age instead of its last one.
        """
        m = self.measured
        dated = curves.take(curves.observed_age >= 0)
        curves = self.dates.without(dated)
        found = m.segments.find(curves)
        line = m.segments.lineage(found)
        own = development(curves, m.reach, self.half_life)
        sums = own.totals(m.segments, found)
        rate = ratio_of_sums(sums[line[0]] - own)
        for ids in line[1:]:
            rate = credible_growth(rate, sums[ids] - own, self.credibility * m.unit, m.tilting)
        beta = self._share(rate, m.reach, m.first)

        k, users = curves.observed_age, curves.users[:, None]
        seen = m.segments.totals(curves.users * curves.observed_value, found)
        earned = earned_by(m.segments, m.beta, found, curves)
        values = users * np.nan_to_num(curves.values)  # (N, A)
        last = values[np.arange(len(k)), k][:, None]
        level = np.empty_like(values)
        for depth, ids in enumerate(line):
            share = users * m.beta[ids]  # (N, A)
            others = np.maximum(earned[ids][:, None] - share[np.arange(len(k)), k][:, None], 0.0)
            have, want = seen[ids][:, None] - last + values, others + share
            if depth == 0:
                level = np.divide(have, want, out=np.zeros_like(have), where=want > 0)
                level = np.maximum(level, 0.0)
            else:
                level = credible_level(level, want, have, self.level_credibility * m.unit)
        constant = self.kappa_at(np.arange(AGES)) * m.unit
        credible = credible_level(level, users * beta, values, constant)
        return Expected(self.dates.dated(dated, beta), level, credible)

    def kappa_at(self, age: Ints) -> Floats:
        """Kappa of an observed age: its log is linear in log(1 + age) between those learned."""
        if not self.kappas.all():
            return np.zeros(np.shape(age))
        log = np.interp(np.log1p(age), np.log1p(KAPPA_AGES), np.log(self.kappas))
        return np.exp(log)

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`; quantiles equal the mean until they are calibrated."""
        return self.forecast(curves, ages, self.expected(curves))

    def forecast(self, curves: Curves, ages: Sequence[int], expected: Expected) -> Forecast:
        """The same, of what is `expected` of the cohorts."""
        m, asked = self.measured, checked_ages(ages)
        k = curves.observed_age
        rows = np.arange(len(curves))
        grown = expected.beta[:, asked] - expected.beta[rows, np.maximum(k, 0)][:, None]
        value = curves.observed_value[:, None] + expected.level * grown
        value = np.where((k[:, None] >= 0) & (asked > k[:, None]), value, np.nan)
        band = Band(value, value, value, value)
        reason = reasons(
            curves, unseen(curves, self.vocabulary), m.reach, no_signal=m.level[0] == 0
        )
        return Forecast(curves, asked, value, band, band, reason, m.reach)

    def parts(self, curves: Curves, age: int) -> Parts:
        """What the pattern at an age is made of: the segment, the cohort's level, its dates."""
        m, alike = self.measured, self.dates.without(curves)
        found, k = m.segments.find(curves), np.maximum(curves.observed_age, 0)
        names = np.array([" / ".join(key) or "all cohorts" for key in m.segments.keys], object)
        earned, expected = m.beta[found, age], self.expected(curves)
        ahead = expected.level[:, 0] * (earned - m.beta[found, k])
        level = filled(alike, age, alike.observed_value + ahead)
        pattern = filled(curves, age, self.predict(curves, [age]).pattern[:, 0])
        return Parts(names[found], expected.prior[:, 0] * earned, level, pattern, pattern)

    def state(self) -> State:
        """Configuration and what was measured."""
        m = self.measured
        values = {
            "arguments": asdict(self),
            "names": list(m.segments.names),
            "keys": [list(key) for key in m.segments.keys],
            "vocabulary": self.vocabulary,
            "reach": m.reach,
            "first": m.first,
            "unit": m.unit,
            "tilting": m.tilting if np.isfinite(m.tilting) else None,
            "calendar": str(self.dates.calendar.begin),
            "trend": [str(self.dates.trend.reference), self.dates.trend.rate],
        }
        arrays = {"beta": m.beta, "level": m.level, "kappas": self.kappas}
        arrays["calendar"] = self.dates.calendar.multiplier
        return values, arrays

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The pattern that `state()` described."""
        pattern = cls(**values["arguments"])
        pattern.measured = Measured(
            segments=Segments.named(tuple(values["names"]), [tuple(k) for k in values["keys"]]),
            reach=values["reach"],
            first=values["first"],
            unit=values["unit"],
            tilting=np.inf if values["tilting"] is None else values["tilting"],
            beta=arrays["beta"],
            level=arrays["level"],
        )
        pattern.vocabulary = values["vocabulary"]
        pattern.kappas = arrays["kappas"]
        reference, rate = values["trend"]
        pattern.dates = Dates(
            Calendar(np.datetime64(values["calendar"]), arrays["calendar"]),
            Trend(np.datetime64(reference), rate),
        )
        return pattern
