"""Cohort tables and snapshots in and out.

Shapes: N cohorts, R vintages, A ages.
"""

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from ltvnet.data.acquisition_dates import OddDates, mark_odd_rows
from ltvnet.data.arrays import ONE_DAY, Floats
from ltvnet.data.attribute_choice import (
    check_hierarchy,
    check_renamed,
    find_late_attributes,
    find_no_attributes,
    rename_values,
)
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
)
from ltvnet.data.columns import DATE, HIERARCHY, ROLES, SPEND, USERS, age_column
from ltvnet.data.curves import Curves, History, parse_day
from ltvnet.data.findings import Finding, log_findings, raise_refusals, report_findings
from ltvnet.data.history_checks import DoubtChoices, InspectedHistory, inspect_history
from ltvnet.data.padding import GrowthCounts, find_padding, find_zeroed_ages
from ltvnet.data.table_files import FaultReport, find_tables, read_blocks
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
    `expected` a table of the same cohorts' expected curves, where they are simulated; `renamed`
    attribute -> old -> new value, for files from before a name was changed; `dropped`,
    `odd_dates` and `scale` as in `DoubtChoices`.
    Raises ValueError for an option outside its range.
    """

    path: str | Path
    hierarchy: Sequence[str] = HIERARCHY
    attributes: Sequence[str] | None = None
    columns: Mapping[str, str] | None = None
    lag_days: int = 0
    partial: Literal["refuse", "mask"] = "refuse"
    revenue: Literal["gross", "net"] = "gross"
    rounding_tolerance: float = 1e-3
    snapshot: str | None = None
    expected: str | None = None
    renamed: Mapping[str, Mapping[str, str]] | None = None
    dropped: Literal["keep", "drop"] = "keep"
    odd_dates: OddDates = "refuse"
    scale: Literal["check", "any"] = "check"

    def __post_init__(self) -> None:
        """Check the options; a hierarchy of one name may be given as text."""
        if isinstance(self.hierarchy, str):
            vars(self)["hierarchy"] = (self.hierarchy,)
        DoubtChoices(dropped=self.dropped, odd_dates=self.odd_dates, scale=self.scale)
        if self.partial not in ("refuse", "mask"):
            raise ValueError(f"expected data.partial=refuse or mask, got {self.partial!r}")
        if self.revenue not in ("gross", "net"):
            raise ValueError(f"expected data.revenue=gross or net, got {self.revenue!r}")
        if not 0 <= self.rounding_tolerance < 1:
            got = self.rounding_tolerance
            raise ValueError(f"expected data.rounding_tolerance from 0 to below 1, got {got}")
        if self.lag_days < 0:
            raise ValueError(f"expected data.lag_days from 0 up, got {self.lag_days}")

        roles = [*ROLES, *self.hierarchy, *(self.attributes or ())]
        if unknown := [role for role in self.columns or () if role not in roles]:
            raise ValueError(f"expected data.columns to name {', '.join(roles)}, got {unknown}")

    def history(self) -> History:
        """Read all vintages of all cohorts; a summary and all that is odd are logged.

        Raises ValueError that lists all that is wrong, with file, row, column, value and way out.
        """
        inspected = self.inspect()
        changes = restatements(inspected.history, self.rounding_tolerance)
        if len(changes):
            log.warning("restated history:\n%s", changes.to_string(index=False))
        log_findings(inspected.findings)
        log.info("%s", summarize_history(inspected.history))
        raise_refusals(inspected.findings)
        return inspected.history

    def inspect(self) -> InspectedHistory:
        """Read all vintages of all cohorts, and find what is odd in them.

        Raises ValueError for what cannot be read or understood.
        """
        report = FaultReport(self.columns or {})
        date_of, findings = self._date_files()
        table_of: dict[Path, ParsedTable] = {}
        for file, date in date_of.items():
            try:
                table_of[file] = next(self._parse(read_blocks(file, _ALL_ROWS), file, date))
            except ValueError as error:
                report.add_file(str(error))
        tables = list(table_of.values())

        names, attribute_findings = self._choose_attributes(tables, report)
        odd_rows, date_findings = mark_odd_rows(tables, self.odd_dates) if tables else ([], [])
        for (file, table), is_odd in zip(table_of.items(), odd_rows, strict=True):
            faults = self._find_faults(table, date_of[file], names, KeyHashes())
            report.add_table(file, faults[~is_odd[faults["row"]]])
            for zeros in find_zeroed_ages(table.values) if len(faults) else ():
                report.add_file(f"{file}: {zeros.as_text()}")
        report.raise_if_any()

        dates = list(date_of.values())
        dated_tables = [
            table.take(np.flatnonzero(~is_odd)) if is_odd.any() else table
            for table, is_odd in zip(tables, odd_rows, strict=True)
        ]
        history = history_from_tables(dated_tables, dates, names, self.hierarchy, self.lag_days)
        earlier_findings = (*findings, *attribute_findings, *date_findings)
        choices = DoubtChoices(dropped=self.dropped, odd_dates=self.odd_dates, scale=self.scale)
        return inspect_history(history, choices, earlier_findings)

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
        date_of, findings = self._date_files()
        ((file, date), *later_files) = date_of.items()
        if not later_files:
            report_findings(findings)
        if later_files:
            yield from self._split(self.history(), rows)
        else:
            yield from self.parse_tables(read_blocks(file, rows), file, date)

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
        """Parse tables, which are blocks of a file, to the curves known at the end of a day.

        `names` of the attributes (None: those of the first block). Raises ValueError for the first
        block in which something is wrong.
        """
        report = FaultReport(self.columns or {})
        keys = KeyHashes()
        rows_read = 0
        left_out = 0
        left_out_columns: list[str] = []
        for table in self._parse(tables, file, date):
            if names is None:
                names, findings = self._choose_attributes([table], report)
                report_findings(findings)
                left_out_columns = table.text_labels(exclude=names)
            self._refuse_late_text(table, [*names, *left_out_columns], file, rows_read)
            (is_odd,), findings = mark_odd_rows([table], self.odd_dates)
            report_findings(findings)
            faults = self._find_faults(table, date, names, keys)
            report.add_table(file, faults[~is_odd[faults["row"]]], rows_read)
            report.raise_if_any()

            dated_table = table.take(np.flatnonzero(~is_odd)) if is_odd.any() else table
            curves = dated_table.to_curves(date, names, self.hierarchy, self.lag_days)
            rows_read += len(table)
            left_out += len(dated_table) - len(curves)
            if len(curves):
                yield curves
        _log_left_out(left_out, date)

    def _refuse_late_text(
        self, table: ParsedTable, names: list[str], file: Path, rows_read: int
    ) -> None:
        """Raise ValueError for a column that would be an attribute, had text come earlier in it."""
        if self.attributes is not None:
            return
        if late := find_late_attributes(table, names):
            problem = f"{file}: {', '.join(sorted(late))} had only numbers up to row {rows_read}"
            raise ValueError(f"{problem}, now text; set data.attributes to say what to use")

    def last_complete_day(self, tables: Iterable[pa.Table], file: Path) -> np.datetime64:
        """Find the last day on which any age in tables, which are blocks of a file, was complete.

        NaT where no value is known.
        """
        unknown = np.datetime64("NaT", "D")
        last_days = [table.last_complete_day() for table in self._parse(tables, file, None)]
        latest: np.datetime64 = np.fmax.reduce(np.array([unknown, *last_days]))
        last_day: np.datetime64 = latest + self.lag_days * ONE_DAY
        return last_day

    def _date_files(self) -> tuple[dict[Path, np.datetime64], list[Finding]]:
        """Find the files to read and their as-of days, by day, and what is odd in these."""
        path = Path(self.path).expanduser()
        if self.snapshot is not None and path.is_dir():
            raise ValueError(f"{path}: data.snapshot is for one file; in a folder names have dates")
        if self.snapshot is not None:
            return dict.fromkeys(find_tables(path), parse_day(self.snapshot)), []
        findings: list[Finding] = []
        date_of: dict[Path, np.datetime64] = {}
        for file, date in find_tables(path).items():
            if date is None:
                date_of[file], padding = self._date_by_content(file)
                findings += padding
            else:
                date_of[file] = date
        return date_of, findings

    def _date_by_content(self, file: Path) -> tuple[np.datetime64, list[Finding]]:
        """Take the last complete day of a file as its as-of day, unless cells were filled in."""
        last_day = np.datetime64("NaT", "D")
        growth = GrowthCounts()
        for table in self._parse(read_blocks(file, _ROWS_TO_DATE), file, None):
            last_day = np.fmax(last_day, table.last_complete_day())
            growth.add(table.end, table.values)
        if np.isnat(last_day):
            raise ValueError(f"{file}: no value tells its as-of date; set data.snapshot")
        as_of = last_day + self.lag_days * ONE_DAY
        log.info("%s: as of %s, its last complete day (else set data.snapshot)", file, as_of)
        return as_of, find_padding(growth, as_of, self.lag_days)

    def _parse(
        self, tables: Iterable[pa.Table], file: Path, date: np.datetime64 | None
    ) -> Iterator[ParsedTable]:
        """Parse blocks of the table in a file, masking values after `date` if asked to."""
        layout: TableLayout | None = None
        for block in filter(len, tables):
            renamed_block = rename_columns(file, block, self.columns or {})
            if layout is None:
                layout = TableLayout.from_schema(file, renamed_block.schema)
            table = ParsedTable.from_table(renamed_block, layout)
            if date is not None and self.partial == "mask":
                table = self._mask_late_values(file, table, date)
            yield rename_values(table, self.renamed or {})

    def _mask_late_values(self, file: Path, table: ParsedTable, date: np.datetime64) -> ParsedTable:
        """Mask values at ages that cannot be complete at a day; their number is logged."""
        masked_table = table.mask_after(self._last_possible_age(table, date))
        if masked_cells := table.value_count - masked_table.value_count:
            log.info("%s: masked %d values later than %s", file, masked_cells, date)
        return masked_table

    def _last_possible_age(self, table: ParsedTable, date: np.datetime64) -> Floats:
        """Last age of each row (N,) that is complete at a day, NaN where the end is unknown."""
        age: Floats = (date - table.end) / ONE_DAY - self.lag_days
        return age

    def _find_faults(
        self, table: ParsedTable, date: np.datetime64, names: list[str], keys: KeyHashes
    ) -> pd.DataFrame:
        """Find the faults of a table, among them cohorts whose key stood in an earlier block."""
        tolerance = self.rounding_tolerance if self.revenue == "gross" else None
        faults = find_faults(table, self._last_possible_age(table, date), tolerance)
        duplicates = find_duplicates(table, names, keys)
        if not len(faults) and not len(duplicates):
            return faults
        return pd.concat([faults, duplicates]).sort_values("row", kind="stable")

    def _choose_attributes(
        self, tables: Sequence[ParsedTable], report: FaultReport
    ) -> tuple[list[str], list[Finding]]:
        """Choose the attributes: those of the hierarchy, and the configured ones or all of text.

        Columns of text that are no attributes are left out; what is odd is returned, too.
        """
        findings = [
            *check_hierarchy(self.hierarchy, HIERARCHY, tables),
            *check_renamed(self.renamed or {}, tables),
        ]
        present = list(dict.fromkeys(name for table in tables for name in table.labels))
        if self.attributes is None:
            text_names = {name for table in tables for name in table.text_labels()}
            candidates = [name for name in present if name in text_names | set(self.hierarchy)]
            no_attributes = find_no_attributes(tables, candidates, self.hierarchy)
            findings += no_attributes.values()
            wanted = text_names - set(no_attributes)
        else:
            wanted = set(self.attributes)
            missing = [name for name in self.attributes if name not in present]
            if tables and missing:
                report.add_file(f"expected data.attributes out of {present}, got also {missing}")

        names = [name for name in present if name in wanted or name in self.hierarchy]
        if unused := [name for name in present if name not in names]:
            log.info("not modelled (see data.attributes): %s", ", ".join(unused))
        return names, findings


def _log_left_out(cohorts: int, date: np.datetime64) -> None:
    """Log how many cohorts have not begun by the as-of day."""
    if cohorts:
        log.warning("%d cohorts start after %s and are left out", cohorts, date)


def read(path: str | Path) -> History:
    """Read the history in a cohort table or a folder of snapshots by the defaults of `Files`."""
    return Files(path=path).history()


def write_cohorts(curves: Curves, path: str | Path) -> None:
    """Write what is known of cohorts as a table that `Files` reads: Parquet or else CSV, by name.

    Columns are Date, the attributes, Users, Spend if any is known, day_0 to the last age that a
    cohort reached, and each further series at the ages at which any of it is known, exact to the
    last digit.
    """
    columns = key_columns(curves)
    if np.isfinite(curves.spend).any():
        columns[SPEND] = curves.spend
    for age in range(curves.observed_age.max(initial=0) + 1):
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
