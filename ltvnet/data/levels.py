"""Level of cohorts: revenue per user on their first days, by segment.

Sums, so that cohorts that come piece by piece give what they give at once.
Shapes: N cohorts, S segments.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from ltvnet.data.arrays import Bools, Floats, Ints, Strings
from ltvnet.data.curves import Curves

LEVEL_AGES = (0, 7)
"""Ages (days) at which a level is measured: most cohorts have reached them."""

MAX_SEGMENTS = 100
"""Segments, those of most users, that a record of levels holds at most."""

_SUMMED_COLUMNS = (
    "cohorts",
    "users",
    "revenue",
    "users_squared",
    "users_revenue",
    "revenue_squared",
)


@dataclass(frozen=True)
class LevelSums:
    """Sums over cohorts from which levels follow.

    `attribute` whose values are the segments (None: all cohorts are one); `table` index segment
    and age, columns `cohorts` and `users` of those that reached the age, their `revenue` up to it,
    and sums of products, from which the error of a level follows; `spend` likewise, at age 0, with
    the spend of the cohorts that have one in place of revenue.
    """

    attribute: str | None
    table: pd.DataFrame
    spend: pd.DataFrame

    @classmethod
    def from_curves(cls, curves: Curves, attribute: str | None) -> Self:
        """Sum over cohorts, by the values of an attribute that they have, or None."""
        has_segments = attribute is not None and attribute in curves.attributes
        no_segment = np.full(len(curves), "", dtype=object)
        segment = curves.attributes[str(attribute)] if has_segments else no_segment
        parts = []
        for age in LEVEL_AGES:
            is_known = (curves.observed_age >= age) & (curves.users > 0)
            revenue = curves.users * curves.values[:, age]
            parts.append(_sum_by_segment(segment, age, curves.users, revenue, is_known))
        has_spend = (curves.observed_age >= 0) & (curves.users > 0) & np.isfinite(curves.spend)
        spend = _sum_by_segment(segment, 0, curves.users, curves.spend, has_spend)
        name = attribute if has_segments else None
        return cls(name, pd.concat(parts).sort_index(), spend)

    def add(self, other: "LevelSums") -> "LevelSums":
        """Add the sums over other cohorts."""
        table = self.table.add(other.table, fill_value=0.0)
        return LevelSums(self.attribute, table, self.spend.add(other.spend, fill_value=0.0))

    def levels(self) -> pd.DataFrame:
        """Levels by segment and age: `cohorts`, `users`, `level` and its `relative_error`."""
        return _levels_of(self.table)

    def total(self) -> pd.DataFrame:
        """Level of all cohorts by age, with the columns of `levels`."""
        return _levels_of(self.table.groupby(level="age").sum())

    def spend_levels(self) -> pd.DataFrame:
        """Spend per user by segment, at age 0, with the columns of `levels`."""
        return _levels_of(self.spend)

    def total_spend(self) -> pd.DataFrame:
        """Spend per user of all cohorts, at age 0, with the columns of `levels`."""
        return _levels_of(self.spend.groupby(level="age").sum())

    def record(self) -> dict[str, object]:
        """Return JSON values that `from_record` reads: of all cohorts, and of the largest segments.

        No cohort stands in it.
        """
        return {
            "attribute": self.attribute,
            "total": _to_rows(self.total()),
            "segments": _to_rows(_levels_of(_keep_largest_segments(self.table))),
            "total_spend": _to_rows(self.total_spend()),
            "segments_spend": _to_rows(_levels_of(_keep_largest_segments(self.spend))),
        }


@dataclass(frozen=True)
class RecordedLevels:
    """Levels as a bundle keeps them: `segments` and `total` as of `LevelSums`.

    `segments_spend` and `total_spend` likewise; empty where an older bundle has none.
    """

    attribute: str | None
    segments: pd.DataFrame
    total: pd.DataFrame
    segments_spend: pd.DataFrame
    total_spend: pd.DataFrame

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> Self:
        """Read what `LevelSums.record` returned."""
        attribute = record["attribute"]
        segments = _from_rows(record["segments"], ["segment", "age"])
        total = _from_rows(record["total"], ["age"])
        segments_spend = _from_rows(record.get("segments_spend", []), ["segment", "age"])
        total_spend = _from_rows(record.get("total_spend", []), ["age"])
        name = None if attribute is None else str(attribute)
        return cls(name, segments, total, segments_spend, total_spend)


def _sum_by_segment(
    segment: Strings, age: int, users: Floats, amount: Floats, is_known: Bools
) -> pd.DataFrame:
    """Sum users and an amount (N,) over the cohorts of each segment in which it is known."""
    rows = pd.DataFrame(
        {
            "segment": segment,
            "age": age,
            "cohorts": 1.0,
            "users": users,
            "revenue": amount,
            "users_squared": users**2,
            "users_revenue": users * amount,
            "revenue_squared": amount**2,
        }
    )
    sums: pd.DataFrame = rows[is_known].groupby(["segment", "age"])[list(_SUMMED_COLUMNS)].sum()
    return sums


def _keep_largest_segments(sums: pd.DataFrame) -> pd.DataFrame:
    """Select the sums of the segments of most users, as many as a record holds at most."""
    users = sums["users"].groupby(level="segment").max()
    largest = users.nlargest(MAX_SEGMENTS).index
    return sums[sums.index.get_level_values("segment").isin(largest)]


def _levels_of(sums: pd.DataFrame) -> pd.DataFrame:
    """Level and relative error of sums: revenue over users, as of a sample of cohorts."""
    users, revenue = sums["users"], sums["revenue"]
    level = revenue / users.where(users > 0)
    squares = sums["revenue_squared"] - 2 * level * sums["users_revenue"]
    squares = squares + level**2 * sums["users_squared"]
    error = np.sqrt(squares.clip(lower=0.0)) / users
    return pd.DataFrame(
        {
            "cohorts": sums["cohorts"],
            "users": users,
            "level": level,
            "relative_error": (error / level.where(level > 0)).fillna(0.0),
        }
    )


def _to_rows(table: pd.DataFrame) -> list[dict[str, object]]:
    """Return a table with its index as JSON rows."""
    rows = table.reset_index().to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def _from_rows(rows: Any, index: Sequence[str]) -> pd.DataFrame:  # noqa: ANN401 JSON
    """Return JSON rows as a table."""
    columns = [*index, "cohorts", "users", "level", "relative_error"]
    table: pd.DataFrame = pd.DataFrame(rows, columns=columns).set_index(list(index))
    return table


def level_attribute(curves: Curves) -> str | None:
    """Name of the attribute by which levels are told apart: the top of the hierarchy."""
    return curves.hierarchy[0] if curves.hierarchy else None


def robust_z(values: Floats, typical: Floats | None = None) -> Floats:
    """Distance of values (N,) from the median of typical ones, in deviations of these.

    The deviation is 1.4826 times the median absolute one, a standard deviation where typical
    values are normal; it is no less than 0.1, lest equal values make all others far.
    """
    reference = values if typical is None else typical
    median = np.median(reference)
    deviation = 1.4826 * np.median(np.abs(reference - median))
    z: Floats = (values - median) / max(float(deviation), 0.1)
    return z


def split_by_group(members: Ints, group: Ints) -> Iterator[Ints]:
    """Yield the members (N,) of each group, by the number of the group that each is in: (N,)."""
    order = np.argsort(group, kind="stable")
    first_of_next = np.flatnonzero(np.diff(group[order])) + 1
    yield from (part for part in np.split(members[order], first_of_next) if len(part))
