"""A power law through each cohort's own curve: the spreadsheet's habit.

Shapes: N cohorts, A ages, H ages asked for.
"""

from collections.abc import Mapping, Sequence
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
    restore_baseline,
    with_complete_age,
)

MAX_POWER = 1.0
"""Revenue a day does not rise with age: a first purchase late in a short prefix is no trend."""


def fit_exponents(curves: Curves) -> Floats:
    """Exponent B of L(t) = A (t + 1)^B for each cohort (N,), by least squares in logs.

    Over its own observed ages with L(t) > 0; within 0..MAX_POWER, NaN with fewer than two.
    """
    used = np.nan_to_num(curves.values) > 0  # (N, A)
    x = np.where(used, np.log1p(np.arange(AGES)), 0.0)
    y = np.log(curves.values, out=np.zeros_like(curves.values), where=used)
    count = np.maximum(used.sum(axis=1, keepdims=True), 1)
    x = np.where(used, x - x.sum(axis=1, keepdims=True) / count, 0.0)
    y = y - y.sum(axis=1, keepdims=True) / count
    spread = (x * x).sum(axis=1)
    unknown = np.full_like(spread, np.nan)
    slope = np.divide((x * y).sum(axis=1), spread, out=unknown, where=spread > 0)
    clipped: Floats = np.clip(slope, 0.0, MAX_POWER)
    return clipped


class PowerLaw:
    """L(h) = y(k) x ((h + 1) / (k + 1))^B, with B from the cohort's own curve alone.

    `pattern` the config of the pattern, which speaks where there are not two positive values.
    Raises ValueError for the config of anything else.
    """

    def __init__(self, *, pattern: Mapping[str, Any]) -> None:
        """Take the configuration."""
        self.pattern = create_pattern(pattern)

    def fit(self, curves: Curves) -> Self:
        """Fit the pattern; the law learns from no other cohort.

        Raises ValueError when no age is complete.
        """
        self.pattern.fit(with_complete_age(curves))
        return self

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`; quantiles equal the mean until they are calibrated."""
        beside = self.pattern.predict(curves, ages)
        k = np.maximum(curves.observed_age, 0)[:, None]
        steps = (beside.ages + 1.0) / (k + 1.0)  # (N, H)
        own = curves.observed_value[:, None] * steps ** fit_exponents(curves)[:, None]
        return forecast_with_fallback(beside, own)

    def state(self) -> State:
        """The pattern's state."""
        return baseline_state(self.pattern, {"arguments": {}}, {})

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The law beside the pattern that `state()` described."""
        return restore_baseline(cls, values, arrays)
