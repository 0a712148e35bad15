"""Long tables, a row a cohort and age, as rows of ltvnet's own: one a cohort, a column an age.

Each block of rows is reduced to numbers as it comes; cohorts are told apart over all blocks at the
end. Shapes: M rows of a block, K distinct cohorts of a block, N cohorts, E ages.
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
    Strings,
    block_slices,
    key_ranks,
)
from ltvnet.data.checks import find_missing_users
from ltvnet.data.columns import DATE, SPEND, USERS, age_column
from ltvnet.data.curves import MAX_AGE
from ltvnet.data.importers.cohort_blocks import (
    CohortBlock,
    NumberReader,
    curve_per_user,
    find_rows_left_out,
    read_dates,
)
from ltvnet.data.importers.column_mapping import AGE
from ltvnet.data.importers.conventions import Conventions, MappedFile
from ltvnet.data.table_files import TableFile, empty_fault_table, factorize_text, fault_table

LONG_BLOCK_ROWS = 1 << 20

_NO_AGE = "expected a whole number of days from 0 up; correct it"
_NO_VERSION = -np.inf


class _LongCells(NamedTuple):
    """Cells with a value: (M,) each. `cohort` is its number, in the block or in all of them."""

    cohort: Ints
    age: Ints
    value: Floats
    version: Floats | None
    row: Ints

    def take(self, rows: Bools) -> "_LongCells":
        """Select the cells that are marked, in as few bytes as they need."""
        return _LongCells(
            self.cohort[rows],
            self.age[rows].astype(np.int16),
            self.value[rows],
            None if self.version is None else self.version[rows],
            self.row[rows],
        )


class _AmountRange(NamedTuple):
    """The largest and the smallest amount in the rows of each cohort, NaN where none is known."""

    largest: Floats
    smallest: Floats


class _LongBlock(NamedTuple):
    """Rows of a block: their cells, and its distinct cohorts.

    `key` (K, C) codes of the cohort's dates and attributes, `first_row` (K,) in which it stands,
    `amounts` (K,) by role.
    """

    cells: _LongCells
    key: Ints
    first_row: Ints
    amounts: dict[str, _AmountRange]


class _LongCohorts(NamedTuple):
    """All cohorts: (N,) each. `dates` and `attributes` text, `last_day` of acquisition."""

    dates: Strings
    last_day: Days
    attributes: dict[str, Strings]
    first_row: Ints
    amounts: dict[str, _AmountRange]


@dataclass
class LongTableReader:
    """Collects the rows of a long table, block by block.

    `attributes` name -> column that tells cohorts apart, beside the dates; `counts` of rows by what
    became of them. `texts` code -> text of the dates and of each attribute; `last_days` of dates.
    """

    table: TableFile
    file: MappedFile
    conventions: Conventions
    attributes: dict[str, str]
    counts: Counter[str]
    blocks: list[_LongBlock] = field(default_factory=list)
    texts: list[dict[str, int]] = field(default_factory=list)
    last_days: dict[str, np.datetime64] = field(default_factory=dict)
    faults: list[pd.DataFrame] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin without any text."""
        self.texts = [{} for _ in range(1 + len(self.attributes))]

    def add(self, block: pa.Table, first_row: int) -> None:
        """Add a block of rows that begins at a row of the file."""
        rows = np.flatnonzero(~find_rows_left_out(block, self.file, self.counts))
        if not len(rows):
            return
        if len(rows) < len(block):
            block = block.take(pa.array(rows))
        source_rows = first_row + rows
        mapping = self.file.mapping
        reader = NumberReader(self.conventions)

        cohort, first, key = self._find_cohorts(block)
        amounts = {
            role: _extremes(cohort, reader.read(block.column(column), role), len(first))
            for role, column in mapping.column_of.items()
            if role in (USERS, SPEND)
        }
        age = reader.read(block.column(mapping.column_of[AGE]), AGE)
        values = [reader.read(block.column(name), name) for name in mapping.values_of]
        version = None
        if mapping.version:
            version = reader.read(block.column(mapping.version), mapping.version)
            version = np.where(np.isnan(version), _NO_VERSION, version)
        self._note_faults(reader, age, source_rows)

        age = age + mapping.age_offset
        value = _sum(values)
        is_used = self._mark_used(age, value)
        whole_age = np.where(is_used, age, 0).astype(np.int64)
        cells = _LongCells(cohort, whole_age, value, version, source_rows).take(is_used)
        self.blocks.append(_LongBlock(cells, key, source_rows[first], amounts))

    def _mark_used(self, age: Floats, value: Floats) -> Bools:
        """Mark the rows (M,) that have a value at an age of a curve; others are counted."""
        is_outside = (age < 0) | (age > MAX_AGE)
        self.counts[f"rows at ages outside 0..{MAX_AGE}"] += int(is_outside.sum())
        is_empty = np.isnan(value) | np.isnan(age)
        self.counts["rows without an age or a value"] += int((is_empty & ~is_outside).sum())
        is_used: Bools = ~is_outside & ~is_empty & (age == np.floor(age))
        return is_used

    def _note_faults(self, reader: NumberReader, age: Floats, source_rows: Ints) -> None:
        """Keep the faults of a block by the rows of its file."""
        faults = [*reader.faults]
        bad = np.flatnonzero((age != np.floor(age)) & ~np.isnan(age))
        if len(bad):
            faults.append(fault_table(bad, AGE, age[bad].astype(object), _NO_AGE))
        for table in faults:
            table["row"] = source_rows[table["row"].to_numpy()]
            self.faults.append(table)

    def _find_cohorts(self, block: pa.Table) -> tuple[Ints, Ints, Ints]:
        """Tell the cohorts of a block apart.

        Returns the number of each row's cohort in the block (M,), the first row of each cohort
        (K,), and its key (K, C): codes of dates and attributes, which are alike in all blocks.
        """
        dates = read_dates(block, self.file, self.conventions)
        self.last_days.update(zip(dates.texts.tolist(), dates.last_days, strict=True))
        columns = [(dates.codes, dates.texts.tolist())]
        columns += [factorize_text(block.column(column)) for column in self.attributes.values()]

        key = [Categorical(codes, np.array(texts, dtype=object)) for codes, texts in columns]
        cohort, ranks = pd.factorize(key_ranks(key))
        first = np.empty(len(ranks), dtype=np.int64)
        first[cohort[::-1]] = np.arange(len(cohort))[::-1]
        codes_of_first = [
            np.array([code_of.setdefault(text, len(code_of)) for text in texts])[codes[first]]
            for (codes, texts), code_of in zip(columns, self.texts, strict=True)
        ]
        return cohort.astype(np.int32), first, np.column_stack(codes_of_first)

    @property
    def has_cohorts(self) -> bool:
        """Whether any row was one of a cohort."""
        return bool(self.blocks)

    def finish(self) -> Iterator[CohortBlock]:
        """Yield the cohorts as one block; none where the table has no row.

        Raises ValueError where two rows of a cohort are of one age, unless a platform is known to
        export revenue in parts that add up.
        """
        if not self.has_cohorts:
            return
        cells, cohorts = self._join_blocks()
        self.blocks = []  # as large as all that follows
        ages, curve = self._sum_cells(cells, cohorts)
        mapping = replace(self.file.mapping, values="cumulative")
        amounts = {role: self._largest(role, amount) for role, amount in cohorts.amounts.items()}
        users = amounts.get(USERS)
        per_user, is_without_revenue = curve_per_user(curve, ages, mapping, users)
        if mapping.per == "cohort" and users is not None:
            missing = find_missing_users(curve, users)
            source_rows = cohorts.first_row[missing["row"].to_numpy(dtype=np.int64)]
            self.faults.append(missing.assign(row=source_rows))

        columns: dict[str, object] = {DATE: cohorts.dates, **cohorts.attributes, **amounts}
        for index, age in enumerate(ages.tolist()):
            columns[age_column("", age)] = per_user[:, index]
        table = pa.table(
            {name: pa.array(cells, from_pandas=True) for name, cells in columns.items()}
        )
        faults = pd.concat(self.faults) if self.faults else empty_fault_table()
        yield CohortBlock(table, cohorts.first_row, faults, is_without_revenue)

    def _join_blocks(self) -> tuple[_LongCells, _LongCohorts]:
        """Join the blocks: cells with the cohort's number in all of them, and the cohorts."""
        key = np.concatenate([block.key for block in self.blocks])
        texts = [np.array([*code_of], dtype=object) for code_of in self.texts]
        columns = [Categorical(codes, text) for codes, text in zip(key.T, texts, strict=True)]
        number, ranks = pd.factorize(key_ranks(columns))
        first = np.empty(len(ranks), dtype=np.int64)
        first[number[::-1]] = np.arange(len(number))[::-1]

        begins = np.cumsum([0, *(len(block.key) for block in self.blocks)])
        numbers = [
            number[begin : begin + len(block.key)]
            for begin, block in zip(begins, self.blocks, strict=False)
        ]
        cells = [
            block.cells._replace(cohort=number_of[block.cells.cohort])
            for number_of, block in zip(numbers, self.blocks, strict=True)
        ]
        amounts = {
            role: _join_amounts(numbers, [block.amounts[role] for block in self.blocks])
            for role in self.blocks[0].amounts
        }
        dates, *attributes = [text[codes[first]] for codes, text in zip(key.T, texts, strict=True)]
        first_row = np.concatenate([block.first_row for block in self.blocks])[first]
        last_days = np.array([self.last_days[text] for text in texts[0]], dtype="datetime64[D]")
        cohorts = _LongCohorts(
            dates,
            last_days[key[first, 0]],
            dict(zip(self.attributes, attributes, strict=True)),
            first_row,
            amounts,
        )
        return _concatenate(cells), cohorts

    def _sum_cells(self, cells: _LongCells, cohorts: _LongCohorts) -> tuple[Ints, Floats]:
        """Return ages (E,) and cumulative revenue (N, E) at them."""
        present = np.bincount(cells.age, minlength=1) > 0
        ages = np.flatnonzero(present)
        if self.file.mapping.values == "increment":
            ages = np.arange(len(present))
        index_of_age = np.cumsum(np.isin(np.arange(len(present)), ages)) - 1
        shape = (len(cohorts.dates), len(ages))
        position = cells.cohort * len(ages) + index_of_age[cells.age]
        if cells.version is not None:
            position, cells = self._select_newest(position, cells, shape)

        has_row = np.zeros(shape, dtype=bool)
        has_row.reshape(-1)[position] = True
        if not self.file.mapping.adds_rows and np.count_nonzero(has_row) < len(position):
            self._refuse_repeated(position, cells, ages)
        totals = np.bincount(position, cells.value, has_row.size).astype(np.float64)
        totals = totals.reshape(shape)
        if self.file.mapping.values == "increment":
            return ages, _add_increments(totals, has_row, cohorts.last_day)
        missing_rows = _carry_forward(totals, has_row)
        self.counts["missing rows between known ages, read as no change"] += missing_rows
        return ages, totals

    def _select_newest(
        self, position: Ints, cells: _LongCells, shape: tuple[int, int]
    ) -> tuple[Ints, _LongCells]:
        """Select of each cohort and age the cells of the newest version, with their positions."""
        assert cells.version is not None
        newest = np.full(shape[0] * shape[1], _NO_VERSION)
        np.maximum.at(newest, position, cells.version)
        is_newest = cells.version == newest[position]
        self.counts["rows of older versions"] += int((~is_newest).sum())
        return position[is_newest], cells.take(is_newest)

    def _refuse_repeated(self, position: Ints, cells: _LongCells, ages: Ints) -> None:
        """Raise ValueError for cohorts that have several rows of an age."""
        is_repeated = pd.Series(position).duplicated().to_numpy()
        first = position[is_repeated][0]
        rows = cells.row[position == first]
        locations = " and ".join(self.table.locations(rows[:2].tolist()))
        names = ", ".join(["dates", *self.attributes])
        raise ValueError(
            f"{self.file.path}, {locations}: expected a row for each cohort and age, got two of "
            f"one cohort (by {names}) at age {ages[first % len(ages)]} "
            f"({int(is_repeated.sum()):,} such rows); tell cohorts apart by "
            "data.attributes=[COLUMN], or add the rows up before"
        )

    def _largest(self, role: str, amount: _AmountRange) -> Floats:
        """Return an amount of each cohort (N,): the largest of its rows, NaN where none is known.

        A cohort's size and spend stand in each of its rows; where they differ, it is told.
        """
        differing = int((amount.largest > amount.smallest).sum())
        self.counts[f"cohorts whose {role} differs between rows: the largest counts"] = differing
        return amount.largest


def _sum(values: Sequence[Floats]) -> Floats:
    """Add up columns (M,): NaN where none is known."""
    if len(values) == 1:
        return values[0]
    total: Floats = np.where(np.isnan(values).all(axis=0), np.nan, np.nansum(values, axis=0))
    return total


def _extremes(cohort: Ints, amount: Floats, count: int) -> _AmountRange:
    """Find the extremes (K,) of an amount (M,) in the rows of each of so many cohorts."""
    largest = np.full(count, np.nan)
    smallest = np.full(count, np.nan)
    np.fmax.at(largest, cohort, amount)
    np.fmin.at(smallest, cohort, amount)
    return _AmountRange(largest, smallest)


def _join_amounts(numbers: Sequence[Ints], amounts: Sequence[_AmountRange]) -> _AmountRange:
    """Find the extremes (N,) of cohorts whose numbers (K,) in each block are given."""
    number = np.concatenate(numbers)
    count = int(number.max()) + 1
    largest = _extremes(number, np.concatenate([one.largest for one in amounts]), count).largest
    smallest = _extremes(number, np.concatenate([one.smallest for one in amounts]), count).smallest
    return _AmountRange(largest, smallest)


def _concatenate(parts: Sequence[_LongCells]) -> _LongCells:
    """Join cells of several blocks."""
    has_version = parts[0].version is not None
    return _LongCells(
        np.concatenate([part.cohort for part in parts]),
        np.concatenate([part.age for part in parts]),
        np.concatenate([part.value for part in parts]),
        np.concatenate([part.version for part in parts]) if has_version else None,
        np.concatenate([part.row for part in parts]),
    )


def _add_increments(increments: Floats, has_row: Bools, last_day: Days) -> Floats:
    """Add increments (N, E) of all ages from 0 on up to cumulative revenue.

    Increments without a row are zero up to the last day that any row is about.
    """
    cohort, age = np.nonzero(has_row)
    day = last_day[cohort] + age
    last_age = (np.fmax.reduce(day, initial=np.datetime64("NaT")) - last_day) / ONE_DAY  # (N,)
    curve = np.cumsum(increments, axis=1)
    curve[np.arange(increments.shape[1]) > last_age[:, None]] = np.nan
    return curve


def _carry_forward(totals: Floats, has_row: Bools) -> int:
    """Fill cells (N, E) without a row, in place: how many of them a known age follows.

    Such a cell stays what the age before it was, 0 before the first; the others are unknown.
    """
    missing_rows = 0
    every_index = np.arange(totals.shape[1])
    for block in block_slices(len(totals)):
        known = has_row[block]
        if known.all():
            continue
        last_known = np.maximum.accumulate(np.where(known, every_index, -1), axis=1)
        carried = np.take_along_axis(totals[block], last_known.clip(min=0), axis=1)
        carried[last_known < 0] = 0.0  # no row yet: nothing was earned
        is_followed = np.logical_or.accumulate(known[:, ::-1], axis=1)[:, ::-1]
        missing_rows += int((is_followed & ~known).sum())
        totals[block] = np.where(is_followed, carried, np.nan)
    return missing_rows
