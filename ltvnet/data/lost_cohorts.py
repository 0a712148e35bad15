"""Cohorts of an earlier snapshot that are missing from the newest one.

They keep what was last known of them, and so do not grow older. Shapes: N cohorts.
"""

import numpy as np
import pandas as pd

from ltvnet.data.arrays import Ints
from ltvnet.data.findings import Finding, list_names
from ltvnet.data.replaced_cohorts import Replacement
from ltvnet.data.vintages import Vintages

_WINDOW_SHARE = 0.1
"""Cohorts that leave the window of an export from one to the next, of all, at most."""


def find_lost_cohorts(vintages: Vintages, replacement: Replacement | None) -> list[Finding]:
    """Find the cohorts that the newest snapshot lacks, but for those in the place of which others
    stand.
    """
    history = vintages.history
    is_lost = vintages.is_gone.copy()
    if replacement is not None:
        is_lost[vintages.cohort[replacement.gone]] = False
    if not is_lost.any():
        return []

    newest_rows = vintages.last_row[~vintages.is_gone]
    first_start = history.start[newest_rows].min()
    starts_before = history.start[vintages.last_row] < first_start
    older = np.flatnonzero(is_lost & starts_before)
    missing = np.flatnonzero(is_lost & ~starts_before)
    findings = []
    if len(older):
        findings.append(_describe_older(vintages, older, first_start))
    if len(missing):
        findings.append(_describe_missing(vintages, missing))
    return findings


def _describe_older(vintages: Vintages, older: Ints, first_start: np.datetime64) -> Finding:
    """Say that cohorts (of the numbers `older`) lie before all those of the newest snapshot.

    A few leave a window that moves on; many mean that exports hold new cohorts only.
    """
    last_day = vintages.history.last_day
    message = (
        f"{last_day} begins with cohorts of {first_start}: {len(older):,} older ones of "
        f"{len(vintages.is_gone):,} stay at what was last known of them"
    )
    if len(older) <= _WINDOW_SHARE * len(vintages.is_gone):
        return Finding("note", "older cohorts", message)
    message += " and are not followed as they grow older"
    way_out = "let each export hold all cohorts, old and new, as they stand on its date"
    return Finding("warning", "older cohorts", message, way_out)


def _describe_missing(vintages: Vintages, missing: Ints) -> Finding:
    """Say which cohorts (of the numbers `missing`) are not in the newest snapshot."""
    history = vintages.history
    rows = vintages.last_row[missing]
    users = np.nansum(history.users[rows])
    present = int((~vintages.is_gone).sum())
    previous = vintages.snapshots[-2]
    are_of_previous = (vintages.last_seen[missing] == previous).all()
    named = f"of {previous}" if are_of_previous else "of earlier files"
    message = (
        f"{len(missing):,} cohorts {named} ({users:,.0f} users) are missing from "
        f"{history.last_day}, which has {present:,}; they keep what was last known of them"
    )
    if lost_values := _lost_values(vintages, missing):
        message += f": {list_names(lost_values)}"
    way_out = "export them again, or leave them out with data.dropped=drop"
    return Finding("warning", "missing cohorts", message, way_out)


def _lost_values(vintages: Vintages, missing: Ints) -> list[str]:
    """List the values of attributes of which no cohort is left, those of most cohorts first.

    Of the attributes the first that lost any speaks: a lost campaign loses its countries too.
    """
    history = vintages.history
    names = [*history.hierarchy, *(n for n in history.attributes if n not in history.hierarchy)]
    newest_rows = vintages.last_row[~vintages.is_gone]
    for name in names:
        values = pd.Series(history.attributes[name][vintages.last_row[missing]])
        left = set(history.attributes[name][newest_rows])
        counts = values[~values.isin(left)].value_counts()
        if len(counts):
            return [f"{name} {value!r} is gone: {count} cohorts" for value, count in counts.items()]
    return []
