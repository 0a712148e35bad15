"""Cohort tables and snapshots in, prediction tables out.

Shapes: N cohorts, R vintages, A ages, H ages asked for, C cells that are forecast.
"""

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from ltvnet.checks import (
    DATE,
    END,
    HORIZONS,
    ROLES,
    START,
    USERS,
    Layout,
    Sheet,
    renamed,
    restatements,
    summary,
)
from ltvnet.curves import AGES, Curves, Floats, History, day
from ltvnet.files import Report, blocks, tables, whole
from ltvnet.forecasting import Band, Forecast

logger = logging.getLogger(__name__)

Columns = dict[str, NDArray[Any]]
"""A table by the names of its columns: (N,) each."""

_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True, kw_only=True)
class Files:
    """Cohort tables on disk: one CSV, CSV.gz or Parquet file, or a folder with a snapshot a file.

    `path` the file or folder; `hierarchy` attributes along which segments shrink, those of them
    that the tables have; `attributes` further ones (None: every column of text); `columns` part
    -> name of the column that plays it, as in {"Users": "Installs"}; `lag_days` days after
    which the revenue of a day is complete; `partial` what to do with values later than the as-of
    date (refuse, mask); `revenue` whether a fall of a curve is wrong (gross) or a refund (net);
    `rounding_tolerance` relative change that counts as rounding; `snapshot` as-of day of a single
    file (None: the date in its name, or else the last day on which an age in it was complete).
    Raises ValueError for an option outside its range.
    """

    path: str | Path
    hierarchy: Sequence[str] = ("Apps", "Source", "Campaign", "Country", "OS")
    attributes: Sequence[str] | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    lag_days: int = 0
    partial: str = "refuse"
    revenue: str = "gross"
    rounding_tolerance: float = 1e-3
    snapshot: str | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        if self.partial not in ("refuse", "mask"):
            raise ValueError(f"expected data.partial=refuse or mask, got {self.partial!r}")
        if self.revenue not in ("gross", "net"):
            raise ValueError(f"expected data.revenue=gross or net, got {self.revenue!r}")
        if not 0 <= self.rounding_tolerance < 1:
            got = self.rounding_tolerance
            raise ValueError(f"expected data.rounding_tolerance from 0 to below 1, got {got}")
        if self.lag_days < 0:
            raise ValueError(f"expected data.lag_days from 0 up, got {self.lag_days}")
        parts = [*ROLES, *self.hierarchy, *(self.attributes or ())]
        if unknown := [part for part in self.columns if part not in parts]:
            raise ValueError(f"expected data.columns to name {', '.join(parts)}, got {unknown}")

    def history(self) -> History:
        """All vintages of all cohorts; a summary of the data is logged.

        Raises ValueError that lists all that is wrong, with file, row, column, value and way out.
        """
        report = Report(self.columns)
        dates = self._dates()
        sheets: dict[Path, Sheet] = {}
        for file, date in dates.items():
            try:
                sheets[file] = next(self._sheets(file, date, sys.maxsize))
            except ValueError as error:
                report.add_file(str(error))
        names = self._attributes(list(sheets.values()), report)
        for file, sheet in sheets.items():
            report.add(file, self._faults(sheet, dates[file], names, set()))
        report.refuse()
        history = self._history(list(sheets.values()), list(dates.values()), names)
        if len(changes := restatements(history, self.rounding_tolerance)):
            logger.warning("restated history:\n%s", changes.to_string(index=False))
        logger.info("%s", summary(history))
        return history

    def curves(self, rows: int) -> Iterator[Curves]:
        """What was known at the end of the as-of day, at most `rows` cohorts at a time.

        A single file is read as a stream: memory is bounded by `rows`, and cohorts are sorted by
        key within each piece. Of a folder the newest vintages are cut into pieces.
        Raises ValueError like `history`, for the first piece in which something is wrong.
        """
        if rows < 1:
            raise ValueError(f"expected at least one row in a piece, got {rows}")
        ((file, date), *others) = self._dates().items()
        if others:
            yield from self._pieces(self.history(), rows)
        else:
            yield from self._stream(file, date, rows)

    def _pieces(self, history: History, rows: int) -> Iterator[Curves]:
        curves = history.as_of(history.last_day)
        later = history.index[history.start > history.last_day].nunique()
        _log_left_out(later, history.last_day)
        for first in range(0, len(curves), rows):
            yield curves.take(np.arange(first, min(first + rows, len(curves))))

    def _stream(self, file: Path, date: np.datetime64, rows: int) -> Iterator[Curves]:
        report, names = Report(self.columns), None
        seen: set[int] = set()
        read = left_out = 0
        for sheet in self._sheets(file, date, rows):
            names = self._attributes([sheet], report) if names is None else names
            if self.attributes is None and (late := set(sheet.words()) - set(names)):
                found = f"{file}: {', '.join(sorted(late))} had only numbers up to row {read}"
                raise ValueError(f"{found}, now text; set data.attributes to say what to use")
            report.add(file, self._faults(sheet, date, names, seen), read)
            report.refuse()
            curves = self._history([sheet], [date], names).as_of(date)
            read += len(sheet)
            left_out += len(sheet) - len(curves)
            if len(curves):
                yield curves
        _log_left_out(left_out, date)

    def _dates(self) -> dict[Path, np.datetime64]:
        """Files to read and their as-of days, by day."""
        path = Path(self.path).expanduser()
        if self.snapshot is not None and path.is_dir():
            raise ValueError(f"{path}: data.snapshot is for one file; in a folder names have dates")
        if self.snapshot is not None:
            return dict.fromkeys(tables(path), day(self.snapshot))
        found = tables(path).items()
        return {file: self._last_day(file) if date is None else date for file, date in found}

    def _last_day(self, file: Path) -> np.datetime64:
        """The last day on which any age in a file was complete."""
        days = [sheet.last_day() for sheet in self._sheets(file, None, 1 << 16)]
        last: np.datetime64 = np.fmax.reduce(np.array(days)) + self.lag_days * _DAY
        if np.isnat(last):
            raise ValueError(f"{file}: no value tells its as-of date; set data.snapshot")
        logger.info("%s: as of %s, its last complete day (else set data.snapshot)", file, last)
        return last

    def _sheets(self, file: Path, date: np.datetime64 | None, rows: int) -> Iterator[Sheet]:
        """The table in a file, parsed, at most so many rows at a time."""
        layout = None
        for block in blocks(file, rows):
            table = renamed(file, block, self.columns)
            layout = layout or Layout.of(file, table.schema)
            sheet = Sheet.of(table, layout)
            if date is not None and self.partial == "mask":
                sheet = self._masked(file, sheet, date)
            yield sheet

    def _masked(self, file: Path, sheet: Sheet, date: np.datetime64) -> Sheet:
        masked = sheet.masked(self._last(sheet, date))
        if cells := np.isnan(masked.values).sum() - np.isnan(sheet.values).sum():
            logger.info("%s: masked %d values later than %s", file, cells, date)
        return masked

    def _last(self, sheet: Sheet, date: np.datetime64) -> Floats:
        """The last age of each row (N,) that is complete at a day, NaN where the end is unknown."""
        age: Floats = (date - sheet.end) / _DAY - self.lag_days
        return age

    def _faults(
        self, sheet: Sheet, date: np.datetime64, names: list[str], seen: set[int]
    ) -> pd.DataFrame:
        tolerance = self.rounding_tolerance if self.revenue == "gross" else None
        found = sheet.faults(self._last(sheet, date), tolerance)
        repeated = sheet.repeated(names, seen)
        return pd.concat([found, repeated]).sort_values("row", kind="stable")

    def _attributes(self, sheets: Sequence[Sheet], report: Report) -> list[str]:
        """The names of attributes: those of the hierarchy, and the chosen ones or all of text."""
        present = list(dict.fromkeys(name for sheet in sheets for name in sheet.labels))
        chosen = self.attributes
        if missing := [name for name in chosen or () if sheets and name not in present]:
            report.add_file(f"expected data.attributes out of {present}, got also {missing}")
        if chosen is None:
            chosen = [name for sheet in sheets for name in sheet.words()]
        names = [name for name in present if name in chosen or name in self.hierarchy]
        if unused := [name for name in present if name not in names]:
            logger.info("not modelled (see data.attributes): %s", ", ".join(unused))
        return names

    def _history(
        self, sheets: Sequence[Sheet], dates: Sequence[np.datetime64], names: Sequence[str]
    ) -> History:
        return History(
            start=np.concatenate([sheet.start for sheet in sheets]),
            end=np.concatenate([sheet.end for sheet in sheets]),
            attributes={n: np.concatenate([sheet.label(n) for sheet in sheets]) for n in names},
            users=np.concatenate([sheet.users for sheet in sheets]),
            spend=np.concatenate([sheet.spend for sheet in sheets]),
            values=np.concatenate([sheet.values for sheet in sheets]),
            hierarchy=tuple(name for name in self.hierarchy if name in names),
            lag_days=self.lag_days,
            snapshot=np.repeat(np.array(dates), [len(sheet) for sheet in sheets]),
        )


def _log_left_out(cohorts: int, date: np.datetime64) -> None:
    if cohorts:
        logger.warning("%d cohorts start after %s and are left out", cohorts, date)


def read(path: str | Path) -> History:
    """The history in a cohort table or a folder of snapshots, read with the defaults of `Files`."""
    return Files(path=path).history()


def write_predictions(forecast: Forecast, folder: str | Path, date: object) -> tuple[Path, Path]:
    """Write the tables of raw and of final means, one row a cohort, and return their paths.

    Below `folder` stand `Files_Predictions/LTV_predictions_YYYY_MM_DD.csv` and
    `Files_Predictions_Final/LTV_predictions_final_YYYY_MM_DD.csv`; the latter also has P10 and P90
    at `HORIZONS`, blank until calibrated. Cells are revenue per user, to float32; those of ages
    already observed repeat the observed value; D1 to D7 are there if a cohort is younger than 7
    days. Raises ValueError unless the forecast is of all ages from 1 to 360.
    """
    if not np.array_equal(forecast.ages, np.arange(1, AGES)):
        raise ValueError(f"expected a forecast of all ages 1..{AGES - 1}, got {forecast.ages}")
    keys, reason = _keys(forecast.curves), {"reason": forecast.reason}
    means, final_means = _means(forecast, forecast.raw), _means(forecast, forecast.final)
    date_part = str(day(date)).replace("-", "_")
    raw = Path(folder) / "Files_Predictions" / f"LTV_predictions_{date_part}.csv"
    final = Path(folder) / "Files_Predictions_Final" / f"LTV_predictions_final_{date_part}.csv"
    _write_csv({**keys, **means, **reason}, raw)
    _write_csv({**keys, **final_means, **_intervals(forecast), **reason}, final)
    return raw, final


def _keys(curves: Curves) -> Columns:
    start, end = curves.start.astype(str), curves.end.astype(str)
    date = np.where(start == end, start, np.strings.add(np.strings.add(start, "~"), end))
    users, k = curves.users, curves.observed_age
    return {DATE: date, **curves.attributes, USERS: users, "observed_age": k}


def _cells(forecast: Forecast, values: Floats) -> Floats:
    """Forecasts `values` (N, H), and what was observed at the ages before them."""
    cells: Floats = np.where(forecast.open, values, forecast.curves.values[:, forecast.ages])
    return cells


def _means(forecast: Forecast, band: Band) -> Columns:
    first = 1 if (forecast.curves.observed_age < 7).any() else 8
    cells = _cells(forecast, band.mean).T.astype(np.float32, order="C")  # (H, N)
    return {f"P_D{age}": cells[age - 1] for age in range(first, AGES)}


def _intervals(forecast: Forecast) -> Columns:
    bounds = {"P10": forecast.final.p10, "P90": forecast.final.p90}
    cells = {name: _cells(forecast, bound).astype(np.float32) for name, bound in bounds.items()}
    if not forecast.calibrated:
        cells = {name: np.full_like(bound, np.nan) for name, bound in cells.items()}
    return {f"{name}_D{age}": cells[name][:, age - 1] for age in HORIZONS for name in cells}


def _write_csv(columns: Columns, path: Path) -> None:
    cells = {name: pa.array(column, from_pandas=True) for name, column in columns.items()}
    with whole(path) as part:
        arrow_csv.write_csv(pa.table(cells), part)


def write_forecasts(forecasts: Iterable[Forecast], path: str | Path, bundle: str) -> None:
    """Write `forecasts.parquet`, see `written`."""
    for _ in written(forecasts, path, bundle):
        pass


def written(forecasts: Iterable[Forecast], path: str | Path, bundle: str) -> Iterator[Forecast]:
    """Write a long table of the cells that are forecast, and hand each forecast on once written.

    A row group a forecast, a row a cell: the key, users, origin, observed age and value, age,
    pattern, raw and final mean and quantiles in float32, reason and the name of the bundle.
    The file appears when the last forecast was taken. Raises ValueError when there is none.
    """
    with whole(Path(path)) as part, ExitStack() as stack:
        writer = None
        for forecast in forecasts:
            table = _long(forecast, bundle)
            if writer is None:
                writer = stack.enter_context(parquet.ParquetWriter(part, table.schema))
            writer.write_table(table, row_group_size=max(len(table), 1))
            yield forecast
        if writer is None:
            raise ValueError(f"{path}: expected forecasts to write, got none: no cohort had begun")


def _long(forecast: Forecast, bundle: str) -> pa.Table:
    curves = forecast.curves
    row, place = np.nonzero(forecast.open)  # (C,)
    texts = {**curves.attributes, "reason": forecast.reason}
    words = {name: pa.array(cells, pa.string()).take(row) for name, cells in texts.items()}
    bands = {"raw_": forecast.raw, "": forecast.final}
    bounds = {
        f"{stage}{name}": getattr(band, name)[row, place].astype(np.float32)
        for stage, band in bands.items()
        for name in ("mean", "p10", "p50", "p90")
    }
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
            "reason": words["reason"],
            "bundle": pa.repeat(bundle, len(row)),
        }
    )


def write_rollup(forecasts: Iterable[Forecast], path: str | Path, by: str | None = None) -> None:
    """Write `rollup.csv`: sums in currency over the cohorts of each segment and in total.

    Segments are those of the attribute `by` (None: Campaign, or else Source, if there is one).
    A row for each segment and each of `HORIZONS` that was forecast: `cohorts` in the sums and
    `cohorts_left_out` for want of a complete age, `users`, `spend` where known,
    `observed_revenue` up to that age, `forecast_revenue` (final mean, with what was observed),
    and `p10`, `p90`: blank, since bounds of cohorts do not add up to bounds of their sum.
    Raises ValueError when there is no forecast and for an attribute that cohorts lack.
    """
    total = None
    for forecast in forecasts:
        by = _deepest(forecast.curves) if by is None else by
        sums = _sums(forecast, by)
        total = sums if total is None else pd.concat([total, sums])
        total = total.groupby(["segment", "age"]).sum(min_count=1)
    if total is None:
        raise ValueError(f"{path}: expected forecasts to sum up, got none: no cohort had begun")
    overall = pd.concat({"": total.groupby("age").sum(min_count=1)}, names=["segment"])
    levels = {"TOTAL": overall} if not by else {by: total, "TOTAL": overall}
    rollup = pd.concat(levels, names=["level"]).reset_index()
    rollup[["p10", "p90"]] = np.nan
    _write_csv({str(name): rollup[name].to_numpy() for name in rollup}, Path(path))


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
    cells = {
        "segment": curves.attributes[by][row] if by else "",
        "age": age,
        "cohorts": known.astype(np.int64),
        "cohorts_left_out": (~known).astype(np.int64),
        "users": users,
        "spend": np.where(known, curves.spend[row], np.nan),
        "observed_revenue": users * curves.values[row, np.clip(k, 0, age)],
        "forecast_revenue": users * mean[row, np.searchsorted(forecast.ages, age)],
    }
    return pd.DataFrame(cells).groupby(["segment", "age"]).sum(min_count=1)
