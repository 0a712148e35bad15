"""The scores of a run as a table for a terminal, and how its past was cut out of the history."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ltvnet.backtesting import scores
from ltvnet.backtesting.scores import BacktestRecord, score_table
from ltvnet.data.arrays import Days
from ltvnet.data.curves import History


def vintage_note(history: History, days: Days) -> str:
    """How past days were cut out of a history: those before its first export, by date."""
    cut = np.unique(days)[np.unique(days) < history.snapshot.min()]
    if len(cut) in (0, len(np.unique(days))):
        return "as exported by then" if not len(cut) else "cut by date, not by vintage"
    return f"{len(cut)} of {len(np.unique(days))} days cut by date, not by vintage"


def terminal_score_table(records: Sequence[BacktestRecord], title: str, *, exact: bool) -> str:
    """WAPE, bias and coverage as a table for a terminal; empty where nothing has matured.

    Of cohorts cut to exactly SCORED_AGES, or else of all by bucket of their own age.
    """
    from rich.console import Console
    from rich.table import Table

    found = pd.concat(
        [pd.DataFrame(), *(score_table(record, scores.SCORED_AGES) for record in records)]
    )
    if found.empty:
        return ""
    found = found[found.observed_age.isin(list(map(str, scores.SCORED_AGES))) == exact]
    drawn = Table(title=title)
    for name, column in _COLUMNS.items():
        if column in found:
            drawn.add_column(name, justify="left" if name == "model" else "right")
    for row in found.to_dict("records"):
        drawn.add_row(*(_cell(row, column) for column in _COLUMNS.values() if column in row))
    text = io.StringIO()
    Console(file=text, width=132).print(drawn)
    means = {record.name: scores.mean_wape(record) for record in records}
    if "pattern" not in means:
        means["pattern"] = scores.mean_wape(records[0], "pattern")
    said = ", ".join(f"{name} {mean:.1%}" for name, mean in means.items() if mean is not None)
    note = "score (mean WAPE at D90, D180, D360 of cohorts cut to 7 and 30 days)"
    return text.getvalue() + (f"{note}: {said}" if said else "")


_COLUMNS = {
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


def _cell(row: Mapping[Any, Any], column: str) -> str:
    value = row[column]
    if column == "skill":
        bounds = f" [{row['skill_low']:+.0%} {row['skill_high']:+.0%}]"
        return f"{value:+.0%}" + (bounds if np.isfinite(row["skill_low"]) else "")
    if column == "horizon":
        return f"D{value}"
    if not isinstance(value, float):
        return str(value)
    return "" if np.isnan(value) else f"{value:+.1%}" if column == "bias" else f"{value:.1%}"
