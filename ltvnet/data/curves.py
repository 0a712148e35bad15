"""Cohort curves and the one rule about time: every cut in time of the code base stands here.

Shapes: N cohorts, R vintages (rows of all snapshots), A ages, J nodes.
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

NODES = (0, 1, 2, 3, 4, 5, 6, 7, 10, 14, 21, 30, 45, 60, 90, 120, 150, 180, 240, 300, 360)
"""Ages (days) of net inputs, net outputs, loss, correction, calibration and ledger."""

NODE_AGES: Ints = np.array(NODES, dtype=np.int64)
"""Ages (days) of the nodes as an array (J,), which cannot be written to."""
NODE_AGES.flags.writeable = False

MAX_AGE = NODES[-1]
AGES = MAX_AGE + 1


def parse_day(date: object) -> np.datetime64:
    """The calendar day of a date given as text, `date`, `datetime` or `datetime64`.

    Raises ValueError when it is none of these.
    """
    stamp = pd.to_datetime(str(date), errors="coerce")
    if pd.isna(stamp):
        raise ValueError(f"expected a date such as 2025-02-10, got {date!r}")
    return np.datetime64(stamp, "D")


@dataclass(frozen=True)
class Cohorts:
    """Rows of cohort curves with their key: the arrays that History and Curves share.

    `start`, `end` (R,) first and last acquisition day; `attributes` name -> (R,) text, "" where
    unknown; `users` and `spend` (R,) with NaN where unknown; `values` (R, A) cumulative revenue
    per acquired user in the currency of the data, NaN where an age is not complete;
    `hierarchy` the attribute names along which segments shrink; `lag_days` the days after which
    revenue of a day is complete; `series` name -> (R, A) further numbers at each age, such as
    retention, NaN where unknown: unlike a curve they may have gaps. Raises ValueError when shapes
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

    def __post_init__(self) -> None:
        """Check once, then freeze the arrays."""
        rows = len(self.start)
        for name, cells in self._by_age():
            if cells.shape != (rows, AGES):
                raise ValueError(f"expected {name} of shape ({rows}, {AGES}), got {cells.shape}")
        for name, array in self._columns():
            if array.shape != (rows,):
                raise ValueError(f"expected {name} of shape ({rows},), got {array.shape}")
        if missing := [name for name in self.hierarchy if name not in self.attributes]:
            raise ValueError(f"hierarchy names {missing}, which are not attributes")
        if self.lag_days < 0:
            raise ValueError(f"expected lag_days >= 0, got {self.lag_days}")
        if (self.end < self.start).any():
            raise ValueError("a cohort ends before it starts")
        vars(self)["observed_age"] = self._last_known()
        for _, column in (*self._columns(), *self._by_age()):
            column.flags.writeable = False

    def _last_known(self) -> Ints:
        """The last age known of each row (R,), -1 for none. Raises ValueError for a gap."""
        last = np.empty(len(self), dtype=np.int64)
        for block in block_slices(len(self)):
            known = np.isfinite(self.values[block])
            if (known[:, 1:] > known[:, :-1]).any():
                told = "a curve has a gap: ages must be complete from day_0 to the last one"
                raise ValueError(told)
            last[block] = np.count_nonzero(known, axis=1) - 1
        return last

    def _columns(self) -> Iterator[tuple[str, NDArray[np.generic]]]:
        yield from (("start", self.start), ("end", self.end))
        yield from (("users", self.users), ("spend", self.spend))
        yield from self.attributes.items()

    def _by_age(self) -> Iterator[tuple[str, Floats]]:
        yield "values", self.values
        yield from ((f"series {name}", array) for name, array in self.series.items())

    def _refuse_later(self, date: np.datetime64 | Days, when: str) -> None:
        """Raise ValueError when a cell is known at an age that was not complete at `date`."""
        last = _last(self.end, date, self.lag_days)
        late = [] if (self.observed_age <= np.maximum(last, -1)).all() else ["a value"]
        for name, cells in self.series.items():
            if (np.isfinite(cells) & ~_complete(self.end, date, self.lag_days)).any():
                late.append(f"a value of series {name}")
        if late:
            raise ValueError(f"{late[0]} is known before its age was complete at {when}")

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.start)

    @cached_property
    def observed_age(self) -> Ints:
        """Last complete age k of each row (R,), -1 where none is."""
        last: Ints = np.count_nonzero(np.isfinite(self.values), axis=1) - 1
        return last

    @cached_property
    def attribute_codes(self) -> Mapping[str, Categorical]:
        """The text of each attribute (R,) as codes, by name in alphabetical order."""
        return {name: factorize(self.attributes[name]) for name in sorted(self.attributes)}

    @cached_property
    def index(self) -> pd.MultiIndex:
        """Key of each row: start, end and the attributes in alphabetical order."""
        names = sorted(self.attributes)
        arrays = [self.start, self.end, *(self.attributes[name] for name in names)]
        return pd.MultiIndex.from_arrays(arrays, names=["start", "end", *names])

    @cached_property
    def key_rank(self) -> Ints:
        """Place of each row (R,) in the order of keys; equal keys share it."""
        return key_ranks(
            [factorize(self.start), factorize(self.end), *self.attribute_codes.values()]
        )

    def _known(self, rows: NDArray[np.generic], date: np.datetime64) -> dict[str, Any]:
        """The fields of chosen rows, with all that was not known at the end of `date` masked."""
        end = self.end[rows]
        ended, complete = end <= date, _complete(end, date, self.lag_days)
        return {
            "start": self.start[rows],
            "end": end,
            "attributes": {name: array[rows] for name, array in self.attributes.items()},
            "users": np.where(ended, self.users[rows], np.nan),
            "spend": np.where(ended, self.spend[rows], np.nan),
            "values": np.where(complete, self.values[rows], np.nan),
            "series": {n: np.where(complete, c[rows], np.nan) for n, c in self.series.items()},
        }


def _infinite(cells: Floats) -> bool:
    """Whether any of the cells (R, A) is."""
    return any(bool(np.isinf(cells[block]).any()) for block in block_slices(len(cells)))


def _last(end: Days, date: np.datetime64 | Days, lag_days: int) -> Ints:
    """The last age that is complete at the end of `date`, one or (R,), below 0 where none is: (R,).

    Age a of a row is complete at end + lag + a.
    """
    days: Ints = (date - end).astype("timedelta64[D]").astype(np.int64) - lag_days
    return days


def _complete(end: Days, date: np.datetime64 | Days, lag_days: int) -> Bools:
    """Which ages are complete at the end of `date`, one or (R,): (R, A)."""
    return np.arange(AGES) <= _last(end, date, lag_days)[:, None]


@dataclass(frozen=True)
class Curves(Cohorts):
    """What was known of each cohort at the end of one day, the `origin`: one row a cohort, by key.

    A cohort whose acquisition had not ended by the origin keeps its key only: no users, no spend
    and no values are known of it.
    """

    origin: np.datetime64

    def __post_init__(self) -> None:
        """Check that nothing is known from after the origin and that keys are sorted and unique."""
        super().__post_init__()
        if any(_infinite(cells) for _, cells in self._by_age()):
            raise ValueError("a value is infinite")
        self._refuse_later(self.origin, str(self.origin))
        steps = np.diff(self.key_rank)
        if (steps < 0).any():
            raise ValueError("cohorts are not sorted by key")
        if (steps == 0).any():
            raise ValueError("a cohort stands twice")

    @property
    def observed_value(self) -> Floats:
        """Value at the observed age: (N,), NaN where no age is complete."""
        k = self.observed_age
        return np.where(k < 0, np.nan, self.values[np.arange(len(self)), np.maximum(k, 0)])

    def observed_ages_before(self, days: Sequence[int]) -> Ints:
        """The observed ages, as of so many days (D,) before the origin: (D, N), -1 for none."""
        last = _last(self.end, self.origin, self.lag_days) - np.array(days)[:, None]
        ages: Ints = np.maximum(np.minimum(self.observed_age, last), -1)
        return ages

    def age_reached_by(self, cohorts: int) -> int:
        """The last age that at least so many cohorts reached; -1 where there are not so many."""
        ages = np.sort(self.observed_age)[::-1]
        return int(ages[cohorts - 1]) if len(ages) >= cohorts else -1

    def take(self, rows: NDArray[np.generic] | slice) -> "Curves":
        """The cohorts chosen by a mask, by increasing row numbers or by a slice that goes up.

        What was checked once is not checked again.
        """
        chosen = np.arange(len(self))[rows]
        if len(chosen) == len(self) and (chosen == np.arange(len(self))).all():
            return self
        if (np.diff(chosen) <= 0).any():
            raise ValueError("expected increasing row numbers: cohorts are sorted by key")
        names = ("start", "end", "users", "spend", "values", "observed_age")
        fields: dict[str, Any] = {name: getattr(self, name)[rows] for name in names}
        fields["attributes"] = {name: text[rows] for name, text in self.attributes.items()}
        fields["series"] = {name: cells[rows] for name, cells in self.series.items()}
        part = self._changed(fields)
        for name in ("index", "key_rank", "attribute_codes"):
            vars(part).pop(name, None)
        return part

    def with_values(self, values: Floats) -> "Curves":
        """The same cohorts with other values (N, A), known at the same ages.

        Raises ValueError for values that are known at other ages, or infinite.
        """
        if not np.array_equal(np.isfinite(values), np.isfinite(self.values)):
            raise ValueError("expected finite values at the ages that are known, and no others")
        return self._changed({"values": values})

    def _changed(self, fields: Mapping[str, Any]) -> "Curves":
        """These curves with some fields that need no check."""
        made = copy(self)
        vars(made).update(fields)
        for _, array in (*made._columns(), *made._by_age()):
            array.flags.writeable = False
        return made

    def as_of(self, date: np.datetime64) -> "Curves":
        """What these curves showed at the end of an earlier day.

        Raises ValueError for a day after the origin.
        """
        if date > self.origin:
            raise ValueError(f"these curves end at {self.origin}; {date} was not known then")
        return replace(self, origin=date, **self._known(self.start <= date, date))

    def cut(self, age: int) -> "Curves":
        """The same cohorts with prefixes no longer than `age`; all else as of the origin."""
        kept = np.arange(AGES) <= age
        fields: dict[str, Any] = {"values": np.where(kept, self.values, np.nan)}
        fields["series"] = {n: np.where(kept, cells, np.nan) for n, cells in self.series.items()}
        return self._changed(fields | {"observed_age": np.minimum(self.observed_age, age)})

    def segments(self, level: int) -> tuple[Ints, list[tuple[str, ...]]]:
        """Segment of each cohort at a level of the hierarchy: ids (N,), and the key of each id.

        Level 0 is everything, level l groups by the first l names; ids follow the sorted keys.
        Raises ValueError for a level that the hierarchy lacks.
        """
        if not 0 <= level <= len(self.hierarchy):
            raise ValueError(f"expected a level from 0 to {len(self.hierarchy)}, got {level}")
        if level == 0 or not len(self):
            return np.zeros(len(self), dtype=np.int64), [()] * (level == 0)
        words = [self.attribute_codes[name] for name in self.hierarchy[:level]]
        _, first, place = np.unique(key_ranks(words), return_index=True, return_inverse=True)
        ids: Ints = place.astype(np.int64)
        text = [self.attributes[name][first] for name in self.hierarchy[:level]]
        return ids, [tuple(map(str, key)) for key in zip(*text, strict=True)]


@dataclass(frozen=True)
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
        twice = pd.DataFrame({"place": self.key_rank, "snapshot": self.snapshot}).duplicated()
        if twice.any():
            raise ValueError("a cohort stands twice in one snapshot")
        self._refuse_later(self.snapshot, "its snapshot")
        self.snapshot.flags.writeable = False

    @property
    def last_day(self) -> np.datetime64:
        """Day of the newest snapshot."""
        return np.datetime64(self.snapshot.max(), "D")

    def _rows(self, date: np.datetime64) -> Ints:
        exported = self.snapshot <= max(date, self.snapshot.min())
        return np.flatnonzero(exported & (self.start <= date))

    def as_of(self, date: object) -> Curves:
        """What was known at the end of a day: one row a cohort, sorted by key."""
        origin = parse_day(date)
        rows = self._rows(origin)
        newest = np.lexsort((-self.snapshot[rows].astype(np.int64), self.key_rank[rows]))
        rows = rows[newest]
        rows = rows[np.diff(self.key_rank[rows], prepend=-1) > 0]
        known = self._known(rows, origin)
        return Curves(hierarchy=self.hierarchy, lag_days=self.lag_days, origin=origin, **known)

    def until(self, date: object) -> "History":
        """The history as it stood at the end of a day: later snapshots and cells are gone."""
        last = parse_day(date)
        rows = self._rows(last)
        known = self._known(rows, last)
        return replace(self, snapshot=np.minimum(self.snapshot[rows], last), **known)

    def actuals(self, date: object) -> pd.DataFrame:
        """What had come true by the end of a day: index the cohort key, columns the ages (int)."""
        curves = self.as_of(date)
        return pd.DataFrame(curves.values, index=curves.index, columns=range(AGES))


HORIZONS = (30, 60, 90, 180, 360)
"""Ages (days) that summaries, intervals and sums are given at."""


def validate_ages(ages: Sequence[int]) -> NDArray[np.int64]:
    """Ages as an array. Raises ValueError unless they increase within 0..360."""
    array = np.asarray(ages, dtype=np.int64)
    if not len(array) or (np.diff(array) <= 0).any() or array[0] < 0 or array[-1] > MAX_AGE:
        raise ValueError(f"expected increasing ages within 0..{MAX_AGE}, got {list(ages)}")
    return array
