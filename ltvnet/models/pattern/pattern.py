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

from ltvnet.data.arrays import Floats, Ints, block_slices
from ltvnet.data.curves import AGES, NODES, Curves, validate_ages
from ltvnet.data.segments import Segments
from ltvnet.forecasting.evidence import has_unseen_category
from ltvnet.forecasting.forecast import Band, Forecast, ForecastParts, observed_or_forecast, reasons
from ltvnet.forecasting.forecaster import Predictor, State
from ltvnet.forecasting.interpolation import InterpolationShape
from ltvnet.models.pattern.calendar_effects import Calendar
from ltvnet.models.pattern.credibility import (
    KAPPA_AGES,
    KAPPA_COHORTS,
    KAPPA_EVERY,
    KAPPA_ORIGINS,
    SegmentCurves,
    credible_level,
    earned_by,
    fit_kappas,
    replay_kappa_errors,
)
from ltvnet.models.pattern.date_effects import DateEffects, Trend
from ltvnet.models.pattern.development import (
    Development,
    Standing,
    Triangle,
    cohort_development,
    credible_growth,
    ratio_of_sums,
    share_earned,
    with_tail,
)


@dataclass(frozen=True)
class ExpectedCurves:
    """What history expects of each cohort: `pattern(h) = y(k) + A_n (beta(h) - beta(k))`.

    `beta` (N, A) proportion earned by age, on the cohort's own dates; `prior` = A_s, the level of
    its segment, and `level` = A_n, its own: both (N, 1) at the observed age, or (N, A) for every
    age k at which the cohort could stand.
    """

    beta: Floats
    segment_level: Floats
    cohort_level: Floats


@dataclass(frozen=True)
class CurrentExpectation:
    """The same of cohorts where they stand; those of a segment and of the same dates share a shape.

    `shape` (P, A) proportions earned by age, `which` (N,) of them each cohort has; `prior` (N,)
    the level of its segment, and `level` (N,) its own.
    """

    shape: Floats
    shape_index: Ints
    segment_level: Floats
    cohort_level: Floats

    def proportion_earned(self, ages: Ints) -> Floats:
        """The proportion earned by ages (H,) or (N, H): (N, H)."""
        earned: Floats = self.shape[self.shape_index[:, None], ages]
        return earned

    def by_cohort(self) -> ExpectedCurves:
        """The same with a row a cohort."""
        return ExpectedCurves(
            self.shape[self.shape_index], self.segment_level[:, None], self.cohort_level[:, None]
        )


@runtime_checkable
class InterpolatesLikePattern(Protocol):
    """A model whose means grow between nodes as a pattern does."""

    def interpolation_pattern(self) -> "Pattern | None":
        """That pattern; None where there is none after all."""
        ...


def shared_interpolation_pattern(models: Sequence[Predictor]) -> "Pattern | None":
    """The pattern that all of the models follow between nodes, and so their mean; None for none."""
    found = [
        model.interpolation_pattern() if isinstance(model, InterpolatesLikePattern) else None
        for model in models
    ]
    first = found[0]
    same = first is not None and all(
        one is not None and first.has_same_shapes(one) for one in found
    )
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
        segments = Segments.from_curves(curves, self.levels)
        found = segments.find_deepest(curves)
        self.date_effects = DateEffects.fit(curves, found, calendar=self.calendar, trend=self.trend)
        alike = self.date_effects.remove_from(curves)
        self.vocabulary = {name: sorted(set(text)) for name, text in curves.attributes.items()}
        triangle = Triangle(alike, segments, found, self.half_life)
        days = self._replayed(curves) if isinstance(self.kappa, str) else []
        standings = triangle.standings([0, *days], self.min_cohorts)
        measured = self._measure(triangle, standings, [0, *days])
        self.segment_curves, self.sums = measured[0], standings[0].sums
        if isinstance(self.kappa, str):
            past = zip(measured[1:], standings[1:], strict=True)
            replays = (
                one
                for then, known in past
                for one in replay_kappa_errors(then, known, alike, found)
            )
            self.kappas = fit_kappas(replays)
        else:
            self.kappas = np.full(len(KAPPA_AGES), float(self.kappa))
        return self

    def _replayed(self, curves: Curves) -> list[int]:
        """How many days ago growth is forecast, each time on what was known then.

        But for what dates did, which is taken out of all curves as it is known now.
        """
        days = [(weeks + 1) * KAPPA_EVERY for weeks in range(KAPPA_ORIGINS)]
        counts = (curves.observed_ages_before(days) >= 0).sum(axis=1)
        return [day for day, count in zip(days, counts, strict=True) if count >= KAPPA_COHORTS]

    def _measure(
        self, triangle: Triangle, standings: Sequence[Standing], ago: Sequence[int]
    ) -> list[SegmentCurves]:
        """What was measured as of each of the days."""
        tilting = [np.inf] * len(ago)
        if self.tilt:
            tilting = triangle.tiltings(standings, ago)
        line = triangle.segments.lineage(triangle.found)
        pairs = zip(standings, tilting, strict=True)
        return [self._measured(triangle, line, known, constant) for known, constant in pairs]

    def _measured(
        self, triangle: Triangle, line: Sequence[Ints], known: Standing, tilting: float
    ) -> SegmentCurves:
        segments, curves, found = triangle.segments, triangle.curves, triangle.found
        last, first, rate = known.reach, known.first, ratio_of_sums(known.sums)
        k, begun = np.maximum(known.age, 0), known.age >= 0
        users = np.where(begun, curves.users, 0.0)
        top = self._share(rate[:1], last, first)[0]
        seen = segments.subtotals(users * curves.values[np.arange(len(k)), k], found)
        volume = (users * top[k]).sum()
        level = np.full(len(rate), max(seen[0] / volume, 0.0) if volume > 0 else 0.0)
        unit = float(np.median(users[begun]) * level[0] * top[max(7, first)])

        for s in segments.lower_levels():
            above, whose = np.unique(segments.parent[s], return_inverse=True)
            own, credibility = known.sums[s], self.credibility * unit
            rate[s] = credible_growth(rate[above], own, credibility, tilting, whose)
        beta = self._share(rate, last, first)
        earned = earned_by(line, beta, users, k)
        for s in segments.lower_levels():
            prior = level[segments.parent[s]]
            level[s] = credible_level(prior, earned[s], seen[s], self.level_credibility * unit)
        return SegmentCurves(segments, last, first, unit, tilting, beta, level)

    def _share(self, rate: Floats, last: int, first: int) -> Floats:
        tailed = with_tail(rate, last) if self.tail == "inverse_power" else rate
        return share_earned(tailed, first)

    def current_expectation(self, curves: Curves) -> CurrentExpectation:
        """What the pattern expects of cohorts at their observed age, for prediction."""
        m, k = self.segment_curves, np.maximum(curves.observed_age, 0)
        found, users = m.segments.find_deepest(curves), curves.users
        own = users * self.date_effects.observed_value_without(curves)
        prior, earned = m.level[found], users * m.beta[found, k]
        level = credible_level(prior, earned, own, self.kappa_at(k) * m.median_revenue_d7)
        return CurrentExpectation(
            *self.date_effects.shapes_by_segment_and_date(curves, m.beta, found), prior, level
        )

    def expected_curves(self, curves: Curves) -> ExpectedCurves:
        """The same with a row a cohort."""
        return self.current_expectation(curves).by_cohort()

    def leave_one_out_curves(
        self, curves: Curves, dtype: type[np.floating[Any]] = np.float64
    ) -> ExpectedCurves:
        """What the pattern would expect of each fitted cohort if it stood at any age, for training.

        `curves` are those of `fit`. Growth is of all other cohorts; the levels of its segments
        are of all cohorts, the cohort itself taken at that age instead of its last one. Numbers
        are `kept` so precisely.
        """
        m = self.segment_curves
        dated = curves.take(curves.observed_age >= 0)
        alike = self.date_effects.remove_from(dated)
        found = m.segments.find_deepest(alike)
        line = m.segments.lineage(found)
        seen = m.segments.subtotals(alike.users * alike.observed_value, found)
        earned = earned_by(line, m.beta, alike.users, alike.observed_age)
        made = ExpectedCurves(
            *(np.empty((len(found), AGES), dtype) for _ in fields(ExpectedCurves))
        )
        for block in block_slices(len(found)):
            own = cohort_development(alike, m.last_supported_age, self.half_life, block)
            beta = self._grown([self.sums[ids[block]] - own for ids in line])
            at = alike.take(block)
            above = [(ids[block], seen[ids[block]], earned[ids[block]]) for ids in line]
            prior, level = self._levels(at, beta, above)
            made.beta[block] = self.date_effects.apply_to_shape(dated.take(block), beta)
            made.segment_level[block], made.cohort_level[block] = prior, level
        return made

    def _grown(self, others: Sequence[Development]) -> Floats:
        """Shape (N, A) of cohorts from the sums of the others in their segments, from the top."""
        m = self.segment_curves
        rate = ratio_of_sums(others[0])
        for own in others[1:]:
            rate = credible_growth(rate, own, self.credibility * m.median_revenue_d7, m.tilting)
        return self._share(rate, m.last_supported_age, m.first_revenue_age)

    def _levels(
        self, curves: Curves, beta: Floats, above: Sequence[tuple[Ints, Floats, Floats]]
    ) -> tuple[Floats, Floats]:
        """Levels (N, A) of the segments of cohorts of a shape, and their own, standing at each age.

        `above` their segments at each level, with what these have seen and earned.
        """
        m = self.segment_curves
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
                prior = credible_level(
                    prior, want, have, self.level_credibility * m.median_revenue_d7
                )
        constant = self.kappa_at(np.arange(AGES)) * m.median_revenue_d7
        return prior, credible_level(prior, users * beta, values, constant)

    def kappa_at(self, age: Ints) -> Floats:
        """Kappa of an observed age: its log is linear in log(1 + age) between those learned."""
        if not self.kappas.all():
            return np.zeros(np.shape(age))
        log = np.interp(np.log1p(age), np.log1p(KAPPA_AGES), np.log(self.kappas))
        return np.exp(log)

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`; quantiles equal the mean until they are calibrated."""
        return self.forecast(curves, ages, self.current_expectation(curves))

    def forecast(
        self, curves: Curves, ages: Sequence[int], outlook: CurrentExpectation
    ) -> Forecast:
        """The same, of the outlook of the cohorts."""
        m, asked, k = self.segment_curves, validate_ages(ages), curves.observed_age[:, None]
        grown = outlook.proportion_earned(asked) - outlook.proportion_earned(np.maximum(k, 0))
        value = curves.observed_value[:, None] + outlook.cohort_level[:, None] * grown
        value = np.where((k >= 0) & (asked > k), value, np.nan)
        band = Band(value, value, value, value)
        reason = reasons(
            curves,
            has_unseen_category(curves, self.vocabulary),
            m.last_supported_age,
            no_signal=m.level[0] == 0,
        )
        return Forecast(curves, asked, value, band, band, reason, m.last_supported_age)

    def interpolation_pattern(self) -> "Pattern":
        """The pattern in whose shape forecasts grow between nodes: this."""
        return self

    def has_same_shapes(self, other: "Pattern") -> bool:
        """Whether curves of all cohorts have the shape that they have by another."""
        own, its = self.segment_curves, other.segment_curves
        return (
            own.segments.keys == its.segments.keys
            and np.array_equal(own.beta, its.beta)
            and self.date_effects.has_same_effect(other.date_effects)
        )

    def interpolation_shape(self, curves: Curves) -> InterpolationShape:
        """How means of cohorts grow between nodes."""
        m = self.segment_curves
        return InterpolationShape(
            *self.date_effects.shapes_by_segment_and_date(
                curves, m.beta, m.segments.find_deepest(curves)
            )
        )

    def forecast_parts(self, curves: Curves, age: int) -> ForecastParts:
        """What the pattern at an age is made of: the segment, the cohort's level, its dates."""
        m, alike = self.segment_curves, self.date_effects.remove_from(curves)
        found, k = m.segments.find_deepest(curves), np.maximum(curves.observed_age, 0)
        names = np.array([" / ".join(key) or "all cohorts" for key in m.segments.keys], object)
        earned, outlook = m.beta[found, age], self.current_expectation(curves)
        ahead = outlook.cohort_level * (earned - m.beta[found, k])
        level = observed_or_forecast(alike, age, alike.observed_value + ahead)
        pattern = observed_or_forecast(curves, age, self.predict(curves, [age]).pattern[:, 0])
        return ForecastParts(names[found], outlook.segment_level * earned, level, pattern, pattern)

    def state(self) -> State:
        """Configuration and what was measured."""
        m = self.segment_curves
        values = {
            "arguments": asdict(self),
            "names": list(m.segments.names),
            "keys": [list(key) for key in m.segments.keys],
            "vocabulary": self.vocabulary,
            "reach": m.last_supported_age,
            "first": m.first_revenue_age,
            "unit": m.median_revenue_d7,
            "tilting": m.tilting if np.isfinite(m.tilting) else None,
            "calendar": str(self.date_effects.calendar.begin),
            "trend": [str(self.date_effects.trend.reference), self.date_effects.trend.rate],
        }
        arrays = {"beta": m.beta, "level": m.level, "kappas": self.kappas}
        arrays["calendar"] = self.date_effects.calendar.multiplier
        return values, arrays

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The pattern that `state()` described."""
        pattern = cls(**values["arguments"])
        pattern.segment_curves = SegmentCurves(
            segments=Segments.from_keys(tuple(values["names"]), [tuple(k) for k in values["keys"]]),
            last_supported_age=values["reach"],
            first_revenue_age=values["first"],
            median_revenue_d7=values["unit"],
            tilting=np.inf if values["tilting"] is None else values["tilting"],
            beta=arrays["beta"],
            level=arrays["level"],
        )
        pattern.vocabulary = values["vocabulary"]
        pattern.kappas = arrays["kappas"]
        reference, rate = values["trend"]
        pattern.date_effects = DateEffects(
            Calendar(np.datetime64(values["calendar"]), arrays["calendar"]),
            Trend(np.datetime64(reference), rate),
        )
        return pattern
