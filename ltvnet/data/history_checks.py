"""All findings about a history: what is odd in it, this snapshot beside the one before."""

from ltvnet.data.acquisition_dates import find_overlaps
from ltvnet.data.amount_checks import find_fractional_users, find_missing_spend
from ltvnet.data.curves import Curves, History
from ltvnet.data.findings import Finding
from ltvnet.data.level_checks import (
    find_absurd_roas,
    find_level_jumps,
    find_outlying_cohorts,
    find_rescaled_snapshots,
    find_totals,
)
from ltvnet.data.lost_cohorts import find_lost_cohorts
from ltvnet.data.padding import find_zeroed_ages
from ltvnet.data.replaced_cohorts import find_replacement
from ltvnet.data.vintages import Vintages


def check_history(
    history: History, curves: Curves, *, accepts_any_scale: bool = False
) -> list[Finding]:
    """Find what is odd in a history, worst first.

    `curves` as known on its last day; `accepts_any_scale` whether a level that cannot be is told
    of rather than refused.
    """
    vintages = Vintages.from_history(history)
    replacement = find_replacement(vintages)
    findings = [] if replacement is None else [replacement.as_finding()]
    findings += find_lost_cohorts(vintages, replacement)
    findings += find_rescaled_snapshots(vintages, accepts_any_scale=accepts_any_scale)
    findings += find_absurd_roas(curves, accepts_any_scale=accepts_any_scale)
    findings += find_totals(curves)
    findings += find_level_jumps(curves)
    findings += find_outlying_cohorts(curves)
    findings += find_zeroed_ages(curves.values)
    findings += find_overlaps(curves)
    findings += find_fractional_users(curves)
    findings += find_missing_spend(curves)
    order = ("refusal", "warning", "note")
    return sorted(findings, key=lambda finding: order.index(finding.severity))
