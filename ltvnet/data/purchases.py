"""Files of purchases as checked relations of DuckDB: `lines`, and `people` who were acquired.

Both relations have the columns customer, moment, day, a0, a1, .. (attributes by their sorted
names); lines have amount too, and whether it counts. Nothing later than the last day of the data
is in them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path
from typing import Literal, get_args

import duckdb
import numpy as np
import pandas as pd

from ltvnet.data.curves import parse_day

Refunds = Literal["gross", "net"]

REFUND_RULES: Mapping[Refunds, str] = {"gross": "amount >= 0", "net": "true"}
"""Which lines count, as SQL."""

Dedupe = Literal["none", "rows", "invoice_across_files"]

DEDUPE_RULES: tuple[Dedupe, ...] = get_args(Dedupe)
"""Which lines are duplicates: none, those equal in every column, invoices of an earlier sheet."""

_FIELD_TYPES = {
    "date": ("TIMESTAMP", "date", "an expression such as try_strptime(column, '%d/%m/%Y %H:%M')"),
    "amount": ("DOUBLE", "number", "an expression such as replace(column, ',', '')"),
}
_FIELD_TYPES["users_date"] = _FIELD_TYPES["date"]
"""Of each field: the type of its cells in SQL and in words, and what reads cells of another."""

_RULE_REPORTS = {
    "where": "lines left out by data.where",
    "customer": "lines without a customer",
    "until": "lines after data.until",
    "refunds": "lines not counted by data.refunds=gross",
}
"""Rules that leave lines out, in order, and how they are reported."""

_OUTCOMES = ("where", "customer", "date", "amount", "until", "refunds", "left")
"""Outcomes of a line, by their number in SQL: the rule that leaves it out, a bad cell, or kept."""


def matching_files(pattern: str) -> list[Path]:
    """Find the files that a path or a glob names, sorted.

    A file that exists is meant as such, whatever brackets its name has. Raises ValueError when
    there is none, or one is empty.
    """
    path = Path(pattern).expanduser()
    if path.exists():
        matches = [path]
    else:
        matches = sorted(map(Path, glob(str(path), recursive=True)))
    files = [match for match in matches if match.is_file()]

    if not files:
        hint = "name a CSV, CSV.gz or Parquet file, or several by a glob such as 'orders/*.csv'"
        raise ValueError(f"{pattern}: expected a file there, found none; {hint}")
    if empty := [file for file in files if not file.stat().st_size]:
        raise ValueError(f"{empty[0]}: expected a table, got an empty file; export it again")
    return files


@dataclass(frozen=True)
class FileRelation:
    """Files as one relation of a database, with a column `filename` besides their own."""

    connection: duckdb.DuckDBPyConnection
    name: str
    path: str
    columns: Sequence[str]

    @classmethod
    def open(cls, connection: duckdb.DuckDBPyConnection, name: str, path: str) -> "FileRelation":
        """Make the relation `name`: Parquet files stay where they are, CSV files are parsed once.

        Raises ValueError when there is no file.
        """
        files = [str(file) for file in matching_files(path)]
        if files[0].lower().endswith(".parquet"):
            relation = connection.read_parquet(files, union_by_name=True, filename=True)
            relation.create_view(name)
        else:
            relation = connection.read_csv(
                files,  # type: ignore[arg-type]  # the stubs know one file only
                header=True,
                sample_size=-1,  # else a cell beyond the sample may not fit its column
                union_by_name=True,
                filename=True,
            )
            relation.create(name)
        return cls(connection, name, path, relation.columns)

    def field_expressions(self, fields: Mapping[str, str]) -> dict[str, str]:
        """SQL of each field that was given as a column or as an expression over columns.

        Raises ValueError with all fields that do not fit the columns.
        """
        column_names = {column.lower() for column in self.columns}
        expressions = {}
        problems = []

        for field, text in fields.items():
            is_column = text.lower() in column_names
            quoted = '"' + text.replace('"', '""') + '"'
            expressions[field] = quoted if is_column else f"({text})"

            if text.isidentifier() and not is_column:
                # which may be a function of SQL, such as user, but was meant as a column
                problems.append(f"{field} {text!r} (no such column)")
                continue
            try:
                self.connection.sql(f"SELECT {expressions[field]} FROM {self.name}")
            except duckdb.Error as error:
                reason = str(error).splitlines()[0]
                problems.append(f"{field} {text!r} ({reason})")

        if problems:
            raise ValueError(
                f"{self.path}: expected columns of the file, or SQL over them, as data.*; got "
                f"{', '.join(problems)}; the columns are {', '.join(self.columns)}"
            )
        return expressions

    def is_text(self, expression: str) -> bool:
        """Return whether an expression gives text."""
        relation = self.connection.sql(f"SELECT {expression} FROM {self.name}")
        return bool(relation.types[0] == "VARCHAR")

    def describe_unreadable_cell(self, sql: Mapping[str, str], field: str) -> str:
        """Describe the first cell that is not of its field's type, how many, and the way out.

        Only rows with `sql["known"]` are looked at; one of them must have such a cell.
        """
        sql_type, type_name, way_out = _FIELD_TYPES[field]
        first_bad = self.connection.execute(f"""
            WITH cells AS (
                SELECT filename, row_number() OVER () AS row, CAST({sql[field]} AS VARCHAR) AS cell,
                       {sql["known"]} AND
                       NOT coalesce(isfinite(TRY_CAST({sql[field]} AS {sql_type})), false) AS bad
                FROM {self.name})
            SELECT filename, row - min(row) OVER (PARTITION BY filename) + 1, cell,
                   count(*) FILTER (WHERE bad) OVER ()
            FROM cells QUALIFY bad ORDER BY row LIMIT 1""").fetchone()
        assert first_bad is not None

        file, row, cell, count = first_bad
        got = "an empty cell" if cell is None else repr(cell)
        return (
            f"{file}: expected a {type_name}, got {got} in data row {row} ({count} such in all);"
            f" give data.{field} as {way_out}, or leave such rows out"
        )


@dataclass(frozen=True)
class LoadSummary:
    """Counts of what was read, for a report, and what the cohorts need of it.

    `row_counts` numbers of rows by what became of them; `kept_lines` number of lines that no rule
    left out, duplicates among them; `until` the last complete day; `largest_amount` the largest
    amount, of either sign.
    """

    row_counts: Mapping[str, int]
    kept_lines: int
    until: np.datetime64
    largest_amount: float


@dataclass(frozen=True, kw_only=True)
class Purchases:
    """Purchase lines in files, and which of them are to count.

    - `path`: one CSV, CSV.gz or Parquet file, or a glob of several.
    - `customer`, `date`, `amount` (one currency), `invoice`, `sheet`: columns or SQL expressions
      over columns, with `filename` for a line's file.
    - `where`: a condition in SQL that lines must meet, null for none.
    - `by`: attribute columns.
    - `refunds`: one of REFUND_RULES; `dedupe`: one of DEDUPE_RULES.
    - `until`: the last complete day of the data, null for that of the last line.
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
    invoice: str | None
    sheet: str | None
    until: str | None
    users: str | None
    users_customer: str | None
    users_date: str | None

    def __post_init__(self) -> None:
        """Check words and dates, and that options which need others have them."""
        check_word("refunds", self.refunds, REFUND_RULES)
        check_word("dedupe", self.dedupe, DEDUPE_RULES)
        sql_date("until", self.until, "infinity")
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

        Raises ValueError when a file or a column is missing, a date or an amount is none, or no
        line is left.
        """
        source = FileRelation.open(connection, "source", self.path)
        sql = self._line_expressions(source)
        summary = self._count_lines(source, sql)
        self._make_lines(connection, sql)

        if self.users is None:
            connection.execute("CREATE VIEW people AS FROM lines")
            return summary

        users = FileRelation.open(connection, "users_file", self.users)
        user_counts = self._make_people(users, summary.until)
        return replace(summary, row_counts={**summary.row_counts, **user_counts})

    def _line_expressions(self, source: FileRelation) -> dict[str, str]:
        """SQL of every field of the lines, with defaults for those that were not given."""
        fields = {"customer": self.customer, "date": self.date, "amount": str(self.amount)}
        options = {"where": self.where, "invoice": self.invoice, "sheet": self.sheet}
        fields |= {field: text for field, text in options.items() if text is not None}
        if not self.users:
            fields |= self.attribute_names

        sql = {"where": "true", "invoice": "NULL", "sheet": "NULL"}
        sql |= source.field_expressions(fields)
        sql |= self._person_expressions(source, sql)
        return sql

    def _person_expressions(self, relation: FileRelation, sql: Mapping[str, str]) -> dict[str, str]:
        """SQL of the columns that lines and people share, and of which rows have a customer."""
        customer = sql["customer"]
        if self.users or relation.is_text(customer):  # which another file may hold as a number
            customer = f"nullif(CAST({customer} AS VARCHAR), '')"

        moment = f"TRY_CAST({sql['date']} AS TIMESTAMP)"
        columns = {"customer": customer, "moment": moment, "day": f"CAST({moment} AS DATE)"}
        for name in self.attribute_names:
            if name in sql:  # else the users file has it
                columns[name] = f"coalesce(CAST({sql[name]} AS VARCHAR), '')"

        named_columns = [f"{expression} AS {name}" for name, expression in columns.items()]
        is_known = f"({sql['where']} AND {customer} IS NOT NULL)"
        return {"person": ", ".join(named_columns), "known": is_known}

    def _count_lines(self, source: FileRelation, sql: Mapping[str, str]) -> LoadSummary:
        """Count lines by the first rule that leaves them out; check dates and amounts."""
        outcomes = self._outcomes(source, sql)  # a row each of _OUTCOMES
        unreadable = [field for field in ("date", "amount") if outcomes["lines"][field] > 0]
        if unreadable:
            raise ValueError(
                "\n".join(source.describe_unreadable_cell(sql, field) for field in unreadable)
            )

        lines = outcomes["lines"].fillna(0).astype(int)
        row_counts = {"lines read": int(lines.sum())}
        row_counts |= {text: int(lines[rule]) for rule, text in _RULE_REPORTS.items()}

        dated = outcomes.loc[["left", "refunds"]].dropna()
        if dated.empty:
            raise ValueError(
                f"{self.path}: expected purchases, but no line is left: {row_counts}; check"
                " data.where, data.customer and data.until"
            )
        last_day = dated["last"].max() if self.until is None else self.until
        return LoadSummary(
            row_counts=row_counts,
            kept_lines=int(lines["left"]),
            until=parse_day(last_day),
            largest_amount=float(dated["largest"].max()),
        )

    def _outcomes(self, source: FileRelation, sql: Mapping[str, str]) -> pd.DataFrame:
        """Number of lines, last day and largest amount of each of _OUTCOMES, NaN of those unmet."""
        outcomes = source.connection.execute(f"""
            SELECT CASE WHEN NOT wanted THEN 0 WHEN customer IS NULL THEN 1
                        WHEN NOT coalesce(isfinite(moment), false) THEN 2
                        WHEN NOT coalesce(isfinite(amount), false) THEN 3
                        WHEN day > {sql_date("until", self.until, "infinity")} THEN 4
                        WHEN NOT {REFUND_RULES[self.refunds]} THEN 5
                        ELSE 6 END AS rule, -- a number, as text takes longer to group by
                   count(*) AS lines, max(day) AS last, max(abs(amount)) AS largest
            FROM (SELECT {sql["person"]}, TRY_CAST({sql["amount"]} AS DOUBLE) AS amount,
                         coalesce({sql["where"]}, false) AS wanted FROM source)
            GROUP BY rule""").df()
        by_number = outcomes.set_index("rule").reindex(range(len(_OUTCOMES)))
        return by_number.set_axis(list(_OUTCOMES))

    def _make_lines(self, connection: duckdb.DuckDBPyConnection, sql: Mapping[str, str]) -> None:
        """Make `lines`: those of a customer, without duplicates, up to the last day."""
        rows = f"source WHERE {sql['known']}"
        if self.dedupe == "rows":
            rows = f"(SELECT DISTINCT * EXCLUDE (filename) FROM {rows})"
        connection.execute(f"""
            CREATE VIEW known AS
            SELECT {sql["person"]}, {sql["invoice"]} AS invoice, {sql["sheet"]} AS sheet,
                   TRY_CAST({sql["amount"]} AS DOUBLE) AS amount
            FROM {rows}""")

        kind = "VIEW" if self.dedupe == "none" else "TABLE"
        without_repeated_invoices = ""
        if self.dedupe == "invoice_across_files":
            without_repeated_invoices = """
            ANTI JOIN (SELECT invoice, min(sheet) AS sheet FROM known GROUP BY invoice) AS first
            ON known.invoice = first.invoice AND known.sheet > first.sheet"""

        counts = REFUND_RULES[self.refunds]
        last_day = sql_date("until", self.until, "infinity")
        connection.execute(f"""
            CREATE {kind} lines AS
            SELECT known.* EXCLUDE (invoice, sheet), {counts} AS counts
            FROM known {without_repeated_invoices}
            WHERE day <= {last_day}""")

    def _make_people(self, users: FileRelation, until: np.datetime64) -> dict[str, int]:
        """Make `people` of the users file, and count its rows that are not among them."""
        fields = {
            "users_customer": self.users_customer or "",
            "users_date": self.users_date or "",
        }
        sql = users.field_expressions(fields | self.attribute_names)
        sql |= {"customer": sql["users_customer"], "date": sql["users_date"], "where": "true"}
        sql |= self._person_expressions(users, sql)

        users.connection.execute(f"""
            CREATE VIEW people AS
            SELECT * FROM (SELECT {sql["person"]} FROM users_file WHERE {sql["known"]})
            WHERE day <= DATE '{until}'""")
        anonymous, undated, late = users.connection.execute(f"""
            SELECT count(*) FILTER (customer IS NULL),
                   count(*) FILTER (customer IS NOT NULL AND NOT coalesce(isfinite(moment), false)),
                   count(*) FILTER (customer IS NOT NULL AND day > DATE '{until}')
            FROM (SELECT {sql["person"]} FROM users_file)""").fetchall()[0]

        if undated:
            raise ValueError(users.describe_unreadable_cell(sql, "users_date"))
        return {
            "rows of data.users without a customer": anonymous,
            f"rows of data.users after {until}": late,
        }


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
