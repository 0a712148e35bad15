"""Dates of any convention: the day that was written, or a refusal, never another day."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltvnet.data.importers.date_texts import TIME_BEHIND_DAY, DateConvention
from ltvnet.data.importers.dates import (
    DateEvidence,
    DateReading,
    parse_strict_day,
    placeholder_dates,
    strptime_formats,
)


def evidence_of(*texts: str) -> DateEvidence:
    evidence = DateEvidence()
    for number, text in enumerate(texts):
        evidence.add([text], f"orders_{number}.csv")
    return evidence


def read(*texts: str, convention: DateConvention | None = None) -> list[str]:
    """The days of texts as ISO texts, "first~last" of several, "" where unreadable."""
    start, end = evidence_of(*texts).decide(convention).parse(texts)
    assert start.dtype == end.dtype == np.dtype("datetime64[D]")
    return [
        "" if np.isnat(first) else str(first) if first == last else f"{first}~{last}"
        for first, last in zip(start, end, strict=True)
    ]


DAYS = {
    "2025-01-06": "2025-01-06",
    "2025-1-6": "2025-01-06",
    "2025/01/06": "2025-01-06",
    "2025.01.06": "2025-01-06",
    "20250106": "2025-01-06",
    "20250106.0": "2025-01-06",
    " 2025-01-06 ": "2025-01-06",
    "２０２５-０１-０６": "2025-01-06",
    "2025-01-06 00:00:00": "2025-01-06",
    "2025-01-06 23:59": "2025-01-06",
    "2025-01-06T00:00:00Z": "2025-01-06",
    "2025-01-06T00:00:00.000Z": "2025-01-06",
    "2025-01-06 00:00:00 UTC": "2025-01-06",
    "2025-01-06T00:30:00+09:00": "2025-01-06",
    "2025-01-06 00:30:00 +0900": "2025-01-06",
    "2025년 1월 6일": "2025-01-06",
    "2025년1월6일": "2025-01-06",
    "2025. 1. 6.": "2025-01-06",
    "2025. 1. 6. 오후 3:00:00": "2025-01-06",
    "2025年1月6日": "2025-01-06",
    "Jan 6, 2025": "2025-01-06",
    "January 6 2025": "2025-01-06",
    "Jan. 6th, 2025": "2025-01-06",
    "6 Jan 2025": "2025-01-06",
    "6-Jan-2025": "2025-01-06",
    "6-Jan-25": "2025-01-06",
    "06/Jan/2025": "2025-01-06",
    "2025-Jan-06": "2025-01-06",
    "Mon, 6 Jan 2025": "2025-01-06",
    "Monday, January 6, 2025": "2025-01-06",
    "Sept 6, 2025": "2025-09-06",
    "6. Januar 2025": "2025-01-06",
    "6. März 2025": "2025-03-06",
    "6 février 2025": "2025-02-06",
    "1er août 2025": "2025-08-01",
    "6 de enero de 2025": "2025-01-06",
    "25.12.2024": "2024-12-25",
    "25/12/2024": "2024-12-25",
    "25-12-2024": "2024-12-25",
    "13. 1. 2025": "2025-01-13",
    "13.01.24": "2024-01-13",
    "13/01/24": "2024-01-13",
    "13-1-24": "2024-01-13",
    "12/25/2024": "2024-12-25",
    "12/25/24": "2024-12-25",
    "12/25/2024 1:30 PM": "2024-12-25",
    "05/05/2024": "2024-05-05",
    "05.05.24": "2024-05-05",
}
SPANS = {
    "2025-W02": "2025-01-06~2025-01-12",
    "2025W02": "2025-01-06~2025-01-12",
    "2025-W02-1": "2025-01-06",
    "2025W027": "2025-01-12",
    "2020-W53": "2020-12-28~2021-01-03",
    "2025-01": "2025-01-01~2025-01-31",
    "2024/02": "2024-02-01~2024-02-29",
    "02/2024": "2024-02-01~2024-02-29",
    "Feb 2024": "2024-02-01~2024-02-29",
    "2024년 2월": "2024-02-01~2024-02-29",
    "2025-01-06~2025-01-12": "2025-01-06~2025-01-12",
    "2025-01-06 ~ 2025-01-12": "2025-01-06~2025-01-12",
    "2025-01-06～2025-01-12": "2025-01-06~2025-01-12",
    "2025-01-06 - 2025-01-12": "2025-01-06~2025-01-12",
    "2025-01-06 – 2025-01-12": "2025-01-06~2025-01-12",
    "2025-01-06–2025-01-12": "2025-01-06~2025-01-12",
    "2025-01-06 to 2025-01-12": "2025-01-06~2025-01-12",
    "2025-01-06/2025-01-12": "2025-01-06~2025-01-12",
    "20250106-20250112": "2025-01-06~2025-01-12",
    "2025/01/06-2025/01/12": "2025-01-06~2025-01-12",
    "06.01.2025-19.01.2025": "2025-01-06~2025-01-19",
    "06/01/2025 - 19/01/2025": "2025-01-06~2025-01-19",
    "1/6/2025 to 1/19/2025": "2025-01-06~2025-01-19",
    "Jan 6, 2025 - Jan 12, 2025": "2025-01-06~2025-01-12",
    "2025년 1월 6일 ~ 2025년 1월 12일": "2025-01-06~2025-01-12",
    "2025. 1. 6. ~ 2025. 1. 12.": "2025-01-06~2025-01-12",
    "2025-01 ~ 2025-03": "2025-01-01~2025-03-31",
    "2025-W02 ~ 2025-W03": "2025-01-06~2025-01-19",
    "2025-01-12~2025-01-06": "2025-01-12~2025-01-06",
}
NO_DATES = [
    "", "-", "N/A", "Total", "합계", "2025", "2023-13", "2025-02-30", "2025-13-01", "2025-00-10",
    "30.02.2024", "32.01.2024", "2025-W54", "2025-W00", "2021-W53", "0000-00-00", "00.00.0000",
    "1.5", "12", "1/6", "Jan 6", "Jan-24", "12:30", "2025-01-06 25:00", "2025-01-06 13:00 PM",
    "6 Foo 2025", "Foo 2025", "250106", "2025-01-06-07", "2025-01-06~", "~2025-01-06",
    "100/01/2024",
    "2025-01-06~2025-01-12~2025-01-19", "2025-01-06 to", "1/2/3", "20251306", "10022024",
]  # fmt: skip


@pytest.mark.parametrize(("text", "day"), [*DAYS.items(), *SPANS.items()])
def test_dates_of_any_dialect(text: str, day: str) -> None:
    assert read(text) == [day]


@pytest.mark.parametrize("text", NO_DATES)
def test_what_is_no_date_is_not_read(text: str) -> None:
    assert read("2025-01-06", text) == ["2025-01-06", ""]
    for convention in ("ymd", "dmy", "mdy"):
        assert read(text, convention=convention) == [""]


@pytest.mark.parametrize(
    ("texts", "days"),
    [
        (["12/05/2024", "12/25/2024"], ["2024-12-05", "2024-12-25"]),
        (["05/12/2024", "25/12/2024"], ["2024-12-05", "2024-12-25"]),
        (["01.02.24", "13.01.24"], ["2024-02-01", "2024-01-13"]),
        (["01/02/24", "1/13/24"], ["2024-01-02", "2024-01-13"]),
        (["06/01/2025 - 12/01/2025", "13/01/2025 - 19/01/2025"],
         ["2025-01-06~2025-01-12", "2025-01-13~2025-01-19"]),
        (["01.02.2024", "25-12-2024", "2024-03-04"], ["2024-02-01", "2024-12-25", "2024-03-04"]),
    ],
)  # fmt: skip
def test_one_text_decides_for_all(texts: list[str], days: list[str]) -> None:
    assert read(*texts) == days
    assert read(*reversed(texts)) == days[::-1]


def test_two_orders_are_asked_about() -> None:
    with pytest.raises(ValueError) as caught:
        evidence_of("05/05/2024", "12/05/2024").decide()
    assert str(caught.value) == (
        "'12/05/2024' in orders_1.csv can be 2024-05-12 (data.format.dates=dmy) or 2024-12-05 "
        "(data.format.dates=mdy), and no other date tells which; set one of them"
    )
    for text in ("10.02.2024", "10-02-24", "1/6/2025 to 1/12/2025"):
        with pytest.raises(ValueError, match=r"dates=dmy.* or .*dates=mdy"):
            evidence_of(text).decide()


def test_the_convention_can_be_given() -> None:
    texts = ["12/05/2024", "12/25/2024", "2024-01-02", "24/01/13"]
    assert read(*texts, convention="mdy") == ["2024-12-05", "2024-12-25", "2024-01-02", ""]
    assert read(*texts, convention="dmy") == ["2024-05-12", "", "2024-01-02", "2013-01-24"]
    assert read(*texts, convention="ymd") == ["", "", "2024-01-02", "2024-01-13"]
    assert DateReading("dmy").parse(["10.02.2024"])[0].astype(str).tolist() == ["2024-02-10"]


def test_contradicting_orders_are_refused_with_both() -> None:
    with pytest.raises(ValueError) as caught:
        evidence_of("01/02/2024", "12/25/2024", "25/12/2024").decide()
    assert "'25/12/2024' in orders_2.csv has the day first" in str(caught.value)
    assert "'12/25/2024' in orders_1.csv the month first" in str(caught.value)


def test_years_of_two_digits_stand_last() -> None:
    """Unless the first number hardly changes and the last does."""
    assert read("13.01.24", "14.01.24", "20.02.24")[0] == "2024-01-13"
    assert read("24.01.13", "24.01.14", "20.12.12")[0] == "2013-01-24"
    assert read("24/12/24", "25/12/24", "26/12/24")[0] == "2024-12-24"
    for texts in (
        ["24/01/13", "24/01/14"],
        ["24-12-24", "24-12-25"],
        ["24/12/30", "25/01/06"],
        ["24.01.13", "24.01.14", "24.01.20"],
    ):
        with pytest.raises(ValueError, match=r"dates=ymd\) or .*dates=dmy"):
            evidence_of(*texts).decide()
        assert read(*texts, convention="ymd")[0].startswith("2024")
    assert read("24/01/13", "24/01/14", "24/01/2014")[0] == "2013-01-24"


def test_numbers_of_spreadsheets_are_days_where_there_are_no_others() -> None:
    assert read("45663", "45663.75", "Total") == ["2025-01-06", "2025-01-06", ""]
    assert read("20000", "80000", "19999", "80001") == ["1954-10-03", "2119-01-11", "", ""]
    assert read("45663", "2025-01-07") == ["", "2025-01-07"]


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["13.01.2024"], "day.month.year"),
        (["13.01.24", "14.01.24"], "day.month.year"),
        (["12/25/2024 10:00"], "month/day/year"),
        (["2024-01-13~2024-01-14"], "year-month-day ~ year-month-day"),
        (["2024-01-13", "2024-01-14", "25/12/2024"], "year-month-day or day/month/year"),
        (["45663"], "days as spreadsheets number them"),
        ([], "year, month, day"),
    ],
)
def test_how_dates_are_read_is_said(texts: list[str], words: str) -> None:
    assert evidence_of(*texts).decide().describe() == words


def test_placeholders_are_marked() -> None:
    odd_days = ["1900-01-01", "0001-01-01", "1970-01-01", "9999-12-31", "2099-12-31"]
    typos = ["0224-01-05", "1989-12-31", "2101-01-01"]
    days = ["NaT", "1990-01-01", "2024-02-29", "2100-12-31"]
    mask = placeholder_dates(np.array([*odd_days, *typos, *days], dtype="datetime64[D]"))
    assert mask.tolist() == [True] * 8 + [False] * 4


@pytest.mark.parametrize(
    "day",
    ["2025-02-10", "2025/02/10", "20250210", 20250210, "2025-2-10", date(2025, 2, 10),
     "2025-02-10 00:00:00", datetime(2025, 2, 10, 23, 30, tzinfo=UTC),
     np.datetime64("2025-02-10T15:00"), pd.Timestamp("2025-02-10 15:00")],
)  # fmt: skip
def test_a_day_without_doubt(day: object) -> None:
    parsed = parse_strict_day(day)
    assert parsed == np.datetime64("2025-02-10")
    assert parsed.dtype == np.dtype("datetime64[D]")


@pytest.mark.parametrize(
    ("day", "remedy"),
    [
        ("10.02.2024", "; write it as 2024-02-10 or 2024-10-02"),
        ("02/10/2024", "; write it as 2024-02-10 or 2024-10-02"),
        ("25.02.2024", "; write it as 2024-02-25"),
        ("10 Feb 2024", "; write it as 2024-02-10"),
        ("2024-02-10 13:00", "; write it as 2024-02-10"),
        ("2023", "; write one day of it"),
        ("2023-06", "; write one day of it"),
        ("2023-W06", "; write one day of it"),
        ("2024-02-30", ""),
        ("20241301", ""),
        ("soon", ""),
        ("", ""),
        (None, ""),
        (np.datetime64("NaT"), ""),
        (pd.NaT, ""),
        (np.datetime64("2023-06"), "; write one day of it"),
    ],
)
def test_a_day_in_doubt_is_refused(day: object, remedy: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_strict_day(day)
    assert str(caught.value) == f"expected a date such as 2025-02-10, got {day!r}{remedy}"


def days_by_duckdb(texts: Sequence[str], formats: list[str]) -> list[date | None]:
    """Days of texts as DuckDB reads them."""
    query = "select try_strptime(unnest(?::varchar[]), ?::varchar[])::date"
    with duckdb.connect() as connection:
        return [day for (day,) in connection.execute(query, [list(texts), formats]).fetchall()]


SINGLE_DAYS = [
    text
    for text, day in DAYS.items()
    if text.isascii() and "+" not in text and day[:4] in ("2024", "2025") and "Sept" not in text
    if not any(name in text for name in ("Januar ", "enero", "1er", "Jan."))
]


@pytest.mark.parametrize("text", SINGLE_DAYS)
def test_sql_reads_the_same_days(text: str) -> None:
    reading = evidence_of(text).decide()
    [day] = days_by_duckdb([text], strptime_formats(reading))
    assert str(day) == DAYS[text]


def test_sql_may_cut_off_the_time() -> None:
    query = "select regexp_replace(unnest(?::varchar[]), ?, '')"
    with duckdb.connect() as connection:
        rows = connection.execute(query, [list(DAYS), TIME_BEHIND_DAY]).fetchall()
    days_alone = [text for (text,) in rows]
    assert not any(":" in text for text in days_alone)
    for text, day in zip(days_alone, DAYS.values(), strict=True):
        assert read(text) == [day]


def test_sql_refuses_what_it_cannot_read() -> None:
    texts = ["2025-01-06", "Total", "6. Januar 2025", "2025-01-06T00:30:00+09:00", "2025-W02"]
    formats = strptime_formats(evidence_of(*texts).decide())
    assert days_by_duckdb(texts, formats) == [date(2025, 1, 6), None, None, None, None]
    assert strptime_formats(evidence_of("2025-W02").decide()) == []


@pytest.mark.parametrize("convention", ["ymd", "dmy", "mdy"])
def test_sql_has_formats_for_a_convention_that_is_given(convention: DateConvention) -> None:
    reading = DateReading(convention)
    texts = ["12.05.2024", "12.05.24", "12/05/24", "12-05-2024 10:00:00", "2024-05-12", "20240512"]
    start, _ = reading.parse(texts)
    assert days_by_duckdb(texts, strptime_formats(reading)) == start.tolist()


SPELLINGS = {
    "ymd": ["%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%Y년 %m월 %d일", "%Y-%m-%dT%H:%M:%SZ"],
    "dmy": ["%d.%m.%Y", "%d/%m/%Y", "%d-%m-%Y", "%d.%m.%y", "%d/%m/%y", "%d-%m-%y %H:%M:%S"],
    "mdy": ["%m/%d/%Y", "%m-%d-%Y", "%m/%d/%y", "%m/%d/%Y %I:%M %p"],
    "name": ["%d %b %Y", "%b %d, %Y", "%B %d, %Y", "%d-%b-%y", "%A, %d %B %Y"],
}
WRITTEN_DAYS = st.dates(date(2000, 1, 1), date(2060, 12, 31))
CALENDARS = st.one_of(
    st.lists(WRITTEN_DAYS, min_size=1, max_size=5),
    st.builds(
        lambda day, count: [day + timedelta(days=number) for number in range(count)],
        WRITTEN_DAYS,
        st.integers(1, 12),
    ),
)


@given(
    CALENDARS,
    st.sampled_from(sorted(SPELLINGS)).flatmap(lambda key: st.sampled_from(SPELLINGS[key])),
)
def test_days_come_back_or_are_asked_about(days: list[date], spelling: str) -> None:
    """Reading a spelling gives the days that were written, in Python and SQL, or asks."""
    texts = [datetime(day.year, day.month, day.day, 9, 30).strftime(spelling) for day in days]
    try:
        reading = evidence_of(*texts).decide()
    except ValueError as error:
        assert "set one of them" in str(error)
        return
    start, end = reading.parse(texts)
    assert start.tolist() == end.tolist() == days
    assert days_by_duckdb(texts, strptime_formats(reading)) == days


@given(st.lists(st.text("0123456789-/.: ~TWZ년월일Jan", max_size=14), max_size=4))
def test_any_text_is_a_date_or_none(texts: list[str]) -> None:
    """No text ends in an error but one that asks; a date has both ends."""
    for convention in ("ymd", "dmy", "mdy"):
        start, end = evidence_of(*texts).decide(convention).parse(texts)
        assert (np.isnat(start) == np.isnat(end)).all()
