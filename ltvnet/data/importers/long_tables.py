"""Long tables, a row a cohort and age, as rows of ltvnet's own: one a cohort, a column an age.

Shapes: M rows of the long table, N cohorts, A ages.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from ltvnet.data.arrays import (
    ONE_DAY,
    Bools,
    Categorical,
    Days,
    Floats,
    Ints,
    factorize,
    key_ranks,
)
from ltvnet.data.columns import DATE, SPEND, USERS, age_column
from ltvnet.data.curves import AGES, MAX_AGE
from ltvnet.data.importers.cohort_blocks import (
    CohortBlock,
    NumberReader,
    curve_per_user,
    find_rows_left_out,
    read_dates,
)
from ltvnet.data.importers.column_mapping import AGE
from ltvnet.data.importers.conventions import Conventions, MappedFile
from ltvnet.data.table_files import (
    empty_fault_table,
    factorize_text,
    fault_table,
    row_locations,
)

LONG_BLOCK_ROWS = 1 << 20  # of which the distinct cohorts are looked up one by one

_NO_AGE = "expected a whole number of days from 0 up; correct it"


class _LongCells(NamedTuple):
    """Cells of a long table: (M,) each."""

    cohort: Ints
    age: Ints
    value: Floats
    version: Floats
    row: Ints


@dataclass
class LongTableReader:
    """Collects the rows of a long table, block by block.

    `attributes` are the columns that tell cohorts apart, beside the dates. `cohort_of` key -> the
    number of a cohort; `first_rows` (N,) of the file in which they stand.
    """

    file: MappedFile
    conventions: Conventions
    attributes: dict[str, str]
    counts: Counter[str]
    cells: list[_LongCells] = field(default_factory=list)
    cohort_of: dict[tuple[str, ...], int] = field(default_factory=dict)
    first_rows: list[int] = field(default_factory=list)
    amounts: dict[str, list[tuple[Ints, Floats]]] = field(default_factory=dict)
    faults: list[pd.DataFrame] = field(default_factory=list)

    def add(self, block: pa.Table, first_row: int) -> None:
        """Add a block of rows that begins at a row of the file."""
        rows = np.flatnonzero(~find_rows_left_out(block, self.file, self.counts))
        if len(rows) < len(block):
            block = block.take(pa.array(rows))
        mapping = self.file.mapping
        reader = NumberReader(self.conventions)
        age = reader.read(block.column(mapping.column_of[AGE]), AGE)
        values = [reader.read(block.column(name), name) for name in mapping.values_of]
        value = np.where(np.isnan(values).all(axis=0), np.nan, np.nansum(values, axis=0))
        version = np.zeros(len(block))
        if mapping.version:
            version = reader.read(block.column(mapping.version), mapping.version)

        source_rows = first_row + rows
        cohort = self._number_cohorts(block, source_rows)
        for role in (USERS, SPEND):
            if role in mapping.column_of:
                amount = reader.read(block.column(mapping.column_of[role]), role)
                self.amounts.setdefault(role, []).append((cohort, amount))

        self._note_faults(reader, age, source_rows)
        age = age + mapping.age_offset
        is_used = (age >= 0) & (age <= MAX_AGE) & (age == np.floor(age)) & ~np.isnan(value)
        self.counts[f"rows at ages outside 0..{MAX_AGE}"] += int(
            ((age < 0) | (age > MAX_AGE)).sum()
        )
        self.cells.append(
            _LongCells(
                cohort[is_used],
                age[is_used].astype(np.int64),
                value[is_used],
                version[is_used],
                source_rows[is_used],
            )
        )

    def _note_faults(self, reader: NumberReader, age: Floats, source_rows: Ints) -> None:
        """Keep the faults of a block by the rows of its file."""
        faults = [*reader.faults]
        bad = np.flatnonzero((age != np.floor(age)) & ~np.isnan(age))
        if len(bad):
            faults.append(fault_table(bad, AGE, age[bad].astype(object), _NO_AGE))
        for table in faults:
            table["row"] = source_rows[table["row"].to_numpy()]
            self.faults.append(table)

    def _number_cohorts(self, block: pa.Table, source_rows: Ints) -> Ints:
        """Number the cohort of each row (M,): a new one where the key is new."""
        columns = [factorize(read_dates(block, self.file, self.conventions))]
        for column in self.attributes.values():
            codes, texts = factorize_text(block.column(column))
            columns.append(Categorical(codes, np.array(texts, dtype=object)))
        _, first, inverse = np.unique(key_ranks(columns), return_index=True, return_inverse=True)
        numbers = np.empty(len(first), dtype=np.int64)
        for position, row in enumerate(first.tolist()):
            key = tuple(str(values[codes[row]]) for codes, values in columns)
            numbers[position] = self.cohort_of.setdefault(key, len(self.cohort_of))
            if len(self.first_rows) < len(self.cohort_of):
                self.first_rows.append(int(source_rows[row]))
        cohort: Ints = numbers[inverse]
        return cohort

    def finish(self) -> Iterator[CohortBlock]:
        """Yield the cohorts as one block; none where the table has no row.

        Raises ValueError where two rows of a cohort are of one age, unless a platform is known to
        export revenue in parts that add up.
        """
        if not self.cohort_of:
            return
        cells = self._newest_cells()
        count = len(self.cohort_of)
        position = cells.cohort * AGES + cells.age
        sums = np.bincount(position, cells.value, count * AGES).astype(np.float64)
        totals = sums.reshape(count, AGES)
        has_row = np.bincount(position, minlength=count * AGES).reshape(count, AGES)
        self._refuse_repeated(cells, has_row)

        keys = list(zip(*self.cohort_of, strict=True))
        ages, curve = self._curves(totals, has_row > 0, _last_days(keys[0]))
        mapping = replace(self.file.mapping, values="cumulative")
        users = self._largest(USERS) if USERS in self.amounts else None
        per_user, is_without_revenue = curve_per_user(curve, ages, mapping, users)
        columns: dict[str, object] = {DATE: list(keys[0])}
        for name, texts in zip(self.attributes, keys[1:], strict=True):
            columns[name] = list(texts)
        columns |= {role: self._largest(role) for role in self.amounts}
        for index, age in enumerate(ages.tolist()):
            columns[age_column("", age)] = per_user[:, index]
        table = pa.table(
            {name: pa.array(cells, from_pandas=True) for name, cells in columns.items()}
        )
        faults = pd.concat(self.faults) if self.faults else empty_fault_table()
        first_rows = np.array(self.first_rows)
        yield CohortBlock(table, first_rows, faults, is_without_revenue)

    def _newest_cells(self) -> _LongCells:
        """Join the cells of all blocks; of a cohort and age those of the newest version."""
        cells = _LongCells(*(np.concatenate(columns) for columns in zip(*self.cells, strict=True)))
        if not self.file.mapping.version:
            return cells
        position = cells.cohort * AGES + cells.age
        newest = np.full(len(self.cohort_of) * AGES, -np.inf)
        np.maximum.at(newest, position, cells.version)
        is_newest = cells.version == newest[position]
        self.counts["rows of older versions"] += int((~is_newest).sum())
        return _LongCells(*(column[is_newest] for column in cells))

    def _refuse_repeated(self, cells: _LongCells, has_row: Ints) -> None:
        """Raise ValueError where a cohort has several rows of an age that nobody said add up."""
        if self.file.mapping.adds_rows or not (has_row > 1).any():
            return
        cohort, age = (int(index[0]) for index in np.nonzero(has_row > 1))
        rows = cells.row[(cells.cohort == cohort) & (cells.age == age)]
        locations = " and ".join(row_locations(self.file.path, rows[:2].tolist()))
        names = ", ".join(["dates", *self.attributes])
        raise ValueError(
            f"{self.file.path}, {locations}: expected a row for each cohort and age, got two of "
            f"one cohort (by {names}) at age {age} ({int((has_row > 1).sum()):,} such cells); tell "
            "cohorts apart by data.attributes=[COLUMN], or add the rows up before"
        )

    def _largest(self, role: str) -> Floats:
        """Return an amount of each cohort (N,): the largest of its rows, NaN where none is known.

        A cohort's size and spend stand in each of its rows; where they differ, it is told.
        """
        largest = np.full(len(self.cohort_of), -np.inf)
        smallest = np.full(len(self.cohort_of), np.inf)
        for cohort, amount in self.amounts[role]:
            is_known = ~np.isnan(amount)
            np.maximum.at(largest, cohort[is_known], amount[is_known])
            np.minimum.at(smallest, cohort[is_known], amount[is_known])
        differing = int((largest > smallest).sum())
        self.counts[f"cohorts whose {role} differs between rows: the largest counts"] = differing
        return np.where(np.isinf(largest), np.nan, largest)

    def _curves(self, totals: Floats, has_row: Bools, end: Days) -> tuple[Ints, Floats]:
        """Return ages (E,) and cumulative revenue (N, E) at them.

        Increments without a row are zero up to the last day that any row is about. Cumulative
        revenue without a row stays what it was where a later row is known.
        """
        last_age = int(np.flatnonzero(has_row.any(axis=0))[-1])
        every_age = np.arange(last_age + 1)
        if self.file.mapping.values == "increment":
            cohort, age = np.nonzero(has_row)
            last_day = (end[cohort] + age).max()
            natural = ((last_day - end) / ONE_DAY)[:, None]
            curve = np.cumsum(totals[:, every_age], axis=1)
            return every_age, np.where(every_age <= natural, curve, np.nan)

        ages = np.flatnonzero(has_row.any(axis=0))
        is_known = has_row[:, ages]
        last_known = np.where(is_known, np.arange(len(ages)), -1)
        last_known = np.maximum.accumulate(last_known, axis=1)
        known_later = np.logical_or.accumulate(is_known[:, ::-1], axis=1)[:, ::-1]
        carried = np.take_along_axis(totals[:, ages], last_known.clip(min=0), axis=1)
        carried = np.where(last_known < 0, 0.0, carried)  # no row yet: nothing was earned
        self.counts["missing rows between known ages, read as no change"] += int(
            (known_later & ~is_known).sum()
        )
        return ages, np.where(known_later, carried, np.nan)


def _last_days(date_ranges: Sequence[str]) -> Days:
    """Return the last day (N,) of each "first~last"; NaT where it is none."""
    texts = pd.Series([text.rpartition("~")[2] for text in date_ranges], dtype=object)
    days = pd.to_datetime(texts, format="%Y-%m-%d", errors="coerce")
    return days.to_numpy().astype("datetime64[D]")
