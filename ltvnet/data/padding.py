"""Cells that repeat what was known before: future days that an export filled in.

Legend: N cohorts, B of a block, A ages, D calendar days from the first acquisition on.
"""

from collections.abc import Iterable

import numpy as np

from ltvnet.data.arrays import ONE_DAY, Bools, Days, Floats, Ints, block_slices
from ltvnet.data.curves import AGES
from ltvnet.data.findings import Finding

MIN_FLAT_DAYS = 7
"""Days at the end on which no cohort earns anything, from which on they may be filled in."""

_MIN_EXPECTED_GROWTH = 20.0
"""Cells that would have grown on those days, had cohorts gone on as before, at least."""

_MAX_DAYS = 20 * 366
"""Calendar days that are looked at: dates further apart have an error in them."""

_MIN_COHORT_SHARE = 0.25
"""Cohorts that have to be known on a day for it to tell anything, of those on the fullest day."""

_QUIET_SHARE = 0.1
"""A day on which so small a share of the expected cells grows is quiet."""


class GrowthCounts:
    """Counts of cells by age and by the last day of acquisition: known ones, and those that grew.

    A cell grew when its value is above that of the age before.
    """

    def __init__(self) -> None:
        """Start without any cell."""
        self._counts_of_end: dict[np.datetime64, Ints] = {}  # (2, A): known, grown

    def add(self, end: Days, values: Floats) -> None:
        """Count the cells of values (N, A) of cohorts that ended on days (N,)."""
        dated = np.flatnonzero(~np.isnat(end))
        order = dated[np.argsort(end[dated], kind="stable")]
        days, first = np.unique(end[order], return_index=True)
        for day, rows in zip(days, np.split(order, first[1:]), strict=True):
            counts = self._counts_of_end.setdefault(day, np.zeros((2, AGES), dtype=np.int64))
            for block in block_slices(len(rows)):
                cells = values[rows[block]]  # (B, A)
                has_grown = np.diff(cells, axis=1, prepend=0.0) > 0
                counts[0] += np.isfinite(cells).sum(axis=0)
                counts[1] += has_grown.sum(axis=0)

    def last_day_of_growth(self) -> np.datetime64 | None:
        """Find the day after which nothing grows although it should; None where growth goes on.

        Growth is expected at each age as often as it was seen up to that day.
        """
        if not self._counts_of_end:
            return None
        first_day = min(self._counts_of_end)
        known, grown = self._count_by_day(first_day)  # (A, D) each
        known_on_day, grown_on_day = known.sum(axis=0), grown.sum(axis=0)
        usual_share = grown_on_day.sum() / max(known_on_day.sum(), 1)
        is_busy = grown_on_day > _QUIET_SHARE * usual_share * known_on_day
        is_busy &= known_on_day >= _MIN_COHORT_SHARE * known_on_day.max()
        if not is_busy.any():
            return None

        last = int(np.flatnonzero(is_busy)[-1])
        if np.flatnonzero(known_on_day)[-1] - last < MIN_FLAT_DAYS:
            return None
        known_before = known[:, : last + 1].sum(axis=1)
        share_by_age = grown[:, : last + 1].sum(axis=1) / np.maximum(known_before, 1)
        expected = (known[:, last + 1 :].sum(axis=1) * share_by_age).sum()
        if expected < _MIN_EXPECTED_GROWTH:
            return None
        if grown[:, last + 1 :].sum() > _QUIET_SHARE / 2 * expected:
            return None
        last_day: np.datetime64 = first_day + last * ONE_DAY
        return last_day

    def _count_by_day(self, first_day: np.datetime64) -> Ints:
        """Count known and grown cells by age and calendar day: (2, A, D)."""
        days = int((max(self._counts_of_end) - first_day) / ONE_DAY) + AGES
        counts_by_day = np.zeros((2, AGES, min(days, _MAX_DAYS)), dtype=np.int64)
        ages = np.arange(AGES)
        for end, counts in self._counts_of_end.items():
            day = int((end - first_day) / ONE_DAY) + ages
            is_within = day < counts_by_day.shape[2]
            counts_by_day[:, ages[is_within], day[is_within]] += counts[:, is_within]
        return counts_by_day


def find_padding(counts: GrowthCounts, as_of: np.datetime64, lag_days: int = 0) -> list[Finding]:
    """Find future cells that were filled in, in a file whose as-of day is that of its last cell."""
    last_day = counts.last_day_of_growth()
    if last_day is None:
        return []
    last_day = last_day + lag_days * ONE_DAY
    message = (
        f"no cohort of any age earns anything after {last_day}, yet cells are filled in up to "
        f"{as_of}: they repeat the last value that was known"
    )
    way_out = (
        f"empty them, or set data.snapshot={last_day} data.partial=mask; if nothing was earned "
        f"indeed, data.snapshot={as_of}"
    )
    return [Finding("refusal", "filled cells", message, way_out)]


def find_zeroed_ages(values: Floats) -> list[Finding]:
    """Find ages at which cohorts that had earned stand at 0: nothing known, exported as 0.

    `values` (N, A) the curves.
    """
    zeroed = np.zeros(AGES, dtype=np.int64)
    positive_before = np.zeros(AGES, dtype=np.int64)
    for block in block_slices(len(values)):
        cells = values[block]
        was_positive: Bools = np.zeros(cells.shape, dtype=bool)
        was_positive[:, 1:] = np.fmax.accumulate(cells, axis=1)[:, :-1] > 0
        was_positive &= np.isfinite(cells)
        positive_before += was_positive.sum(axis=0)
        zeroed += (was_positive & (cells == 0)).sum(axis=0)

    is_zeroed = (zeroed >= 5) & (zeroed > 0.5 * positive_before)
    if not is_zeroed.any():
        return []
    ages = np.flatnonzero(is_zeroed)
    message = (
        f"at {_word_age_range(ages)} {zeroed[ages].max():,} of {positive_before[ages].max():,} "
        "cohorts that had earned before stand at 0: unknown values exported as 0"
    )
    return [Finding("refusal", "zeros", message, "empty these cells; 0 is data, an empty cell not")]


def _word_age_range(ages: Iterable[int]) -> str:
    listed = [f"D{age}" for age in ages]
    return listed[0] if len(listed) == 1 else f"{listed[0]} to {listed[-1]}"
