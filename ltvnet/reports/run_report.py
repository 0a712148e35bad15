"""The scores of a run as a table for a terminal, and how its past was cut out of the history."""

import io
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ltvnet.data.arrays import Days
from ltvnet.data.curves import History
from ltvnet.reports.wording import terminal_percent, terminal_signed_percent

COLUMNS = {
    "model": "model",
    "observed days": "observed_age",
    "horizon": "horizon",
    "cohorts": "n",
    "WAPE": "wape",
    "of pattern": "wape_pattern",
    "of oracle": "wape_oracle",
    "noise floor": "noise_floor",
    "skill": "skill",
    "bias": "bias",
    "80 % held": "coverage",
}
"""Headings of the terminal table, and the columns of `score_table` below them."""

TABLE_WIDTH = 132
"""Characters in a line of the terminal table."""


def vintage_note(history: History, days: Days) -> str:
    """Say how past days were cut out of a history: those before its first export, by date."""
    replayed_days = np.unique(days)
    cut_by_date = replayed_days[replayed_days < history.snapshot.min()]
    if not len(cut_by_date):
        return "as exported by then"
    if len(cut_by_date) == len(replayed_days):
        return "cut by date, not by vintage"
    return f"{len(cut_by_date)} of {len(replayed_days)} days cut by date, not by vintage"


def terminal_score_table(
    score_table: pd.DataFrame, mean_wapes: Mapping[str, float | None], title: str
) -> str:
    """Return WAPE, bias and coverage as a table for a terminal, and the scores below it.

    `score_table` the rows to draw, as `scores.score_table` has them: the text is empty where it
    has not even columns, as nothing has matured. `mean_wapes` the score of each model (None: not
    known).
    """
    if score_table.columns.empty:
        return ""
    text = _draw_table(score_table, title)
    known_scores = [
        f"{name} {terminal_percent(wape)}" for name, wape in mean_wapes.items() if wape is not None
    ]
    if not known_scores:
        return text
    note = "score (mean WAPE at D90, D180, D360 of cohorts cut to 7 and 30 days)"
    return f"{text}{note}: {', '.join(known_scores)}"


def _draw_table(table: pd.DataFrame, title: str) -> str:
    """Draw the rows of a score table in characters, with the columns of COLUMNS that it has."""
    from rich.console import Console
    from rich.table import Table

    drawing = Table(title=title)
    columns = {heading: column for heading, column in COLUMNS.items() if column in table}
    for heading in columns:
        drawing.add_column(heading, justify="left" if heading == "model" else "right")
    for row in table.to_dict("records"):
        drawing.add_row(*(_cell(row, column) for column in columns.values()))

    text = io.StringIO()
    Console(file=text, width=TABLE_WIDTH).print(drawing)
    return text.getvalue()


def _cell(row: Mapping[Hashable, Any], column: str) -> str:
    """Return a cell of the terminal table as text, empty where nothing is known."""
    value = row[column]
    if column == "skill":
        return _skill_with_interval(row)
    if column == "horizon":
        return f"D{value}"
    if not isinstance(value, float):
        return str(value)
    if np.isnan(value):
        return ""
    if column == "bias":
        return terminal_signed_percent(value)
    return terminal_percent(value)


def _skill_with_interval(row: Mapping[Hashable, Any]) -> str:
    """Return the skill of a row, with its 95 % interval where there is one."""
    skill = terminal_signed_percent(row["skill"], 0)
    if not np.isfinite(row["skill_low"]):
        return skill
    low = terminal_signed_percent(row["skill_low"], 0)
    high = terminal_signed_percent(row["skill_high"], 0)
    return f"{skill} [{low} {high}]"
