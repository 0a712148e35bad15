"""The historical pattern: how curves of a segment grew from age to age, and a credible level.

Every ratio is a ratio of sums over users, so zeros are data; segments shrink to their parent by
credibility. With one segment and kappa = 0 the pattern is the chain ladder.

Shapes: N cohorts, A ages, J intervals between nodes, S segments, R rows, H ages, G kappas.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ltvnet.data.arrays import Floats, Ints, blocks
from ltvnet.data.curves import AGES, NODES, Curves, checked_ages
from ltvnet.data.segments import Segments
from ltvnet.forecasting.evidence import unseen
from ltvnet.forecasting.forecast import Band, Forecast, Parts, filled, reasons
from ltvnet.forecasting.forecaster import Predictor, State
from ltvnet.forecasting.interpolation import Course
from ltvnet.models.pattern.calendar_effects import Calendar
from ltvnet.models.pattern.credibility import (
    KAPPA_AGES,
    KAPPA_COHORTS,
    KAPPA_EVERY,
    KAPPA_ORIGINS,
    Measured,
    credible_level,
    earned_by,
    learned_kappas,
    replay,
)
from ltvnet.models.pattern.date_effects import Dates, Trend
from ltvnet.models.pattern.development import (
    Development,
    Standing,
    Triangle,
    credible_growth,
    development,
    ratio_of_sums,
    share_earned,
    with_tail,
)


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


@dataclass(frozen=True)
class Outlook:
    """The same of cohorts where they stand; those of a segment and of the same dates share a shape.

    `shape` (P, A) proportions earned by age, `which` (N,) of them each cohort has; `prior` (N,)
    the level of its segment, and `level` (N,) its own.
    """

    shape: Floats
    which: Ints
    prior: Floats
    level: Floats

    def earned(self, ages: Ints) -> Floats:
        """The proportion earned by ages (H,) or (N, H): (N, H)."""
        earned: Floats = self.shape[self.which[:, None], ages]
        return earned

    def everywhere(self) -> Expected:
        """The same with a row a cohort."""
        return Expected(self.shape[self.which], self.prior[:, None], self.level[:, None])


@runtime_checkable
class Follower(Protocol):
    """A model whose means grow between nodes as a pattern does."""

    def followed(self) -> "Pattern | None":
        """That pattern; None where there is none after all."""
        ...


def followed(models: Sequence[Predictor]) -> "Pattern | None":
    """The pattern that all of the models follow between nodes, and so their mean; None for none."""
    found = [model.followed() if isinstance(model, Follower) else None for model in models]
    first = found[0]
    same = first is not None and all(one is not None and first.like(one) for one in found)
    return first if same else None


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
        alike = self.dates.without(curves)
        self.vocabulary = {name: sorted(set(text)) for name, text in curves.attributes.items()}
        triangle = Triangle(alike, segments, found, self.half_life)
        days = self._replayed(curves) if isinstance(self.kappa, str) else []
        standings = triangle.standings([0, *days], self.min_cohorts)
        measured = self._measure(triangle, standings, [0, *days])
        self.measured, self.sums = measured[0], standings[0].sums
        if isinstance(self.kappa, str):
            past = zip(measured[1:], standings[1:], strict=True)
            replays = (one for then, known in past for one in replay(then, known, alike, found))
            self.kappas = learned_kappas(replays)
        else:
            self.kappas = np.full(len(KAPPA_AGES), float(self.kappa))
        return self

    def _replayed(self, curves: Curves) -> list[int]:
        """How many days ago growth is forecast, each time on what was known then.

        But for what dates did, which is taken out of all curves as it is known now.
        """
        days = [(weeks + 1) * KAPPA_EVERY for weeks in range(KAPPA_ORIGINS)]
        counts = (curves.ages_ago(days) >= 0).sum(axis=1)
        return [day for day, count in zip(days, counts, strict=True) if count >= KAPPA_COHORTS]

    def _measure(
        self, triangle: Triangle, standings: Sequence[Standing], ago: Sequence[int]
    ) -> list[Measured]:
        """What was measured as of each of the days."""
        tilting = [np.inf] * len(ago)
        if self.tilt:
            tilting = triangle.tiltings(standings, ago)
        line = triangle.segments.lineage(triangle.found)
        pairs = zip(standings, tilting, strict=True)
        return [self._measured(triangle, line, known, constant) for known, constant in pairs]

    def _measured(
        self, triangle: Triangle, line: Sequence[Ints], known: Standing, tilting: float
    ) -> Measured:
        segments, curves, found = triangle.segments, triangle.curves, triangle.found
        last, first, rate = known.reach, known.first, ratio_of_sums(known.sums)
        k, begun = np.maximum(known.age, 0), known.age >= 0
        users = np.where(begun, curves.users, 0.0)
        top = self._share(rate[:1], last, first)[0]
        seen = segments.totals(users * curves.values[np.arange(len(k)), k], found)
        volume = (users * top[k]).sum()
        level = np.full(len(rate), max(seen[0] / volume, 0.0) if volume > 0 else 0.0)
        unit = float(np.median(users[begun]) * level[0] * top[max(7, first)])

        for s in segments.below():
            above, whose = np.unique(segments.parent[s], return_inverse=True)
            own, credibility = known.sums[s], self.credibility * unit
            rate[s] = credible_growth(rate[above], own, credibility, tilting, whose)
        beta = self._share(rate, last, first)
        earned = earned_by(line, beta, users, k)
        for s in segments.below():
            prior = level[segments.parent[s]]
            level[s] = credible_level(prior, earned[s], seen[s], self.level_credibility * unit)
        return Measured(segments, last, first, unit, tilting, beta, level)

    def _share(self, rate: Floats, last: int, first: int) -> Floats:
        tailed = with_tail(rate, last) if self.tail == "inverse_power" else rate
        return share_earned(tailed, first)

    def outlook(self, curves: Curves) -> Outlook:
        """What the pattern expects of cohorts at their observed age, for prediction."""
        m, k = self.measured, np.maximum(curves.observed_age, 0)
        found, users = m.segments.find(curves), curves.users
        own = users * self.dates.value(curves)
        prior, earned = m.level[found], users * m.beta[found, k]
        level = credible_level(prior, earned, own, self.kappa_at(k) * m.unit)
        return Outlook(*self.dates.shapes(curves, m.beta, found), prior, level)

    def expected(self, curves: Curves) -> Expected:
        """The same with a row a cohort."""
        return self.outlook(curves).everywhere()

    def held_out(self, curves: Curves, kept: type[np.floating[Any]] = np.float64) -> Expected:
        """What the pattern would expect of each fitted cohort if it stood at any age, for training.

        `curves` are those of `fit`. Growth is of all other cohorts; the levels of its segments
        are of all cohorts, the cohort itself taken at that age instead of its last one. Numbers
        are `kept` so precisely.
        """
        m = self.measured
        dated = curves.take(curves.observed_age >= 0)
        alike = self.dates.without(dated)
        found = m.segments.find(alike)
        line = m.segments.lineage(found)
        seen = m.segments.totals(alike.users * alike.observed_value, found)
        earned = earned_by(line, m.beta, alike.users, alike.observed_age)
        made = Expected(*(np.empty((len(found), AGES), kept) for _ in fields(Expected)))
        for block in blocks(len(found)):
            own = development(alike, m.reach, self.half_life, block)
            beta = self._grown([self.sums[ids[block]] - own for ids in line])
            at = alike.take(block)
            above = [(ids[block], seen[ids[block]], earned[ids[block]]) for ids in line]
            prior, level = self._levels(at, beta, above)
            made.beta[block] = self.dates.dated(dated.take(block), beta)
            made.prior[block], made.level[block] = prior, level
        return made

    def _grown(self, others: Sequence[Development]) -> Floats:
        """Shape (N, A) of cohorts from the sums of the others in their segments, from the top."""
        m = self.measured
        rate = ratio_of_sums(others[0])
        for own in others[1:]:
            rate = credible_growth(rate, own, self.credibility * m.unit, m.tilting)
        return self._share(rate, m.reach, m.first)

    def _levels(
        self, curves: Curves, beta: Floats, above: Sequence[tuple[Ints, Floats, Floats]]
    ) -> tuple[Floats, Floats]:
        """Levels (N, A) of the segments of cohorts of a shape, and their own, standing at each age.

        `above` their segments at each level, with what these have seen and earned.
        """
        m = self.measured
        users, row = curves.users[:, None], np.arange(len(curves))
        known = curves.observed_age[:, None] >= np.arange(AGES)
        values = users * np.where(known, curves.values, 0.0)  # (N, A)
        k, last = curves.observed_age, values[row, curves.observed_age][:, None]
        prior = np.zeros_like(values)
        for depth, (ids, seen, earned) in enumerate(above):
            share = m.beta[ids]  # (N, A)
            share *= users
            others = np.maximum(earned[:, None] - share[row, k][:, None], 0.0)
            have, want = seen[:, None] - last + values, np.add(share, others, out=share)
            if depth == 0:
                np.divide(have, want, out=prior, where=want > 0)
                prior = np.maximum(prior, 0.0)
            else:
                prior = credible_level(prior, want, have, self.level_credibility * m.unit)
        constant = self.kappa_at(np.arange(AGES)) * m.unit
        return prior, credible_level(prior, users * beta, values, constant)

    def kappa_at(self, age: Ints) -> Floats:
        """Kappa of an observed age: its log is linear in log(1 + age) between those learned."""
        if not self.kappas.all():
            return np.zeros(np.shape(age))
        log = np.interp(np.log1p(age), np.log1p(KAPPA_AGES), np.log(self.kappas))
        return np.exp(log)

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`; quantiles equal the mean until they are calibrated."""
        return self.forecast(curves, ages, self.outlook(curves))

    def forecast(self, curves: Curves, ages: Sequence[int], outlook: Outlook) -> Forecast:
        """The same, of the outlook of the cohorts."""
        m, asked, k = self.measured, checked_ages(ages), curves.observed_age[:, None]
        grown = outlook.earned(asked) - outlook.earned(np.maximum(k, 0))
        value = curves.observed_value[:, None] + outlook.level[:, None] * grown
        value = np.where((k >= 0) & (asked > k), value, np.nan)
        band = Band(value, value, value, value)
        reason = reasons(
            curves, unseen(curves, self.vocabulary), m.reach, no_signal=m.level[0] == 0
        )
        return Forecast(curves, asked, value, band, band, reason, m.reach)

    def followed(self) -> "Pattern":
        """The pattern in whose shape forecasts grow between nodes: this."""
        return self

    def like(self, other: "Pattern") -> bool:
        """Whether curves of all cohorts have the shape that they have by another."""
        own, its = self.measured, other.measured
        return (
            own.segments.keys == its.segments.keys
            and np.array_equal(own.beta, its.beta)
            and self.dates.like(other.dates)
        )

    def course(self, curves: Curves) -> Course:
        """How means of cohorts grow between nodes."""
        m = self.measured
        return Course(*self.dates.shapes(curves, m.beta, m.segments.find(curves)))

    def parts(self, curves: Curves, age: int) -> Parts:
        """What the pattern at an age is made of: the segment, the cohort's level, its dates."""
        m, alike = self.measured, self.dates.without(curves)
        found, k = m.segments.find(curves), np.maximum(curves.observed_age, 0)
        names = np.array([" / ".join(key) or "all cohorts" for key in m.segments.keys], object)
        earned, outlook = m.beta[found, age], self.outlook(curves)
        ahead = outlook.level * (earned - m.beta[found, k])
        level = filled(alike, age, alike.observed_value + ahead)
        pattern = filled(curves, age, self.predict(curves, [age]).pattern[:, 0])
        return Parts(names[found], outlook.prior * earned, level, pattern, pattern)

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
