"""Blocks of cohort tables, parsed and checked: what of them is known at a day, and what is wrong.

Shapes: N rows of a block, A ages.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from ltvnet.data.arrays import ONE_DAY, Bools, Floats, Ints
from ltvnet.data.attribute_choice import rename_values
from ltvnet.data.checks import KeyHashes, find_duplicates, find_faults
from ltvnet.data.cohort_rows import ParsedTable, TableLayout, values_after
from ltvnet.data.importers.cohort_blocks import CohortBlock

log = logging.getLogger(__name__)

Partial = Literal["refuse", "mask"]


class ParsedBlock(NamedTuple):
    """Rows of a file, parsed.

    `table` (N rows); `source_rows` (N,) in which they stand in the file; `faults` of cells, by
    rows of the file; `lag_days` after which the revenue of a day is complete.
    """

    table: ParsedTable
    source_rows: Ints
    faults: pd.DataFrame
    lag_days: int

    def last_possible_age(self, date: np.datetime64) -> Floats:
        """Last age of each row (N,) that is complete at a day, NaN where the end is unknown."""
        age: Floats = (date - self.table.end) / ONE_DAY - self.lag_days
        return age


@dataclass(frozen=True)
class BlockParser:
    """Parses blocks of ltvnet's own columns, and finds what is wrong with their rows.

    `partial` what becomes of values later than the as-of day; `tolerance` the relative fall of a
    curve that is right (None: every fall is); `renamed` attribute -> old -> new value; `lag_days`
    after which the revenue of a day is complete by the user's word, `extra_lag_days` how many more
    by how a platform counts.
    """

    partial: Partial
    tolerance: float | None
    renamed: Mapping[str, Mapping[str, str]]
    lag_days: int
    extra_lag_days: int = 0

    def parse(
        self, blocks: Iterable[CohortBlock], file: Path, date: np.datetime64 | None
    ) -> Iterator[ParsedBlock]:
        """Parse blocks of the table in a file, as known at a day (None: as they are).

        Raises ValueError for columns that are no cohort table.
        """
        layout: TableLayout | None = None
        for block in blocks:
            if not len(block.table):
                continue
            if layout is None:
                layout = TableLayout.from_schema(file, block.table.schema)
            table = rename_values(ParsedTable.from_table(block.table, layout), self.renamed)
            total_lag_days = self.lag_days + self.extra_lag_days
            parsed = ParsedBlock(table, block.source_rows, block.faults, total_lag_days)
            if date is not None:
                parsed = self._fill_zeros(parsed, block.is_without_revenue, date)
                parsed = self._mask_late_values(parsed, file, date)
            yield parsed

    def _fill_zeros(
        self, block: ParsedBlock, is_without_revenue: Bools | None, date: np.datetime64
    ) -> ParsedBlock:
        """Know that cohorts without any revenue earned nothing up to a day."""
        if is_without_revenue is None:
            return block
        last_age = block.last_possible_age(date)
        return block._replace(table=block.table.fill_zeros(is_without_revenue, last_age))

    def _mask_late_values(self, block: ParsedBlock, file: Path, date: np.datetime64) -> ParsedBlock:
        """Mask values at ages that are not complete at a day, if asked to; their number is logged.

        Ages that are complete by the calendar, but not by how a platform counts or is late, are
        always masked.
        """
        last_age = block.last_possible_age(date)
        if self.partial == "refuse":
            if not self.extra_lag_days:
                return block
            by_calendar = last_age + self.extra_lag_days
            is_later = values_after(block.table.values, by_calendar).any(axis=1)
            last_age = np.where(is_later, np.inf, last_age)
        masked_table = block.table.mask_after(last_age)
        if masked_cells := block.table.value_count - masked_table.value_count:
            log.info("%s: masked %d values later than %s", file, masked_cells, date)
        return block._replace(table=masked_table)

    def find_faults(
        self,
        block: ParsedBlock,
        date: np.datetime64,
        names: list[str],
        keys: KeyHashes,
        is_odd: Bools,
    ) -> pd.DataFrame:
        """Find the faults of a block but for odd rows (N,), by rows of its file.

        Among them are cohorts, by attributes `names`, whose key stood in an earlier block.
        """
        faults = find_faults(block.table, block.last_possible_age(date), self.tolerance)
        duplicates = find_duplicates(block.table, names, keys)
        if not len(faults) and not len(duplicates) and not len(block.faults):
            return faults
        found = pd.concat([faults, duplicates])
        found["row"] = block.source_rows[found["row"].to_numpy(dtype=np.int64)]
        every_fault = pd.concat([block.faults, found]).drop_duplicates(["row", "column"])
        odd_rows = block.source_rows[is_odd]
        every_fault = every_fault[~every_fault["row"].isin(odd_rows)]
        return every_fault.sort_values("row", kind="stable")
