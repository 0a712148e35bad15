"""Overview of a history: period, cohorts, attributes, level beside before, gaps, reach, findings.

Shapes: N cohorts, T distinct days.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from ltvnet.data.arrays import ONE_DAY, Bools, Days
from ltvnet.data.checks import MIN_COHORTS_PER_AGE, restatements
from ltvnet.data.curves import DAYS_PER_WEEK, HORIZONS, Curves
from ltvnet.data.findings import Finding
from ltvnet.data.history_checks import InspectedHistory
from ltvnet.data.levels import LevelSums, level_attribute

NEWEST_WEEKS = 8
"""Weeks of acquisition whose level stands beside that of all cohorts."""


@dataclass(frozen=True)
class DataOverview:
    """All that `check.py` says of a history; nothing in it is worded yet.

    `layout` the kind of table; `snapshots` (T,) days of export; `before` the day that the newest
    one is compared with; `cohorts` and `new_cohorts` since then; `first_start`, `last_end` of
    acquisition, in ranges of `period_days` days; `users`; `spend` and the share of cohorts whose
    spend is known (`spend_share`); `values` number of values by attribute, of the `hierarchy`
    first; `gaps` first and last day between cohorts without any; `levels` revenue per user by
    segment and age: `now`, of the newest weeks (`newest`) and as of the day `before`; `roas`
    revenue by D7 over spend, NaN where not known; `restated` table by snapshot; `matured`
    cohorts by age; `last_age` up to which data support a forecast, -1 for none; `findings` worst
    first.
    """

    layout: str
    snapshots: Days
    before: np.datetime64
    cohorts: int
    new_cohorts: int
    first_start: np.datetime64
    last_end: np.datetime64
    period_days: int
    users: float
    spend: float
    spend_share: float
    values: Mapping[str, int]
    hierarchy: tuple[str, ...]
    gaps: list[tuple[np.datetime64, np.datetime64]]
    level_attribute: str | None
    levels: pd.DataFrame
    roas: float
    restated: pd.DataFrame
    matured: Mapping[int, int]
    last_age: int
    findings: tuple[Finding, ...]

    @classmethod
    def from_inspected(cls, inspected: InspectedHistory, tolerance: float) -> Self:
        """Gather the overview; `tolerance` relative change of a value that counts as rounding."""
        history, curves = inspected.history, inspected.curves
        snapshots: Days = np.unique(history.snapshot)
        week_ago = history.last_day - DAYS_PER_WEEK * ONE_DAY
        before = snapshots[-2] if len(snapshots) > 1 else week_ago
        earlier = history.as_of(before)
        length = (curves.end - curves.start).astype("timedelta64[D]").astype(np.int64) + 1
        is_spend_known = np.isfinite(curves.spend)
        others = sorted(set(curves.attributes) - set(curves.hierarchy))
        return cls(
            layout=inspected.layout,
            snapshots=snapshots,
            before=before,
            cohorts=len(curves),
            new_cohorts=int((~curves.index.isin(earlier.index)).sum()),
            first_start=curves.start.min(),
            last_end=curves.end.max(),
            period_days=int(np.median(length)),
            users=float(np.nansum(curves.users)),
            spend=float(np.nansum(curves.spend)),
            spend_share=float(is_spend_known[_has_begun(curves)].mean()),
            values={
                name: len(curves.attribute_codes[name].values)
                for name in (*curves.hierarchy, *others)
            },
            hierarchy=curves.hierarchy,
            gaps=find_gaps_in_dates(curves.start, curves.end),
            level_attribute=level_attribute(curves),
            levels=compare_levels(curves, earlier),
            roas=_measure_roas(curves),
            restated=restatements(history, tolerance),
            matured={age: int((curves.observed_age >= age).sum()) for age in (7, *HORIZONS)},
            last_age=curves.age_reached_by(MIN_COHORTS_PER_AGE),
            findings=inspected.findings,
        )


def _has_begun(curves: Curves) -> Bools:
    """Mark cohorts (N,) of which an age is complete; all where none is."""
    has_begun: Bools = curves.observed_age >= 0
    return has_begun if has_begun.any() else ~has_begun


def find_gaps_in_dates(start: Days, end: Days) -> list[tuple[np.datetime64, np.datetime64]]:
    """Find the ranges of days between the first and the last cohort on which none was acquired.

    Days of the week on which never a cohort begins or ends are no gaps.
    """
    order = np.argsort(start)
    latest_end = np.maximum.accumulate(end[order])
    next_start = start[order][1:]
    days = (next_start - latest_end[:-1]).astype("timedelta64[D]").astype(np.int64) - 1
    usual = int(np.median(days[days > 0])) if (days > 0).sum() > len(np.unique(start)) // 2 else 0
    return [
        (latest_end[row] + ONE_DAY, next_start[row] - ONE_DAY)
        for row in np.flatnonzero(days > usual)
    ]


def compare_levels(curves: Curves, earlier: Curves) -> pd.DataFrame:
    """Levels by segment and age: of all cohorts `now`, of the `newest` weeks, and `before`."""
    name = level_attribute(curves)
    first_new = curves.origin - NEWEST_WEEKS * DAYS_PER_WEEK * ONE_DAY
    newest = curves.take(curves.end > first_new)
    parts = {"now": curves, "newest": newest, "before": earlier}
    sums = {label: LevelSums.from_curves(part, name) for label, part in parts.items()}
    return pd.DataFrame({label: part.levels()["level"] for label, part in sums.items()}).join(
        sums["now"].levels()[["cohorts", "users"]]
    )


def _measure_roas(curves: Curves) -> float:
    """Revenue by D7 over spend, of the cohorts that have both; NaN where none has."""
    is_known = (curves.observed_age >= DAYS_PER_WEEK) & (curves.spend > 0)
    spend = curves.spend[is_known].sum()
    revenue = (curves.users[is_known] * curves.values[is_known, DAYS_PER_WEEK]).sum()
    return float(revenue / spend) if spend else float("nan")
