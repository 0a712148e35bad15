"""Prediction tables out, as streams: each writes a forecast and hands it on.

A table appears when the last forecast was taken, whole, or not at all.

Shapes: N cohorts, H ages asked for, C cells that are forecast.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet

from ltvnet.checks import END, HORIZONS, START
from ltvnet.curves import AGES, NODES, Curves, Floats
from ltvnet.explanation import TERMS, Explanation
from ltvnet.files import whole
from ltvnet.forecasting import QUANTITIES, Band, Forecast
from ltvnet.table import Columns, keys

_OWN = ("grown", "squared")  # sums of a roll-up that its bounds are made of, not in the table

FIRST_WEEK = 7
"""Forecasts of D1 to D7 are told if a cohort is younger than so many days."""


def wide(forecasts: Iterable[Forecast], folder: Path, *, young: bool) -> Iterator[Forecast]:
    """Write the tables of raw and of final means, one row a cohort.

    Below `folder` stand `Files_Predictions/LTV_predictions_YYYY_MM_DD.csv` and
    `Files_Predictions_Final/LTV_predictions_final_YYYY_MM_DD.csv`; the latter also has P10 and P90
    at `HORIZONS`, blank until calibrated. Cells are revenue per user, to float32; those of ages
    already observed repeat the observed value; D1 to D7 are there if cohorts are `young`.
    Raises ValueError unless each forecast is of all ages from 1 to 360.
    """
    first = 1 if young else FIRST_WEEK + 1
    with ExitStack() as stack:
        writers: list[arrow_csv.CSVWriter] = []
        for forecast in forecasts:
            if not np.array_equal(forecast.ages, np.arange(1, AGES)):
                raise ValueError(f"expected forecasts of all ages 1..{AGES - 1}: {forecast.ages}")
            tables = _wide(forecast, first)
            if not writers:
                date = str(forecast.curves.origin).replace("-", "_")
                for name, table in zip(("", "_Final"), tables, strict=True):
                    file = f"LTV_predictions{name.lower()}_{date}.csv"
                    part = stack.enter_context(whole(folder / f"Files_Predictions{name}" / file))
                    writer = arrow_csv.CSVWriter(part, table.schema)
                    writers.append(stack.enter_context(writer))
            for writer, table in zip(writers, tables, strict=True):
                writer.write(table)
            yield forecast


def _wide(forecast: Forecast, first: int) -> tuple[pa.Table, pa.Table]:
    key = {**keys(forecast.curves), "observed_age": forecast.curves.observed_age}
    reason = {"reason": forecast.reason}
    raw = {**key, **_means(forecast, forecast.raw, first), **reason}
    final = {**key, **_means(forecast, forecast.final, first), **_intervals(forecast), **reason}
    return _table(raw), _table(final)


def _table(columns: Columns) -> pa.Table:
    return pa.table({name: pa.array(cells, from_pandas=True) for name, cells in columns.items()})


def _cells(forecast: Forecast, values: Floats) -> Floats:
    """Forecasts `values` (N, H), and what was observed at the ages before them."""
    cells: Floats = np.where(forecast.open, values, forecast.curves.values[:, forecast.ages])
    return cells


def _means(forecast: Forecast, band: Band, first: int) -> Columns:
    cells = _cells(forecast, band.mean).T.astype(np.float32, order="C")  # (H, N)
    return {f"P_D{age}": cells[age - 1] for age in range(first, AGES)}


def _intervals(forecast: Forecast) -> Columns:
    bounds = {"P10": forecast.final.p10, "P90": forecast.final.p90}
    cells = {name: _cells(forecast, bound).astype(np.float32) for name, bound in bounds.items()}
    if not forecast.calibrated:
        cells = {name: np.full_like(bound, np.nan) for name, bound in cells.items()}
    return {f"{name}_D{age}": cells[name][:, age - 1] for age in HORIZONS for name in cells}


def long(forecasts: Iterable[Forecast], path: Path, bundle: str) -> Iterator[Forecast]:
    """Write `forecasts.parquet`, a row for each cell that is forecast.

    A row group a forecast: the key, users, origin, observed age and value, age, pattern, raw and
    final mean and quantiles in float32, whether p10 and p90 are `uncalibrated` at that age, reason
    and the identity of the bundle.
    """
    with whole(path) as part, ExitStack() as stack:
        writer = None
        for forecast in forecasts:
            table = rows(forecast, bundle)
            if writer is None:
                writer = stack.enter_context(parquet.ParquetWriter(part, table.schema))
            writer.write_table(table, row_group_size=max(len(table), 1))
            yield forecast
        if writer is None:
            raise ValueError(f"{path}: expected forecasts to write, got none: no cohort had begun")


def rows(forecast: Forecast, bundle: str) -> pa.Table:
    """The rows of `forecasts.parquet` for one forecast: see `long`."""
    curves = forecast.curves
    row, place = np.nonzero(forecast.open)  # (C,)
    texts = {**curves.attributes, "reason": forecast.reason}
    words = {name: pa.array(cells, pa.string()).take(row) for name, cells in texts.items()}
    bands = {"raw_": forecast.raw, "": forecast.final}
    bounds = {
        f"{stage}{name}": getattr(band, name)[row, place].astype(np.float32)
        for stage, band in bands.items()
        for name in QUANTITIES
    }
    borrowed = np.ones_like(forecast.open) if forecast.borrowed is None else forecast.borrowed
    return pa.table(
        {
            START: curves.start[row],
            END: curves.end[row],
            **{name: words[name] for name in curves.attributes},
            "users": curves.users[row],
            "origin": np.full(len(row), curves.origin),
            "observed_age": curves.observed_age[row],
            "observed_value": curves.observed_value[row],
            "age": forecast.ages[place],
            "pattern": forecast.pattern[row, place].astype(np.float32),
            **bounds,
            "uncalibrated": (borrowed | np.isnan(forecast.final.p90))[row, place],
            "reason": words["reason"],
            "bundle": pa.repeat(bundle, len(row)),
        }
    )


def explained(
    forecasts: Iterable[Forecast], path: Path, explain: Callable[[Forecast], Explanation]
) -> Iterator[Forecast]:
    """Write `explanations.csv`: why each cohort's forecast differs from its segment's.

    A row a cohort: the key, users, observed age, `horizon`, `segment` (what a typical cohort of it
    would have), TERMS and the `forecast` that they add up to, revenue per user to float32, and
    the same in words. Blank without a complete age. Raises ValueError for an attribute with the
    name of one of these columns.
    """
    with whole(path) as part, ExitStack() as stack:
        writer = None
        for forecast in forecasts:
            table = _explained(explain(forecast))
            if writer is None:
                writer = stack.enter_context(arrow_csv.CSVWriter(part, table.schema))
            writer.write(table)
            yield forecast
        if writer is None:
            raise ValueError(
                f"{path}: expected forecasts to explain, got none: no cohort had begun"
            )


def _explained(told: Explanation) -> pa.Table:
    amounts = {"segment": told.segment, **dict(zip(TERMS, told.terms.T, strict=True))}
    amounts["forecast"] = told.forecast
    own: Columns = {
        "observed_age": told.curves.observed_age,
        "horizon": np.full(len(told.curves), told.horizon),
        **{name: cells.astype(np.float32) for name, cells in amounts.items()},
        "explanation": told.words(),
    }
    if taken := sorted(set(told.curves.attributes).intersection(own)):
        names = ", ".join(taken)
        raise ValueError(f"expected no attribute with the name of a column, got {names}: rename it")
    return _table({**keys(told.curves), **own})


def rollup(forecasts: Iterable[Forecast], path: Path, by: str | None) -> Iterator[Forecast]:
    """Write `rollup.csv`: sums in currency over the cohorts of each segment and in total.

    Segments are those of the attribute `by` (None: Campaign, or else Source, if there is one).
    A row for each segment and each of `HORIZONS` that was forecast: `cohorts` in the sums and
    `cohorts_left_out` for want of a complete age, `users`, `spend` where known,
    `observed_revenue` up to that age, `forecast_revenue` (final mean, with what was observed),
    and `p10`, `p90` of that sum, blank where the past does not tell or the mean is extrapolated:
    bounds of cohorts do not add up, as they share a part of their errors. `uncalibrated` marks
    those of another horizon. Raises ValueError for an attribute that cohorts lack.
    """
    total, last = None, None
    with whole(path) as part:
        for forecast in forecasts:
            by = _deepest(forecast.curves) if by is None else by
            sums, last = _sums(forecast, by), forecast
            total = sums if total is None else pd.concat([total, sums])
            total = total.groupby(["segment", "age"]).sum(min_count=1)
            yield forecast
        if total is None:
            raise ValueError(f"{path}: expected forecasts to sum up, got none: no cohort had begun")
        overall = pd.concat({"": total.groupby("age").sum(min_count=1)}, names=["segment"])
        levels = {"TOTAL": overall} if not by else {by: total, "TOTAL": overall}
        table = pd.concat(levels, names=["level"]).reset_index()
        table = table.assign(**_bounds(table, last))
        columns: Columns = {str(name): table[name].to_numpy() for name in table if name not in _OWN}
        arrow_csv.write_csv(_table(columns), part)


def _bounds(table: pd.DataFrame, forecast: Forecast | None) -> Columns:
    """The 80 % interval of each sum of a roll-up, not below what was observed."""
    half, borrowed = np.full(len(table), np.nan), np.ones(len(table), dtype=bool)
    if forecast is not None and forecast.totals is not None:
        node = np.searchsorted(np.array(NODES), table["age"])
        place = (np.arange(len(table)), node)
        grown, squared = np.zeros((2, len(table), len(NODES)))
        grown[place], squared[place] = (table[name] for name in _OWN)
        half = forecast.totals.spread(grown, squared)[place]
        half[(table["age"] > forecast.reach) & (table["grown"] > 0)] = np.nan
        borrowed = forecast.totals.borrowed[node] | np.isnan(half)
    middle, least = (table[f"{name}_revenue"].to_numpy() for name in ("forecast", "observed"))
    return {"p10": np.maximum(middle - half, least), "p90": middle + half, "uncalibrated": borrowed}


def _deepest(curves: Curves) -> str:
    """The attribute to sum by, "" where there is none."""
    return next((name for name in ("Campaign", "Source") if name in curves.attributes), "")


def _sums(forecast: Forecast, by: str) -> pd.DataFrame:
    """Sums by segment and horizon, whose parts may be added further."""
    curves = forecast.curves
    if by and by not in curves.attributes:
        raise ValueError(f"expected to sum by one of {', '.join(curves.attributes)}, got {by!r}")
    horizons = np.intersect1d(HORIZONS, forecast.ages)
    row, place = np.indices((len(curves), len(horizons))).reshape(2, -1)
    age, k = horizons[place], curves.observed_age[row]
    known = k >= 0
    users = np.where(known, curves.users[row], np.nan)
    mean = _cells(forecast, forecast.final.mean)
    grown = np.maximum(forecast.final.mean, forecast.pattern) - curves.observed_value[:, None]
    grown = users * np.where(forecast.open, grown, 0.0)[row, np.searchsorted(forecast.ages, age)]
    cells = {
        "segment": curves.attributes[by][row] if by else "",
        "age": age,
        "cohorts": known.astype(np.int64),
        "cohorts_left_out": (~known).astype(np.int64),
        "users": users,
        "spend": np.where(known, curves.spend[row], np.nan),
        "observed_revenue": users * curves.values[row, np.clip(k, 0, age)],
        "forecast_revenue": users * mean[row, np.searchsorted(forecast.ages, age)],
        "grown": grown,
        "squared": grown**2,
    }
    return pd.DataFrame(cells).groupby(["segment", "age"]).sum(min_count=1)
