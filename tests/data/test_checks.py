"""Faults of cohort tables, each with its message; what was restated; what data support."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from ltvnet.data.checks import restatements, summarize_history
from ltvnet.data.cohort_tables import Files
from ltvnet.data.curves import AGES, History

HEAD = "Date,Apps,Users,Spend,day_0,day_1,day_2"
GOOD = "2025-01-06~2025-01-12,app,100,50,1,2,3"


def table(*rows: str, head: str = HEAD) -> str:
    return "\n".join([head, GOOD, *rows]) + "\n"


MALFORMED = {
    "gap": (
        table("2025-01-13~2025-01-19,app,100,50,1,,3"),
        r"a_2025_02_10\.csv, line 3, day_1 = '': expected a value between known ages .*fill",
    ),
    "later than the as-of date": (
        table("2025-02-03~2025-02-09,app,100,50,1,2,3"),
        r"line 3, day_2 = '3': expected nothing after the as-of date; .*data\.partial=mask",
    ),
    "several later": (
        table("2025-02-04~2025-02-10,app,100,50,1,2,3"),
        r"line 3, day_1 = '2' \(and 1 later\): expected nothing after the as-of date",
    ),
    "a fall": (
        table("2025-01-13~2025-01-19,app,100,50,1,2,1.9"),
        r"line 3, day_2 = '1\.9': expected no fall of cumulative revenue.*data\.revenue=net",
    ),
    "a fall from the highest value": (
        table("2025-01-13~2025-01-19,app,100,50,1,0.9995,0.9985"),
        r"line 3, day_2 = '0\.9985': expected no fall",
    ),
    "negative revenue": (
        table("2025-01-13~2025-01-19,app,100,50,-1,2,3"),
        r"line 3, day_0 = '-1': expected no fall",
    ),
    "negative users": (
        table("2025-01-13~2025-01-19,app,-5,50,1,2,3"),
        r"line 3, Users = '-5\.0': expected a number from 0 up; correct it",
    ),
    "negative spend": (
        table("2025-01-13~2025-01-19,app,5,-50,1,2,3"),
        r"line 3, Spend = '-50\.0': expected a number from 0 up",
    ),
    "users no number": (
        table("2025-01-13~2025-01-19,app,many,50,1,2,3"),
        r"line 3, Users = 'many': expected a plain number such as 1234\.5",
    ),
    "no users": (
        table("2025-01-13~2025-01-19,app,,50,1,2,3"),
        r"line 3, Users = '': expected the number of users, as the row has values; fill",
    ),
    "infinite users": (
        table("2025-01-13~2025-01-19,app,inf,50,1,2,3"),
        r"line 3, Users = 'inf': expected a finite number; empty the cell",
    ),
    "infinite value": (
        table("2025-01-13~2025-01-19,app,5,50,1,inf,3"),
        r"problems in the data: 1\n.*line 3, day_1 = 'inf': expected a finite number",
    ),
    "a number out of range": (
        table("2025-01-13~2025-01-19,app,5,50,1,2,1e999"),
        r"line 3, day_2 = 'inf': expected a finite number",
    ),
    "a cohort twice": (
        table("2025-01-06~2025-01-12,app,7,50,1,2,3"),
        r"line 3, Date = '2025-01-06~2025-01-12': expected a cohort once.*merge its rows",
    ),
    "reversed": (
        table("2025-01-19~2025-01-13,app,5,50,1,2,3"),
        r"line 3, Date = '2025-01-19~2025-01-13': .*the last day first; swap them",
    ),
    "no such day": (
        table("2025-02-24~2025-02-30,app,5,50,,,"),
        r"line 3, Date = '2025-02-24~2025-02-30': expected YYYY-MM-DD.*correct the date",
    ),
    "half a range": (
        table("2025-01-13~,app,5,50,1,2,3"),
        r"line 3, Date = '2025-01-13~': expected YYYY-MM-DD",
    ),
    "an empty date": (table(",app,5,50,1,2,3"), r"line 3, Date = '': expected YYYY-MM-DD"),
    "thousands without quotes": (
        table("2025-01-13~2025-01-19,app,5,50,1,2,1,234.5"),
        r"line 3: expected 7 cells as in the header, got 8\nremove thousands separators",
    ),
    "an error of a spreadsheet": (
        table("2025-01-13~2025-01-19,app,5,50,1,2,#N/A"),
        r"line 3, day_2 = '#N/A': expected a plain number.*or an empty cell",
    ),
    "no rows": (HEAD + "\n", r"a_2025_02_10\.csv: expected at least one cohort below the header"),
    "no date": (
        "Cohort name,day_0\na,1\n",
        r"expected a column Date, or cohort_start and cohort_end.*data\.columns.*columns: Cohort",
    ),
    "no end": ("cohort_start,day_0\n2025-01-06,1\n", r"expected a column Date, or cohort_start"),
    "semicolons": (HEAD.replace(",", ";") + "\nx\n", r"line 2: expected 7 cells as in the header"),
    "an age twice": (
        "Date,day_0,day_1,day_01\n2025-01-06,1,1,1\n",
        r"keep one of 2 columns day_1",
    ),
    "an infinite series": (
        "Date,day_0,kept_day_1\n2025-01-13,5,inf\n",
        r"problems in the data: 1\n.*line 2, kept_day_1 = 'inf': expected a finite number",
    ),
    "a series later than the as-of date": (
        "Date,day_0,kept_day_1,kept_day_7,kept_day_9\n2025-02-08,5,1,1,1\n",
        r"line 2, kept_day_7 = '1' \(and 1 later\): expected nothing after the as-of date",
    ),
    "an age of a series twice": (
        "Date,day_0,kept_day_1,kept_day_01\n2025-01-06,1,1,1\n",
        r"keep one of 2 columns kept_day_1",
    ),
    "a series alone": (
        "Date,kept_day_0\n2025-01-06,1\n",
        r"columns kept_day_N may be the revenue by age \(N\); say which is by data\.format\.age",
    ),
    "a column twice": ("Date,Apps,Apps,day_0\n2025-01-06,a,b,1\n", r"keep one of 2 columns Apps"),
}


UNDERSTOOD = {
    "a German date": ("13.01.2025~19.01.2025,app,5,50,1,2,3", 3.0),
    "thousands": ('2025-01-13~2025-01-19,app,5,50,1,2,"1,234.5"', 1234.5),
    "a currency": ("2025-01-13~2025-01-19,app,5,50,1,2,$3", 3.0),
    "a mark of nothing": ("2025-01-13~2025-01-19,app,5,50,1,2,nan", np.nan),
    "a dash": ("2025-01-13~2025-01-19,app,5,50,1,2,-", np.nan),
}
"""A row in another dialect than ltvnet's own, and its value at day 2."""


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_other_dialects_are_understood(tmp_path: Path, name: str) -> None:
    row, value = UNDERSTOOD[name]
    (tmp_path / "a_2025_02_10.csv").write_text(table(row))
    history = Files(path=tmp_path).history()
    assert [str(day) for day in history.start] == ["2025-01-06", "2025-01-13"]
    np.testing.assert_array_equal(history.values[1, :3], [1.0, 2.0, value])


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_tables(tmp_path: Path, name: str) -> None:
    content, message = MALFORMED[name]
    path = tmp_path / "a_2025_02_10.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        Files(path=path).history()
    with pytest.raises(ValueError, match=message):
        list(Files(path=path).curves(1000))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attributes": ["Campaign"]}, r"expected data\.attributes out of \['Apps'\], got also"),
        ({"columns": {"Users": "Installs"}}, r"data\.columns names \['Installs'\], but the tab"),
        ({"columns": {"users": "Users"}}, r"expected data\.columns to name Date, .*\['users'\]"),
        ({"partial": "keep"}, r"expected data\.partial=refuse or mask, got 'keep'"),
        ({"revenue": "both"}, r"expected data\.revenue=gross or net, got 'both'"),
        ({"lag_days": -1}, r"expected data\.lag_days from 0 up, got -1"),
        ({"rounding_tolerance": 1.0}, r"expected data\.rounding_tolerance from 0 to below 1"),
        ({"snapshot": "10 Feb?"}, r"expected a date such as 2025-02-10, got '10 Feb\?'"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: dict[str, object], message: str) -> None:
    (tmp_path / "a.csv").write_text(table())
    with pytest.raises(ValueError, match=message):
        Files(path=tmp_path / "a.csv", **options).history()  # type: ignore[arg-type]


def test_a_table_without_values_has_no_as_of_date(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Date,day_0\n2025-01-06,\n")
    with pytest.raises(ValueError, match=r"no value tells its as-of date; set data\.snapshot"):
        Files(path=tmp_path / "a.csv").history()
    assert len(Files(path=tmp_path / "a.csv", snapshot="2025-01-06").history()) == 1


def test_a_folder_takes_no_snapshot_option(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.snapshot is for one file; in a folder names have"):
        Files(path=tmp_path, snapshot="2025-02-10").history()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array(["2025-01-06"]).cast(pa.timestamp("s")), r"expected numbers in day_1, got times"),
        (pa.array([True]), r"expected numbers in day_1, got bool; convert the column"),
        (pa.array([float("inf")]), r"a\.parquet, row 1, day_1 = 'inf': expected a finite number"),
        (pa.array(["many"]), r"a\.parquet, row 1, day_1 = 'many': expected a plain number"),
    ],
)
def test_malformed_parquet(tmp_path: Path, column: pa.Array, message: str) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"Date": ["2025-01-06"], "day_0": [1.0], "day_1": column}), path)
    with pytest.raises(ValueError, match=message):
        Files(path=path, snapshot="2025-02-10").history()


def test_a_series_of_another_type(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    cells = {"Date": ["2025-01-06"], "day_0": [1.0], "kept_day_1": pa.array([True])}
    parquet.write_table(pa.table(cells), path)
    with pytest.raises(ValueError, match="expected numbers in kept_day_1, got bool; convert"):
        Files(path=path, snapshot="2025-02-10").history()


def test_all_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a_2025_02_03.csv").write_text(
        table(
            "2025-01-13~2025-01-19,app,-1,50,1,$2,3",
            "",
            "2025-01-06~2025-01-12,app,1,50,3,2,1",
        )
    )
    (tmp_path / "b_2025_02_10.csv").write_text("Date\n2025-01-06\n")
    (tmp_path / "c_2025_02_17.csv").write_text(table("2025-02-17~2025-02-10,app,1,50,,,"))
    with pytest.raises(ValueError, match="problems in the data: 6") as error:
        Files(path=tmp_path).history()
    locations = [re.sub(r" = .*|: .*", "", line) for line in str(error.value).splitlines()[1:]]
    assert [line.removeprefix(f"{tmp_path}/") for line in locations] == [
        "b_2025_02_10.csv",
        "a_2025_02_03.csv, line 3, day_1",
        "a_2025_02_03.csv, line 3, Users",
        "a_2025_02_03.csv, line 5, day_1",
        "a_2025_02_03.csv, line 5, Date",
        "c_2025_02_17.csv, line 3, Date",
    ]


def test_a_file_full_of_bad_numbers_lists_twenty(tmp_path: Path) -> None:
    rows = [f"2025-01-06,a{n},5,1,x1,x2,x3" for n in range(40)]
    (tmp_path / "a_2025_02_10.csv").write_text(table(*rows))
    with pytest.raises(ValueError, match=r"^problems in the data: 120\n") as error:
        Files(path=tmp_path).history()
    assert len(str(error.value).splitlines()) == 22
    assert str(error.value).endswith("and 100 more")


def vintages(*values: list[float], snapshots: list[str], app: list[str]) -> History:
    rows = len(values)
    curves = np.full((rows, AGES), np.nan)
    for row, prefix in enumerate(values):
        curves[row, : len(prefix)] = prefix
    return History(
        start=np.full(rows, np.datetime64("2025-01-01")),
        end=np.full(rows, np.datetime64("2025-01-01")),
        attributes={"Apps": np.array(app, dtype=object)},
        users=np.full(rows, 100.0),
        spend=np.full(rows, np.nan),
        values=curves,
        hierarchy=("Apps",),
        lag_days=0,
        snapshot=np.array(snapshots, dtype="datetime64[D]"),
    )


@pytest.mark.parametrize("age", [0, 1, 2])
@pytest.mark.parametrize("revenue", ["gross", "net"])
@pytest.mark.parametrize("value", ["inf", "-inf"])
def test_no_infinite_value_goes_unseen(tmp_path: Path, age: int, revenue: str, value: str) -> None:
    cells = ["1", "2", "3"]
    cells[age] = value
    path = tmp_path / "a_2025_02_10.csv"
    path.write_text(table(f"2025-01-13~2025-01-19,app,5,50,{','.join(cells)}"))
    with pytest.raises(ValueError, match=f"line 3, day_{age} = '{value}': expected a finite"):
        Files(path=path, revenue=revenue).history()


def test_a_key_is_its_columns_in_order(tmp_path: Path) -> None:
    """What stands in one attribute and in another are different cohorts; twice it is refused."""
    rows = [f"2025-01-06,{a},{b},1" for a, b in (("x", "y"), ("y", "x"), ("x", "x"), ("y", "y"))]
    path = tmp_path / "a_2025_02_10.csv"
    path.write_text("\n".join(["Date,Apps,Source,day_0", *rows]))
    assert len(next(Files(path=path).curves(10))) == 4
    path.write_text("\n".join(["Date,Apps,Source,day_0", *rows, rows[1]]))
    with pytest.raises(ValueError, match=r"line 6, Date = '2025-01-06': expected a cohort once"):
        next(Files(path=path).curves(10))


def test_restatements_in_numbers() -> None:
    history = vintages(
        [1.0, 2.0, 4.0],  # a on the 3rd
        [1.0, 2.0],  # b on the 3rd
        [1.0, 2.2, 3.0, 5.0],  # a on the 4th: + 10 % and - 25 %; the 4th day is news
        [1.0, 2.001, 2.5],  # b on the 4th: within the tolerance
        [0.0, 2.0, 2.5],  # b on the 5th: - 100 %; the second value within the tolerance
        snapshots=["2025-01-03"] * 2 + ["2025-01-04"] * 2 + ["2025-01-05"],
        app=["a", "b", "a", "b", "b"],
    )
    changes = restatements(history)
    assert changes["snapshot"].dt.strftime("%d").tolist() == ["04", "05"]
    assert changes["cohorts"].tolist() == [1, 1]
    assert changes["cells"].tolist() == [2, 1]
    np.testing.assert_allclose(changes["mean_change"], [0.175, 1.0])
    np.testing.assert_allclose(changes["max_change"], [0.25, 1.0])
    assert restatements(history, tolerance=1e-4)["cells"].tolist() == [3, 2]


def test_restatement_of_a_zero_is_relative_to_the_new_value() -> None:
    history = vintages(
        [0.0, 0.0], [0.0, 3.0], snapshots=["2025-01-02", "2025-01-03"], app=["a", "a"]
    )
    assert restatements(history)["max_change"].tolist() == [1.0]


def test_reach_is_the_age_of_the_fifth_oldest() -> None:
    history = vintages(
        *([1.0] * n for n in (9, 8, 7, 6, 5, 4)), snapshots=["2025-02-01"] * 6, app=list("abcdef")
    )
    assert [history.as_of("2025-02-01").age_reached_by(n) for n in (1, 5, 6, 7)] == [8, 4, 3, -1]


def test_summary() -> None:
    history = vintages(
        *([1.0] * n for n in (31, 31, 8, 8, 8, 3)),
        snapshots=["2025-02-01", *["2025-02-08"] * 5],
        app=list("abcdef"),
    )
    assert summarize_history(history).splitlines() == [
        "snapshots: 2, 2025-02-01 to 2025-02-08",
        "cohorts: 6, acquired 2025-01-01 to 2025-01-01",
        "users: 600",
        "last complete age: 7 in the median, 30 at most (-1: none)",
        "cohorts matured to D7 5, D30 2, D60 0, D90 0, D180 0, D360 0",
        "your data support forecasts to D7",
    ]


def test_summary_of_too_few_cohorts() -> None:
    history = vintages([1.0], snapshots=["2025-02-01"], app=["a"])
    assert summarize_history(history).splitlines()[-1] == (
        "your data support no forecast yet: it takes 5 cohorts with a complete age"
    )
