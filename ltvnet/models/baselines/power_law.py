"""A power law through each cohort's own curve: the spreadsheet's habit.

Shapes: N cohorts, A ages, H ages asked for.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np

from ltvnet.data.arrays import Floats
from ltvnet.data.curves import AGES, NODES, Curves
from ltvnet.forecasting.forecast import Forecast
from ltvnet.forecasting.forecaster import State, StateArrays, StateValues
from ltvnet.forecasting.model_spec import Config
from ltvnet.models.baselines.fallback import (
    baseline_state,
    forecast_with_fallback,
    require_fitted,
    restore_baseline,
    with_complete_age,
)
from ltvnet.models.pattern.pattern import Pattern

MAX_EXPONENT = 1.0
"""Revenue a day does not rise with age: a first purchase late in a short prefix is no trend."""


def fit_exponents(curves: Curves) -> Floats:
    """Fit the exponent B of L(t) = A (t + 1)^B to each cohort (N,), by least squares in logs.

    Over the cohort's own observed ages with L(t) > 0; within 0..MAX_EXPONENT, NaN with fewer than
    two such ages.
    """
    has_revenue = np.nan_to_num(curves.values) > 0  # (N, A)
    count = np.maximum(has_revenue.sum(axis=1, keepdims=True), 1)

    log_age = np.where(has_revenue, np.log1p(np.arange(AGES)), 0.0)  # (N, A)
    mean_log_age = log_age.sum(axis=1, keepdims=True) / count
    log_age = np.where(has_revenue, log_age - mean_log_age, 0.0)

    log_value = np.log(curves.values, out=np.zeros_like(curves.values), where=has_revenue)
    log_value = log_value - log_value.sum(axis=1, keepdims=True) / count

    covariance = (log_age * log_value).sum(axis=1)
    variance = (log_age * log_age).sum(axis=1)
    not_fitted = np.full_like(variance, np.nan)
    slope = np.divide(covariance, variance, out=not_fitted, where=variance > 0)

    exponents: Floats = np.clip(slope, 0.0, MAX_EXPONENT)
    return exponents


class PowerLaw:
    """The forecaster L(h) = y(k) x ((h + 1) / (k + 1))^B, with B from the cohort's own curve alone.

    `pattern` is the config of the pattern, which forecasts where there are not two positive
    values. Raises ValueError for the config of anything else.
    """

    def __init__(self, *, pattern: Config) -> None:
        """Take the configuration."""
        self.pattern = Pattern.from_config(pattern)

    def fit(self, curves: Curves) -> Self:
        """Fit the pattern; the law learns from no other cohort.

        Raises ValueError when no age is complete.
        """
        self.pattern.fit(with_complete_age(curves))
        return self

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`; quantiles equal the mean until they are calibrated."""
        require_fitted(self)
        pattern_forecast = self.pattern.predict(curves, ages)

        observed_age = np.maximum(curves.observed_age, 0)[:, None]
        age_ratio = (pattern_forecast.ages + 1.0) / (observed_age + 1.0)  # (N, H)
        exponents = fit_exponents(curves)[:, None]
        mean = curves.observed_value[:, None] * age_ratio**exponents
        return forecast_with_fallback(pattern_forecast, mean)

    def state(self) -> State:
        """Describe the forecaster: its pattern's state is all of it."""
        require_fitted(self)
        return baseline_state(self.pattern, {"arguments": {}}, {})

    @classmethod
    def from_state(cls, values: StateValues, arrays: StateArrays) -> Self:
        """Make the forecaster that `state()` described."""
        return restore_baseline(cls, values, arrays)
