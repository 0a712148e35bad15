"""Why a forecast is above or below its segment: differences in money that add up, and in words.

Shapes: N cohorts, T terms.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import floor, log10
from typing import Protocol, runtime_checkable

import numpy as np

from ltvnet.data.arrays import Floats, Strings
from ltvnet.data.curves import MAX_AGE, NODES, Curves
from ltvnet.forecasting.forecast import Forecast, ForecastParts, observed_or_forecast
from ltvnet.forecasting.forecaster import Predictor

TERMS = {
    "level": "because it earned {more} so far than such cohorts do",
    "calendar": "by its dates (events, seasons, the trend by acquisition)",
    "growth": "by its recent growth",
    "attributes": "by its attributes",
    "correction": "by what past forecasts taught",
}
"""What moves a forecast away from its segment, in the order in which it is added: in words."""

ADDED = "by what the model adds to the pattern"
"""The growth of a model that does not tell it from attributes, or of a mixture with one."""

MATTERS = 0.01
"""Share of a forecast below which a term is left out of the words."""


@runtime_checkable
class Explainable(Protocol):
    """A model that knows what its forecasts are made of."""

    def forecast_parts(self, curves: Curves, age: int) -> ForecastParts:
        """What the means of cohorts at an age are made of."""
        ...


@runtime_checkable
class HasPattern(Protocol):
    """A model that stands beside a pattern; what it adds to it is one thing."""

    pattern: Explainable


def uncorrected_parts(model: Predictor, curves: Curves, age: int) -> ForecastParts:
    """What the means of cohorts at an age are made of, before their correction."""
    if isinstance(model, Explainable):
        return model.forecast_parts(curves, age)
    assert isinstance(model, HasPattern), type(model)
    return model.pattern.forecast_parts(curves, age)._replace(
        with_own_growth=uncorrected_mean(model, curves, age), is_undivided=True
    )


def uncorrected_mean(model: Predictor, curves: Curves, age: int) -> Floats:
    """The means (N,) of cohorts at an age as a model says them, before their correction."""
    every = np.union1d(NODES, age).tolist()  # values that never fall with age depend on the others
    return observed_or_forecast(curves, age, model.predict(curves, every).at([age]).raw.mean[:, 0])


@dataclass(frozen=True)
class Explanation:
    """Forecasts taken apart: `forecast` = `segment` + the sum of `terms`.

    `curves` the cohorts, `horizon` the age, `names` (N,) of their segments; `segment` (N,) what
    a typical cohort of it would have, were all dates alike; `terms` (N, T) by TERMS: what the
    cohort earned so far, its dates (of revenue, and the trend by acquisition date), what else the
    model reads from its observed days, its attributes, and what past forecasts taught; `forecast`
    (N,): all in revenue per user, NaN without a complete age. Where the model is `whole`, growth
    is all that it adds to the pattern, and attributes are 0.
    """

    curves: Curves
    horizon: int
    segment_names: Strings
    segment_mean: Floats
    terms: Floats
    forecast: Floats
    is_undivided: bool

    def sentences(self, rows: Iterable[int] | None = None) -> Strings:
        """A sentence a cohort, of some rows or of all (N,); None without a complete age."""
        chosen = range(len(self.forecast)) if rows is None else rows
        return np.array([self._sentence(row) for row in chosen], dtype=object)

    def _sentence(self, row: int) -> str | None:
        """How far a forecast is from its segment, and the terms that matter, the largest first."""
        forecast, usual = float(self.forecast[row]), float(self.segment_mean[row])
        if np.isnan(forecast):
            return None
        form = f",.{_digits(abs(forecast) or usual)}f"
        terms = sorted(zip(self.terms[row].tolist(), TERMS, strict=True), key=lambda t: -abs(t[0]))
        reasons = [
            f"{term:+{form}} {self._because(name, more=term > 0)}"
            for term, name in terms
            if term and abs(term) >= MATTERS * abs(forecast)
        ]
        known = ", observed," if self.curves.observed_age[row] >= self.horizon else ""
        said = f"D{self.horizon} of {forecast:{form}}{known} is {_compared(forecast, usual)} "
        said += f"the {usual:{form}} of {self.segment_names[row]}"
        return f"{said}: {', '.join(reasons)}" if reasons else said

    def _because(self, term: str, *, more: bool) -> str:
        if term == "growth" and self.is_undivided:
            return ADDED
        return TERMS[term].format(more="more" if more else "less")


def _digits(amount: float) -> int:
    """Decimals of amounts beside one of this size, so that its hundredth is seen."""
    return 0 if amount >= 100 else 2 if amount >= 1 or amount <= 0 else 2 - floor(log10(amount))


def _compared(amount: float, usual: float) -> str:
    """How an amount is to the usual one: 24 % above, 3 % below, about."""
    if usual <= 0:
        return "above" if amount > usual else "about"
    share = round(100 * (amount / usual - 1))
    return f"{abs(share):,} % {'above' if share > 0 else 'below'}" if share else "about"


def explain(model: Predictor, forecast: Forecast) -> Explanation:
    """Take apart what a model forecast, at the last of NODES that the data support.

    At D360 where they support none. Raises ValueError for a forecast that lacks that age.
    """
    curves = forecast.curves
    horizon = next((age for age in NODES[::-1] if 0 < age <= forecast.last_supported_age), MAX_AGE)
    cells = forecast.at([horizon])
    found = uncorrected_parts(model, curves, horizon)
    raw, final = (
        observed_or_forecast(curves, horizon, band.mean[:, 0]) for band in (cells.raw, cells.final)
    )
    steps = (
        found.typical_of_segment,
        found.with_own_revenue,
        found.with_own_dates,
        found.with_own_growth,
        raw,
        final,
    )
    told = np.stack(steps, axis=1)  # (N, T + 1)
    told[curves.observed_age < 0] = np.nan
    terms = np.diff(told, axis=1)
    return Explanation(
        curves, horizon, found.segment_names, told[:, 0], terms, told[:, -1], found.is_undivided
    )
