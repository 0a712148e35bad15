"""The leaderboard in words and tables."""

from collections.abc import Sequence

import numpy as np

from ltvnet.reports.wording import percent

LEGEND = (
    "The score is the mean WAPE at D90, D180 and D360 of cohorts cut to 7 and 30 days; all models "
    "are scored on the same cells, which have matured and are not extrapolated. Skill is the share "
    "of the best single baseline's score that is saved, its 95 % interval from resampled "
    "acquisition weeks. Bias, coverage and Gini are those of the same forecasts. Excess is the "
    "error above the oracle's, chain ladder's is 1. Parameters are the numbers that a fitted model "
    "holds, of trees the characters of their text. * a baseline: corrected and calibrated like "
    "the others, but not blended with the pattern."
)
"""How to read a leaderboard."""


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _exact(share: float) -> str:
    return percent(share, exact=True)


def _signed(share: float) -> str:
    sign = "" if not np.isfinite(share) else "+" if share > 0 else "\N{MINUS SIGN}" * (share < 0)
    return sign + _exact(share)


def _ratio(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else _exact(value)


def _count(value: float) -> str:
    return f"{value:,.0f}" if np.isfinite(value) else _exact(value)


_COLUMNS = {
    "score": ("score", _exact),
    "skill": ("skill", _signed),
    "bias_d180": ("bias D180", _signed),
    "bias_d360": ("bias D360", _signed),
    "coverage": ("80 % held", _exact),
    "gini_d180": ("Gini D180", _ratio),
    "excess_d180": ("excess D180", _ratio),
    "excess_d360": ("excess D360", _ratio),
    "fit_seconds": ("seconds a fit", _ratio),
    "parameters": ("parameters", _count),
}
