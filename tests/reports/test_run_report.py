"""The scores of a run, as a terminal shows them."""

import numpy as np
import pandas as pd
from factories.cohorts import identical_weekly_history
from factories.records import past_record

from ltvnet.backtesting.scores import score_table
from ltvnet.reports.run_report import terminal_score_table, vintage_note


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


def test_vintages_are_told_from_one_export() -> None:
    export = identical_weekly_history()
    days = export.snapshot.min() + np.arange(-2, 2) * np.timedelta64(7, "D")
    assert vintage_note(export, days[:2]) == "cut by date, not by vintage"
    assert vintage_note(export, days[2:]) == "as exported by then"
    assert vintage_note(export, days) == "2 of 4 days cut by date, not by vintage"
