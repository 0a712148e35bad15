"""What stands in cohort tables, what is wrong with it, what was restated, what it supports.

Shapes: N rows of a table, A ages, R vintages.
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
import pandera.pandas as pandera
import pyarrow as pa

from ltvnet.curves import AGES, MAX_AGE, Bools, Days, Floats, History, Strings
from ltvnet.files import faults, is_text, numbers, text

logger = logging.getLogger(__name__)

DATE, START, END, USERS, SPEND = "Date", "cohort_start", "cohort_end", "Users", "Spend"
ROLES = (DATE, START, END, USERS, SPEND)
"""Columns with a part of their own, beside `day_0`, `day_1` ..."""

HORIZONS = (30, 60, 90, 180, 360)
"""Ages (days) that summaries, intervals and sums are given at."""

MIN_COHORTS = 5
"""Data support an age that at least so many cohorts reached."""

_NO_DATE = "expected YYYY-MM-DD~YYYY-MM-DD or YYYY-MM-DD; correct the date"
_INFINITE = "expected a finite number; empty the cell where nothing is known"
_REVERSED = "expected first~last day of acquisition, got the last day first; swap them"
_NEGATIVE = "expected a number from 0 up; correct it or empty the cell"
_NO_USERS = "expected the number of users, as the row has values; fill the cell in"
_GAP = "expected a value between known ages (0 is one); fill the cell in or empty what follows"
_LATE = "expected nothing after the as-of date; correct data.snapshot or set data.partial=mask"
_FALL = "expected no fall of cumulative revenue; with refunds in it set data.revenue=net"
_TWICE = "expected a cohort once in a snapshot; merge its rows or tell them apart by an attribute"

_AGE = re.compile(r"(?:(.+)_)?day_(\d+)")
"""The name of a column of the curve, or of a further series at an age."""

_AMOUNT = [pandera.Check.ge(0, error=_NEGATIVE), pandera.Check.lt(np.inf, error=_INFINITE)]
_SCHEMA = pandera.DataFrameSchema(
    {
        DATE: pandera.Column(float, pandera.Check.ge(0, error=_REVERSED), nullable=True),
        USERS: pandera.Column(float, _AMOUNT, nullable=True),
        SPEND: pandera.Column(float, _AMOUNT, nullable=True),
    }
)


def renamed(path: Path, table: pa.Table, columns: Mapping[str, str]) -> pa.Table:
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
class Layout:
    """Which columns of a table hold dates, amounts (users, spend), ages, and the rest.

    `ages` of the curve, named "", and of each further series: name -> age -> column, in order.
    """

    dates: list[str]
    amounts: list[str]
    ages: Mapping[str, Mapping[int, str]]
    others: list[str]

    @classmethod
    def of(cls, path: Path, schema: pa.Schema) -> Self:
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
            logger.info("%s: columns after day_%d are not used", path, MAX_AGE)
        if USERS not in names:
            logger.info("%s: no column %s, so each cohort counts as one user", path, USERS)
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
    columns = Counter(_column(*ages[name]) if name in ages else name for name in names)
    yield from (f"keep one of {n} columns {name}" for name, n in columns.items() if n > 1)
    if not set(dates) <= set(names):
        yield f"expected a column {DATE}, or {START} and {END}, got none; see data.columns"
    curve = {age for series, age in ages.values() if not series}
    if not curve:
        yield "expected columns day_0, day_1 ..., got none; name the columns of ages so"
    elif gone := sorted(set(range(max(curve))) - curve):
        yield f"expected every age up to day_{max(curve)}, but day_{gone[0]} is missing"


def _column(series: str, age: int) -> str:
    return f"{series}_day_{age}" if series else f"day_{age}"


def _mistyped(schema: pa.Schema, ages: Ages) -> Iterator[str]:
    types = pa.types
    good = (is_text, types.is_integer, types.is_floating, types.is_decimal, types.is_null)
    for column in schema:
        wanted = column.name in ages or column.name in (USERS, SPEND)
        if wanted and not any(is_kind(column.type) for is_kind in good):
            yield f"expected numbers in {column.name}, got {column.type}; convert the column"


def spans(table: pa.Table) -> tuple[Strings, Days, Days]:
    """Dates (N,) as written in one or two columns, first and last day (NaT where unreadable)."""
    written = text(table.column(0))
    if table.num_columns > 1:
        written = written + "~" + text(table.column(1))
    codes, unique = pd.factorize(written)
    parts = pd.Series(unique, dtype=str).str.partition("~")
    last = parts[2].where(parts[1] != "", parts[0])
    days = [
        pd.to_datetime(part.str.strip(), format="%Y-%m-%d", errors="coerce").to_numpy()[codes]
        for part in (parts[0], last)
    ]
    return written, days[0].astype("datetime64[D]"), days[1].astype("datetime64[D]")


@dataclass(frozen=True)
class Sheet:
    """Rows of one table, parsed.

    `written` (N,) the dates as they stand there; `start`, `end` (N,) days, NaT where unreadable;
    `users` (1 where the table has none) and `spend` (N,); `curves` name -> (N, A): the curve,
    named "", and each further series; `labels` name -> (N,) text of each column without a part of
    its own; `unread` faults of cells that are no numbers.
    """

    written: Strings
    start: Days
    end: Days
    users: Floats
    spend: Floats
    curves: Mapping[str, Floats]
    labels: Mapping[str, Strings]
    unread: pd.DataFrame

    @classmethod
    def of(cls, table: pa.Table, layout: Layout) -> Self:
        """Parse a table of that layout."""
        written, start, end = spans(table.select(layout.dates))
        amounts = layout.amounts
        columns = [column for ages in layout.ages.values() for column in ages.values()]
        cells, unread = numbers(table.select([*amounts, *columns]))
        known = dict(zip(amounts, cells.T, strict=False))
        bounds = np.cumsum([len(amounts), *map(len, layout.ages.values())])[:-1]
        parts = np.split(cells, bounds, axis=1)[1:]
        curves = {}
        for (name, ages), part in zip(layout.ages.items(), parts, strict=True):
            curves[name] = np.full((len(table), AGES), np.nan)
            curves[name][:, list(ages)] = part
        return cls(
            written=written,
            start=start,
            end=end,
            users=known.get(USERS, np.ones(len(table))),
            spend=known.get(SPEND, np.full(len(table), np.nan)),
            curves=curves,
            labels={name: text(table.column(name)) for name in layout.others},
            unread=unread,
        )

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.written)

    @property
    def values(self) -> Floats:
        """The curve: (N, A)."""
        return self.curves[""]

    @property
    def known(self) -> int:
        """Number of cells of the curve and of further series that are not empty."""
        return sum(int((~np.isnan(cells)).sum()) for cells in self.curves.values())

    def series(self, name: str) -> Floats:
        """A further series (N, A), NaN where the table lacks it."""
        return self.curves.get(name, np.full((len(self), AGES), np.nan))

    def label(self, name: str) -> Strings:
        """The text (N,) of one column, "" where the table lacks it."""
        return self.labels.get(name, np.full(len(self), "", dtype=object))

    def words(self) -> list[str]:
        """The names of those labels whose cells are not all numbers or empty."""
        return [name for name, cells in self.labels.items() if _worded(cells)]

    def last_day(self) -> np.datetime64:
        """The latest day on which an age that is known ended; NaT where no value is known."""
        known = ~np.all([np.isnan(cells) for cells in self.curves.values()], axis=0)
        age = np.where(known.any(axis=1), AGES - 1 - known[:, ::-1].argmax(axis=1), np.nan)
        day: np.datetime64 = np.fmax.reduce(self.end + age.astype("timedelta64[D]"))
        return day

    def masked(self, last: Floats) -> Self:
        """The same rows without what stands at ages above `last` (N,)."""
        kept = {name: np.where(_late(c, last), np.nan, c) for name, c in self.curves.items()}
        return replace(self, curves=kept)

    def faults(self, last: Floats, tolerance: float | None) -> pd.DataFrame:
        """All that is wrong with single rows.

        `last` (N,) the last age that can be complete, NaN where unknown; `tolerance` the relative
        fall of a curve below its highest value that is right (None: every fall is).
        """
        users = np.isnan(self.users) & np.isfinite(self.values).any(axis=1)
        undated = np.flatnonzero(np.isnat(self.start) | np.isnat(self.end))
        found = [
            self.unread,
            faults(undated, DATE, self.written[undated], _NO_DATE),
            faults(np.flatnonzero(users), USERS, "", _NO_USERS),
            self._amiss(),
            *(_first(np.isinf(cells), cells, _INFINITE, n) for n, cells in self.curves.items()),
            _first(_gaps(self.values), self.values, _GAP),
            *(_first(_late(cells, last), cells, _LATE, n) for n, cells in self.curves.items()),
        ]
        if tolerance is not None:
            finite = ~np.isinf(self.values).any(axis=1, keepdims=True)
            found.append(_first(_falls(self.values, tolerance) & finite, self.values, _FALL))
        return pd.concat(found).drop_duplicates(["row", "column"])

    def _amiss(self) -> pd.DataFrame:
        """Faults of single cells of dates, users and spend."""
        length = (self.end - self.start) / np.timedelta64(1, "D")
        frame = pd.DataFrame({DATE: length, USERS: self.users, SPEND: self.spend})
        try:
            _SCHEMA.validate(frame, lazy=True)
        except pandera.errors.SchemaErrors as error:
            cases = error.failure_cases
            row, column = cases["index"].to_numpy(int), cases["column"].to_numpy(object)
            shown = np.where(column == DATE, self.written[row], cases["failure_case"])
            return faults(row, column, shown, cases["check"].to_numpy(object))
        return self.unread.head(0)

    def repeated(self, names: Sequence[str], seen: set[int]) -> pd.DataFrame:
        """Faults for cohorts that stand in this sheet twice or whose key is in `seen`, by hash.

        The keys of this sheet, with the attributes `names`, are added to `seen`; 64 bits leave a
        chance of 3e-8 that two of a million keys are taken for one.
        """
        key = {"start": self.start, "end": self.end, **{name: self.label(name) for name in names}}
        hashes = pd.Series(pd.util.hash_pandas_object(pd.DataFrame(key), index=False))
        before = seen.intersection(hashes.tolist())
        seen.update(hashes.tolist())
        rows = np.flatnonzero((hashes.duplicated() | hashes.isin(before)) & ~np.isnat(self.end))
        return faults(rows, DATE, self.written[rows], _TWICE)


def _worded(cells: Strings) -> bool:
    words = pd.Series(pd.unique(cells), dtype=str)
    return bool(pd.to_numeric(words[words != ""], errors="coerce").isna().any())


def _first(wrong: Bools, values: Floats, problem: str, series: str = "") -> pd.DataFrame:
    """A fault at the first wrong age of each row: `wrong` and `values` are (N, A)."""
    count = wrong.sum(axis=1)
    rows = np.flatnonzero(count)
    ages = wrong[rows].argmax(axis=1)
    shown = pd.Series(values[rows, ages]).map(lambda value: f"{value:.9g}".replace("nan", ""))
    column = np.array([_column(series, age) for age in range(AGES)], dtype=object)[ages]
    return faults(rows, column, shown.to_numpy(), problem).assign(more=count[rows] - 1)


def _gaps(values: Floats) -> Bools:
    """Empty cells (N, A) that a known one follows."""
    later = np.logical_or.accumulate(~np.isnan(values[:, ::-1]), axis=1)[:, ::-1]
    return np.isnan(values) & later


def _late(values: Floats, last: Floats) -> Bools:
    """Known cells (N, A) at ages above `last` (N,)."""
    return ~np.isnan(values) & (np.arange(AGES) > last[:, None])


def _falls(values: Floats, tolerance: float) -> Bools:
    """Cells (N, A) below 0 or below the highest value before them by more than the tolerance."""
    falls: Bools = values < 0
    rows = np.flatnonzero((values[:, 1:] < values[:, :-1]).any(axis=1))  # few, where data are clean
    highest = np.fmax.accumulate(values[rows, :-1], axis=1)
    falls[rows, 1:] |= values[rows, 1:] < highest * (1 - tolerance)
    return falls


def joined(
    sheets: Sequence[Sheet],
    dates: Sequence[np.datetime64],
    names: Sequence[str],
    hierarchy: Sequence[str],
    lag_days: int,
) -> History:
    """The history in sheets and the days on which they were exported, with attributes `names`."""
    further = sorted({name for sheet in sheets for name in sheet.curves if name})
    return History(
        start=np.concatenate([sheet.start for sheet in sheets]),
        end=np.concatenate([sheet.end for sheet in sheets]),
        attributes={n: np.concatenate([sheet.label(n) for sheet in sheets]) for n in names},
        users=np.concatenate([sheet.users for sheet in sheets]),
        spend=np.concatenate([sheet.spend for sheet in sheets]),
        values=np.concatenate([sheet.values for sheet in sheets]),
        hierarchy=tuple(name for name in hierarchy if name in names),
        lag_days=lag_days,
        snapshot=np.repeat(np.array(dates), [len(sheet) for sheet in sheets]),
        series={n: np.concatenate([sheet.series(n) for sheet in sheets]) for n in further},
    )


def restatements(history: History, tolerance: float = 1e-3) -> pd.DataFrame:
    """How much each snapshot changed of what the one before it told about the same cohort.

    A row for each snapshot that changed anything: `snapshot`, `cohorts` and `cells` changed, and
    `mean_change` and `max_change`, absolute and relative to the older value (to the newer one
    where that was 0). A cell counts where both vintages know it and differ beyond `tolerance`.
    """
    cohort = history.index.to_frame(index=False).groupby(list(history.index.names)).ngroup()
    order = np.lexsort((history.snapshot, cohort))
    again = np.flatnonzero(np.diff(cohort.to_numpy()[order]) == 0)
    old, new = order[again], order[again + 1]
    before, after = history.values[old], history.values[new]  # (R, A)
    scale = np.abs(np.where(before != 0, before, after))
    change = np.zeros_like(scale)
    np.divide(np.abs(after - before), scale, out=change, where=scale > 0)
    row, age = np.nonzero(change > tolerance)
    snapshot = history.snapshot[new][row]
    cells = pd.DataFrame({"snapshot": snapshot, "cohort": row, "change": change[row, age]})
    return cells.groupby("snapshot", as_index=False).agg(
        cohorts=("cohort", "nunique"),
        cells=("change", "size"),
        mean_change=("change", "mean"),
        max_change=("change", "max"),
    )


def summary(history: History) -> str:
    """What the data hold and how far ahead they support a forecast, in a few lines."""
    snapshots = np.unique(history.snapshot)
    curves = history.as_of(history.last_day)
    k = curves.observed_age
    last = curves.reach(MIN_COHORTS)
    matured = ", ".join(f"D{age} {(k >= age).sum():,}" for age in (7, *HORIZONS))
    wanted = f"no forecast yet: it takes {MIN_COHORTS} cohorts with a complete age"
    further = [f"further series: {', '.join(history.series)}"] if history.series else []
    return "\n".join(
        [
            f"snapshots: {len(snapshots)}, {snapshots[0]} to {snapshots[-1]}",
            f"cohorts: {len(curves):,}, acquired {curves.start.min()} to {curves.end.max()}",
            f"users: {np.nansum(curves.users):,.0f}",
            f"last complete age: {np.median(k):.0f} in the median, {k.max()} at most (-1: none)",
            f"cohorts matured to {matured}",
            *further,
            f"your data support {f'forecasts to D{last}' if last >= 0 else wanted}",
        ]
    )
