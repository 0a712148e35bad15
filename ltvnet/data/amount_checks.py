"""Users and spend that are odd: fractions of users, spend of some cohorts alone.

Shapes: N cohorts.
"""

import numpy as np

from ltvnet.data.arrays import Floats
from ltvnet.data.curves import Curves
from ltvnet.data.findings import Finding, Severity, list_names

_MIN_UNPAID_SHARE = 0.05
"""Share of users in segments without any spend from which on it is worth a warning."""

_MAX_FRACTIONS_SHARE = 0.01
"""A count of users may be a fraction in so few cohorts without a word."""

_FREE_SOURCES = (
    "organic",
    "direct",
    "referral",
    "(none)",
    "not set",
    "unattributed",
    "자연",
    "오가닉",
)
"""Words in the names of sources whose users cost nothing."""


def find_fractional_users(curves: Curves) -> list[Finding]:
    """Find users that are fractions, above all those that a thousands separator made of them."""
    users = curves.users[np.isfinite(curves.users)]
    is_fraction = users % 1 != 0
    if not len(users) or is_fraction.mean() <= _MAX_FRACTIONS_SHARE:
        return []
    shown = list_names(f"{value:.6g}" for value in users[is_fraction][:100])
    if _look_like_thousands(users):
        message = (
            f"{is_fraction.sum():,} of {len(users):,} cohorts have users with three decimals and "
            f"none has 1,000 or more ({shown}): a thousands separator was read as a decimal point"
        )
        way_out = "write 1204 for 1.204; where fractions have commas, set data.format.decimal=comma"
        return [Finding("refusal", "users", message, way_out)]
    message = f"{is_fraction.sum():,} of {len(users):,} cohorts have a fraction of a user ({shown})"
    return [Finding("warning", "users", message, "is another column that of the users?")]


def _look_like_thousands(users: Floats) -> bool:
    """Return whether counts were divided by 1,000 where they had a separator.

    Fractions then have three decimals and lie above 1, and no count has four digits.
    """
    fractions = users[users % 1 != 0]
    thousandths = fractions * 1000
    has_three_decimals = np.abs(thousandths - np.round(thousandths)) < 1e-6
    needs_three = np.abs(fractions * 100 - np.round(fractions * 100)) > 1e-6
    return bool(
        has_three_decimals.all()
        and needs_three.mean() > 0.5
        and (fractions >= 1).all()
        and (users < 1000).all()
    )


def find_missing_spend(curves: Curves) -> list[Finding]:
    """Find segments of which some cohorts have spend and others none.

    Segments without any, such as organic users, are right.
    """
    has_ended = curves.observed_age >= 0
    is_known = np.isfinite(curves.spend)
    if not (is_known & has_ended).any():
        return []
    segment, keys = curves.segments(len(curves.hierarchy))
    count = int(segment.max(initial=0)) + 1
    known = np.bincount(segment[has_ended & is_known], minlength=count)
    unknown = np.bincount(segment[has_ended & ~is_known], minlength=count)

    findings = []
    is_partly_known = (known > 0) & (unknown > 0)
    if is_partly_known.any():
        is_missing = has_ended & ~is_known & is_partly_known[segment]
        users = np.nansum(curves.users[is_missing]) / np.nansum(curves.users[has_ended])
        message = (
            f"{is_missing.sum():,} of {has_ended.sum():,} cohorts have no spend, though others of "
            f"their segment do ({100 * users:.0f} % of users): revenue of all beside spend of some "
            "is no return on it"
        )
        way_out = "fill the spend in; 0 where nothing was spent"
        findings.append(Finding("warning", "spend", message, way_out))
    unpaid = [keys[number] for number in np.flatnonzero((known == 0) & (unknown > 0))]
    if paid_names := [key for key in unpaid if not _is_organic(key)]:
        is_missing = has_ended & np.isin(segment, [keys.index(key) for key in paid_names])
        users = np.nansum(curves.users[is_missing]) / np.nansum(curves.users[has_ended])
        names = list_names(" ".join(key) for key in paid_names)
        message = (
            f"no cohort of {names} has spend: {is_missing.sum():,} of {has_ended.sum():,} "
            f"({100 * users:.0f} % of users); revenue of all beside spend of some is no return"
        )
        severity: Severity = "warning" if users >= _MIN_UNPAID_SHARE else "note"
        way_out = "fill the spend in; 0 where it is free"
        findings.append(Finding(severity, "spend", message, way_out))
    return findings


def _is_organic(key: tuple[str, ...]) -> bool:
    """Return whether a segment is of users that cost nothing, by the words in its name."""
    return any(word in value.lower() for value in key for word in _FREE_SOURCES)
