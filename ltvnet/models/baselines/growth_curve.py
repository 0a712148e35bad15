"""A growth curve of two parameters, fitted to the increments of all cohorts together.

Clark, "LDF curve-fitting and stochastic reserving: a maximum likelihood approach", CAS Forum
(2003): increments are over-dispersed Poisson around a cohort's ultimate x (G(t) - G(s)).

Shapes: N cohorts, A ages, H ages asked for, P pairs of parameters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Self, get_args

import numpy as np
from scipy.optimize import minimize

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

Family = Literal["weibull", "loglogistic"]

FAMILIES: tuple[Family, ...] = get_args(Family)

AGE_OFFSET = 1.0
"""Days by which a cohort's age is ahead of the number of its last complete day."""

PARAMETER_BOUNDS = ((1 / 32, 8.0), (1 / 64, 1e6))
"""Of the shape, and of the scale in days; a scale of many years is a power law."""

GRID_POINTS = 33
"""Points of the grid, in each direction, whose best is where the search starts."""

MIN_AGES_WITH_REVENUE = 3
"""Ages with revenue below which two parameters cannot be told."""


def log_growth(family: Family, omega: Floats, theta: Floats, time: Floats) -> tuple[Floats, Floats]:
    """Log of G(t), and of its growth since the time before (at first since 0), without overflow.

    `omega` and `theta` (P, 1) and `time` (A,) give (P, A). G(t) is 1 - exp(-u) for weibull and
    u / (1 + u) for loglogistic, with u = (t / theta)^omega.
    """
    u = (time / theta) ** omega  # (P, A)
    previous_u = np.concatenate([np.zeros_like(u[:, :1]), u[:, :-1]], axis=1)

    if family == "weibull":
        log_level = np.log(-np.expm1(-u))
        log_increment = np.log(-np.expm1(previous_u - u)) - previous_u
    else:
        log_level = np.log(u) - np.log1p(u)
        log_increment = np.log(u - previous_u) - np.log1p(u) - np.log1p(previous_u)
    return log_level, log_increment


def daily_revenue(curves: Curves) -> Floats:
    """Revenue (currency) of a cohort on each day of age: (N, A), at least 0; NaN if incomplete."""
    daily = curves.users[:, None] * np.diff(curves.values, axis=1, prepend=0.0)
    return np.maximum(daily, 0.0)


def search_parameters(loss: Callable[[Floats], Floats]) -> Floats:
    """Search logs of the parameters (2,) of least loss: the best of a grid, refined.

    Within PARAMETER_BOUNDS; `loss` takes logs of pairs (P, 2) and gives (P,).
    """
    axes = [np.log(np.geomspace(low, high, GRID_POINTS)) for low, high in PARAMETER_BOUNDS]
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*axes)], axis=1)  # (P, 2)

    best = minimize(
        lambda logs: loss(logs[None])[0],
        grid[np.argmin(loss(grid))],
        method="Nelder-Mead",
        bounds=np.log(PARAMETER_BOUNDS),
        options={"xatol": 1e-9, "fatol": 1e-14, "maxiter": 2000, "maxfev": 4000},
    )
    log_parameters: Floats = best.x
    return log_parameters


@dataclass(frozen=True)
class ParametricCurve:
    """A curve G of `family` with shape `omega` and scale `theta` (days), NaN where not known.

    `offset` days are added to an age.
    """

    family: Family
    omega: float
    theta: float
    offset: float

    @classmethod
    def fit(cls, family: Family, curves: Curves, offset: float) -> Self:
        """Fit the most likely curve, each cohort's ultimate being its own revenue / G(k).

        That ultimate maximises the likelihood for every curve, so that what is left to maximise
        is sum of increments x log((G(t) - G(s)) / G(k)). It needs revenue at
        MIN_AGES_WITH_REVENUE ages.
        """
        revenue = daily_revenue(curves)  # (N, A)
        revenue_by_age = np.nansum(revenue, axis=0)  # (A,)
        if (revenue_by_age > 0).sum() < MIN_AGES_WITH_REVENUE:
            return cls(family, np.nan, np.nan, offset)

        # The revenue of all days of those cohorts whose observed age is k: (A,).
        revenue_of_cohorts = np.nansum(revenue, axis=1)
        revenue_by_last_age = np.bincount(curves.observed_age, revenue_of_cohorts, minlength=AGES)

        total = revenue_by_age.sum()
        share_by_age = revenue_by_age / total
        share_by_last_age = revenue_by_last_age / total
        time = np.arange(0.0, AGES) + offset

        def loss(logs: Floats) -> Floats:  # (P, 2) to (P,)
            omega, theta = np.exp(logs).T[:, :, None]
            log_level, log_increment = log_growth(family, omega, theta, time)
            deviance: Floats = log_level @ share_by_last_age - log_increment @ share_by_age
            return deviance

        omega, theta = np.exp(search_parameters(loss))
        return cls(family, float(omega), float(theta), offset)

    def share_earned(self) -> Floats:
        """Share G of the ultimate that is earned by each age: (A,)."""
        omega = np.array([[self.omega]])
        theta = np.array([[self.theta]])
        time = np.arange(0.0, AGES) + self.offset
        log_level, _ = log_growth(self.family, omega, theta, time)
        share: Floats = np.exp(log_level[0])
        return share

    def dispersion(self, curves: Curves) -> float:
        """Pearson's sigma^2 (currency): variance over mean of an increment (Clark 2003).

        One parameter is counted for each cohort's ultimate and two for the curve; NaN where that
        leaves nothing. No forecast needs it: kept to compare with the literature, which publishes
        it beside the parameters of a fit.
        """
        revenue = daily_revenue(curves)
        share = self.share_earned()
        ultimate = np.nansum(revenue, axis=1) / share[curves.observed_age]  # (N,)
        mean = ultimate[:, None] * np.diff(share, prepend=0.0)  # (N, A)

        is_counted = np.isfinite(revenue) & (mean > 0)
        degrees_of_freedom = is_counted.sum() - len(curves) - 2
        if degrees_of_freedom < 1:
            return np.nan

        squares = (revenue - mean)[is_counted] ** 2 / mean[is_counted]
        return float(squares.sum() / degrees_of_freedom)


class GrowthCurve:
    """The pooled growth curve: a cohort's own value, grown as the curve grows, until D360.

    `family` "weibull" or "loglogistic"; `pattern` the config of a Pattern, which forecasts for
    cohorts without revenue and where no curve could be fitted. Raises ValueError for other values.
    """

    curve: ParametricCurve  # set by fit

    def __init__(self, *, family: Family, pattern: Config) -> None:
        """Check the family."""
        if family not in FAMILIES:
            raise ValueError(f"expected family out of {', '.join(FAMILIES)}, got {family!r}")
        self.family = family
        self.pattern = Pattern.from_config(pattern)

    def fit(self, curves: Curves) -> Self:
        """Fit the curve to what was known at the origin of `curves`.

        Raises ValueError when no cohort has a complete age.
        """
        curves = with_complete_age(curves)
        self.pattern.fit(curves)
        self.curve = ParametricCurve.fit(self.family, curves, AGE_OFFSET)
        return self

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`; quantiles equal the mean until they are calibrated."""
        require_fitted(self)
        pattern_forecast = self.pattern.predict(curves, ages)

        share = self.curve.share_earned()
        observed_share = share[np.maximum(curves.observed_age, 0)]
        growth_factor = share[pattern_forecast.ages] / observed_share[:, None]  # (N, H)
        value = np.where(curves.observed_value > 0, curves.observed_value, np.nan)
        return forecast_with_fallback(pattern_forecast, value[:, None] * growth_factor)

    def state(self) -> State:
        """Describe the forecaster: the family, the fitted curve, and the pattern's state."""
        require_fitted(self)
        curve = np.array([self.curve.omega, self.curve.theta, self.curve.offset])
        values = {"arguments": {"family": self.family}}
        return baseline_state(self.pattern, values, {"curve": curve})

    @classmethod
    def from_state(cls, values: StateValues, arrays: StateArrays) -> Self:
        """Make the forecaster that `state()` described."""
        forecaster = restore_baseline(cls, values, arrays)
        omega, theta, offset = map(float, arrays["curve"])
        forecaster.curve = ParametricCurve(forecaster.family, omega, theta, offset)
        return forecaster
