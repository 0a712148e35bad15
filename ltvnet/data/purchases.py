"""Files of purchases as checked relations of DuckDB: `lines`, and `people` who were acquired.

Both relations have the columns customer, moment, day, a0, a1, .. (attributes by their sorted
names); lines have amount too, and whether it counts. Nothing later than the last day of the data
is in them. They are made of `cells`, the fields of every line as they were read, and of
`user_cells`.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import duckdb
import numpy as np

from ltvnet.data.believed_lines import BelievedLines, believe_lines, believe_users
from ltvnet.data.curves import parse_day
from ltvnet.data.customer_ids import spelt_customer, unify_spellings
from ltvnet.data.doubtful_lines import Doubtful
from ltvnet.data.line_outcomes import (
    HAS_AMOUNT,
    HAS_MOMENT,
    KNOWN,
    REFUND_RULES,
    LineOutcomes,
    Refunds,
)
from ltvnet.data.purchase_cells import (
    CellQuery,
    RowDescription,
    read_amounts,
    read_customers,
    read_moments,
)
from ltvnet.data.purchase_fields import LineFields, resolve_fields
from ltvnet.data.purchase_files import FileRelation, LineFormat, fetch_row

Dedupe = Literal["none", "rows", "invoice_across_files"]

DEDUPE_RULES: tuple[Dedupe, ...] = get_args(Dedupe)
"""Which lines are duplicates: none, those equal in every column, invoices of an earlier sheet."""

DOUBTFUL_RULES: tuple[Doubtful, ...] = get_args(Doubtful)
"""What becomes of lines that nobody should believe unasked: refused, dropped or kept."""

_NUMBER_FIELDS = ("amount", "where", "date", "users_date")
"""Fields whose SQL sees columns of plain numbers as numbers."""

_NO_ROWS = {
    "repeated_headers": "lines that repeat the header",
    "totals": "lines of totals",
    "blanks": "lines that are blank",
}
"""Counts of lines that are no rows of a table, and how they are reported."""

_RULE_REPORTS = {
    "where": "lines left out by data.where",
    "customer": "lines without a customer",
    "until": "lines after data.until",
    "refunds": "lines not counted by data.refunds=gross",
}
"""Rules that leave lines out, in order, and how they are reported."""


@dataclass(frozen=True)
class LoadSummary:
    """Counts of what was read, for a report, and what the cohorts need of it.

    `row_counts` numbers of rows by what became of them; `kept_lines` number of lines that no rule
    left out, duplicates among them; `until` the last complete day; `usual_amount` the largest
    amount that counts and is not absurd, of either sign, and `largest_amount` that of all;
    `notes` on how the files were understood.
    """

    row_counts: Mapping[str, int]
    kept_lines: int
    until: np.datetime64
    usual_amount: float
    largest_amount: float
    notes: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Purchases:
    """Purchase lines in files, and which of them are to count.

    - `path`: one CSV, CSV.gz or Parquet file, or a glob of several.
    - `customer`, `date`, `amount` (one currency), `invoice`, `sheet`: columns or SQL expressions
      over columns, with `filename` for a line's file.
    - `where`: a condition in SQL that lines must meet, null for none.
    - `by`: attribute columns.
    - `refunds`: one of REFUND_RULES; `dedupe`: one of DEDUPE_RULES; `doubtful`: one of
      DOUBTFUL_RULES, for lines with odd days or absurd amounts, and for users that few lines find.
    - `until`: the last complete day of the data, null for that of the last line.
    - `timezone`: of the days, for moments that say how far they are from UTC; null: those days that
      are written.
    - `format`: the keys of LineFormat.
    - `users`: a file of everyone acquired, with `users_customer`, `users_date` and the columns
      `by`, so that those who never bought count; null where customers are acquired by their first
      line.

    Raises ValueError for words and dates that are none, and for options that lack others.
    """

    path: str
    customer: str
    date: str
    amount: str
    where: str | None
    by: Sequence[str]
    refunds: Refunds
    dedupe: Dedupe
    doubtful: Doubtful
    invoice: str | None
    sheet: str | None
    until: str | None
    timezone: str | None
    format: Mapping[str, str | None]
    users: str | None
    users_customer: str | None
    users_date: str | None

    def __post_init__(self) -> None:
        """Check words and dates, and that options which need others have them."""
        check_word("refunds", self.refunds, REFUND_RULES)
        check_word("dedupe", self.dedupe, DEDUPE_RULES)
        check_word("doubtful", self.doubtful, DOUBTFUL_RULES)
        sql_date("until", self.until, "infinity")
        LineFormat.of_options(self.format)
        if self.dedupe == "invoice_across_files" and None in (self.invoice, self.sheet):
            raise ValueError(
                "data.dedupe=invoice_across_files needs data.invoice and data.sheet: the columns"
                " of an invoice's number and its sheet (data.sheet=filename for the file)"
            )
        if self.users is not None and None in (self.users_customer, self.users_date):
            raise ValueError(
                "data.users needs data.users_customer and data.users_date: the columns of"
                f" {self.users} that hold the customer and the day of acquisition"
            )

    @property
    def attribute_names(self) -> dict[str, str]:
        """Name of each attribute by its column: a0, a1, .. by sorted names."""
        return {f"a{number}": name for number, name in enumerate(sorted(self.by))}

    def load(self, connection: duckdb.DuckDBPyConnection) -> LoadSummary:
        """Make `lines` and `people` in a database; without a users file the latter are the former.

        Raises ValueError when a file or a column is missing, a date or an amount is none, can be
        read in two ways or is not to be believed, or no line is left.
        """
        set_time_zone(connection, self.timezone)
        source, query = self._read_lines(connection)
        outcomes = self._count_outcomes(query)
        last_day = None if self.until is None else sql_date("until", self.until, "")
        believed = believe_lines(query, outcomes, self.refunds, self.doubtful, last_day)
        until = believed.outcomes.last_day if self.until is None else parse_day(self.until)
        row_counts = self._row_counts(source, outcomes, believed)
        notes = [*source.notes(), *query.notes, *believed.belief.notes]

        if self.users is None:
            self._make_lines(query, believed)
            connection.execute("CREATE VIEW people AS FROM lines")
        else:
            user_query = self._read_users(connection)
            notes += user_query.notes
            notes += unify_spellings(connection, self.path, self.users)
            self._make_lines(query, believed)
            user_counts, user_notes = self._make_people(user_query, until)
            row_counts |= user_counts
            notes += user_notes

        return LoadSummary(
            row_counts=row_counts,
            kept_lines=believed.kept_lines,
            until=until,
            usual_amount=believed.usual_amount,
            largest_amount=believed.largest_amount,
            notes=notes,
        )

    def _read_lines(self, connection: duckdb.DuckDBPyConnection) -> tuple[FileRelation, CellQuery]:
        """Make `source`, the files of lines, and `cells` of them."""
        fields = {"customer": self.customer, "date": self.date, "amount": str(self.amount)}
        options = {"where": self.where, "invoice": self.invoice, "sheet": self.sheet}
        fields |= {field: text for field, text in options.items() if text is not None}
        if not self.users:
            fields |= self.attribute_names

        mentions = None if self.dedupe == "rows" else " ".join(fields.values())
        line_format = LineFormat.of_options(self.format)
        source = FileRelation.open(connection, "source", self.path, line_format, mentions)
        query = self._cell_query(resolve_fields(source, fields, _NUMBER_FIELDS, line_format))
        query.create("cells", source.name)
        return source, query

    def _cell_query(self, fields: LineFields) -> CellQuery:
        """Read the fields of lines, or those of users by the names of the fields of lines."""
        line_format = LineFormat.of_options(self.format)
        prefix = "users_" if "users_date" in fields.sql else ""
        moments = read_moments(fields, f"{prefix}date", line_format, self.timezone)
        columns = {
            "customer": read_customers(fields, f"{prefix}customer", as_text=self.users is not None),
            "moment": moments.sql,
            "wanted": f"coalesce({fields.sql.get('where', 'true')}, false)",
        }
        notes = moments.notes
        if "amount" in fields.sql:
            amounts = read_amounts(fields, "amount", line_format)
            notes += amounts.notes
            columns |= {
                "amount": amounts.sql,
                "invoice": fields.sql.get("invoice", "NULL"),
                "sheet": fields.sql.get("sheet", "NULL"),
            }
        for name in self.attribute_names:
            if name in fields.sql:  # else the users file has it
                columns[name] = f"coalesce(CAST({fields.sql[name]} AS VARCHAR), '')"
        return CellQuery(fields, columns, notes)

    def _count_outcomes(self, query: CellQuery) -> LineOutcomes:
        """Count lines by the first rule that leaves them out; check dates and amounts."""
        last_day = sql_date("until", self.until, "infinity")
        connection = query.fields.relation.connection
        outcomes = LineOutcomes.of_cells(connection, self.refunds, last_day)

        problems = []
        if outcomes.lines("date"):
            rows = query.describe_rows(f"{KNOWN} AND NOT {HAS_MOMENT}", "date")
            problems.append(describe_unreadable_cells(rows, "date"))
        if outcomes.lines("amount"):
            bad = f"{KNOWN} AND {HAS_MOMENT} AND NOT {HAS_AMOUNT}"
            problems.append(describe_unreadable_cells(query.describe_rows(bad, "amount"), "amount"))
        if problems:
            raise ValueError("\n".join(problems))

        if not outcomes.lines("left", "refunds"):
            counts = {"lines read": outcomes.all_lines}
            counts |= {text: outcomes.lines(rule) for rule, text in _RULE_REPORTS.items()}
            raise ValueError(
                f"{self.path}: expected purchases, but no line is left: {counts}; check data.where,"
                " data.customer and data.until"
            )
        return outcomes

    def _row_counts(
        self, source: FileRelation, outcomes: LineOutcomes, believed: BelievedLines
    ) -> dict[str, int]:
        """Counts of all lines of the files by the rule that leaves them out."""
        no_rows = {text: getattr(source.counts, name) for name, text in _NO_ROWS.items()}
        dropped = {f"lines {text}": n for text, n in believed.belief.dropped_rows.items()}
        row_counts = {"lines read": outcomes.all_lines + sum(no_rows.values())}
        row_counts |= {text: number for text, number in no_rows.items() if number}
        row_counts |= {text: believed.outcomes.lines(rule) for rule, text in _RULE_REPORTS.items()}
        return row_counts | dropped

    def _make_lines(self, query: CellQuery, believed: BelievedLines) -> None:
        """Make `lines`: those of a customer, without duplicates, up to the last day."""
        relation = query.fields.relation
        connection = relation.connection
        cells = "cells"
        if self.dedupe == "rows":
            cells = "cells_once"
            query.create(cells, relation.make_distinct_rows())

        customer = "customer"
        if self.users is not None:
            customer = spelt_customer(connection)
        without_repeated_invoices = ""
        if self.dedupe == "invoice_across_files":
            without_repeated_invoices = f"""
            ANTI JOIN (SELECT invoice, min(sheet) AS sheet FROM cells WHERE {KNOWN}
                       GROUP BY invoice) AS first
            ON cells.invoice = first.invoice AND cells.sheet > first.sheet"""

        kind = "VIEW" if self.dedupe == "none" else "TABLE"
        last_day = sql_date("until", self.until, "infinity")
        attributes = "".join(f", {name}" for name in self.attribute_names if name in query.columns)
        connection.execute(f"""
            CREATE {kind} lines AS
            SELECT {customer} AS customer, moment, day, amount{attributes},
                   {REFUND_RULES[self.refunds]} AS counts
            FROM {cells} AS cells {without_repeated_invoices}
            WHERE {KNOWN} AND day <= {last_day} AND {believed.belief.condition}""")

    def _read_users(self, connection: duckdb.DuckDBPyConnection) -> CellQuery:
        """Make `users_file`, the files of users, and `user_cells` of them."""
        fields = {
            "users_customer": self.users_customer or "",
            "users_date": self.users_date or "",
            **self.attribute_names,
        }
        line_format = LineFormat.of_options(self.format)
        mentions = " ".join(fields.values())
        path = self.users or ""
        users = FileRelation.open(connection, "users_file", path, line_format, mentions)
        query = self._cell_query(resolve_fields(users, fields, _NUMBER_FIELDS, line_format))
        query.create("user_cells", users.name)
        return query

    def _make_people(
        self, query: CellQuery, until: np.datetime64
    ) -> tuple[dict[str, int], list[str]]:
        """Make `people` of `user_cells`; counts of rows that are not among them, and notes."""
        users = query.fields.relation
        rows, anonymous, undated, late = fetch_row(
            users.connection,
            f"""
            SELECT count(*), count(*) FILTER (customer IS NULL),
                   count(*) FILTER (customer IS NOT NULL AND NOT {HAS_MOMENT}),
                   count(*) FILTER (customer IS NOT NULL AND day > DATE '{until}')
            FROM user_cells""",
        )
        if undated:
            bad_rows = query.describe_rows(
                f"customer IS NOT NULL AND NOT {HAS_MOMENT}", "users_date"
            )
            raise ValueError(describe_unreadable_cells(bad_rows, "users_date"))

        belief = believe_users(query, until, self.doubtful)
        attributes = "".join(f", {name}" for name in self.attribute_names)
        users.connection.execute(f"""
            CREATE VIEW people AS
            SELECT {spelt_customer(users.connection)} AS customer, moment, day{attributes}
            FROM user_cells AS cells
            WHERE customer IS NOT NULL AND day <= DATE '{until}' AND {belief.condition}""")
        counts = {
            "rows of data.users": rows,
            "rows of data.users without a customer": anonymous,
            f"rows of data.users after {until}": late,
        }
        counts |= {f"rows of data.users {text}": n for text, n in belief.dropped_rows.items()}
        return counts, [*users.notes(), *belief.notes]


def check_word(name: str, word: str, words: Collection[str]) -> None:
    """Raise ValueError unless an option is one of its words."""
    if word not in words:
        raise ValueError(f"data.{name}: expected one of {', '.join(words)}, got {word!r}")


def sql_date(name: str, date: str | None, default: str) -> str:
    """Write the date that an option gives as SQL. Raises ValueError when it gives none."""
    try:
        return f"DATE '{default if date is None else parse_day(date)}'"
    except ValueError as error:
        raise ValueError(f"data.{name}: {error}") from error


def set_time_zone(connection: duckdb.DuckDBPyConnection, timezone: str | None) -> None:
    """Set the time zone of moments that know theirs, else days would depend on the machine.

    Raises ValueError when there is no such zone.
    """
    try:
        connection.execute("SET TimeZone = " + repr(timezone or "UTC"))
    except duckdb.Error as error:
        raise ValueError(
            f"data.timezone: expected a name such as Asia/Seoul, got {timezone!r}"
        ) from error


def describe_unreadable_cells(rows: RowDescription, field: str) -> str:
    """Say which cells of a field cannot be read, and the way out."""
    if field == "amount":
        expected, expression = "a number", "regexp_replace(column, '[^-0-9.]', '', 'g')"
    elif re.fullmatch("[0-9]{9,10}", rows.cell or ""):
        expected, expression = "a date", "to_timestamp(column), for seconds since 1970"
    elif re.fullmatch("[0-9]{12,13}", rows.cell or ""):
        expected, expression = "a date", "to_timestamp(column / 1000), for milliseconds since 1970"
    else:
        expected, expression = "a date", "try_strptime(column, '%d/%m/%Y %H:%M')"
    return (
        f"{rows.path}: expected {expected}, got {rows}; give data.{field} as an expression such as"
        f" {expression}, or leave such rows out"
    )
