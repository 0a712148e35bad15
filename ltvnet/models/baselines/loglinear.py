"""The classical regression of log value at a horizon on log value so far, with Duan's smearing.

Shapes: N cohorts, A ages, J nodes, H ages asked for, P terms of a regression (intercept first).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ltvnet.data.arrays import Floats
from ltvnet.data.curves import AGES, NODES, Curves
from ltvnet.forecasting.forecast import Forecast
from ltvnet.forecasting.forecaster import State
from ltvnet.models.baselines.fallback import (
    baseline_state,
    create_pattern,
    forecast_with_fallback,
    interpolate_in_log_age,
    restore_baseline,
    with_complete_age,
)

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
        """Weighted least squares over the cohorts that have reached h, by normal equations.

        `terms` 2, or 3 with the slope.
        """
        log = _log(curves.values)
        weight = np.where(np.isfinite(log), curves.users[:, None], 0.0)
        total, sums = weight.sum(axis=0), (weight * np.nan_to_num(log)).sum(axis=0)
        centre = np.divide(sums, total, out=np.zeros(AGES), where=total > 0)

        x = log - centre
        used = _terms(x, x[:, np.arange(AGES) // 2], terms)
        usable = np.isfinite(used).all(axis=0).astype(float)  # (N, A)
        used = np.where(usable, used, 0.0)  # (P, N, A)
        y, weight = np.nan_to_num(x[:, NODES]), weight[:, NODES]  # (N, J)
        coefficients = _solved(used, y, weight)
        smear = _smeared(used, usable, coefficients, y, weight)
        enough = usable.T @ (weight > 0).astype(float) >= min_cohorts  # (A, J)
        later = np.arange(AGES)[:, None] < np.array(NODES)
        return cls(centre, coefficients, np.where(enough & later, smear, np.nan))

    def forecast_nodes(self, curves: Curves) -> Floats:
        """Forecasts at NODES (N, J), NaN where there is no revenue or no regression."""
        k, rows = np.maximum(curves.observed_age, 0), np.arange(len(curves))
        now, half = (_log(curves.values[rows, age]) - self.centre[age] for age in (k, k // 2))
        used = _terms(now, half, self.coefficients.shape[1])  # (P, N)
        grown = now[:, None] + np.einsum("pn,npj->nj", used, self.coefficients[k])
        with np.errstate(over="ignore", invalid="ignore"):
            value = np.exp(self.centre[list(NODES)] + grown) * self.smear[k]
        return np.where(np.isfinite(value), value, np.nan)


def _log(values: Floats) -> Floats:
    return np.log(values, out=np.full_like(values, np.nan), where=values > 0)


def _terms(now: Floats, half: Floats, count: int) -> Floats:
    """1, log value, and the slope of the curve since half the age: (P, ...)."""
    return np.stack([np.ones_like(now), now, now - half][:count])


def _solved(used: Floats, y: Floats, weight: Floats) -> Floats:
    """Coefficients (A, P, J) of log growth; of least norm where regressors do not vary."""
    gram = np.array([[(p * q).T @ weight for q in used] for p in used])  # (P, P, A, J)
    product = np.array([p.T @ (weight * y) for p in used]) - gram[1]  # (P, A, J)
    inverse = np.linalg.pinv(
        np.moveaxis(gram, (0, 1), (2, 3)), rcond=SINGULAR_CUTOFF, hermitian=True
    )
    coefficients: Floats = np.einsum("ajpq,qaj->apj", inverse, product)
    return coefficients


def _smeared(
    used: Floats, usable: Floats, coefficients: Floats, y: Floats, weight: Floats
) -> Floats:
    """Weighted mean of exp(residual) of each regression: (A, J)."""
    smear = np.full((AGES, len(NODES)), np.nan)
    for k in range(AGES - 1):  # memory for one observed age at a time
        later = np.flatnonzero(np.array(NODES) > k)
        fitted = used[1, :, k, None] + used[:, :, k].T @ coefficients[k][:, later]
        weighed = weight[:, later] * usable[:, [k]]  # (N, later)
        total, over = weighed.sum(axis=0), (weighed * np.exp(y[:, later] - fitted)).sum(axis=0)
        told = total > 0
        smear[k, later[told]] = over[told] / total[told]
    return smear


class LogLinear:
    """The regression log L(h) = b0 + b1 log L(k), weighted by users, for every k and node h.

    `slopes` adds b2 log(L(k) / L(k/2)); `min_cohorts` cohorts that must have reached a horizon,
    below which the pattern speaks; `pattern` its config. A value is exp(fit) x smear, where
    smear = sum of users x exp(residual) / sum of users (Duan 1983, "Smearing estimate: a
    nonparametric retransformation method"). Where L(k) does not vary, b1 = 1. Raises ValueError
    for fewer cohorts than a regression needs.
    """

    def __init__(self, *, slopes: bool, min_cohorts: int, pattern: Mapping[str, Any]) -> None:
        """Take the configuration."""
        if min_cohorts < 4:
            raise ValueError(f"expected min_cohorts >= 4, got {min_cohorts}")
        self.slopes, self.min_cohorts = slopes, min_cohorts
        self.pattern = create_pattern(pattern)

    def fit(self, curves: Curves) -> Self:
        """Fit the pattern and all regressions. Raises ValueError when no age is complete."""
        curves = with_complete_age(curves)
        self.pattern.fit(curves)
        self.regressions = NodeRegressions.fit(curves, 2 + self.slopes, self.min_cohorts)
        return self

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`; quantiles equal the mean until they are calibrated."""
        beside = self.pattern.predict(curves, ages)
        told = self.regressions.forecast_nodes(curves)
        return forecast_with_fallback(beside, interpolate_in_log_age(curves, told, beside.ages))

    def state(self) -> State:
        """Coefficients, and the pattern's state."""
        arguments = {"slopes": self.slopes, "min_cohorts": self.min_cohorts}
        return baseline_state(self.pattern, {"arguments": arguments}, vars(self.regressions))

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The regressions that `state()` described."""
        fitted = restore_baseline(cls, values, arrays)
        names = ("centre", "coefficients", "smear")
        fitted.regressions = NodeRegressions(**{name: arrays[name] for name in names})
        return fitted
