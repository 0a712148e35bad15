"""Benktander's method, of which Bornhuetter-Ferguson and Cape Cod are the first step.

Bornhuetter and Ferguson, "The actuary and IBNR", PCAS 59 (1972); Buhlmann's Cape Cod (1983);
Mack, "Credible claims reserves: the Benktander method", ASTIN Bulletin 30 (2000). The exposure of
a cohort is its users.

Shapes: N cohorts, A ages, H ages asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ltvnet.data.arrays import Floats
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
from ltvnet.models.pattern.development import Development, cohort_development, ratio_of_sums

PRIORS = ("cape_cod", "mean_ultimate", "additive")


def additive_curve(curves: Curves, last: int, half_life: float | None) -> Floats:
    """Mean cumulative revenue per user by age (A,), flat beyond age `last`: the additive method.

    Each daily step is the revenue gained over the users of the cohorts that completed it; users
    are weighed as `development` weighs revenue. It never falls.
    """
    ones = replace(curves, values=np.where(np.isfinite(curves.values), 1.0, np.nan))
    users = cohort_development(ones, last, half_life).base.sum(axis=0)
    gain = cohort_development(curves, last, half_life).gain.sum(axis=0)
    start = ratio_or_zero(np.sum(curves.users * curves.values[:, 0]), np.sum(curves.users))
    steps = np.concatenate([np.atleast_1d(start), ratio_or_zero(gain, users)])
    return np.maximum.accumulate(np.cumsum(steps))


class Benktander:
    """An ultimate a priori, moved to the cohort's own as far as its age has told.

    `iterations` 1 is Bornhuetter-Ferguson, infinitely many are the chain ladder. `prior` of the
    value per user at the last age: "cape_cod", revenue over users x proportion earned;
    "mean_ultimate", the mean over users of the chain ladder's ultimates; "additive", the mean
    curve, which then is also the development. `half_life` days in which a step of development
    halves in weight (None: all weigh the same); `pattern` the config of a Pattern. Raises
    ValueError for other values.
    """

    def __init__(
        self,
        *,
        iterations: int,
        prior: str,
        half_life: float | None,
        pattern: Mapping[str, Any],
    ) -> None:
        """Check ranges."""
        if iterations < 1:
            raise ValueError(f"expected iterations >= 1, got {iterations}")
        if prior not in PRIORS:
            raise ValueError(f"expected prior out of {', '.join(PRIORS)}, got {prior!r}")
        if half_life is not None and half_life <= 0:
            raise ValueError(f"expected half_life > 0 days or null, got {half_life}")
        self.iterations, self.prior, self.half_life = iterations, prior, half_life
        self.pattern = create_pattern(pattern)

    def fit(self, curves: Curves) -> Self:
        """Measure the proportion earned by age and the ultimate a priori, as of the origin.

        Raises ValueError when no cohort has a complete age.
        """
        curves = with_complete_age(curves)
        measured = self.pattern.fit(curves).segment_curves
        if self.prior == "additive":
            mean = additive_curve(curves, measured.last_supported_age, self.half_life)
            self.beta, self.level = ratio_or_zero(mean, mean[-1]), max(float(mean[-1]), 0.0)
        else:
            self.beta = self._development(curves, measured)
            self.level = self._level(curves)
        return self

    def _development(self, curves: Curves, measured: SegmentCurves) -> Floats:
        own = cohort_development(curves, measured.last_supported_age, self.half_life)
        sums = Development(own.base.sum(axis=0), own.gain.sum(axis=0))
        return share_earned_by_age(ratio_of_sums(sums), measured.first_revenue_age)

    def _level(self, curves: Curves) -> float:
        """The value per user at the last age that is expected of every cohort."""
        beta = self.beta[curves.observed_age]
        told = beta > 0
        users, seen = curves.users[told], (curves.users * curves.observed_value)[told]
        if self.prior == "cape_cod":
            level = ratio_or_zero(np.sum(seen), np.sum(users * beta[told]))
        else:
            level = ratio_or_zero(np.sum(seen / beta[told]), np.sum(users))
        return max(float(level), 0.0)

    def expected(self, curves: Curves) -> Floats:
        """The ultimate (N,) that the last iteration starts from.

        Iterating U <- y + (1 - beta) U from the prior A gives, after m steps, (1 - q^m) y / beta
        + q^m A with q = 1 - beta: a credibility mixture of chain ladder and prior (Mack 2000).
        """
        beta = self.beta[np.maximum(curves.observed_age, 0)]
        steps = self.iterations - 1
        left = (1.0 - beta) ** steps
        earlier = np.where(beta > 0, ratio_or_zero(1.0 - left, beta), float(steps))
        return earlier * curves.observed_value + left * self.level

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`; quantiles equal the mean until they are calibrated."""
        beside = self.pattern.predict(curves, ages)
        now = self.beta[np.maximum(curves.observed_age, 0)]
        grown = self.expected(curves)[:, None] * (self.beta[beside.ages] - now[:, None])
        return forecast_with_fallback(beside, curves.observed_value[:, None] + grown)

    def state(self) -> State:
        """Configuration, what was measured, and the pattern's state."""
        arguments = {
            "iterations": self.iterations,
            "prior": self.prior,
            "half_life": self.half_life,
        }
        values = {"arguments": arguments, "level": self.level}
        return baseline_state(self.pattern, values, {"beta": self.beta})

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The forecaster that `state()` described."""
        benktander = restore_baseline(cls, values, arrays)
        benktander.beta, benktander.level = arrays["beta"], values["level"]
        return benktander
