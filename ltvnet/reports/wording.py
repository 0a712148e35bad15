"""Numbers in words: percentages, directions, ratios, counts, seconds and money.

Every report words its numbers here, so that a number looks alike on a page, in a figure, in a
leaderboard and in a terminal. Shares are fractions: 0.17 is 17 %.
"""

import numpy as np

UNKNOWN = "\N{EN DASH}"
"""Shown instead of a number that nobody knows."""

MINUS = "\N{MINUS SIGN}"


def percent(share: float, *, exact: bool = False) -> str:
    """Return the size of a share: 17 %, with one decimal below a tenth or where `exact`."""
    if not np.isfinite(share):
        return UNKNOWN

    size = 100 * abs(share)
    if exact or size < 9.95:
        return f"{size:.1f} %"
    return f"{size:.0f} %"


def exact_percent(share: float) -> str:
    """Return the size of a share with one decimal: 17.2 %."""
    return percent(share, exact=True)


def signed_percent(share: float) -> str:
    """Return a share with its sign, as `percent` rounds it: +17 %; what rounds to 0 has none."""
    return _with_sign(share, percent(share))


def exact_signed_percent(share: float) -> str:
    """Return a share with its sign and one decimal: +17.2 %; what rounds to 0 has none."""
    return _with_sign(share, exact_percent(share))


def _with_sign(share: float, size: str, minus: str = MINUS) -> str:
    """Put the sign of a share before the words of its size, unless these say 0 or nothing."""
    is_visible = any(digit in size for digit in "123456789")
    if not is_visible:
        return size
    return f"{'+' if share > 0 else minus}{size}"


def fixed_percent(share: float, decimals: int) -> str:
    """Return a share with so many decimals, whatever its size: 17.20 %."""
    return f"{100 * share:.{decimals}f} %"


def fixed_signed_percent(share: float, decimals: int) -> str:
    """Return a share with an ASCII sign and so many decimals: -17.2 %; 0 has no sign."""
    return _with_sign(share, fixed_percent(abs(share), decimals), "-")


def terminal_percent(share: float, decimals: int = 1) -> str:
    """Return a share as short as a terminal wants it: 17.2%."""
    return f"{share:.{decimals}%}"


def terminal_signed_percent(share: float, decimals: int = 1) -> str:
    """Return a share with its ASCII sign, as short as a terminal wants it: +17.2%; 0 has none."""
    return _with_sign(share, terminal_percent(abs(share), decimals), "-")


def bias_in_words(bias: float) -> str:
    """Return in which direction forecasts were off, and how far: 2.0 % too high."""
    if abs(bias) < 0.0005:
        return "neither too high nor too low"
    side = "high" if bias > 0 else "low"
    return f"{percent(bias)} too {side}"


def ratio(value: float) -> str:
    """Return a ratio with two decimals: 0.85."""
    return f"{value:.2f}" if np.isfinite(value) else UNKNOWN


def count(value: float) -> str:
    """Return a number of things: 1,200."""
    return f"{value:,.0f}" if np.isfinite(value) else UNKNOWN


def count_with_noun(number: int, noun: str) -> str:
    """Return a number of things and what they are: 1 day, 1,200 days."""
    plural = "" if number == 1 else "s"
    return f"{number:,} {noun}{plural}"


def seconds(value: float) -> str:
    """Return seconds with one decimal: 1.5."""
    return f"{value:.1f}" if np.isfinite(value) else UNKNOWN


def amount(value: float) -> str:
    """Return an amount of money: whole from 100 on and where it is whole, else with cents."""
    if np.isnan(value):
        return UNKNOWN
    is_whole = abs(value) >= 100 or value == round(value, 0)
    return f"{value:,.0f}" if is_whole else f"{value:,.2f}"


def signed_amount(value: float) -> str:
    """Return an amount of money that is added, with its sign; 0 where it cannot be seen."""
    size = amount(abs(value))
    is_visible = bool(size.strip("0."))
    if not is_visible:
        return "0"
    sign = "+" if value > 0 else MINUS
    return sign + size
