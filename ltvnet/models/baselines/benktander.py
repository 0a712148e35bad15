"""Benktander's method, of which Bornhuetter-Ferguson and Cape Cod are the first step.

Bornhuetter and Ferguson, "The actuary and IBNR", PCAS 59 (1972); Buhlmann's Cape Cod (1983);
Mack, "Credible claims reserves: the Benktander method", ASTIN Bulletin 30 (2000). The exposure of
a cohort is its users.

Shapes: N cohorts, A ages, H ages asked for.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Self, get_args

import numpy as np

from ltvnet.data.arrays import Floats, ratio_or_zero
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
from ltvnet.models.pattern.development import Development, cohort_development, ratio_of_sums
from ltvnet.models.pattern.pattern import Pattern
from ltvnet.models.pattern.segment_curves import SegmentCurves

Prior = Literal["cape_cod", "mean_ultimate", "additive"]

PRIORS: tuple[Prior, ...] = get_args(Prior)


def additive_curve(curves: Curves, last: int, half_life: float | None) -> Floats:
    """Mean cumulative revenue per user by age (A,), flat beyond age `last`: the additive method.

    Each daily step is the revenue gained over the users of the cohorts that completed it; users
    are weighed as `cohort_development` weighs revenue. The curve never falls.
    """
    # Cohorts whose value is 1 at every age they know: their revenue is their users.
    user_curves = replace(curves, values=np.where(np.isfinite(curves.values), 1.0, np.nan))
    users = cohort_development(user_curves, last, half_life).base.sum(axis=0)  # (A - 1,)
    gain = cohort_development(curves, last, half_life).gain.sum(axis=0)  # (A - 1,)

    revenue_d0 = np.sum(curves.users * curves.values[:, 0])
    start = ratio_or_zero(revenue_d0, np.sum(curves.users))
    steps = np.concatenate([np.atleast_1d(start), ratio_or_zero(gain, users)])  # (A,)
    return np.maximum.accumulate(np.cumsum(steps))


class Benktander:
    """An ultimate a priori, moved to the cohort's own as far as development has come at its age.

    `iterations` 1 is Bornhuetter-Ferguson, infinitely many are the chain ladder. `prior` of the
    value per user at the last age: "cape_cod", revenue over users x proportion earned;
    "mean_ultimate", the mean over users of the chain ladder's ultimates; "additive", the mean
    curve, which then is also the development. `half_life` days in which a step of development
    halves in weight (None: all weigh the same); `pattern` the config of a Pattern. Raises
    ValueError for other values.
    """

    beta: Floats  # (A,) proportion of the last age's value earned by age; set by fit
    prior_ultimate: float  # value per user at the last age, expected of every cohort; set by fit

    def __init__(
        self,
        *,
        iterations: int,
        prior: Prior,
        half_life: float | None,
        pattern: Config,
    ) -> None:
        """Check ranges."""
        if iterations < 1:
            raise ValueError(f"expected iterations >= 1, got {iterations}")
        if prior not in PRIORS:
            raise ValueError(f"expected prior out of {', '.join(PRIORS)}, got {prior!r}")
        if half_life is not None and half_life <= 0:
            raise ValueError(f"expected half_life > 0 days or null, got {half_life}")
        self.iterations = iterations
        self.prior = prior
        self.half_life = half_life
        self.pattern = Pattern.from_config(pattern)

    def fit(self, curves: Curves) -> Self:
        """Measure the proportion earned by age and the ultimate a priori, as of the origin.

        Raises ValueError when no cohort has a complete age.
        """
        curves = with_complete_age(curves)
        segment_curves = self.pattern.fit(curves).fitted_pattern.segment_curves

        if self.prior == "additive":
            mean_curve = additive_curve(curves, segment_curves.last_supported_age, self.half_life)
            self.beta = ratio_or_zero(mean_curve, mean_curve[-1])
            self.prior_ultimate = max(float(mean_curve[-1]), 0.0)
        else:
            self.beta = self._measure_beta(curves, segment_curves)
            self.prior_ultimate = self._measure_prior_ultimate(curves)
        return self

    def _measure_beta(self, curves: Curves, segment_curves: SegmentCurves) -> Floats:
        """Proportion (A,) of the last age's value earned by age, of all cohorts together."""
        last_supported_age = segment_curves.last_supported_age
        development = cohort_development(curves, last_supported_age, self.half_life)
        total = Development(development.base.sum(axis=0), development.gain.sum(axis=0))
        return share_earned_by_age(ratio_of_sums(total), segment_curves.first_revenue_age)

    def _measure_prior_ultimate(self, curves: Curves) -> float:
        """Value per user at the last age that is expected of every cohort."""
        beta = self.beta[curves.observed_age]
        has_developed = beta > 0
        developed_beta = beta[has_developed]
        users = curves.users[has_developed]
        revenue = (curves.users * curves.observed_value)[has_developed]

        if self.prior == "cape_cod":
            ultimate = ratio_or_zero(np.sum(revenue), np.sum(users * developed_beta))
        else:
            ultimate = ratio_or_zero(np.sum(revenue / developed_beta), np.sum(users))
        return max(float(ultimate), 0.0)

    def ultimate_before_last_step(self, curves: Curves) -> Floats:
        """Ultimate value per user (N,) that the last iteration starts from.

        Iterating U <- y + (1 - beta) U from the prior A gives, after m steps, (1 - q^m) y / beta
        + q^m A with q = 1 - beta: a credibility mixture of chain ladder and prior (Mack 2000).
        """
        beta = self.beta[np.maximum(curves.observed_age, 0)]
        steps = self.iterations - 1
        prior_weight = (1.0 - beta) ** steps

        # Where nothing is earned yet, (1 - q^m) / beta tends to m.
        value_weight = np.where(beta > 0, ratio_or_zero(1.0 - prior_weight, beta), float(steps))
        return value_weight * curves.observed_value + prior_weight * self.prior_ultimate

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`; quantiles equal the mean until they are calibrated."""
        require_fitted(self)
        pattern_forecast = self.pattern.predict(curves, ages)

        observed_beta = self.beta[np.maximum(curves.observed_age, 0)]
        share_to_come = self.beta[pattern_forecast.ages] - observed_beta[:, None]  # (N, H)
        growth = self.ultimate_before_last_step(curves)[:, None] * share_to_come
        return forecast_with_fallback(pattern_forecast, curves.observed_value[:, None] + growth)

    def state(self) -> State:
        """Describe the forecaster: configuration, what was measured, and the pattern's state."""
        require_fitted(self)
        arguments = {
            "iterations": self.iterations,
            "prior": self.prior,
            "half_life": self.half_life,
        }
        values = {"arguments": arguments, "level": self.prior_ultimate}
        return baseline_state(self.pattern, values, {"beta": self.beta})

    @classmethod
    def from_state(cls, values: StateValues, arrays: StateArrays) -> Self:
        """Make the forecaster that `state()` described."""
        forecaster = restore_baseline(cls, values, arrays)
        forecaster.beta = arrays["beta"]
        forecaster.prior_ultimate = values["level"]
        return forecaster
