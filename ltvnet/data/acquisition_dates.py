"""Dates of acquisition that are odd: placeholders, typing errors, ranges that overlap.

Shapes: N cohorts, R vintages.
"""

from typing import Literal

import numpy as np
import pandas as pd

from ltvnet.data.arrays import Bools, Days, key_ranks
from ltvnet.data.curves import Curves, History
from ltvnet.data.findings import Finding, list_names
from ltvnet.data.vintages import select_vintages

OddDates = Literal["refuse", "drop", "keep"]
"""What becomes of cohorts with an odd date: the data are refused, or they go, or they count."""

_FIRST_DAY = np.datetime64("1990-01-01")
_LAST_DAY = np.datetime64("2100-12-31")
_MAX_GAP_DAYS = 3 * 365
_MAX_ODD_SHARE = 0.02
"""Cohorts apart from the others are odd only when they are few: a share of all, or one."""


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


def handle_odd_dates(history: History, choice: OddDates) -> tuple[History, list[Finding]]:
    """Return the history with or without cohorts whose dates are odd, and what is said of them."""
    is_odd = mark_odd_dates(history.start, history.end)
    if not is_odd.any():
        return history, []
    ranges = [
        f"{start}~{end}" if start != end else str(start)
        for start, end in zip(history.start[is_odd], history.end[is_odd], strict=True)
    ]
    names = list_names(dict.fromkeys(ranges))
    others = ~is_odd if (~is_odd).any() else is_odd
    message = (
        f"{is_odd.sum():,} rows of {len(history):,} have a date far from all others ({names}; the "
        f"others: {history.start[others].min()} to {history.end[others].max()})"
    )
    if choice == "drop" and not is_odd.all():
        left_out = Finding("warning", "dates", f"{message}: left out, as data.odd_dates=drop says")
        return select_vintages(history, ~is_odd), [left_out]
    if choice == "keep":
        return history, [Finding("note", "dates", f"{message}: taken as they are")]
    way_out = (
        "correct them; if they stand for an unknown date, data.odd_dates=drop leaves these rows "
        "out; if they are right, set data.odd_dates=keep"
    )
    return history, [Finding("refusal", "dates", message, way_out)]


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

