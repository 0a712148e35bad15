"""Users and spend that a snapshot states otherwise than the one before it, or no longer at all.

Late corrections of a few percent are usual, as is spend of young cohorts that is still coming in.
Shapes: R vintages (rows of all snapshots), P pairs of vintages.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from ltvnet.data.arrays import ONE_DAY, Bools, Floats
from ltvnet.data.columns import SPEND, USERS
from ltvnet.data.findings import Finding, Severity, format_factor
from ltvnet.data.vintages import Vintages

_YOUNG_DAYS = 28
"""Days after a cohort's last one within which its users and spend may still come in."""

_USUAL_SHARE = 0.02
"""Share of the sum that late corrections change at most."""

_ROUNDING = 1e-3
"""Relative change of a cohort that is rounding."""

_ABSURD_FACTOR = 20.0
"""Factor of the sum from which on it is another currency or unit."""

_USERS_TOLD_BY_SCALE = 2.5
"""Factor in the median from which on `find_rescaled_snapshots` tells of users."""

_CHECK_COLUMN = "is it another column, currency or unit? Export it as in the files before"
_NAME_COLUMN = "export the column {} again, or name it in data.columns"
_TAKE_ANY = "convert it, or set data.scale=any if it is right"


@dataclass(frozen=True)
class _Change:
    """Change of an amount in one snapshot: `before` and `after` (P,) of settled cohorts."""

    name: str
    snapshot: np.datetime64
    before: Floats
    after: Floats

    @classmethod
    def from_pairs(
        cls, name: str, snapshot: np.datetime64, before: Floats, after: Floats
    ) -> Self | None:
        """Return the change of an amount, where it exceeds that of usual corrections."""
        change = cls(name, snapshot, before, after)
        difference = np.abs(after - before).sum()
        is_unusual = difference > _USUAL_SHARE * max(before.sum(), after.sum())
        return change if is_unusual and change.is_changed.any() else None

    @property
    def is_changed(self) -> Bools:
        """Whether the amount of each cohort changed by more than rounding: (P,)."""
        largest = np.maximum(np.abs(self.before), np.abs(self.after))
        is_changed: Bools = np.abs(self.after - self.before) > _ROUNDING * largest
        return is_changed

    @property
    def share(self) -> float:
        """Sum of the changes over the larger of the sums before and after."""
        largest = max(self.before.sum(), self.after.sum())
        return float(np.abs(self.after - self.before).sum() / largest)

    @property
    def median_factor(self) -> float | None:
        """Median factor of those that changed from more than 0 to more than 0; None for none."""
        is_positive = self.is_changed & (self.before > 0) & (self.after > 0)
        if not is_positive.any():
            return None
        return float(np.median(self.after[is_positive] / self.before[is_positive]))

    @property
    def is_absurd(self) -> bool:
        """Whether the sum is at another scale."""
        before, after = self.before.sum(), self.after.sum()
        factor = after / before if before > 0 and after > 0 else 1.0
        return not 1 / _ABSURD_FACTOR < factor < _ABSURD_FACTOR

    def as_finding(self, others: int, *, accepts_any_scale: bool) -> Finding:
        """Word it; `others` the number of further snapshots with a change of this amount."""
        factor = self.median_factor
        median = "" if factor is None else f", by {_format_change(factor)} in the median"
        message = (
            f"{self.snapshot} changes {self.name} of {self.is_changed.sum():,} of "
            f"{len(self.before):,} cohorts that the file before it had{median} "
            f"(in sum {self.before.sum():,.0f} before, {self.after.sum():,.0f} now)"
        )
        message += f"; {others:,} other files change it, too" if others else ""
        severity: Severity = "refusal" if self.is_absurd and not accepts_any_scale else "warning"
        way_out = _TAKE_ANY if self.is_absurd else _CHECK_COLUMN
        return Finding(severity, self.name, message, way_out)


def _format_change(factor: float) -> str:
    """Word a factor; one near 1 in percent, for it would read x1.

    >>> _format_change(2.0), _format_change(1.03)
    ('x2', '+3 %')
    """
    if 0.9 < factor < 1.1:
        return f"{100 * (factor - 1):+.2g} %"
    return format_factor(factor)


def find_restated_amounts(vintages: Vintages, *, accepts_any_scale: bool) -> list[Finding]:
    """Find snapshots that change the users or the spend of cohorts known for weeks.

    Of several snapshots the one with the largest change is told.
    """
    findings = []
    for name in ("users", "spend"):
        changes = list(_find_changes(vintages, name))
        if name == "users":
            changes = [change for change in changes if not _is_told_by_scale(change)]
        if changes:
            worst = max(changes, key=lambda change: (change.is_absurd, change.share))
            others = len(changes) - 1
            findings.append(worst.as_finding(others, accepts_any_scale=accepts_any_scale))
    return findings


def _find_changes(vintages: Vintages, name: str) -> Iterator[_Change]:
    """Yield the unusual changes of an amount, snapshot by snapshot."""
    history = vintages.history
    amounts = history.users if name == "users" else history.spend
    older, newer = vintages.successive_rows()
    is_settled = history.end[older] + _YOUNG_DAYS * ONE_DAY <= history.snapshot[older]
    is_known = np.isfinite(amounts[older]) & np.isfinite(amounts[newer])
    older, newer = older[is_settled & is_known], newer[is_settled & is_known]
    for snapshot in np.unique(history.snapshot[newer]):
        is_here = history.snapshot[newer] == snapshot
        before, after = amounts[older[is_here]], amounts[newer[is_here]]
        if name == "users" and (after == 1).all():
            continue  # the column is gone
        if change := _Change.from_pairs(name, snapshot, before, after):
            yield change


def _is_told_by_scale(change: _Change) -> bool:
    """Return whether the users of most cohorts changed so much that the scale is told of."""
    is_positive = (change.before > 0) & (change.after > 0)
    if not is_positive.any():
        return False
    factor = float(np.median(change.after[is_positive] / change.before[is_positive]))
    return not 1 / _USERS_TOLD_BY_SCALE < factor < _USERS_TOLD_BY_SCALE


def find_lost_columns(vintages: Vintages) -> list[Finding]:
    """Find users and spend that the snapshot before had and the newest lacks altogether."""
    history = vintages.history
    if len(vintages.snapshots) < 2:
        return []
    is_newest = history.snapshot == vintages.snapshots[-1]
    is_before = history.snapshot == vintages.snapshots[-2]
    day, day_before = vintages.snapshots[-1], vintages.snapshots[-2]

    findings = []
    if np.isfinite(history.spend[is_before]).any() and np.isnan(history.spend[is_newest]).all():
        message = f"{day} has none, though {day_before} has: cohorts of {day} have no return"
        findings.append(Finding("warning", "spend", message, _NAME_COLUMN.format(SPEND)))
    users, users_before = history.users[is_newest], history.users[is_before]
    if (users == 1).all() and (users_before[np.isfinite(users_before)] != 1).any():
        message = f"{day} has none, though {day_before} has: each cohort counts as one user"
        findings.append(Finding("warning", "users", message, _NAME_COLUMN.format(USERS)))
    return findings
