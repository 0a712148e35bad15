"""Cohort curves and the one rule about time: every cut in time of the code base stands here.

Shapes: N cohorts, R vintages (rows of all snapshots), A ages, J nodes, D days.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltvnet.data.arrays import (
    Bools,
    Categorical,
    Days,
    Floats,
    Ints,
    Strings,
    block_slices,
    factorize,
    key_ranks,
)
from ltvnet.data.importers.dates import parse_strict_day
from ltvnet.data.output_columns import attribute_column

NODES = (0, 1, 2, 3, 4, 5, 6, 7, 10, 14, 21, 30, 45, 60, 90, 120, 150, 180, 240, 300, 360)
"""Ages (days) of net inputs, net outputs, loss, correction, calibration and ledger."""

NODE_AGES: Ints = np.array(NODES, dtype=np.int64)
"""Ages (days) of the nodes as an array (J,), which cannot be written to."""
NODE_AGES.flags.writeable = False

HORIZONS = (30, 60, 90, 180, 360)
"""Ages (days) that summaries, intervals and sums are given at."""

MAX_AGE = NODES[-1]
AGES = MAX_AGE + 1

EVERY_AGE = tuple(range(AGES))
"""Ages at which curves that are exported day by day are known."""

DAYS_PER_WEEK = 7
"""Days of a week, by which cohorts usually follow each other."""


def parse_day(date: object) -> np.datetime64:
    """Return the calendar day of a date given as text, `date`, `datetime` or `datetime64`.

    Raises ValueError when it is none of these, and for a text that may mean several days.
    """
    return parse_strict_day(date)


def validate_ages(ages: Sequence[int]) -> Ints:
    """Return ages (H,) as an array. Raises ValueError unless they increase within 0..360."""
    array = np.asarray(ages, dtype=np.int64)
    if not len(array) or (np.diff(array) <= 0).any() or array[0] < 0 or array[-1] > MAX_AGE:
        raise ValueError(f"expected increasing ages within 0..{MAX_AGE}, got {list(ages)}")
    return array


@dataclass(frozen=True, repr=False)
class Cohorts:
    """Rows of cohort curves with their key: the arrays that History and Curves share.

    `start`, `end` (R,) first and last acquisition day; `attributes` name -> (R,) text, "" where
    unknown; `users` and `spend` (R,) with NaN where unknown; `values` (R, A) cumulative revenue
    per acquired user in the currency of the data, NaN where an age is not complete;
    `hierarchy` the attribute names along which segments shrink; `lag_days` the days after which
    revenue of a day is complete; `series` name -> (R, A) further numbers at each age, such as
    retention, NaN where unknown: unlike a curve they may have gaps.

    `exported_ages` the ages at which curves were exported. Between two of them stands the value at
    the earlier one, so that nothing is read from a later age; before the first stands its value.
    The last known age of a curve is always an exported one. Raises ValueError when shapes
    disagree or a curve has a gap.
    """

    start: Days
    end: Days
    attributes: Mapping[str, Strings]
    users: Floats
    spend: Floats
    values: Floats
    hierarchy: tuple[str, ...]
    lag_days: int
    series: Mapping[str, Floats] = field(default_factory=dict, kw_only=True)
    exported_ages: tuple[int, ...] = field(default=EVERY_AGE, kw_only=True)

    def __post_init__(self) -> None:
        """Check once, then freeze the arrays."""
        validate_ages(self.exported_ages)
        self._check_shapes()
        if missing := [name for name in self.hierarchy if name not in self.attributes]:
            raise ValueError(f"hierarchy names {missing}, which are not attributes")
        if self.lag_days < 0:
            raise ValueError(f"expected lag_days >= 0, got {self.lag_days}")
        if (self.end < self.start).any():
            raise ValueError("a cohort ends before it starts")

        vars(self)["observed_age"] = self._last_finite_age()
        self._freeze()

    def _check_shapes(self) -> None:
        """Raise ValueError for an array whose shape differs from that of the others."""
        rows = len(self.start)
        for name, cells in self._age_arrays():
            if cells.shape != (rows, AGES):
                raise ValueError(f"expected {name} of shape ({rows}, {AGES}), got {cells.shape}")
        for name, array in self._columns():
            if array.shape != (rows,):
                raise ValueError(f"expected {name} of shape ({rows},), got {array.shape}")

    def _last_finite_age(self) -> Ints:
        """Last age with a value of each row (R,), -1 for none. Raises ValueError for a gap."""
        last_age = np.empty(len(self), dtype=np.int64)
        for block in block_slices(len(self)):
            is_known = np.isfinite(self.values[block])
            if (is_known[:, 1:] > is_known[:, :-1]).any():
                problem = "a curve has a gap: ages must be complete from day_0 to the last one"
                raise ValueError(problem)
            last_age[block] = np.count_nonzero(is_known, axis=1) - 1
        return last_age

    def _freeze(self) -> None:
        """Make all arrays read-only."""
        for _, array in (*self._columns(), *self._age_arrays()):
            array.flags.writeable = False

    def _columns(self) -> Iterator[tuple[str, NDArray[np.generic]]]:
        """Yield name and cells of each array with one number or text a row: (R,)."""
        yield "start", self.start
        yield "end", self.end
        yield "users", self.users
        yield "spend", self.spend
        yield from self.attributes.items()

    def _age_arrays(self) -> Iterator[tuple[str, Floats]]:
        """Yield name and cells of each array with a number for every age: (R, A)."""
        yield "values", self.values
        for name, cells in self.series.items():
            yield f"series {name}", cells

    def _check_known_by(self, date: np.datetime64 | Days, date_name: str) -> None:
        """Raise ValueError when a cell is known at an age that was not complete at `date`."""
        last_age = self._last_exported_age(date)
        premature: list[str] = []
        if (self.observed_age > last_age).any():
            premature.append("a value")
        for name, cells in self.series.items():
            is_complete = _complete_ages(self.end, date, self.lag_days)  # (R, A)
            if (np.isfinite(cells) & ~is_complete).any():
                premature.append(f"a value of series {name}")
        if premature:
            raise ValueError(f"{premature[0]} is known before its age was complete at {date_name}")

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.start)

    def __repr__(self) -> str:
        """Summary in a line: rows, the days of acquisition, attributes, and the oldest age."""
        if not len(self):
            return f"{type(self).__name__}(no cohorts)"
        attributes = f" by {', '.join(sorted(self.attributes))}" if self.attributes else ""
        return (
            f"{type(self).__name__}({self._describe_rows()}{attributes}, acquired "
            f"{self.start.min()} to {self.end.max()}, observed to D{self.observed_age.max()})"
        )

    def _describe_rows(self) -> str:
        """Say how many cohorts the rows are."""
        return f"{len(self):,} cohorts"

    @cached_property
    def observed_age(self) -> Ints:
        """Last complete age k of each row (R,), -1 where none is."""
        last_age: Ints = np.count_nonzero(np.isfinite(self.values), axis=1) - 1
        return last_age

    @property
    def has_every_age(self) -> bool:
        """Whether curves were exported day by day."""
        return len(self.exported_ages) == AGES

    def is_exported(self, ages: Sequence[int] | Ints) -> Bools:
        """Return which ages (H,) were exported: values at others are those of earlier ages."""
        is_exported: Bools = np.isin(ages, self.exported_ages)
        return is_exported

    def _last_exported_age(
        self, date: np.datetime64 | Days, rows: NDArray[np.generic] | slice = slice(None)
    ) -> Ints:
        """Last exported age that is complete at the end of `date`, -1 where none is: (R,)."""
        complete_age = _last_complete_age(self.end[rows], date, self.lag_days)
        return last_exported_age(self.exported_ages, complete_age)

    @cached_property
    def attribute_codes(self) -> Mapping[str, Categorical]:
        """Text of each attribute (R,) as codes, by name in alphabetical order."""
        return {name: factorize(self.attributes[name]) for name in sorted(self.attributes)}

    @cached_property
    def index(self) -> pd.MultiIndex:
        """Key of each row: start, end and the attributes in alphabetical order.

        An attribute that is named like a column of ltvnet's tables has the name `attribute_NAME`.
        """
        names = sorted(self.attributes)
        arrays = [self.start, self.end, *(self.attributes[name] for name in names)]
        columns = [attribute_column(name) for name in names]
        return pd.MultiIndex.from_arrays(arrays, names=["start", "end", *columns])

    @cached_property
    def key_rank(self) -> Ints:
        """Rank of each row (R,) in the order of keys; equal keys share it."""
        dates = [factorize(self.start), factorize(self.end)]
        return key_ranks([*dates, *self.attribute_codes.values()])

    def _fields_known_at(self, rows: NDArray[np.generic], date: np.datetime64) -> dict[str, Any]:
        """Return the fields of chosen rows, without all that was unknown at the end of `date`."""
        end = self.end[rows]
        has_ended = end <= date
        is_complete = _complete_ages(end, date, self.lag_days)  # (R, A)
        is_known = np.arange(AGES) <= self._last_exported_age(date, rows)[:, None]  # (R, A)
        return {
            "start": self.start[rows],
            "end": end,
            "attributes": {name: text[rows] for name, text in self.attributes.items()},
            "users": np.where(has_ended, self.users[rows], np.nan),
            "spend": np.where(has_ended, self.spend[rows], np.nan),
            "values": np.where(is_known, self.values[rows], np.nan),
            "series": {
                name: np.where(is_complete, cells[rows], np.nan)
                for name, cells in self.series.items()
            },
        }


def _has_infinite(cells: Floats) -> bool:
    """Return whether any of the cells (R, A) is infinite."""
    return any(bool(np.isinf(cells[block]).any()) for block in block_slices(len(cells)))


def _last_complete_age(end: Days, date: np.datetime64 | Days, lag_days: int) -> Ints:
    """Last age that is complete at the end of `date`, one or (R,), below 0 where none is: (R,).

    Age a of a row is complete at end + lag + a.
    """
    age: Ints = (date - end).astype("timedelta64[D]").astype(np.int64) - lag_days
    return age


def _complete_ages(end: Days, date: np.datetime64 | Days, lag_days: int) -> Bools:
    """Mark the ages that are complete at the end of `date`, one or (R,): (R, A)."""
    return np.arange(AGES) <= _last_complete_age(end, date, lag_days)[:, None]


def last_exported_age(exported_ages: Sequence[int], age: Ints) -> Ints:
    """Return the last of the exported ages that is not above an age, -1 for none: any shape."""
    if len(exported_ages) == AGES:
        every_age: Ints = np.clip(age, -1, MAX_AGE)
        return every_age
    position = np.searchsorted(exported_ages, age, side="right")
    with_none = np.array([-1, *exported_ages])
    exported_age: Ints = with_none[position]
    return exported_age


@dataclass(frozen=True, repr=False)
class Curves(Cohorts):
    """Cohorts as they were known at the end of one day, the `origin`: one row a cohort, by key.

    A cohort whose acquisition had not ended by the origin keeps its key only: no users, no spend
    and no values are known of it.
    """

    origin: np.datetime64

    def __post_init__(self) -> None:
        """Check that nothing is known from after the origin and that keys are sorted and unique."""
        super().__post_init__()
        if any(_has_infinite(cells) for _, cells in self._age_arrays()):
            raise ValueError("a value is infinite")
        self._check_known_by(self.origin, str(self.origin))

        rank_steps = np.diff(self.key_rank)
        if (rank_steps < 0).any():
            raise ValueError("cohorts are not sorted by key")
        if (rank_steps == 0).any():
            raise ValueError("a cohort stands twice")

    def _describe_rows(self) -> str:
        """Say how many cohorts there are, and of which day."""
        return f"{len(self):,} cohorts as of {self.origin}"

    @property
    def observed_value(self) -> Floats:
        """Value at the observed age: (N,), NaN where no age is complete."""
        k = self.observed_age
        values = self.values[np.arange(len(self)), np.maximum(k, 0)]
        return np.where(k < 0, np.nan, values)

    def observed_ages_before(self, days: Sequence[int]) -> Ints:
        """Observed ages as of so many days (D,) before the origin: (D, N), -1 for none."""
        last_age = _last_complete_age(self.end, self.origin, self.lag_days)  # (N,)
        past_age = last_age - np.array(days)[:, None]  # (D, N)
        ages: Ints = np.minimum(self.observed_age, last_exported_age(self.exported_ages, past_age))
        return ages

    def age_reached_by(self, cohorts: int) -> int:
        """Last age that at least so many cohorts reached; -1 where there are not so many."""
        descending_ages = np.sort(self.observed_age)[::-1]
        if len(descending_ages) < cohorts:
            return -1
        return int(descending_ages[cohorts - 1])

    def take(self, rows: NDArray[np.generic] | slice) -> "Curves":
        """Select cohorts by a mask, by increasing row numbers or by a slice that goes up.

        Nothing is checked again. Raises ValueError for row numbers that do not increase.
        """
        all_rows = np.arange(len(self))
        row_numbers = all_rows[rows]
        if len(row_numbers) == len(self) and (row_numbers == all_rows).all():
            return self
        if (np.diff(row_numbers) <= 0).any():
            raise ValueError("expected increasing row numbers: cohorts are sorted by key")

        names = ("start", "end", "users", "spend", "values", "observed_age")
        fields: dict[str, Any] = {name: getattr(self, name)[rows] for name in names}
        fields["attributes"] = {name: text[rows] for name, text in self.attributes.items()}
        fields["series"] = {name: cells[rows] for name, cells in self.series.items()}
        selected = self._with_fields(fields)

        for name in ("index", "key_rank", "attribute_codes"):  # cached of all rows
            vars(selected).pop(name, None)
        return selected

    def with_values(self, values: Floats) -> "Curves":
        """Return a copy with other values (N, A), known at the same ages.

        Raises ValueError for values that are known at other ages, or infinite.
        """
        if not np.array_equal(np.isfinite(values), np.isfinite(self.values)):
            raise ValueError("expected finite values at the ages that are known, and no others")
        return self._with_fields({"values": values})

    def _with_fields(self, fields: Mapping[str, Any]) -> "Curves":
        """Return a copy with other fields, skipping all checks: only for fields that need none."""
        curves = copy(self)
        vars(curves).update(fields)
        curves._freeze()
        return curves

    def as_of(self, date: np.datetime64) -> "Curves":
        """Return the curves as they were known at the end of an earlier day.

        Raises ValueError for a day after the origin.
        """
        if date > self.origin:
            raise ValueError(f"these curves end at {self.origin}; {date} was not known then")
        has_begun = self.start <= date
        return replace(self, origin=date, **self._fields_known_at(has_begun, date))

    def cut(self, age: int) -> "Curves":
        """Return the curves with prefixes no longer than `age`; all else as of the origin."""
        last_age = last_exported_age(self.exported_ages, np.array(age))
        is_kept = np.arange(AGES) <= last_age
        is_kept_series = np.arange(AGES) <= age
        fields = {
            "values": np.where(is_kept, self.values, np.nan),
            "series": {
                name: np.where(is_kept_series, cells, np.nan) for name, cells in self.series.items()
            },
            "observed_age": np.minimum(self.observed_age, last_age),
        }
        return self._with_fields(fields)

    def segments(self, level: int) -> tuple[Ints, list[tuple[str, ...]]]:
        """Segment of each cohort at a level of the hierarchy: ids (N,), and the key of each id.

        Level 0 is everything, level l groups by the first l names; ids follow the sorted keys.
        Raises ValueError for a level that the hierarchy lacks.
        """
        if not 0 <= level <= len(self.hierarchy):
            raise ValueError(f"expected a level from 0 to {len(self.hierarchy)}, got {level}")
        if level == 0:
            return np.zeros(len(self), dtype=np.int64), [()]
        if not len(self):
            return np.zeros(0, dtype=np.int64), []

        names = self.hierarchy[:level]
        ranks = key_ranks([self.attribute_codes[name] for name in names])
        _, first_row, segment = np.unique(ranks, return_index=True, return_inverse=True)
        ids: Ints = segment.astype(np.int64)

        key_columns = [self.attributes[name][first_row] for name in names]
        keys = [tuple(map(str, key)) for key in zip(*key_columns, strict=True)]
        return ids, keys


@dataclass(frozen=True, repr=False)
class History(Cohorts):
    """All vintages of all cohorts; `snapshot` (R,) is the day on which each row was exported.

    The rows known at a date are those of snapshots not later than it, the newest of each cohort;
    a date before the first snapshot is cut out of the first snapshot by calendar.
    """

    snapshot: Days

    def __post_init__(self) -> None:
        """Check that a cohort stands once in a snapshot and that there is a row at all."""
        super().__post_init__()
        if not len(self):
            raise ValueError("no cohorts: the history is empty")
        vintages = pd.DataFrame({"key_rank": self.key_rank, "snapshot": self.snapshot})
        if vintages.duplicated().any():
            raise ValueError("a cohort stands twice in one snapshot")

        self._check_known_by(self.snapshot, "its snapshot")
        self.snapshot.flags.writeable = False

    def _describe_rows(self) -> str:
        """Say how many vintages there are, of how many cohorts, and of which days."""
        cohorts = len(np.unique(self.key_rank))
        snapshots = len(np.unique(self.snapshot))
        plural = "" if snapshots == 1 else "s"
        return f"{cohorts:,} cohorts in {snapshots:,} snapshot{plural} up to {self.last_day}"

    @property
    def last_day(self) -> np.datetime64:
        """Day of the newest snapshot."""
        return np.datetime64(self.snapshot.max(), "D")

    def _rows_known_at(self, date: np.datetime64) -> Ints:
        """Return the row numbers of all vintages that were exported by a day."""
        was_exported = self.snapshot <= max(date, self.snapshot.min())
        return np.flatnonzero(was_exported & (self.start <= date))

    def as_of(self, date: object) -> Curves:
        """Return the curves as known at the end of a day: one row a cohort, sorted by key."""
        origin = parse_day(date)
        rows = self._rows_known_at(origin)

        snapshot_number = self.snapshot[rows].astype(np.int64)
        by_key_newest_first = np.lexsort((-snapshot_number, self.key_rank[rows]))
        rows = rows[by_key_newest_first]
        is_first_of_key = np.diff(self.key_rank[rows], prepend=-1) > 0

        fields = self._fields_known_at(rows[is_first_of_key], origin)
        return Curves(
            hierarchy=self.hierarchy,
            lag_days=self.lag_days,
            origin=origin,
            exported_ages=self.exported_ages,
            **fields,
        )

    def until(self, date: object) -> "History":
        """Return the history as it stood at the end of a day: no later snapshots and cells."""
        last_day = parse_day(date)
        rows = self._rows_known_at(last_day)
        fields = self._fields_known_at(rows, last_day)
        return replace(self, snapshot=np.minimum(self.snapshot[rows], last_day), **fields)

    def actuals(self, date: object) -> pd.DataFrame:
        """Return the values known at the end of a day: index the cohort key, columns ages (int).

        NaN where an age is not complete, or was not exported.
        """
        curves = self.as_of(date)
        values = np.where(curves.is_exported(EVERY_AGE), curves.values, np.nan)
        return pd.DataFrame(values, index=curves.index, columns=range(AGES))


def is_within_week_past(complete_age: Ints, age: int | Ints) -> Bools:
    """Return whether cohorts (N,) reached an age less than a week before their last complete one.

    Cohorts are a week apart, so each cohort is counted at an age on one of the days that are
    replayed week by week, and not on every later one too.
    """
    return (complete_age >= age) & (complete_age < age + DAYS_PER_WEEK)
