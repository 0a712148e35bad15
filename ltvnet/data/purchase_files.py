"""Files of purchases as relations of DuckDB: cells of a CSV are text, Parquet columns as typed.

SQL that people write over a CSV sees a column as numbers exactly where every filled cell of all
files is a plain number, else as text; its cells as they stand are kept beside the numbers.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from glob import glob
from pathlib import Path
from typing import Any, cast, get_args

import duckdb
import pyarrow as pa
from numpy.typing import NDArray

from ltvnet.data.importers.date_texts import DateConvention
from ltvnet.data.importers.number_texts import DecimalSign
from ltvnet.data.importers.text_files import (
    LineCounts,
    TextDialect,
    detect_dialect,
    line_numbers,
    read_text_batches,
)

FILE_COLUMN = "ltvnet file"
"""Column with the number of a line's file, from 0; no name that an export would have."""


@dataclass(frozen=True, kw_only=True)
class LineFormat:
    """How the text in CSV files of purchases is written, null where its cells are to tell.

    `encoding` as Python names it, `separator` between cells, `decimal`: point or comma, `dates`:
    ymd, dmy or mdy.
    """

    encoding: str | None = None
    separator: str | None = None
    decimal: DecimalSign | None = None
    dates: DateConvention | None = None

    @classmethod
    def of_options(cls, options: Mapping[str, str | None]) -> "LineFormat":
        """Check the options under data.format. Raises ValueError for others and for wrong words."""
        names = [known.name for known in fields(cls)]
        if unknown := set(options) - set(names):
            got = ", ".join(sorted(unknown))
            raise ValueError(f"data.format: expected some of {', '.join(names)}, got {got}")
        return cls(**cast(Any, dict(options)))

    def __post_init__(self) -> None:
        """Check the words."""
        for name, words in (
            ("decimal", get_args(DecimalSign)),
            ("dates", get_args(DateConvention)),
        ):
            word = getattr(self, name)
            if word is not None and word not in words:
                raise ValueError(f"expected data.format.{name}={' or '.join(words)}, got {word!r}")


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
    """Files as a relation of a database.

    `name` of the relation, which has the `columns` of the files, FILE_COLUMN, and `filename` unless
    the files have a column of that name; `path` as it was given; `files`, with the `dialects` of
    CSV files and the `counts` of their lines that are no rows.
    """

    connection: duckdb.DuckDBPyConnection
    name: str
    path: str
    columns: tuple[str, ...]
    files: tuple[Path, ...]
    dialects: tuple[TextDialect, ...] = ()
    counts: LineCounts = field(default_factory=LineCounts)

    @classmethod
    def open(
        cls,
        connection: duckdb.DuckDBPyConnection,
        name: str,
        path: str,
        line_format: LineFormat,
        mentions: str | None,
    ) -> "FileRelation":
        """Make the relation `name`: Parquet files stay where they are, CSV files are read once.

        Of CSV files, columns that do not occur in the text `mentions` are left out; None keeps
        all. Raises ValueError when there is no file, when Parquet and other files are mixed, and
        for lines that are no rows of a table.
        """
        files = matching_files(path)
        is_parquet = [file.name.lower().endswith(".parquet") for file in files]
        if any(is_parquet) and not all(is_parquet):
            raise ValueError(
                f"{path}: expected files of one kind, got {files[is_parquet.index(True)].name} and "
                f"{files[is_parquet.index(False)].name}; prepare them one after the other"
            )
        if all(is_parquet):
            return cls._open_parquet(connection, name, path, files)
        return cls._load_texts(connection, name, path, files, line_format, mentions)

    @classmethod
    def _open_parquet(
        cls, connection: duckdb.DuckDBPyConnection, name: str, path: str, files: Sequence[Path]
    ) -> "FileRelation":
        """Make a view of Parquet files."""
        file_column = "ltvnet path"
        scan = f"read_parquet({_sql_list(files)}, union_by_name = true, filename = '{file_column}')"
        described = connection.execute(f"DESCRIBE FROM {scan}").fetchall()
        columns = tuple(row[0] for row in described if row[0] != file_column)
        filename = "" if has_column(columns, "filename") else f', "{file_column}" AS filename'
        connection.execute(f"""
            CREATE VIEW {name} AS
            SELECT * EXCLUDE ("{file_column}"){filename},
                   list_position({_sql_list(files)}, "{file_column}") - 1 AS "{FILE_COLUMN}"
            FROM {scan}""")
        return cls(connection, name, path, columns, tuple(files))

    @classmethod
    def _load_texts(
        cls,
        connection: duckdb.DuckDBPyConnection,
        name: str,
        path: str,
        files: Sequence[Path],
        line_format: LineFormat,
        mentions: str | None,
    ) -> "FileRelation":
        """Make a table of the cells of CSV files, and a view of it with `filename`."""
        dialects = tuple(
            detect_dialect(file, encoding=line_format.encoding, separator=line_format.separator)
            for file in files
        )
        headers = [distinct_names(dialect.columns) for dialect in dialects]
        by_small_letters = {column.lower(): column for header in headers[::-1] for column in header}
        in_order = dict.fromkeys(column.lower() for header in headers for column in header)
        columns = tuple(by_small_letters[column] for column in in_order)
        relation = cls(connection, name, path, columns, tuple(files), dialects)

        # a file's first column stays in any case, as a table of rows needs one
        kept = [
            {
                place: column
                for place, column in enumerate(header)
                if place == 0 or is_mentioned(column, mentions)
            }
            for header in headers
        ]
        kept_names = {column.lower() for header in kept for column in header.values()}
        definitions = [
            f"{quote_name(name)} VARCHAR" for name in columns if name.lower() in kept_names
        ]
        table = f"{name}_cells"
        connection.execute(
            f'CREATE TABLE {table} ("{FILE_COLUMN}" SMALLINT, {", ".join(definitions)})'
        )
        for number, header in enumerate(kept):
            _load_rows(relation, table, number, header)

        filename = ""
        if not has_column(columns, "filename"):
            filename = f', {_sql_list(files)}["{FILE_COLUMN}" + 1] AS filename'
        connection.execute(f"CREATE VIEW {name} AS SELECT *{filename} FROM {table}")
        return relation

    @property
    def holds_text(self) -> bool:
        """Whether the cells are text, as those of a CSV are."""
        return bool(self.dialects)

    @property
    def separator(self) -> str | None:
        """The separator of the files, None where they have several or none."""
        separators = {dialect.separator for dialect in self.dialects}
        return separators.pop() if len(separators) == 1 else None

    def notes(self) -> list[str]:
        """Describe what is unusual about the files, one text for those that are alike."""
        names: dict[str, list[str]] = {}
        for file, dialect in zip(self.files, self.dialects, strict=False):
            names.setdefault(dialect.describe(), []).append(file.name)
        names.pop("", None)
        return [
            f"{alike[0] if len(alike) == 1 else f'{alike[0]} and {len(alike) - 1} others'}: {text}"
            for text, alike in names.items()
        ]

    def make_distinct_rows(self) -> str:
        """Make a relation of rows that differ in some cell, with their first file; its name."""
        name = f"{self.name}_once"
        cells = ", ".join(map(quote_name, self.columns))
        filename = ""
        if not has_column(self.columns, "filename"):
            filename = f', {_sql_list(self.files)}["{FILE_COLUMN}" + 1] AS filename'
        self.connection.execute(f"""
            CREATE TABLE {name} AS SELECT *{filename} FROM (
                SELECT {cells}, min("{FILE_COLUMN}") AS "{FILE_COLUMN}"
                FROM {self.name} GROUP BY {cells})""")
        return name

    def line_of(self, file_number: int, row: int) -> int | None:
        """Find the line of a CSV file on which a row (from 0) ends; None of Parquet."""
        if not self.holds_text:
            return None
        [line] = line_numbers(self.files[file_number], self.dialects[file_number], [row])
        return line


def _load_rows(relation: FileRelation, table: str, number: int, columns: Mapping[int, str]) -> None:
    """Append the rows of a CSV file to a table: the columns at some places of its header."""
    schema = pa.schema([(name, pa.string()) for name in columns.values()])
    failures: list[ValueError] = []  # of an error in between DuckDB passes on the text only

    def batches() -> Iterator[pa.RecordBatch]:
        file = relation.files[number]
        try:
            for batch in read_text_batches(file, relation.dialects[number], relation.counts):
                cells = [batch.column(place) for place in columns]
                yield pa.RecordBatch.from_arrays(cells, schema=schema)
        except ValueError as error:
            failures.append(error)
            raise

    connection = relation.connection
    connection.register("batches", pa.RecordBatchReader.from_batches(schema, batches()))
    try:
        connection.execute(f"""
            INSERT INTO {table} BY NAME
            SELECT CAST({number} AS SMALLINT) AS "{FILE_COLUMN}", * FROM batches""")
    except duckdb.Error:
        if failures:
            raise failures[0] from None
        raise
    finally:
        connection.unregister("batches")


def distinct_names(header: Sequence[str]) -> list[str]:
    """Name the columns of a header, so that SQL can tell them apart.

    >>> distinct_names(["id", "", "Amount", "amount"])
    ['id', 'column_2', 'Amount', 'amount_1']
    """
    names: list[str] = []
    seen: set[str] = set()
    for place, text in enumerate(header, 1):
        stem = text or f"column_{place}"
        name = stem
        number = 0
        while name.lower() in seen:
            number += 1
            name = f"{stem}_{number}"
        seen.add(name.lower())
        names.append(name)
    return names


def fetch_row(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """Return the only row of a query."""
    [row] = connection.execute(query).fetchall()
    return row


def fetch_arrays(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, NDArray[Any]]:
    """Return the columns of a query by their names."""
    columns = connection.execute(query).fetchnumpy()
    return cast(dict[str, NDArray[Any]], columns)


def fetch_column(connection: duckdb.DuckDBPyConnection, query: str) -> pa.Array:
    """Return the only column of a query."""
    column = connection.sql(query).to_arrow_table().column(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def quote_name(name: str) -> str:
    """Quote the name of a column for SQL."""
    return '"' + name.replace('"', '""') + '"'


def has_column(columns: Collection[str], name: str) -> bool:
    """Return whether a column has a name; SQL knows no capital letters."""
    return name.lower() in {column.lower() for column in columns}


def is_mentioned(column: str, mentions: str | None) -> bool:
    """Return whether a text may name a column, as it is or quoted."""
    return mentions is None or column.lower() in mentions.lower().replace('""', '"')


def _sql_list(files: Sequence[Path]) -> str:
    """Write the paths of files as a list in SQL."""
    paths = [str(file).replace("'", "''") for file in files]
    return "['" + "', '".join(paths) + "']"
