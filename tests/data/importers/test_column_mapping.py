"""Columns and their roles: found by any spelling, told by the user, asked about in doubt."""

from pathlib import Path
from unicodedata import normalize

import pytest

from ltvnet.data.importers.column_mapping import ColumnMapper, ColumnMapping
from ltvnet.data.importers.headings import normal_name
from ltvnet.data.importers.table_format import TableFormat, load_presets

ADJUST = "day,app,os_name,network,campaign,country,installs,cost,"
ADJUST += "all_revenue_total_d0,all_revenue_total_d7"


def mapped(
    header: str,
    table_format: TableFormat | None = None,
    columns: dict[str, str] | None = None,
    reserved: tuple[str, ...] = (),
) -> ColumnMapping:
    mapper = ColumnMapper(table_format or TableFormat(), columns or {}, frozenset(reserved))
    return mapper.map(Path("a.csv"), header.split(","))


def test_own_columns_need_no_preset() -> None:
    mapping = mapped("Date,Campaign,Users,day_0,day_7,kept_day_7")
    assert (mapping.preset, mapping.kind) == ("", "wide")
    assert mapping.ages["day_7"] == ("", 7)
    assert mapping.ages["kept_day_7"] == ("kept", 7)
    assert mapping.column_of == {"Date": "Date", "Users": "Users", "Campaign": "Campaign"}


@pytest.mark.parametrize("change", [str, str.upper, str.lower, str.title])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("kind", ["wide", "long"])
def test_every_spelling_of_every_role_is_found(kind: str, form: str, change: type[str]) -> None:
    preset = next(one for one in load_presets() if one.name == kind)
    ages = "LTV D0,LTV D7" if kind == "wide" else "days_since_install,revenue"
    for role, spellings in preset.columns.items():
        for spelling in spellings:
            if role in ("age", "value", "cohort_start", "cohort_end"):
                continue
            name = normalize(form, change(spelling))
            date = "" if role == "Date" else "install_date,"
            mapping = mapped(f"{date}{name},{ages}")
            assert mapping.column_of[role] == name, spelling
            assert mapping.kind == kind


@pytest.mark.parametrize(
    "name", ["day_7", "D7", "d07", "Day 7", "LTV D7", "ltv_day_7", "Revenue-D7", "7일차", "매출 D7"]
)
def test_ages_are_read_from_names(name: str) -> None:
    mapping = mapped(f"Week,{name},ROAS D7,Retention D7,Payers_rate_d7")
    assert mapping.ages == {name: ("", 7)}


def test_two_series_of_money_are_asked_about() -> None:
    header = "install_date,IAP Revenue D0,IAP Revenue D7,Ad Revenue D0,Ad Revenue D7"
    with pytest.raises(ValueError) as caught:
        mapped(header)
    message = str(caught.value)
    assert "IAP Revenue DN and Ad Revenue DN may be the revenue by age (N)" in message
    pattern = message.split("data.format.age, such as ")[1].strip("'")
    assert list(mapped(header, TableFormat(age=pattern)).ages) == [
        "IAP Revenue D0",
        "IAP Revenue D7",
    ]


def test_presets_are_recognised_and_overridden() -> None:
    mapping = mapped(ADJUST)
    assert (mapping.preset, mapping.per, mapping.day) == ("adjust", "cohort", "rolling24h")
    assert mapping.extra_lag_days == 1
    told = mapped(ADJUST, TableFormat(per="user", day="calendar", age_offset=1))
    assert (told.preset, told.per, told.day, told.extra_lag_days) == (
        "adjust",
        "user",
        "calendar",
        0,
    )
    assert sorted(told.ages.values()) == [("", 1), ("", 8)]
    assert mapped("day,installs,D7", TableFormat(preset="wide")).preset == "wide"
    with pytest.raises(ValueError, match=r"a\.csv: expected columns of ages such as"):
        mapped("day,installs,revenue", TableFormat(preset="wide"))


def test_the_users_own_words_stand_above_spellings() -> None:
    header = "Date,Installs,new_users,network,D0"
    assert mapped(header).column_of["Users"] == "Installs"
    assert mapped(header, columns={"Users": "new_users"}).column_of["Users"] == "new_users"
    with pytest.raises(
        ValueError, match=r"data\.columns names \['Gone'\], but the table has \['Date"
    ):
        mapped(header, columns={"Users": "Gone"})


def test_columns_that_the_user_speaks_of_keep_their_names() -> None:
    header = "Date,network,platform,D0"
    assert mapped(header).column_of["Source"] == "network"
    assert "Source" not in mapped(header, reserved=("network",)).column_of


@pytest.mark.parametrize(
    ("name", "period"), [("Week", "week"), ("월별", "month"), ("Monat", "month"), ("day", None)]
)
def test_a_column_may_be_named_after_its_period(name: str, period: str | None) -> None:
    for form in ("NFC", "NFD"):
        text = normalize(form, name)
        assert mapped(f"{text},D0", columns={"Date": text}).period == period
    assert mapped(f"{name},D0", TableFormat(period="day"), {"Date": name}).period == "day"


def test_a_first_day_alone_is_asked_about() -> None:
    with pytest.raises(
        ValueError, match=r"got cohort_start alone; say by data\.format\.period=day"
    ):
        mapped("cohort_start,D0")
    assert mapped("cohort_start,D0", TableFormat(period="week")).period == "week"


def test_names_are_alike_whatever_case_blanks_and_form() -> None:
    assert normal_name("Media-Source ") == normal_name("media  source")
    assert normal_name(normalize("NFD", "캠페인")) == normal_name("캠페인")
