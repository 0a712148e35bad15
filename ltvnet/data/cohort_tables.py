"""Cohort tables and snapshots in and out.

Shapes: N cohorts, R vintages, A ages.
"""

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from ltvnet.data.arrays import ONE_DAY, Floats, Ints
from ltvnet.data.checks import (
    KeyHashes,
    find_duplicates,
    find_faults,
    restatements,
    summarize_history,
)
from ltvnet.data.cohort_rows import (
    ParsedTable,
    TableLayout,
    history_from_tables,
    rename_columns,
    values_after,
)
from ltvnet.data.columns import DATE, ROLES, SPEND, USERS, age_column
from ltvnet.data.curves import Curves, History, parse_day
from ltvnet.data.importers.cohort_blocks import CohortBlock
from ltvnet.data.importers.cohort_reader import CohortReader
from ltvnet.data.importers.column_mapping import AGE, VALUE
from ltvnet.data.importers.table_format import TableFormat
from ltvnet.data.table_files import FaultReport, TableFile, empty_fault_table, find_tables
from ltvnet.storage import atomic_write

log = logging.getLogger(__name__)

ColumnArrays = dict[str, NDArray[Any]]
"""A table by the names of its columns: (N,) each."""

_ALL_ROWS = sys.maxsize
_ROWS_TO_DATE = 1 << 14  # rows in memory at once to find the last complete day of a file


@dataclass(frozen=True, kw_only=True)
class Files:
    """Cohort tables on disk: one CSV, CSV.gz or Parquet file, or a folder with a snapshot a file.

    Columns NAME_day_0, NAME_day_1 ... of any name and ages are further series beside the curve.
    `path` the file or folder; `hierarchy` attributes along which segments shrink, those of them
    that the tables have; `attributes` further ones (None: every column of text); `columns` role
    -> name of the column that plays it, as in {"Users": "Installs"}; `lag_days` days after
    which the revenue of a day is complete; `partial` what to do with values later than the as-of
    date (refuse, mask); `revenue` whether a fall of a curve is wrong (gross) or a refund (net);
    `rounding_tolerance` relative change that counts as rounding; `snapshot` as-of day of a single
    file (None: the date in its name, or else the last day on which an age in it was complete);
    `expected` a table of the same cohorts' expected curves, where they are simulated; `format` how
    tables are written, as far as they do not say it themselves.
    Raises ValueError for an option outside its range.
    """

    path: str | Path
    hierarchy: Sequence[str] = ("Apps", "Source", "Campaign", "Country", "OS")
    attributes: Sequence[str] | None = None
    columns: Mapping[str, str] | None = None
    lag_days: int = 0
    partial: Literal["refuse", "mask"] = "refuse"
    revenue: Literal["gross", "net"] = "gross"
    rounding_tolerance: float = 1e-3
    snapshot: str | None = None
    expected: str | None = None
    format: TableFormat = TableFormat()

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

        roles = [*ROLES, AGE, VALUE, *self.hierarchy, *(self.attributes or ())]
        if unknown := [role for role in self.columns or () if role not in roles]:
            raise ValueError(f"expected data.columns to name {', '.join(roles)}, got {unknown}")

    def history(self) -> History:
        """Read all vintages of all cohorts; a summary of the data is logged.

        Raises ValueError that lists all that is wrong, with file, row, column, value and way out.
        """
        date_of = self._find_dates()
        report = FaultReport({})
        block_of: dict[Path, ParsedBlock] = {}
        for file, date in date_of.items():
            try:
                block_of[file] = next(self._parse_file(file, _ALL_ROWS, date))
            except ValueError as error:
                report.add_file(str(error))
        tables = [block.table for block in block_of.values()]

        report.columns = self._column_names()
        names = self._choose_attributes(tables, report)
        for file, block in block_of.items():
            faults = self._find_faults(block, date_of[file], names, KeyHashes())
            report.add_table(self._reader.table(file), faults)
        report.raise_if_any()

        dates = list(date_of.values())
        history = history_from_tables(tables, dates, names, self.hierarchy, self.total_lag_days)
        changes = restatements(history, self.rounding_tolerance)
        if len(changes):
            log.warning("restated history:\n%s", changes.to_string(index=False))
        log.info("%s", summarize_history(history))
        return history

    def truth(self) -> Curves | None:
        """Read the expected curves as of the newest day in their table; None where there is none.

        Raises ValueError like `history`.
        """
        if self.expected is None:
            return None
        expected = replace(self, path=self.expected, expected=None).history()
        return expected.as_of(expected.last_day)

    def default_origin(self, history: History) -> np.datetime64:
        """Return the day of the newest snapshot."""
        return history.last_day

    def standard_errors(self) -> None:
        """Return None: a cohort table does not say how its users differ."""
        return

    def curves(self, rows: int) -> Iterator[Curves]:
        """Read the curves known at the end of the as-of day, at most `rows` cohorts at a time.

        A single file is read as a stream: memory is bounded by `rows`, and cohorts are sorted by
        key within each piece. Of a folder the newest vintages are cut into pieces.
        Raises ValueError like `history`, for the first piece in which something is wrong.
        """
        if rows < 1:
            raise ValueError(f"expected at least one row in a piece, got {rows}")
        ((file, date), *later_files) = self._find_dates().items()
        if later_files:
            yield from self._split(self.history(), rows)
        else:
            blocks = self._parse_file(file, rows, date)
            yield from self._check_blocks(blocks, self._reader.table(file), date, None)

    def _split(self, history: History, rows: int) -> Iterator[Curves]:
        """Split the newest curves of a history into pieces of at most `rows` cohorts."""
        curves = history.as_of(history.last_day)
        is_later = history.start > history.last_day
        _log_left_out(history.index[is_later].nunique(), history.last_day)
        for first in range(0, len(curves), rows):
            yield curves.take(np.arange(first, min(first + rows, len(curves))))

    def parse_tables(
        self,
        tables: Iterable[pa.Table],
        file: Path,
        date: np.datetime64,
        names: list[str] | None = None,
    ) -> Iterator[Curves]:
        """Parse tables of ltvnet's own columns, which are blocks of a file, to curves of a day.

        `names` of the attributes (None: those of the first block). Raises ValueError for the first
        block in which something is wrong.
        """
        blocks = self._parse_blocks(self._own_blocks(tables, file), file, date, self.lag_days)
        yield from self._check_blocks(blocks, TableFile(file), date, names)

    def _check_blocks(
        self,
        blocks: Iterable["ParsedBlock"],
        file: TableFile,
        date: np.datetime64,
        names: list[str] | None,
    ) -> Iterator[Curves]:
        """Check blocks and yield the curves in them known at the end of a day."""
        report = FaultReport(self._column_names())
        keys = KeyHashes()
        rows_read = 0
        left_out = 0
        for block in blocks:
            table = block.table
            if names is None:
                names = self._choose_attributes([table], report)
            self._refuse_late_text(table, names, file.path, rows_read)
            report.add_table(file, self._find_faults(block, date, names, keys))
            report.raise_if_any()

            curves = table.to_curves(date, names, self.hierarchy, block.lag_days)
            rows_read += len(table)
            left_out += len(table) - len(curves)
            if len(curves):
                yield curves
        _log_left_out(left_out, date)

    def _refuse_late_text(
        self, table: ParsedTable, names: list[str], file: Path, rows_read: int
    ) -> None:
        """Raise ValueError for a column that would be an attribute, had text come earlier in it."""
        if self.attributes is not None:
            return
        if late := table.text_labels(exclude=names):
            problem = f"{file}: {', '.join(sorted(late))} had only numbers up to row {rows_read}"
            raise ValueError(f"{problem}, now text; set data.attributes to say what to use")

    def last_complete_day(self, tables: Iterable[pa.Table], file: Path) -> np.datetime64:
        """Find the last day on which any age in tables, which are blocks of a file, was complete.

        The tables have ltvnet's own columns. NaT where no value is known.
        """
        blocks = self._parse_blocks(self._own_blocks(tables, file), file, None, self.lag_days)
        return _last_day_with_values(blocks)

    def _find_dates(self) -> dict[Path, np.datetime64]:
        """Find the files to read and their as-of days, by day."""
        path = Path(self.path).expanduser()
        if self.snapshot is not None and path.is_dir():
            raise ValueError(f"{path}: data.snapshot is for one file; in a folder names have dates")
        if self.snapshot is not None:
            return dict.fromkeys(find_tables(path), parse_day(self.snapshot))
        return {
            file: self._date_by_content(file) if date is None else date
            for file, date in find_tables(path).items()
        }

    def _date_by_content(self, file: Path) -> np.datetime64:
        """Take the last complete day of a file as its as-of day, which is logged."""
        last_day = _last_day_with_values(self._parse_file(file, _ROWS_TO_DATE, None))
        if np.isnat(last_day):
            raise ValueError(f"{file}: no value tells its as-of date; set data.snapshot")
        log.info("%s: as of %s, its last complete day (else set data.snapshot)", file, last_day)
        return last_day

    @cached_property
    def _reader(self) -> CohortReader:
        """Reader of all files, which knows their layout and conventions."""
        spoken_of = frozenset([*self.hierarchy, *(self.attributes or ())])
        files = list(find_tables(Path(self.path).expanduser()))
        return CohortReader.open(files, self.format, self.columns or {}, spoken_of)

    @property
    def total_lag_days(self) -> int:
        """Days after which the revenue of a day is complete, by the user's word and the layout."""
        return self.lag_days + self._reader.extra_lag_days

    def _column_names(self) -> dict[str, str]:
        """Name of a column in the files by ltvnet's own name, for messages."""
        names = dict(self.columns or {})
        if "_reader" in vars(self):
            for file in self._reader.files:
                names |= self._reader.column_names(file)
        return names

    def _own_blocks(self, tables: Iterable[pa.Table], file: Path) -> Iterator[CohortBlock]:
        """Yield blocks of a file that has ltvnet's own columns, but for those that have a role."""
        first_row = 0
        for table in tables:
            rows = np.arange(first_row, first_row + len(table))
            own_table = rename_columns(file, table, self.columns or {})
            yield CohortBlock(own_table, rows, empty_fault_table())
            first_row += len(table)

    def _parse_file(
        self, file: Path, rows: int, date: np.datetime64 | None
    ) -> Iterator["ParsedBlock"]:
        """Read and parse a file in blocks of at most so many rows."""
        blocks = self._reader.blocks(file, rows)
        return self._parse_blocks(blocks, file, date, self.total_lag_days)

    def _parse_blocks(
        self,
        blocks: Iterable[CohortBlock],
        file: Path,
        date: np.datetime64 | None,
        lag_days: int,
    ) -> Iterator["ParsedBlock"]:
        """Parse blocks of the table in a file, masking values after `date` if asked to."""
        layout: TableLayout | None = None
        for block in blocks:
            if not len(block.table):
                continue
            if layout is None:
                layout = TableLayout.from_schema(file, block.table.schema)
            table = ParsedTable.from_table(block.table, layout)
            parsed = ParsedBlock(table, block.source_rows, block.faults, lag_days)
            if date is not None:
                if block.is_without_revenue is not None:
                    filled = table.fill_zeros(
                        block.is_without_revenue, parsed.last_possible_age(date)
                    )
                    parsed = parsed._replace(table=filled)
                parsed = self._mask_late_values(file, parsed, date)
            yield parsed

    def _mask_late_values(
        self, file: Path, block: "ParsedBlock", date: np.datetime64
    ) -> "ParsedBlock":
        """Mask values at ages that are not complete at a day, if asked to; their number is logged.

        Ages that are complete by the calendar, but not by how a platform counts or is late, are
        always masked.
        """
        last_age = block.last_possible_age(date)
        if self.partial == "refuse":
            if block.lag_days == self.lag_days:
                return block
            by_calendar = last_age + (block.lag_days - self.lag_days)
            is_later = values_after(block.table.values, by_calendar).any(axis=1)
            last_age = np.where(is_later, np.inf, last_age)
        masked_table = block.table.mask_after(last_age)
        if masked_cells := block.table.value_count - masked_table.value_count:
            log.info("%s: masked %d values later than %s", file, masked_cells, date)
        return block._replace(table=masked_table)

    def _find_faults(
        self, block: "ParsedBlock", date: np.datetime64, names: list[str], keys: KeyHashes
    ) -> pd.DataFrame:
        """Find the faults of a block, by rows of its file.

        Among them are cohorts whose key stood in an earlier block.
        """
        tolerance = self.rounding_tolerance if self.revenue == "gross" else None
        table = block.table
        faults = find_faults(table, block.last_possible_age(date), tolerance)
        duplicates = find_duplicates(table, names, keys)
        if not len(faults) and not len(duplicates) and not len(block.faults):
            return faults
        found = pd.concat([faults, duplicates])
        found["row"] = block.source_rows[found["row"].to_numpy(dtype=np.int64)]
        every_fault = pd.concat([block.faults, found]).drop_duplicates(["row", "column"])
        return every_fault.sort_values("row", kind="stable")

    def _choose_attributes(self, tables: Sequence[ParsedTable], report: FaultReport) -> list[str]:
        """Choose the attributes: those of the hierarchy, and the configured ones or all of text."""
        present = list(dict.fromkeys(name for table in tables for name in table.labels))
        if self.attributes is None:
            wanted = {name for table in tables for name in table.text_labels()}
        else:
            wanted = set(self.attributes)
            missing = [name for name in self.attributes if name not in present]
            if tables and missing:
                report.add_file(f"expected data.attributes out of {present}, got also {missing}")

        names = [name for name in present if name in wanted or name in self.hierarchy]
        if unused := [name for name in present if name not in names]:
            log.info("not modelled (see data.attributes): %s", ", ".join(unused))
        return names


class ParsedBlock(NamedTuple):
    """Rows of a file, parsed.

    `table` (N rows); `source_rows` (N,) in which they stand in the file; `faults` of cells, by
    rows of the file; `lag_days` after which the revenue of a day is complete.
    """

    table: ParsedTable
    source_rows: Ints
    faults: pd.DataFrame
    lag_days: int

    def last_possible_age(self, date: np.datetime64) -> Floats:
        """Last age of each row (N,) that is complete at a day, NaN where the end is unknown."""
        age: Floats = (date - self.table.end) / ONE_DAY - self.lag_days
        return age


def _last_day_with_values(blocks: Iterable[ParsedBlock]) -> np.datetime64:
    """Find the last day on which any age was complete; NaT where no value is known."""
    unknown = np.datetime64("NaT", "D")
    last_days = [block.table.last_complete_day() + block.lag_days * ONE_DAY for block in blocks]
    latest: np.datetime64 = np.fmax.reduce(np.array([unknown, *last_days]))
    return latest


def _log_left_out(cohorts: int, date: np.datetime64) -> None:
    """Log how many cohorts have not begun by the as-of day."""
    if cohorts:
        log.warning("%d cohorts start after %s and are left out", cohorts, date)


def write_cohorts(curves: Curves, path: str | Path) -> None:
    """Write what is known of cohorts as a table that `Files` reads: Parquet or else CSV, by name.

    Columns are Date, the attributes, Users, Spend if any is known, the curve at the exported ages
    up to the last that a cohort reached, and each further series at the ages at which any of it is
    known, exact to the last digit.
    """
    columns = key_columns(curves)
    if np.isfinite(curves.spend).any():
        columns[SPEND] = curves.spend
    last_age = curves.observed_age.max(initial=0)
    for age in curves.exported_ages:
        if age <= last_age:
            columns[age_column("", age)] = curves.values[:, age]
    for series, cells in curves.series.items():
        known_ages = np.flatnonzero(np.isfinite(cells).any(axis=0)).tolist()
        for age in known_ages:
            columns[age_column(series, age)] = cells[:, age]
    _write_table(columns, Path(path))


def key_columns(curves: Curves) -> ColumnArrays:
    """Return the columns that say which cohort a row is, and how large.

    Date (a day or a range "first~last"), the attributes, and Users.
    """
    start = curves.start.astype(str)
    end = curves.end.astype(str)
    date_range = np.strings.add(np.strings.add(start, "~"), end)
    date = np.where(start == end, start, date_range)
    return {DATE: date, **curves.attributes, USERS: curves.users}


def _write_table(columns: ColumnArrays, path: Path) -> None:
    """Write columns as Parquet or, by the name of the file, CSV; NaN is an empty cell."""
    cells = {name: pa.array(column, from_pandas=True) for name, column in columns.items()}
    table = pa.table(cells)
    write = parquet.write_table if path.suffix == ".parquet" else arrow_csv.write_csv
    with atomic_write(path) as temporary:
        write(table, temporary)
