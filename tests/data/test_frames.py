"""Data frames are read as files of their columns would be, whatever types these have."""

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories.exports import EXPORT_DAY, LAYOUTS

import ltvnet
from ltvnet.data.curves import History
from ltvnet.data.frames import read
from ltvnet.data.importers.table_format import TableFormat

WEEKS = pd.date_range("2024-01-01", periods=6, freq="7D")

FRAME = pd.DataFrame(
    {
        "Date": WEEKS.strftime("%Y-%m-%d"),
        "Campaign": ["a", "b"] * 3,
        "Users": np.arange(6) + 10.0,
        **{f"day_{age}": np.arange(6) * 0.25 + age for age in range(5)},
    }
)

ODD_COLUMNS: dict[str, object] = {
    "pieces of users": pd.cut(FRAME["Users"], 3),
    "intervals": pd.arrays.IntervalArray.from_tuples([(0, 1)] * 6),
    "lists": [[1, 2]] * 6,
    "dictionaries": [{"a": 1}] * 6,
    "complex numbers": np.arange(6) * 1j,
    "objects": [object()] * 6,
    "nothing": [None] * 6,
    "durations": WEEKS - WEEKS[0],
    "days": WEEKS,
    "numbers": np.arange(6),
}
"""Columns that are no attributes."""


def assert_same_history(first: History, second: History) -> None:
    for name in ("start", "end", "users", "spend", "values"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert first.index.equals(second.index)


@pytest.mark.parametrize("name", ["wide", "adjust", "tenjin"])
def test_a_frame_is_read_as_its_file(name: str, tmp_path: Path) -> None:
    path = LAYOUTS[name].write(tmp_path)
    frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    assert_same_history(ltvnet.read(frame, snapshot=EXPORT_DAY), ltvnet.read(path))


def test_frames_of_numbers_and_of_text_are_alike() -> None:
    assert_same_history(read(FRAME), read(FRAME.astype(str)))


@pytest.mark.parametrize("name", ODD_COLUMNS)
def test_columns_of_odd_types_are_left_out(name: str) -> None:
    history = read(FRAME.assign(**{name: ODD_COLUMNS[name]}))
    assert_same_history(history, read(FRAME))


@pytest.mark.parametrize("name", ["intervals", "lists", "dictionaries", "nothing", "durations"])
def test_files_of_pandas_leave_them_out(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cohorts.parquet"
    FRAME.assign(**{name: ODD_COLUMNS[name]}).to_parquet(path)
    with caplog.at_level("INFO"):
        assert_same_history(read(path), read(FRAME))
    if name == "intervals":
        assert "left out, as neither text nor numbers: intervals" in caplog.text


@pytest.mark.parametrize(
    "column",
    [
        pd.Categorical(["x", "y"] * 3),
        pd.array(["x", "y"] * 3, dtype="string"),
        ["x", 1] * 3,
    ],
    ids=["category", "string", "text and numbers"],
)
def test_text_of_any_type_is_an_attribute(column: object) -> None:
    history = read(FRAME.assign(Device=column))
    assert sorted(history.attributes) == ["Campaign", "Device"]
    assert history.attributes["Device"][0] == "x"


@pytest.mark.parametrize(
    "dates",
    [
        WEEKS,
        WEEKS.tz_localize("Asia/Seoul"),
        [day.date() for day in WEEKS],
        pd.Categorical(FRAME["Date"]),
        WEEKS.to_period("D"),
    ],
    ids=["timestamps", "with a time zone", "dates", "category", "periods"],
)
def test_days_of_any_type_are_the_days_that_they_show(dates: object) -> None:
    assert_same_history(read(FRAME.assign(Date=dates)), read(FRAME))


@pytest.mark.parametrize("as_file", [False, True])
def test_periods_are_the_days_that_they_cover(*, as_file: bool, tmp_path: Path) -> None:
    weekly = FRAME.assign(Date=WEEKS.to_period("W"))
    path = tmp_path / "cohorts.parquet"
    weekly.to_parquet(path)
    history = read(path if as_file else weekly)
    assert history.start[0] == np.datetime64("2024-01-01")
    assert history.end[0] == np.datetime64("2024-01-07")


def test_periods_are_known_where_pandas_has_not_registered_them(tmp_path: Path) -> None:
    """In a process that has not used them yet."""
    path = tmp_path / "cohorts.parquet"
    FRAME.assign(Date=WEEKS.to_period("W")).to_parquet(path)
    code = f"import ltvnet; print(ltvnet.read({str(path)!r}).end[0])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "2024-01-07"


@pytest.mark.parametrize(
    "column",
    [[Decimal("4.5")] * 6, pd.array([4, 5, 6] * 2, dtype="Int64"), [5.0, None, "6"] * 2],
    ids=["decimals", "whole numbers", "objects"],
)
def test_numbers_of_any_type_are_numbers(column: object) -> None:
    history = read(FRAME.assign(day_4=column))
    expected = pd.to_numeric(pd.Series(column, dtype=object)).astype(float)
    np.testing.assert_array_equal(np.sort(history.values[:, 4]), np.sort(expected))


def test_an_index_with_names_is_columns() -> None:
    assert_same_history(read(FRAME.set_index(["Date", "Campaign"])), read(FRAME))


def test_an_index_without_a_name_is_none() -> None:
    backwards = read(FRAME.sort_index(ascending=False)).as_of("2024-02-09")
    np.testing.assert_array_equal(backwards.values, read(FRAME).as_of("2024-02-09").values)
    assert list(backwards.attributes) == ["Campaign"]


def test_options_are_those_of_files() -> None:
    frame = FRAME.rename(columns={f"day_{age}": str(age) for age in range(5)})
    frame = frame.rename(columns={"Users": "Players", "Campaign": "Push"})
    history = read(
        frame,
        columns={"Users": "Players"},
        hierarchy=["Push"],
        attributes=["Push"],
        snapshot="2024-02-20",
        format=TableFormat(age=r"(?P<age>\d+)", per="user"),
    )
    assert history.hierarchy == ("Push",) and str(history.last_day) == "2024-02-20"
    np.testing.assert_array_equal(history.users, FRAME["Users"])


def test_columns_of_numbers_are_ages_where_it_is_said() -> None:
    pivot = FRAME.rename(columns={f"day_{age}": age for age in range(5)})
    ages = ltvnet.TableFormat(age=r"(?P<age>\d+)", per="user")
    assert_same_history(read(pivot, format=ages), read(FRAME))


def test_messages_speak_of_the_frame() -> None:
    with pytest.raises(ValueError, match=r"^problems .*\nthe frame, row 3, Users = '-1.0?': exp"):
        read(FRAME.assign(Users=[10, 11, -1, 13, 14, 15]))
    twice = pd.concat([FRAME, FRAME["Users"]], axis=1)
    with pytest.raises(ValueError, match=r"columns of different names, got twice \['Users'\]"):
        read(twice)


def test_a_frame_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="the frame: expected at least one cohort"):
        read(FRAME.iloc[:0])
