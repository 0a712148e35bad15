"""Dates of acquisition that are odd: placeholders, typing errors, ranges that overlap.

Shapes: N cohorts.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from ltvnet.data.arrays import Bools, Days, key_ranks
from ltvnet.data.cohort_rows import ParsedTable
from ltvnet.data.curves import DAYS_PER_WEEK, Curves
from ltvnet.data.findings import Finding, list_names

OddDates = Literal["refuse", "drop", "keep"]
"""What becomes of cohorts with an odd date: the data are refused, or they go, or they count."""

_FIRST_DAY = np.datetime64("1990-01-01")
_LAST_DAY = np.datetime64("2100-12-31")
_MAX_GAP_DAYS = 3 * 365
_MAX_ODD_SHARE = 0.02
"""Cohorts apart from the others are odd only when they are few: a share of all, or one."""

_LEAST_DAYS_OF_MONTH, _MOST_DAYS_OF_MONTH = 28, 31

_MOST_MONTHS = 36
"""Largest age that may be a number of months."""

_MIN_FIRST_DAYS = 6
"""Different days, at least, of which it is no chance that all are a whole week apart."""


NO_RANGES = pd.MultiIndex.from_arrays([[], []])
"""No ranges of dates."""


def mark_odd_dates(start: Days, end: Days) -> Bools:
    """Mark ranges (N,) outside of 1990 to 2100, or few that are three years from all others."""
    is_odd: Bools = (start < _FIRST_DAY) | (end > _LAST_DAY)
    rest = np.flatnonzero(~is_odd)
    if len(rest):
        is_odd[rest] = _mark_far_ones(start[rest])
    return is_odd


def _mark_far_ones(start: Days) -> Bools:
    """Mark the days (N,) beyond a gap of three years, where there are few of them."""
    order = np.argsort(start)
    gaps = np.diff(start[order]).astype("timedelta64[D]").astype(np.int64)
    group = np.concatenate([[0], np.cumsum(gaps > _MAX_GAP_DAYS)])
    size = np.bincount(group)
    is_small = size <= max(1, _MAX_ODD_SHARE * len(start))
    is_small[np.argmax(size)] = False
    is_far = np.zeros(len(start), dtype=bool)
    is_far[order] = is_small[group]
    return is_far


def mark_odd_rows(
    tables: Sequence[ParsedTable], choice: OddDates
) -> tuple[list[Bools], list[Finding]]:
    """Mark rows (N,) of each table to leave out for their dates, and say what becomes of them.

    None are where odd dates are kept.
    """
    start = np.concatenate([table.start for table in tables])
    end = np.concatenate([table.end for table in tables])
    is_dated = ~np.isnat(start) & ~np.isnat(end)
    findings = find_odd_dates(start[is_dated], end[is_dated], choice)
    is_odd = np.zeros(len(start), dtype=bool)
    if choice != "keep":
        is_odd[is_dated] = mark_odd_dates(start[is_dated], end[is_dated])
    if is_odd.all():
        is_odd[:] = False
    first_of_next = np.cumsum([len(table) for table in tables])[:-1]
    return np.split(is_odd, first_of_next), findings


class DateTally:
    """Dates of acquisition of rows that come block by block: what is odd shows among all of them.

    A block may be those years alone that all others are far from.
    """

    def __init__(self) -> None:
        """Start without any row."""
        self._rows_of_range: Counter[tuple[int, int]] = Counter()  # of days since 1970

    def add(self, table: ParsedTable) -> None:
        """Count the rows of a block that have dates."""
        is_dated = ~np.isnat(table.start) & ~np.isnat(table.end)
        days = np.column_stack([table.start, table.end])[is_dated].astype(np.int64)
        ranges, rows = np.unique(days, axis=0, return_counts=True)
        for (start, end), count in zip(ranges.tolist(), rows.tolist(), strict=True):
            self._rows_of_range[start, end] += count

    def find_odd(self, choice: OddDates) -> tuple[pd.MultiIndex, list[Finding]]:
        """Return the ranges of rows to leave out, and say what becomes of them."""
        ranges = np.array([*self._rows_of_range], dtype=np.int64).reshape(-1, 2)
        days = np.repeat(ranges, [*self._rows_of_range.values()], axis=0)
        start, end = days.T.astype("datetime64[D]")
        is_odd = mark_odd_dates(start, end)
        if choice == "keep" or is_odd.all():
            is_odd = np.zeros(len(start), dtype=bool)
        odd_ranges = pd.MultiIndex.from_arrays([start[is_odd], end[is_odd]]).unique()
        return odd_ranges, find_odd_dates(start, end, choice)


def mark_ranges(table: ParsedTable, ranges: pd.MultiIndex) -> Bools:
    """Mark the rows (N,) of a table whose dates are one of some ranges."""
    if not len(ranges):
        return np.zeros(len(table), dtype=bool)
    is_in: Bools = pd.MultiIndex.from_arrays([table.start, table.end]).isin(ranges)
    return is_in


def find_odd_dates(start: Days, end: Days, choice: OddDates) -> list[Finding]:
    """Find ranges (N,) far from all others, and say what becomes of them."""
    is_odd = mark_odd_dates(start, end)
    if not is_odd.any():
        return []
    ranges = [
        str(first) if first == last else f"{first}~{last}"
        for first, last in zip(start[is_odd], end[is_odd], strict=True)
    ]
    message = f"{is_odd.sum():,} of {len(start):,} rows have a date that cannot be or is far from "
    message += f"all others ({list_names(dict.fromkeys(ranges))}"
    if not is_odd.all():
        message += f"; the others: {start[~is_odd].min()} to {end[~is_odd].max()}"
    message += ")"
    if choice == "keep":
        return [Finding("note", "dates", f"{message}: taken as they are, as data.odd_dates=keep")]
    if choice == "drop" and not is_odd.all():
        return [Finding("warning", "dates", f"{message}: left out, as data.odd_dates=drop")]
    way_out = (
        "correct them; where they stand for an unknown date, data.odd_dates=drop leaves the rows "
        "out; where they are right, data.odd_dates=keep"
    )
    return [Finding("refusal", "dates", message, way_out)]


def find_first_days(curves: Curves) -> list[Finding]:
    """Find single days that are a week or a month apart: periods named by their first day.

    Users of one day alone are then taken for those of the period, and ages are complete too early.
    """
    days = np.unique(curves.start)
    if len(days) < _MIN_FIRST_DAYS or (curves.start != curves.end).any():
        return []
    shown = list_names(days)
    if (days == days.astype("datetime64[M]").astype("datetime64[D]")).all():
        what, period, when = "months", "month", "the first of a month"
    elif (np.diff(days).astype(np.int64) % DAYS_PER_WEEK == 0).all():
        what, period, when = "weeks", "week", "one weekday"
    else:
        return []
    message = (
        f"all {len(days):,} dates fall on {when} ({shown}), and each is taken as one day of "
        "acquisition"
    )
    way_out = f"are they {what}? data.format.period={period}"
    return [Finding("warning", "dates", message, way_out)]


def find_ages_in_months(curves: Curves) -> list[Finding]:
    """Find cohorts of whole months whose ages end at a small number, which may count months.

    Such a cohort knows an age more for each month that it is older, and not one for each day.
    """
    days = (curves.end - curves.start).astype("timedelta64[D]").astype(np.int64) + 1
    last_age = int(curves.observed_age.max(initial=-1))
    if len(curves) < _MIN_FIRST_DAYS or (days < _LEAST_DAYS_OF_MONTH).any() or last_age < 1:
        return []
    days_since = (curves.origin - curves.end).astype("timedelta64[D]").astype(np.int64)
    months_since = days_since // _MOST_DAYS_OF_MONTH
    is_gaining = np.abs(curves.observed_age - months_since) <= 1
    if last_age > _MOST_MONTHS or not is_gaining.all() or len(np.unique(months_since)) < 3:
        return []
    message = (
        f"cohorts of months know an age more for each month that they are older, up to {last_age}"
    )
    way_out = "are ages months? They must be days: export D30, D60, D90 ..."
    return [Finding("warning", "ages", message, way_out)]


def find_overlaps(curves: Curves) -> list[Finding]:
    """Find cohorts of the same attributes whose dates overlap, so that users count twice."""
    if len(curves) < 2:
        return []
    codes = list(curves.attribute_codes.values())
    group = key_ranks(codes) if codes else np.zeros(len(curves), dtype=np.int64)
    order = np.lexsort((curves.end, curves.start, group))
    frame = pd.DataFrame(
        {
            "group": group[order],
            "start": curves.start[order].astype(np.int64),
            "end": curves.end[order].astype(np.int64),
            "users": curves.users[order],
        }
    )
    latest_end = frame.groupby("group")["end"].cummax()
    end_before = latest_end.groupby(frame["group"]).shift()
    overlaps = (end_before >= frame["start"]).to_numpy()
    if not overlaps.any():
        return []

    # rows that overlap one another are a cluster, in which those beside the longest count twice
    cluster = np.cumsum(~overlaps)
    size = np.bincount(cluster)[cluster]
    days = frame["end"] - frame["start"] + 1
    is_longest = days == days.groupby(cluster).transform("max")
    is_covering = (size > 1) & is_longest.to_numpy()
    rows = order[is_covering]
    names = list_names(_describe_cohort(curves, row) for row in rows[:100])
    message = (
        f"dates of {int((size > 1).sum()):,} cohorts of the same attributes overlap, so that users "
        f"count twice: the longest of them have {np.nansum(curves.users[rows]):,.0f} ({names})"
    )
    way_out = "keep rows of one period (day, week or month), or tell them apart by an attribute"
    return [Finding("warning", "overlapping dates", message, way_out)]


def _describe_cohort(curves: Curves, row: int) -> str:
    """Name a cohort by its dates and attributes."""
    values = [str(text[row]) for text in curves.attributes.values() if text[row]]
    return " ".join([*values, f"{curves.start[row]}~{curves.end[row]}"])
