"""The historical pattern as it was fitted: forecasts, expected curves, and its state as data.

`pattern(n, h) = y(k) + A_n (beta(h) - beta(k))` for cohort n, observed age k and age h.

Shapes: N cohorts, A ages, S segments, R rows, H ages asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from ltvnet.data.arrays import Floats, Ints, block_slices
from ltvnet.data.curves import AGES, NODES, Curves, validate_ages
from ltvnet.data.segments import Segments
from ltvnet.forecasting.evidence import has_unseen_category
from ltvnet.forecasting.forecast import (
    Band,
    Forecast,
    ForecastParts,
    forecast_reasons,
    observed_or_forecast,
)
from ltvnet.forecasting.forecaster import State, StateArrays, StateValues
from ltvnet.forecasting.interpolation import InterpolationShape, smooth_shape
from ltvnet.models.pattern.calendar_effects import Calendar
from ltvnet.models.pattern.credibility import credible_growth, credible_level
from ltvnet.models.pattern.date_effects import DateEffects, Trend
from ltvnet.models.pattern.development import Development, cohort_development, ratio_of_sums
from ltvnet.models.pattern.expected_curves import CurrentExpectation, ExpectedCurves
from ltvnet.models.pattern.kappa_selection import KAPPA_AGES
from ltvnet.models.pattern.pattern_config import PatternConfig
from ltvnet.models.pattern.segment_curves import (
    SegmentCurves,
    earned_by_segment,
    shape_of_growth,
)


@dataclass(frozen=True)
class _SegmentOfCohorts:
    """Segment of each cohort at one level of the hierarchy, and sums over its cohorts.

    `segment` (R,); `revenue` (R,) so far, in currency; `earned` (R,) users x proportion earned.
    """

    segment: Ints
    revenue: Floats
    earned: Floats


@dataclass(frozen=True, eq=False)
class FittedPattern:
    """The historical pattern as of the origin of its fit.

    `kappas` at each of KAPPA_AGES; `vocabulary` the values of each attribute that were seen;
    `development` (S, A - 1) the sums behind `segment_curves`, which are no part of the state (None
    where it was restored from one).
    """

    config: PatternConfig
    segment_curves: SegmentCurves
    date_effects: DateEffects
    kappas: Floats
    vocabulary: Mapping[str, Sequence[str]]
    development: Development | None

    def kappa_at(self, age: Ints) -> Floats:
        """Return kappa at observed ages: its log is linear in log(1 + age) between KAPPA_AGES."""
        if not self.kappas.all():
            return np.zeros(np.shape(age))
        log_kappa = np.interp(np.log1p(age), np.log1p(KAPPA_AGES), np.log(self.kappas))
        return np.exp(log_kappa)

    def current_expectation(self, curves: Curves) -> CurrentExpectation:
        """Return what the pattern expects of cohorts at their observed age, for prediction."""
        segment_curves = self.segment_curves
        segment = segment_curves.segments.find_deepest(curves)
        k = np.maximum(curves.observed_age, 0)

        segment_level = segment_curves.level[segment]
        earned = curves.users * segment_curves.beta[segment, k]
        revenue = curves.users * self.date_effects.observed_value_without(curves)
        constant = self.kappa_at(k) * segment_curves.median_revenue_d7
        cohort_level = credible_level(segment_level, earned, revenue, constant)

        shape, shape_index = self.date_effects.shapes_by_segment_and_date(
            curves, segment_curves.beta, segment
        )
        return CurrentExpectation(shape, shape_index, segment_level, cohort_level)

    def expected_curves(self, curves: Curves) -> ExpectedCurves:
        """Return what the pattern expects of cohorts at their observed age, with a row a cohort."""
        return self.current_expectation(curves).by_cohort()

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`; quantiles equal the mean until they are calibrated."""
        return self.forecast(curves, ages, self.current_expectation(curves))

    def forecast(
        self, curves: Curves, ages: Sequence[int], expectation: CurrentExpectation
    ) -> Forecast:
        """Forecast each cohort at `ages` from what is expected of it."""
        segment_curves = self.segment_curves
        forecast_ages = validate_ages(ages)
        k = curves.observed_age[:, None]

        share = expectation.proportion_earned(forecast_ages)
        share = share - expectation.proportion_earned(np.maximum(k, 0))
        value = curves.observed_value[:, None] + expectation.cohort_level[:, None] * share
        value = np.where((k >= 0) & (forecast_ages > k), value, np.nan)

        reason = forecast_reasons(
            curves,
            has_unseen_category(curves, self.vocabulary),
            segment_curves.last_supported_age,
            no_signal=bool(segment_curves.level[0] == 0),
        )
        band = Band.from_mean(value)
        return Forecast(
            curves=curves,
            ages=forecast_ages,
            pattern=value,
            raw=band,
            final=band,
            reason=reason,
            last_supported_age=segment_curves.last_supported_age,
        )

    def forecast_parts(self, curves: Curves, age: int) -> ForecastParts:
        """Return what the forecast is made of: the segment, the cohort's level, its dates."""
        segment_curves = self.segment_curves
        undated = self.date_effects.remove_from(curves)
        segment = segment_curves.segments.find_deepest(curves)
        k = np.maximum(curves.observed_age, 0)
        expectation = self.current_expectation(curves)
        earned = segment_curves.beta[segment, age]

        ahead = expectation.cohort_level * (earned - segment_curves.beta[segment, k])
        with_own_revenue = observed_or_forecast(undated, age, undated.observed_value + ahead)
        forecast = self.predict(curves, [age]).pattern[:, 0]
        with_own_dates = observed_or_forecast(curves, age, forecast)

        names = [" / ".join(key) or "all cohorts" for key in segment_curves.segments.keys]
        return ForecastParts(
            segment_names=np.array(names, object)[segment],
            typical_of_segment=expectation.segment_level * earned,
            with_own_revenue=with_own_revenue,
            with_own_dates=with_own_dates,
            with_own_growth=with_own_dates,
        )

    def has_same_shapes(self, other: "FittedPattern") -> bool:
        """Return whether the curves of all cohorts have equal shapes under both patterns."""
        return (
            self.segment_curves.segments.keys == other.segment_curves.segments.keys
            and np.array_equal(self.segment_curves.beta, other.segment_curves.beta)
            and self.date_effects.has_same_effect(other.date_effects)
        )

    def interpolation_shape(self, curves: Curves) -> InterpolationShape:
        """Return the shape in which means of cohorts grow between nodes."""
        segment_curves = self.segment_curves
        segment = segment_curves.segments.find_deepest(curves)
        shape, shape_index = self.date_effects.shapes_by_segment_and_date(
            curves, segment_curves.beta, segment
        )
        if not curves.has_every_age:
            shape = smooth_shape(shape, curves.exported_ages)
        return InterpolationShape(shape, shape_index)

    def leave_one_out_curves(
        self, curves: Curves, dtype: type[np.floating[Any]] = np.float64
    ) -> ExpectedCurves:
        """Return what is expected of each cohort of the fit if it stood at any age, for training.

        `curves` are those of the fit. Growth is of all other cohorts; the levels of its segments
        are of all cohorts, the cohort itself taken at that age instead of its last one. Numbers
        are of such a `dtype`. Raises ValueError for a pattern that was restored from its state.
        """
        if self.development is None:
            raise ValueError(
                "a pattern restored from a bundle does not hold the sums that it was fitted to: "
                "fit it to curves first"
            )
        segment_curves = self.segment_curves
        curves = curves.take(curves.observed_age >= 0)
        undated = self.date_effects.remove_from(curves)
        segment = segment_curves.segments.find_deepest(undated)
        lineage = segment_curves.segments.lineage(segment)
        revenue = segment_curves.segments.subtotals(undated.users * undated.observed_value, segment)
        earned = earned_by_segment(
            lineage, segment_curves.beta, undated.users, undated.observed_age
        )

        shape = (len(segment), AGES)
        expected = ExpectedCurves(
            np.empty(shape, dtype), np.empty(shape, dtype), np.empty(shape, dtype)
        )
        for block in block_slices(len(segment)):
            own_development = cohort_development(
                undated, segment_curves.last_supported_age, self.config.half_life, block
            )
            other_developments = [
                self.development[level_segment[block]] - own_development
                for level_segment in lineage
            ]
            beta = self._leave_one_out_shape(other_developments)
            hierarchy = [
                _SegmentOfCohorts(
                    segment=level_segment[block],
                    revenue=revenue[level_segment[block]],
                    earned=earned[level_segment[block]],
                )
                for level_segment in lineage
            ]
            segment_level, cohort_level = self._levels_at_any_age(
                undated.take(block), beta, hierarchy
            )
            expected.beta[block] = self.date_effects.apply_to_shape(curves.take(block), beta)
            expected.segment_level[block] = segment_level
            expected.cohort_level[block] = cohort_level
        return expected

    def _leave_one_out_shape(self, other_developments: Sequence[Development]) -> Floats:
        """Shape (R, A) of cohorts from the sums of the others in their segments, from the top."""
        segment_curves = self.segment_curves
        credibility = self.config.credibility * segment_curves.median_revenue_d7
        growth = ratio_of_sums(other_developments[0])
        for development in other_developments[1:]:
            growth = credible_growth(growth, development, credibility, segment_curves.tilt_constant)
        return shape_of_growth(
            growth,
            self.config.tail,
            segment_curves.last_supported_age,
            segment_curves.first_revenue_age,
        )

    def _levels_at_any_age(
        self, curves: Curves, beta: Floats, hierarchy: Sequence[_SegmentOfCohorts]
    ) -> tuple[Floats, Floats]:
        """Levels (R, A) of the segments of cohorts of a shape, and their own, standing at each age.

        `hierarchy` their segments at every level from the top.
        """
        segment_curves = self.segment_curves
        users = curves.users[:, None]
        row = np.arange(len(curves))
        k = curves.observed_age
        is_observed = k[:, None] >= np.arange(AGES)
        revenue = users * np.where(is_observed, curves.values, 0.0)  # (R, A)
        last_revenue = revenue[row, k][:, None]

        # The cohort counts in its segments as it was at each age, not as it is now.
        level = np.zeros_like(revenue)
        level_constant = self.config.level_credibility * segment_curves.median_revenue_d7
        for depth, parent in enumerate(hierarchy):
            own_earned = segment_curves.beta[parent.segment]  # (R, A)
            own_earned *= users
            others_earned = np.maximum(parent.earned[:, None] - own_earned[row, k][:, None], 0.0)
            actual = parent.revenue[:, None] - last_revenue + revenue
            earned = np.add(own_earned, others_earned, out=own_earned)
            if depth == 0:
                np.divide(actual, earned, out=level, where=earned > 0)
                level = np.maximum(level, 0.0)
            else:
                level = credible_level(level, earned, actual, level_constant)

        constant = self.kappa_at(np.arange(AGES)) * segment_curves.median_revenue_d7
        return level, credible_level(level, users * beta, revenue, constant)

    def state(self) -> State:
        """Return the configuration and what was estimated, as data."""
        segment_curves = self.segment_curves
        calendar = self.date_effects.calendar
        trend = self.date_effects.trend
        is_tilted = np.isfinite(segment_curves.tilt_constant)
        values = {
            "arguments": asdict(self.config),
            "names": list(segment_curves.segments.names),
            "keys": [list(key) for key in segment_curves.segments.keys],
            "vocabulary": self.vocabulary,
            "reach": segment_curves.last_supported_age,
            "first": segment_curves.first_revenue_age,
            "unit": segment_curves.median_revenue_d7,
            "tilting": segment_curves.tilt_constant if is_tilted else None,
            "calendar": str(calendar.begin),
            "trend": [str(trend.reference), trend.rate],
        }
        arrays = {
            "beta": segment_curves.beta,
            "level": segment_curves.level,
            "kappas": self.kappas,
            "calendar": calendar.multiplier,
        }
        return values, arrays

    @classmethod
    def from_state(cls, values: StateValues, arrays: StateArrays) -> Self:
        """Restore the pattern that `state()` described; it predicts."""
        keys = [tuple(key) for key in values["keys"]]
        segment_curves = SegmentCurves(
            segments=Segments.from_keys(tuple(values["names"]), keys),
            last_supported_age=values["reach"],
            first_revenue_age=values["first"],
            median_revenue_d7=values["unit"],
            tilt_constant=np.inf if values["tilting"] is None else values["tilting"],
            beta=arrays["beta"],
            level=arrays["level"],
        )
        reference, rate = values["trend"]
        calendar = Calendar(np.datetime64(values["calendar"]), arrays["calendar"])
        return cls(
            config=PatternConfig(**values["arguments"]),
            segment_curves=segment_curves,
            date_effects=DateEffects(calendar, Trend(np.datetime64(reference), rate)),
            kappas=arrays["kappas"],
            vocabulary=values["vocabulary"],
            development=None,
        )
