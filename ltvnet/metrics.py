"""Scores: plain functions of actual, forecast and weight, arrays of one shape.

Cells where any of the three is NaN do not count.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def wape(actual: Floats, forecast: Floats, weight: Floats) -> float:
    """Weighted absolute percentage error: sum of w |f - a| over sum of w |a|; NaN without cells."""
    a, f, w = _matched(actual, forecast, weight)
    return _over(float(np.abs(f - a) @ w), float(np.abs(a) @ w))


def bias(actual: Floats, forecast: Floats, weight: Floats) -> float:
    """Weighted relative bias: sum of w (f - a) over sum of w |a|; above 0 is too high."""
    a, f, w = _matched(actual, forecast, weight)
    return _over(float((f - a) @ w), float(np.abs(a) @ w))


def _matched(actual: Floats, forecast: Floats, weight: Floats) -> tuple[Floats, Floats, Floats]:
    counts = np.isfinite(actual) & np.isfinite(forecast) & np.isfinite(weight)
    return actual[counts], forecast[counts], weight[counts]


def _over(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
