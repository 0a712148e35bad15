"""The leaderboard in words and tables."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ltvnet.backtesting.leaderboard import Leaderboard
from ltvnet.reports.findings import NOTHING
from ltvnet.reports.wording import percent
from ltvnet.storage import whole

Rows = list[list[str]]
"""The rows of a table, as text."""

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


def finding(board: Leaderboard) -> str:
    """Say which model is the closest, in a sentence."""
    own, other = board.champion, board.best_baseline
    if own is None and other is None:
        return "Nothing has matured at the ages of the score" if board.weeks.empty else NOTHING
    if own is None or other is None:
        best = str(own or other)
        return f"{best} is the closest: its score is {_exact(board.scores[best])}"
    found = board.against(own, other)
    said = f"{own} is {_exact(found.skill)} {'closer' if found.skill >= 0 else 'further off'}"
    said += f" than the best single baseline, {other}"
    if np.isnan(found.skill_low):
        return said
    chance = "" if found.better or found.worse else ", which may be chance"
    low, high = _signed(found.skill_low), _signed(found.skill_high)
    return f"{said}{chance} (95 % interval of the error saved: {low} to {high})"


def summary(board: Leaderboard) -> tuple[list[str], Rows]:
    """Return the head and the rows of the table of models, as text."""
    asked = [name for name in _COLUMNS if board.table[name].notna().any()]
    rows = []
    for model, row in board.table.iterrows():
        cells = {name: _COLUMNS[name][1](row[name]) for name in asked}
        if np.isfinite(row["skill_low"]) and row["skill_low"] < row["skill_high"]:
            cells["skill"] += f" [{_signed(row['skill_low'])}, {_signed(row['skill_high'])}]"
        rows.append([_named(board, model), *cells.values()])
    return ["model", *(_COLUMNS[name][0] for name in asked)], rows


def errors(board: Leaderboard) -> Iterator[tuple[str, list[str], Rows]]:
    """Yield for each observed age a heading, and the head and the rows of a table of WAPE."""
    wape = board.cells.groupby(["model", "observed_age", "horizon"])["wape"].mean()
    for age in wape.index.unique("observed_age"):
        cells = wape.xs(age, level="observed_age").unstack("horizon").loc[board.table.index]
        head = ["model", *(f"D{horizon}" for horizon in cells)]
        rows = [[_named(board, name), *map(_exact, row)] for name, row in cells.iterrows()]
        yield f"Error (WAPE) of forecasts on day {age}", head, rows


def _named(board: Leaderboard, model: object) -> str:
    return f"{model} *" if board.baseline[str(model)] else str(model)


def as_markdown(board: Leaderboard) -> str:
    """Return the leaderboard as Markdown: finding, models, their errors, how to read it."""
    parts = [f"**{finding(board)}**", markdown(*summary(board))]
    for heading, head, rows in errors(board):
        parts += [f"{heading}:", markdown(head, rows)]
    return "\n\n".join([*parts, LEGEND]) + "\n"


def write_markdown(board: Leaderboard, folder: Path) -> None:
    """Write `leaderboard.md` into a folder."""
    with whole(folder / "leaderboard.md") as path:
        path.write_text(as_markdown(board), encoding="utf-8")
