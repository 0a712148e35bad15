"""Conventions of numbers and dates, decided over all cells of all files.

Shapes: N rows of a block.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ltvnet.data.columns import DATE, END, SPEND, START, USERS
from ltvnet.data.importers.column_mapping import AGE, ColumnMapping
from ltvnet.data.importers.dates import DateEvidence, DateReading
from ltvnet.data.importers.numbers import NumberEvidence, NumberFormat
from ltvnet.data.importers.table_format import TableFormat
from ltvnet.data.table_files import factorize_text, is_text_type

_BLOCK_ROWS = 1 << 14


@dataclass(frozen=True)
class Conventions:
    """How numbers and dates of all files are written; `notes` say what was understood."""

    numbers: NumberFormat
    dates: DateReading
    notes: tuple[str, ...]


@dataclass(frozen=True)
class MappedFile:
    """A file with the roles of its columns: `separator` of its cells, None where it has none."""

    path: Path
    mapping: ColumnMapping
    separator: str | None

    @property
    def date_columns(self) -> list[str]:
        """Columns of the first and last day of acquisition, or of both in one."""
        roles = (DATE, START, END)
        return [self.mapping.column_of[role] for role in roles if role in self.mapping.column_of]

    @property
    def number_columns(self) -> list[str]:
        """Columns of numbers: users, spend, ages, values."""
        column_of = self.mapping.column_of
        amounts = [column_of[role] for role in (USERS, SPEND, AGE) if role in column_of]
        version = [self.mapping.version] if self.mapping.version else []
        return [*amounts, *version, *self.mapping.ages, *self.mapping.values_of]


def decide_conventions(
    files: Sequence[MappedFile],
    blocks_of: "BlocksOf",
    table_format: TableFormat,
) -> Conventions:
    """Read all cells of numbers and dates, and decide how they are written.

    Raises ValueError where they can be read in two ways, and none of them was told.
    """
    numbers = NumberEvidence()
    dates = DateEvidence()
    for file in files:
        for block in blocks_of(file.path, _BLOCK_ROWS):
            for name in file.number_columns:
                column = block.column(name)
                if is_text_type(column.type):
                    numbers.add(column, f"{file.path.name}, {name}")
            for name in file.date_columns:
                _, texts = factorize_text(block.column(name))
                dates.add([text for text in texts if text], f"{file.path.name}, {name}")

    separators = {file.separator for file in files} - {None}
    separator = separators.pop() if len(separators) == 1 else None
    number_format = numbers.decide(separator or ",", table_format.decimal)
    date_reading = dates.decide(table_format.dates)
    notes = [f"dates as {date_reading.describe()}"]
    if number_format.decimal == "comma":
        notes.append("decimal commas")
    if numbers.currencies:
        notes.append(f"amounts in {' '.join(numbers.currencies)}")
    if numbers.missing_marks:
        marks = ", ".join(f"{n:,} {mark!r}" for mark, n in numbers.missing_marks.most_common(3))
        notes.append(f"read as unknown: {marks}")
    return Conventions(number_format, date_reading, tuple(notes))
