"""Why a forecast is above or below its segment: differences in money that add up, and in words.

Also which cohorts are worth showing: those furthest from their segment, and examples by age.

Shapes: N cohorts, H ages, T terms.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import floor, log10
from typing import Protocol, runtime_checkable

import numpy as np

from ltvnet.data.arrays import Floats, Ints, Strings
from ltvnet.data.curves import MAX_AGE, NODES, Curves
from ltvnet.forecasting.forecast import Forecast, ForecastParts, observed_or_forecast
from ltvnet.forecasting.forecaster import Predictor

TERMS = {
    "level": "because it earned {more} so far than such cohorts do",
    "calendar": "by its dates (events, seasons, the trend by acquisition)",
    "growth": "by its recent growth",
    "attributes": "by its attributes",
    "correction": "by what past forecasts taught (blend and correction)",
}
"""Reasons for which a forecast differs from its segment, in the order in which they are added."""

UNDIVIDED_GROWTH = "by what the model adds to the pattern"
"""The growth of a model that does not tell it from attributes, or of a mixture with one."""

MIN_SHARE_TOLD = 0.01
"""Share of a forecast below which a term is left out of the sentence."""

EXAMPLE_AGES = ((0, 7), (7, 14), (14, 30), (30, 60), (60, 90), (90, 180))
"""Observed ages of the cohorts that are shown as examples: from, and below."""


@runtime_checkable
class Explainable(Protocol):
    """A model that knows what its forecasts are made of."""

    def forecast_parts(self, curves: Curves, age: int) -> ForecastParts:
        """Return what the means of cohorts at an age are made of."""
        ...


@runtime_checkable
class HasPattern(Protocol):
    """A model that stands on a pattern; all that it adds to the pattern is one thing."""

    pattern: Explainable


def uncorrected_parts(model: Predictor, curves: Curves, age: int) -> ForecastParts:
    """Return what the means of cohorts at an age are made of, before their correction."""
    if isinstance(model, Explainable):
        return model.forecast_parts(curves, age)
    assert isinstance(model, HasPattern), type(model)
    pattern_parts = model.pattern.forecast_parts(curves, age)
    mean = uncorrected_mean(model, curves, age)
    return pattern_parts._replace(with_own_growth=mean, is_undivided=True)


def uncorrected_mean(model: Predictor, curves: Curves, age: int) -> Floats:
    """Return the means (N,) of cohorts at an age before their correction."""
    # Values that never fall with age depend on the others: all nodes are forecast.
    ages = np.union1d(NODES, age).tolist()
    mean = model.predict(curves, ages).at([age]).raw.mean[:, 0]
    return observed_or_forecast(curves, age, mean)


@dataclass(frozen=True)
class Explanation:
    """Forecasts taken apart: `forecast` = `segment_mean` + the sum of `terms`.

    `curves` the cohorts, `horizon` the age; `segment_mean` (N,) that of a typical cohort of the
    segment, were all dates alike; `terms` (N, T) by TERMS: what the cohort earned so far, its
    dates (of revenue, and the trend by acquisition date), what else the model reads from its
    observed days, its attributes, and what past forecasts taught; `forecast` (N,): all in revenue
    per user, NaN without a complete age. Where the model `is_undivided`, growth is all that it
    adds to the pattern, and attributes are 0.
    """

    curves: Curves
    horizon: int
    segment_names: Strings
    segment_mean: Floats
    terms: Floats
    forecast: Floats
    is_undivided: bool

    def furthest_cohorts(self, limit: int) -> Ints:
        """Return rows of the cohorts furthest from their segment in revenue, the furthest first.

        At most `limit`, of cohorts whose age `horizon` is not observed yet.
        """
        curves = self.curves
        per_user = np.abs(self.forecast - self.segment_mean)
        distance = per_user * curves.users  # (N,)
        is_candidate = (curves.observed_age < self.horizon) & (distance > 0)
        order = np.argsort(-distance[is_candidate], kind="stable")
        return np.flatnonzero(is_candidate)[order][:limit]

    def sentences(self, rows: Iterable[int] | None = None) -> Strings:
        """Return a sentence for each of some rows or of all (N,); None without a complete age."""
        chosen_rows = range(len(self.forecast)) if rows is None else rows
        return np.array([self._sentence(row) for row in chosen_rows], dtype=object)

    def _sentence(self, row: int) -> str | None:
        """Say how far a forecast is from its segment, and why: the largest terms first."""
        forecast = float(self.forecast[row])
        segment_mean = float(self.segment_mean[row])
        if np.isnan(forecast):
            return None

        money = f",.{_decimals(abs(forecast) or segment_mean)}f"
        is_observed = self.curves.observed_age[row] >= self.horizon
        observed = ", observed," if is_observed else ""
        sentence = (
            f"D{self.horizon} of {forecast:{money}}{observed} is "
            f"{_compare(forecast, segment_mean)} the {segment_mean:{money}} of "
            f"{self.segment_names[row]}"
        )

        amounts = zip(self.terms[row].tolist(), TERMS, strict=True)
        largest_first = sorted(amounts, key=lambda amount_and_term: -abs(amount_and_term[0]))
        reasons = [
            f"{amount:+{money}} {self._because(term, more=amount > 0)}"
            for amount, term in largest_first
            if amount and abs(amount) >= MIN_SHARE_TOLD * abs(forecast)
        ]
        return f"{sentence}: {', '.join(reasons)}" if reasons else sentence

    def _because(self, term: str, *, more: bool) -> str:
        """Word the reason of a term that adds to a forecast, or takes from it."""
        if term == "growth" and self.is_undivided:
            return UNDIVIDED_GROWTH
        return TERMS[term].format(more="more" if more else "less")


def _decimals(amount: float) -> int:
    """Decimals of amounts beside one of this size, so that its hundredth is seen."""
    if amount >= 100:
        return 0
    if amount >= 1 or amount <= 0:
        return 2
    return 2 - floor(log10(amount))


def _compare(amount: float, usual: float) -> str:
    """Compare an amount with the usual one in words: 24 % above, 3 % below, about."""
    if usual <= 0:
        return "above" if amount > usual else "about"
    percent = round(100 * (amount / usual - 1))
    if not percent:
        return "about"
    return f"{abs(percent):,} % {'above' if percent > 0 else 'below'}"


def explain(model: Predictor, forecast: Forecast) -> Explanation:
    """Take apart what a model forecast, at the last of NODES that the data support.

    Where they support none there is nothing to say of what is not observed at D360. Raises
    ValueError for a forecast that lacks that age.
    """
    curves = forecast.curves
    supported = [age for age in NODES if 0 < age <= forecast.last_supported_age]
    horizon = supported[-1] if supported else MAX_AGE

    at_horizon = forecast.at([horizon])
    parts = uncorrected_parts(model, curves, horizon)
    steps = (
        parts.typical_of_segment,
        parts.with_own_revenue,
        parts.with_own_dates,
        parts.with_own_growth,
        observed_or_forecast(curves, horizon, at_horizon.raw.mean[:, 0]),
        observed_or_forecast(curves, horizon, at_horizon.final.mean[:, 0]),
    )
    amounts = np.stack(steps, axis=1)  # (N, T + 1)
    is_unsaid = curves.observed_age < (0 if supported else horizon)
    amounts[is_unsaid] = np.nan

    return Explanation(
        curves=curves,
        horizon=horizon,
        segment_names=parts.segment_names,
        segment_mean=amounts[:, 0],
        terms=np.diff(amounts, axis=1),
        forecast=amounts[:, -1],
        is_undivided=parts.is_undivided,
    )


def example_cohorts(forecast: Forecast, actual: Floats) -> list[int]:
    """Return for each of EXAMPLE_AGES the row of the largest of the cohorts that matured most.

    `actual` (N, H) at the ages of the forecast, NaN where not matured; ages without a cohort of
    which anything has matured have no row.
    """
    curves = forecast.curves
    matured_days = np.isfinite(actual).sum(axis=1)  # (N,)
    rows: list[int] = []
    for low, high in EXAMPLE_AGES:
        is_in_range = (curves.observed_age >= low) & (curves.observed_age < high)
        is_candidate = is_in_range & (matured_days > 0)
        if is_candidate.any():
            ascending = np.lexsort((curves.users, matured_days, is_candidate))
            rows.append(int(ascending[-1]))
    return rows
