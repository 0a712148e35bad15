"""Prediction tables out, as streams: each writes a forecast and hands it on.

A table appears when the last forecast was taken, whole, or not at all.

Shapes: N cohorts, H ages asked for, C cells that are forecast.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from ltvnet.data.arrays import Floats, Ints, factorize
from ltvnet.data.cohort_tables import ColumnArrays, key_columns
from ltvnet.data.columns import END, START
from ltvnet.data.curves import AGES, HORIZONS, NODES, Curves
from ltvnet.forecasting.explanation import TERMS, Explanation
from ltvnet.forecasting.forecast import QUANTITIES, Forecast
from ltvnet.forecasting.interpolation import InterpolationShape
from ltvnet.storage import atomic_write

_OWN = ("grown", "squared")  # sums of a roll-up that its bounds are made of, not in the table

FIRST_WEEK_DAYS = 7
"""Forecasts of D1 to D7 are told if a cohort is younger than so many days."""


@dataclass(frozen=True)
class OutputPaths:
    """Where tables stand: in a folder, or in one of its numbered `part`s."""

    folder: Path
    part: int | None = None

    @property
    def long_table(self) -> Path:
        """`forecasts.parquet`, or a part in the folder `forecasts`."""
        return self._numbered("forecasts", ".parquet")

    @property
    def explanations(self) -> Path:
        """`explanations.csv`, or a part in the folder `explanations`."""
        return self._numbered("explanations", ".csv")

    def wide_table(self, stage: str, origin: np.datetime64, kind: str) -> Path:
        """The table of each day: of the `stage` "" (raw) or "_Final", of a kind of file."""
        date = str(origin).replace("-", "_")
        part = "" if self.part is None else f"_{self.part:05}"
        name = f"LTV_predictions{stage.lower()}_{date}{part}.{kind}"
        return self.folder / f"Files_Predictions{stage}" / name

    def _numbered(self, name: str, suffix: str) -> Path:
        if self.part is None:
            return self.folder / f"{name}{suffix}"
        return self.folder / name / f"{self.part:05}{suffix}"


def remove_stale_parts(folder: Path, parts: int, origin: np.datetime64) -> None:
    """Remove tables of parts from this number on: those of an earlier run of more cohorts.

    Tables of every day of other origins stay.
    """
    date = str(origin).replace("-", "_")
    kinds = {
        "forecasts": r"(\d{5})\.parquet",
        "forecasts/_finished": r"(\d{5})\.json",
        "explanations": r"(\d{5})\.csv",
        "Files_Predictions*": rf"LTV_predictions(?:_final)?_{date}_(\d{{5}})\.(?:csv|parquet)",
    }
    for name, pattern in kinds.items():
        for path in folder.glob(f"{name}/*"):
            if (found := re.fullmatch(pattern, path.name)) and int(found[1]) >= parts:
                path.unlink()


def _parquet(path: Path, schema: pa.Schema) -> parquet.ParquetWriter:
    """A writer that looks for repeated cells in all columns but those of fractions."""
    repeated = [field.name for field in schema if not pa.types.is_floating(field.type)]
    return parquet.ParquetWriter(path, schema, use_dictionary=repeated)


WIDE_WRITERS = {"csv": arrow_csv.CSVWriter, "parquet": _parquet}
"""Kinds of files of the table of each day, and what writes them."""


ShapeOfCurves = Callable[[Curves], InterpolationShape]
"""How the means of cohorts go from node to node."""


def write_wide(
    forecasts: Iterable[Forecast],
    places: OutputPaths,
    kind: str,
    courses: ShapeOfCurves | None,
    *,
    young: bool,
) -> Iterator[Forecast]:
    """Write the tables of raw and of final means, one row a cohort, as files of a kind in WIDE.

    They are `Files_Predictions/LTV_predictions_YYYY_MM_DD.csv` and
    `Files_Predictions_Final/LTV_predictions_final_YYYY_MM_DD.csv`; the latter also has P10 and P90
    at `HORIZONS`, blank until calibrated. Cells are revenue per user, to float32; those of ages
    already observed repeat the observed value; D1 to D7 are there if cohorts are `young`.
    Forecasts are of all ages from 1 to 360 or, where their `courses` are known, of NODES.
    Raises ValueError for forecasts that are not.
    """
    first = 1 if young else FIRST_WEEK_DAYS + 1
    wanted = np.arange(1, AGES) if courses is None else np.array(NODES)
    with ExitStack() as stack:
        writing: list[Future[None]] = []
        for forecast in forecasts:
            if not np.isin(wanted, forecast.ages).all():
                said = f"all ages 1..{AGES - 1}" if courses is None else "all of NODES"
                raise ValueError(f"expected forecasts of {said}: {forecast.ages}")
            tables = _wide(forecast, first, courses)
            if not writing:
                writers: list[arrow_csv.CSVWriter | parquet.ParquetWriter] = []
                for stage, table in zip(("", "_Final"), tables, strict=True):
                    path = places.wide_table(stage, forecast.curves.origin, kind)
                    part = stack.enter_context(atomic_write(path))
                    writers.append(stack.enter_context(WIDE_WRITERS[kind](part, table.schema)))
                threads = stack.enter_context(ThreadPoolExecutor(len(writers)))  # which ends first
            for one in writing:
                one.result()
            pairs = zip(writers, tables, strict=True)
            writing = [threads.submit(writer.write, table) for writer, table in pairs]
            yield forecast
        for one in writing:
            one.result()


def _wide(
    forecast: Forecast, first: int, courses: ShapeOfCurves | None
) -> tuple[pa.Table, pa.Table]:
    curves = forecast.curves
    key = _arrays({**key_columns(curves), "observed_age": curves.observed_age})
    reason = _arrays({"reason": forecast.reason})
    before, after = _means(forecast, courses)
    raw = _arrays({f"P_D{age}": before[age] for age in range(first, AGES)})
    final = raw
    if after is not before:
        final = _arrays({f"P_D{age}": after[age] for age in range(first, AGES)})
    intervals = _arrays(_intervals(forecast))
    return pa.table({**key, **raw, **reason}), pa.table({**key, **final, **intervals, **reason})


def _arrays(columns: ColumnArrays) -> dict[str, pa.Array]:
    return {name: pa.array(cells, from_pandas=True) for name, cells in columns.items()}


def _table(columns: ColumnArrays) -> pa.Table:
    return pa.table(_arrays(columns))


def _cells(forecast: Forecast, values: Floats) -> Floats:
    """Forecasts `values` (N, H), and what was observed at the ages before them."""
    cells: Floats = np.where(forecast.is_ahead, values, forecast.curves.values[:, forecast.ages])
    return cells


def _means(forecast: Forecast, courses: ShapeOfCurves | None) -> Sequence[NDArray[np.float32]]:
    """Raw and final means of every day, with what was observed before: (A, N) each."""
    if courses is not None:
        nodes = forecast.at(NODES)
        same = np.array_equal(nodes.raw.mean, nodes.final.mean, equal_nan=True)
        means = [nodes.raw.mean] if same else [nodes.raw.mean, nodes.final.mean]
        return (courses(forecast.curves).daily_means(forecast.curves, means) * 2)[:2]
    every = forecast.at(range(1, AGES))
    bands = (every.raw, every.final)
    cells = [_cells(every, band.mean).T.astype(np.float32, order="C") for band in bands]
    return [np.concatenate((own[:1], own)) for own in cells]  # no table has D0


def _intervals(forecast: Forecast) -> ColumnArrays:
    forecast = forecast.at(HORIZONS)
    bounds = {"P10": forecast.final.p10, "P90": forecast.final.p90}
    cells = {name: _cells(forecast, bound).astype(np.float32) for name, bound in bounds.items()}
    if not forecast.is_calibrated:
        cells = {name: np.full_like(bound, np.nan) for name, bound in cells.items()}
    return {f"{name}_D{age}": cells[name][:, h] for h, age in enumerate(HORIZONS) for name in cells}


def write_long(forecasts: Iterable[Forecast], path: Path, bundle: str) -> Iterator[Forecast]:
    """Write `forecasts.parquet`, a row for each cell that is forecast.

    A row group a forecast: the key, users, origin, observed age and value, age, pattern, raw and
    final mean and quantiles in float32, whether p10 and p90 are `uncalibrated` at that age, reason
    and the identity of the bundle.
    """
    with atomic_write(path) as part, ExitStack() as stack:
        writer = None
        for forecast in forecasts:
            table = forecast_rows(forecast, bundle)
            if writer is None:
                writer = stack.enter_context(_parquet(part, table.schema))
            writer.write_table(table, row_group_size=max(len(table), 1))
            yield forecast
        if writer is None:
            raise ValueError(f"{path}: expected forecasts to write, got none: no cohort had begun")


def forecast_rows(forecast: Forecast, bundle: str) -> pa.Table:
    """The rows of `forecasts.parquet` for one forecast: see `long`."""
    curves = forecast.curves
    row, place = np.nonzero(forecast.is_ahead)  # (C,)
    words = {
        name: pa.array(text.values, pa.string()).take(pa.array(text.codes[row]))
        for name, text in {**curves.attribute_codes, "reason": factorize(forecast.reason)}.items()
    }
    bands = {"raw_": forecast.raw, "": forecast.final}
    bounds = {
        f"{stage}{name}": getattr(band, name)[row, place].astype(np.float32)
        for stage, band in bands.items()
        for name in QUANTITIES
    }
    borrowed = (
        np.ones_like(forecast.is_ahead) if forecast.is_borrowed is None else forecast.is_borrowed
    )
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


def write_explanations(
    forecasts: Iterable[Forecast], path: Path, explain: Callable[[Forecast], Explanation]
) -> Iterator[Forecast]:
    """Write `explanations.csv`: why each cohort's forecast differs from its segment's.

    A row a cohort: the key, users, observed age, `horizon`, `segment` (what a typical cohort of it
    would have), TERMS and the `forecast` that they add up to, revenue per user to float32, and
    the same in words. Blank without a complete age. Raises ValueError for an attribute with the
    name of one of these columns.
    """
    with atomic_write(path) as part, ExitStack() as stack:
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
    amounts = {"segment": told.segment_mean, **dict(zip(TERMS, told.terms.T, strict=True))}
    amounts["forecast"] = told.forecast
    own: ColumnArrays = {
        "observed_age": told.curves.observed_age,
        "horizon": np.full(len(told.curves), told.horizon),
        **{name: cells.astype(np.float32) for name, cells in amounts.items()},
        "explanation": told.sentences(),
    }
    if taken := sorted(set(told.curves.attributes).intersection(own)):
        names = ", ".join(taken)
        raise ValueError(f"expected no attribute with the name of a column, got {names}: rename it")
    return _table({**key_columns(told.curves), **own})


class Rollup(NamedTuple):
    """Sums over cohorts: `table` by segment and age, which adds up; of `by`, an attribute or "".

    `sample` is a forecast of the same model, which says how uncertain sums are.
    """

    table: pd.DataFrame
    attribute: str
    sample_forecast: Forecast

    @classmethod
    def from_forecast(cls, forecast: Forecast, by: str | None) -> "Rollup":
        """Those of a forecast; `by` None: Campaign, or else Source, if there is one.

        Raises ValueError for an attribute that cohorts lack.
        """
        by = _deepest(forecast.curves) if by is None else by
        return cls(_sums(forecast, by), by, forecast)

    def add(self, table: pd.DataFrame) -> "Rollup":
        """These and others."""
        both = pd.concat([self.table, table])
        return self._replace(table=both.groupby(["segment", "age"]).sum(min_count=1))


def write_rollup(sums: Rollup, path: Path) -> None:
    """Write `rollup.csv`: sums in currency over the cohorts of each segment and in total.

    A row for each segment and each of `HORIZONS` that was forecast: `cohorts` in the sums and
    `cohorts_left_out` for want of a complete age, `users`, `spend` where known,
    `observed_revenue` up to that age, `forecast_revenue` (final mean, with what was observed),
    and `p10`, `p90` of that sum, blank where the past does not tell or the mean is extrapolated:
    bounds of cohorts do not add up, as they share a part of their errors. `uncalibrated` marks
    those of another horizon.
    """
    total = sums.table
    overall = pd.concat({"": total.groupby("age").sum(min_count=1)}, names=["segment"])
    levels = {sums.attribute: total, "TOTAL": overall} if sums.attribute else {"TOTAL": overall}
    table = pd.concat(levels, names=["level"]).reset_index()
    table = table.assign(**_bounds(table, sums.sample_forecast))
    columns: ColumnArrays = {
        str(name): table[name].to_numpy() for name in table if name not in _OWN
    }
    with atomic_write(path) as part:
        arrow_csv.write_csv(_table(columns), part)


def _bounds(table: pd.DataFrame, forecast: Forecast) -> ColumnArrays:
    """The 80 % interval of each sum of a roll-up, not below what was observed."""
    half, borrowed = np.full(len(table), np.nan), np.ones(len(table), dtype=bool)
    if forecast.portfolio_spread is not None:
        node = np.searchsorted(np.array(NODES), table["age"])
        place = (np.arange(len(table)), node)
        grown, squared = np.zeros((2, len(table), len(NODES)))
        grown[place], squared[place] = (table[name] for name in _OWN)
        half = forecast.portfolio_spread.half_width(grown, squared)[place]
        half[(table["age"] > forecast.last_supported_age) & (table["grown"] > 0)] = np.nan
        borrowed = forecast.portfolio_spread.borrowed[node] | np.isnan(half)
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
    place, k = np.searchsorted(forecast.ages, horizons), curves.observed_age  # (H,), (N,)
    mean, pattern, ahead = (
        cells[:, place] for cells in (forecast.final.mean, forecast.pattern, forecast.is_ahead)
    )
    known, seen = k >= 0, np.clip(k[:, None], 0, horizons)  # (N,), (N, H)
    users = np.where(known, curves.users, np.nan)
    grown = np.maximum(mean, pattern) - curves.observed_value[:, None]
    grown = users[:, None] * np.where(ahead, grown, 0.0)
    amounts = {
        "users": users,
        "spend": np.where(known, curves.spend, np.nan),
        "observed_revenue": users[:, None] * np.take_along_axis(curves.values, seen, axis=1),
        "forecast_revenue": users[:, None] * np.where(ahead, mean, curves.values[:, horizons]),
        "grown": grown,
        "squared": grown**2,
    }
    codes, words = curves.attribute_codes[by] if by else (np.zeros(len(k), dtype=np.int64), [""])
    present = np.flatnonzero(np.bincount(codes, minlength=len(words)))
    place = np.searchsorted(present, codes)
    index = pd.MultiIndex.from_product(
        [[str(words[code]) for code in present], horizons], names=["segment", "age"]
    )
    counts = {"cohorts": known, "cohorts_left_out": ~known}
    whole = [_summed(rows, place, len(horizons)).astype(np.int64) for rows in counts.values()]
    sums = {name: _summed(rows, place, len(horizons)) for name, rows in amounts.items()}
    return pd.DataFrame({**dict(zip(counts, whole, strict=True)), **sums}, index=index)


def _summed(rows: NDArray[Any], place: Ints, horizons: int) -> Floats:
    """Sums of rows (N,) or (N, H) over the segment that each is in: (S x H,), NaN of none known."""
    if not horizons:
        return np.zeros(0)
    cells = rows.reshape(len(rows), -1).T.astype(np.float64)  # (1, N) or (H, N)
    known = ~np.isnan(cells)
    cells = np.where(known, cells, 0.0)
    count = int(place.max(initial=-1)) + 1
    sums = np.stack([np.bincount(place, own, count) for own in cells], axis=1)  # (S, 1 or H)
    some = np.stack([np.bincount(place, own, count) for own in known], axis=1) > 0
    told: Floats = np.broadcast_to(np.where(some, sums, np.nan), (count, horizons)).ravel()
    return told
