"""The chain ladder with Mack's standard errors.

Mack, "Distribution-free calculation of the standard error of chain ladder reserve estimates",
ASTIN Bulletin 23 (1993), and CAS Forum (1994) for the variance of the last step.

Shapes: N cohorts, A ages, H ages asked for, E days on which cohorts ended.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ltvnet.data.arrays import Bools, Floats, Ints
from ltvnet.data.curves import NODES, Curves
from ltvnet.forecasting.forecast import Forecast
from ltvnet.forecasting.forecaster import State
from ltvnet.models.baselines.fallback import (
    baseline_state,
    create_pattern,
    forecast_with_fallback,
    ratio_or_zero,
    restore_baseline,
    share_earned_by_age,
    with_complete_age,
)
from ltvnet.models.pattern.credibility import SegmentCurves
from ltvnet.models.pattern.development import (
    STEP_END_AGES,
    Development,
    cohort_development,
    ratio_of_sums,
)

NORMAL_P90 = 1.2816
"""Standard errors between the mean and P90 of a normal distribution."""


def measuring_cohorts(curves: Curves, last: int, recent: int | None) -> Bools:
    """Which cohorts measure each daily step up to age `last`: (N, A - 1).

    Those that completed it and, of these, the ones that ended on the `recent` latest days on
    which any of them ended (None: all). Cohorts that ended together count as one: they are
    the segments of one period.
    """
    known = (curves.observed_age[:, None] >= STEP_END_AGES) & (last >= STEP_END_AGES)
    if recent is None:
        return known
    days, place = np.unique(curves.end, return_inverse=True)
    ended = np.zeros((len(days), known.shape[1]), dtype=bool)  # (E, A - 1)
    np.logical_or.at(ended, place, known)
    rank = np.cumsum(ended[::-1], axis=0)[::-1]
    return known & (rank <= recent)[place]


def fill_step_variances(variance: Floats, cohorts: Ints) -> Floats:
    """Variances of steps (A - 1,), those of fewer than two `cohorts` by Mack's rule.

    Such a step takes min(b^2 / a, a, b) of the two estimated steps a, b before it (1994), the
    only one where there is one, the first one where there is none, and 0 where none is.
    """
    done = np.flatnonzero(cohorts >= 2)
    if not len(done):
        return np.zeros_like(variance)
    before = np.searchsorted(done, np.arange(len(variance)))
    a = variance[done[np.maximum(before - 2, 0)]]
    b = variance[done[np.maximum(before - 1, 0)]]
    least = np.minimum(np.minimum(a, b), ratio_or_zero(b**2, a))
    return np.where(cohorts >= 2, variance, least)


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
    def fit(cls, curves: Curves, measured: SegmentCurves, recent: int | None) -> Self:
        """Development of the cohorts with a complete age, up to the pattern's reach."""
        reach = measured.last_supported_age
        own = cohort_development(curves, reach, None)
        known = measuring_cohorts(curves, reach, recent)
        own = Development(np.where(known, own.base, 0.0), np.where(known, own.gain, 0.0))
        sums = Development(own.base.sum(axis=0), own.gain.sum(axis=0))
        growth = ratio_of_sums(sums)
        earning = known & (own.base > 0)
        cohorts = earning.sum(axis=0)
        squares = ratio_or_zero((own.gain - growth * own.base) ** 2, own.base).sum(axis=0)
        variance = fill_step_variances(squares / np.maximum(cohorts - 1, 1), cohorts)
        variance = np.where(reach >= STEP_END_AGES, variance, 0.0)
        return cls(share_earned_by_age(growth, measured.first_revenue_age), variance, sums.base)

    @property
    def factors(self) -> Floats:
        """Growth from each age to the next: (A - 1,)."""
        return np.where(self.beta[:-1] > 0, ratio_or_zero(self.beta[1:], self.beta[:-1]), 1.0)

    @cached_property
    def process(self) -> Floats:
        """Sum over the steps before an age of sigma^2 / (f^2 beta): (A,), in currency.

        The part of Mack's error that is chance, for revenue of 1 at the last age.
        """
        return _summed(ratio_or_zero(self.variance / self.factors**2, self.beta[:-1]))

    @cached_property
    def estimation(self) -> Floats:
        """Sum over the steps before an age of sigma^2 / (f^2 base): (A,)."""
        return _summed(ratio_or_zero(self.variance / self.factors**2, self.base))

    def value(self, curves: Curves, ages: Ints) -> Floats:
        """Value per user (N, H) by the chain ladder; NaN where there is nothing to multiply."""
        now = self.beta[np.maximum(curves.observed_age, 0)]
        grows = (now > 0) & (curves.observed_value > 0)
        own = np.where(grows, curves.observed_value, np.nan)
        return own[:, None] * ratio_or_zero(self.beta[ages], now[:, None])

    def standard_error(self, curves: Curves, ages: Ints) -> Floats:
        """Standard error (N, H) of the value per user, Mack (1993); NaN where there is none.

        Its square is value^2 x sum over the steps to come of sigma^2 / f^2 (1 / C + 1 / base),
        with C the cohort's own revenue as forecast; 0 at ages observed.
        """
        k = np.maximum(curves.observed_age, 0)
        later = np.maximum(ages, k[:, None])  # (N, H)
        own = ratio_or_zero(self.beta[k], curves.users * curves.observed_value)[:, None]
        square = own * (self.process[later] - self.process[k][:, None])
        square += self.estimation[later] - self.estimation[k][:, None]
        return self.value(curves, ages) * np.sqrt(square)

    def total_standard_error(self, curves: Curves, age: int) -> float:
        """Standard error of all cohorts' revenue at an age, summed (currency), Mack (1993).

        Two cohorts are wrong together about the factors of the steps that are to come to both.
        """
        ages = np.array([age])
        revenue = np.nan_to_num(curves.users * self.value(curves, ages)[:, 0])
        own = np.nan_to_num(curves.users * self.standard_error(curves, ages)[:, 0])
        order = np.argsort(-curves.observed_age, kind="stable")  # the oldest first
        younger = (revenue.sum() - np.cumsum(revenue[order])) * revenue[order]
        k = np.clip(curves.observed_age[order], 0, age)
        shared = 2 * younger * (self.estimation[age] - self.estimation[k])
        return float(np.sqrt((own**2).sum() + shared.sum()))


def _summed(steps: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(steps)])


class Mack:
    """The chain ladder over all segments, with Mack's intervals.

    `recent` how many of the last acquisition periods (days on which cohorts ended) measure each
    daily step (None: all); `pattern` the config of a Pattern, which speaks for cohorts without
    revenue. P10 and P90 are those of a normal distribution. Raises ValueError for other values.
    """

    def __init__(self, *, recent: int | None, pattern: Mapping[str, Any]) -> None:
        """Check ranges."""
        if recent is not None and recent < 1:
            raise ValueError(f"expected recent >= 1 periods or null, got {recent}")
        self.recent = recent
        self.pattern = create_pattern(pattern)

    def fit(self, curves: Curves) -> Self:
        """Measure development as of the origin of `curves`.

        Raises ValueError when no cohort has a complete age.
        """
        curves = with_complete_age(curves)
        self.pattern.fit(curves)
        self.ladder = ChainLadder.fit(curves, self.pattern.segment_curves, self.recent)
        return self

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`; beyond the pattern's reach the curve stays flat."""
        beside = self.pattern.predict(curves, ages)
        mean = self.ladder.value(curves, beside.ages)
        away = NORMAL_P90 * self.ladder.standard_error(curves, beside.ages)
        return forecast_with_fallback(beside, mean, mean - away, mean + away)

    def state(self) -> State:
        """Configuration, the development, and the pattern's state."""
        own = {"beta": self.ladder.beta, "variance": self.ladder.variance, "base": self.ladder.base}
        return baseline_state(self.pattern, {"arguments": {"recent": self.recent}}, own)

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The forecaster that `state()` described."""
        mack = restore_baseline(cls, values, arrays)
        mack.ladder = ChainLadder(arrays["beta"], arrays["variance"], arrays["base"])
        return mack
