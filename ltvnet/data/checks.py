"""What is wrong with cohort tables, what was restated, what data support.

Shapes: N rows of a table, A ages, R vintages.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltvnet.data.arrays import Bools, Floats, Strings
from ltvnet.data.cohort_rows import ParsedTable, values_after
from ltvnet.data.columns import DATE, SPEND, USERS, age_column
from ltvnet.data.curves import AGES, HORIZONS, History
from ltvnet.data.table_files import empty_fault_table, fault_table

MIN_COHORTS_PER_AGE = 5
"""Data support an age that at least so many cohorts reached."""

_NO_DATE = "expected YYYY-MM-DD~YYYY-MM-DD or YYYY-MM-DD; correct the date"
_INFINITE = "expected a finite number; empty the cell where nothing is known"
_REVERSED = "expected first~last day of acquisition, got the last day first; swap them"
_NEGATIVE = "expected a number from 0 up; correct it or empty the cell"
_NO_USERS = "expected the number of users, as the row has values; fill the cell in"
_GAP = "expected a value between known ages (0 is one); fill the cell in or empty what follows"
_LATE = "expected nothing after the as-of date; correct data.snapshot or set data.partial=mask"
_FALL = "expected no fall of cumulative revenue; with refunds in it set data.revenue=net"
DUPLICATE_COHORT = (
    "expected a cohort once in a snapshot; merge its rows or tell them apart by an attribute"
)


def find_faults(sheet: ParsedTable, last: Floats, tolerance: float | None) -> pd.DataFrame:
    """All that is wrong with single rows.

    `last` (N,) the last age that can be complete, NaN where unknown; `tolerance` the relative
    fall of a curve below its highest value that is right (None: every fall is).
    """
    rows = np.flatnonzero(_suspects(sheet, last, tolerance))
    if not len(rows):
        return sheet.number_faults
    found = _checked(sheet.take(rows), last[rows], tolerance)
    found["row"] = rows[found["row"]]
    return pd.concat([sheet.number_faults, found]).drop_duplicates(["row", "column"])


def _suspects(sheet: ParsedTable, last: Floats, tolerance: float | None) -> Bools:
    """Rows (N,) in which something may be wrong: the others need no closer look."""
    length = sheet.end - sheet.start
    amounts = np.column_stack((sheet.users, sheet.spend))
    values = sheet.values
    known = ~np.isnan(values)
    count = known.view(np.uint8).sum(axis=1, dtype=np.uint16).astype(np.int64)
    wrong: Bools = ~(length >= np.timedelta64(0, "D"))
    wrong |= ((amounts < 0) | np.isinf(amounts)).any(axis=1)
    wrong |= np.isnan(sheet.users) & (count > 0)
    wrong |= (known[:, 1:] > known[:, :-1]).any(axis=1) | (count - 1 > last)
    for name, cells in sheet.values_by_series.items():
        if name or tolerance is None:
            wrong |= np.isinf(cells).any(axis=1)
        if name:
            wrong |= values_after(cells, last).any(axis=1)
    if tolerance is not None:
        wrong |= (values[:, 0] < 0) | (values[:, 1:] < values[:, :-1]).any(axis=1)
        # of values that never fall from 0 on the last alone can be infinite
        wrong |= np.isinf(values[np.arange(len(count)), np.maximum(count - 1, 0)])
    return wrong


def _checked(sheet: ParsedTable, last: Floats, tolerance: float | None) -> pd.DataFrame:
    users = np.isnan(sheet.users) & np.isfinite(sheet.values).any(axis=1)
    undated = np.isnat(sheet.start) | np.isnat(sheet.end)
    written = sheet.date_text.values[sheet.date_text.codes]
    found = [
        _cells(undated, DATE, written, _NO_DATE),
        _cells(users, USERS, np.full(len(sheet), "", dtype=object), _NO_USERS),
        _cells(sheet.end < sheet.start, DATE, written, _REVERSED),
        *_amiss(USERS, sheet.users),
        *_amiss(SPEND, sheet.spend),
        *(
            _first(np.isinf(cells), cells, _INFINITE, n)
            for n, cells in sheet.values_by_series.items()
        ),
        _first(_gaps(sheet.values), sheet.values, _GAP),
        *(
            _first(values_after(cells, last), cells, _LATE, n)
            for n, cells in sheet.values_by_series.items()
        ),
    ]
    if tolerance is not None:
        finite = ~np.isinf(sheet.values).any(axis=1, keepdims=True)
        found.append(_first(_falls(sheet.values, tolerance) & finite, sheet.values, _FALL))
    return pd.concat(found)


def _cells(wrong: Bools, column: str, shown: Strings | Floats, problem: str) -> pd.DataFrame:
    rows = np.flatnonzero(wrong)
    return fault_table(rows, column, shown[rows].astype(object), problem)


def _amiss(column: str, amount: Floats) -> Iterator[pd.DataFrame]:
    yield _cells(amount < 0, column, amount, _NEGATIVE)
    yield _cells(amount == np.inf, column, amount, _INFINITE)


def find_duplicates(sheet: ParsedTable, names: Sequence[str], seen: "KeyHashes") -> pd.DataFrame:
    """Faults for cohorts that stand in this sheet twice or whose key was `seen`, by hash.

    The keys of this sheet, with the attributes `names`, are added to it; 64 bits leave a
    chance of 3e-8 that two of a million keys are taken for one.
    """
    hashes = np.zeros(len(sheet), dtype=np.uint64)
    for days in (sheet.start, sheet.end):
        _stir(hashes, pd.util.hash_array(days.astype(np.int64)))
    for name in names:
        codes, values = sheet.label(name)
        _stir(hashes, pd.util.hash_array(values, categorize=False)[codes])
    again = pd.Series(hashes).duplicated().to_numpy() | seen.check_and_add(hashes)
    rows = np.flatnonzero(again & ~np.isnat(sheet.end))
    if not len(rows):
        return empty_fault_table()
    return fault_table(
        rows, DATE, sheet.date_text.values[sheet.date_text.codes[rows]], DUPLICATE_COHORT
    )


def _stir(hashes: NDArray[np.uint64], more: NDArray[np.uint64]) -> None:
    """Mix more hashes (N,) in, by the rounds of SplitMix64 (Steele, Lea and Flood 2014)."""
    hashes ^= more
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        hashes ^= hashes >> np.uint64(shift)
        hashes *= np.uint64(factor)
    hashes ^= hashes >> np.uint64(31)


class KeyHashes:
    """Hashes that came before, in sorted runs of which each is longer than the next."""

    def __init__(self) -> None:
        """None yet."""
        self.runs: list[NDArray[np.uint64]] = []

    def check_and_add(self, hashes: NDArray[np.uint64]) -> Bools:
        """Which of the hashes (N,) came before; all of them are seen from now on."""
        found = np.zeros(len(hashes), dtype=bool)
        for run in self.runs:
            found |= run[np.minimum(np.searchsorted(run, hashes), len(run) - 1)] == hashes
        new = np.sort(hashes)
        while self.runs and len(self.runs[-1]) <= len(new):
            new = np.sort(np.concatenate((self.runs.pop(), new)), kind="stable")
        self.runs += [new] if len(new) else []
        return found


def _first(wrong: Bools, values: Floats, problem: str, series: str = "") -> pd.DataFrame:
    """A fault at the first wrong age of each row: `wrong` and `values` are (N, A)."""
    count = wrong.sum(axis=1)
    rows = np.flatnonzero(count)
    ages = wrong[rows].argmax(axis=1)
    shown = pd.Series(values[rows, ages]).map(lambda value: f"{value:.9g}".replace("nan", ""))
    column = np.array([age_column(series, age) for age in range(AGES)], dtype=object)[ages]
    return fault_table(rows, column, shown.to_numpy(), problem).assign(more=count[rows] - 1)


def _gaps(values: Floats) -> Bools:
    """Empty cells (N, A) that a known one follows."""
    later = np.logical_or.accumulate(~np.isnan(values[:, ::-1]), axis=1)[:, ::-1]
    return np.isnan(values) & later


def _falls(values: Floats, tolerance: float) -> Bools:
    """Cells (N, A) below 0 or below the highest value before them by more than the tolerance."""
    falls: Bools = values < 0
    rows = np.flatnonzero((values[:, 1:] < values[:, :-1]).any(axis=1))  # few, where data are clean
    highest = np.fmax.accumulate(values[rows, :-1], axis=1)
    falls[rows, 1:] |= values[rows, 1:] < highest * (1 - tolerance)
    return falls


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


def summarize_history(history: History) -> str:
    """What the data hold and how far ahead they support a forecast, in a few lines."""
    snapshots = np.unique(history.snapshot)
    curves = history.as_of(history.last_day)
    k = curves.observed_age
    last = curves.age_reached_by(MIN_COHORTS_PER_AGE)
    matured = ", ".join(f"D{age} {(k >= age).sum():,}" for age in (7, *HORIZONS))
    wanted = f"no forecast yet: it takes {MIN_COHORTS_PER_AGE} cohorts with a complete age"
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
