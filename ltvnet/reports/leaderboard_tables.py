"""The leaderboard in words and tables."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ltvnet.backtesting.leaderboard import Leaderboard
from ltvnet.reports.findings import NO_REVENUE
from ltvnet.reports.wording import percent
from ltvnet.storage import atomic_write

TableRows = list[list[str]]
"""The rows of a table, as text."""

LEADERBOARD_LEGEND = (
    "The score is the mean WAPE at D90, D180 and D360 of cohorts cut to 7 and 30 days; all models "
    "are scored on the same cells, which have matured and are not extrapolated. Skill is the share "
    "of the best single baseline's score that is saved, its 95 % interval from resampled "
    "acquisition weeks. Bias, coverage and Gini are those of the same forecasts. Excess is the "
    "error above the oracle's, chain ladder's is 1. Parameters are the numbers that a fitted model "
    "holds, of trees the characters of their text. * a baseline: corrected and calibrated like "
    "the others, but not blended with the pattern."
)
"""How to read a leaderboard."""


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def exact_percent(share: float) -> str:
    return percent(share, exact=True)


def exact_signed_percent(share: float) -> str:
    sign = "" if not np.isfinite(share) else "+" if share > 0 else "\N{MINUS SIGN}" * (share < 0)
    return sign + exact_percent(share)


def _ratio(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else exact_percent(value)


def _count(value: float) -> str:
    return f"{value:,.0f}" if np.isfinite(value) else exact_percent(value)


LEADERBOARD_COLUMNS = {
    "score": ("score", exact_percent),
    "skill": ("skill", exact_signed_percent),
    "bias_d180": ("bias D180", exact_signed_percent),
    "bias_d360": ("bias D360", exact_signed_percent),
    "coverage": ("80 % held", exact_percent),
    "gini_d180": ("Gini D180", _ratio),
    "excess_d180": ("excess D180", _ratio),
    "excess_d360": ("excess D360", _ratio),
    "fit_seconds": ("seconds a fit", _ratio),
    "parameters": ("parameters", _count),
}


def state_finding(board: Leaderboard) -> str:
    """Say which model is the closest, in a sentence."""
    own, other = board.champion, board.best_baseline
    if own is None and other is None:
        return (
            "Nothing has matured at the ages of the score"
            if board.weekly_sums.empty
            else NO_REVENUE
        )
    if own is None or other is None:
        best = str(own or other)
        return f"{best} is the closest: its score is {exact_percent(board.scores[best])}"
    found = board.compare_scores(own, other)
    said = (
        f"{own} is {exact_percent(found.skill)} {'closer' if found.skill >= 0 else 'further off'}"
    )
    said += f" than the best single baseline, {other}"
    if np.isnan(found.skill_low):
        return said
    chance = "" if found.is_better or found.is_worse else ", which may be chance"
    low, high = exact_signed_percent(found.skill_low), exact_signed_percent(found.skill_high)
    return f"{said}{chance} (95 % interval of the error saved: {low} to {high})"


def summary_table(board: Leaderboard) -> tuple[list[str], TableRows]:
    """Return the head and the rows of the table of models, as text."""
    asked = [name for name in LEADERBOARD_COLUMNS if board.ranking[name].notna().any()]
    rows = []
    for model, row in board.ranking.iterrows():
        cells = {name: LEADERBOARD_COLUMNS[name][1](row[name]) for name in asked}
        if np.isfinite(row["skill_low"]) and row["skill_low"] < row["skill_high"]:
            cells["skill"] += (
                f" [{exact_signed_percent(row['skill_low'])}, {exact_signed_percent(row['skill_high'])}]"
            )
        rows.append([_named(board, model), *cells.values()])
    return ["model", *(LEADERBOARD_COLUMNS[name][0] for name in asked)], rows


def error_tables(board: Leaderboard) -> Iterator[tuple[str, list[str], TableRows]]:
    """Yield for each observed age a heading, and the head and the rows of a table of WAPE."""
    wape = board.cells.groupby(["model", "observed_age", "horizon"])["wape"].mean()
    for age in wape.index.unique("observed_age"):
        cells = wape.xs(age, level="observed_age").unstack("horizon").loc[board.ranking.index]
        head = ["model", *(f"D{horizon}" for horizon in cells)]
        rows = [[_named(board, name), *map(exact_percent, row)] for name, row in cells.iterrows()]
        yield f"Error (WAPE) of forecasts on day {age}", head, rows


def _named(board: Leaderboard, model: object) -> str:
    return f"{model} *" if board.is_baseline[str(model)] else str(model)


def as_markdown(board: Leaderboard) -> str:
    """Return the leaderboard as Markdown: finding, models, their errors, how to read it."""
    parts = [f"**{state_finding(board)}**", markdown_table(*summary_table(board))]
    for heading, head, rows in error_tables(board):
        parts += [f"{heading}:", markdown_table(head, rows)]
    return "\n\n".join([*parts, LEADERBOARD_LEGEND]) + "\n"


def write_markdown(board: Leaderboard, folder: Path) -> None:
    """Write `leaderboard.md` into a folder."""
    with atomic_write(folder / "leaderboard.md") as path:
        path.write_text(as_markdown(board), encoding="utf-8")
