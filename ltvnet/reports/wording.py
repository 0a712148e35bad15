"""Numbers in words: percentages, directions and counts."""

import numpy as np


def percent(share: float, *, exact: bool = False) -> str:
    """The size of a share for reading: 17 %, with one decimal below a tenth or where `exact`."""
    if not np.isfinite(share):
        return "\N{EN DASH}"
    size = 100 * abs(share)
    return f"{size:.1f} %" if exact or size < 9.95 else f"{size:.0f} %"


def bias_in_words(bias: float) -> str:
    """Which way forecasts were off, and how far: 2.0 % too high."""
    if abs(bias) < 0.0005:
        return "neither too high nor too low"
    return f"{percent(bias)} too {'high' if bias > 0 else 'low'}"


def count_with_noun(count: int, noun: str) -> str:
    """A number of things: 1 day, 1,200 days."""
    return f"{count:,} {noun}{'s' * (count != 1)}"
