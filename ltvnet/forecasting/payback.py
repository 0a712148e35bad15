"""Payback: what young cohorts cost and are forecast to earn, by campaign, for a page to show.

Legend: N cohorts, R values of an attribute.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ltvnet.data.arrays import Bools, Floats
from ltvnet.data.curves import HORIZONS, MAX_AGE, Curves
from ltvnet.forecasting.forecast import Forecast
from ltvnet.forecasting.rollup import ROLLUP_ATTRIBUTES, Rollup, first_attribute

PAYBACK_HORIZONS = (180, 360)
"""Ages at which revenue is compared with spend, where the data support them."""

ALL_COHORTS = "all cohorts"
"""Name of the last row, of all cohorts."""


@dataclass(frozen=True)
class Payback:
    """Sums in currency over the same young cohorts, and their return on ad spend (ROAS).

    Frames have a row for each value of `attribute` ("": there is none), in the order of revenue by
    the last horizon, and a last one of all cohorts. `sums` has the columns `users`, `spend`,
    `revenue` and `roas` so far. `by_horizon`, of each horizon that the data support, has `revenue`
    and `roas` with the ends of their 80 % intervals, `revenue_p10` and so on, and `is_borrowed`:
    whether these are those of another horizon. ROAS is of cohorts with known spend, NaN without.

    `horizons` are those to show: what is not in `by_horizon` lies beyond `last_supported_age`.
    `cohort_count` cohorts, acquired from `first_day` on, are younger than the first horizon;
    `older_count` are not, and left out, so that all columns are of the same cohorts.
    """

    attribute: str
    horizons: tuple[int, ...]
    last_supported_age: int
    cohort_count: int
    older_count: int
    first_day: np.datetime64
    sums: pd.DataFrame
    by_horizon: Mapping[int, pd.DataFrame]

    @property
    def last_horizon(self) -> int | None:
        """The longest horizon that is forecast; None where the data support none."""
        return max(self.by_horizon, default=None)

    @property
    def known_roas(self) -> pd.Series:
        """ROAS by the last horizon of each value of the attribute that has any spend."""
        return self._of_values("roas").dropna()

    @property
    def earning_back_count(self) -> int:
        """Number of values of the attribute that are forecast to earn back their spend."""
        return int((self.known_roas >= 1).sum())

    @property
    def safely_earning_back_count(self) -> int:
        """Number of values that earn back their spend even at the low end of the interval."""
        return int((self._of_values("roas_p10") >= 1).sum())

    @property
    def largest_share(self) -> float:
        """Share of all revenue by the last horizon that comes from the first value."""
        revenue = self._last_frame["revenue"]
        return float(revenue.iloc[0] / revenue.iloc[-1])

    @property
    def _last_frame(self) -> pd.DataFrame:
        """Frame of the last horizon, or else of what was earned so far."""
        return self.sums if self.last_horizon is None else self.by_horizon[self.last_horizon]

    def _of_values(self, column: str) -> pd.Series:
        """Cells of the last frame for each value of the attribute; empty where there are none."""
        frame = self._last_frame
        return frame[column][:-1] if column in frame else pd.Series(dtype=float)


def sum_payback(forecast: Forecast) -> Payback | None:
    """Sum over young cohorts by campaign, or else by the first attribute there is.

    The forecast is of HORIZONS, among other ages. None where every cohort is too old for all
    horizons: nothing is left to forecast.
    """
    curves = forecast.curves
    horizons = _horizons_to_show(curves, forecast.last_supported_age)
    if not horizons:
        return None
    has_begun = curves.observed_age >= 0
    is_young = has_begun & (curves.observed_age < horizons[0])
    has_spend = np.isfinite(curves.spend) & (curves.spend > 0)

    attribute = first_attribute(curves, (*ROLLUP_ATTRIBUTES, *curves.attributes))
    at_horizons = forecast.at(HORIZONS)
    everyone = _with_total(at_horizons, is_young, attribute)
    paid = _with_total(at_horizons, is_young & has_spend, attribute)

    so_far = everyone[MAX_AGE]
    by_horizon = {
        horizon: _compare_with_spend(everyone[horizon], paid.get(horizon))
        for horizon in horizons
        if horizon <= forecast.last_supported_age
    }
    sums = pd.DataFrame(
        {
            "users": so_far["users"],
            "spend": so_far["spend"],
            "revenue": so_far["observed_revenue"],
            "roas": _roas(so_far, paid.get(MAX_AGE), "observed_revenue"),
        }
    )

    last_frame = by_horizon[max(by_horizon)] if by_horizon else sums
    revenue = last_frame["revenue"].to_numpy()[:-1]
    order = [*np.argsort(-revenue, kind="stable"), len(revenue)]
    return Payback(
        attribute=attribute,
        horizons=horizons,
        last_supported_age=forecast.last_supported_age,
        cohort_count=int(is_young.sum()),
        older_count=int((has_begun & ~is_young).sum()),
        first_day=curves.start[is_young].min(),
        sums=sums.iloc[order],
        by_horizon={horizon: frame.iloc[order] for horizon, frame in by_horizon.items()},
    )


def _horizons_to_show(curves: Curves, last_supported_age: int) -> tuple[int, ...]:
    """Choose horizons that some cohort has ahead: PAYBACK_HORIZONS, and one that data support."""
    supported = [horizon for horizon in HORIZONS if horizon <= last_supported_age]
    wanted = {*PAYBACK_HORIZONS, *supported[-1:]}
    ages = curves.observed_age[curves.observed_age >= 0]
    return tuple(horizon for horizon in sorted(wanted) if (ages < horizon).any())


def _with_total(forecast: Forecast, is_summed: Bools, attribute: str) -> dict[int, pd.DataFrame]:
    """Sum over some cohorts (N,): by horizon a row for each value and one of all; {} of none."""
    if not is_summed.any():
        return {}
    chosen = forecast.take(np.flatnonzero(is_summed))
    table = Rollup.from_forecast(chosen, attribute).with_total()
    sums = {horizon: table[table["age"] == horizon] for horizon in HORIZONS}
    return {
        horizon: rows.set_axis([*rows["segment"][:-1], ALL_COHORTS], axis="index")
        for horizon, rows in sums.items()
    }


def _compare_with_spend(everyone: pd.DataFrame, paid: pd.DataFrame | None) -> pd.DataFrame:
    """Return revenue and ROAS at a horizon with their intervals; see `Payback`."""
    columns = {"revenue": "forecast_revenue", "revenue_p10": "p10", "revenue_p90": "p90"}
    frame = everyone[list(columns.values())].set_axis(list(columns), axis="columns")
    for name, column in columns.items():
        frame[name.replace("revenue", "roas")] = _roas(everyone, paid, column)
    return frame.assign(is_borrowed=everyone["uncalibrated"] & everyone["p10"].notna())


def _roas(everyone: pd.DataFrame, paid: pd.DataFrame | None, column: str) -> Floats:
    """Return a sum over cohorts with spend over that spend, for each row (R + 1,) of everyone."""
    ratio = np.full(len(everyone), np.nan)
    if paid is not None:
        has_spend = np.append(everyone.index[:-1].isin(paid.index[:-1]), True)
        ratio[has_spend] = paid[column] / paid["spend"]
    return ratio
