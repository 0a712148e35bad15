"""The historical pattern behind every baseline: it forecasts where the baseline cannot.

Here is what all baselines share: the pattern's construction, the forecast that falls back to it,
saving and restoring both together, and two small formulas.

Shapes: N cohorts, A ages, H ages asked for.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, TypeVar

import numpy as np

from ltvnet.data.arrays import Floats
from ltvnet.data.curves import Curves
from ltvnet.forecasting.forecast import Band, Forecast
from ltvnet.forecasting.forecaster import State, StateArrays, StateValues, add_prefix, strip_prefix
from ltvnet.models.pattern.development import share_earned
from ltvnet.models.pattern.pattern import Pattern


class Baseline(Protocol):
    """A forecaster made of a pattern's config and the `arguments` in its own state."""

    pattern: Pattern


BaselineT = TypeVar("BaselineT", bound=Baseline)


def require_fitted(baseline: Baseline) -> None:
    """Raise ValueError unless a baseline was fitted, and with it its pattern."""
    if not baseline.pattern.is_fitted:
        name = type(baseline).__name__
        raise ValueError(f"{name} was not fitted yet: call fit(curves) first")


def with_complete_age(curves: Curves) -> Curves:
    """Select the cohorts with at least one complete age: nothing can be learned from others."""
    return curves.take(curves.observed_age >= 0)


def forecast_with_fallback(
    pattern_forecast: Forecast, mean: Floats, p10: Floats | None = None, p90: Floats | None = None
) -> Forecast:
    """Make a baseline's forecast: its own values where it has any, the pattern's elsewhere.

    `pattern_forecast` is the pattern's forecast of the same cohorts and ages; `mean` (N, H) is
    the baseline's cumulative revenue per user, not finite where it has nothing to say; `p10` and
    `p90` (N, H) are its quantiles (None: it has none, and they equal the mean). Values never fall
    with age, nor below what was observed.
    """
    own_mean = np.where(np.isfinite(mean), mean, pattern_forecast.pattern)
    low, high = _quantiles_around(own_mean, p10, p90)

    own_band = Band(mean=own_mean, p10=low, p50=own_mean, p90=high)
    band = own_band.map(lambda values: _rising_values(pattern_forecast, values))
    return replace(pattern_forecast, raw=band, final=band)


def _quantiles_around(
    mean: Floats, p10: Floats | None, p90: Floats | None
) -> tuple[Floats, Floats]:
    """Low and high quantiles (N, H) on their sides of the mean, equal to it where there is none."""
    low = high = mean

    if p10 is not None:
        low = np.fmin(np.where(np.isfinite(p10), p10, mean), mean)
    if p90 is not None:
        high = np.fmax(np.where(np.isfinite(p90), p90, mean), mean)
    return low, high


def _rising_values(forecast: Forecast, values: Floats) -> Floats:
    """Values (N, H) that fall neither with age nor below what was observed; NaN if not ahead."""
    observed_value = forecast.curves.observed_value[:, None]
    at_least_observed = np.maximum(np.where(forecast.is_ahead, values, -np.inf), observed_value)
    rising = np.maximum.accumulate(at_least_observed, axis=1)
    return np.where(forecast.is_ahead, rising, np.nan)


def share_earned_by_age(growth: Floats, first: int) -> Floats:
    """Proportion (A,) of the last age's value earned by each age, by the chain ladder.

    `growth` (A - 1,) is the daily growth of value; `first` the age at which it begins.
    """
    share: Floats = share_earned(growth[None], first)[0]
    return share


def baseline_state(pattern: Pattern, values: StateValues, arrays: StateArrays) -> State:
    """Join the state of a baseline, its `arguments` among the values, and of its pattern."""
    pattern_values, pattern_arrays = pattern.state()
    all_values = {**values, "pattern": pattern_values}
    all_arrays = {**arrays, **add_prefix(pattern_arrays, "pattern/")}
    return all_values, all_arrays


def restore_baseline(
    cls: Callable[..., BaselineT], values: StateValues, arrays: StateArrays
) -> BaselineT:
    """Make the baseline that `baseline_state` described, with its pattern as it was fitted."""
    pattern_values = values["pattern"]
    pattern_config = {"name": "pattern", **pattern_values["arguments"]}

    baseline = cls(**values["arguments"], pattern=pattern_config)
    baseline.pattern = Pattern.from_state(pattern_values, strip_prefix(arrays, "pattern/"))
    return baseline
