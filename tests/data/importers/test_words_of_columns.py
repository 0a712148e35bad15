"""Which columns play which role: wrong words of the user and names that stand twice are told."""

import re
from pathlib import Path

import numpy as np
import pytest

from ltvnet.data.cohort_tables import Files
from ltvnet.data.curves import History
from ltvnet.data.importers.column_mapping import ColumnMapper
from ltvnet.data.importers.table_format import TableFormat, load_presets


def read_text(folder: Path, text: str, **words: str) -> History:
    path = folder / "export_2025_03_01.csv"
    path.write_text(text)
    return Files(path=path, format=TableFormat(**words)).history()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("age", "problem"),
    [
        (r"LTV D(\d+", "unterminated subpattern"),
        (r"LTV D(\d+)", r"has no group \(\?P<age>\.\.\.\)"),
        (r"LTV (?P<age>D\d+)", "a whole number in its group .* got 'D0' in column LTV D0"),
    ],
)
def test_a_pattern_of_ages_that_is_none_is_told(tmp_path: Path, age: str, problem: str) -> None:
    text = "date,LTV D0,LTV D1\n2025-02-01,1,2\n"
    with pytest.raises(ValueError, match=rf"export_.*expected data\.format\.age.*{problem}"):
        read_text(tmp_path, text, age=age)


@pytest.mark.parametrize("column", ["my_age", "days (from install)"])
def test_the_one_column_of_ages_of_a_long_table_is_named(tmp_path: Path, column: str) -> None:
    rows = "".join(f"2025-02-01,{age},{age + 0.5}\n" for age in range(4))
    history = read_text(tmp_path, f"date,{column},ltv\n{rows}", age=column)
    np.testing.assert_array_equal(history.values[0, :4], [0.5, 1.5, 2.5, 3.5])


@pytest.mark.parametrize("column", ["period", "day", "age", "Zeit (Tage)"])
def test_a_column_of_ages_may_have_the_name_of_anything(tmp_path: Path, column: str) -> None:
    rows = "".join(f"2025-02-01,{age},{age + 0.5}\n" for age in range(4))
    history = read_text(tmp_path, f"install_date,{column},ltv\n{rows}", age=column)
    np.testing.assert_array_equal(history.values[0, :4], [0.5, 1.5, 2.5, 3.5])


def test_beside_a_column_of_ages_that_of_the_values_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"column of the value.*'data\.columns={value: COLUMN}'"):
        read_text(tmp_path, "install_date,period,earned\n2025-02-01,0,1\n", age="period")


def test_no_message_names_a_single_role_that_hydra_refuses() -> None:
    sources = (Path(__file__).parents[3] / "ltvnet").rglob("*.py")
    texts = [path.read_text(encoding="utf-8") for path in sources]
    assert not [text for text in texts if re.search(r"data\.columns\.(?!import\b)\S*=", text)]


@pytest.mark.parametrize(
    "header", ["Tag 0,Tag 1", "Alter0,Alter1", "x0y,x1y", "rev 0 net,rev 1 net"]
)
def test_a_pattern_of_ages_means_a_wide_table(header: str) -> None:
    pattern = re.sub(r"0", r"(?P<age>\\d+)", header.split(",")[0])
    for preset in (preset for preset in load_presets() if not preset.is_generic):
        names = [spellings[0] for spellings in preset.match]
        mapper = ColumnMapper(TableFormat(age=pattern), {}, frozenset())
        others = [name for name in dict.fromkeys(names) if name not in header.split(",")]
        mapping = mapper.map(Path("a.csv"), [*others, *header.split(",")])
        assert mapping.preset == "wide"
        assert list(mapping.ages.values()) == [("", 0), ("", 1)]


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Date,Users,day_0,day_0", "day_0"),
        ("Date,Users,Users,day_0", "Users"),
        ("date,date,LTV D0,LTV D1", "date"),
        ("date,LTV D0,LTV D1,LTV D1", "LTV D1"),
    ],
)
def test_a_name_that_stands_twice_is_told(tmp_path: Path, header: str, name: str) -> None:
    with pytest.raises(ValueError, match=rf"export_.*: keep one of 2 columns {name}"):
        read_text(tmp_path, f"{header}\n2025-02-01,1,1,2\n")


def test_two_columns_of_one_age_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep one of the columns LTV D1 and LTV D01"):
        read_text(tmp_path, "date,LTV D0,LTV D1,LTV D01\n2025-02-01,1,2,3\n")


def test_an_age_of_any_length_is_beyond_all_others(tmp_path: Path) -> None:
    history = read_text(tmp_path, f"date,LTV D0,LTV D1,LTV D{10**30}\n2025-02-01,1,2,3\n")
    assert history.observed_age.tolist() == [1]


def test_a_column_plays_one_role(tmp_path: Path) -> None:
    path = tmp_path / "export_2025_03_01.csv"
    path.write_text("Date,Installs,day_0\n2025-02-01,1,2\n")
    with pytest.raises(ValueError, match=r"data\.columns names Installs as Users and Spend"):
        Files(path=path, columns={"Users": "Installs", "Spend": "Installs"}).history()


@pytest.mark.parametrize(
    "series", ["ROAS D{}", "roas_d{}", "D{} ROI", "Return on ad spend D{}", "{}일차 수익률"]
)
def test_ratios_are_no_revenue_whoever_names_them(tmp_path: Path, series: str) -> None:
    header = f"date,Spend,{series.format(0)},{series.format(7)}"
    age = series.format(r"(?P<age>\d+)")
    with pytest.raises(ValueError, match=r"got ratios in .*revenue = ratio x spend"):
        read_text(tmp_path, f"{header}\n2025-02-01,10,0.1,0.2\n", age=age)


@pytest.mark.parametrize("header", ["LTV D0,LTV D1", "day_0,day_1"])
def test_percents_are_no_revenue(tmp_path: Path, header: str) -> None:
    with pytest.raises(ValueError, match=r"export_.*got ratios in .* \(percent\)"):
        read_text(tmp_path, f"Date,Spend,{header}\n2025-02-01,10,10.4%,20.5%\n")


@pytest.mark.parametrize("name", ["Android Revenue D{}", "net revenue D{}", "Returning LTV D{}"])
def test_words_that_hold_those_of_ratios_are_revenue(tmp_path: Path, name: str) -> None:
    header = f"date,{name.format(0)},{name.format(1)}"
    history = read_text(tmp_path, f"{header}\n2025-02-01,1,2\n", per="user")
    np.testing.assert_array_equal(history.values[0, :2], [1, 2])


@pytest.mark.parametrize(
    "name",
    ["M{}", "Month {}", "LTV M{}", "revenue_month_{}", "Monat {}", "Week {}", "W{}", "LTV {}개월"]
    + ["{}월차", "{}주차 매출", "{} months", "rev_{}w"],
)
def test_ages_in_months_or_weeks_are_refused(tmp_path: Path, name: str) -> None:
    header = f"date,{name.format(0)},{name.format(1)}"
    age = name.format(r"(?P<age>\d+)")
    with pytest.raises(ValueError, match="ages in days, got .*months or weeks"):
        read_text(tmp_path, f"{header}\n2025-02-01,1,2\n", age=age)


@pytest.mark.parametrize("name", ["D{}", "sum{}", "LTV D{} w/o tax", "cum {}", "flow {} (m)"])
def test_letters_of_months_within_words_are_none(tmp_path: Path, name: str) -> None:
    header = f"date,{name.format(0)},{name.format(1)}"
    age = name.replace("(", r"\(").replace(")", r"\)").format(r"(?P<age>\d+)")
    history = read_text(tmp_path, f"{header}\n2025-02-01,1,2\n", age=age, per="user")
    assert history.values[0, :2].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("age", ["month", "months_since_install", "Week"])
def test_a_column_of_ages_in_months_or_weeks_is_refused(tmp_path: Path, age: str) -> None:
    with pytest.raises(ValueError, match="ages in days, got .*months or weeks"):
        read_text(tmp_path, f"date,{age},ltv\n2025-02-01,0,1\n", age=age)


@pytest.mark.parametrize(
    ("header", "ages"),
    [
        ("Datum,Kampagne,Land,Installationen,Kosten (€),Tag 0,Tag 7", [0, 7]),
        ("Fecha,Campaña,País,Instalaciones,Coste (EUR),Día 0,Día 7", [0, 7]),
        ("유입일,캠페인명,국가,신규유저,광고비,0일차 누적매출,7일차 누적매출", [0, 7]),
        ("Cohort week,Campaign,Country,Users,Spend (USD),LTV_0,LTV_30", [0, 30]),
    ],
)
def test_common_words_of_other_languages_are_known(header: str, ages: list[int]) -> None:
    names = header.split(",")
    mapping = ColumnMapper(TableFormat(), {}, frozenset()).map(Path("a.csv"), names)
    assert [mapping.ages[name] for name in names[-2:]] == [("", age) for age in ages]
    roles = ["Date", "Campaign", "Country", "Users", "Spend"]
    assert [mapping.column_of[role] for role in roles] == names[:5]


def test_a_printed_pattern_of_ages_works_as_typed(tmp_path: Path) -> None:
    text = "date,Net revenue. D0,Net revenue. D1,N revenue D0,N revenue D1\n2025-02-01,1,2,3,4\n"
    with pytest.raises(ValueError, match="may be the revenue") as caught:
        read_text(tmp_path, text)
    pattern = str(caught.value).split("such as '")[1].split("'")[0]
    assert read_text(tmp_path, text, age=pattern, per="user").values[0, 1] == 2


@pytest.mark.parametrize("date", ["2025-02-01", "25.02.2025"])
def test_users_that_may_be_groups_of_thousands_are_told(tmp_path: Path, date: str) -> None:
    text = f"Date,Campaign,Users,day_0\n{date},a,950,0.12\n{date},b,1.234,0.15\n"
    with pytest.raises(ValueError, match=r"line 3, Users = '?1\.234'?: .*write 1\.234 as 1234"):
        read_text(tmp_path, text)


def test_users_may_be_weighted(tmp_path: Path) -> None:
    text = "Date,Campaign,Users,day_0\n2025-02-01,a,950,0.12\n2025-02-01,b,12.5,0.15\n"
    assert sorted(read_text(tmp_path, text).users) == [12.5, 950]


def test_dates_that_stand_in_the_first_row_alone_are_one_problem(tmp_path: Path) -> None:
    rows = "".join(f"{'2025-02-01' if row == 0 else ''},c{row},5,1\n" for row in range(9))
    with pytest.raises(ValueError, match=r"export_.*got 8 blank cells of Date; .*fill them down"):
        read_text(tmp_path, f"Date,Campaign,Users,day_0\n{rows}")
