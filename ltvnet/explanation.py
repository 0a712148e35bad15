"""Why a forecast is above or below its segment: differences in money that add up, and in words.

Shapes: N cohorts, T terms.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from ltvnet.curves import MAX_AGE, NODES, Curves, Floats, Strings
from ltvnet.forecasting import Forecast, Parts, Predictor, reached

TERMS = ("level", "calendar", "growth", "attributes", "correction")
"""What moves a forecast away from its segment, in the order in which it is added."""

MATTERS = 0.01
"""Share of a forecast below which a term is left out of the words."""


@runtime_checkable
class Divisible(Protocol):
    """A model that knows what its forecasts are made of."""

    def parts(self, curves: Curves, age: int) -> Parts:
        """What the means of cohorts at an age are made of."""
        ...


@runtime_checkable
class Beside(Protocol):
    """A model that stands beside a pattern, of which it says no more than what it adds."""

    pattern: Divisible

    def predict(self, curves: Curves, ages: list[int]) -> Forecast:
        """Forecast each row of `curves` at `ages`."""
        ...


def parts(model: Predictor, curves: Curves, age: int) -> Parts:
    """What the means of cohorts at an age are made of, before their correction."""
    if isinstance(model, Divisible):
        return model.parts(curves, age)
    assert isinstance(model, Beside), type(model)
    raw = model.predict(curves, [age]).raw.mean[:, 0]
    return model.pattern.parts(curves, age)._replace(shape=reached(curves, age, raw), whole=True)


@dataclass(frozen=True)
class Explanation:
    """A forecast taken apart: `forecast` = `segment` + the sum of `terms`.

    `curves` the cohorts, `horizon` the age, `names` (N,) of their segments; `segment` (N,) what
    a typical cohort of it would have, all dates alike; `terms` (N, T) by TERMS: what the cohort
    earned so far, its dates, its growth so far, its attributes, and what the past taught;
    `forecast` (N,): revenue per user, NaN without a complete age. Where the model is `whole`,
    growth is all that it adds to the pattern.
    """

    curves: Curves
    horizon: int
    names: Strings
    segment: Floats
    terms: Floats
    forecast: Floats
    whole: bool

    def words(self) -> Strings:
        """A sentence a cohort (N,), None without a complete age."""
        known = np.isfinite(self.forecast)
        observed = self.curves.observed_age >= self.horizon
        rows = zip(self.names, self.segment, self.terms.tolist(), self.forecast, strict=True)
        said = [
            _sentence(f"D{self.horizon} {'was' if came else 'of'}", *row, self.whole)
            if there
            else None
            for row, came, there in zip(rows, observed, known, strict=True)
        ]
        return np.array(said, dtype=object)


def explain(model: Predictor, forecast: Forecast) -> Explanation:
    """Take apart what a model forecast, at the last of NODES that the data support.

    At D360 where they support none. Raises ValueError for a forecast that lacks that age.
    """
    curves = forecast.curves
    horizon = next((age for age in NODES[::-1] if 0 < age <= forecast.reach), MAX_AGE)
    cells = forecast.at([horizon])
    found = parts(model, curves, horizon)
    raw, final = (reached(curves, horizon, band.mean[:, 0]) for band in (cells.raw, cells.final))
    steps = (found.segment, found.level, found.pattern, found.shape, raw, final)
    told = np.stack(steps, axis=1)  # (N, T + 1)
    told[curves.observed_age < 0] = np.nan
    terms = np.diff(told, axis=1)
    return Explanation(
        curves, horizon, found.names, told[:, 0], terms, told[:, -1], found.whole
    )
