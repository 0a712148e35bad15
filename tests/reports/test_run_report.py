"""The scores of a run, as a terminal shows them."""

import numpy as np
import pandas as pd
from factories.cohorts import identical_weekly_history
from factories.records import past_record

from ltvnet.backtesting.scores import score_table
from ltvnet.reports.run_report import replay_notes, terminal_score_table


def test_nothing_to_say_is_no_table() -> None:
    assert terminal_score_table(pd.DataFrame(), {}, "nothing") == ""


def test_scores_that_are_known_stand_below_the_table() -> None:
    table = score_table(past_record(), (7,))
    text = terminal_score_table(table, {"net": 0.1, "pattern": None}, "the past")
    assert "the past" in text and "D360" in text and "10.0%" in text
    note = "score (mean WAPE at D90, D180, D360 of cohorts cut to 7 and 30 days): net 10.0%"
    assert text.endswith(note)

    no_rows = terminal_score_table(table[:0], {"net": None}, "the past")
    assert "observed days" in no_rows and "score (" not in no_rows


def test_notes_say_which_days_were_replayed_and_on_which_exports() -> None:
    export = identical_weekly_history()
    days = export.snapshot.min() + np.arange(-2, 2) * np.timedelta64(7, "D")
    before, since, both = (replay_notes(export, part) for part in (days[:2], days[2:], days))
    assert before[0] == (
        f"Forecasts of 2 past days, {days[0]} to {days[1]}, were made with what was known then, by "
        "models fitted to that."
    )
    assert before[1].startswith("There is no export of that time, so what was known then is taken")
    assert since[1] == "What was known then is taken from the exports of the time."
    assert both[1].startswith("Of 2 of the 4 past days there is no export, so what was known then")
    assert replay_notes(export, days[:1])[0].startswith(f"Forecasts of 1 past day, {days[0]}, were")
    assert len(replay_notes(export, days[:0])) == 1
