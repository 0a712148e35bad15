"""Findings about cohort data: odd things that are told, with numbers and a way out.

A finding is no fault of a single cell (`checks` has those): it is seen only when many cohorts, two
snapshots or data and bundle are laid side by side.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

log = logging.getLogger(__name__)

Severity = Literal["note", "warning", "refusal"]
"""`note` is good to know, `warning` may be wrong, `refusal` would move money wrongly."""

NAMES_SHOWN = 3
"""Names of cohorts, campaigns or columns that one message lists at most."""


@dataclass(frozen=True)
class Finding:
    """An odd thing in the data.

    `subject` in a word or two, such as "level"; `message` with numbers and names; `way_out` the
    next thing to do, "" where nothing needs to be done.
    """

    severity: Severity
    subject: str
    message: str
    way_out: str = ""

    def as_text(self) -> str:
        """The finding in one line."""
        line = f"{self.subject}: {self.message}"
        return f"{line}; {self.way_out}" if self.way_out else line


def report_findings(findings: Sequence[Finding]) -> None:
    """Log notes and warnings. Raises ValueError that lists all refusals, where there are any."""
    log_findings(findings)
    raise_refusals(findings)


def log_findings(findings: Sequence[Finding]) -> None:
    """Log notes and warnings, a line each."""
    for finding in findings:
        if finding.severity == "note":
            log.info("%s", finding.as_text())
        elif finding.severity == "warning":
            log.warning("%s", finding.as_text())


def raise_refusals(findings: Sequence[Finding]) -> None:
    """Raise ValueError that lists all refusals, where there are any."""
    refusals = [finding.as_text() for finding in findings if finding.severity == "refusal"]
    if refusals:
        raise ValueError("\n".join(refusals))


def list_names(names: Iterable[object]) -> str:
    """List the first few names, and how many more there are.

    >>> list_names("abcde")
    'a, b, c and 2 more'
    """
    texts = [str(name) for name in names]
    shown = ", ".join(texts[:NAMES_SHOWN])
    more = len(texts) - NAMES_SHOWN
    return f"{shown} and {more:,} more" if more > 0 else shown


def format_factor(factor: float) -> str:
    """Word a factor between two levels, such as "x1,350" or "x1/20".

    >>> format_factor(1350.2), format_factor(0.05), format_factor(2.57)
    ('x1,350', 'x1/20', 'x2.6')
    """
    if factor <= 0:
        return "x0"
    if factor < 1:
        return f"x1/{format_factor(1 / factor)[1:]}"
    return f"x{factor:,.0f}" if factor >= 10 else f"x{factor:.2g}"


def quote_option(key: str, value: str) -> str:
    """Return an option as a shell takes it: quoted, for its value has brackets or blanks.

    A quote within the value ends the quoted word, is escaped, and begins it anew.
    """
    escaped = value.replace("'", "'\\''")
    return f"'{key}={escaped}'"


def format_list(names: Iterable[str]) -> str:
    """Return names as a list on the command line."""
    return "[" + ",".join(map(format_word, names)) + "]"


def format_word(text: str) -> str:
    """Return a text as a value of the command line; quoted where it is not one plain word.

    >>> print(format_word("alpha_2024"), format_word("Spring sale (KR)"))
    alpha_2024 "Spring sale (KR)"
    """
    is_plain = bool(text) and all(c.isascii() and (c.isalnum() or c in "_-.") for c in text)
    is_plain = is_plain and not text[0].isdigit() and text.lower() not in ("null", "true", "false")
    if is_plain:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
