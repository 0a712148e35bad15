"""The chain ladder with Mack's standard errors.

Mack, "Distribution-free calculation of the standard error of chain ladder reserve estimates",
ASTIN Bulletin 23 (1993), and CAS Forum (1994) for the variance of the last step.

Shapes: N cohorts, A ages, H ages asked for, E days on which cohorts ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from ltvnet.data.arrays import Bools, Floats, Ints, ratio_or_zero
from ltvnet.data.curves import NODES, Curves
from ltvnet.forecasting.forecast import Forecast
from ltvnet.forecasting.forecaster import State, StateArrays, StateValues
from ltvnet.forecasting.model_spec import Config
from ltvnet.models.baselines.fallback import (
    baseline_state,
    forecast_with_fallback,
    require_fitted,
    restore_baseline,
    share_earned_by_age,
    with_complete_age,
)
from ltvnet.models.pattern.development import (
    STEP_END_AGES,
    Development,
    cohort_development,
    ratio_of_sums,
)
from ltvnet.models.pattern.pattern import Pattern
from ltvnet.models.pattern.segment_curves import SegmentCurves

NORMAL_P90 = 1.2816
"""Standard errors between the mean and P90 of a normal distribution."""


def measuring_cohorts(curves: Curves, last: int, recent: int | None) -> Bools:
    """Which cohorts measure each daily step up to age `last`: (N, A - 1).

    Those that completed it and, of these, the ones that ended on the `recent` latest days on
    which any of them ended (None: all). Cohorts that ended together count as one: they are
    the segments of one period.
    """
    completed = (curves.observed_age[:, None] >= STEP_END_AGES) & (last >= STEP_END_AGES)
    if recent is None:
        return completed

    end_days, end_index = np.unique(curves.end, return_inverse=True)
    day_completed = np.zeros((len(end_days), completed.shape[1]), dtype=bool)  # (E, A - 1)
    np.logical_or.at(day_completed, end_index, completed)

    rank_from_latest = np.cumsum(day_completed[::-1], axis=0)[::-1]  # (E, A - 1)
    return completed & (rank_from_latest <= recent)[end_index]


def fill_step_variances(variance: Floats, cohorts: Ints) -> Floats:
    """Fill the variances of steps (A - 1,) with fewer than two `cohorts` by Mack's rule.

    Such a step takes min(b^2 / a, a, b) of the two estimated steps a, b before it (1994), the
    only one where there is one, the first one where there is none, and 0 where none is.
    """
    estimated = np.flatnonzero(cohorts >= 2)
    if not len(estimated):
        return np.zeros_like(variance)

    estimated_before = np.searchsorted(estimated, np.arange(len(variance)))
    a = variance[estimated[np.maximum(estimated_before - 2, 0)]]
    b = variance[estimated[np.maximum(estimated_before - 1, 0)]]
    smallest = np.minimum(np.minimum(a, b), ratio_or_zero(b**2, a))
    return np.where(cohorts >= 2, variance, smallest)


@dataclass(frozen=True)
class ChainLadder:
    """Development as of an origin, in revenue of cohorts (currency).

    `beta` (A,) proportion of the last age's value earned by age; of each daily step (A - 1,)
    Mack's `variance` sigma^2 (currency) and the `base`, revenue at its beginning from which it
    was measured (currency).
    """

    beta: Floats
    variance: Floats
    base: Floats

    @classmethod
    def fit(cls, curves: Curves, segment_curves: SegmentCurves, recent: int | None) -> Self:
        """Measure the development of cohorts with a complete age, up to the pattern's reach."""
        last_supported_age = segment_curves.last_supported_age
        development = cohort_development(curves, last_supported_age, None)
        measures = measuring_cohorts(curves, last_supported_age, recent)  # (N, A - 1)
        base = np.where(measures, development.base, 0.0)
        gain = np.where(measures, development.gain, 0.0)

        total = Development(base.sum(axis=0), gain.sum(axis=0))  # (A - 1,) each
        growth = ratio_of_sums(total)
        beta = share_earned_by_age(growth, segment_curves.first_revenue_age)

        cohorts = (measures & (base > 0)).sum(axis=0)
        squares = ratio_or_zero((gain - growth * base) ** 2, base).sum(axis=0)
        variance = fill_step_variances(squares / np.maximum(cohorts - 1, 1), cohorts)
        variance = np.where(last_supported_age >= STEP_END_AGES, variance, 0.0)
        return cls(beta, variance, total.base)

    @property
    def factors(self) -> Floats:
        """Growth from each age to the next: (A - 1,)."""
        return np.where(self.beta[:-1] > 0, ratio_or_zero(self.beta[1:], self.beta[:-1]), 1.0)

    @cached_property
    def process_variance(self) -> Floats:
        """Sum over the steps before an age of sigma^2 / (f^2 beta): (A,), in currency.

        The part of Mack's error that is chance, for revenue of 1 at the last age.
        """
        steps = ratio_or_zero(self.variance / self.factors**2, self.beta[:-1])
        return _sum_of_earlier_steps(steps)

    @cached_property
    def estimation_variance(self) -> Floats:
        """Sum over the steps before an age of sigma^2 / (f^2 base): (A,).

        The part of Mack's error that the measured factors have.
        """
        steps = ratio_or_zero(self.variance / self.factors**2, self.base)
        return _sum_of_earlier_steps(steps)

    def value(self, curves: Curves, ages: Ints) -> Floats:
        """Value per user (N, H) by the chain ladder; NaN where there is nothing to multiply."""
        beta = self.beta[np.maximum(curves.observed_age, 0)]  # (N,)
        can_multiply = (beta > 0) & (curves.observed_value > 0)
        observed_value = np.where(can_multiply, curves.observed_value, np.nan)
        return observed_value[:, None] * ratio_or_zero(self.beta[ages], beta[:, None])

    def standard_error(self, curves: Curves, ages: Ints) -> Floats:
        """Standard error (N, H) of the value per user, Mack (1993); NaN where there is none.

        Its square is value^2 x sum over the steps to come of sigma^2 / f^2 (1 / C + 1 / base),
        with C the cohort's own revenue as forecast; 0 at ages observed.
        """
        observed_age = np.maximum(curves.observed_age, 0)
        later = np.maximum(ages, observed_age[:, None])  # (N, H)
        revenue = curves.users * curves.observed_value
        inverse_ultimate = ratio_or_zero(self.beta[observed_age], revenue)[:, None]

        process = self.process_variance
        estimation = self.estimation_variance
        square = inverse_ultimate * (process[later] - process[observed_age][:, None])
        square += estimation[later] - estimation[observed_age][:, None]
        return self.value(curves, ages) * np.sqrt(square)

    def total_standard_error(self, curves: Curves, age: int) -> float:
        """Standard error of all cohorts' revenue at an age, summed (currency), Mack (1993).

        Two cohorts are wrong together about the factors of the steps that are to come to both.
        No forecast needs it: kept to compare with the literature, which publishes it.
        """
        ages = np.array([age])
        revenue = np.nan_to_num(curves.users * self.value(curves, ages)[:, 0])
        error = np.nan_to_num(curves.users * self.standard_error(curves, ages)[:, 0])

        oldest_first = np.argsort(-curves.observed_age, kind="stable")
        sorted_revenue = revenue[oldest_first]
        revenue_of_younger = revenue.sum() - np.cumsum(sorted_revenue)
        products = revenue_of_younger * sorted_revenue

        observed_age = np.clip(curves.observed_age[oldest_first], 0, age)
        steps_to_come = self.estimation_variance[age] - self.estimation_variance[observed_age]
        covariance = 2 * products * steps_to_come
        return float(np.sqrt((error**2).sum() + covariance.sum()))


def _sum_of_earlier_steps(steps: Floats) -> Floats:
    """Sum of the steps before each age (A,), 0 at the first, of steps (A - 1,)."""
    return np.concatenate([[0.0], np.cumsum(steps)])


class Mack:
    """The chain ladder over all segments, with Mack's intervals.

    `recent` is how many of the last acquisition periods (days on which cohorts ended) measure each
    daily step (None: all); `pattern` the config of a Pattern, which forecasts for cohorts without
    revenue. P10 and P90 are those of a normal distribution. Raises ValueError for other values.
    """

    ladder: ChainLadder  # set by fit

    def __init__(self, *, recent: int | None, pattern: Config) -> None:
        """Check ranges."""
        if recent is not None and recent < 1:
            raise ValueError(f"expected recent >= 1 periods or null, got {recent}")
        self.recent = recent
        self.pattern = Pattern.from_config(pattern)

    def fit(self, curves: Curves) -> Self:
        """Measure development as of the origin of `curves`.

        Raises ValueError when no cohort has a complete age.
        """
        curves = with_complete_age(curves)
        segment_curves = self.pattern.fit(curves).fitted_pattern.segment_curves
        self.ladder = ChainLadder.fit(curves, segment_curves, self.recent)
        return self

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`; beyond the pattern's reach the curve stays flat."""
        require_fitted(self)
        pattern_forecast = self.pattern.predict(curves, ages)
        mean = self.ladder.value(curves, pattern_forecast.ages)
        half_width = NORMAL_P90 * self.ladder.standard_error(curves, pattern_forecast.ages)
        return forecast_with_fallback(
            pattern_forecast, mean, p10=mean - half_width, p90=mean + half_width
        )

    def state(self) -> State:
        """Describe the forecaster: configuration, the development, and the pattern's state."""
        require_fitted(self)
        ladder = self.ladder
        arrays = {"beta": ladder.beta, "variance": ladder.variance, "base": ladder.base}
        return baseline_state(self.pattern, {"arguments": {"recent": self.recent}}, arrays)

    @classmethod
    def from_state(cls, values: StateValues, arrays: StateArrays) -> Self:
        """Make the forecaster that `state()` described."""
        forecaster = restore_baseline(cls, values, arrays)
        forecaster.ladder = ChainLadder(arrays["beta"], arrays["variance"], arrays["base"])
        return forecaster
