"""Cohorts of an earlier snapshot that are missing from the newest one.

They keep what was last known of them, and so do not grow older. Shapes: N cohorts.
"""

import numpy as np
import pandas as pd

from ltvnet.data.arrays import Bools, Ints
from ltvnet.data.findings import Finding, list_names
from ltvnet.data.replaced_cohorts import Replacement
from ltvnet.data.vintages import Vintages


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
    previous = vintages.snapshots[-2]
    seen_twice = vintages.first_seen[~vintages.is_gone] < history.last_day
    if replacement is None and not seen_twice.any():
        return [_describe_new_only(vintages, is_lost)]

    findings = []
    left_window = np.flatnonzero(is_lost & starts_before)
    missing = np.flatnonzero(is_lost & ~starts_before)
    if len(left_window):
        message = (
            f"{history.last_day} begins with cohorts of {first_start}: {len(left_window):,} older "
            "ones keep what was last known of them"
        )
        findings.append(Finding("note", "older cohorts", message))
    if len(missing):
        findings.append(_describe_missing(vintages, missing, previous))
    return findings


def _describe_new_only(vintages: Vintages, is_lost: Bools) -> Finding:
    """Say that the newest snapshot has none of the cohorts of those before."""
    message = (
        f"{vintages.history.last_day} has only new cohorts, none of the {is_lost.sum():,} of "
        "earlier files, which stay at what was last known of them: no cohort is followed as it "
        "grows older"
    )
    way_out = "let each export hold all cohorts, old and new, as they stand on its date"
    return Finding("warning", "only new cohorts", message, way_out)


def _describe_missing(vintages: Vintages, missing: Ints, previous: np.datetime64) -> Finding:
    """Say which cohorts (of the numbers `missing`) are not in the newest snapshot."""
    history = vintages.history
    rows = vintages.last_row[missing]
    users = np.nansum(history.users[rows])
    present = int((~vintages.is_gone).sum())
    last_seen = vintages.last_seen[missing]
    count_of_previous = int((last_seen == previous).sum())
    named = f"of {previous}" if count_of_previous == len(missing) else "of earlier files"
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
