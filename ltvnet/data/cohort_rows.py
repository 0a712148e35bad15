"""Cohort tables parsed: which columns they have, and the cohorts in their rows.

Shapes: N rows of a table, A ages.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ltvnet.data.arrays import (
    Bools,
    Categorical,
    Days,
    Floats,
    Ints,
    Strings,
    block_slices,
    factorize,
    key_ranks,
)
from ltvnet.data.columns import DATE, END, SPEND, START, USERS, age_column
from ltvnet.data.curves import AGES, EVERY_AGE, MAX_AGE, Curves, History
from ltvnet.data.exported_ages import (
    ADVISED_AGES,
    carry_between_ages,
    common_exported_ages,
)
from ltvnet.data.importers.text_kinds import has_name
from ltvnet.data.table_files import factorize_text, may_hold_numbers, parse_numbers

log = logging.getLogger(__name__)

_AGE_NAME = re.compile(r"(?:(.+)_)?day_(\d+)")
"""The name of a column of the curve, or of a further series at an age."""

_AgeColumns = Mapping[str, tuple[str, int]]
"""Column -> the series that it belongs to, "" for the curve, and its age."""


def rename_columns(path: Path, table: pa.Table, columns: Mapping[str, str]) -> pa.Table:
    """Give the columns that play a role the name of that role: `columns` is role -> column.

    Columns without a name are left out, and those that have the name of such a role themselves.
    Raises ValueError for a column that the table lacks.
    """
    names = table.column_names
    if missing := [name for name in columns.values() if name not in names]:
        raise ValueError(f"{path}: data.columns names {missing}, but the table has {names[:8]} ...")
    role_of = {name: role for role, name in columns.items()}
    positions = [
        position
        for position, name in enumerate(names)
        if name in role_of or name not in ("", *columns)
    ]
    selected_names = [names[position] for position in positions]
    new_names = [role_of.get(name, name) for name in selected_names]
    return table.select(positions).rename_columns(new_names)


@dataclass(frozen=True)
class TableLayout:
    """Columns of a table by what they hold: dates, amounts (users, spend), ages, and the rest.

    `ages` of the curve, named "", and of each further series: name -> age -> column, in order.
    """

    dates: list[str]
    amounts: list[str]
    ages: Mapping[str, Mapping[int, str]]
    others: list[str]

    @classmethod
    def from_schema(cls, path: Path, schema: pa.Schema) -> Self:
        """Find the columns by name, in any order; what follows from missing ones is logged.

        Raises ValueError for no date, no ages, two columns of one name, and a type that is neither
        text nor number where numbers belong.
        """
        names = schema.names
        age_columns = _find_age_columns(names)
        dates = [DATE] if DATE in names else [START, END]
        amounts = [name for name in (USERS, SPEND) if name in names]

        problems = [
            *_check_repeated(names, age_columns),
            *_check_dates(names, dates),
            *_check_ages(age_columns),
            *_check_types(schema, age_columns),
        ]
        if problems:
            shown = ", ".join(names[:8])
            if len(names) > 8:
                shown += " ..."
            raise ValueError(f"{path}: {'; '.join(problems)} (its columns: {shown})")

        _log_consequences(path, names, age_columns)
        flat = [column.name for column in schema if not pa.types.is_nested(column.type)]
        assigned = {*dates, *amounts, *age_columns}
        others = [name for name in flat if name not in assigned]
        return cls(dates, amounts, _group_by_series(age_columns), others)

    @property
    def exported_ages(self) -> tuple[int, ...]:
        """Ages of the curve; every one where none is left out up to the last."""
        ages = tuple(self.ages[""])
        return EVERY_AGE if ages == EVERY_AGE[: len(ages)] else ages


def _find_age_columns(names: Iterable[str]) -> _AgeColumns:
    """Find the columns of the curve and of further series by their names."""
    age_columns = {}
    for name in names:
        if match := _AGE_NAME.fullmatch(name):
            series, age = match.groups()
            age_columns[name] = (series or "", int(age))
    return age_columns


def _group_by_series(age_columns: _AgeColumns) -> dict[str, dict[int, str]]:
    """Group columns as series -> age -> column, sorted, without ages that are too large."""
    columns_by_series: dict[str, dict[int, str]] = {}
    for name, (series, age) in sorted(age_columns.items(), key=lambda item: item[1]):
        if age <= MAX_AGE:
            columns_by_series.setdefault(series, {})[age] = name
    return columns_by_series


def _check_repeated(names: Iterable[str], age_columns: _AgeColumns) -> Iterator[str]:
    """Yield a problem for each name that several columns have; `day_1` and `day_01` are one."""
    plain_names = [
        age_column(*age_columns[name]) if name in age_columns else name for name in names
    ]
    for name, count in Counter(plain_names).items():
        if count > 1:
            yield f"keep one of {count} columns {name}"


def _check_dates(names: Iterable[str], dates: Iterable[str]) -> Iterator[str]:
    """Yield a problem where a column of dates is missing."""
    if not set(dates) <= set(names):
        way_out = f"name it by 'data.columns={{{DATE}: COLUMN}}'"
        yield f"expected a column {DATE}, or {START} and {END}, got none; {way_out}"


def _check_ages(age_columns: _AgeColumns) -> Iterator[str]:
    """Yield a problem where the curve has no ages."""
    if not any(not series and age <= MAX_AGE for series, age in age_columns.values()):
        yield "expected columns day_0, day_1 ..., got none; name the columns of ages so"


def _check_types(schema: pa.Schema, age_columns: _AgeColumns) -> Iterator[str]:
    """Yield a problem for each column of numbers whose type is neither number nor text."""
    for column in schema:
        holds_numbers = column.name in age_columns or column.name in (USERS, SPEND)
        if holds_numbers and not may_hold_numbers(column.type):
            yield f"expected numbers in {column.name}, got {column.type}; convert the column"


def _log_consequences(path: Path, names: Iterable[str], age_columns: _AgeColumns) -> None:
    """Log which columns go unused, and what missing columns of ages or of users mean."""
    ages = sorted(age for series, age in age_columns.values() if not series and age <= MAX_AGE)
    if ages != list(range(len(ages))):
        log.info(
            "%s: curves at %d ages: %s; between them nothing is known (best export %s)",
            path,
            len(ages),
            " ".join(map(str, ages)),
            ADVISED_AGES,
        )
    if max(age for _, age in age_columns.values()) > MAX_AGE:
        log.info("%s: columns after day_%d are not used", path, MAX_AGE)
    if USERS not in names:
        log.info("%s: no column %s, so each cohort counts as one user", path, USERS)


def parse_dates(table: pa.Table) -> tuple[Categorical, Days, Days]:
    """Parse one column of ranges, or two of days: first and last day (N,), NaT where unreadable.

    The first of the three results is the text (N,) as it stands there, "first~last" of two.
    """
    date_text = text_column(table.column(0))
    if table.num_columns > 1:
        last_text = text_column(table.column(1))
        first_words = date_text.values[date_text.codes]
        last_words = last_text.values[last_text.codes]
        date_text = factorize(first_words + "~" + last_words)

    ranges = [text.partition("~") for text in date_text.values]
    first_days = [first for first, _, _ in ranges]
    last_days = [last if mark else first for first, mark, last in ranges]
    stripped = [text.strip() for text in first_days + last_days]
    day_texts = pd.Series(stripped, dtype=object)
    days = pd.to_datetime(day_texts, format="%Y-%m-%d", errors="coerce").to_numpy()
    day_bounds = days.astype("datetime64[D]").reshape(2, -1)  # (2, distinct texts)
    start, end = day_bounds[:, date_text.codes]
    return date_text, start, end


def text_column(column: pa.ChunkedArray) -> Categorical:
    """Read the cells (N,) of a column as text, "" where empty.

    Blanks around a text and its form in Unicode make no difference.
    """
    codes, texts = factorize_text(column)
    plain_texts = pc.utf8_trim_whitespace(pc.utf8_normalize(pa.array(texts, pa.string()), "NFC"))
    values, rank = np.unique(plain_texts.to_numpy(zero_copy_only=False), return_inverse=True)
    return Categorical(rank.astype(np.int64)[codes], values)


@dataclass(frozen=True)
class ParsedTable:
    """Rows of one cohort table, parsed.

    `date_text` (N,) the dates as they stand there; `start`, `end` (N,) days, NaT where unreadable;
    `users` (1 where the table has none) and `spend` (N,); `values_by_series` name -> (N, A): the
    curve, named "", and each further series, an age beside the other in memory where the table
    has all; `labels` name -> (N,) text of each column that has no role of its own;
    `number_faults` faults of cells that are no numbers; `exported_ages` of the curve, whose cells
    between two of them repeat the earlier one, and `last_column` the last age that there is a
    column of.
    """

    date_text: Categorical
    start: Days
    end: Days
    users: Floats
    spend: Floats
    values_by_series: Mapping[str, Floats]
    labels: Mapping[str, Categorical]
    number_faults: pd.DataFrame
    exported_ages: tuple[int, ...] = EVERY_AGE
    last_column: int | None = None

    @classmethod
    def from_table(cls, table: pa.Table, layout: TableLayout) -> Self:
        """Parse a table of that layout."""
        date_text, start, end = parse_dates(table.select(layout.dates))

        age_columns = [column for ages in layout.ages.values() for column in ages.values()]
        number_columns = [*layout.amounts, *age_columns]
        cells, number_faults = parse_numbers(table.select(number_columns))
        amounts = dict(zip(layout.amounts, cells.T, strict=False))  # ages follow the amounts

        values_by_series = {}
        begin = len(layout.amounts)
        for series, ages in layout.ages.items():
            series_cells = cells[:, begin : begin + len(ages)]
            values_by_series[series] = _spread_over_ages(series_cells, list(ages))
            begin += len(ages)
        if layout.exported_ages != EVERY_AGE:
            curve = values_by_series[""]
            values_by_series[""] = carry_between_ages(curve, layout.exported_ages)

        return cls(
            date_text=date_text,
            start=start,
            end=end,
            users=amounts.get(USERS, np.ones(len(table))),
            spend=amounts.get(SPEND, np.full(len(table), np.nan)),
            values_by_series=values_by_series,
            labels={name: text_column(table.column(name)) for name in layout.others},
            number_faults=number_faults,
            exported_ages=layout.exported_ages,
            last_column=max(layout.ages[""]),
        )

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.start)

    @property
    def values(self) -> Floats:
        """Cells of the curve: (N, A)."""
        return self.values_by_series[""]

    @property
    def value_count(self) -> int:
        """Number of cells of the curve and of further series that are not empty."""
        return sum(int((~np.isnan(cells)).sum()) for cells in self.values_by_series.values())

    def series(self, name: str) -> Floats:
        """Return the cells of a further series (N, A), NaN where the table lacks it."""
        unknown = np.full((len(self), AGES), np.nan)
        return self.values_by_series.get(name, unknown)

    def label(self, name: str) -> Categorical:
        """Return the text (N,) of one column, "" where the table lacks it."""
        empty_text = np.array([""], dtype=object)
        all_empty = Categorical(np.zeros(len(self), dtype=np.int64), empty_text)
        return self.labels.get(name, all_empty)

    def attributes(self, names: Sequence[str]) -> dict[str, Strings]:
        """Return the text (N,) of columns by name."""
        attributes: dict[str, Strings] = {}
        for name in names:
            codes, texts = self.label(name)
            attributes[name] = texts[codes]
        return attributes

    def text_labels(self, exclude: Sequence[str] = ()) -> list[str]:
        """List the labels, but for some, whose cells are not all numbers or empty."""
        candidates = [name for name in self.labels if name not in exclude]
        return [name for name in candidates if has_name(map(str, self.labels[name].values))]

    def take(self, rows: Ints) -> Self:
        """Select rows, without the faults of numbers."""
        return replace(
            self,
            date_text=_take_categorical(self.date_text, rows),
            start=self.start[rows],
            end=self.end[rows],
            users=self.users[rows],
            spend=self.spend[rows],
            values_by_series={
                name: _take_contiguous(cells, rows) for name, cells in self.values_by_series.items()
            },
            labels={name: _take_categorical(text, rows) for name, text in self.labels.items()},
            number_faults=self.number_faults.head(0),
        )

    def to_curves(
        self, date: np.datetime64, names: Sequence[str], hierarchy: Sequence[str], lag_days: int
    ) -> Curves:
        """Make the curves of cohorts that had begun by the day of the export, sorted by key.

        `names` of the attributes. The table has to be without faults.
        """
        rows = self._sort_by_key(date, names)
        has_ended = rows.end <= date
        sorted_series = sorted(rows.values_by_series.items())
        further = {name: cells for name, cells in sorted_series if name}
        return Curves(
            start=rows.start,
            end=rows.end,
            attributes=rows.attributes(names),
            users=np.where(has_ended, rows.users, np.nan),
            spend=np.where(has_ended, rows.spend, np.nan),
            values=rows.values,
            hierarchy=tuple(name for name in hierarchy if name in names),
            lag_days=lag_days,
            origin=date,
            series=further,
            exported_ages=self.exported_ages,
        )

    def _sort_by_key(self, date: np.datetime64, names: Sequence[str]) -> Self:
        """Select the rows that had begun by a day, by key, each in one piece of memory.

        Where all of that is so already, the table itself: its cells are not copied.
        """
        labels = [self.label(name) for name in sorted(names)]
        key = [factorize(self.start), factorize(self.end), *labels]
        order = np.argsort(key_ranks(key), kind="stable")
        order = order[self.start[order] <= date]

        has_all_rows = len(order) == len(self)
        is_sorted = has_all_rows and bool((np.diff(order) == 1).all())
        is_contiguous = all(cells.flags.c_contiguous for cells in self.values_by_series.values())
        return self if is_sorted and is_contiguous else self.take(order)

    def last_complete_day(self) -> np.datetime64:
        """Latest day on which an age with a value ended; NaT where no value is known."""
        is_empty = np.all([np.isnan(cells) for cells in self.values_by_series.values()], axis=0)
        is_known = ~is_empty  # (N, A)
        empty_after_last = is_known[:, ::-1].argmax(axis=1)
        last_age = AGES - 1 - empty_after_last
        age = np.where(is_known.any(axis=1), last_age, np.nan)
        day_of_age = self.end + age.astype("timedelta64[D]")
        last_day: np.datetime64 = np.fmax.reduce(day_of_age)
        return last_day

    def fill_zeros(self, rows: Bools, last_age: Floats) -> Self:
        """Return the table with no revenue in some rows (N,), up to the exported age of `last_age`.

        `last_age` (N,). No age is filled beyond the last that the table has.
        """
        last_exported = MAX_AGE if self.last_column is None else self.last_column
        is_filled = rows[:, None] & (
            np.arange(AGES) <= np.minimum(last_age, last_exported)[:, None]
        )
        curve = np.where(is_filled, 0.0, self.values)
        filled = replace(self, values_by_series={**self.values_by_series, "": curve})
        return filled.with_exported_ages(self.exported_ages)

    def mask_after(self, last_age: Floats) -> Self:
        """Return the table without the values at ages above `last_age` (N,)."""
        masked = {
            name: np.where(values_after(cells, last_age), np.nan, cells)
            for name, cells in self.values_by_series.items()
        }
        return replace(self, values_by_series=masked).with_exported_ages(self.exported_ages)

    def with_exported_ages(self, ages: Sequence[int]) -> Self:
        """Return the table as if the curve had been exported at these ages alone."""
        if len(ages) == AGES:
            return self
        curve = carry_between_ages(self.values, ages)
        values_by_series = {**self.values_by_series, "": curve}
        return replace(self, values_by_series=values_by_series, exported_ages=tuple(ages))


def values_after(values: Floats, last_age: Floats) -> Bools:
    """Mark the known cells (N, A) at ages above `last_age` (N,)."""
    is_after = np.arange(AGES) > last_age[:, None]
    return ~np.isnan(values) & is_after


def _spread_over_ages(cells: Floats, ages: list[int]) -> Floats:
    """Spread columns of some ages over a curve (N, A), NaN at the others."""
    if ages == list(range(AGES)):
        return cells
    curve = np.full((len(cells), AGES), np.nan)
    curve[:, ages] = cells
    return curve


def _take_categorical(column: Categorical, rows: Ints) -> Categorical:
    """Select rows of a column of text."""
    return Categorical(column.codes[rows], column.values)


def _take_contiguous(cells: Floats, rows: Ints) -> Floats:
    """Select rows (R,) of cells (N, A), each in one piece of memory.

    Cells that lie column by column are transposed in blocks, each at most once.
    """
    if cells.flags.c_contiguous or 2 * len(rows) < len(cells):
        return np.ascontiguousarray(cells[rows])

    discarded = len(rows)  # a row too many, for all that are left out
    target_row = np.full(len(cells), discarded)
    target_row[rows] = np.arange(len(rows))
    selected = np.empty((len(rows) + 1, AGES))
    for block in block_slices(len(cells)):
        selected[target_row[block]] = np.ascontiguousarray(cells[block])
    return selected[:-1]


def history_from_tables(
    tables: Sequence[ParsedTable],
    dates: Sequence[np.datetime64],
    names: Sequence[str],
    hierarchy: Sequence[str],
    lag_days: int,
) -> History:
    """Join tables, exported on `dates`, to a history with attributes `names`."""
    further = sorted({name for table in tables for name in table.values_by_series if name})
    exported_ages = common_exported_ages([table.exported_ages for table in tables])
    tables = [table.with_exported_ages(exported_ages) for table in tables]
    attributes = [table.attributes(names) for table in tables]
    return History(
        start=np.concatenate([table.start for table in tables]),
        end=np.concatenate([table.end for table in tables]),
        attributes={name: np.concatenate([text[name] for text in attributes]) for name in names},
        users=np.concatenate([table.users for table in tables]),
        spend=np.concatenate([table.spend for table in tables]),
        values=_stack_rows([table.values for table in tables]),
        hierarchy=tuple(name for name in hierarchy if name in names),
        lag_days=lag_days,
        snapshot=np.repeat(np.array(dates), [len(table) for table in tables]),
        series={name: _stack_rows([table.series(name) for table in tables]) for name in further},
        exported_ages=exported_ages,
    )


def _stack_rows(parts: Sequence[Floats]) -> Floats:
    """Stack cells (N, A) one below the other, each row in one piece of memory."""
    return np.concatenate([np.ascontiguousarray(cells) for cells in parts])
