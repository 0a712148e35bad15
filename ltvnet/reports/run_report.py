"""The scores of a run as a table for a terminal, and how its past was cut out of the history."""

import io
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ltvnet.data.arrays import Days
from ltvnet.data.curves import History
from ltvnet.reports.wording import count_with_noun, terminal_percent, terminal_signed_percent

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


def replay_notes(history: History, days: Days) -> list[str]:
    """Say on which past days forecasts were made again, and what was known of each of them."""
    past_days = np.unique(days)
    if not len(past_days):
        return ["No past day was forecast: too little was known then, or has come true since."]
    period = f"{past_days[0]}"
    if len(past_days) > 1:
        period += f" to {past_days[-1]}"
    return [
        f"Forecasts of {count_with_noun(len(past_days), 'past day')}, {period}, were made with "
        "what was known then, by models fitted to that.",
        _describe_exports(history, past_days),
    ]


def _describe_exports(history: History, past_days: Days) -> str:
    """Say which exports tell what was known on past days: those of the time, or later ones."""
    before_exports = past_days[past_days < history.snapshot.min()]
    if not len(before_exports):
        return "What was known then is taken from the exports of the time."

    later_export = (
        "what was known then is taken from a later one, up to that day; what was corrected in "
        "between is not seen"
    )
    if len(before_exports) == len(past_days):
        return f"There is no export of that time, so {later_export}."
    return (
        f"Of {len(before_exports)} of the {len(past_days)} past days there is no export, so "
        f"{later_export}."
    )


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
