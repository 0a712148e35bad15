"""Fields of purchases (customer, date, amount ..) as SQL over the columns of their files.

Amounts, dates and conditions see columns of plain numbers as numbers; customers, invoices and
attributes see every column as the text that stands in the file.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import duckdb

from ltvnet.data.importers.purchase_presets import recognise_purchases
from ltvnet.data.purchase_files import (
    FileRelation,
    LineFormat,
    fetch_row,
    has_column,
    is_mentioned,
    quote_name,
)

_TEXT_COLUMN = "ltvnet text of "  # before the name of a column that is numbers in SQL
_FIELD_COLUMN = "ltvnet field "  # before the name of a field

_COLUMNS_LISTED = 30

_PLAIN_NUMBER = r"\s*[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?\s*"
_WHOLE_NUMBER = r"\s*[-+]?(0|[1-9][0-9]{0,17})\s*"


@dataclass(frozen=True)
class LineFields:
    """Fields as SQL over the rows of `select`.

    `number_columns` types of the columns that are plain numbers; `number_fields` expressions that
    see them as numbers, `text_fields` as text.
    """

    relation: FileRelation
    number_columns: Mapping[str, str]
    number_fields: Mapping[str, str]
    text_fields: Mapping[str, str]

    @property
    def sql(self) -> dict[str, str]:
        """Expression of each field over the rows of `select`."""
        numbers = {field: quote_name(_FIELD_COLUMN + field) for field in self.number_fields}
        return numbers | dict(self.text_fields)

    def select(self, base: str) -> str:
        """Write a query of a relation with the columns of the files, and the number fields."""
        computed = "".join(
            f", {expression} AS {quote_name(_FIELD_COLUMN + field)}"
            for field, expression in self.number_fields.items()
        )
        return f"SELECT {_text_columns(self.number_columns)}{computed} FROM " + (
            f"({select_numbers(base, self.number_columns)})" if self.number_columns else base
        )

    def is_text(self, field: str) -> bool:
        """Return whether a field is text."""
        return self.type_of(field) == "VARCHAR"

    def type_of(self, field: str) -> str:
        """Return the type of a field in SQL."""
        query = f"SELECT {self.sql[field]} FROM ({self.select(self.relation.name)})"
        return str(self.relation.connection.sql(query).types[0])


def select_numbers(base: str, number_columns: Mapping[str, str]) -> str:
    """Write a query of a relation in which some columns are numbers; their text is kept beside."""
    if not number_columns:
        return f"SELECT * FROM {base}"
    casts = [
        f"TRY_CAST({quote_name(column)} AS {sql_type}) AS {quote_name(column)}"
        for column, sql_type in number_columns.items()
    ]
    texts = [
        f"{quote_name(column)} AS {quote_name(_TEXT_COLUMN + column)}" for column in number_columns
    ]
    return f"SELECT * REPLACE ({', '.join(casts)}), {', '.join(texts)} FROM {base}"


def _text_columns(number_columns: Mapping[str, str]) -> str:
    """Write the columns of `select_numbers`, text again where they were."""
    if not number_columns:
        return "*"
    hidden = [quote_name(_TEXT_COLUMN + column) for column in number_columns]
    texts = [
        f"{text} AS {quote_name(column)}"
        for text, column in zip(hidden, number_columns, strict=True)
    ]
    return f"* EXCLUDE ({', '.join(hidden)}) REPLACE ({', '.join(texts)})"


def resolve_fields(
    relation: FileRelation,
    fields: Mapping[str, str],
    number_fields: Collection[str],
    line_format: LineFormat,
) -> LineFields:
    """Make SQL of fields that were given as columns or as expressions over columns.

    Those in `number_fields` see plain numbers as numbers where DuckDB accepts it, else as text;
    the others the other way around. A date that is a column is always its text. Raises ValueError
    with all fields that do not fit the columns.
    """
    over_numbers = [fields[field] for field in number_fields if field in fields]
    number_columns = find_number_columns(relation, " ".join(over_numbers), line_format)
    numbers = f"({select_numbers(relation.name, number_columns)})"

    number_expressions: dict[str, str] = {}
    text_expressions: dict[str, str] = {}
    problems = []
    for field, text in fields.items():
        is_column = has_column(relation.columns, text) or text.lower() == "filename"
        expression = quote_name(text) if is_column else f"({text})"
        if text.isidentifier() and not is_column:
            # which may be a function of SQL, such as user, but was meant as a column
            problems.append(f"{field} {text!r} (no such column{_nearest(text, relation.columns)})")
            continue

        sees_numbers = field in number_fields and not (is_column and field.endswith("date"))
        ways = [(text_expressions, relation.name), (number_expressions, numbers)]
        refusals = []
        for expressions, rows in ways[::-1] if sees_numbers else ways:
            refusal = binding_error(relation.connection, expression, rows)
            if refusal is None:
                expressions[field] = expression
                break
            refusals.append(refusal)
        else:
            problems.append(f"{field} {text!r} ({refusals[0]})")

    if problems:
        listed = ", ".join(relation.columns[:_COLUMNS_LISTED])
        unlisted = len(relation.columns) - _COLUMNS_LISTED
        more = f" and {unlisted} more" if unlisted > 0 else ""
        is_one_wrong = 2 * len(problems) < len(fields)  # the preset is in use, and fits
        shop = None if is_one_wrong else recognise_purchases(relation.columns)
        hint = "" if shop is None else f"; they are those of {shop}, which data={shop} reads"
        raise ValueError(
            f"{relation.path}: expected columns of the file, or SQL over them, as data.*; got "
            f"{', '.join(problems)}; the columns are {listed}{more}{hint}"
        )
    return LineFields(relation, number_columns, number_expressions, text_expressions)


def _nearest(text: str, columns: Collection[str]) -> str:
    """Say which columns have the most like names, "" where none has."""
    words = text.casefold()
    within = [name for name in columns if words in name.casefold()]
    lowered = {name.casefold(): name for name in columns}
    alike = [lowered[name] for name in get_close_matches(words, lowered)]
    names = list(dict.fromkeys([*within, *alike]))[:3]
    return f": {' or '.join(names)}?" if names else ""


def binding_error(connection: duckdb.DuckDBPyConnection, expression: str, rows: str) -> str | None:
    """Return why DuckDB does not understand an expression over some rows, None if it does."""
    try:
        connection.sql(f"SELECT {expression} FROM {rows}")
    except duckdb.Error as error:
        return str(error).splitlines()[0]
    return None


def find_number_columns(
    relation: FileRelation, mentions: str, line_format: LineFormat
) -> dict[str, str]:
    """Find the columns of text, among those that a text may name, that are plain numbers.

    Returns their types in SQL. A column is one where every filled cell of all files is a plain
    number, under a decimal point.
    """
    if not relation.holds_text:
        return {}
    number_columns = {}
    for column in relation.columns:
        if not is_mentioned(column, mentions):
            continue
        cell = quote_name(column)
        filled, plain, integers, with_point = fetch_row(
            relation.connection,
            f"""
            SELECT count({cell}),
                   count(*) FILTER (regexp_full_match({cell}, '{_PLAIN_NUMBER}')),
                   count(*) FILTER (regexp_full_match({cell}, '{_WHOLE_NUMBER}')),
                   count(*) FILTER (strpos({cell}, '.') > 0)
            FROM {relation.name}""",
        )
        has_commas = line_format.decimal == "comma" and with_point
        if filled and filled == plain and not has_commas:
            number_columns[column] = "BIGINT" if filled == integers else "DOUBLE"
    return number_columns
