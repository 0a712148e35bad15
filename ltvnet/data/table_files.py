"""Tables on disk: read in blocks, cells as text and numbers, faults reported with file and line.

Shapes: N rows of a table, C columns.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as parquet

from ltvnet.data.arrays import Bools, Floats, Ints, Strings
from ltvnet.data.importers.extension_columns import is_readable, with_plain_columns
from ltvnet.data.importers.text_files import (
    READ_BYTES,
    LineCounts,
    TextDialect,
    detect_dialect,
    line_numbers,
    read_text_batches,
)
from ltvnet.data.importers.workbooks import Workbook, read_workbook

log = logging.getLogger(__name__)

_HEAD_ROWS = 1 << 12
_HEAD_BYTES = 1 << 20

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".xlsx")
"""Endings of the files that are read as tables."""

NO_NUMBER = "expected a plain number such as 1234.5, or an empty cell where nothing is known"
_DATE_IN_NAME = re.compile(r"(?<!\d)(\d{4})([-_]?)(\d{2})\2(\d{2})(?!\d)")


def find_tables(path: Path) -> dict[Path, np.datetime64 | None]:
    """Find the tables at a path, a file or a folder, with the dates in their names.

    Raises ValueError for a path without a table; in a folder also for a name without a date and
    for two tables of one date. Other files in a folder are logged.
    """
    if path.is_dir():
        return _find_snapshots(path)
    if not path.exists():
        raise ValueError(f"{path}: expected a file or a folder, found none; see data.path")
    if not is_table(path):
        raise ValueError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}; export one")
    return {path: date_in_name(path)}


def date_in_name(file: Path) -> np.datetime64 | None:
    """Return the date in the name of a file, such as 2025_02_10, 2025-02-10 or 20250210, if any.

    Raises ValueError for several dates.
    """
    dates = set()
    for year, _, month, day_of_month in _DATE_IN_NAME.findall(file.name):
        with suppress(ValueError):  # other numbers of eight digits
            dates.add(np.datetime64(f"{year}-{month}-{day_of_month}"))
    if len(dates) > 1:
        raise ValueError(f"{file}: expected one date in the name, got several; rename the file")
    return dates.pop() if dates else None


def _find_snapshots(folder: Path) -> dict[Path, np.datetime64 | None]:
    """Find the tables in a folder, sorted by the dates in their names."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    tables = [file for file in files if is_table(file)]
    if len(files) > len(tables):
        others = ", ".join(file.name for file in files if file not in tables)
        log.info("%s: ignored, as they are no tables: %s", folder, others)
    if not tables:
        raise ValueError(f"{folder}: expected files that end in {', '.join(SUFFIXES)}, got none")

    problems: list[str] = []
    table_of_date: dict[np.datetime64, Path] = {}
    for file in tables:
        date = date_in_name(file)
        if date is None:
            problems.append(f"{file}: expected a date such as 2025_02_10 in the name; rename it")
        elif date in table_of_date:
            problems.append(f"{table_of_date[date]} and {file}: two snapshots of {date}; keep one")
        else:
            table_of_date[date] = file
    if problems:
        raise ValueError("\n".join(problems))

    return {table_of_date[date]: date for date in sorted(table_of_date)}


def is_table(file: Path) -> bool:
    """Return whether a file is a table by its name; hidden files and locks of Excel are not."""
    return file.name.lower().endswith(SUFFIXES) and not file.name.startswith((".", "~$"))


@dataclass(frozen=True)
class TableFile:
    """A table on disk: CSV, CSV.gz, Parquet or a workbook of Excel.

    `encoding` and `separator` of a CSV and `sheet` of a workbook are detected where they are None.
    """

    path: Path
    encoding: str | None = None
    separator: str | None = None
    sheet: str | None = None

    @cached_property
    def dialect(self) -> TextDialect:
        """How a CSV is written. Raises ValueError, which names the file, where it cannot be."""
        return detect_dialect(self.path, encoding=self.encoding, separator=self.separator)

    @property
    def columns(self) -> list[str]:
        """Names of the columns. Raises ValueError, which names the file, where it is none."""
        if self._is_parquet:
            with _name_damage(self.path):
                schema = parquet.ParquetFile(self.path).schema_arrow
                return [field.name for field in schema if is_readable(field)]
        if self._is_workbook:
            return list(self._workbook.columns)
        return list(self.dialect.columns)

    @property
    def cell_separator(self) -> str | None:
        """Separator of the cells of a CSV, None of other files."""
        return None if self._is_parquet or self._is_workbook else self.dialect.separator

    @cached_property
    def _workbook(self) -> Workbook:
        return read_workbook(self.path, self.sheet)

    @property
    def _is_parquet(self) -> bool:
        return _has_suffix(self.path, ".parquet")

    @property
    def _is_workbook(self) -> bool:
        return _has_suffix(self.path, ".xlsx")

    def blocks(self, rows: int) -> Iterator[pa.Table]:
        """Read the table in blocks of at most `rows` rows each.

        Cells of a CSV or a workbook are text, null where empty; columns of a Parquet file keep
        their types. Raises ValueError, which names the file, when it is empty, cut off, in an
        unknown encoding, not of the format that its name says, or without rows.
        """
        rows_read = 0
        with _name_damage(self.path):
            for block in _regroup(self._batches(rows), rows):
                rows_read += block.num_rows
                yield block
        if not rows_read:
            raise ValueError(
                f"{self.path}: expected at least one cohort below the header, got no rows"
            )

    def head(self) -> pa.Table:
        """Read the first rows of the table, a few thousand of them or fewer, as `blocks` does."""
        with _name_damage(self.path):
            batches = self._batches(_HEAD_ROWS, _HEAD_BYTES)
            return pa.Table.from_batches([next(batches).slice(0, _HEAD_ROWS)])

    def _batches(self, rows: int, block_bytes: int = READ_BYTES) -> Iterator[pa.RecordBatch]:
        """Read the file in batches of whatever length is convenient."""
        if self._is_parquet:
            # a file that is buffered ahead stays in memory as a whole
            file = parquet.ParquetFile(self.path, pre_buffer=False, buffer_size=1 << 16)
            names = [field.name for field in file.schema_arrow if is_readable(field)]
            is_whole = len(names) == len(file.schema_arrow)
            if not is_whole:
                self._log_left_out(file.schema_arrow.names, names)
            chosen = None if is_whole else names
            batch_rows = min(rows, 1 << 16)
            for batch in file.iter_batches(batch_rows, columns=chosen, use_threads=False):
                yield with_plain_columns(batch)
        elif self._is_workbook:
            yield self._workbook.batch
            self._log_notes([], self._workbook.counts)
        else:
            counts = LineCounts()
            yield from read_text_batches(self.path, self.dialect, counts, block_bytes)
            self._log_notes([self.dialect.describe()], counts)

    def _log_left_out(self, names: Sequence[str], read_names: Sequence[str]) -> None:
        """Log columns of a Parquet file that are not read."""
        left_out = ", ".join(name for name in names if name not in read_names)
        log.info("%s: left out, as neither text nor numbers: %s", self.path, left_out)

    def _log_notes(self, notes: list[str], counts: LineCounts) -> None:
        """Log what is unusual about a table, and what lines of it are no rows."""
        if counts.repeated_headers:
            notes.append(f"{counts.repeated_headers} repeated headers left out")
        if counts.totals:
            notes.append(f"{counts.totals} totals left out")
        if text := ", ".join(filter(None, notes)):
            log.info("%s: %s", self.path, text)

    def locations(self, rows: Sequence[int]) -> list[str]:
        """Say where rows of the table (from 0) stand in the file.

        Lines of a CSV, from 1; numbers of rows (from 1) of another file, and of what is a part of
        one, such as a partition of Spark.
        """
        if self._is_parquet or not self.path.exists():
            return [f"row {row + 1}" for row in rows]
        if self._is_workbook:
            return [f"row {self._workbook.row_numbers[row]}" for row in rows]
        return [f"line {line}" for line in line_numbers(self.path, self.dialect, rows)]


@contextmanager
def _name_damage(path: Path) -> Iterator[None]:
    """Turn an error of a reader into one that names the file."""
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        kind = "a Parquet file" if _has_suffix(path, ".parquet") else "a table"
        problem = f"expected {kind}, got something else or a part of one"
        raise ValueError(f"{path}: {problem}; {error}") from error


@contextmanager
def name_file(path: Path) -> Iterator[None]:
    """Name a file in a user's error that does not."""
    try:
        yield
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: {error}") from error


def _regroup(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Join and split batches of any length into tables of `rows` rows; the last may be shorter."""
    waiting: list[pa.RecordBatch] = []
    waiting_rows = 0
    for batch in batches:
        rest = batch
        while waiting_rows + rest.num_rows >= rows:
            missing_rows = rows - waiting_rows
            yield pa.Table.from_batches([*waiting, rest.slice(0, missing_rows)])
            waiting = []
            waiting_rows = 0
            rest = rest.slice(missing_rows)
        waiting.append(rest)
        waiting_rows += rest.num_rows
    if waiting_rows:
        yield pa.Table.from_batches(waiting)


def _has_suffix(path: Path, suffix: str) -> bool:
    """Return whether a file's name ends so, in letters of either case."""
    return path.name.lower().endswith(suffix)


def factorize_text(column: pa.ChunkedArray) -> tuple[Ints, list[str]]:
    """Encode the cells of a column as codes (N,) of distinct texts, "" where a cell is empty.

    A point in time is its day.
    """
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.date32(), safe=False)
    texts = column.cast(pa.string()).fill_null("")
    encoded = texts.dictionary_encode().combine_chunks()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def parse_numbers(table: pa.Table) -> tuple[Floats, pd.DataFrame]:
    """Parse cells as numbers (N, C), NaN where empty, with a fault for each that is no number."""
    column_types = set(table.schema.types)
    has_text = any(map(is_text_type, column_types))
    cell_type = pa.string() if has_text else pa.float64()
    if column_types != {cell_type}:
        schema = pa.schema([(name, cell_type) for name in table.column_names])
        table = table.cast(schema, safe=False)

    chunks = [chunk for column in table.columns for chunk in column.chunks]
    cells = pa.chunked_array(chunks, cell_type)  # (C * N,), column after column
    try:
        values = cells.cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        cells = pc.utf8_trim_whitespace(cells)
        values = pd.to_numeric(cells.to_pandas(), errors="coerce").to_numpy(float)

    numbers = values.reshape(-1, len(table)).T  # (N, C)
    if not has_text:
        return numbers, empty_fault_table()
    return numbers, _number_faults(table, cells, np.isnan(values))


def _number_faults(table: pa.Table, cells: pa.ChunkedArray, is_nan: Bools) -> pd.DataFrame:
    """Faults of the cells (C * N,) that are neither empty nor a number."""
    position = np.flatnonzero(is_nan)
    if not len(position):
        return empty_fault_table()
    texts = cells.take(pa.array(position)).cast(pa.string()).fill_null("").to_numpy()
    is_filled = texts != ""
    column, row = np.divmod(position[is_filled], len(table))
    names = np.array(table.column_names, dtype=object)
    return fault_table(row, names[column], texts[is_filled], NO_NUMBER)


def is_text_type(data_type: pa.DataType) -> bool:
    """Return whether a column of that type holds text."""
    if pa.types.is_dictionary(data_type):
        data_type = data_type.value_type
    return bool(pa.types.is_string(data_type) or pa.types.is_large_string(data_type))


def may_hold_numbers(data_type: pa.DataType) -> bool:
    """Return whether a column of that type holds numbers, or text that may be some."""
    types = pa.types
    accepted = (types.is_integer, types.is_floating, types.is_decimal, types.is_null, is_text_type)
    return any(is_accepted(data_type) for is_accepted in accepted)


def fault_table(
    row: Ints, column: Strings | str, value: Strings | str, problem: Strings | str
) -> pd.DataFrame:
    """Make a table of faults, a row for each cell with something wrong in it.

    `row` (from 0) and `column` of the cell, its `value`, `problem`: what was expected and the way
    out; `more`, which says how many later cells of the row share it, begins at 0.
    """
    columns = {"row": row, "column": column, "value": value, "more": 0, "problem": problem}
    return pd.DataFrame(columns)


@lru_cache(maxsize=1)  # a frame takes long to make, for each block of a large table
def empty_fault_table() -> pd.DataFrame:
    """Make a table of no faults."""
    return fault_table(np.empty(0, dtype=np.int64), "", "", "")


@dataclass
class FaultReport:
    """Faults of all tables of one reading, raised as one error.

    `columns` says under which name a file has a column; `limit` how many faults are listed.
    """

    columns: Mapping[str, str]
    limit: int = 20
    count: int = 0
    lines: list[str] = field(default_factory=list)

    def add_table(self, table: TableFile, faults: pd.DataFrame) -> None:
        """Add the faults of rows of a file."""
        self.count += len(faults)
        listed = faults.head(self.limit - len(self.lines))
        if not len(listed):
            return  # the file need not be read again to find its lines
        path = table.path
        locations = table.locations(listed["row"].tolist())
        for location, fault in zip(locations, listed.itertuples(), strict=True):
            self.lines.append(f"{path}, {location}, {self._describe_cell(fault)}: {fault.problem}")

    def _describe_cell(self, fault: Any) -> str:  # noqa: ANN401 a named tuple of a fault table
        """Name the column of a faulty cell and quote its value."""
        column = self.columns.get(fault.column, fault.column)
        more = f" (and {fault.more} later)" if fault.more else ""
        return f"{column} = {str(fault.value)!r}{more}"

    def add_file(self, problem: str) -> None:
        """Add what is wrong with a file as a whole."""
        self.count += 1
        if len(self.lines) < self.limit:
            self.lines.append(problem)

    def raise_if_any(self) -> None:
        """Raise ValueError that lists the faults, if there are any."""
        if not self.count:
            return
        unlisted = self.count - len(self.lines)
        ending = [f"and {unlisted} more"] if unlisted > 0 else []
        lines = [f"problems in the data: {self.count}", *self.lines, *ending]
        raise ValueError("\n".join(lines))
