"""Levels that are odd: another currency or unit, totals in place of revenue per user.

Shapes: N cohorts, W weeks, G cohorts of a segment.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from ltvnet.data.arrays import Floats, Ints
from ltvnet.data.curves import DAYS_PER_WEEK, Curves
from ltvnet.data.findings import Finding, Severity, format_factor, list_names
from ltvnet.data.levels import (
    LEVEL_AGES,
    MAX_SEGMENTS,
    LevelSums,
    level_attribute,
    robust_z,
    split_by_group,
)
from ltvnet.data.vintages import Vintages

LARGE_FACTOR = 8.0
"""Factor between levels of one segment, beyond which it is another unit rather than a season."""

_WEEK_FACTOR = 5.0
"""Each week of a jump is so far from the usual week, at least."""

_MIN_WEEKS_OF_LEVEL = 6
"""Weeks that a segment needs before and after for a jump to be seen."""

_MIN_LOW_WEEKS = 3
"""Weeks at a low level, at least: in a single one of few cohorts nobody may have bought."""

_MIN_POSITIVE_SHARE = 0.4
"""Share of weeks with revenue, below which a level says nothing."""

_CHANCE = 1e-6
"""Weeks without revenue are no chance when they are less likely than this."""

_MIN_Z = 6.0
"""Deviations from the median beyond which a level is no chance."""

_COHORT_FACTOR = 50.0
"""Factor of a cohort to the median of its segment, in revenue per user and in revenue.

Cohorts as far below are common: a user buys much, or nobody does.
"""

_SEGMENT_FACTOR = 100.0
"""Factor of a segment to all others, in revenue per user and in spend per user."""

_MIN_COHORTS = 8
"""Cohorts with which a single one is compared."""

_ROAS_AGE = 7
_WARNED_ROAS = (1e-3, 20.0)
_REFUSED_ROAS = (1e-4, 50.0)
"""Revenue by D7 over spend, of all cohorts together, that nobody has ever seen."""

_MIN_PAID_COHORTS = 5
"""Fewer cohorts may earn anything."""

_TOTALS_SLOPE = 0.7
_MIN_COHORTS_OF_SLOPE = 30

_OTHER_UNIT = "is it in another currency or unit? Convert it"
_ZERO_WEEKS = "where revenue of these weeks is not known, leave them out or empty their cells"
_PER_COHORT = (
    "sums of a cohort need data.format.per=cohort; another currency or unit has to be converted; "
    "data.scale=any takes it as it is"
)


def find_level_jumps(curves: Curves) -> list[Finding]:
    """Find segments whose newest or oldest weeks lie at another level than all the others."""
    name = level_attribute(curves)
    segment, keys = curves.segments(min(1, len(curves.hierarchy)))
    rows = np.flatnonzero((curves.observed_age >= 0) & (curves.users > 0))
    findings = []
    for members in _largest_segments(curves, rows, segment[rows]):
        key = keys[segment[members[0]]]
        label = f"{name} {key[0]!r}" if key else "all cohorts"
        for age in LEVEL_AGES:
            weekly = _weekly_levels(curves, members[curves.observed_age[members] >= age], age)
            if message := _describe_jump(weekly, age, label):
                way_out = _ZERO_WEEKS if "(x0)" in message else _OTHER_UNIT
                findings.append(Finding("warning", "level", message, way_out))
                break
    return findings


def _largest_segments(curves: Curves, rows: Ints, segment: Ints) -> list[Ints]:
    """List the rows of each segment (R,) that may have enough weeks, those of most users first."""
    members = [part for part in split_by_group(rows, segment) if len(part) >= _MIN_WEEKS_OF_LEVEL]
    members.sort(key=lambda part: -curves.users[part].sum())
    return members[:MAX_SEGMENTS]


def _weekly_levels(curves: Curves, rows: Ints, age: int) -> pd.Series:
    """Revenue per user at an age by week of acquisition (W,), indexed by its first day."""
    users = curves.users[rows]
    week = curves.start[rows].astype("datetime64[D]").astype(np.int64) // DAYS_PER_WEEK
    sums = pd.DataFrame({"week": week, "users": users, "revenue": users * curves.values[rows, age]})
    sums["start"] = curves.start[rows]
    weeks = sums.groupby("week").agg({"users": "sum", "revenue": "sum", "start": "min"})
    return pd.Series((weeks["revenue"] / weeks["users"]).to_numpy(), index=weeks["start"])


def _describe_jump(weekly: pd.Series, age: int, label: str) -> str:
    """Describe the newest or else oldest weeks that lie at another level; "" for none."""
    levels = weekly.to_numpy(dtype=float)
    is_positive = levels > 0
    if len(levels) < _MIN_WEEKS_OF_LEVEL or is_positive.mean() < _MIN_POSITIVE_SHARE:
        return ""
    median = np.median(levels[is_positive])
    is_near = (levels * _WEEK_FACTOR > median) & (levels < median * _WEEK_FACTOR)
    for first, last, word in _end_runs(~is_near):
        run, rest = levels[first:last], np.delete(levels, slice(first, last))
        if not _is_other_level(run, rest):
            continue
        typical = np.median(rest)
        day = str(weekly.index[first if word == "from" else last])[:10]
        return (
            f"{label}: revenue per user at D{age} is {np.median(run):.4g} {word} {day}, "
            f"{typical:.4g} in the other {len(rest)} weeks "
            f"({format_factor(float(np.median(run) / typical))})"
        )
    return ""


def _is_other_level(run: Floats, rest: Floats) -> bool:
    """Return whether the level of some weeks differs from that of the rest by more than chance."""
    level, typical = np.median(run), np.median(rest)
    if len(rest) < _MIN_WEEKS_OF_LEVEL or typical <= 0:
        return False
    if level == 0:  # weeks without revenue: how likely are so many in a row?
        share = ((rest == 0).sum() + 1) / (len(rest) + 2)
        return bool(share ** len(run) < _CHANCE)
    factor = level / typical
    logs = np.log(rest[rest > 0])
    z = robust_z(np.log([level]), logs)[0]
    is_low = factor <= 1 / LARGE_FACTOR and len(run) >= _MIN_LOW_WEEKS
    return bool((factor >= LARGE_FACTOR or is_low) and abs(z) >= _MIN_Z)


def _end_runs(is_far: np.ndarray) -> Iterator[tuple[int, int, str]]:
    """Yield first and last + 1 of the weeks (W,) at either end that are far from the others."""
    count = len(is_far)
    newest = int(np.argmin(is_far[::-1])) if not is_far.all() else count
    oldest = int(np.argmin(is_far)) if not is_far.all() else count
    if 0 < newest < count:
        yield count - newest, count, "from"
    if 0 < oldest < count:
        yield 0, oldest, "before"


def find_odd_levels(curves: Curves) -> list[Finding]:
    """Find weeks of segments at another level; single cohorts, where there are none."""
    return find_level_jumps(curves) or find_outlying_cohorts(curves)


def find_odd_segments(curves: Curves) -> list[Finding]:
    """Find a segment far above all others in revenue per user and in spend per user alike.

    Where both are, its currency is another one. Of several attributes the first is told.
    """
    others = [name for name in curves.attributes if name not in curves.hierarchy]
    for name in (*curves.hierarchy, *others):
        sums = LevelSums.from_curves(curves, name)
        levels = sums.levels()["level"]
        revenue = levels[levels.index.get_level_values("age") == 0].droplevel("age")
        spend = sums.spend_levels()["level"].droplevel("age")
        factors = [_factor_to_next(revenue), _factor_to_next(spend)]
        if min(factors) >= _SEGMENT_FACTOR and revenue.idxmax() == spend.idxmax():
            message = (
                f"{name} {revenue.idxmax()!r} has {format_factor(factors[0])} the revenue per user "
                f"(D0) and {format_factor(factors[1])} the spend per user of any other {name}"
            )
            return [Finding("warning", "level", message, _OTHER_UNIT)]
    return []


def _factor_to_next(levels: "pd.Series[float]") -> float:
    """Factor of the largest level (S,) to the next one; 1 where there are no two above 0."""
    largest = levels[levels > 0].nlargest(2).to_numpy()
    return float(largest[0] / largest[1]) if len(largest) == 2 else 1.0


def find_outlying_cohorts(curves: Curves) -> list[Finding]:
    """Find single cohorts at another scale than those of their segment.

    Both their revenue per user and their revenue are: a large purchase of one user among few moves
    the first alone, and a large campaign the second.
    """
    rows, factor = _factors_to_segment(curves)
    if not len(rows):
        return []
    users = curves.users[rows]
    by_factor = rows[np.argsort(-factor)]
    names = [_cohort_name(curves, row) for row in by_factor]
    message = (
        f"{len(rows):,} of {len(curves):,} cohorts ({users.sum():,.0f} users) earn up to "
        f"{format_factor(float(factor.max()))} of what a user of their segment does: "
        f"{list_names(names)}"
    )
    return [Finding("warning", "single cohorts", message, _OTHER_UNIT)]


def _factors_to_segment(curves: Curves) -> tuple[Ints, Floats]:
    """Rows of outlying cohorts (G,), and their revenue per user over the median of others'."""
    is_known = (curves.users > 0) & (curves.observed_age >= 0)
    rows = np.flatnonzero(is_known)
    outlying: dict[int, float] = {}
    for age in LEVEL_AGES[::-1]:
        reached = rows[(curves.observed_age[rows] >= age) & (curves.values[rows, age] > 0)]
        per_user = np.log(curves.values[reached, age])
        revenue = per_user + np.log(curves.users[reached])
        for members in _groups(curves, reached):
            far = per_user[members] - np.median(per_user[members])
            more = revenue[members] - np.median(revenue[members])
            threshold = np.log(_COHORT_FACTOR)
            is_far = (far >= threshold) & (more >= threshold)
            is_far &= robust_z(per_user[members]) >= _MIN_Z
            for member, distance in zip(members[is_far], far[is_far], strict=True):
                outlying.setdefault(int(reached[member]), float(np.exp(distance)))
    found = np.array(sorted(outlying), dtype=np.int64)
    return found, np.array([outlying[row] for row in found])


def _groups(curves: Curves, rows: Ints) -> Iterator[Ints]:
    """Yield positions in `rows` of the cohorts of each segment, the deepest that has enough."""
    left = np.arange(len(rows))
    for level in range(len(curves.hierarchy), -1, -1):
        segment, _ = curves.segments(level)
        _, number, size = np.unique(segment[rows[left]], return_inverse=True, return_counts=True)
        is_enough = size[number] >= _MIN_COHORTS
        yield from split_by_group(left[is_enough], number[is_enough])
        left = left[~is_enough]


def _cohort_name(curves: Curves, row: int) -> str:
    """Name a cohort by its attributes, the hierarchy's first, and its first day."""
    names = [*curves.hierarchy, *(n for n in curves.attributes if n not in curves.hierarchy)]
    values = [curves.attributes[name][row] for name in names]
    return " ".join([*(str(value) for value in values if value), f"of {curves.start[row]}"])


def find_absurd_roas(curves: Curves, *, accepts_any_scale: bool) -> list[Finding]:
    """Find revenue and spend that cannot be in the same currency, or not both per user."""
    is_paid = (curves.observed_age >= _ROAS_AGE) & (curves.spend > 0) & (curves.users > 0)
    spend = curves.spend[is_paid].sum()
    revenue = (curves.users[is_paid] * curves.values[is_paid, _ROAS_AGE]).sum()
    if not spend or revenue <= 0:
        return []
    roas = revenue / spend
    if _WARNED_ROAS[0] <= roas <= _WARNED_ROAS[1]:
        return []
    is_absurd = not _REFUSED_ROAS[0] <= roas <= _REFUSED_ROAS[1]
    is_absurd &= is_paid.sum() >= _MIN_PAID_COHORTS
    message = (
        f"{is_paid.sum():,} cohorts earned {revenue:,.0f} by D{_ROAS_AGE} on a spend of "
        f"{spend:,.0f}, {_format_percent(roas)} of it"
    )
    severity = _severity(is_absurd=is_absurd, accepts_any_scale=accepts_any_scale)
    return [Finding(severity, "revenue and spend", message, _PER_COHORT)]


def _severity(*, is_absurd: bool, accepts_any_scale: bool) -> Severity:
    """Severity of a level that is odd, or cannot be: then it is refused, unless all are taken."""
    return "refusal" if is_absurd and not accepts_any_scale else "warning"


def _format_percent(share: float) -> str:
    return f"{100 * share:,.0f} %" if share > 0.1 else f"{100 * share:.2g} %"


def find_totals(curves: Curves) -> list[Finding]:
    """Find values that grow with the number of users, as sums of a cohort do.

    Within a segment the logarithm of a value is regressed on that of the users: the slope is near
    0 for revenue per user and near 1 for sums.
    """
    rows = np.flatnonzero(
        (curves.observed_age >= _ROAS_AGE) & (curves.users > 0) & (curves.values[:, _ROAS_AGE] > 0)
    )
    value, users = np.log(curves.values[rows, _ROAS_AGE]), np.log(curves.users[rows])
    centered_value, centered_users, groups = np.zeros(len(rows)), np.zeros(len(rows)), 0
    is_grouped = np.zeros(len(rows), dtype=bool)
    for members in _groups(curves, rows):
        centered_value[members] = value[members] - value[members].mean()
        centered_users[members] = users[members] - users[members].mean()
        is_grouped[members] = True
        groups += 1
    squares = (centered_users**2).sum()
    freedom = int(is_grouped.sum()) - groups - 1
    if freedom < _MIN_COHORTS_OF_SLOPE or squares / freedom < 0.04:
        return []
    slope = (centered_value * centered_users).sum() / squares
    residual = centered_value - slope * centered_users
    error = np.sqrt((residual[is_grouped] ** 2).sum() / freedom / squares)
    if slope < _TOTALS_SLOPE or slope - 0.5 < 4 * error:
        return []
    message = (
        f"cohorts of one segment with twice the users have {2**slope:.2g} times the value at "
        f"D{_ROAS_AGE}: expected revenue per user, this looks like revenue of a cohort"
    )
    return [Finding("warning", "values", message, "sums of a cohort need data.format.per=cohort")]


def find_rescaled_snapshots(vintages: Vintages, *, accepts_any_scale: bool) -> list[Finding]:
    """Find snapshots that state the revenue or users of known cohorts at another scale."""
    history = vintages.history
    older, newer = vintages.successive_rows()
    if not len(older):
        return []
    age = np.minimum(history.observed_age[older], history.observed_age[newer])
    factors = pd.DataFrame({"snapshot": history.snapshot[newer]})
    last_age = np.maximum(age, 0)
    values_before = np.where(age >= 0, history.values[older, last_age], np.nan)
    values_after_it = np.where(age >= 0, history.values[newer, last_age], np.nan)
    factors["revenue per user"] = _positive_ratio(values_after_it, values_before)
    factors["users"] = _positive_ratio(history.users[newer], history.users[older])

    findings = []
    for snapshot, of_snapshot in factors.groupby("snapshot"):
        for what in ("revenue per user", "users"):
            known = of_snapshot[what].dropna()
            factor = float(known.median()) if len(known) else 1.0
            if 1 / 2.5 < factor < 2.5:
                continue
            is_absurd = not 1 / LARGE_FACTOR < factor < LARGE_FACTOR
            severity = _severity(is_absurd=is_absurd, accepts_any_scale=accepts_any_scale)
            message = (
                f"{str(snapshot)[:10]} states the {what} of {len(known):,} cohorts at "
                f"{format_factor(factor)} of what the file before it did"
            )
            way_out = "export it in the unit of the others, or set data.scale=any if it is right"
            findings.append(Finding(severity, "scale", message, way_out))
    return findings


def _positive_ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Ratio of positive numbers (P,), NaN where either is not."""
    is_positive = (numerator > 0) & (denominator > 0)
    ratio = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=ratio, where=is_positive)
    return ratio
