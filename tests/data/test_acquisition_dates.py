"""Dates that stand for no day, typing errors, and ranges that overlap."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories.cohorts import curve, history, weekly_history
from factories.snapshots import export, findings_about, latest

from ltvnet.data.acquisition_dates import (
    OddDates,
    find_ages_in_months,
    find_first_days,
    find_odd_dates,
    find_overlaps,
    mark_odd_dates,
)
from ltvnet.data.cohort_tables import Files, write_cohorts


def days(*texts: str) -> np.ndarray:
    return np.array(texts, dtype="datetime64[D]")


WEEKS = np.arange(np.datetime64("2022-01-03"), np.datetime64("2024-01-01"), 7)


@pytest.mark.parametrize("date", ["1900-01-01", "0001-01-01", "9999-12-31", "2204-01-08"])
def test_placeholders_are_odd(date: str) -> None:
    start = np.concatenate([WEEKS, days(date)])
    assert mark_odd_dates(start, start).tolist() == [False] * len(WEEKS) + [True]
    (finding,) = find_odd_dates(start, start, "refuse")
    assert finding.severity == "refusal"
    assert f"({date}; the others: 2022-01-03 to" in finding.message
    assert [f.severity for f in find_odd_dates(start, start, "drop")] == ["warning"]
    assert [f.severity for f in find_odd_dates(start, start, "keep")] == ["note"]


def test_a_day_years_from_all_others_is_odd() -> None:
    start = np.concatenate([WEEKS, days("2018-01-01")])
    assert mark_odd_dates(start, start).sum() == 1
    start = np.concatenate([WEEKS, days("2020-01-01")])
    assert not mark_odd_dates(start, start).any()


def test_two_periods_of_many_cohorts_are_right() -> None:
    start = np.concatenate([WEEKS, WEEKS - 5 * 365])
    assert not mark_odd_dates(start, start).any()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A cohort table with one placeholder."""
    path = tmp_path / "cohorts_2024_02_01.csv"
    write_cohorts(weekly_history(30).as_of("2024-02-01"), path)
    frame = pd.read_csv(path)
    frame.loc[5, "Date"] = "1900-01-01~1900-01-07"
    frame.to_csv(path, index=False)
    return path


def test_files_refuse_drop_or_keep_them(table: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match=r"1 of 60 rows .*1900-01-01~1900-01-07.*odd_dates=drop"):
        Files(path=table).history()
    assert len(Files(path=table, odd_dates="drop").history()) == 59
    assert "left out, as data.odd_dates=drop" in caplog.text
    assert len(Files(path=table, odd_dates="keep").history()) == 60


def test_a_stream_refuses_and_drops_them_too(table: Path) -> None:
    with pytest.raises(ValueError, match="1900-01-01"):
        list(Files(path=table).curves(20))
    pieces = Files(path=table, odd_dates="drop").curves(100)
    assert sum(map(len, pieces)) == 59


def test_faults_of_a_dropped_row_do_not_matter(table: Path) -> None:
    frame = pd.read_csv(table)
    frame.loc[5, "Date"] = "2204-01-02~2204-01-08"  # so values lie after the as-of day
    frame.to_csv(table, index=False)
    with pytest.raises(ValueError, match="2204-01-02"):
        Files(path=table).history()
    assert len(Files(path=table, odd_dates="drop").history()) == 59


def test_a_month_beside_its_weeks_counts_twice() -> None:
    rows = [(f"2023-01-{day:02}", f"2023-01-{day + 6:02}", {"Apps": "a"}, 100.0, curve(360))
            for day in (2, 9, 16, 23)]  # fmt: skip
    month = ("2023-01-02", "2023-01-29", {"Apps": "a"}, 400.0, curve(330))
    other = ("2023-01-02", "2023-01-29", {"Apps": "b"}, 400.0, curve(330))
    assert find_overlaps(latest(history([*rows, other]))) == []
    (finding,) = find_overlaps(latest(history([*rows, month, other])))
    assert "dates of 5 cohorts" in finding.message
    assert "the longest of them have 400 (a 2023-01-02~2023-01-29)" in finding.message


def test_clean_weeks_do_not_overlap() -> None:
    assert findings_about(export(weekly_history(30), "2024-01-01")) == []
    rows = [("2023-01-02", "2023-01-08", {}, 1.0, curve(9))]
    assert find_overlaps(latest(history(rows))) == []


def write_days(folder: Path, *dates: str, spend: float = 100) -> Path:
    """A table of cohorts of ten users on each of some days, with revenue by D8."""
    columns = ["Date,Users,Spend", *(f"day_{age}" for age in range(9))]
    cells = ",".join(map(str, range(1, 10)))
    path = folder / "cohorts_2025_03_01.csv"
    rows = [f"{date},10,{spend},{cells}" for date in dates]
    path.write_text("\n".join([",".join(columns), *rows, ""]))
    return path


def days_of(year: int, count: int) -> list[str]:
    return [str(day) for day in np.datetime64(f"{year}-01-01") + np.arange(count)]


@pytest.mark.parametrize("rows", [301, 299, 100, 1000])
@pytest.mark.parametrize("choice", ["refuse", "drop"])
def test_a_stream_looks_at_the_dates_of_all_pieces(
    tmp_path: Path, rows: int, choice: OddDates
) -> None:
    """A piece may hold one cohort of a year, and the file half of all in that year."""
    path = write_days(tmp_path, *days_of(2018, 300), *days_of(2024, 300))
    source = Files(path=path, odd_dates=choice)
    assert sum(map(len, source.curves(rows))) == len(source.history()) == 600


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_odd_dates_of_a_stream_are_those_of_the_history(tmp_path: Path, rows: int) -> None:
    odd = ["1900-01-01", "2018-01-01"]
    path = write_days(tmp_path, odd[0], *days_of(2024, 100), odd[1], f"{odd[1]}~2018-01-02")
    with pytest.raises(ValueError, match="dates: 3 of 103 rows .*1900-01-01, 2018-01-01"):
        list(Files(path=path).curves(rows))
    source = Files(path=path, odd_dates="drop")
    starts = np.concatenate([curves.start for curves in source.curves(rows)])
    np.testing.assert_array_equal(np.sort(starts), np.sort(source.history().start))
    assert len(starts) == 100


def test_a_stream_refuses_levels_as_the_history_does(tmp_path: Path) -> None:
    path = write_days(tmp_path, *days_of(2024, 20), spend=0.001)
    for read in (Files(path=path).history, lambda: list(Files(path=path).curves(10))):
        with pytest.raises(ValueError, match="revenue and spend: .* cohorts earned"):
            read()
    assert sum(map(len, Files(path=path, scale="any").curves(10))) == 20


def texts_of_days(first_days: np.ndarray, last_days: np.ndarray | None = None) -> list[str]:
    """What is said of cohorts of days, each of one day unless a last one is given."""
    ends = first_days if last_days is None else last_days
    rows = [
        (str(first), str(last), {}, 10.0, curve(30))
        for first, last in zip(first_days, ends, strict=True)
    ]
    curves = latest(export(history(rows), "2024-06-01"))
    return [finding.as_text() for finding in find_first_days(curves)]


MONTHS = np.arange("2023-01", "2023-09", dtype="datetime64[M]").astype("datetime64[D]")


@pytest.mark.parametrize("weekday", range(7))
@pytest.mark.parametrize("step", [7, 14])
def test_single_days_whole_weeks_apart_are_told(weekday: int, step: int) -> None:
    first_days = np.datetime64("2023-05-01") + weekday + step * np.arange(6)
    (text,) = texts_of_days(first_days)
    assert "all 6 dates fall on one weekday" in text
    assert "each is taken as one day" in text
    assert "are they weeks? data.format.period=week" in text


def test_single_days_that_are_the_first_of_months_are_told() -> None:
    (text,) = texts_of_days(MONTHS)
    assert "are they months? data.format.period=month" in text


def test_days_and_whole_periods_say_nothing() -> None:
    weeks = np.datetime64("2023-05-01") + 7 * np.arange(20)
    assert texts_of_days(weeks, weeks + 6) == []
    assert texts_of_days(MONTHS, MONTHS + 27) == []
    assert texts_of_days(weeks[:5]) == []
    assert texts_of_days(np.datetime64("2023-05-01") + np.arange(30)) == []
    assert texts_of_days(np.append(weeks, weeks[-1] + 1)) == []
    assert texts_of_days(np.append(MONTHS, MONTHS[-1] + 14)) == []


def monthly(observed_ages: list[int]) -> list[str]:
    """What is said of the ages of cohorts of the first months of 2023, on 2024-01-01."""
    firsts = np.arange("2023-01", "2023-09", dtype="datetime64[M]")
    rows = [
        (str(first.astype("datetime64[D]")), str((first + 1).astype("datetime64[D]") - 1), {}, 10.0,
         curve(age))
        for first, age in zip(firsts, observed_ages, strict=True)
    ]  # fmt: skip
    curves = history(rows).as_of("2024-01-01")
    return [finding.as_text() for finding in find_ages_in_months(curves)]


def test_ages_that_grow_by_one_a_month_may_be_months() -> None:
    (text,) = monthly([11, 10, 9, 8, 7, 6, 5, 4])
    assert "up to 11" in text and "are ages months? They must be days" in text


def test_ages_in_days_are_not_taken_for_months() -> None:
    assert monthly([334, 303, 275, 244, 214, 183, 153, 122]) == []
    assert monthly([30] * 8) == []
