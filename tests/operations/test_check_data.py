"""Data are looked into without training anything."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories.cohorts import weekly_history
from factories.configs import PATTERN
from factories.models import make_forecaster
from factories.snapshots import export, join_snapshots, latest, rescale, select_cohorts
from factories.sources import MemorySource

from ltvnet.data.cohort_tables import Files, write_cohorts
from ltvnet.data.curves import History
from ltvnet.data.overview import find_gaps_in_dates
from ltvnet.operations.check_data import check_data
from ltvnet.operations.origin_day import find_origin
from ltvnet.prediction.bundle import save
from ltvnet.reports.data_summary import describe_overview


@pytest.fixture(scope="module")
def history() -> History:
    """Two exports of weekly cohorts of two apps."""
    cohorts = weekly_history(57)
    return join_snapshots(export(cohorts, "2024-01-25"), export(cohorts, "2024-02-01"))


def test_what_is_in_the_data(history: History) -> None:
    overview = check_data(MemorySource(history))
    assert overview.cohorts == 114
    assert overview.new_cohorts == 2
    assert overview.values == {"Apps": 2}
    assert overview.period_days == 7
    assert overview.gaps == []
    assert overview.findings == ()
    newest = latest(history)
    assert overview.matured[30] == (newest.observed_age >= 30).sum()


def test_the_level_stands_beside_last_weeks(history: History) -> None:
    levels = check_data(MemorySource(history)).levels
    assert list(levels) == ["now", "newest", "before", "cohorts", "users"]
    before = history.as_of("2024-01-25")
    is_known = (before.attributes["Apps"] == "a") & (before.observed_age >= 7)
    users = before.users[is_known]
    expected = (users * before.values[is_known, 7]).sum() / users.sum()
    assert levels["before"][("a", 7)] == pytest.approx(expected)


def test_an_overview_is_worded(history: History) -> None:
    text = describe_overview(check_data(MemorySource(history)))
    assert "cohorts     114, each of a week, acquired 2023-01-02 to 2024-02-04; 2 are new" in text
    assert "attributes  Apps 2\n" in text
    assert "gaps        none" in text
    assert "history     never restated" in text
    assert text.endswith("nothing odd was found")
    assert "Apps a" in text


def test_refusals_are_findings_of_a_check(history: History, tmp_path: Path) -> None:
    write_cohorts(latest(history), tmp_path / "x_2024_02_01.csv")
    frame = pd.read_csv(tmp_path / "x_2024_02_01.csv")
    frame.loc[0, "Date"] = "1900-01-01"
    frame.to_csv(tmp_path / "x_2024_02_01.csv", index=False)
    overview = check_data(Files(path=tmp_path / "x_2024_02_01.csv"))
    assert [finding.severity for finding in overview.findings] == ["refusal"]
    assert "REFUSAL: dates: 1 of 114 rows" in describe_overview(overview)
    assert overview.layout == "ltvnet's own columns"


def test_data_are_compared_with_a_bundle(history: History, tmp_path: Path) -> None:
    curves = latest(history)
    save(tmp_path / "bundle", "pattern", make_forecaster(PATTERN).fit(curves), curves, {})
    assert check_data(MemorySource(history), tmp_path / "bundle").findings == ()
    odd = check_data(MemorySource(rescale(history, 1350.0)), tmp_path / "bundle")
    assert [finding.severity for finding in odd.findings] == ["refusal"]


def test_gaps_are_weeks_without_cohorts(history: History) -> None:
    gone = np.array(["2023-05-01", "2023-05-08", "2023-09-04"], dtype="datetime64[D]")
    with_gaps = select_cohorts(history, ~np.isin(history.start, gone))
    gaps = check_data(MemorySource(with_gaps)).gaps
    assert [f"{first} {last}" for first, last in gaps] == [
        "2023-05-01 2023-05-14",
        "2023-09-04 2023-09-10",
    ]


def test_days_that_never_have_a_cohort_are_no_gaps() -> None:
    mondays = np.arange(np.datetime64("2023-01-02"), np.datetime64("2023-06-05"), 7)
    assert find_gaps_in_dates(mondays, mondays) == []
    without_one = np.delete(mondays, 5)
    assert len(find_gaps_in_dates(without_one, without_one)) == 1


def test_a_day_before_all_cohorts_is_named(history: History) -> None:
    source = MemorySource(history)
    with pytest.raises(ValueError, match="no cohort had begun by as_of=2020-01-01: the first beg"):
        find_origin(source, history, "2020-01-01")
    assert find_origin(source, history, "2023-06-01") == np.datetime64("2023-06-01")
    assert find_origin(source, history, None) == history.last_day
