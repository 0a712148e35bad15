"""Roll-up of forecasts: sums over cohorts by an attribute and in total, intervals and ROAS.

They are summed piece by piece, for streams of any length.

Legend: N cohorts, H horizons, J nodes, S segments (values of an attribute), R rows of a roll-up.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltvnet.data.arrays import Floats, Ints
from ltvnet.data.curves import HORIZONS, NODE_AGES, Curves
from ltvnet.forecasting.forecast import Forecast

ROLLUP_ATTRIBUTES = ("Campaign", "Source")
"""Attributes that money is managed by: a roll-up sums by the first that cohorts have."""

TOTAL_LEVEL = "TOTAL"
"""Level and segment of the sums over all cohorts."""

_WORKING_COLUMNS = (
    *("grown", "squared", "ahead", "unsupported"),
    *("with_known_spend", "paid_users", "paid_revenue"),
)
"""Sums that others are made of, not in any table."""


class Rollup(NamedTuple):
    """Sums in currency over cohorts, by segment and age.

    `table` holds sums that may be added further, indexed by `segment` and `age`; `attribute` is
    the name that segments are values of, "" where all cohorts are one. `sample_forecast` is a
    forecast of the same model, which says how uncertain sums are.
    """

    table: pd.DataFrame
    attribute: str
    sample_forecast: Forecast

    @classmethod
    def from_forecast(cls, forecast: Forecast, attribute: str | None) -> "Rollup":
        """Sum a forecast at those HORIZONS that it has.

        `attribute` None: the first of ROLLUP_ATTRIBUTES that cohorts have, or else none. Raises
        ValueError for an attribute that cohorts lack.
        """
        if attribute is None:
            attribute = first_attribute(forecast.curves, ROLLUP_ATTRIBUTES)
        return cls(_sum_by_segment_and_horizon(forecast, attribute), attribute, forecast)

    def add(self, table: pd.DataFrame) -> "Rollup":
        """Return a roll-up with the sums of another `table` added."""
        both = pd.concat([self.table, table])
        return self._replace(table=both.groupby(["segment", "age"]).sum(min_count=1))

    def with_total(self) -> pd.DataFrame:
        """Build the table of segments and of the total, with the 80 % interval of each sum.

        A row for each `level` (the attribute, or TOTAL), `segment` and `age`; see
        `prediction.tables.write_rollup` for its columns. `is_unsupported` marks sums with a cohort
        whose forecast lies beyond what the data support, or whose revenue at that age was never
        exported: no table shows them.
        """
        of_all = self.table.groupby("age").sum(min_count=1)
        total = pd.concat({TOTAL_LEVEL: of_all}, names=["segment"])
        levels = {TOTAL_LEVEL: total}
        if self.attribute:
            levels = {self.attribute: self.table, TOTAL_LEVEL: total}

        table = pd.concat(levels, names=["level"]).reset_index()
        table = table.assign(
            **_intervals(table, self.sample_forecast),
            roas=table["paid_revenue"] / table["spend"],
            roas_users_share=table["paid_users"].fillna(0.0) / table["users"],
            is_unsupported=table["unsupported"] > 0,
        )
        return table.drop(columns=list(_WORKING_COLUMNS))

    def describe_spend_gap(self) -> str | None:
        """Say of how many cohorts spend is known, where it is for some and not for others."""
        of_all = self.table.groupby("age")[["cohorts", "with_known_spend"]].sum()
        if not len(of_all):
            return None
        cohorts, known = of_all.iloc[0]
        if known in (0, cohorts):
            return None
        return (
            f"Spend is known for {known:,} of {cohorts:,} cohorts: spend in the roll-up is theirs, "
            "and so is roas, of their revenue alone; see roas_users_share"
        )


def first_attribute(curves: Curves, names: Sequence[str]) -> str:
    """Return the first of some attributes that cohorts have, "" where they have none of them."""
    return next((name for name in names if name in curves.attributes), "")


class _Cells(NamedTuple):
    """Cells of a forecast at some ages, each (N, H): `revenue` per user is observed or forecast."""

    revenue: Floats
    mean: Floats
    pattern: Floats
    is_ahead: NDArray[np.bool_]


def _cells_at(forecast: Forecast, ages: Ints) -> _Cells:
    columns = np.searchsorted(forecast.ages, ages)  # (H,)
    mean = forecast.final.mean[:, columns]
    is_ahead = forecast.is_ahead[:, columns]
    revenue = np.where(is_ahead, mean, forecast.curves.values[:, ages])
    return _Cells(revenue, mean, forecast.pattern[:, columns], is_ahead)


def _sum_by_segment_and_horizon(forecast: Forecast, attribute: str) -> pd.DataFrame:
    """Sum over the cohorts of each segment at each horizon: rows that may be added further."""
    curves = forecast.curves
    if attribute and attribute not in curves.attributes:
        raise ValueError(
            f"expected to sum by one of {', '.join(curves.attributes)}, got {attribute!r}"
        )
    horizons = np.intersect1d(HORIZONS, forecast.ages)
    has_begun = curves.observed_age >= 0
    cells = _cells_at(forecast, horizons)
    amounts = _amounts(curves, cells, horizons)
    counts = {
        "cohorts": has_begun,
        "cohorts_left_out": ~has_begun,
        "with_known_spend": has_begun & np.isfinite(curves.spend),
        "ahead": cells.is_ahead,
        "unsupported": np.where(
            cells.is_ahead,
            horizons > forecast.last_supported_age,
            has_begun[:, None] & ~curves.is_exported(horizons),
        ),
    }

    codes = np.zeros(len(curves), dtype=np.int64)  # (N,)
    names = np.array([""])
    if attribute:
        codes, names = curves.attribute_codes[attribute]
    present_codes = np.flatnonzero(np.bincount(codes, minlength=len(names)))  # (S,)
    segment_index = np.searchsorted(present_codes, codes)  # (N,)

    columns: dict[str, NDArray[Any]] = {}
    for name, is_counted in counts.items():
        count = _segment_sums(is_counted, segment_index, len(horizons))
        columns[name] = count.astype(np.int64)
    for name, amount in amounts.items():
        columns[name] = _segment_sums(amount, segment_index, len(horizons))

    segments = [str(names[code]) for code in present_codes]
    index = pd.MultiIndex.from_product([segments, horizons], names=["segment", "age"])
    return pd.DataFrame(columns, index=index)


def _amounts(curves: Curves, cells: _Cells, horizons: Ints) -> dict[str, Floats]:
    """Amounts to sum, by column: (N,) where they are the same at all horizons, or (N, H).

    NaN for cohorts without a complete age. `grown` is the revenue still to come, or that of the
    pattern where it is more; sums of it and of its square tell how uncertain a sum is. `paid_` is
    of cohorts with any spend.
    """
    has_begun = curves.observed_age >= 0
    users = np.where(has_begun, curves.users, np.nan)
    paid_users = np.where(curves.spend > 0, users, np.nan)
    last_observed = np.clip(curves.observed_age[:, None], 0, horizons)  # (N, H)

    growth = np.maximum(cells.mean, cells.pattern) - curves.observed_value[:, None]
    grown = users[:, None] * np.where(cells.is_ahead, growth, 0.0)
    return {
        "users": users,
        "spend": np.where(has_begun, curves.spend, np.nan),
        "observed_revenue": users[:, None]
        * np.take_along_axis(curves.values, last_observed, axis=1),
        "forecast_revenue": users[:, None] * cells.revenue,
        "paid_users": paid_users,
        "paid_revenue": paid_users[:, None] * cells.revenue,
        "grown": grown,
        "squared": grown**2,
    }


def _segment_sums(rows: NDArray[Any], segment_index: Ints, horizons: int) -> Floats:
    """Sum rows (N,) or (N, H) over the cohorts of each segment: (S x H,), NaN where all are NaN."""
    if not horizons:
        return np.zeros(0)
    cells = rows.reshape(len(rows), -1).T.astype(np.float64)  # (1, N) or (H, N)
    is_known = ~np.isnan(cells)
    cells = np.where(is_known, cells, 0.0)

    segments = int(segment_index.max(initial=-1)) + 1
    sums = [np.bincount(segment_index, amounts, segments) for amounts in cells]
    known_counts = [np.bincount(segment_index, known, segments) for known in is_known]
    has_known = np.stack(known_counts, axis=1) > 0  # (S, 1) or (S, H)
    blanked = np.where(has_known, np.stack(sums, axis=1), np.nan)
    each_cell: Floats = np.broadcast_to(blanked, (segments, horizons)).ravel()
    return each_cell


def _intervals(table: pd.DataFrame, forecast: Forecast) -> dict[str, NDArray[Any]]:
    """The 80 % interval (R,) of each sum of a roll-up, not below what was observed.

    Blank where the past does not tell, or where the sum is unsupported. A sum of nothing but what
    was observed is certain.
    """
    half_width = np.full(len(table), np.nan)
    is_observed = (table["ahead"] == 0).to_numpy()
    is_uncalibrated = np.ones(len(table), dtype=bool)
    spread = forecast.portfolio_spread
    if spread is not None:
        node_index = np.searchsorted(NODE_AGES, table["age"])  # (R,)
        cell = (np.arange(len(table)), node_index)
        grown = np.zeros((len(table), len(NODE_AGES)))  # (R, J)
        squared = np.zeros((len(table), len(NODE_AGES)))
        grown[cell] = table["grown"]
        squared[cell] = table["squared"]

        half_width = spread.half_width(grown, squared)[cell]
        half_width[table["unsupported"] > 0] = np.nan
        is_uncalibrated = spread.is_borrowed[node_index] | np.isnan(half_width)

    half_width[is_observed] = 0.0
    revenue = table["forecast_revenue"].to_numpy()
    observed = table["observed_revenue"].to_numpy()
    at_least_observed = np.maximum(revenue - half_width, observed)
    return {
        "p10": np.minimum(at_least_observed, revenue),  # both are sums, and round by themselves
        "p90": revenue + half_width,
        "uncalibrated": is_uncalibrated & ~is_observed,
    }
