"""Tables on disk: read in blocks, cells as text and numbers, faults told with file and line.

Files are written so that they appear whole or not at all.

Shapes: N rows of a table, C columns.
"""

import gzip
import logging
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet
from numpy.typing import NDArray

Strings = NDArray[np.object_]

log = logging.getLogger(__name__)

SUFFIXES = (".csv", ".csv.gz", ".parquet")
"""Endings of the files that are read as tables."""

_NO_NUMBER = "expected a plain number such as 1234.5, or an empty cell where nothing is known"
_DATE = re.compile(r"(?<!\d)(\d{4})([-_]?)(\d{2})\2(\d{2})(?!\d)")
_BLOCK = 1 << 24  # bytes of CSV in memory at once, and the longest line that is read


def find_tables(path: Path) -> dict[Path, np.datetime64 | None]:
    """The tables at a path by the dates in their names: a file, or those in a folder.

    Raises ValueError for a path without a table; in a folder also for a name without a date and
    for two tables of one date. Other files in a folder are logged.
    """
    if path.is_dir():
        return _snapshots(path)
    if not path.exists():
        raise ValueError(f"{path}: expected a file or a folder, found none; see data.path")
    if not _is_table(path):
        raise ValueError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}; export one")
    return {path: date_in_name(path)}


def date_in_name(file: Path) -> np.datetime64 | None:
    """The date in the name of a file, such as 2025_02_10, 2025-02-10 or 20250210, if any."""
    found = set()
    for year, _, month, date in _DATE.findall(file.name):
        with suppress(ValueError):  # other numbers of eight digits
            found.add(np.datetime64(f"{year}-{month}-{date}"))
    if len(found) > 1:
        raise ValueError(f"{file}: expected one date in the name, got several; rename the file")
    return found.pop() if found else None


def _snapshots(folder: Path) -> dict[Path, np.datetime64 | None]:
    files = sorted(file for file in folder.iterdir() if file.is_file())
    found = [file for file in files if _is_table(file)]
    if len(files) > len(found):
        others = ", ".join(file.name for file in files if file not in found)
        log.info("%s: ignored, as they are no tables: %s", folder, others)
    if not found:
        raise ValueError(f"{folder}: expected files that end in {', '.join(SUFFIXES)}, got none")
    faults, dated = [], dict[np.datetime64, Path]()
    for file in found:
        date = date_in_name(file)
        if date is None:
            faults.append(f"{file}: expected a date such as 2025_02_10 in the name; rename it")
        elif date in dated:
            faults.append(f"{dated[date]} and {file}: two snapshots of {date}; keep one")
        else:
            dated[date] = file
    if faults:
        raise ValueError("\n".join(faults))
    return {dated[date]: date for date in sorted(dated)}


def _is_table(file: Path) -> bool:
    """Whether a file is read as a table, by its name; hidden files and locks of Excel are not."""
    return file.name.lower().endswith(SUFFIXES) and not file.name.startswith((".", "~$"))


def read_blocks(path: Path, rows: int) -> Iterator[pa.Table]:
    """The table in a CSV, CSV.gz or Parquet file, as tables of at most `rows` rows each.

    Cells of a CSV are text, null where empty; columns of a Parquet file keep their types.
    Raises ValueError, which names the file, when it is empty, cut off, in an unknown encoding,
    not of the format that its name says, or without rows.
    """
    read = 0
    try:
        for block in _regrouped(_batches(path, rows), rows):
            read += block.num_rows
            yield block
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(_explained(path, str(error))) from error
    if not read:
        raise ValueError(f"{path}: expected at least one cohort below the header, got no rows")


def _regrouped(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        rest = batch
        while count + rest.num_rows >= rows:
            yield pa.Table.from_batches([*held, rest.slice(0, rows - count)])
            held, count, rest = [], 0, rest.slice(rows - count)
        held.append(rest)
        count += rest.num_rows
    if count:
        yield pa.Table.from_batches(held)


def _batches(path: Path, rows: int) -> Iterator[pa.RecordBatch]:
    if _is(path, ".parquet"):
        # a file that is buffered ahead stays in memory as a whole
        file = parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 16)
        yield from file.iter_batches(batch_size=min(rows, 1 << 16), use_threads=False)
    else:
        encoding = _encoding(path)
        yield from arrow_csv.open_csv(
            pa.input_stream(path, compression="gzip" if _is(path, ".gz") else None),
            arrow_csv.ReadOptions(encoding=encoding, block_size=_BLOCK),
            convert_options=arrow_csv.ConvertOptions(
                default_column_type=pa.string(), strings_can_be_null=True, null_values=[""]
            ),
        )


def _is(path: Path, suffix: str) -> bool:
    return path.name.lower().endswith(suffix)


def _opened(path: Path, encoding: str) -> TextIO:
    if _is(path, ".gz"):
        return cast(TextIO, gzip.open(path, "rt", encoding=encoding, newline=""))
    return path.open(encoding=encoding, newline="")


def _encoding(path: Path) -> str:
    """The encoding of a CSV, found by reading it to its end."""
    for encoding in ("utf-8", "cp949"):
        try:
            with _opened(path, encoding) as file:
                while file.read(_BLOCK):
                    pass
        except UnicodeDecodeError:
            continue
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            way = "copy or export the file again"
            raise ValueError(f"{path}: the gzip file is cut off or damaged; {way}") from error
        if encoding != "utf-8":
            log.info("%s is not UTF-8: read as %s", path, encoding)
        return encoding
    way = "save it as 'CSV UTF-8'"
    raise ValueError(f"{path}: expected text in UTF-8 or cp949 (EUC-KR), got neither; {way}")


def _explained(path: Path, error: str) -> str:
    """What a reader's error means for the person who has the file."""
    if _is(path, ".parquet"):
        return f"{path}: expected a Parquet file, got something else or a part of one; {error}"
    if "Empty CSV" in error:
        return f"{path}: expected a header and at least one cohort, got an empty file"
    if ragged := re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", error):
        row, expected, got = map(int, ragged.groups())
        cells = f"expected {expected} cells as in the header, got {got}"
        way = "remove thousands separators, or quote cells that hold a comma"
        return f"{path}, {row_locations(path, [row - 2])[0]}: {cells}; {way}"
    return f"{path}: cannot be read as a CSV with commas between cells; {error}"


def row_locations(path: Path, rows: Sequence[int]) -> list[str]:
    """Where rows of a table (from 0) stand in its file: lines of a CSV, whose header is line 1."""
    if not _is(path, ".csv") and not _is(path, ".csv.gz"):
        return [f"row {row + 1}" for row in rows]
    with _opened(path, _encoding(path)) as file:
        lines = [number for number, line in enumerate(file, 1) if line.rstrip("\r\n")]
    return [f"line {lines[row + 1]}" for row in rows]


def factorize_text(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[str]]:
    """Cells as codes (N,) of words, "" where empty, each of which stands there once.

    A point in time is its day.
    """
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.date32(), safe=False)
    coded = column.cast(pa.string()).fill_null("").dictionary_encode().combine_chunks()
    return coded.indices.to_numpy().astype(np.int64), coded.dictionary.to_pylist()


def parse_numbers(table: pa.Table) -> tuple[NDArray[np.float64], pd.DataFrame]:
    """Cells as numbers (N, C), NaN where empty, and a fault for each cell that is no number."""
    types = table.schema.types
    textual = any(map(is_text_type, set(types)))
    kind = pa.string() if textual else pa.float64()
    if set(types) != {kind}:
        table = table.cast(pa.schema([(name, kind) for name in table.column_names]), safe=False)
    flat = pa.chunked_array([part for cell in table.columns for part in cell.chunks], kind)
    try:
        values = flat.cast(pa.float64()).to_numpy()  # (C * N,), column after column
    except pa.ArrowInvalid:
        flat = pc.utf8_trim_whitespace(flat)
        values = pd.to_numeric(flat.to_pandas(), errors="coerce").to_numpy(float)
    bad = np.flatnonzero(np.isnan(values)) if textual else np.empty(0, dtype=np.int64)
    if not len(bad):
        return values.reshape(-1, len(table)).T, empty_fault_table()
    shown = flat.take(pa.array(bad)).cast(pa.string()).fill_null("").to_numpy()
    bad, shown = bad[shown != ""], shown[shown != ""]
    column, row = np.divmod(bad, len(table))
    names = np.array(table.column_names, dtype=object)
    return values.reshape(-1, len(table)).T, fault_table(row, names[column], shown, _NO_NUMBER)


def is_text_type(kind: pa.DataType) -> bool:
    """Whether a column of that type holds text."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def fault_table(
    row: NDArray[np.int64], column: Strings | str, value: Strings | str, problem: Strings | str
) -> pd.DataFrame:
    """What is wrong with cells, a row each.

    `row` (from 0) and `column` of the cell, its `value`, `problem`: what was expected and the way
    out; `more`, which says how many later cells of the row share it, begins at 0.
    """
    cells = {"row": row, "column": column, "value": value, "more": 0, "problem": problem}
    return pd.DataFrame(cells)


@lru_cache(maxsize=1)  # a frame takes long to make, for each block of a large table
def empty_fault_table() -> pd.DataFrame:
    """What is wrong where nothing is."""
    return fault_table(np.empty(0, dtype=np.int64), "", "", "")


@dataclass
class FaultReport:
    """Collects what is wrong with the tables of one reading and tells it in one error.

    `columns` says under which name a file has a column; `limit` how many faults are listed.
    """

    columns: Mapping[str, str]
    limit: int = 20
    count: int = 0
    lines: list[str] = field(default_factory=list)

    def add_table(self, path: Path, faults: pd.DataFrame, first_row: int = 0) -> None:
        """Take up faults of rows that begin at `first_row` of a file."""
        self.count += len(faults)
        listed = faults.head(self.limit - len(self.lines))
        if len(listed):
            where = row_locations(path, (listed["row"] + first_row).tolist())
            self.lines += [
                f"{path}, {place}, {self._cell(fault)}: {fault.problem}"
                for place, fault in zip(where, listed.itertuples(), strict=True)
            ]

    def _cell(self, fault: Any) -> str:  # noqa: ANN401 a named tuple of the columns of faults
        column = self.columns.get(fault.column, fault.column)
        more = f" (and {fault.more} later)" if fault.more else ""
        return f"{column} = {str(fault.value)!r}{more}"

    def add_file(self, problem: str) -> None:
        """Take up what is wrong with a file as a whole."""
        self.count += 1
        self.lines += [problem][: self.limit - len(self.lines)]

    def raise_if_any(self) -> None:
        """Raise ValueError with what was taken up, if there was anything."""
        if self.count:
            rest = self.count - len(self.lines)
            more = [f"and {rest} more"] * (rest > 0)
            raise ValueError("\n".join([f"problems in the data: {self.count}", *self.lines, *more]))
