"""What every baseline stands beside: the historical pattern, which speaks where it cannot.

Shapes: N cohorts, A ages, J nodes, H ages asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ltvnet.data.arrays import Floats, Ints
from ltvnet.data.curves import NODES, Curves
from ltvnet.forecasting.forecast import Band, Forecast
from ltvnet.forecasting.forecaster import State, add_prefix, strip_prefix
from ltvnet.models.pattern.development import share_earned
from ltvnet.models.pattern.pattern import Pattern


class Baseline(Protocol):
    """Made of the `arguments` in its state and a pattern's config, beside which it stands."""

    pattern: Pattern


BaselineT = TypeVar("BaselineT", bound=Baseline)


def create_pattern(config: Mapping[str, Any]) -> Pattern:
    """The unfitted pattern of a config. Raises ValueError unless it is that of a pattern."""
    if config["name"] != "pattern":
        raise ValueError(f"expected pattern.name=pattern, got {config['name']!r}")
    return Pattern(**{key: config[key] for key in config if key != "name"})


def with_complete_age(curves: Curves) -> Curves:
    """The cohorts with at least one complete age, of which alone anything can be learned."""
    return curves.take(curves.observed_age >= 0)


def forecast_with_fallback(
    beside: Forecast, mean: Floats, p10: Floats | None = None, p90: Floats | None = None
) -> Forecast:
    """A baseline's forecast: its own values where it has any, the pattern's elsewhere.

    `beside` the pattern's forecast of the same cohorts and ages, `mean` (N, H) cumulative revenue
    per user, not finite where the baseline has nothing to say; `p10` and `p90` (N, H) its own
    quantiles (None: it has none, and they equal the mean). Values never fall with age, nor below
    what was observed.
    """
    own = np.where(np.isfinite(mean), mean, beside.pattern)
    band = Band(*(_rising(beside, cells) for cells in _ordered(own, p10, p90)))
    return replace(beside, raw=band, final=band)


def _ordered(mean: Floats, p10: Floats | None, p90: Floats | None) -> tuple[Floats, ...]:
    low = mean if p10 is None else np.fmin(np.where(np.isfinite(p10), p10, mean), mean)
    high = mean if p90 is None else np.fmax(np.where(np.isfinite(p90), p90, mean), mean)
    return mean, low, mean, high


def _rising(beside: Forecast, cells: Floats) -> Floats:
    least = beside.curves.observed_value[:, None]
    told = np.maximum(np.where(beside.is_ahead, cells, -np.inf), least)
    rising = np.maximum.accumulate(told, axis=1)
    return np.where(beside.is_ahead, rising, np.nan)


def interpolate_in_log_age(curves: Curves, told: Floats, ages: Ints) -> Floats:
    """Values at any ages from those told at NODES (N, J): linear in log(1 + age), (N, H).

    The first interval begins with what was observed; one with an end that is NaN is NaN.
    """
    nodes, k = np.array(NODES), curves.observed_age[:, None]
    value = np.where(nodes > k, told, curves.observed_value[:, None])
    place = np.log1p(np.maximum(nodes, k))  # (N, J)
    right = np.searchsorted(nodes, ages)  # (H,)
    left = np.maximum(right - 1, 0)
    width = place[:, right] - place[:, left]  # (N, H)
    part = np.log1p(ages) - place[:, left]
    share = np.divide(part, width, out=np.zeros_like(width), where=width > 0)
    within = value[:, left] + share * (value[:, right] - value[:, left])
    return np.where(ages == nodes[right], told[:, right], within)


def share_earned_by_age(growth: Floats, first: int) -> Floats:
    """Proportion (A,) of the last age's value earned by age, from daily growth (A - 1,)."""
    share: Floats = share_earned(growth[None], first)[0]
    return share


def ratio_or_zero(part: Floats | np.float64, whole: Floats | np.float64) -> Floats:
    """The ratio of arrays that broadcast; 0 where there is nothing to divide by."""
    out = np.zeros(np.broadcast_shapes(part.shape, whole.shape))
    return np.divide(part, whole, out=out, where=whole > 0)


def baseline_state(
    pattern: Pattern, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> State:
    """The state of a baseline: its own `values`, `arguments` among them, and its pattern's."""
    described, measured = pattern.state()
    return {**values, "pattern": described}, {**arrays, **add_prefix(measured, "pattern/")}


def restore_baseline(
    cls: Callable[..., BaselineT], values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> BaselineT:
    """The baseline, and its pattern as fitted, that `stored` described."""
    described = values["pattern"]
    made = cls(**values["arguments"], pattern={"name": "pattern", **described["arguments"]})
    made.pattern = Pattern.from_state(described, strip_prefix(arrays, "pattern/"))
    return made
