"""Cohort tables and snapshots in and out, prediction tables out.

Shapes: N cohorts, R vintages, A ages.
"""

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from ltvnet.data.arrays import Floats
from ltvnet.data.checks import (
    KeyHashes,
    find_duplicates,
    find_faults,
    restatements,
    summarize_history,
)
from ltvnet.data.cohort_rows import ParsedTable, TableLayout, history_from_tables, rename_columns
from ltvnet.data.columns import DATE, ROLES, SPEND, USERS
from ltvnet.data.curves import Curves, History, parse_day
from ltvnet.data.table_files import FaultReport, find_tables, read_blocks
from ltvnet.storage import atomic_write

log = logging.getLogger(__name__)

ColumnArrays = dict[str, NDArray[Any]]
"""A table by the names of its columns: (N,) each."""

_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True, kw_only=True)
class Files:
    """Cohort tables on disk: one CSV, CSV.gz or Parquet file, or a folder with a snapshot a file.

    Columns NAME_day_0, NAME_day_1 ... of any name and ages are further series beside the curve.
    `path` the file or folder; `hierarchy` attributes along which segments shrink, those of them
    that the tables have; `attributes` further ones (None: every column of text); `columns` part
    -> name of the column that plays it, as in {"Users": "Installs"}; `lag_days` days after
    which the revenue of a day is complete; `partial` what to do with values later than the as-of
    date (refuse, mask); `revenue` whether a fall of a curve is wrong (gross) or a refund (net);
    `rounding_tolerance` relative change that counts as rounding; `snapshot` as-of day of a single
    file (None: the date in its name, or else the last day on which an age in it was complete);
    `expected` a table of the same cohorts' expected curves, where they are simulated.
    Raises ValueError for an option outside its range.
    """

    path: str | Path
    hierarchy: Sequence[str] = ("Apps", "Source", "Campaign", "Country", "OS")
    attributes: Sequence[str] | None = None
    columns: Mapping[str, str] | None = None
    lag_days: int = 0
    partial: str = "refuse"
    revenue: str = "gross"
    rounding_tolerance: float = 1e-3
    snapshot: str | None = None
    expected: str | None = None

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
        if unknown := [part for part in self.columns or () if part not in parts]:
            raise ValueError(f"expected data.columns to name {', '.join(parts)}, got {unknown}")

    def history(self) -> History:
        """All vintages of all cohorts; a summary of the data is logged.

        Raises ValueError that lists all that is wrong, with file, row, column, value and way out.
        """
        report = FaultReport(self.columns or {})
        dates = self._dates()
        sheets: dict[Path, ParsedTable] = {}
        for file, date in dates.items():
            try:
                sheets[file] = next(self._sheets(read_blocks(file, sys.maxsize), file, date))
            except ValueError as error:
                report.add_file(str(error))
        names = self._attributes(list(sheets.values()), report)
        for file, sheet in sheets.items():
            report.add_table(file, self._faults(sheet, dates[file], names, KeyHashes()))
        report.raise_if_any()
        parts = list(sheets.values()), list(dates.values())
        history = history_from_tables(*parts, names, self.hierarchy, self.lag_days)
        if len(changes := restatements(history, self.rounding_tolerance)):
            log.warning("restated history:\n%s", changes.to_string(index=False))
        log.info("%s", summarize_history(history))
        return history

    def default_origin(self, history: History) -> np.datetime64:
        """The day of the newest snapshot."""
        return history.last_day

    def standard_errors(self) -> None:
        """None: a cohort table does not say how its users differ."""
        return

    def truth(self) -> Curves | None:
        """The expected curves as of the newest day in their table; None where there is none.

        Raises ValueError like `history`.
        """
        if self.expected is None:
            return None
        known = replace(self, path=self.expected, expected=None).history()
        return known.as_of(known.last_day)

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
            yield from self.parse_tables(read_blocks(file, rows), file, date)

    def _pieces(self, history: History, rows: int) -> Iterator[Curves]:
        curves = history.as_of(history.last_day)
        later = history.index[history.start > history.last_day].nunique()
        _log_left_out(later, history.last_day)
        for first in range(0, len(curves), rows):
            yield curves.take(np.arange(first, min(first + rows, len(curves))))

    def parse_tables(
        self,
        tables: Iterable[pa.Table],
        file: Path,
        date: np.datetime64,
        names: list[str] | None = None,
    ) -> Iterator[Curves]:
        """What was known on a day of the cohorts in tables, which are blocks of a file.

        `names` of the attributes (None: those of the first block). Raises ValueError for the first
        block in which something is wrong.
        """
        report, seen = FaultReport(self.columns or {}), KeyHashes()
        read = left_out = 0
        for sheet in self._sheets(tables, file, date):
            names = self._attributes([sheet], report) if names is None else names
            if self.attributes is None and (late := sheet.text_labels(exclude=names)):
                found = f"{file}: {', '.join(sorted(late))} had only numbers up to row {read}"
                raise ValueError(f"{found}, now text; set data.attributes to say what to use")
            report.add_table(file, self._faults(sheet, date, names, seen), read)
            report.raise_if_any()
            curves = sheet.to_curves(date, names, self.hierarchy, self.lag_days)
            read += len(sheet)
            left_out += len(sheet) - len(curves)
            if len(curves):
                yield curves
        _log_left_out(left_out, date)

    def last_complete_day(self, tables: Iterable[pa.Table], file: Path) -> np.datetime64:
        """The last day on which any age in tables, which are blocks of a file, was complete.

        NaT where no value is known.
        """
        days = [sheet.last_complete_day() for sheet in self._sheets(tables, file, None)]
        none = np.datetime64("NaT", "D")
        last: np.datetime64 = np.fmax.reduce(np.array([none, *days])) + self.lag_days * _DAY
        return last

    def _dates(self) -> dict[Path, np.datetime64]:
        """Files to read and their as-of days, by day."""
        path = Path(self.path).expanduser()
        if self.snapshot is not None and path.is_dir():
            raise ValueError(f"{path}: data.snapshot is for one file; in a folder names have dates")
        if self.snapshot is not None:
            return dict.fromkeys(find_tables(path), parse_day(self.snapshot))
        found = find_tables(path).items()
        return {file: self._last_day(file) if date is None else date for file, date in found}

    def _last_day(self, file: Path) -> np.datetime64:
        last = self.last_complete_day(read_blocks(file, 1 << 14), file)
        if np.isnat(last):
            raise ValueError(f"{file}: no value tells its as-of date; set data.snapshot")
        log.info("%s: as of %s, its last complete day (else set data.snapshot)", file, last)
        return last

    def _sheets(
        self, tables: Iterable[pa.Table], file: Path, date: np.datetime64 | None
    ) -> Iterator[ParsedTable]:
        """Blocks of the table in a file, parsed."""
        layout = None
        for block in filter(len, tables):
            table = rename_columns(file, block, self.columns or {})
            layout = layout or TableLayout.from_schema(file, table.schema)
            sheet = ParsedTable.from_table(table, layout)
            if date is not None and self.partial == "mask":
                sheet = self._masked(file, sheet, date)
            yield sheet

    def _masked(self, file: Path, sheet: ParsedTable, date: np.datetime64) -> ParsedTable:
        masked = sheet.mask_after(self._last(sheet, date))
        if cells := sheet.count_values - masked.count_values:
            log.info("%s: masked %d values later than %s", file, cells, date)
        return masked

    def _last(self, sheet: ParsedTable, date: np.datetime64) -> Floats:
        """The last age of each row (N,) that is complete at a day, NaN where the end is unknown."""
        age: Floats = (date - sheet.end) / _DAY - self.lag_days
        return age

    def _faults(
        self, sheet: ParsedTable, date: np.datetime64, names: list[str], seen: KeyHashes
    ) -> pd.DataFrame:
        tolerance = self.rounding_tolerance if self.revenue == "gross" else None
        found = find_faults(sheet, self._last(sheet, date), tolerance)
        twice = find_duplicates(sheet, names, seen)
        if not len(found) and not len(twice):
            return found
        return pd.concat([found, twice]).sort_values("row", kind="stable")

    def _attributes(self, sheets: Sequence[ParsedTable], report: FaultReport) -> list[str]:
        """The names of attributes: those of the hierarchy, and the chosen ones or all of text."""
        present = list(dict.fromkeys(name for sheet in sheets for name in sheet.labels))
        chosen = self.attributes
        if missing := [name for name in chosen or () if sheets and name not in present]:
            report.add_file(f"expected data.attributes out of {present}, got also {missing}")
        if chosen is None:
            chosen = [name for sheet in sheets for name in sheet.text_labels()]
        names = [name for name in present if name in chosen or name in self.hierarchy]
        if unused := [name for name in present if name not in names]:
            log.info("not modelled (see data.attributes): %s", ", ".join(unused))
        return names


def _log_left_out(cohorts: int, date: np.datetime64) -> None:
    if cohorts:
        log.warning("%d cohorts start after %s and are left out", cohorts, date)


def read(path: str | Path) -> History:
    """The history in a cohort table or a folder of snapshots, read with the defaults of `Files`."""
    return Files(path=path).history()


def write_cohorts(curves: Curves, path: str | Path) -> None:
    """Write what is known of cohorts as a table that `Files` reads: Parquet or else CSV, by name.

    Columns are Date, the attributes, Users, Spend if any is known, day_0 to the last age that a
    cohort reached, and each further series at the ages at which any of it is known, exact to the
    last digit.
    """
    spend = {SPEND: curves.spend} if np.isfinite(curves.spend).any() else {}
    last = curves.observed_age.max(initial=0)
    ages = {f"day_{age}": curves.values[:, age] for age in range(last + 1)}
    further = {
        f"{name}_day_{age}": cells[:, age]
        for name, cells in curves.series.items()
        for age in np.flatnonzero(np.isfinite(cells).any(axis=0))
    }
    _write({**key_columns(curves), **spend, **ages, **further}, Path(path))


def key_columns(curves: Curves) -> ColumnArrays:
    """The columns that say which cohort a row is, and how large: Date, the attributes, Users."""
    start, end = curves.start.astype(str), curves.end.astype(str)
    date = np.where(start == end, start, np.strings.add(np.strings.add(start, "~"), end))
    return {DATE: date, **curves.attributes, USERS: curves.users}


def _write(columns: ColumnArrays, path: Path) -> None:
    table = pa.table({name: pa.array(cells, from_pandas=True) for name, cells in columns.items()})
    write = parquet.write_table if path.suffix == ".parquet" else arrow_csv.write_csv
    with atomic_write(path) as part:
        write(table, part)
