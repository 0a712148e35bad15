"""The leaderboard in words and tables, for a page and as Markdown."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ltvnet.backtesting.leaderboard import Leaderboard
from ltvnet.reports.findings import NO_REVENUE
from ltvnet.reports.markdown import markdown_table
from ltvnet.reports.wording import count, exact_percent, exact_signed_percent, ratio
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

LEADERBOARD_COLUMNS = {
    "score": ("score", exact_percent),
    "skill": ("skill", exact_signed_percent),
    "bias_d180": ("bias D180", exact_signed_percent),
    "bias_d360": ("bias D360", exact_signed_percent),
    "coverage": ("80 % held", exact_percent),
    "gini_d180": ("Gini D180", ratio),
    "excess_d180": ("excess D180", ratio),
    "excess_d360": ("excess D360", ratio),
    "fit_seconds": ("seconds a fit", ratio),
    "parameters": ("parameters", count),
}
"""Columns of `Leaderboard.ranking` that are shown: their heading, and how a value is worded."""


def state_finding(board: Leaderboard) -> str:
    """Say which model is the closest, in a sentence."""
    champion, baseline = board.champion, board.best_baseline
    if champion is None and baseline is None:
        if board.weekly_sums.empty:
            return "Nothing has matured at the ages of the score"
        return NO_REVENUE
    versus = board.champion_comparison
    if versus is None:
        best = str(champion or baseline)
        return f"{best} is the closest: its score is {exact_percent(board.scores[best])}"

    comparative = "closer" if versus.skill >= 0 else "further off"
    finding = (
        f"{champion} is {exact_percent(versus.skill)} {comparative} "
        f"than the best single baseline, {baseline}"
    )
    if np.isnan(versus.skill_low):
        return finding
    is_significant = versus.is_better or versus.is_worse
    caveat = "" if is_significant else ", which may be chance"
    low = exact_signed_percent(versus.skill_low)
    high = exact_signed_percent(versus.skill_high)
    return f"{finding}{caveat} (95 % interval of the error saved: {low} to {high})"


def summary_table(board: Leaderboard) -> tuple[list[str], TableRows]:
    """Return the head and the rows of the table of models, as text."""
    ranking = board.ranking
    columns = [name for name in LEADERBOARD_COLUMNS if ranking[name].notna().any()]
    headings = [LEADERBOARD_COLUMNS[name][0] for name in columns]

    rows = []
    for model, values in ranking.iterrows():
        cells = {}
        for name in columns:
            _, word = LEADERBOARD_COLUMNS[name]
            cells[name] = word(values[name])

        low, high = values["skill_low"], values["skill_high"]
        if np.isfinite(low) and low < high:
            cells["skill"] += f" [{exact_signed_percent(low)}, {exact_signed_percent(high)}]"
        rows.append([_name_with_star(board, model), *cells.values()])
    return ["model", *headings], rows


def error_tables(board: Leaderboard) -> Iterator[tuple[str, list[str], TableRows]]:
    """Yield for each observed age a heading, and the head and the rows of a table of WAPE."""
    for age, by_horizon in board.wape_by_age.items():
        head = ["model", *(f"D{horizon}" for horizon in by_horizon)]
        rows = [
            [_name_with_star(board, model), *map(exact_percent, errors)]
            for model, errors in by_horizon.iterrows()
        ]
        yield f"Error (WAPE) of forecasts on day {age}", head, rows


def _name_with_star(board: Leaderboard, model: object) -> str:
    """Return the name of a model, with a star where it is a baseline."""
    return f"{model} *" if board.is_baseline[str(model)] else str(model)


def as_markdown(board: Leaderboard) -> str:
    """Return the leaderboard as Markdown: finding, models, their errors, how to read it."""
    blocks = [f"**{state_finding(board)}**", markdown_table(*summary_table(board))]
    for heading, head, rows in error_tables(board):
        blocks += [f"{heading}:", markdown_table(head, rows)]
    return "\n\n".join([*blocks, LEADERBOARD_LEGEND]) + "\n"


def write_markdown(board: Leaderboard, folder: Path) -> None:
    """Write `leaderboard.md` into a folder."""
    with atomic_write(folder / "leaderboard.md") as path:
        path.write_text(as_markdown(board), encoding="utf-8")
