"""Nothing overwrites what was issued: more cohorts are added, other forecasts are revisions."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories.cohorts import weekly_history
from factories.ledgers import assert_same_entries, file_contents

from ltvnet.backtesting import issuing
from ltvnet.backtesting.issuing import IssueSummary, issue_forecasts
from ltvnet.backtesting.ledger import Ledger, LedgerEntries
from ltvnet.data.curves import NODES
from ltvnet.forecasting.forecast import Band, Forecast
from ltvnet.storage import lock_folder

ORIGIN = np.datetime64("2023-06-01")


def entries(scale: float = 1.0) -> LedgerEntries:
    """Forecasts of two apps, all of them `scale` times as high."""
    curves = weekly_history(20, ("a", "b")).as_of(ORIGIN)
    is_ahead = np.array(NODES) > curves.observed_age[:, None]
    band = Band.from_mean(np.where(is_ahead, scale * curves.users[:, None], np.nan))
    reason = np.full(len(curves), "ok", dtype=object)
    forecast = Forecast(curves, np.array(NODES), band.mean, band, band, reason, 360)
    return LedgerEntries.from_forecast(forecast, curves.observed_age)


def issue(folder: Path, issued: LedgerEntries) -> IssueSummary:
    return issue_forecasts(Ledger(folder), "m-1", issued, "b-1", ORIGIN)


def of_app(issued: LedgerEntries, app: str) -> LedgerEntries:
    rows = issued.take(issued.attributes["Apps"] == app)
    return LedgerEntries.concatenate([rows])  # with the keys of its own cohorts alone


def test_other_cohorts_are_added(tmp_path: Path) -> None:
    apps = [of_app(entries(), app) for app in ("b", "a")]
    counts = [issue(tmp_path, part) for part in apps]
    assert [(c.added, c.unchanged, c.revised) for c in counts] == [(len(apps[0]), 0, 0)] * 2
    ledger = Ledger(tmp_path)
    assert_same_entries(ledger.read("m-1", [ORIGIN], ("Apps",)), entries())

    issue(tmp_path / "once", entries())  # to the byte what one call writes
    path = ledger.path("m-1", ORIGIN)
    assert path.read_bytes() == Ledger(tmp_path / "once").path("m-1", ORIGIN).read_bytes()


def test_forecasts_that_are_there_change_nothing(tmp_path: Path) -> None:
    issue(tmp_path, entries())
    once = file_contents(tmp_path)
    for again in (entries(), of_app(entries(), "a"), entries(1 + 1e-7)):
        summary = issue(tmp_path, again)
        assert (summary.added, summary.unchanged, summary.revised) == (0, len(again), 0)
        assert file_contents(tmp_path) == once and summary.revision is None


def test_other_forecasts_are_kept_beside_the_first(tmp_path: Path) -> None:
    first, later = entries(), entries(1.1)
    issue(tmp_path, of_app(first, "a"))
    once = file_contents(tmp_path)
    summary = issue(tmp_path, of_app(later, "a"))
    assert summary.revised == len(of_app(first, "a")) and summary.added == 0
    assert summary.revision == str(tmp_path / "_revisions/origin=2023-06-01/m-1.1.parquet")
    assert "their first forecasts stay as issued" in summary.as_text()
    assert once.items() <= file_contents(tmp_path).items()

    revisions = Ledger(tmp_path / "_revisions")
    assert_same_entries(revisions.read("m-1.1", [ORIGIN], ("Apps",)), of_app(later, "a"))
    ledger = Ledger(tmp_path)
    assert_same_entries(ledger.read("m-1", [ORIGIN], ("Apps",)), of_app(first, "a"))
    assert len(pd.read_parquet(tmp_path)) == of_app(first, "a").has_forecast.sum()


def test_two_processes_may_issue_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One waits until the other has written; what each adds is there."""
    apps = [of_app(entries(), app) for app in ("b", "a")]
    waits: list[float] = []

    with ExitStack() as other_process:
        other_process.enter_context(lock_folder(tmp_path, "test"))

        def wait_while_the_other_writes(seconds: float) -> None:
            waits.append(seconds)
            Ledger(tmp_path).write("m-1", apps[0], "b-1", ORIGIN)
            other_process.close()

        monkeypatch.setattr(issuing, "sleep", wait_while_the_other_writes)
        issue(tmp_path, apps[1])
    assert len(waits) == 1
    assert_same_entries(Ledger(tmp_path).read("m-1", [ORIGIN], ("Apps",)), entries())


def test_a_ledger_that_stays_locked_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuing, "WAITING_SECONDS", 0.0)
    with lock_folder(tmp_path, "test"):
        with pytest.raises(ValueError, match="expected a folder in which no other run writes"):
            issue(tmp_path, entries())


def test_a_revision_is_written_once(tmp_path: Path) -> None:
    issue(tmp_path, entries())
    for part in (of_app(entries(2.0), "a"), of_app(entries(2.0), "b"), of_app(entries(3.0), "a")):
        issue(tmp_path, part)
        stored = file_contents(tmp_path)
        assert issue(tmp_path, part).revision is None
        assert file_contents(tmp_path) == stored
    assert len(stored) == 4
    assert issue(tmp_path, of_app(entries(2.0), "b")).revised == 0
    assert issue(tmp_path, of_app(entries(2.0), "a")).revised > 0  # a went on to 3.0


def test_new_cohorts_and_revised_ones_may_come_together(tmp_path: Path) -> None:
    issue(tmp_path, of_app(entries(), "a"))
    summary = issue(tmp_path, entries(1.5))
    counts = (summary.added, summary.unchanged, summary.revised)
    assert counts == (len(of_app(entries(), "b")), 0, len(of_app(entries(), "a")))
    stored = Ledger(tmp_path).read("m-1", [ORIGIN], ("Apps",))
    assert_same_entries(of_app(stored, "b"), of_app(entries(1.5), "b"))
    assert_same_entries(of_app(stored, "a"), of_app(entries(), "a"))


def test_data_that_changed_are_a_revision_though_the_forecast_is_not(tmp_path: Path) -> None:
    issue(tmp_path, entries())
    made = entries()
    assert issue(tmp_path, replace(made, observed_value=2 * made.observed_value)).revised
    assert issue(tmp_path, replace(made, users=made.users + 1)).revised == len(made)


def test_cohorts_by_other_attributes_are_refused(tmp_path: Path) -> None:
    issue(tmp_path, entries())
    once = file_contents(tmp_path)
    made = entries()
    other = replace(made, hierarchy=(), keys=made.keys.rename(["start", "end", "Game"]))
    with pytest.raises(ValueError, match="cohorts by start, end, Apps as in the ledger, got start"):
        issue(tmp_path, other)
    assert file_contents(tmp_path) == once
