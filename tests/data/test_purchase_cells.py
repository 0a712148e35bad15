"""Cells of purchases: every convention is read as it is meant, by all cells, or asked about."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from factories.shop import transactions_of

from ltvnet.data.curves import History


def history_of(folder: Path, content: str | bytes, choices: Mapping[str, Any]) -> History:
    """The cohorts of each day of a CSV file."""
    path = folder / "orders.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return transactions_of(path, {"cache": str(folder), "period": "day"} | dict(choices)).history()


def starts(history: History) -> list[str]:
    """The days of the cohorts."""
    return list(history.start.astype(str))


def orders(*dates: str, separator: str = ",") -> str:
    """An order of 10 of another customer on each date."""
    lines = [f"c{number}{separator}{date}{separator}10" for number, date in enumerate(dates)]
    header = separator.join(["customer_id", "date", "amount"])
    return "\n".join([header, *lines, ""])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2024-01-13", "2024-02-20"),
        ("2024-1-13", "2024-2-20"),
        ("2024/01/13", "2024/02/20"),
        ("2024.01.13", "2024.02.20"),
        ("2024. 1. 13.", "2024. 2. 20."),
        ("20240113", "20240220"),
        ("2024년 1월 13일", "2024년 2월 20일"),
        ("13.01.2024", "20.02.2024"),
        ("13.1.24", "20.2.24"),
        ("13/01/24", "20/02/24"),
        ("13-01-24", "20-02-24"),
        ("01/13/2024", "02/20/2024"),
        ("1/13/24", "2/20/24"),
        ("Jan 13, 2024", "Feb 20, 2024"),
        ("13 January 2024", "20 February 2024"),
        ("45304", "45342"),
    ],
)
def test_days_are_read_in_any_spelling(tmp_path: Path, first: str, second: str) -> None:
    content = orders(f'"{first}"', f'"{second}"')
    assert starts(history_of(tmp_path, content, {})) == ["2024-01-13", "2024-02-20"]


TIMES = ["", " 09:30", " 9:30:59", " 23:59:59.5", " 3:05 PM", " 12:05:10 am", " 오후 3:05"]


@pytest.mark.parametrize(
    ("first", "second"),
    [("2024-01-13", "2024-02-20"), ("13.1.24", "20.2.24"), ("01/13/2024", "02/20/2024"),
     ("Jan 13, 2024", "Feb 20, 2024"), ("2024. 1. 13.", "2024. 2. 20.")],
)  # fmt: skip
def test_times_behind_days_are_read_in_any_spelling(
    tmp_path: Path, first: str, second: str
) -> None:
    content = orders(*(f'"{day}{time}"' for day in (first, second) for time in TIMES))
    history = history_of(tmp_path, content, {"until": "2024-03-01"})
    assert starts(history) == ["2024-01-13", "2024-02-20"]
    assert list(history.users) == [len(TIMES)] * 2


def test_of_a_day_the_earlier_half_comes_first(tmp_path: Path) -> None:
    """A customer's first line tells its attributes: 12:30 AM is before 1 AM, 1 PM after noon."""
    header = "customer_id,date,amount,country\n"
    lines = [
        "a,1/13/2024 1:00 AM,1,DE", "a,1/13/2024 12:30 AM,1,KR",
        "b,1/13/2024 1:00 PM,1,DE", "b,1/13/2024 12:30 PM,1,US",
    ]  # fmt: skip
    history = history_of(tmp_path, header + "\n".join(lines), {"by": ["country"]})
    assert list(history.attributes["country"]) == ["KR", "US"]


@pytest.mark.parametrize("dates", ["dmy", "mdy"])
def test_days_that_can_be_read_in_two_ways_are_asked_about(tmp_path: Path, dates: str) -> None:
    content = orders("05/12/2024", "06/12/2024")
    with pytest.raises(ValueError, match=r"'05/12/2024' in .*orders\.csv.*data\.format\.dates=dmy"):
        history_of(tmp_path, content, {})
    days = {"dmy": ["2024-12-05", "2024-12-06"], "mdy": ["2024-05-12", "2024-06-12"]}
    read = history_of(tmp_path, content, {"format": {"dates": dates}, "doubtful": "keep"})
    assert starts(read) == days[dates]


def test_one_order_of_day_and_month_holds_for_all_files(tmp_path: Path) -> None:
    (tmp_path / "w1.csv").write_text(orders("12/05/2024", "12/06/2024"))
    (tmp_path / "w2.csv").write_text(orders("12/20/2024", "12/25/2024"))
    shop = transactions_of(tmp_path / "w*.csv", {"cache": str(tmp_path), "period": "day"})
    assert starts(shop.history()) == ["2024-12-05", "2024-12-06"]  # c0 and c1 came back
    (tmp_path / "w3.csv").write_text(orders("25/12/2024"))
    with pytest.raises(ValueError, match="'25/12/2024' in"):
        transactions_of(tmp_path / "w*.csv", {"cache": str(tmp_path)}).history()


def test_what_a_condition_leaves_out_says_nothing_of_the_convention(tmp_path: Path) -> None:
    content = orders("12/05/2024", "12/20/2024", "31/12/2024")
    read = history_of(tmp_path, content, {"where": "customer_id <> 'c2'"})
    assert starts(read) == ["2024-12-05", "2024-12-20"]


@pytest.mark.parametrize("offset", ["+09:00", "+0900", " +0900", " +09:00", "+09"])
def test_the_day_is_the_one_that_is_written(tmp_path: Path, offset: str) -> None:
    content = orders(f"2024-01-08T00:30:00{offset}", f"2024-02-20 00:00:00{offset}")
    assert starts(history_of(tmp_path, content, {})) == ["2024-01-08", "2024-02-20"]
    in_utc = history_of(tmp_path, content, {"timezone": "UTC"})
    assert starts(in_utc) == ["2024-01-07", "2024-02-19"]
    in_korea = history_of(tmp_path, content, {"timezone": "Asia/Seoul"})
    assert starts(in_korea) == ["2024-01-08", "2024-02-20"]


def test_summer_time_moves_no_day(tmp_path: Path) -> None:
    """Berlin sets its clocks forward on 2024-03-31 and back on 2024-10-27."""
    winter, summer = "+01:00", "+02:00"
    times = [
        f"2024-03-31T00:30:00{winter}", f"2024-04-01T00:30:00{summer}",
        f"2024-10-27T00:30:00{summer}", f"2024-10-28T00:30:00{winter}",
    ]  # fmt: skip
    days = [time[:10] for time in times]
    assert starts(history_of(tmp_path, orders(*times), {})) == days
    assert starts(history_of(tmp_path, orders(*times), {"timezone": "Europe/Berlin"})) == days
    before = ["2024-03-30", "2024-03-31", "2024-10-26", "2024-10-27"]
    assert starts(history_of(tmp_path, orders(*times), {"timezone": "UTC"})) == before


def test_times_with_and_without_an_offset_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    history_of(tmp_path, orders("2024-01-08T00:30:00Z", "2024-01-09 10:00:00"), {})
    assert "date: 1 times have an offset from UTC; their days are as written" in caplog.text
    assert "date: 1 others have none: taken as they stand" in caplog.text


def test_parquet_moments_of_a_time_zone_are_days_of_utc_or_of_the_zone(tmp_path: Path) -> None:
    moments = pd.to_datetime(["2024-01-07 20:00", "2024-02-01 10:00"]).tz_localize("UTC")
    frame = pd.DataFrame({"customer_id": [1, 2], "date": moments, "amount": [1.0, 2.0]})
    frame.to_parquet(tmp_path / "orders.parquet")
    choices = {"cache": str(tmp_path), "period": "day"}
    in_utc = transactions_of(tmp_path / "orders.parquet", choices).history()
    assert starts(in_utc) == ["2024-01-07", "2024-02-01"]
    zone = {"timezone": "Asia/Seoul"}
    in_korea = transactions_of(tmp_path / "orders.parquet", choices | zone).history()
    assert starts(in_korea) == ["2024-01-08", "2024-02-01"]


@pytest.mark.parametrize(
    ("date", "expression"),
    [
        ("1704585600", "to_timestamp(date)"),
        ("1704585600000", "to_timestamp(date / 1000)"),
        ("20240107", "strptime(date, '%Y%m%d')"),
        ("7|1|2024", "try_strptime(date, '%d|%m|%Y')"),
        ("2024-01-07", "CAST(date AS DATE)"),
    ],
)
def test_dates_may_be_sql_over_numbers_or_text(tmp_path: Path, date: str, expression: str) -> None:
    read = history_of(tmp_path, orders(date), {"date": expression})
    assert starts(read) == ["2024-01-07"]


def test_seconds_since_1970_are_told_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'1704585600' in data row 1 .*to_timestamp\(column\)"):
        history_of(tmp_path, orders("1704585600"), {})


@pytest.mark.parametrize(
    "date", ["2024-02-30", "2024-W03", "2024-01", "yesterday", "10:30", "#N/A"]
)
def test_what_is_no_day_is_told(tmp_path: Path, date: str) -> None:
    with pytest.raises(ValueError, match=r"orders\.csv: expected a date, got .* in data row 2"):
        history_of(tmp_path, orders("2024-01-07", date), {})


def first_value(folder: Path, *amounts: str, separator: str = ";", **choices: object) -> float:
    """The amount of the first of some customers of one day."""
    lines = [f"c{n}{separator}2024-01-0{n + 1}{separator}{a}" for n, a in enumerate(amounts)]
    content = "\n".join([separator.join(["customer_id", "date", "amount"]), *lines, ""])
    return float(history_of(folder, content, choices).values[0, 0])


@pytest.mark.parametrize(
    ("amounts", "value"),
    [
        (("12,50", "3,2"), 12.5),
        (("12,5", "1.234,56"), 12.5),
        (("1.234,56", "3"), 1234.56),
        (("1 234,56", "3"), 1234.56),
        (("1,234.56", "3"), 1234.56),
        (("$12.50", "$3.00"), 12.5),
        (("12,50 €", "3,00 €"), 12.5),
        (("7,000원", "3,000원"), 7000.0),
        (("1e3", "2.5"), 1000.0),
        (("1.234", "0.5"), 1.234),  # half a unit is no thousand
        (("1.234", "1234.5"), 1.234),
        (("+5", " 7 "), 5.0),
    ],
)
def test_amounts_are_read_in_any_spelling(
    tmp_path: Path, amounts: tuple[str, ...], value: float
) -> None:
    assert first_value(tmp_path, *amounts) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(("decimal", "value"), [("point", 1.234), ("comma", 1234.0)])
def test_amounts_that_can_be_read_in_two_ways_are_asked_about(
    tmp_path: Path, decimal: str, value: float
) -> None:
    with pytest.raises(ValueError, match=r"'1\.234' in .*amount can be 1\.234 or 1234.*=comma"):
        first_value(tmp_path, "1.234", "10")
    read = first_value(tmp_path, "1.234", "10", format={"decimal": decimal})
    assert read == pytest.approx(value, rel=1e-12)


def test_sql_over_amounts_asks_as_well(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"can be 1\.234 or 1234"):
        first_value(tmp_path, "1.234", "10", amount="amount * 2")
    options = {"amount": "amount * 2", "format": {"decimal": "point"}}
    assert first_value(tmp_path, "1.234", "10", **options) == pytest.approx(2.468, rel=1e-12)


def test_one_decimal_sign_holds_for_all_rows(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'12\.50' .* decimal point, '3,25' .* decimal comma"):
        first_value(tmp_path, "12.50", "3,25")


@pytest.mark.parametrize("amount", ["paid", "0x10", "inf", "12.50.1", "#DIV/0!", "", "NULL"])
def test_what_is_no_amount_is_told(tmp_path: Path, amount: str) -> None:
    with pytest.raises(ValueError, match=r"orders\.csv: expected a number, got .* in data row 2"):
        first_value(tmp_path, "12.50", amount, "3")


def test_the_way_out_for_amounts_works(tmp_path: Path) -> None:
    amount = "regexp_replace(amount, '[^-0-9.]', '', 'g')"
    with pytest.raises(
        ValueError, match=r"data\.amount as .*regexp_replace\(column, '\[\^-0-9\.\]'"
    ):
        first_value(tmp_path, "12.50 per box", "3")
    assert first_value(tmp_path, "12.50 per box", "3", amount=amount) == 12.5


def users_of(folder: Path, *ids: str) -> float:
    """Number of customers in orders of some ids."""
    lines = "".join(f'"{id}",2024-01-01,10\n' for id in ids)
    history = history_of(folder, "customer_id,date,amount\n" + lines, {})
    return float(history.users.sum())


def test_ids_stay_text(tmp_path: Path) -> None:
    ids = ("00123", "0123", "123", "123.0", "1.23e2", " 123", "12e3", "12000", "#1001", "O'Neil")
    assert users_of(tmp_path, *ids) == len(ids)


def test_ids_of_many_digits_are_told_apart(tmp_path: Path) -> None:
    assert users_of(tmp_path, "12345678901234567890", "12345678901234567891") == 2


@pytest.mark.parametrize(
    "nobody", ["", "nan", "NaN", "NULL", "null", "None", "N/A", "#N/A", "NA", "<NA>", "  ", "-"]
)
def test_marks_of_the_unknown_are_nobody(tmp_path: Path, nobody: str) -> None:
    assert users_of(tmp_path, "a", nobody, nobody, "b") == 2


def test_numbers_that_are_nan_are_nobody(tmp_path: Path) -> None:
    frame = pd.DataFrame({"date": ["2024-01-01"] * 3, "amount": [1.0, 2.0, 3.0]})
    frame["customer_id"] = [7.0, np.nan, np.inf]
    frame.to_parquet(tmp_path / "orders.parquet")
    choices = {"cache": str(tmp_path), "until": "2024-02-01"}
    assert list(transactions_of(tmp_path / "orders.parquet", choices).history().users) == [1]
