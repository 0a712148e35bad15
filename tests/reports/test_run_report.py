"""The scores of a run, as a terminal shows them."""

import numpy as np
from factories.cohorts import identical_weekly_history

from ltvnet.reports.run_report import terminal_score_table, vintage_note


def test_nothing_to_say_is_no_table() -> None:
    assert terminal_score_table([], "nothing", exact=True) == ""


def test_vintages_are_told_from_one_export() -> None:
    export = identical_weekly_history()
    days = export.snapshot.min() + np.arange(-2, 2) * np.timedelta64(7, "D")
    assert vintage_note(export, days[:2]) == "cut by date, not by vintage"
    assert vintage_note(export, days[2:]) == "as exported by then"
    assert vintage_note(export, days) == "2 of 4 days cut by date, not by vintage"
