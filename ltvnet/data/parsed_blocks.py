"""Blocks of the rows of a cohort table, parsed, with the rows of the file that they come from.

Shapes: N rows of a block.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from ltvnet.data.arrays import ONE_DAY, Bools, Floats, Ints
from ltvnet.data.cohort_rows import ParsedTable
from ltvnet.data.padding import GrowthCounts


class ParsedBlock(NamedTuple):
    """Rows of a file, parsed.

    `table` (N rows); `source_rows` (N,) in which they stand in the file; `faults` of cells, by
    rows of the file; `lag_days` after which the revenue of a day is complete.
    """

    table: ParsedTable
    source_rows: Ints
    faults: pd.DataFrame
    lag_days: int

    def without(self, is_left_out: Bools) -> "ParsedBlock":
        """Return the rows that are not left out: (N,)."""
        if not is_left_out.any():
            return self
        rows = np.flatnonzero(~is_left_out)
        faults = self.faults[~self.faults["row"].isin(self.source_rows[is_left_out])]
        return self._replace(
            table=self.table.take(rows), source_rows=self.source_rows[rows], faults=faults
        )

    def last_possible_age(self, date: np.datetime64) -> Floats:
        """Last age of each row (N,) that is complete at a day, NaN where the end is unknown."""
        age: Floats = (date - self.table.end) / ONE_DAY - self.lag_days
        return age


def count_growth(blocks: Iterable[ParsedBlock], growth: GrowthCounts) -> Iterator[ParsedBlock]:
    """Yield blocks whose growing cells are counted, by the day on which they were complete."""
    for block in blocks:
        growth.add(block.table.end + block.lag_days * ONE_DAY, block.table.values)
        yield block


def last_complete_day_of(blocks: Iterable[ParsedBlock]) -> np.datetime64:
    """Find the last day on which any age was complete; NaT where no value is known."""
    unknown = np.datetime64("NaT", "D")
    last_days = [block.table.last_complete_day() + block.lag_days * ONE_DAY for block in blocks]
    latest: np.datetime64 = np.fmax.reduce(np.array([unknown, *last_days]))
    return latest
