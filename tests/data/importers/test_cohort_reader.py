"""What the user says of a table, option by option, and what is decided over all files."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltvnet.data.cohort_tables import Files
from ltvnet.data.curves import Curves
from ltvnet.data.importers.table_format import TableFormat


def read(path: Path, **options: Any) -> Curves:  # noqa: ANN401
    history = Files(path=path, format=TableFormat(**options)).history()
    return history.as_of(history.last_day)


def written(folder: Path, text: str, encoding: str = "utf-8", date: str = "2025-03-01") -> Path:
    path = folder / f"a_{date}.csv"
    path.write_bytes(text.encode(encoding))
    return path


WIDE = "install_date,Campaign,Installs,D0,D1\n2025-01-06,a,4,1,3\n"


@pytest.mark.parametrize(
    ("options", "values"),
    [
        ({"per": "user"}, [1, 3]),
        ({"per": "cohort"}, [0.25, 0.75]),
        ({"per": "user", "values": "increment"}, [1, 4]),
        ({"per": "cohort", "values": "increment"}, [0.25, 1]),
        ({"per": "user", "unit": 0.01}, [0.01, 0.03]),
        ({"per": "user", "unit": 1000}, [1000, 3000]),
    ],
)
def test_what_amounts_are_is_told(
    options: dict[str, Any], values: list[float], tmp_path: Path
) -> None:
    assert read(written(tmp_path, WIDE), **options).values[0, :2].tolist() == values


def test_ages_are_told(tmp_path: Path) -> None:
    path = written(tmp_path, "install_date,Tag 1,Tag 2\n2025-01-06,1,3\n")
    curves = read(path, preset="wide", age=r"Tag (?P<age>\d+)", age_offset=-1, per="user")
    assert curves.values[0, :2].tolist() == [1, 3]
    assert curves.observed_age.tolist() == [1]


def test_days_of_24_hours_are_complete_a_day_later(tmp_path: Path) -> None:
    path = written(tmp_path, WIDE, date="2025-01-07")
    assert read(path, per="user").observed_age.tolist() == [1]
    assert read(path, per="user", day="rolling24h").observed_age.tolist() == [0]


def test_zeros_after_the_last_revenue_may_be_unknown(tmp_path: Path) -> None:
    path = written(tmp_path, "install_date,D0,D1,D2\n2025-01-06,1,2,0\n2025-01-07,1,2,2\n")
    with pytest.raises(ValueError, match=r"line 2, D2 = '0'"):
        read(path, per="user")
    assert read(path, per="user", zeros="missing").observed_age.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("period", "day", "last"),
    [
        ("day", "2025-01-06", "2025-01-06"),
        ("week", "2025-01-06", "2025-01-12"),
        ("month", "2025-02-01", "2025-02-28"),
        ("month", "2024-02-01", "2024-02-29"),
        ("month", "2025-01-15", "2025-02-14"),
    ],
)
def test_a_date_begins_a_period(period: str, day: str, last: str, tmp_path: Path) -> None:
    path = written(tmp_path, f"install_date,D0\n{day},1\n", date="2025-04-01")
    curves = read(path, per="user", period=period)
    assert [str(curves.start[0]), str(curves.end[0])] == [day, last]


def test_signs_and_orders_are_told(tmp_path: Path) -> None:
    path = written(tmp_path, "install_date;D0\n01/02/2025;1,250\n")
    with pytest.raises(ValueError, match="dates=dmy"):
        read(path, decimal="comma")
    with pytest.raises(ValueError, match=r"decimal=point for 1250, or data\.format\.decimal=comma"):
        read(path, dates="dmy")
    curves = read(path, decimal="comma", dates="dmy")
    assert (str(curves.start[0]), curves.values[0, 0]) == ("2025-02-01", 1.25)
    curves = read(path, decimal="point", dates="mdy")
    assert (str(curves.start[0]), curves.values[0, 0]) == ("2025-01-02", 1250)


def test_separator_and_encoding_are_told(tmp_path: Path) -> None:
    path = written(tmp_path, "Date:Campaign:day_0\n2025-01-06:여름:1\n", "cp949")
    curves = read(path, separator=":", encoding="cp949")
    assert curves.attributes["Campaign"].tolist() == ["여름"]
    with pytest.raises(ValueError, match=r"expected text in utf-8, see data\.format\.encoding"):
        read(path, separator=":", encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"values": "sum"}, "data.format.values=cumulative or increment, got 'sum'"),
        ({"per": "users"}, "data.format.per=user or cohort, got 'users'"),
        ({"preset": "ajust"}, "data.format.preset out of auto, none, adjust"),
        ({"unit": 0}, "data.format.unit above 0, got 0"),
    ],
)
def test_other_words_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        TableFormat(**options)
    assert message in str(caught.value)


def test_conventions_are_decided_over_all_files(tmp_path: Path) -> None:
    """The second file alone says that the day stands first and a comma is the decimal sign."""
    written(tmp_path, "install_date;D0\n01/02/2025;1,250\n", date="2025-02-10")
    written(tmp_path, "install_date;D0\n01/02/2025;1,250\n13/02/2025;1,5\n", date="2025-02-20")
    curves = read(tmp_path, per="user")
    assert curves.start.astype(str).tolist() == ["2025-02-01", "2025-02-13"]
    np.testing.assert_array_equal(curves.values[:, 0], [1.25, 1.5])


def test_files_of_different_layouts_are_refused(tmp_path: Path) -> None:
    written(tmp_path, "install_date,D0\n2025-01-06,1\n", date="2025-02-10")
    written(tmp_path, "Date,day_0\n2025-01-06,1\n", date="2025-02-20")
    with pytest.raises(
        ValueError, match="expected files of one layout, got a_2025-02-10.csv: wide"
    ):
        read(tmp_path)


def test_totals_and_empty_rows_are_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, WIDE + ",,,,\n\nTotal,,4,1,3\ninstall_date,Campaign,Installs,D0,D1\n")
    with caplog.at_level(logging.INFO):
        assert len(read(path, per="user")) == 1
    assert "1 repeated headers left out" in caplog.text
    assert "of 2 rows: 1 totals" in caplog.text


@pytest.mark.parametrize("rows", ["", ",,,,\n", "Total,,4,1,3\n"])
def test_a_table_without_cohorts_is_refused(rows: str, tmp_path: Path) -> None:
    path = written(tmp_path, WIDE.split("\n")[0] + "\n" + rows)
    with pytest.raises(ValueError, match=r"a_2025-03-01\.csv: expected at least one cohort below"):
        read(path, per="user")
