"""Lines of purchases that nobody should believe unasked: odd days, and amounts beyond all others.

Days: a placeholder such as 1900-01-01 or 9999-12-31, a typo in the year, or a few lines long after
all others, from which the end of the data would be taken. Amounts: a sentinel or a slip that is
over a million times the usual one.

Shapes: D days that have lines, E powers of two.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ltvnet.data.arrays import Bools, Days, Ints
from ltvnet.data.importers.dates import placeholder_dates

Doubtful = Literal["refuse", "drop", "keep"]

LARGEST_FACTOR = 1 << 20
"""Amounts up to about so many times the median are believed."""

_DAYS_AFTER = 60  # without a line, after which a few lines at the end are doubtful
_DAYS_BEFORE = 1096  # and before which a few at the beginning are: typos are whole years
_USUAL_GAPS = 20  # times the mean gap between days with lines
_THIN_DAYS = 1000  # a gap is wide beyond this / days with lines: few days tell little
_FEW = 0.001  # share of lines


@dataclass(frozen=True)
class BelievedDays:
    """First and last day whose lines are believed."""

    first: np.datetime64
    last: np.datetime64


def believable_period(days: Days, lines: Ints, *, is_end_given: bool) -> BelievedDays:
    """Find the days whose lines are believed, of days (D,) in order with so many lines each.

    Where the end of the data is given, days that are long after all others are believed.
    """
    usual = ~placeholder_dates(days)
    if 2 * lines[usual].sum() >= lines.sum():
        days = days[usual]
        lines = lines[usual]

    day_count = 0
    while day_count != len(days):  # a cut at one end makes gaps at the other stand out
        day_count = len(days)
        days, lines = _without_early_days(days, lines)
        if not is_end_given:
            days, lines = _without_late_days(days, lines)
    return BelievedDays(days[0], days[-1])


def _without_late_days(days: Days, lines: Ints) -> tuple[Days, Ints]:
    """Leave out the few lines at the end that are long after all others."""
    gaps = np.diff(days).astype(int)  # (D - 1,)
    lines_after = lines.sum() - lines.cumsum()[:-1]
    days_before = np.arange(1, len(days))
    span_before = (days[:-1] - days[0]).astype(int)
    wide = _is_wide(gaps, _DAYS_AFTER, span_before, days_before)
    cuts = np.flatnonzero(wide & _is_few(lines_after, int(lines.sum())))
    end = cuts[0] + 1 if len(cuts) else len(days)
    return days[:end], lines[:end]


def _without_early_days(days: Days, lines: Ints) -> tuple[Days, Ints]:
    """Leave out the few lines at the beginning that are years before all others."""
    gaps = np.diff(days).astype(int)
    days_after = np.arange(len(days) - 1, 0, -1)
    span_after = (days[-1] - days[1:]).astype(int)
    wide = _is_wide(gaps, _DAYS_BEFORE, span_after, days_after)
    cuts = np.flatnonzero(wide & _is_few(lines.cumsum()[:-1], int(lines.sum())))
    begin = cuts[-1] + 1 if len(cuts) else 0
    return days[begin:], lines[begin:]


def _is_wide(gaps: Ints, least: int, span: Ints, day_count: Ints) -> Bools:
    """Mark gaps that are much wider than those between the days on their other side."""
    mean_gap = span / np.maximum(day_count - 1, 1)
    wide: Bools = gaps > np.maximum(
        np.maximum(least, _USUAL_GAPS * mean_gap), _THIN_DAYS / day_count
    )
    return wide


def _is_few(lines: Ints, total: int) -> Bools:
    """Mark numbers of lines that are few: one, or a small share of all."""
    few: Bools = lines <= max(1, _FEW * total)
    return few


def believable_exponent(exponents: Ints, lines: Ints) -> int:
    """Return the power of two up to which amounts are believed, of lines by their power (E,)."""
    order = np.argsort(exponents)
    cumulative = lines[order].cumsum()
    median = exponents[order][np.searchsorted(cumulative, cumulative[-1] / 2)]
    return int(median) + LARGEST_FACTOR.bit_length() - 1
