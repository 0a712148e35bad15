"""Rows of exported tables as rows of ltvnet's own: the roles of columns and conventions applied.

Shapes: N rows of a block, E columns of ages.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ltvnet.data.arrays import Bools, Days, Floats, Ints, Strings
from ltvnet.data.checks import find_gaps, find_missing_users
from ltvnet.data.columns import DATE, END, SPEND, START, USERS, age_column
from ltvnet.data.importers.column_mapping import ColumnMapping
from ltvnet.data.importers.conventions import Conventions, MappedFile
from ltvnet.data.importers.date_texts import read_date, read_serial
from ltvnet.data.importers.table_format import DatePeriod
from ltvnet.data.importers.text_files import is_date_like, is_total
from ltvnet.data.table_files import (
    NO_NUMBER,
    empty_fault_table,
    factorize_text,
    fault_table,
    is_text_type,
)

_MANY_BLANK_DATES = 3


@dataclass(frozen=True)
class CohortBlock:
    """Rows of a file as a table of ltvnet's own columns.

    `table` (N rows); `source_rows` (N,) rows of the file (from 0) in which they stand; `faults` of
    cells that could not be read, by rows of the file; `is_without_revenue` (N,) rows whose zeros
    may be unknown ages (None: none is).
    """

    table: pa.Table
    source_rows: Ints
    faults: pd.DataFrame
    is_without_revenue: Bools | None = None


@dataclass
class NumberReader:
    """Reads columns of numbers by the conventions of all files, and collects faults.

    `columns` of faults are ltvnet's own names, by the column of the file.
    """

    conventions: Conventions
    faults: list[pd.DataFrame] = field(default_factory=list)

    def read(self, column: pa.ChunkedArray, name: str) -> Floats:
        """Read the cells (N,) of a column, NaN where empty or unreadable; `name` for faults."""
        if not is_text_type(column.type):
            values: Floats = column.cast(pa.float64(), safe=False).to_numpy().astype(float)
            return values
        values, is_unreadable = self.conventions.numbers.parse(column)
        rows = np.flatnonzero(is_unreadable)
        if len(rows):
            texts = column.take(pa.array(rows)).to_numpy()
            self.faults.append(fault_table(rows, name, texts, NO_NUMBER))
        return values

    def fault_table(self) -> pd.DataFrame:
        """Return all faults so far."""
        return pd.concat(self.faults) if self.faults else empty_fault_table()


class DateRanges(NamedTuple):
    """Days of acquisition of rows: `codes` (N,) of `texts` (T,), "first~last" or no date at all.

    `last_days` (T,), NaT where a text is no date.
    """

    codes: Ints
    texts: Strings
    last_days: Days


def read_dates(block: pa.Table, file: MappedFile, conventions: Conventions) -> DateRanges:
    """Read the days of acquisition of rows; a text that is no date stays as it is."""
    columns = file.date_columns
    codes, first_texts = factorize_text(block.column(columns[0]))
    _refuse_merged_dates(columns[0], _is_blank(block.column(columns[0])))
    shown = np.array(first_texts, dtype=object)  # (T,)
    first, last = conventions.dates.parse(first_texts)
    if len(columns) > 1:
        end_codes, end_texts = factorize_text(block.column(columns[1]))
        codes, pairs = pd.factorize(codes * len(end_texts) + end_codes)
        first_code, end_code = np.divmod(pairs, len(end_texts))
        _, end = conventions.dates.parse(end_texts)
        first, last = first[first_code], end[end_code]
        shown = shown[first_code] + "~" + np.array(end_texts, dtype=object)[end_code]

    elif file.mapping.period:
        last = np.where(last == first, last_of_period(first, file.mapping.period), last)

    ranges = np.strings.add(np.strings.add(first.astype(str), "~"), last.astype(str))
    is_known = ~(np.isnat(first) | np.isnat(last))
    texts: Strings = np.where(is_known, ranges.astype(object), shown)
    unknown = np.datetime64("NaT", "D")
    return DateRanges(codes.astype(np.int64), texts, np.where(is_known, last, unknown))


def _refuse_merged_dates(name: str, is_blank: Bools) -> None:
    """Raise ValueError where many dates (N,) are blank below others, as in a pivot table."""
    count = int(is_blank.sum())
    if count < max(_MANY_BLANK_DATES, len(is_blank) / 4) or is_blank[0]:
        return
    raise ValueError(
        f"expected a date in each row, got {count:,} blank cells of {name}; where a blank repeats "
        "the row above, fill them down (in a pivot table: Repeat All Item Labels)"
    )


def last_of_period(first: Days, period: DatePeriod) -> Days:
    """Return the last day (N,) of the week or month that begins on each day."""
    if period == "week":
        return first + np.timedelta64(6, "D")
    if period == "day":
        return first
    months = first.astype("datetime64[M]")
    is_month_begin = months.astype("datetime64[D]") == first
    same_day_next_month = (months + 1).astype("datetime64[D]") + (first - months)
    end_of_month = (months + 1).astype("datetime64[D]")
    last: Days = np.where(is_month_begin, end_of_month, same_day_next_month) - 1
    return last


def find_rows_left_out(block: pa.Table, file: MappedFile, counts: Counter[str]) -> Bools:
    """Mark rows (N,) that are no cohorts: empty ones, totals, and those that the preset drops."""
    is_empty = np.ones(len(block), dtype=bool)
    for column in block.columns:
        if is_empty.any():
            is_empty &= _is_blank(column)

    codes, texts = factorize_text(block.column(file.date_columns[0]))
    date_is_total = np.array([is_total(text) for text in texts], dtype=bool)[codes]
    is_undated = ~np.array([_may_be_date(text) for text in texts], dtype=bool)[codes]
    is_sum = date_is_total | (is_undated & _begins_with_total(block, is_undated))

    is_dropped = np.zeros(len(block), dtype=bool)
    for name, value in file.mapping.drop:
        cells = pc.utf8_trim_whitespace(block.column(name).cast(pa.string())).fill_null("")
        is_dropped |= pc.equal(cells, value).to_numpy()

    counts["empty rows"] += int(is_empty.sum())
    counts["totals"] += int((is_sum & ~is_empty).sum())
    counts["rows that the preset leaves out"] += int((is_dropped & ~is_sum & ~is_empty).sum())
    left_out: Bools = is_empty | is_sum | is_dropped
    return left_out


def _begins_with_total(block: pa.Table, rows: Bools) -> Bools:
    """Mark rows (N,), of those that are asked about, whose first cell says that they are sums."""
    is_sum = np.zeros(len(block), dtype=bool)
    if rows.any():
        codes, texts = factorize_text(block.column(0).filter(pa.array(rows)))
        is_sum[rows] = np.array([is_total(text) for text in texts], dtype=bool)[codes]
    return is_sum


def _may_be_date(text: str) -> bool:
    """Return whether a text has the look of a date, be it right or wrong."""
    return bool(is_date_like(text) or read_date(text) or read_serial(text))


def _is_blank(column: pa.ChunkedArray) -> Bools:
    """Mark the cells (N,) that hold nothing."""
    is_null: Bools = column.is_null().to_numpy()
    if not is_text_type(column.type) or is_null.all():
        return is_null
    is_blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(column.cast(pa.string()))), 0)
    blank: Bools = is_blank.fill_null(fill_value=True).to_numpy()
    return blank


def translate_wide(
    block: pa.Table,
    first_row: int,
    file: MappedFile,
    conventions: Conventions,
    counts: Counter[str],
) -> CohortBlock:
    """Make a block of a wide table one of ltvnet's own columns.

    `first_row` of the block in its file; rows that are left out are added to `counts`. Raises
    ValueError for increments that do not begin at day 0 and go on day by day.
    """
    rows = np.flatnonzero(~find_rows_left_out(block, file, counts))
    if len(rows) < len(block):
        block = block.take(pa.array(rows))
    mapping = file.mapping
    reader = NumberReader(conventions)

    dates = read_dates(block, file, conventions)
    columns: dict[str, object] = {DATE: pa.array(dates.texts).take(pa.array(dates.codes))}
    columns |= _attribute_columns(block, file)
    amounts = {
        role: reader.read(block.column(mapping.column_of[role]), role)
        for role in (USERS, SPEND)
        if role in mapping.column_of
    }
    columns |= amounts
    curve_columns, is_without_revenue = _curve_columns(block, mapping, reader, amounts.get(USERS))
    columns |= curve_columns
    for name, (series, age) in mapping.ages.items():
        if series:
            columns[age_column(series, age)] = reader.read(block.column(name), name)

    table = pa.table({name: _as_column(cells) for name, cells in columns.items()})
    faults = reader.fault_table()
    source_rows = first_row + rows
    faults = faults.assign(row=source_rows[faults["row"].to_numpy(dtype=np.int64)])
    return CohortBlock(table, source_rows, faults, is_without_revenue)


def _attribute_columns(block: pa.Table, file: MappedFile) -> dict[str, object]:
    """Return the columns that have no role, and those of attributes under their own names."""
    mapping = file.mapping
    assigned: set[str | None] = {"", *file.date_columns, *mapping.ages, *mapping.ignore}
    assigned |= {mapping.version, mapping.currency}
    assigned |= {mapping.column_of.get(role) for role in (USERS, SPEND)}
    name_of = {column: role for role, column in mapping.column_of.items()}
    return {
        name_of.get(name, name): block.column(name)
        for name in block.column_names
        if name not in assigned and name != DATE
    }


def _curve_columns(
    block: pa.Table, mapping: ColumnMapping, reader: "NumberReader", users: Floats | None
) -> tuple[dict[str, object], Bools | None]:
    """Return the columns of the curve, per user, and which rows (N,) have no revenue at all."""
    curve_names = [name for name, (series, _) in mapping.ages.items() if not series]
    ages = np.array([mapping.ages[name][1] for name in curve_names], dtype=np.int64)
    order = np.argsort(ages, kind="stable")
    ages = ages[order]
    cells = np.column_stack(
        [
            reader.read(block.column(curve_names[position]), age_column("", age))
            for position, age in zip(order.tolist(), ages.tolist(), strict=True)
        ]
    )  # (N, E)

    curve, is_without_revenue = curve_per_user(cells, ages, mapping, users)
    if mapping.values == "increment":  # from a gap on, the sum is unknown
        reader.faults.append(find_gaps(cells))
    if mapping.per == "cohort" and users is not None:
        reader.faults.append(find_missing_users(cells, users))
    names = [age_column("", age) for age in ages.tolist()]
    return dict(zip(names, curve.T, strict=True)), is_without_revenue


def curve_per_user(
    cells: Floats, ages: Ints, mapping: ColumnMapping, users: Floats | None
) -> tuple[Floats, Bools | None]:
    """Make cells (N, E) at ages (E,) cumulative revenue per user: (N, E).

    Also returns which rows (N,) have no revenue at all, where zeros may be unknown cells (else
    None). Raises ValueError for increments that leave ages out.
    """
    curve = cells
    if mapping.values == "increment":
        if ages.tolist() != list(range(len(ages))):
            raise ValueError(
                "expected the revenue of every day from day 0 on, as increments are added up, got "
                f"ages {' '.join(map(str, ages[:12]))} ...; export every day, or cumulative revenue"
            )
        curve = np.cumsum(cells, axis=1)  # unknown from the first unknown day on
    if mapping.unit != 1:
        curve = scale_amounts(curve, mapping.unit)
    if mapping.per == "cohort" and users is not None:
        curve = divide_by_users(curve, users)
    if mapping.zeros == "data":
        return curve, None

    is_positive = np.nan_to_num(curve) != 0
    follows = np.logical_or.accumulate(is_positive[:, ::-1], axis=1)[:, ::-1]
    is_unknown = (curve == 0) & ~follows
    return np.where(is_unknown, np.nan, curve), ~is_positive.any(axis=1)


def scale_amounts(amounts: Floats, unit: float) -> Floats:
    """Multiply amounts by their unit; cents and micros are divided, which is exact where it can.

    >>> scale_amounts(np.array([110.0]), 0.01)
    array([1.1])
    """
    return amounts / round(1 / unit) if unit < 1 else amounts * unit


def divide_by_users(money: Floats, users: Floats) -> Floats:
    """Divide money of cohorts (N, E) by their users (N,): nothing by nobody is nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        per_user = money / users[:, None]
    return np.where((money == 0) & (users == 0)[:, None], 0.0, per_user)


def _as_column(cells: object) -> pa.Array | pa.ChunkedArray:
    """Return cells as a column of Arrow; NaN is null."""
    if isinstance(cells, pa.Array | pa.ChunkedArray):
        return cells
    return pa.array(cells, from_pandas=True)


def own_names(names: Sequence[str], mapping: ColumnMapping) -> dict[str, str]:
    """Return ltvnet's own name -> column of a file, for messages."""
    columns = {role: column for role, column in mapping.column_of.items() if column in names}
    dates = [mapping.column_of[role] for role in (DATE, START, END) if role in mapping.column_of]
    columns[DATE] = "~".join(dates)
    for name, (series, age) in mapping.ages.items():
        columns[age_column(series, age)] = name
    return columns
