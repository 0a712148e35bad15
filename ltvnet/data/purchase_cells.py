"""Cells of purchases read as moments, amounts and customers, by one rule for all files and rows.

What is typed, in a Parquet file or by SQL, stays what it is. Text is read by a convention that all
cells decide together; odd texts are read once each and looked up.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ltvnet.data.importers.dates import DateEvidence
from ltvnet.data.importers.number_texts import MISSING_MARKS
from ltvnet.data.importers.numbers import NumberEvidence
from ltvnet.data.purchase_fields import LineFields
from ltvnet.data.purchase_files import (
    FILE_COLUMN,
    FileRelation,
    LineFormat,
    fetch_column,
    fetch_row,
    is_mentioned,
    quote_name,
)

_CLOCK = r"(?:[T ]+[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?)"
_OFFSET = r"(?: ?(?:Z|UTC|GMT|[-+][0-9]{2}(?::?[0-9]{2})?))"
_ISO_MOMENT = rf"\s*[0-9]{{4}}[-/][0-9]{{1,2}}[-/][0-9]{{1,2}}(?:{_CLOCK}{_OFFSET}?)?\s*"
_WITH_OFFSET = rf".*:[0-9]{{2}}(?:[.,][0-9]+)?{_OFFSET}\s*"
_MORNING = "오전|上午|午前"
_AFTERNOON = "오후|下午|午後"
_HALF_DAY_FORMATS = (
    "['%Y-%m-%d %I:%M:%S %p', '%Y-%m-%d %I:%M %p', '%Y-%m-%d %I:%M:%S%p', '%Y-%m-%d %I:%M%p',"
    " '%Y-%m-%d %p %I:%M:%S', '%Y-%m-%d %p %I:%M']"
)

_TWO_READINGS = r"\s*[-+]?[1-9][0-9]{0,2}\.[0-9]{3}\s*"  # 1.234: a number, or thousands

_TEXT_TYPES = ("VARCHAR",)
_MOMENT_TYPES = ("DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS")

NOBODY = tuple(sorted(MISSING_MARKS | {"#n/a", "#na", "#null!", "#ref!", "#value!"}))
"""Texts, in small letters, that stand where a customer is not known."""

_IS_NOBODY = r"(?i)\s*(" + "|".join(map(re.escape, NOBODY)) + r")\s*"


@dataclass(frozen=True)
class CellReading:
    """SQL that reads the cells of a field, NULL where one is unreadable, and notes on how."""

    sql: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CellQuery:
    """A query of the rows of files with their fields as they were read.

    `columns` SQL of each column by its name, over the rows of `fields`: `wanted`, `customer`,
    `moment` and others; the query adds `day`, and the number of the file. `notes` on how the cells
    were read.
    """

    fields: LineFields
    columns: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def date_field(self) -> str:
        """The field that moments are read from."""
        return "users_date" if "users_date" in self.fields.sql else "date"

    def select(self, base: str) -> str:
        """Write the query of a relation that has the columns of the files."""
        return self._select_from(f"({self.fields.select(base)})")

    def _select_from(self, rows: str, extra: str = "") -> str:
        """Write the query of rows with all fields."""
        columns = ", ".join(f"{sql} AS {name}" for name, sql in self.columns.items())
        return f"""
            SELECT *, CAST(moment AS DATE) AS day
            FROM (SELECT "{FILE_COLUMN}" AS file{extra}, {columns} FROM {rows})"""

    def create(self, name: str, base: str) -> None:
        """Make the relation `name`: a table where text had to be read, else a view."""
        relation = self.fields.relation
        kind = "TABLE" if relation.holds_text else "VIEW"
        relation.connection.execute(f"CREATE {kind} {name} AS {self.select(base)}")

    def describe_rows(self, condition: str, field: str) -> "RowDescription":
        """Find the first row that meets a condition over the columns, and count all; one must."""
        relation = self.fields.relation
        cell = f', "ltvnet row" AS row, CAST({self.fields.sql[field]} AS VARCHAR) AS cell'
        found = relation.connection.execute(f"""
            WITH numbered AS MATERIALIZED (
                SELECT *, row_number() OVER () - 1 AS "ltvnet row"
                FROM ({self.fields.select(relation.name)}))
            SELECT file, row, cell, count(*) OVER () FROM ({self._select_from("numbered", cell)})
            WHERE {condition} ORDER BY row LIMIT 1""").fetchone()
        assert found is not None
        file, row, text, count = found
        [[rows_before]] = relation.connection.execute(
            f'SELECT count(*) FROM {relation.name} WHERE "{FILE_COLUMN}" < {file}'
        ).fetchall()
        return RowDescription(relation, file, row - rows_before, text, count)


@dataclass(frozen=True)
class RowDescription:
    """The first of `count` rows with something in common: its file, number from 0, and a cell."""

    relation: FileRelation
    file: int
    row: int
    cell: str | None
    count: int

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self.relation.files[self.file]

    def __str__(self) -> str:
        """Say what stands where, and how many such rows there are."""
        cell = "an empty cell" if self.cell is None else repr(self.cell)
        line = self.relation.line_of(self.file, self.row)
        first = f", the first on line {line}" if line else ""
        return f"{cell} in data row {self.row + 1} ({self.count} such in all{first})"


def read_moments(
    fields: LineFields, field: str, line_format: LineFormat, timezone: str | None
) -> CellReading:
    """Read a field as moments on the calendar of whoever wrote them, or in a time zone.

    A time zone, if one is given, is that of the connection; it applies to moments that say how far
    they are from UTC. Raises ValueError where dates can be read in two ways.
    """
    cell = fields.sql[field]
    cell_type = fields.type_of(field)
    if cell_type in _MOMENT_TYPES:
        return CellReading(f"TRY_CAST({cell} AS TIMESTAMP)")
    if cell_type.startswith("TIMESTAMP"):
        note = f"days of {field} are those of {timezone or 'UTC; see data.timezone'}"
        return CellReading(f"TRY_CAST({cell} AS TIMESTAMP)", (note,))

    text = f"CAST({cell} AS VARCHAR)"
    rows = f"({fields.select(fields.relation.name)}) WHERE {fields.sql.get('where', 'true')}"
    filled, iso, with_offset = fetch_row(
        fields.relation.connection,
        f"""
        SELECT count({text}), count(*) FILTER (regexp_full_match({text}, '{_ISO_MOMENT}')),
               count(*) FILTER (regexp_full_match({text}, '{_WITH_OFFSET}'))
        FROM {rows}""",
    )
    notes = _offset_notes(field, filled, with_offset, timezone)
    if filled == iso:
        return CellReading(_moment(text, timezone), notes)

    # the day as it is written, up to a time, if there is one
    before_hour = f"rtrim(left({text}, strpos({text}, ':') - 1), '0123456789')"
    before_time = f"regexp_replace({before_hour}, '[ T,]*({_MORNING}|{_AFTERNOON})?[ ,]*$', '')"
    day = f"trim(CASE WHEN strpos({text}, ':') = 0 THEN {text} ELSE {before_time} END)"
    table = f"{fields.relation.name}_{field}_days"
    note = _make_days(fields, field, table, f"SELECT DISTINCT {day} FROM {rows}", line_format)

    time = f"replace(substr(ltrim({text}), length({day}) + 1), ',', '')"
    iso_text = f"((SELECT iso FROM {table} WHERE text = {day}) || {time})"
    moment = (
        f"CASE WHEN regexp_full_match({iso_text}, '{_ISO_MOMENT}')"
        f" THEN {_moment(iso_text, timezone)} ELSE {_half_day_moment(iso_text)} END"
    )
    return CellReading(moment, (note, *notes))


def _half_day_moment(iso_text: str) -> str:
    """Write SQL of a text, year first, whose hours are told as morning or afternoon."""
    words = f"regexp_replace({iso_text}, '{_MORNING}', 'AM')"
    words = f"regexp_replace({words}, '{_AFTERNOON}', 'PM')"
    clean = f"upper(trim(replace({words}, '.', '')))"
    return f"try_strptime({clean}, {_HALF_DAY_FORMATS})"


def _moment(iso_text: str, timezone: str | None) -> str:
    """Write SQL of a text, year first, as a moment: as it is written, or in a time zone."""
    comma_free = f"replace({iso_text}, ',', '.')"
    if timezone is None:
        return f"TRY_CAST({comma_free} AS TIMESTAMP)"
    without_blank = f"regexp_replace({comma_free}, ' +([-+][0-9:]+) *$', '\\1')"
    return f"TRY_CAST(TRY_CAST({without_blank} AS TIMESTAMPTZ) AS TIMESTAMP)"


def _offset_notes(
    field: str, filled: int, with_offset: int, timezone: str | None
) -> tuple[str, ...]:
    """Say how times with an offset from UTC are read, and how many have none."""
    if not with_offset:
        return ()
    rule = f"in {timezone}" if timezone else "as written, not in UTC (data.timezone converts them)"
    notes = [f"{field}: {with_offset:,} times have an offset from UTC; their days are {rule}"]
    if with_offset < filled:
        notes.append(f"{field}: {filled - with_offset:,} others have none: taken as they stand")
    return tuple(notes)


def _make_days(
    fields: LineFields, field: str, table: str, query: str, line_format: LineFormat
) -> str:
    """Make a table of the days that a query returns as text: `text`, and `iso`, year first.

    Returns a note on how they were read. Raises ValueError where that can be done in two ways.
    """
    relation = fields.relation
    texts = fetch_column(relation.connection, query).drop_null()
    evidence = DateEvidence()
    evidence.add(texts.to_pylist(), f"{relation.path}, {field}")
    reading = evidence.decide(line_format.dates)
    first, last = reading.parse(texts.to_pylist())
    # a week or a month is no day, and a date that is none is told where it stands
    is_day = (first == last) & ~np.isnat(first)
    days = pa.array(np.where(is_day, first.astype(str), ""), pa.string())
    lookup = pa.table({"text": texts, "iso": days}).filter(pa.array(is_day))

    relation.connection.register("days", lookup)
    relation.connection.execute(f"CREATE TABLE {table} AS FROM days")
    relation.connection.unregister("days")
    return f"{field}: {reading.describe()}"


def read_amounts(fields: LineFields, field: str, line_format: LineFormat) -> CellReading:
    """Read a field as amounts of money. Raises ValueError where they can be read in two ways."""
    relation = fields.relation
    cell = fields.sql[field]
    evidence = NumberEvidence()
    expression = fields.number_fields.get(field, "")
    for column in fields.number_columns:
        if is_mentioned(column, expression):
            _add_examples(evidence, fields, column)

    if fields.type_of(field) not in _TEXT_TYPES:
        evidence.decide(relation.separator, line_format.decimal)
        return CellReading(f"TRY_CAST({cell} AS DOUBLE)")

    rows = f"({fields.select(relation.name)}) WHERE {fields.sql.get('where', 'true')}"
    query = f"SELECT DISTINCT {cell} FROM {rows}"
    texts = fetch_column(relation.connection, query)
    evidence.add(texts, f"{relation.path}, {field}")
    number_format = evidence.decide(relation.separator, line_format.decimal)
    values, _ = number_format.parse(texts)

    table = f"{relation.name}_{field}_values"
    numbers = pa.array(values, from_pandas=True)
    relation.connection.register("numbers", pa.table({"text": texts, "number": numbers}))
    relation.connection.execute(f"CREATE TABLE {table} AS FROM numbers WHERE text IS NOT NULL")
    relation.connection.unregister("numbers")
    notes = [f"{field}: numbers with a decimal {number_format.decimal}"]
    if evidence.currencies:
        notes.append(f"{field}: signs of currency: {', '.join(sorted(evidence.currencies))}")
    if evidence.percents:
        notes.append(f"{field}: percent, divided by 100")
    return CellReading(f"(SELECT number FROM {table} WHERE text = {cell})", tuple(notes))


def _add_examples(evidence: NumberEvidence, fields: LineFields, column: str) -> None:
    """Add to the evidence a fraction of a column that is no thousands, and one that may be some."""
    cell = quote_name(column)
    may_be_thousands = f"regexp_full_match({cell}, '{_TWO_READINGS}')"
    examples = fetch_row(
        fields.relation.connection,
        f"""
        SELECT min({cell}) FILTER (NOT {may_be_thousands}), min({cell}) FILTER ({may_be_thousands})
        FROM {fields.relation.name} WHERE strpos({cell}, '.') > 0""",
    )
    evidence.add(pa.array(examples, pa.string()), f"{fields.relation.path}, {column}")


def read_customers(fields: LineFields, field: str, *, as_text: bool) -> str:
    """Write SQL of a field as customers, NULL where there is none; as text, if other files have it.

    Text stays as it stands: "00123", "123" and "123.0" are three customers. A whole number that is
    typed as a fraction, as pandas does beside empty cells, is written without it.
    """
    cell = fields.sql[field]
    cell_type = fields.type_of(field)
    if cell_type == "VARCHAR":
        return _without_nobody(fields, cell)
    if cell_type in ("DOUBLE", "FLOAT"):
        known = f"CASE WHEN isfinite({cell}) THEN {cell} END"
        if not as_text:
            return known
        is_whole = f"{cell} = trunc({cell}) AND abs({cell}) < {1 << 53}"
        return (
            f"CASE WHEN {is_whole} THEN CAST(CAST({cell} AS BIGINT) AS VARCHAR)"
            f" ELSE CAST({known} AS VARCHAR) END"
        )
    return f"nullif(CAST({cell} AS VARCHAR), '')" if as_text else cell


def _without_nobody(fields: LineFields, cell: str) -> str:
    """Write SQL of a text that is NULL where it stands for nobody, by the marks that are there.

    They are looked for among texts that may be some by their first letter: Parquet files know
    which of their parts have none.
    """
    may_be_mark = " OR ".join(
        [
            "cell < '0'",
            "cell >= '<' AND cell < '='",
            "cell >= 'N' AND cell < 'O'",
            "cell >= 'n' AND cell < 'o'",
            "cell >= '~'",
        ]
    )
    relation = fields.relation
    marks = fetch_column(
        relation.connection,
        f"""
        SELECT DISTINCT cell FROM (SELECT {cell} AS cell FROM ({fields.select(relation.name)}))
        WHERE ({may_be_mark}) AND regexp_full_match(cell, '{_IS_NOBODY}')""",
    ).to_pylist()
    if not marks:
        return cell
    listed = ", ".join(f"'{mark}'" for mark in marks)
    return f"CASE WHEN {cell} IN ({listed}) THEN NULL ELSE {cell} END"
