"""Cohort tables and snapshots in and out.

Shapes: N cohorts, R vintages, A ages.
"""

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from ltvnet.data.acquisition_dates import NO_RANGES, DateTally, OddDates, mark_odd_rows, mark_ranges
from ltvnet.data.arrays import ONE_DAY, Bools
from ltvnet.data.attribute_choice import (
    check_hierarchy,
    check_renamed,
    find_late_attributes,
    find_no_attributes,
    find_spellings,
)
from ltvnet.data.checks import KeyHashes, restatements, summarize_history
from ltvnet.data.cohort_rows import ParsedTable, history_from_tables, rename_columns
from ltvnet.data.columns import DATE, HIERARCHY, ROLES, SPEND, USERS, age_column
from ltvnet.data.curves import EVERY_AGE, Curves, History, parse_day
from ltvnet.data.findings import Finding, log_findings, raise_refusals, report_findings
from ltvnet.data.history_checks import DoubtChoices, InspectedHistory, check_curves, inspect_history
from ltvnet.data.importers.cohort_blocks import CohortBlock
from ltvnet.data.importers.cohort_reader import CohortReader
from ltvnet.data.importers.column_mapping import AGE, VALUE
from ltvnet.data.importers.cost_files import add_cost
from ltvnet.data.importers.table_format import TableFormat
from ltvnet.data.padding import GrowthCounts, find_padding, find_zeroed_ages
from ltvnet.data.parsed_blocks import BlockParser, ParsedBlock, Partial
from ltvnet.data.row_counts import estimate_rows
from ltvnet.data.table_files import (
    FaultReport,
    TableFile,
    empty_fault_table,
    find_tables,
    name_file,
)
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
    `expected` a table of the same cohorts' expected curves, where they are simulated; `cost` a file
    or folder of what advertising cost, which becomes the spend, and `cost_spread` whether a row of
    several days is divided evenly among them; `format` how tables are written, as far as they do
    not say it themselves; `renamed` attribute -> old -> new value, for files from before a name was
    changed; `dropped`, `odd_dates` and `scale` as in `DoubtChoices`.
    Raises ValueError for an option outside its range.
    """

    path: str | Path
    hierarchy: Sequence[str] = HIERARCHY
    attributes: Sequence[str] | None = None
    columns: Mapping[str, str] | None = None
    lag_days: int = 0
    partial: Partial = "refuse"
    revenue: Literal["gross", "net"] = "gross"
    rounding_tolerance: float = 1e-3
    snapshot: str | None = None
    expected: str | None = None
    cost: str | Path | None = None
    cost_spread: bool = False
    format: TableFormat = TableFormat()
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

        roles = [*ROLES, AGE, VALUE, *self.hierarchy, *(self.attributes or ())]
        if unknown := [role for role in self.columns or () if role not in roles]:
            raise ValueError(f"expected data.columns to name {', '.join(roles)}, got {unknown}")

    def history(self) -> History:
        """Read all vintages of all cohorts; a summary of the data is logged.

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
        date_of, findings = self._date_files()
        report = FaultReport({})
        block_of: dict[Path, ParsedBlock] = {}
        for file, date in date_of.items():
            try:
                (block_of[file],) = self._parse_file(file, _ALL_ROWS, date)  # to its last word
            except ValueError as error:
                report.add_file(str(error))
        tables = [block.table for block in block_of.values()]

        report.columns = self._column_names()
        names, attribute_findings = self._choose_attributes(tables, report)
        odd_rows, date_findings = mark_odd_rows(tables, self.odd_dates) if tables else ([], [])
        for (file, block), is_odd in zip(block_of.items(), odd_rows, strict=True):
            faults = self._parser.find_faults(block, date_of[file], names, KeyHashes(), is_odd)
            report.add_table(self._reader.table(file), faults)
            for zeros in find_zeroed_ages(block.table.values) if len(faults) else ():
                report.add_file(f"{file}: {zeros.as_text()}")
        report.raise_if_any()

        history = history_from_tables(
            [_without_rows(table, is_odd) for table, is_odd in zip(tables, odd_rows, strict=True)],
            list(date_of.values()),
            names,
            self.hierarchy,
            self._total_lag_days,
        )
        if self.cost is not None:
            history = add_cost(history, self.cost, self.format, spread=self.cost_spread)
        if (history.start > history.last_day).all():
            first_day = history.start.min()
            raise ValueError(
                f"{self.path}: expected cohorts that had begun by {history.last_day}, the day of "
                f"the file, but the first begins on {first_day}; are day, month and year read in "
                "the right order? See data.format.dates and data.snapshot"
            )
        earlier_findings = (*findings, *attribute_findings, *date_findings)
        choices = DoubtChoices(dropped=self.dropped, odd_dates=self.odd_dates, scale=self.scale)
        inspected = inspect_history(history, choices, earlier_findings)
        return replace(inspected, layout=self._reader.layout)

    def spell_out(self) -> "Files":
        """Return a source that says of its tables all that was understood of them.

        It reads other tables of their layout alike, or refuses them. Raises ValueError where these
        are not understood.
        """
        table_format, columns = self._reader.spell_out()
        own_roles = [*ROLES, AGE, VALUE, *self.hierarchy, *(self.attributes or ())]
        named = {role: name for role, name in columns.items() if role in own_roles}
        return replace(self, format=table_format, columns=named | dict(self.columns or {}))

    def truth(self) -> Curves | None:
        """Read the expected curves as of the newest day in their table; None where there is none.

        Raises ValueError like `history`.
        """
        if self.expected is None:
            return None
        expected = replace(self, path=self.expected, expected=None, cost=None).history()
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
        if later_files or self.cost is not None:
            yield from self._split(self.history(), rows)
            return
        report_findings(findings)
        odd_ranges = self._find_odd_ranges(file)
        blocks = self._parse_file(file, rows, date)
        pieces = self._check_blocks(blocks, self._reader.table(file), date, None, odd_ranges)
        for number, curves in enumerate(pieces):
            if not number:
                report_findings(check_curves(curves, accepts_any_scale=self.scale == "any"))
            yield curves

    def _find_odd_ranges(self, file: Path) -> pd.MultiIndex:
        """Find the dates whose rows are to go; only for that the whole file is read before."""
        dates = DateTally()
        if self.odd_dates == "drop":
            for block in self._parse_file(file, _ROWS_TO_DATE, None):
                dates.add(block.table)
        odd_ranges, _ = dates.find_odd(self.odd_dates)
        return odd_ranges

    def expected_rows(self) -> int | None:
        """Return the rows of a single file, about; None for a folder: it is read whole."""
        path = Path(self.path).expanduser()
        return estimate_rows(path) if path.is_file() else None

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
        if self.cost is not None:
            raise ValueError(f"{self.cost}: data.cost is not joined here; set engine=local")
        blocks = self._own_parser.parse(self._own_blocks(tables, file), file, date)
        yield from self._check_blocks(blocks, TableFile(file), date, names, NO_RANGES)

    def _check_blocks(
        self,
        blocks: Iterable[ParsedBlock],
        file: TableFile,
        date: np.datetime64,
        names: list[str] | None,
        odd_ranges: pd.MultiIndex,
    ) -> Iterator[Curves]:
        """Check blocks and yield the curves in them known at the end of a day.

        Rows of `odd_ranges` are left out; after the last block all dates are looked at.
        """
        report = FaultReport(self._column_names())
        keys = KeyHashes()
        dates = DateTally()
        rows_read = 0
        left_out = 0
        left_out_columns: list[str] = []
        for block in blocks:
            table = block.table
            if names is None:
                names, findings = self._choose_attributes([table], report)
                report_findings(findings)
                left_out_columns = table.text_labels(exclude=names)
            self._refuse_late_text(table, [*names, *left_out_columns], file.path, rows_read)
            dates.add(table)
            is_odd = mark_ranges(table, odd_ranges)
            faults = self._own_parser.find_faults(block, date, names, keys, is_odd)
            report.add_table(file, faults)
            report.raise_if_any()

            dated_table = _without_rows(table, is_odd)
            curves = dated_table.to_curves(date, names, self.hierarchy, block.lag_days)
            rows_read += len(table)
            left_out += len(dated_table) - len(curves)
            if len(curves):
                yield curves
        _log_left_out(left_out, date)
        _, findings = dates.find_odd(self.odd_dates)
        report_findings(findings)

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

        The tables have ltvnet's own columns. NaT where no value is known.
        """
        blocks = self._own_parser.parse(self._own_blocks(tables, file), file, None)
        unknown = np.datetime64("NaT", "D")
        last_days = [block.table.last_complete_day() for block in blocks]
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
        for block in self._parse_file(file, _ROWS_TO_DATE, None):
            last_day = np.fmax(last_day, block.table.last_complete_day())
            if block.table.exported_ages == EVERY_AGE:  # between others nothing grows
                growth.add(block.table.end, block.table.values)
        if np.isnat(last_day):
            raise ValueError(f"{file}: no value tells its as-of date; set data.snapshot")
        as_of = last_day + self._total_lag_days * ONE_DAY
        log.info("%s: as of %s, its last complete day (else set data.snapshot)", file, as_of)
        return as_of, find_padding(growth, as_of, self._total_lag_days)

    @cached_property
    def _reader(self) -> CohortReader:
        """Reader of all files, which knows their layout and conventions."""
        spoken_of = frozenset([*self.hierarchy, *(self.attributes or ())])
        files = list(find_tables(Path(self.path).expanduser()))
        return CohortReader.open(files, self.format, self.columns or {}, spoken_of)

    @property
    def _total_lag_days(self) -> int:
        """Days after which the revenue of a day is complete, by the user's word and the layout."""
        return self.lag_days + self._reader.extra_lag_days

    @property
    def _own_parser(self) -> BlockParser:
        """Parser of blocks, by the user's word alone."""
        tolerance = self.rounding_tolerance if self.revenue == "gross" else None
        return BlockParser(self.partial, tolerance, self.renamed or {}, self.lag_days)

    @property
    def _parser(self) -> BlockParser:
        """Parser of blocks, by the user's word and the layout of the files."""
        return replace(self._own_parser, extra_lag_days=self._reader.extra_lag_days)

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
    ) -> Iterator[ParsedBlock]:
        """Read and parse a file in blocks of at most so many rows."""
        with name_file(file):
            yield from self._parser.parse(self._reader.blocks(file, rows), file, date)

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
        return names, [*findings, *find_spellings(tables, names)]


def _without_rows(table: ParsedTable, is_odd: Bools) -> ParsedTable:
    """Return a table without odd rows (N,)."""
    return table.take(np.flatnonzero(~is_odd)) if is_odd.any() else table


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
