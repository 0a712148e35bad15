"""Vintages of cohorts: the snapshots that each cohort stands in, and a history of some of them.

Shapes: R vintages (rows of all snapshots), N cohorts, P pairs of vintages.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltvnet.data.arrays import Bools, Days, Ints
from ltvnet.data.curves import History


@dataclass(frozen=True)
class Vintages:
    """The snapshots that the cohorts of a history stand in.

    `history` the rows; `cohort` (R,) number of each row's cohort, 0 to N - 1.
    """

    history: History
    cohort: Ints

    @classmethod
    def from_history(cls, history: History) -> "Vintages":
        """Number the cohorts of a history by their keys."""
        _, cohort = np.unique(history.key_rank, return_inverse=True)
        return cls(history, cohort.astype(np.int64))

    @cached_property
    def snapshots(self) -> Days:
        """Days of the snapshots, in order."""
        days: Days = np.unique(self.history.snapshot)
        return days

    @cached_property
    def first_seen(self) -> Days:
        """Day of the first snapshot that each cohort stands in: (N,)."""
        is_first = np.diff(self.cohort[self._rows_by_cohort], prepend=-1) != 0
        first_seen: Days = self.history.snapshot[self._rows_by_cohort[is_first]]
        return first_seen

    @cached_property
    def last_row(self) -> Ints:
        """Row of each cohort's newest vintage: (N,)."""
        is_last = np.diff(self.cohort[self._rows_by_cohort], append=-1) != 0
        last_row: Ints = self._rows_by_cohort[is_last]
        return last_row

    @cached_property
    def last_seen(self) -> Days:
        """Day of the newest snapshot that each cohort stands in: (N,)."""
        return self.history.snapshot[self.last_row]

    @cached_property
    def is_gone(self) -> Bools:
        """Whether each cohort is missing from the newest snapshot: (N,)."""
        return self.last_seen < self.history.last_day

    def successive_rows(self) -> tuple[Ints, Ints]:
        """Rows of two vintages of one cohort that follow each other: the older, the newer (P,)."""
        rows = self._rows_by_cohort
        is_followed = np.flatnonzero(np.diff(self.cohort[rows]) == 0)
        return rows[is_followed], rows[is_followed + 1]

    @cached_property
    def _rows_by_cohort(self) -> Ints:
        """Rows in the order of cohorts, the oldest vintage of each first: (R,)."""
        rows: Ints = np.lexsort((self.history.snapshot, self.cohort))
        return rows


def select_vintages(history: History, is_selected: Bools) -> History:
    """Return a history of some of its rows (R,). Raises ValueError where none is selected."""
    selected: dict[str, Any] = {
        field.name: getattr(history, field.name)[is_selected]
        for field in fields(history)
        if isinstance(getattr(history, field.name), np.ndarray)
    }
    selected["attributes"] = _select_cells(history.attributes, is_selected)
    selected["series"] = _select_cells(history.series, is_selected)
    return replace(history, **selected)


def _select_cells(
    columns: Mapping[str, NDArray[Any]], is_selected: Bools
) -> dict[str, NDArray[Any]]:
    """Select rows of columns by name."""
    return {name: cells[is_selected] for name, cells in columns.items()}


def keep_newest_cohorts(history: History) -> History:
    """Return a history without the cohorts that are missing from the newest snapshot.

    Names, not amounts, are taken from the newest snapshot: what was known of a cohort on a day
    stays as it was.
    """
    vintages = Vintages.from_history(history)
    return select_vintages(history, ~vintages.is_gone[vintages.cohort])
