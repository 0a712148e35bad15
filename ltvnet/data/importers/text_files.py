"""Text files with separators, read strictly: every cell is text, and no line goes missing.

The dialect of a file is its encoding, its separator and the line of its header. Lines above the
header are titles; a header that is repeated further down is left out and counted; a line with
fewer or more cells than the header is a fault. Nothing is a comment.
"""

import csv
import io
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from ltvnet.data.importers.date_texts import read_date
from ltvnet.data.importers.encodings import detect_encoding, open_bytes

log = logging.getLogger(__name__)

Separator = Literal[",", ";", "\t", "|"]

SEPARATORS: tuple[Separator, ...] = get_args(Separator)
"""Characters that may stand between cells, the most usual first."""

SEPARATOR_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}

READ_BYTES = 1 << 24  # bytes in memory at once, and the longest line that is read
_SAMPLE_BYTES = 1 << 20
_SAMPLE_LINES = 60  # among which a header is looked for
_FAULTS_LISTED = 5

_NUMBER_LIKE = re.compile(r"[^\w\s]{0,3}\s*[-+(]?\d[\d.,'’\s]*\)?\s*\D{0,3}")
_DATE_LIKE = re.compile(r"\D{0,12}\d{1,4}\D{1,4}\d{1,2}\D{1,3}\d{1,4}.*")
_INTEGER = re.compile(r"\d+")
_TOTAL = re.compile(
    r"(grand |sub)?totals?( .*|:.*)?|합계|총계|소계|전체 합계|gesamt(summe)?|summe|total général|"
    r"totales|合计|总计|合計|総計",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class TextDialect:
    """How a text file is written.

    `encoding` as Python names it, `separator` between cells, `header_line` number of the line
    (from 1) on which the header ends, `columns` the names in it, without blanks around them.
    """

    encoding: str
    separator: str
    header_line: int
    columns: tuple[str, ...]

    def describe(self) -> str:
        """Describe what is unusual about the dialect in a few words, "" where nothing is."""
        notes = []
        if self.encoding not in ("utf-8", "utf-8-sig"):
            notes.append(f"read as {self.encoding}")
        if self.separator != ",":
            notes.append(f"{SEPARATOR_NAMES.get(self.separator, self.separator)}s between cells")
        if self.header_line > 1:
            notes.append(f"header on line {self.header_line}")
        return ", ".join(notes)


@dataclass
class LineCounts:
    """Counts of lines of a file that are no rows of its table, by what they are."""

    repeated_headers: int = 0
    totals: int = 0
    blanks: int = 0


def detect_dialect(
    path: Path, *, encoding: str | None = None, separator: str | None = None
) -> TextDialect:
    """Detect how a text file is written; what is given is taken.

    Raises ValueError, which names the file, when it is empty, damaged or in an unknown encoding.
    """
    status = path.stat()
    version = (status.st_mtime_ns, status.st_size)
    return _detect_dialect(path, version, encoding, separator)


@lru_cache(maxsize=256)  # a large file takes long to be read, and is asked about several times
def _detect_dialect(
    path: Path, _version: tuple[int, int], encoding: str | None, separator: str | None
) -> TextDialect:
    """Detect how a version of a text file is written: see `detect_dialect`."""
    encoding = encoding or detect_encoding(path)
    sample = _read_sample(path, encoding)
    if not sample.strip():
        raise ValueError(f"{path}: expected a header and at least one row, got an empty file")

    if separator is None and (stated := re.match(r"sep=(.)\r?\n", sample)):
        separator = stated.group(1)  # Excel's own mark
    candidates = SEPARATORS if separator is None else (separator,)
    headers = [_find_header(sample, candidate) for candidate in candidates]
    found = [header for header in headers if header is not None]
    if not found:
        return _single_column(encoding, sample, candidates[0])
    best = max(found, key=lambda header: header.share_of_lines)
    return TextDialect(encoding, best.separator, best.line, best.columns)


def _single_column(encoding: str, sample: str, separator: str) -> TextDialect:
    """Return the dialect of a file of one column, whose first line with text names it."""
    lines = sample.splitlines()
    header_line = next(number for number, line in enumerate(lines, 1) if line.strip())
    name = lines[header_line - 1].strip().strip('"')
    return TextDialect(encoding, separator, header_line, (name,))


def _read_sample(path: Path, encoding: str) -> str:
    """Read the first lines of a file as text, whole lines where there are several."""
    with open_bytes(path) as file:
        start = file.read(_SAMPLE_BYTES)
        is_whole = not file.read(1)
    try:
        text = start.decode(encoding, "strict" if is_whole else "ignore")
    except (UnicodeDecodeError, LookupError) as error:
        raise ValueError(
            f"{path}: expected text in {encoding}, as data.format.encoding says; {error}"
        ) from error
    lines = text.splitlines(keepends=True)
    return text if is_whole or len(lines) < 2 else "".join(lines[:-1])


@dataclass(frozen=True)
class _Header:
    """A line that may be a header.

    `line` on which it ends, `columns` in it, `share_of_lines` of the sample that have as many
    cells.
    """

    separator: str
    line: int
    columns: tuple[str, ...]
    share_of_lines: float


def _find_header(sample: str, separator: str) -> _Header | None:
    """Find the header under a separator: names, followed by a row of a table.

    None where no line has two cells. A row of a table has a number or a date, which a header has
    not; a title and its value above a table have fewer cells than most lines.
    """
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=separator)
    lines = [(reader.line_num, cells) for cells in islice(_records(reader), _SAMPLE_LINES)]
    filled = [(line, cells) for line, cells in lines if cells]
    widths = Counter(len(cells) for _, cells in filled if len(cells) > 1)
    if not widths:
        return None
    usual_width, _ = max(widths.items(), key=lambda item: (item[1] * item[0], item[0]))

    wide = [(line, cells) for line, cells in filled if len(cells) > 1]
    starts = [
        (line, cells)
        for (line, cells), (_, following) in pairwise(wide)
        if _is_header(cells) and not _is_header(following)
    ]
    line, cells = _first_table([*starts, *wide], usual_width)
    same_width = sum(len(other) == len(cells) for _, other in filled)
    columns = tuple(name.strip() for name in cells)
    return _Header(separator, line, columns, same_width / len(filled))


def find_header_row(rows: Sequence[Sequence[str]]) -> int | None:
    """Find the row (from 0) of a sheet that is the header of its table; None where there is none.

    Of the rows of names that a row of a table follows, the first of the widest.
    """
    filled = [
        (index, [cell for cell in row if cell.strip()])
        for index, row in enumerate(rows[:_SAMPLE_LINES])
    ]
    wide = [(index, cells) for index, cells in filled if len(cells) > 1]
    starts = [
        (index, cells)
        for (index, cells), (_, following) in pairwise(wide)
        if _is_header(cells) and not _is_header(following)
    ]
    if not starts:
        return wide[0][0] if wide else None
    return max(starts, key=lambda start: len(start[1]))[0]


def _first_table(
    starts: Sequence[tuple[int, list[str]]], usual_width: int
) -> tuple[int, list[str]]:
    """Choose the line where the table begins: the first as wide as most lines.

    One with the same first name that comes before it is an earlier table, and no title.
    """
    usual = [(line, cells) for line, cells in starts if len(cells) == usual_width]
    line, cells = (usual or starts)[0]
    for earlier_line, earlier_cells in starts:
        if earlier_line < line and earlier_cells[0].strip() == cells[0].strip():
            return earlier_line, earlier_cells
    return line, cells


def _records(reader: Iterator[list[str]]) -> Iterator[list[str]]:
    """Yield the records of a reader up to one that it cannot read."""
    try:
        yield from reader
    except csv.Error:
        return


def _is_header(cells: Sequence[str]) -> bool:
    """Return whether cells may be names of columns: distinct texts, or ages that go up."""
    names = [cell.strip() for cell in cells if cell.strip()]
    if len(names) < 2 or len(set(names)) < len(names):
        return False
    if any(is_date_like(name) or read_date(name) for name in names):
        return False
    numbers = [name for name in names if _NUMBER_LIKE.fullmatch(name)]
    if not numbers:
        return True
    if len(numbers) < 3 or not all(_INTEGER.fullmatch(name) for name in numbers):
        return False
    ages = [int(name) for name in numbers]
    return all(before < after for before, after in pairwise(ages))


def read_text_batches(
    path: Path,
    dialect: TextDialect,
    counts: LineCounts | None = None,
    block_bytes: int = READ_BYTES,
) -> Iterator[pa.RecordBatch]:
    """Read the rows below the header, every cell as text, null where empty.

    `block_bytes` are read at once, and no line may be longer. Columns without a name are called "".
    Blank rows, repeated headers and totals shorter than a row are left out and added to `counts`.
    Raises ValueError for other lines with fewer or more cells than the header: the first few of
    them are named.
    """
    names = list(dialect.columns)
    counts = counts or LineCounts()
    faults = _RaggedRows(path, dialect, counts)
    compression = "gzip" if path.name.lower().endswith(".gz") else None
    encoding = "utf-8" if dialect.encoding == "utf-8-sig" else dialect.encoding
    are_quotes_checked = False
    try:
        reader = arrow_csv.open_csv(
            pa.input_stream(path, compression=compression),
            arrow_csv.ReadOptions(
                encoding=encoding,
                block_size=block_bytes,
                skip_rows=dialect.header_line,
                column_names=_distinct(names),
            ),
            arrow_csv.ParseOptions(
                delimiter=dialect.separator,
                newlines_in_values=True,
                ignore_empty_lines=False,  # they are counted
                invalid_row_handler=faults.add,
            ),
            arrow_csv.ConvertOptions(
                default_column_type=pa.string(), strings_can_be_null=True, null_values=[""]
            ),
        )
        for batch in reader:
            faults.raise_if_any()
            if not are_quotes_checked and _has_line_breaks(batch):
                _check_quotes(path, dialect)
                are_quotes_checked = True
            rows = _without_blank_rows(batch, counts)
            rows = without_repeated_headers(rows, names, counts)
            yield pa.RecordBatch.from_arrays(rows.columns, names=names)
    except pa.ArrowInvalid as error:
        if not _says_that_no_rows_follow(error):
            raise ValueError(f"{path}: cannot be read as a table of text; {error}") from error
    faults.raise_if_any()


def _says_that_no_rows_follow(error: pa.ArrowInvalid) -> bool:
    """Return whether Arrow complains that nothing stands below the header."""
    return "Empty CSV" in str(error) or "file is too short" in str(error)


def _distinct(names: Sequence[str]) -> list[str]:
    """Name columns by their positions, as Arrow wants each name once."""
    return [f"{position}" for position in range(len(names))]


def _has_line_breaks(batch: pa.RecordBatch) -> bool:
    """Return whether a cell holds more than one line."""
    texts = (column.buffers()[2] for column in batch.columns)
    return any(text is not None and b"\n" in text.to_pybytes() for text in texts)


def _check_quotes(path: Path, dialect: TextDialect) -> None:
    """Raise ValueError where a quotation mark is not closed, so that rows stand in one cell."""
    line = _find_open_quote(path, dialect)
    if line is not None:
        raise ValueError(
            f"{path}, line {line}: a quotation mark is opened that is not closed in its row, so "
            "that rows stand in one cell; close it, or export the file again"
        )


def _find_open_quote(path: Path, dialect: TextDialect) -> int | None:
    """Find the line on which a row begins whose quotation marks are wrong; None where all close."""
    with io.TextIOWrapper(open_bytes(path), encoding=dialect.encoding, newline="") as file:
        reader = csv.reader(file, delimiter=dialect.separator, strict=True)
        line = 1
        try:
            for cells in reader:
                if any(_hides_rows(cell, dialect) for cell in cells):
                    return line
                line = reader.line_num + 1
        except csv.Error:
            return line
    return None


def _hides_rows(cell: str, dialect: TextDialect) -> bool:
    """Return whether a line within a cell has as many separators as a row."""
    separators = len(dialect.columns) - 1
    later_lines = cell.split("\n")[1:]
    return separators > 1 and any(
        line.count(dialect.separator) == separators for line in later_lines
    )


def _without_blank_rows(batch: pa.RecordBatch, counts: LineCounts) -> pa.RecordBatch:
    """Leave out rows in which no cell is filled."""
    if any(not column.null_count for column in batch.columns):
        return batch
    is_blank = batch.column(0).is_null()
    for column in batch.columns[1:]:
        is_blank = pc.and_(is_blank, column.is_null())
    counts.blanks += pc.sum(is_blank).as_py() or 0
    return batch.filter(pc.invert(is_blank))


def without_repeated_headers(
    batch: pa.RecordBatch, names: Sequence[str], counts: LineCounts
) -> pa.RecordBatch:
    """Leave out rows that repeat the header, and count them."""
    first_named = next((position for position, name in enumerate(names) if name), None)
    if first_named is None:
        return batch
    is_header = _equals(batch.column(first_named), names[first_named])
    if not pc.any(is_header).as_py():
        return batch
    for column, name in zip(batch.columns, names, strict=True):
        is_header = pc.and_(is_header, _equals(column, name))
    counts.repeated_headers += pc.sum(is_header).as_py() or 0
    return batch.filter(pc.invert(is_header))


def _equals(cells: pa.Array, text: str) -> pa.Array:
    """Mark the cells (N,) that hold a text, with blanks around it or not."""
    return pc.equal(pc.utf8_trim_whitespace(cells).fill_null(""), text)


@dataclass
class _RaggedRows:
    """Rows with another number of cells than the header, but for totals, which are counted."""

    path: Path
    dialect: TextDialect
    counts: LineCounts
    is_faulty: bool = False

    def add(self, row: arrow_csv.InvalidRow) -> str:
        """Note a row, which the reader then skips."""
        cells = [cell.strip("\"' ") for cell in row.text.split(self.dialect.separator)]
        if is_blank_row(cells):
            self.counts.blanks += 1
        elif row.actual_columns < row.expected_columns and is_total(cells[0]):
            self.counts.totals += 1
        else:
            self.is_faulty = True
        return "skip"

    def raise_if_any(self) -> None:
        """Raise ValueError that lists the first rows; the file is read again to find them."""
        if not self.is_faulty:
            return
        expected = len(self.dialect.columns)
        ragged = (
            (line, len(cells))
            for line, cells in _numbered_records(self.path, self.dialect)
            if len(cells) != expected and not _is_short_total(cells, expected)
        )
        self._raise_for_second_table()
        lines = [
            f"{self.path}, line {line}: expected {expected} cells as in the header, got {cells}"
            for line, cells in islice(ragged, _FAULTS_LISTED)
        ]
        separator = SEPARATOR_NAMES.get(self.dialect.separator, self.dialect.separator)
        remedy = f"remove thousands separators, or quote cells that hold a {separator}"
        raise ValueError("\n".join([*lines, f"{remedy}; or export the file again"]))

    def _raise_for_second_table(self) -> None:
        """Raise ValueError where the header of another table follows."""
        expected = len(self.dialect.columns)
        for line, cells in _numbered_records(self.path, self.dialect):
            if len(cells) != expected and cells[0].strip() == self.dialect.columns[0]:
                raise ValueError(
                    f"{self.path}, line {line}: another header, of {len(cells)} columns instead of "
                    f"{expected}: two exports stand in one file; split it above this line"
                )


def is_blank_row(cells: Sequence[str]) -> bool:
    """Return whether no cell of a row holds anything but blanks."""
    return not any(map(str.strip, cells))


def is_total(text: str) -> bool:
    """Return whether the first cell of a row says that it sums the others.

    >>> is_total("Grand total"), is_total("합계"), is_total("Totally free")
    (True, True, False)
    """
    return bool(_TOTAL.fullmatch(text.strip()))


def is_date_like(text: str) -> bool:
    """Return whether a text has the look of a date, whatever the order of its numbers.

    >>> is_date_like("2025-01-06"), is_date_like("6.1.25 10:00"), is_date_like("spring 2025")
    (True, True, False)
    """
    return bool(_DATE_LIKE.fullmatch(text.strip()))


def line_numbers(path: Path, dialect: TextDialect, rows: Sequence[int]) -> list[int]:
    """Find the lines (from 1) on which rows (from 0) of `read_text_batches` end."""
    wanted = set(rows)
    line_of: dict[int, int] = {}
    for row, line in enumerate(_lines_of_rows(path, dialect)):
        if row in wanted:
            line_of[row] = line
        if len(line_of) == len(wanted):
            break
    return [line_of.get(row, dialect.header_line) for row in rows]


def _lines_of_rows(path: Path, dialect: TextDialect) -> Iterator[int]:
    """Yield the line of each row, repeated headers and short totals left out."""
    width = len(dialect.columns)
    for line, cells in _numbered_records(path, dialect):
        is_header = [cell.strip() for cell in cells] == list(dialect.columns)
        if not is_header and not _is_short_total(cells, width):
            yield line


def _is_short_total(cells: Sequence[str], width: int) -> bool:
    """Return whether a row sums the others and has fewer cells than they."""
    return len(cells) < width and is_total(cells[0])


def _numbered_records(path: Path, dialect: TextDialect) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows below the header, blank lines left out, with the lines on which they end."""
    with io.TextIOWrapper(open_bytes(path), encoding=dialect.encoding, newline="") as file:
        reader = csv.reader(file, delimiter=dialect.separator)
        for cells in _records(reader):
            is_blank = not any(cells) or (
                len(cells) != len(dialect.columns) and is_blank_row(cells)
            )
            if not is_blank and reader.line_num > dialect.header_line:
                yield reader.line_num, cells
