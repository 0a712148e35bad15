"""Cells that repeat what was known before: future days that an export filled in.

Legend: N cohorts, A ages, D calendar days from the first acquisition on.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ltvnet.data.arrays import ONE_DAY, Bools, Days, Floats, Ints, block_slices
from ltvnet.data.curves import AGES
from ltvnet.data.findings import Finding

MIN_FLAT_DAYS = 7
"""Days at the end on which no cohort earns anything, from which on they may be filled in."""

_MIN_EXPECTED_GROWTH = 20.0
"""Cells that would have grown on those days, had cohorts gone on as before, at least."""

_MAX_DAYS = 40 * 366
"""Calendar days that are counted; data that span more have a wrong date in them."""

_QUIET_SHARE = 0.1
"""A day on which so small a share of the expected cells grows is quiet."""


@dataclass
class GrowthCounts:
    """Counts of cells by age and calendar day: `known` ones, and those that `grew` (A, D).

    A cell grew when its value is above that of the age before; the first day is `first_day`.
    """

    first_day: np.datetime64
    known: Ints
    grew: Ints

    @classmethod
    def from_curves(cls, end: Days, values: Floats) -> "GrowthCounts | None":
        """Count the cells of values (N, A) of cohorts that ended on days (N,).

        None where none is known, or dates are more than forty years apart.
        """
        is_dated = ~np.isnat(end)
        if not is_dated.any():
            return None
        first_day = end[is_dated].min()
        offset = (end[is_dated] - first_day).astype(np.int64)
        if offset.max() > _MAX_DAYS:
            return None
        counts = cls(first_day, *np.zeros((2, AGES, int(offset.max()) + AGES), dtype=np.int64))
        counts._count(np.flatnonzero(is_dated), offset, values)
        return counts

    def _count(self, rows: Ints, offset: Ints, values: Floats) -> None:
        """Count the cells of some rows of values, whose acquisition ended at an offset (days)."""
        ages = np.arange(AGES)
        for block in block_slices(len(rows)):
            cells = values[rows[block]]  # (B, A)
            is_known = np.isfinite(cells)
            has_grown = np.zeros_like(is_known)
            has_grown[:, 0] = cells[:, 0] > 0
            has_grown[:, 1:] = cells[:, 1:] > cells[:, :-1]
            for begin in np.unique(offset[block]):
                is_of_day = offset[block] == begin
                day = begin + ages
                self.known[ages, day] += is_known[is_of_day].sum(axis=0)
                self.grew[ages, day] += has_grown[is_of_day].sum(axis=0)

    def last_day_of_growth(self) -> np.datetime64 | None:
        """Find the day after which nothing grows although it should; None where growth goes on.

        Growth is expected at each age as often as it was seen up to that day.
        """
        days = np.flatnonzero(self.known.sum(axis=0))
        grew_on_day = self.grew.sum(axis=0)
        known_on_day = self.known.sum(axis=0)
        usual = grew_on_day.sum() / max(known_on_day.sum(), 1)
        is_busy = grew_on_day > _QUIET_SHARE * usual * known_on_day
        if not is_busy.any():
            return None

        last = int(np.flatnonzero(is_busy)[-1])
        if days[-1] - last < MIN_FLAT_DAYS:
            return None
        known_by_age = self.known[:, : last + 1].sum(axis=1)
        grew_by_age = self.grew[:, : last + 1].sum(axis=1)
        share = grew_by_age / np.maximum(known_by_age, 1)
        expected = (self.known[:, last + 1 :].sum(axis=1) * share).sum()
        observed = self.grew[:, last + 1 :].sum()
        if expected < _MIN_EXPECTED_GROWTH or observed > _QUIET_SHARE / 2 * expected:
            return None
        last_day: np.datetime64 = self.first_day + last * ONE_DAY
        return last_day


def find_padding(
    counts: GrowthCounts | None, as_of: np.datetime64, lag_days: int = 0
) -> list[Finding]:
    """Find future cells that were filled in, in a file whose as-of day is that of its last cell."""
    last_day = None if counts is None else counts.last_day_of_growth()
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
        f"at {_describe_ages(ages)} {zeroed[ages].max():,} of {positive_before[ages].max():,} "
        "cohorts that had earned before stand at 0: unknown values exported as 0"
    )
    return [Finding("refusal", "zeros", message, "empty these cells; 0 is data, an empty cell not")]


def _describe_ages(ages: Iterable[int]) -> str:
    listed = [f"D{age}" for age in ages]
    return listed[0] if len(listed) == 1 else f"{listed[0]} to {listed[-1]}"
