"""Faults of cohort tables, restatements between snapshots, and a summary of a history.

Shapes: N rows of a table, A ages, R vintages.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltvnet.data.arrays import Bools, Floats, Strings
from ltvnet.data.cohort_rows import ParsedTable, values_after
from ltvnet.data.columns import DATE, SPEND, USERS, age_column
from ltvnet.data.curves import AGES, EVERY_AGE, HORIZONS, History
from ltvnet.data.table_files import empty_fault_table, fault_table

MIN_COHORTS_PER_AGE = 5
"""Data support an age that at least so many cohorts reached."""

DUPLICATE_COHORT = (
    "expected a cohort once in a snapshot; merge its rows or tell them apart by an attribute"
)

_NO_DATE = "expected YYYY-MM-DD~YYYY-MM-DD or YYYY-MM-DD; correct the date"
_INFINITE = "expected a finite number; empty the cell where nothing is known"
_REVERSED = "expected first~last day of acquisition, got the last day first; swap them"
_NEGATIVE = "expected a number from 0 up; correct it or empty the cell"
_NO_USERS = "expected the number of users, as the row has values; fill the cell in"
_THREE_DIGITS = 0.8  # of fractions, where a group of thousands ends with 0 in one of ten

_GROUPED_USERS = (
    "expected whole users, got a group of thousands or a fraction: write 1.234 as 1234 if it is "
    "one thousand and more, else as a whole number (as 1)"
)
_GAP = "expected a value between known ages (0 is one); fill the cell in or empty what follows"
_LATE = "expected nothing after the as-of date; correct data.snapshot or set data.partial=mask"
_FALL = (
    "expected no fall of cumulative revenue; with refunds in it set data.revenue=net, and where "
    "each cell is the revenue of one day data.format.values=increment"
)
_FALL_TO_ZERO = "expected no fall to 0: it is data; empty the cell where nothing is known yet"
_MANY_FALLS = (
    "expected no fall of cumulative revenue, got falls in so many cohorts that this is rather the "
    "revenue of each day: set data.format.values=increment, or data.revenue=net if it is "
    "cumulative with refunds in it"
)
_MANY_FALLING_COHORTS = 5
_MANY_FALLING_SHARE = 0.05  # of cohorts, by which exports of each day's revenue are recognised


def find_faults(table: ParsedTable, last_age: Floats, tolerance: float | None) -> pd.DataFrame:
    """Find all that is wrong with single rows, as a fault table.

    `last_age` (N,) the last age that can be complete, NaN where unknown; `tolerance` the relative
    fall of a curve below its highest value that is right (None: every fall is).
    """
    is_grouped = find_grouped_users(table.users)
    rows = np.flatnonzero(_find_suspects(table, last_age, tolerance) | is_grouped)
    if not len(rows):
        return table.number_faults
    faults = _check_rows(table.take(rows), last_age[rows], tolerance)
    grouped = _column_faults(is_grouped[rows], USERS, table.users[rows], _GROUPED_USERS)
    faults = pd.concat([faults, grouped])
    faults["row"] = rows[faults["row"]]
    is_fall = faults["problem"] == _FALL
    if is_fall.sum() >= max(_MANY_FALLING_COHORTS, _MANY_FALLING_SHARE * len(table)):
        faults.loc[is_fall, "problem"] = _MANY_FALLS
        faults = faults[faults["problem"] != _FALL_TO_ZERO]  # a day without revenue is one
    return pd.concat([table.number_faults, faults]).drop_duplicates(["row", "column"])


def find_grouped_users(users: Floats) -> Bools:
    """Mark users (N,) that may be groups of thousands which were read as fractions, as 1.234.

    Users are so where all fractions have three digits at most, and most of them no fewer.

    >>> find_grouped_users(np.array([1.234, 950.0, 12.5])).tolist()
    [False, False, False]
    >>> find_grouped_users(np.array([1.234, 950.0, 2.085])).tolist()
    [True, False, True]
    """
    is_fraction: Bools = np.isfinite(users) & (users != np.round(users))
    fractions = users[is_fraction]
    if not len(fractions):
        return is_fraction
    thousandths = fractions * 1000
    has_three = np.isclose(thousandths, np.round(thousandths), rtol=0, atol=1e-7)
    is_longest = np.round(thousandths) % 10 != 0
    in_range = (fractions >= 1) & (fractions < 1000)
    is_alike = bool(has_three.all() and in_range.all() and is_longest.mean() >= _THREE_DIGITS)
    return is_fraction & is_alike


def _find_suspects(table: ParsedTable, last_age: Floats, tolerance: float | None) -> Bools:
    """Mark rows (N,) in which something may be wrong: the others need no closer look."""
    duration = table.end - table.start
    amounts = np.column_stack((table.users, table.spend))
    values = table.values
    is_known = ~np.isnan(values)  # (N, A)
    # bytes added up in 16 bits: several times as fast as a sum of booleans
    known_bytes = is_known.view(np.uint8)
    known_ages = known_bytes.sum(axis=1, dtype=np.uint16).astype(np.int64)

    is_suspect: Bools = ~(duration >= np.timedelta64(0, "D"))
    is_suspect |= ((amounts < 0) | np.isinf(amounts)).any(axis=1)
    is_suspect |= np.isnan(table.users) & (known_ages > 0)
    is_known_before = is_known[:, :-1]
    is_suspect |= (is_known[:, 1:] > is_known_before).any(axis=1)
    is_suspect |= known_ages - 1 > last_age

    for name, cells in table.values_by_series.items():
        if name or tolerance is None:
            is_suspect |= np.isinf(cells).any(axis=1)
        if name:
            is_suspect |= values_after(cells, last_age).any(axis=1)

    if tolerance is not None:
        is_suspect |= values[:, 0] < 0
        is_suspect |= _has_fall(values)
        # of values that never fall from 0 on the last alone can be infinite
        last_known_age = np.maximum(known_ages - 1, 0)
        last_value = values[np.arange(len(known_ages)), last_known_age]
        is_suspect |= np.isinf(last_value)
    return is_suspect


def _check_rows(table: ParsedTable, last_age: Floats, tolerance: float | None) -> pd.DataFrame:
    """Check all cells of a few rows."""
    date_text = table.date_text.values[table.date_text.codes]
    no_text = np.full(len(table), "", dtype=object)
    is_undated = np.isnat(table.start) | np.isnat(table.end)
    has_values = np.isfinite(table.values).any(axis=1)
    is_without_users = np.isnan(table.users) & has_values

    faults = [
        _column_faults(is_undated, DATE, date_text, _NO_DATE),
        _column_faults(is_without_users, USERS, no_text, _NO_USERS),
        _column_faults(table.end < table.start, DATE, date_text, _REVERSED),
        *_amount_faults(USERS, table.users),
        *_amount_faults(SPEND, table.spend),
    ]
    for series, cells in table.values_by_series.items():
        faults.append(_first_faults(np.isinf(cells), cells, _INFINITE, series))
    faults.append(find_gaps(table.values, table.exported_ages))
    for series, cells in table.values_by_series.items():
        faults.append(_first_faults(values_after(cells, last_age), cells, _LATE, series))

    if tolerance is not None:
        is_finite = ~np.isinf(table.values).any(axis=1, keepdims=True)
        is_fall = _find_falls(table.values, tolerance) & is_finite
        is_zero = table.values == 0
        faults.append(_first_faults(is_fall & is_zero, table.values, _FALL_TO_ZERO))
        faults.append(_first_faults(is_fall & ~is_zero, table.values, _FALL))
    return pd.concat(faults)


def _column_faults(
    is_wrong: Bools, column: str, cells: Strings | Floats, problem: str
) -> pd.DataFrame:
    """Make a fault of each wrong cell (N,) of one column."""
    rows = np.flatnonzero(is_wrong)
    return fault_table(rows, column, cells[rows].astype(object), problem)


def _amount_faults(column: str, amount: Floats) -> Iterator[pd.DataFrame]:
    """Yield the faults of a column of users or spend (N,)."""
    yield _column_faults(amount < 0, column, amount, _NEGATIVE)
    yield _column_faults(amount == np.inf, column, amount, _INFINITE)


def _first_faults(is_wrong: Bools, values: Floats, problem: str, series: str = "") -> pd.DataFrame:
    """Make a fault of the first wrong age of each row: `is_wrong` and `values` are (N, A)."""
    count = is_wrong.sum(axis=1)
    rows = np.flatnonzero(count)
    ages = is_wrong[rows].argmax(axis=1)
    first_wrong = pd.Series(values[rows, ages])
    texts = first_wrong.map(lambda value: f"{value:.9g}".replace("nan", ""))

    column_names = [age_column(series, age) for age in range(AGES)]
    columns = np.array(column_names, dtype=object)[ages]
    faults = fault_table(rows, columns, texts.to_numpy(), problem)
    return faults.assign(more=count[rows] - 1)


def find_gaps(values: Floats, exported_ages: Sequence[int] = EVERY_AGE) -> pd.DataFrame:
    """Find empty cells that a known one follows, of values (N, E) at ages 0 to E - 1.

    Ages that were not exported have no cell.
    """
    is_known = ~np.isnan(values)
    from_last_age = is_known[:, ::-1]
    is_followed = np.logical_or.accumulate(from_last_age, axis=1)[:, ::-1]
    is_cell = np.isin(np.arange(values.shape[1]), exported_ages)
    return _first_faults(~is_known & is_followed & is_cell, values, _GAP)


def find_missing_users(money: Floats, users: Floats) -> pd.DataFrame:
    """Find cohorts whose money (N, E) cannot be divided by their users (N,).

    Nothing earned by nobody is no fault.
    """
    has_money = np.isfinite(money).any(axis=1)
    has_earned = (np.nan_to_num(money) != 0).any(axis=1)
    is_wrong = (np.isnan(users) & has_money) | ((users == 0) & has_earned)
    rows = np.flatnonzero(is_wrong)
    texts = pd.Series(users[rows]).map(lambda count: "" if np.isnan(count) else f"{count:g}")
    return fault_table(rows, USERS, texts.to_numpy(dtype=object), _NO_USERS)


def _has_fall(values: Floats) -> Bools:
    """Return which rows of values (N, A) fall anywhere from one age to the next: (N,)."""
    value_before = values[:, :-1]
    is_below = values[:, 1:] < value_before
    has_fall: Bools = np.logical_or.reduce(is_below, axis=1)
    return has_fall


def _find_falls(values: Floats, tolerance: float) -> Bools:
    """Mark cells (N, A) below 0, or below the highest before them by more than the tolerance."""
    is_fall: Bools = values < 0
    rows = np.flatnonzero(_has_fall(values))  # few, where data are clean
    highest = np.fmax.accumulate(values[rows, :-1], axis=1)
    least_accepted = highest * (1 - tolerance)
    is_fall[rows, 1:] |= values[rows, 1:] < least_accepted
    return is_fall


def find_duplicates(
    table: ParsedTable, names: Sequence[str], earlier_keys: "KeyHashes"
) -> pd.DataFrame:
    """Find cohorts that stand in a table twice or in one before, by hashes of their keys.

    A key is the dates and the attributes `names`. The keys of this table are added to
    `earlier_keys`; 64 bits leave a chance of 3e-8 that two of a million keys are taken for one.
    """
    hashes = np.zeros(len(table), dtype=np.uint64)
    for days in (table.start, table.end):
        _mix_in(hashes, pd.util.hash_array(days.astype(np.int64)))
    for name in names:
        codes, texts = table.label(name)
        _mix_in(hashes, pd.util.hash_array(texts, categorize=False)[codes])

    is_repeated = pd.Series(hashes).duplicated().to_numpy()
    is_repeated = is_repeated | earlier_keys.check_and_add(hashes)
    rows = np.flatnonzero(is_repeated & ~np.isnat(table.end))
    if not len(rows):
        return empty_fault_table()
    date_text = table.date_text.values[table.date_text.codes[rows]]
    return fault_table(rows, DATE, date_text, DUPLICATE_COHORT)


def _mix_in(hashes: NDArray[np.uint64], more: NDArray[np.uint64]) -> None:
    """Mix more hashes (N,) in, by the rounds of SplitMix64 (Steele, Lea and Flood 2014)."""
    hashes ^= more
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        hashes ^= hashes >> np.uint64(shift)
        hashes *= np.uint64(factor)
    hashes ^= hashes >> np.uint64(31)


class KeyHashes:
    """Hashes of the keys of earlier rows, in sorted runs of which each is longer than the next."""

    def __init__(self) -> None:
        """Start without any key."""
        self.runs: list[NDArray[np.uint64]] = []

    def check_and_add(self, hashes: NDArray[np.uint64]) -> Bools:
        """Mark which hashes (N,) were added before, and add all of them."""
        is_earlier = np.zeros(len(hashes), dtype=bool)
        for run in self.runs:
            position = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            is_earlier |= run[position] == hashes
        self._add(np.sort(hashes))
        return is_earlier

    def _add(self, new_run: NDArray[np.uint64]) -> None:
        """Add sorted hashes, merged with the runs that are not longer."""
        if not len(new_run):
            return
        while self.runs and len(self.runs[-1]) <= len(new_run):
            new_run = np.sort(np.concatenate((self.runs.pop(), new_run)), kind="stable")
        self.runs.append(new_run)


def restatements(history: History, tolerance: float = 1e-3) -> pd.DataFrame:
    """Count and measure what each snapshot changed of the one before it about the same cohort.

    A row for each snapshot that changed anything: `snapshot`, `cohorts` and `cells` changed, and
    `mean_change` and `max_change`, absolute and relative to the older value (to the newer one
    where that was 0). A cell counts where both vintages know it and differ beyond `tolerance`.
    """
    index = history.index
    keys = index.to_frame(index=False)
    cohort = keys.groupby(list(index.names)).ngroup().to_numpy()
    by_cohort_and_snapshot = np.lexsort((history.snapshot, cohort))
    has_newer = np.flatnonzero(np.diff(cohort[by_cohort_and_snapshot]) == 0)
    older_row = by_cohort_and_snapshot[has_newer]
    newer_row = by_cohort_and_snapshot[has_newer + 1]

    older = history.values[older_row]  # (R, A)
    newer = history.values[newer_row]  # (R, A)
    scale = np.abs(np.where(older != 0, older, newer))
    change = np.zeros_like(scale)
    difference = np.abs(newer - older)
    np.divide(difference, scale, out=change, where=scale > 0)

    pair, age = np.nonzero(change > tolerance)
    changed_cells = pd.DataFrame(
        {
            "snapshot": history.snapshot[newer_row][pair],
            "cohort": pair,
            "change": change[pair, age],
        }
    )
    return changed_cells.groupby("snapshot", as_index=False).agg(
        cohorts=("cohort", "nunique"),
        cells=("change", "size"),
        mean_change=("change", "mean"),
        max_change=("change", "max"),
    )


def summarize_history(history: History) -> str:
    """Describe in a few lines what a history holds and how far ahead it supports a forecast."""
    snapshots = np.unique(history.snapshot)
    curves = history.as_of(history.last_day)
    k = curves.observed_age
    matured = ", ".join(f"D{age} {(k >= age).sum():,}" for age in (7, *HORIZONS))

    lines = [
        f"snapshots: {len(snapshots)}, {snapshots[0]} to {snapshots[-1]}",
        f"cohorts: {len(curves):,}, acquired {curves.start.min()} to {curves.end.max()}",
        f"users: {np.nansum(curves.users):,.0f}",
        f"last complete age: {np.median(k):.0f} in the median, {k.max()} at most (-1: none)",
        f"cohorts matured to {matured}",
    ]
    if history.series:
        lines.append(f"further series: {', '.join(history.series)}")

    last_age = curves.age_reached_by(MIN_COHORTS_PER_AGE)
    supported = f"forecasts to D{last_age}"
    if last_age < 0:
        supported = f"no forecast yet: it takes {MIN_COHORTS_PER_AGE} cohorts with a complete age"
    lines.append(f"your data support {supported}")
    return "\n".join(lines)
