"""All findings about a history: what is odd in it, and the newest snapshot beside those before."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ltvnet.data.acquisition_dates import (
    OddDates,
    find_ages_in_months,
    find_first_days,
    find_overlaps,
)
from ltvnet.data.amount_checks import find_fractional_users, find_missing_spend
from ltvnet.data.curves import Curves, History
from ltvnet.data.findings import Finding
from ltvnet.data.level_checks import (
    find_absurd_roas,
    find_odd_levels,
    find_odd_segments,
    find_rescaled_snapshots,
    find_totals,
)
from ltvnet.data.lost_cohorts import find_lost_cohorts
from ltvnet.data.padding import find_zeroed_ages
from ltvnet.data.replaced_cohorts import find_replacement
from ltvnet.data.restated_amounts import find_lost_columns, find_restated_amounts
from ltvnet.data.vintages import Vintages, keep_newest_cohorts

OWN_LAYOUT = "ltvnet's own columns"
"""Kind of table that has ltvnet's own columns."""

_SEVERITIES = ("refusal", "warning", "note")


@dataclass(frozen=True, kw_only=True)
class DoubtChoices:
    """Choices about data that may be right or wrong.

    `dropped`: cohorts that the newest snapshot lacks are kept or dropped; `odd_dates`: cohorts
    with a date far from all others are refused, dropped or kept; `scale`: levels that cannot be
    are refused (check) or told of (any).
    """

    dropped: Literal["keep", "drop"] = "keep"
    odd_dates: OddDates = "refuse"
    scale: Literal["check", "any"] = "check"

    def __post_init__(self) -> None:
        """Check the words. Raises ValueError for others."""
        if self.dropped not in ("keep", "drop"):
            raise ValueError(f"expected data.dropped=keep or drop, got {self.dropped!r}")
        if self.odd_dates not in ("refuse", "drop", "keep"):
            got = self.odd_dates
            raise ValueError(f"expected data.odd_dates=refuse, drop or keep, got {got!r}")
        if self.scale not in ("check", "any"):
            raise ValueError(f"expected data.scale=check or any, got {self.scale!r}")


@dataclass(frozen=True)
class InspectedHistory:
    """A history, the `curves` known on its last day, and the `findings` about it, worst first.

    `layout` the kind of table it was read from.
    """

    history: History
    curves: Curves
    findings: tuple[Finding, ...]
    layout: str = OWN_LAYOUT

    def with_worst_first(self) -> "InspectedHistory":
        """Return the history with its findings in the order of severity."""
        by_severity = sorted(self.findings, key=lambda one: _SEVERITIES.index(one.severity))
        return replace(self, findings=tuple(by_severity))


def inspect_history(
    history: History,
    choices: DoubtChoices | None = None,
    earlier_findings: tuple[Finding, ...] = (),
) -> InspectedHistory:
    """Look for all that is odd in a history, from which cohorts are dropped as chosen.

    `earlier_findings` were made while it was read.
    """
    choices = choices or DoubtChoices()
    findings = list(earlier_findings)
    if choices.dropped == "drop":
        cohorts = len(np.unique(history.key_rank))
        history = keep_newest_cohorts(history)
        left_out = cohorts - len(np.unique(history.key_rank))
        message = f"{left_out:,} cohorts that are not in the newest file are left out"
        findings += [Finding("note", "dropped", message)] if left_out else []

    curves = history.as_of(history.last_day)
    findings += check_history(history, curves, accepts_any_scale=choices.scale == "any")
    return InspectedHistory(history, curves, tuple(findings)).with_worst_first()


def check_history(
    history: History, curves: Curves, *, accepts_any_scale: bool = False
) -> list[Finding]:
    """Find what is odd in a history.

    `curves` as known on its last day; `accepts_any_scale` whether a level that cannot be is told
    of rather than refused.
    """
    vintages = Vintages.from_history(history)
    replacement = find_replacement(vintages)
    return [
        *([] if replacement is None else [replacement.as_finding()]),
        *find_lost_cohorts(vintages, replacement),
        *find_rescaled_snapshots(vintages, accepts_any_scale=accepts_any_scale),
        *find_lost_columns(vintages),
        *find_restated_amounts(vintages, accepts_any_scale=accepts_any_scale),
        *check_curves(curves, accepts_any_scale=accepts_any_scale),
    ]


def check_curves(curves: Curves, *, accepts_any_scale: bool) -> list[Finding]:
    """Find what is odd in curves of one day, without the snapshots before; see `check_history`."""
    return [
        *find_absurd_roas(curves, accepts_any_scale=accepts_any_scale),
        *find_totals(curves),
        *find_odd_levels(curves),
        *find_odd_segments(curves),
        *find_zeroed_ages(curves.values),
        *find_first_days(curves),
        *find_ages_in_months(curves),
        *find_overlaps(curves),
        *find_fractional_users(curves),
        *find_missing_spend(curves),
    ]
