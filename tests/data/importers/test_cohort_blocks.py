"""Exported rows as ltvnet's own: what cannot be added up or divided is told, and never dropped."""

from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from ltvnet.data.cohort_tables import Files
from ltvnet.data.importers.table_format import TableFormat, Values

NO_USERS = "users = '{}': expected the number of users"


def read_rows(folder: Path, rows: str, values: Values = "cumulative") -> Files:
    """A source of a wide table of money of cohorts, or of a long one."""
    path = folder / "export_2025_03_01.csv"
    path.write_text(rows)
    return Files(path=path, format=TableFormat(values=values, per="cohort"))


def test_a_day_without_a_cell_among_increments_is_told(tmp_path: Path) -> None:
    """From it on the sum would be unknown, and the cohort end at D0."""
    rows = "date,users,d0,d1,d2\n2025-02-01,10,5,,7\n2025-02-02,10,5,6,\n"
    with pytest.raises(ValueError, match=r"line 2, d1 = '': expected a value between known ages"):
        read_rows(tmp_path, rows, "increment").history()


def test_increments_may_end_early(tmp_path: Path) -> None:
    rows = "date,users,d0,d1,d2\n2025-02-01,10,5,1,7\n2025-02-02,10,5,6,\n"
    history = read_rows(tmp_path, rows, "increment").history()
    assert history.values[1, :2].tolist() == [0.5, 1.1]
    assert history.observed_age.tolist() == [2, 1]


@pytest.mark.parametrize("users", ["", "n/a", "0"])
def test_money_of_nobody_is_told_in_wide_tables(tmp_path: Path, users: str) -> None:
    rows = f"date,users,d0,d1\n2025-02-01,10,5,6\n2025-02-02,{users},5,6\n"
    shown = users if users == "0" else ""
    with pytest.raises(ValueError, match=f"line 3, {NO_USERS.format(shown)}"):
        read_rows(tmp_path, rows).history()


@pytest.mark.parametrize("users", ["", "0"])
def test_money_of_nobody_is_told_in_long_tables(tmp_path: Path, users: str) -> None:
    rows = "date,age,users,revenue\n2025-02-01,0,10,5\n2025-02-01,1,10,6\n"
    rows += f"2025-02-02,0,{users},5\n2025-02-02,1,{users},6\n"
    with pytest.raises(ValueError, match=f"line 4, {NO_USERS.format(users)}"):
        read_rows(tmp_path, rows).history()


def test_nothing_earned_by_nobody_is_data(tmp_path: Path) -> None:
    rows = "date,users,d0,d1\n2025-02-01,10,5,6\n2025-02-02,0,0,0\n"
    assert read_rows(tmp_path, rows).history().values[1, :2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", ["D0", "date"])
def test_a_type_that_is_no_number_or_date_is_told(tmp_path: Path, name: str) -> None:
    columns = {"date": ["2025-02-01"], "users": [3], "D0": [1.0], "D1": [2.0]}
    columns[name] = [[1]] if name == "date" else [date(2025, 1, 1)]
    path = tmp_path / "export_2025_03_01.parquet"
    parquet.write_table(pa.table(columns), path)
    with pytest.raises(ValueError, match=rf"export_.*: expected .* in {name}, got .*; convert"):
        Files(path=path, format=TableFormat(per="user")).history()
