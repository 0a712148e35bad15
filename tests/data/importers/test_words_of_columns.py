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


@pytest.mark.parametrize("column", ["period", "day", "month", "age", "week", "Zeit (Tage)"])
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
