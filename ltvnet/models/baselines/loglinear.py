"""The classical regression of log value at a horizon on log value so far, with Duan's smearing.

Shapes: N cohorts, A ages, J nodes, H ages asked for, P terms of a regression (intercept first).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from ltvnet.data.arrays import Floats, Ints
from ltvnet.data.curves import AGES, NODE_AGES, NODES, Curves
from ltvnet.forecasting.forecast import Forecast
from ltvnet.forecasting.forecaster import State, StateArrays, StateValues
from ltvnet.forecasting.interpolation import interpolate_in_log_age
from ltvnet.forecasting.model_spec import Config
from ltvnet.models.baselines.fallback import (
    baseline_state,
    forecast_with_fallback,
    require_fitted,
    restore_baseline,
    with_complete_age,
)
from ltvnet.models.pattern.pattern import Pattern

SINGULAR_CUTOFF = 1e-10
"""Directions in which regressors vary less than this, relatively, have no coefficient."""


@dataclass(frozen=True)
class NodeRegressions:
    """One regression for each observed age k and node h > k: log growth from k to h.

    `centre` (A,) the mean of log value at each age, from which logs are taken; `coefficients`
    (A, P, J) of 1, log value at k and its slope; `smear` (A, J) Duan's factor, NaN where too few
    cohorts have reached the node.
    """

    centre: Floats
    coefficients: Floats
    smear: Floats

    @classmethod
    def fit(cls, curves: Curves, terms: int, min_cohorts: int) -> Self:
        """Fit weighted least squares to the cohorts that have reached h, by normal equations.

        `terms` is 2, or 3 with the slope.
        """
        log_value = _log_positive(curves.values)  # (N, A)
        weight = np.where(np.isfinite(log_value), curves.users[:, None], 0.0)
        total = weight.sum(axis=0)
        sums = (weight * np.nan_to_num(log_value)).sum(axis=0)
        centre = np.divide(sums, total, out=np.zeros(AGES), where=total > 0)

        centred = log_value - centre
        regressors = _regressors(centred, centred[:, np.arange(AGES) // 2], terms)  # (P, N, A)
        is_usable = np.isfinite(regressors).all(axis=0).astype(float)  # (N, A), 1 or 0
        regressors = np.where(is_usable, regressors, 0.0)

        node_log = np.nan_to_num(centred[:, NODES])  # (N, J)
        node_weight = weight[:, NODES]  # (N, J)
        coefficients = _least_squares(regressors, node_log, node_weight)
        smear = _smearing_by_age(regressors, is_usable, coefficients, node_log, node_weight)

        has_enough = is_usable.T @ (node_weight > 0).astype(float) >= min_cohorts  # (A, J)
        is_later = np.arange(AGES)[:, None] < NODE_AGES
        return cls(centre, coefficients, np.where(has_enough & is_later, smear, np.nan))

    def forecast_nodes(self, curves: Curves) -> Floats:
        """Forecast values at NODES (N, J), NaN where there is no revenue or no regression."""
        observed_age = np.maximum(curves.observed_age, 0)
        half_age = observed_age // 2
        log_value = self._centred_log(curves, observed_age)
        log_half_value = self._centred_log(curves, half_age)

        terms = self.coefficients.shape[1]
        regressors = _regressors(log_value, log_half_value, terms)  # (P, N)
        log_growth = np.einsum("pn,npj->nj", regressors, self.coefficients[observed_age])
        node_log = log_value[:, None] + log_growth  # (N, J)

        with np.errstate(over="ignore", invalid="ignore"):
            value = np.exp(self.centre[list(NODES)] + node_log) * self.smear[observed_age]
        return np.where(np.isfinite(value), value, np.nan)

    def _centred_log(self, curves: Curves, age: Ints) -> Floats:
        """Log value at one age a cohort (N,), from the mean of log value at that age."""
        rows = np.arange(len(curves))
        return _log_positive(curves.values[rows, age]) - self.centre[age]


def _log_positive(values: Floats) -> Floats:
    """Logarithm, NaN of values that are not positive."""
    return np.log(values, out=np.full_like(values, np.nan), where=values > 0)


def _regressors(log_value: Floats, log_half_value: Floats, count: int) -> Floats:
    """1, log value, and the slope of the curve since half the age: (P, ...)."""
    ones = np.ones_like(log_value)
    slope = log_value - log_half_value
    return np.stack([ones, log_value, slope][:count])


def _least_squares(regressors: Floats, node_log: Floats, weight: Floats) -> Floats:
    """Coefficients (A, P, J) of log growth; of least norm where regressors do not vary.

    Of `regressors` (P, N, A), 0 where unusable, and `node_log`, `weight` (N, J).
    """
    gram_rows = []
    for row_term in regressors:
        gram_rows.append([(row_term * term).T @ weight for term in regressors])
    gram = np.array(gram_rows)  # (P, P, A, J)

    # Log growth is the log value at the node less the regressor with number 1, the log value.
    product = np.array([term.T @ (weight * node_log) for term in regressors])
    product = product - gram[1]  # (P, A, J)

    square = np.moveaxis(gram, (0, 1), (2, 3))  # (A, J, P, P)
    inverse = np.linalg.pinv(square, rcond=SINGULAR_CUTOFF, hermitian=True)
    coefficients: Floats = np.einsum("ajpq,qaj->apj", inverse, product)
    return coefficients


def _smearing_by_age(
    regressors: Floats, is_usable: Floats, coefficients: Floats, node_log: Floats, weight: Floats
) -> Floats:
    """Weighted mean of exp(residual) of each regression: (A, J), NaN where nothing has weight."""
    smear = np.full((AGES, len(NODES)), np.nan)

    for age in range(AGES - 1):  # memory for one observed age at a time
        later = np.flatnonzero(NODE_AGES > age)
        growth = regressors[:, :, age].T @ coefficients[age][:, later]
        fitted = regressors[1, :, age, None] + growth  # (N, later)

        usable_weight = weight[:, later] * is_usable[:, [age]]  # (N, later)
        total = usable_weight.sum(axis=0)
        sums = (usable_weight * np.exp(node_log[:, later] - fitted)).sum(axis=0)

        has_weight = total > 0
        smear[age, later[has_weight]] = sums[has_weight] / total[has_weight]

    return smear


class LogLinear:
    """The regression log L(h) = b0 + b1 log L(k), weighted by users, for every k and node h.

    `slopes` adds b2 log(L(k) / L(k/2)); `min_cohorts` cohorts that must have reached a horizon,
    below which the pattern forecasts; `pattern` its config. A value is exp(fit) x smear, where
    smear = sum of users x exp(residual) / sum of users (Duan 1983, "Smearing estimate: a
    nonparametric retransformation method"). Where L(k) does not vary, b1 = 1. Raises ValueError
    for fewer cohorts than a regression needs.
    """

    regressions: NodeRegressions  # set by fit

    def __init__(self, *, slopes: bool, min_cohorts: int, pattern: Config) -> None:
        """Take the configuration."""
        if min_cohorts < 4:
            raise ValueError(f"expected min_cohorts >= 4, got {min_cohorts}")
        self.slopes = slopes
        self.min_cohorts = min_cohorts
        self.pattern = Pattern.from_config(pattern)

    def fit(self, curves: Curves) -> Self:
        """Fit the pattern and all regressions. Raises ValueError when no age is complete."""
        curves = with_complete_age(curves)
        self.pattern.fit(curves)

        terms = 3 if self.slopes else 2
        self.regressions = NodeRegressions.fit(curves, terms, self.min_cohorts)
        return self

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`; quantiles equal the mean until they are calibrated."""
        require_fitted(self)
        pattern_forecast = self.pattern.predict(curves, ages)
        node_values = self.regressions.forecast_nodes(curves)
        mean = interpolate_in_log_age(curves, node_values, pattern_forecast.ages)
        return forecast_with_fallback(pattern_forecast, mean)

    def state(self) -> State:
        """Describe the forecaster: coefficients, and the pattern's state."""
        require_fitted(self)
        arguments = {"slopes": self.slopes, "min_cohorts": self.min_cohorts}
        return baseline_state(self.pattern, {"arguments": arguments}, vars(self.regressions))

    @classmethod
    def from_state(cls, values: StateValues, arrays: StateArrays) -> Self:
        """Make the forecaster that `state()` described."""
        forecaster = restore_baseline(cls, values, arrays)
        forecaster.regressions = NodeRegressions(
            centre=arrays["centre"], coefficients=arrays["coefficients"], smear=arrays["smear"]
        )
        return forecaster
