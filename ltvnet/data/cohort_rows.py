"""Cohort tables parsed: which columns they have, and the cohorts in their rows.

Shapes: N rows of a table, A ages.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa

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
from ltvnet.data.curves import AGES, MAX_AGE, Curves, History
from ltvnet.data.table_files import factorize_text, is_text_type, parse_numbers

log = logging.getLogger(__name__)

_AGE = re.compile(r"(?:(.+)_)?day_(\d+)")
"""The name of a column of the curve, or of a further series at an age."""


def rename_columns(path: Path, table: pa.Table, columns: Mapping[str, str]) -> pa.Table:
    """The table with `columns` (part -> column) under the names of their parts.

    Columns without a name are left out, and those that have the name of such a part themselves.
    Raises ValueError for a column that the table lacks.
    """
    names = table.column_names
    if missing := [name for name in columns.values() if name not in names]:
        raise ValueError(f"{path}: data.columns names {missing}, but the table has {names[:8]} ...")
    parts = {name: part for part, name in columns.items()}
    given = [n for n, name in enumerate(names) if name in parts or name not in ("", *columns)]
    return table.select(given).rename_columns([parts.get(names[n], names[n]) for n in given])


@dataclass(frozen=True)
class TableLayout:
    """Which columns of a table hold dates, amounts (users, spend), ages, and the rest.

    `ages` of the curve, named "", and of each further series: name -> age -> column, in order.
    """

    dates: list[str]
    amounts: list[str]
    ages: Mapping[str, Mapping[int, str]]
    others: list[str]

    @classmethod
    def from_schema(cls, path: Path, schema: pa.Schema) -> Self:
        """Find the columns by name, in any order; what follows from missing ones is logged.

        Raises ValueError for no date, no ages, an age left out, two columns of one name, and a
        type that is neither text nor number where numbers belong.
        """
        names = schema.names
        found = {name: match for name in names if (match := _AGE.fullmatch(name))}
        ages = {name: (match[1] or "", int(match[2])) for name, match in found.items()}
        dates = [DATE] if DATE in names else [START, END]
        if faults := [*_misplaced(names, dates, ages), *_mistyped(schema, ages)]:
            shown = ", ".join(names[:8]) + " ..." * (len(names) > 8)
            raise ValueError(f"{path}: {'; '.join(faults)} (its columns: {shown})")
        if max(age for _, age in ages.values()) > MAX_AGE:
            log.info("%s: columns after day_%d are not used", path, MAX_AGE)
        if USERS not in names:
            log.info("%s: no column %s, so each cohort counts as one user", path, USERS)
        amounts = [name for name in (USERS, SPEND) if name in names]
        places: dict[str, dict[int, str]] = {}
        for name, (series, age) in sorted(ages.items(), key=lambda item: item[1]):
            if age <= MAX_AGE:
                places.setdefault(series, {})[age] = name
        flat = [column.name for column in schema if not pa.types.is_nested(column.type)]
        others = [name for name in flat if name not in {*dates, *amounts, *ages}]
        return cls(dates, amounts, places, others)


Ages = Mapping[str, tuple[str, int]]
"""Column -> the series that it belongs to, "" for the curve, and its age."""


def _misplaced(names: list[str], dates: list[str], ages: Ages) -> Iterator[str]:
    columns = Counter(age_column(*ages[name]) if name in ages else name for name in names)
    yield from (f"keep one of {n} columns {name}" for name, n in columns.items() if n > 1)
    if not set(dates) <= set(names):
        yield f"expected a column {DATE}, or {START} and {END}, got none; see data.columns"
    curve = {age for series, age in ages.values() if not series}
    if not curve:
        yield "expected columns day_0, day_1 ..., got none; name the columns of ages so"
    elif gone := sorted(set(range(max(curve))) - curve):
        yield f"expected every age up to day_{max(curve)}, but day_{gone[0]} is missing"


def _mistyped(schema: pa.Schema, ages: Ages) -> Iterator[str]:
    types = pa.types
    good = (is_text_type, types.is_integer, types.is_floating, types.is_decimal, types.is_null)
    for column in schema:
        wanted = column.name in ages or column.name in (USERS, SPEND)
        if wanted and not any(is_kind(column.type) for is_kind in good):
            yield f"expected numbers in {column.name}, got {column.type}; convert the column"


def parse_dates(table: pa.Table) -> tuple[Categorical, Days, Days]:
    """Dates (N,) as written in one or two columns, first and last day (NaT where unreadable)."""
    written = text_column(table.column(0))
    if table.num_columns > 1:
        last = text_column(table.column(1))
        written = factorize(written.values[written.codes] + "~" + last.values[last.codes])
    parts = [word.partition("~") for word in written.values]
    words = [first for first, _, _ in parts]
    words += [last if mark else first for first, mark, last in parts]
    bare = pd.Series([word.strip() for word in words], dtype=object)
    days = pd.to_datetime(bare, format="%Y-%m-%d", errors="coerce").to_numpy()
    start, end = days.astype("datetime64[D]").reshape(2, -1)[:, written.codes]
    return written, start, end


def text_column(column: pa.ChunkedArray) -> Categorical:
    """The cells (N,) of a column as text."""
    codes, words = factorize_text(column)
    values = np.array(words, dtype=object)
    order = np.argsort(values, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return Categorical(rank[codes], values[order])


@dataclass(frozen=True)
class ParsedTable:
    """Rows of one table, parsed.

    `written` (N,) the dates as they stand there; `start`, `end` (N,) days, NaT where unreadable;
    `users` (1 where the table has none) and `spend` (N,); `curves` name -> (N, A): the curve,
    named "", and each further series, an age beside the other in memory where the table has all;
    `labels` name -> (N,) text of each column without a part of its own; `unread` faults of cells
    that are no numbers.
    """

    date_text: Categorical
    start: Days
    end: Days
    users: Floats
    spend: Floats
    values_by_series: Mapping[str, Floats]
    labels: Mapping[str, Categorical]
    number_faults: pd.DataFrame

    @classmethod
    def from_table(cls, table: pa.Table, layout: TableLayout) -> Self:
        """Parse a table of that layout."""
        written, start, end = parse_dates(table.select(layout.dates))
        amounts = layout.amounts
        columns = [column for ages in layout.ages.values() for column in ages.values()]
        cells, unread = parse_numbers(table.select([*amounts, *columns]))
        known = dict(zip(amounts, cells.T, strict=False))
        bounds = np.cumsum([len(amounts), *map(len, layout.ages.values())])[:-1]
        parts = np.split(cells, bounds, axis=1)[1:]
        curves = {
            name: _placed(part, list(ages))
            for (name, ages), part in zip(layout.ages.items(), parts, strict=True)
        }
        return cls(
            date_text=written,
            start=start,
            end=end,
            users=known.get(USERS, np.ones(len(table))),
            spend=known.get(SPEND, np.full(len(table), np.nan)),
            values_by_series=curves,
            labels={name: text_column(table.column(name)) for name in layout.others},
            number_faults=unread,
        )

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.start)

    @property
    def values(self) -> Floats:
        """The curve: (N, A)."""
        return self.values_by_series[""]

    @property
    def count_values(self) -> int:
        """Number of cells of the curve and of further series that are not empty."""
        return sum(int((~np.isnan(cells)).sum()) for cells in self.values_by_series.values())

    def series(self, name: str) -> Floats:
        """A further series (N, A), NaN where the table lacks it."""
        return self.values_by_series.get(name, np.full((len(self), AGES), np.nan))

    def label(self, name: str) -> Categorical:
        """The text (N,) of one column, "" where the table lacks it."""
        nothing = Categorical(np.zeros(len(self), dtype=np.int64), np.array([""], dtype=object))
        return self.labels.get(name, nothing)

    def attributes(self, names: Sequence[str]) -> dict[str, Strings]:
        """The text (N,) of columns."""
        found = {name: self.label(name) for name in names}
        return {name: words.values[words.codes] for name, words in found.items()}

    def text_labels(self, exclude: Sequence[str] = ()) -> list[str]:
        """The names of labels, `but` some, whose cells are not all numbers or empty."""
        return [
            name for name, cells in self.labels.items() if name not in exclude and _worded(cells)
        ]

    def take(self, rows: Ints) -> Self:
        """Some of the rows, without what was unread."""
        return replace(
            self,
            date_text=self.date_text._replace(codes=self.date_text.codes[rows]),
            start=self.start[rows],
            end=self.end[rows],
            users=self.users[rows],
            spend=self.spend[rows],
            values_by_series={
                name: _chosen(cells, rows) for name, cells in self.values_by_series.items()
            },
            labels={n: words._replace(codes=words.codes[rows]) for n, words in self.labels.items()},
            number_faults=self.number_faults.head(0),
        )

    def to_curves(
        self, date: np.datetime64, names: Sequence[str], hierarchy: Sequence[str], lag_days: int
    ) -> Curves:
        """The cohorts that had begun by the day of the export, with attributes `names`, sorted.

        The sheet is one without faults.
        """
        dates = [factorize(self.start), factorize(self.end)]
        place = key_ranks([*dates, *(self.label(name) for name in sorted(names))])
        order = np.argsort(place, kind="stable")
        order = order[self.start[order] <= date]
        whole = len(order) == len(self) and bool((np.diff(order) == 1).all())
        turned = any(not cells.flags.c_contiguous for cells in self.values_by_series.values())
        rows = self.take(order) if turned or not whole else self
        ended = rows.end <= date
        return Curves(
            start=rows.start,
            end=rows.end,
            attributes=rows.attributes(names),
            users=np.where(ended, rows.users, np.nan),
            spend=np.where(ended, rows.spend, np.nan),
            values=rows.values,
            hierarchy=tuple(name for name in hierarchy if name in names),
            lag_days=lag_days,
            origin=date,
            series={name: cells for name, cells in sorted(rows.values_by_series.items()) if name},
        )

    def last_complete_day(self) -> np.datetime64:
        """The latest day on which an age that is known ended; NaT where no value is known."""
        known = ~np.all([np.isnan(cells) for cells in self.values_by_series.values()], axis=0)
        age = np.where(known.any(axis=1), AGES - 1 - known[:, ::-1].argmax(axis=1), np.nan)
        day: np.datetime64 = np.fmax.reduce(self.end + age.astype("timedelta64[D]"))
        return day

    def mask_after(self, last: Floats) -> Self:
        """The same rows without what stands at ages above `last` (N,)."""
        kept = {
            name: np.where(values_after(c, last), np.nan, c)
            for name, c in self.values_by_series.items()
        }
        return replace(self, values_by_series=kept)


def values_after(values: Floats, last: Floats) -> Bools:
    """Known cells (N, A) at ages above `last` (N,)."""
    return ~np.isnan(values) & (np.arange(AGES) > last[:, None])


def _placed(part: Floats, ages: list[int]) -> Floats:
    """Columns of some ages as a curve (N, A), NaN at the others."""
    if ages == list(range(AGES)):
        return part
    cells = np.full((len(part), AGES), np.nan)
    cells[:, ages] = part
    return cells


def _chosen(cells: Floats, rows: Ints) -> Floats:
    """Rows (R,) of cells (N, A), each in one piece of memory; all are turned at most once."""
    if cells.flags.c_contiguous or 2 * len(rows) < len(cells):
        return np.ascontiguousarray(cells[rows])
    place = np.full(len(cells), len(rows))  # of those that are left out: a row too many
    place[rows] = np.arange(len(rows))
    made = np.empty((len(rows) + 1, AGES))
    for block in block_slices(len(cells)):
        made[place[block]] = np.ascontiguousarray(cells[block])
    return made[:-1]


def _worded(words: Categorical) -> bool:
    text = pd.Series(words.values[words.values != ""], dtype=str)
    return bool(pd.to_numeric(text, errors="coerce").isna().any())


def history_from_tables(
    sheets: Sequence[ParsedTable],
    dates: Sequence[np.datetime64],
    names: Sequence[str],
    hierarchy: Sequence[str],
    lag_days: int,
) -> History:
    """The history in sheets and the days on which they were exported, with attributes `names`."""
    further = sorted({name for sheet in sheets for name in sheet.values_by_series if name})
    texts = [sheet.attributes(names) for sheet in sheets]
    return History(
        start=np.concatenate([sheet.start for sheet in sheets]),
        end=np.concatenate([sheet.end for sheet in sheets]),
        attributes={n: np.concatenate([text[n] for text in texts]) for n in names},
        users=np.concatenate([sheet.users for sheet in sheets]),
        spend=np.concatenate([sheet.spend for sheet in sheets]),
        values=_stacked([sheet.values for sheet in sheets]),
        hierarchy=tuple(name for name in hierarchy if name in names),
        lag_days=lag_days,
        snapshot=np.repeat(np.array(dates), [len(sheet) for sheet in sheets]),
        series={n: _stacked([sheet.series(n) for sheet in sheets]) for n in further},
    )


def _stacked(parts: Sequence[Floats]) -> Floats:
    """Cells (N, A) one below the other, each row in one piece of memory."""
    return np.concatenate([np.ascontiguousarray(cells) for cells in parts])
