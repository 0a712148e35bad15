"""Histories of several snapshots, and histories in which something is odd."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ltvnet.data.arrays import Bools, Floats, Strings
from ltvnet.data.curves import Curves, History
from ltvnet.data.findings import Finding
from ltvnet.data.history_checks import inspect_history
from ltvnet.data.vintages import select_vintages


def join_snapshots(*parts: History) -> History:
    """The rows of several histories in one."""
    names = parts[0].attributes
    return replace(
        parts[0],
        start=np.concatenate([part.start for part in parts]),
        end=np.concatenate([part.end for part in parts]),
        attributes={name: np.concatenate([p.attributes[name] for p in parts]) for name in names},
        users=np.concatenate([part.users for part in parts]),
        spend=np.concatenate([part.spend for part in parts]),
        values=np.concatenate([part.values for part in parts]),
        snapshot=np.concatenate([part.snapshot for part in parts]),
    )


def export(history: History, date: str) -> History:
    """The snapshot of a history that is exported on a day."""
    known = history.until(date)
    return replace(known, snapshot=np.full(len(known), np.datetime64(date)))


def select_cohorts(history: History, is_selected: Bools) -> History:
    """Some of the rows of a history."""
    return select_vintages(history, is_selected)


def rescale(history: History, factor: float, is_scaled: Bools | None = None) -> History:
    """A history with the values of some rows (None: all) times a factor."""
    scaled = np.ones(len(history), dtype=bool) if is_scaled is None else is_scaled
    return replace(
        history, values=np.where(scaled[:, None], history.values * factor, history.values)
    )


def with_attributes(history: History, attributes: Mapping[str, Strings]) -> History:
    """A history with other attributes."""
    return replace(history, attributes=dict(attributes))


def with_totals(history: History) -> History:
    """A history whose values are those of a cohort and not of a user."""
    totals: Floats = history.values * history.users[:, None]
    return replace(history, values=totals)


def findings_about(history: History) -> list[Finding]:
    """All findings about a history."""
    return list(inspect_history(history).findings)


def only_finding(history: History) -> Finding:
    """The one finding about a history."""
    (finding,) = findings_about(history)
    return finding


def texts(findings: list[Finding]) -> str:
    """Findings in lines, with their severity."""
    return "\n".join(f"{finding.severity} {finding.as_text()}" for finding in findings)


def latest(history: History) -> Curves:
    """What a history knows on its last day."""
    return history.as_of(history.last_day)
