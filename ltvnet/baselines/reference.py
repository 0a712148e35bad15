"""What every baseline stands beside: the historical pattern, which speaks where it cannot.

Shapes: N cohorts, H ages.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ltvnet.curves import Curves, Floats
from ltvnet.forecasting import Band, Forecast
from ltvnet.pattern import Pattern


def reference(config: Mapping[str, Any]) -> Pattern:
    """The unfitted pattern of a config. Raises ValueError unless it is that of a pattern."""
    if config["name"] != "pattern":
        raise ValueError(f"expected pattern.name=pattern, got {config['name']!r}")
    return Pattern(**{key: config[key] for key in config if key != "name"})


def complete(curves: Curves) -> Curves:
    """The cohorts with at least one complete age, of which alone anything can be learned."""
    return curves.take(curves.observed_age >= 0)


def issued(
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
    told = np.maximum(np.where(beside.open, cells, -np.inf), least)
    rising = np.maximum.accumulate(told, axis=1)
    return np.where(beside.open, rising, np.nan)
