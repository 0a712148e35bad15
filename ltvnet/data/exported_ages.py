"""Curves that were exported at some ages alone, such as milestones.

Shapes: N rows of a table, A ages, E exported ages.
"""

from collections.abc import Sequence

import numpy as np

from ltvnet.data.arrays import Floats
from ltvnet.data.curves import AGES, EVERY_AGE

ADVISED_AGES = "days 0-7 10 14 21 30 45 60 90 120 150 180 240 300 360"
"""Ages that an export should have where it cannot have all."""


def carry_between_ages(values: Floats, exported_ages: Sequence[int]) -> Floats:
    """Return curves (N, A) that are known at the exported ages alone, as `Cohorts` has them.

    Between two of these ages stands the value at the earlier one, where anything later is known:
    a cell that is missing among them stays missing.
    """
    exported = np.array(exported_ages)
    cells = values[:, exported]  # (N, E)
    is_known = ~np.isnan(cells)
    known_later = np.logical_or.accumulate(is_known[:, ::-1], axis=1)[:, ::-1]

    ages = np.arange(AGES)
    last = np.searchsorted(exported, ages, side="right") - 1  # (A,) position of the age carried
    following = np.searchsorted(exported, ages)  # (A,) of the first age not before it
    is_inside = following < len(exported)
    carried = cells[:, last.clip(min=0)]
    is_carried = known_later[:, following.clip(max=len(exported) - 1)] & is_inside
    return np.where(is_carried, carried, np.nan)


def common_exported_ages(ages_by_table: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the ages that every table exported which goes on to them.

    All days stand on one grid, so that what is learned of the past holds for the newest export. A
    later table with fewer ages takes cells from earlier days, and can add none to them. Raises
    ValueError where a table has none of them.
    """
    if all(len(ages) == AGES for ages in ages_by_table):
        return EVERY_AGE
    all_ages = sorted(set().union(*ages_by_table))
    common = tuple(
        age for age in all_ages if all(age in ages or age > ages[-1] for ages in ages_by_table)
    )
    if any(set(ages).isdisjoint(common) for ages in ages_by_table):
        raise ValueError(
            "expected snapshots with ages in common, got none: export each at the same ages, such "
            f"as {ADVISED_AGES}"
        )
    return common
