"""A growth curve of two parameters, fitted to the increments of all cohorts together.

Clark, "LDF curve-fitting and stochastic reserving: a maximum likelihood approach", CAS Forum
(2003): increments are over-dispersed Poisson around a cohort's ultimate x (G(t) - G(s)).

Shapes: N cohorts, A ages, H ages asked for, P pairs of parameters.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from ltvnet.data.arrays import Floats
from ltvnet.data.curves import AGES, NODES, Curves
from ltvnet.forecasting.forecast import Forecast
from ltvnet.forecasting.forecaster import State
from ltvnet.models.baselines.fallback import (
    baseline_state,
    create_pattern,
    forecast_with_fallback,
    restore_baseline,
    with_complete_age,
)

FAMILIES = ("weibull", "loglogistic")

AGE_OFFSET = 1.0
"""Days by which a cohort's age is ahead of the number of its last complete day."""

BOUNDS = ((1 / 32, 8.0), (1 / 64, 1e6))
"""Of the shape, and of the scale in days; a scale of many years is a power law."""

STARTS = 33
"""Points of the grid, in each direction, whose best is where the search starts."""

MIN_CELLS = 3
"""Ages with revenue below which two parameters cannot be told."""


def log_growth(family: str, omega: Floats, theta: Floats, time: Floats) -> tuple[Floats, Floats]:
    """Log of G(t), and of its growth since the time before (at first since 0), without overflow.

    `omega` and `theta` (P, 1) and `time` (A,) give (P, A). G(t) is 1 - exp(-u) for weibull and
    u / (1 + u) for loglogistic, with u = (t / theta)^omega.
    """
    u = (time / theta) ** omega
    before = np.concatenate([np.zeros_like(u[:, :1]), u[:, :-1]], axis=1)
    if family == "weibull":
        return np.log(-np.expm1(-u)), np.log(-np.expm1(before - u)) - before
    return np.log(u) - np.log1p(u), np.log(u - before) - np.log1p(u) - np.log1p(before)


def daily_revenue(curves: Curves) -> Floats:
    """Revenue (currency) of a cohort on each day of age: (N, A), at least 0; NaN if incomplete."""
    daily = curves.users[:, None] * np.diff(curves.values, axis=1, prepend=0.0)
    return np.maximum(daily, 0.0)


def search_parameters(loss: Callable[[Floats], Floats]) -> Floats:
    """Logs of the parameters (2,) within BOUNDS of least loss: the best of a grid, refined."""
    axes = [np.log(np.geomspace(low, high, STARTS)) for low, high in BOUNDS]
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*axes)], axis=1)  # (P, 2)
    best = minimize(
        lambda logs: loss(logs[None])[0],
        grid[np.argmin(loss(grid))],
        method="Nelder-Mead",
        bounds=np.log(BOUNDS),
        options={"xatol": 1e-9, "fatol": 1e-14, "maxiter": 2000, "maxfev": 4000},
    )
    found: Floats = best.x
    return found


@dataclass(frozen=True)
class ParametricCurve:
    """A curve G of `family` with shape `omega` and scale `theta` (days), NaN where not known.

    `offset` days are added to an age.
    """

    family: str
    omega: float
    theta: float
    offset: float

    @classmethod
    def fit(cls, family: str, curves: Curves, offset: float) -> Self:
        """The most likely curve, each cohort's ultimate being its own revenue / G(k).

        That ultimate maximises the likelihood for every curve, so that what is left to maximise
        is sum of increments x log((G(t) - G(s)) / G(k)). It needs revenue at MIN_CELLS ages.
        """
        cells = daily_revenue(curves)
        gained = np.nansum(cells, axis=0)  # (A,)
        if (gained > 0).sum() < MIN_CELLS:
            return cls(family, np.nan, np.nan, offset)
        own = np.bincount(curves.observed_age, np.nansum(cells, axis=1), minlength=AGES)
        gained, own = gained / gained.sum(), own / gained.sum()
        time = np.arange(0.0, AGES) + offset

        def loss(logs: Floats) -> Floats:  # (P, 2) to (P,)
            omega, theta = np.exp(logs).T[:, :, None]
            level, growth = log_growth(family, omega, theta, time)
            deviance: Floats = level @ own - growth @ gained
            return deviance

        omega, theta = np.exp(search_parameters(loss))
        return cls(family, float(omega), float(theta), offset)

    def share(self) -> Floats:
        """G at every age: (A,)."""
        pair = np.array([[self.omega]]), np.array([[self.theta]])
        level, _ = log_growth(self.family, *pair, np.arange(0.0, AGES) + self.offset)
        share: Floats = np.exp(level[0])
        return share

    def dispersion(self, curves: Curves) -> float:
        """Pearson's sigma^2 (currency): variance over mean of an increment (Clark 2003).

        One parameter is counted for each cohort's ultimate and two for the curve; NaN where that
        leaves nothing. No forecast needs it: it is what else is published of a fit, and a fit is
        tested against it.
        """
        cells, share = daily_revenue(curves), self.share()
        ultimate = np.nansum(cells, axis=1) / share[curves.observed_age]
        mean = ultimate[:, None] * np.diff(share, prepend=0.0)
        known = np.isfinite(cells) & (mean > 0)
        spare = known.sum() - len(curves) - 2
        if spare < 1:
            return np.nan
        return float(((cells - mean)[known] ** 2 / mean[known]).sum() / spare)


class GrowthCurve:
    """The pooled growth curve: a cohort's own value, grown as the curve grows, until D360.

    `family` "weibull" or "loglogistic"; `pattern` the config of a Pattern, which speaks for
    cohorts without revenue and where no curve could be fitted. Raises ValueError for other values.
    """

    def __init__(self, *, family: str, pattern: Mapping[str, Any]) -> None:
        """Check the family."""
        if family not in FAMILIES:
            raise ValueError(f"expected family out of {', '.join(FAMILIES)}, got {family!r}")
        self.family = family
        self.pattern = create_pattern(pattern)

    def fit(self, curves: Curves) -> Self:
        """Fit the curve to what was known at the origin of `curves`.

        Raises ValueError when no cohort has a complete age.
        """
        curves = with_complete_age(curves)
        self.pattern.fit(curves)
        self.growth = ParametricCurve.fit(self.family, curves, AGE_OFFSET)
        return self

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`; quantiles equal the mean until they are calibrated."""
        beside = self.pattern.predict(curves, ages)
        share = self.growth.share()
        now = share[np.maximum(curves.observed_age, 0)]
        own = np.where(curves.observed_value > 0, curves.observed_value, np.nan)
        return forecast_with_fallback(beside, own[:, None] * (share[beside.ages] / now[:, None]))

    def state(self) -> State:
        """The family, the fitted curve, and the pattern's state."""
        curve = np.array([self.growth.omega, self.growth.theta, self.growth.offset])
        values = {"arguments": {"family": self.family}}
        return baseline_state(self.pattern, values, {"curve": curve})

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The forecaster that `state()` described."""
        fitted = restore_baseline(cls, values, arrays)
        fitted.growth = ParametricCurve(fitted.family, *map(float, arrays["curve"]))
        return fitted
