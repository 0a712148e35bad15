"""Conventions of numbers and dates, decided over all cells of all files.

Shapes: N rows of a block.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ltvnet.data.columns import DATE, END, SPEND, START, USERS
from ltvnet.data.importers.column_mapping import AGE, ColumnMapping
from ltvnet.data.importers.dates import DateEvidence, DateReading
from ltvnet.data.importers.headings import refuse_ratio
from ltvnet.data.importers.number_texts import DecimalSign
from ltvnet.data.importers.numbers import NumberEvidence, NumberFormat
from ltvnet.data.importers.table_format import TableFormat
from ltvnet.data.importers.text_files import is_total
from ltvnet.data.importers.text_kinds import has_name
from ltvnet.data.table_files import factorize_text, is_text_type, may_hold_numbers, name_file

BlocksOf = Callable[[Path, int], Iterator[pa.Table]]
"""Reads a file in blocks of at most so many rows."""

_BLOCK_ROWS = 1 << 14


@dataclass(frozen=True)
class Conventions:
    """How numbers and dates of all files are written.

    `text_columns` the columns of each file without a role that hold text, and no dates; `notes` say
    what was understood.
    """

    numbers: NumberFormat
    dates: DateReading
    text_columns: Mapping[Path, tuple[str, ...]]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class MappedFile:
    """A file with the roles of its columns: `separator` of its cells, None where it has none."""

    path: Path
    mapping: ColumnMapping
    separator: str | None

    @property
    def is_cohort_table(self) -> bool:
        """Whether there are dates, and ages or an age."""
        has_curve = any(not series for series, _ in self.mapping.ages.values())
        return bool(self.date_columns and (has_curve or self.mapping.values_of))

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

    def return_column(self, names: Sequence[str], age: int) -> str | None:
        """Return the column of the return on spend at an age, None where there is none."""
        pattern = re.compile(rf"(?:.*[ _-])?(?:roas|roi)(?:.*\D)?0*{age}(?:\D.*)?", re.IGNORECASE)
        return next((name for name in names if pattern.fullmatch(name)), None)

    @property
    def money_columns(self) -> set[str]:
        """Columns of revenue."""
        curve = [name for name, (series, _) in self.mapping.ages.items() if not series]
        return {*curve, *self.mapping.values_of}

    @property
    def whole_number_columns(self) -> set[str]:
        """Columns of numbers that have no fraction."""
        return {
            self.mapping.column_of[role] for role in (USERS, AGE) if role in self.mapping.column_of
        }

    def other_columns(self, names: Sequence[str]) -> list[str]:
        """Columns without a role, of which those of text tell cohorts apart."""
        left_out = {"", *self.mapping.used_columns, *self.mapping.ignore}
        left_out |= {column for column, _ in self.mapping.drop}
        return [name for name in names if name not in left_out]


@dataclass
class _Evidence:
    """Evidence of all cells of all files.

    `numbers` all of them, `whole_numbers` of users and ages; `currencies` named in a column.
    """

    numbers: NumberEvidence
    whole_numbers: NumberEvidence
    dates: DateEvidence
    currencies: Counter[str]

    def add(self, file: MappedFile, block: pa.Table, texts: dict[str, bool]) -> None:
        """Look at a block; `texts` says of columns without a role whether they hold text.

        Raises ValueError for a column of numbers or dates whose type is of something else, and
        for revenue in percent.
        """
        for name in file.number_columns:
            column = block.column(name)
            if not may_hold_numbers(column.type):
                problem = f"expected numbers in {name}, got {column.type}; convert the column"
                raise ValueError(f"{file.path}: {problem}")
            if is_text_type(column.type):
                self._add_numbers(file, name, column)
            if is_text_type(column.type) and name in file.whole_number_columns:
                self.whole_numbers.add(column, f"{file.path.name}, {name}")
        for name in file.date_columns:
            column = block.column(name)
            if pa.types.is_nested(column.type):
                problem = f"expected dates in {name}, got {column.type}; convert the column"
                raise ValueError(f"{file.path}: {problem}")
            _, days = factorize_text(column)
            known = [day for day in days if day.strip() and not is_total(day)]
            self.dates.add(known, f"{file.path.name}, {name}")
        if file.mapping.currency:
            _, names = factorize_text(block.column(file.mapping.currency))
            self.currencies.update(name.strip() for name in names if name.strip())
        for name in file.other_columns(block.column_names):
            if not texts.get(name):
                texts[name] = _holds_text(block.column(name))

    def _add_numbers(self, file: MappedFile, name: str, column: pa.ChunkedArray) -> None:
        """Look at the numbers of a column. Raises ValueError for revenue in percent."""
        percents = self.numbers.percents
        self.numbers.add(column, f"{file.path.name}, {name}")
        if self.numbers.percents > percents and name in file.money_columns:
            raise ValueError(f"{file.path}: {refuse_ratio(f'{name} (percent)')}")

    def sign_by_whole_numbers(self) -> DecimalSign | None:
        """Decimal sign that whole numbers tell where no other cell does: theirs parts thousands."""
        if self.numbers.decided_sign or len(self.whole_numbers.ambiguous) != 1:
            return None
        [thousands_sign] = self.whole_numbers.ambiguous
        return "point" if thousands_sign == "," else "comma"


def decide_conventions(
    files: Sequence[MappedFile], blocks_of: BlocksOf, table_format: TableFormat
) -> Conventions:
    """Read all cells of numbers and dates, and decide how they are written.

    Raises ValueError where they can be read in two ways and the user did not say which, and for
    amounts in several currencies.
    """
    evidence = _Evidence(NumberEvidence(), NumberEvidence(), DateEvidence(), Counter())
    text_columns = {}
    for file in files:
        texts: dict[str, bool] = {}
        with name_file(file.path):
            for block in blocks_of(file.path, _BLOCK_ROWS):
                evidence.add(file, block, texts)
        text_columns[file.path] = tuple(name for name, is_text in texts.items() if is_text)

    if len(evidence.currencies) > 1:
        listed = ", ".join(sorted(evidence.currencies))
        raise ValueError(
            f"{files[0].path}: expected amounts in one currency, got {listed} in column "
            f"{files[0].mapping.currency}; export one currency, or convert the amounts before"
        )
    separators = {file.separator for file in files} - {None}
    separator = separators.pop() if len(separators) == 1 else None
    decimal = table_format.decimal or evidence.sign_by_whole_numbers()
    numbers = evidence.numbers.decide(separator, decimal)
    dates = evidence.dates.decide(table_format.dates)
    return Conventions(numbers, dates, text_columns, tuple(_notes(evidence, numbers, dates)))


def _notes(evidence: _Evidence, numbers: NumberFormat, dates: DateReading) -> Iterator[str]:
    """Say what was understood."""
    yield f"dates as {dates.describe()}"
    if numbers.decimal == "comma":
        yield "decimal commas"
    if currencies := [*evidence.numbers.currencies, *evidence.currencies]:
        yield f"amounts in {' '.join(dict.fromkeys(currencies))}"
    if marks := evidence.numbers.missing_marks.most_common(3):
        yield f"read as unknown: {', '.join(f'{count:,} {mark!r}' for mark, count in marks)}"


def _holds_text(column: pa.ChunkedArray) -> bool:
    """Return whether a column holds text that is neither numbers nor dates."""
    if pa.types.is_nested(column.type) or not is_text_type(column.type):
        return False
    _, texts = factorize_text(column)
    return has_name(texts)
