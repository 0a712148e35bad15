"""Files of purchases are read as configured, and what cannot be read is told with a way out."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from factories.shop import LINES, dates_and_users, shop_transactions, transactions_of, value_at

from ltvnet.data.fingerprints import file_fingerprint


def test_where_leaves_lines_out_before_anything_else(tmp_path: Path) -> None:
    history = shop_transactions(tmp_path, {"where": "status = 'paid'"}).history()
    assert value_at(history, "2024-01-15", 0) == 2  # c's first line was not paid


def test_equal_rows_count_once_where_chosen(tmp_path: Path) -> None:
    twice = LINES + LINES.splitlines()[1] + "\n"
    assert value_at(shop_transactions(tmp_path, {}, twice).history(), "2024-01-01", 0) == 20
    assert (
        value_at(shop_transactions(tmp_path, {"dedupe": "rows"}, twice).history(), "2024-01-01", 0)
        == 15
    )


def test_an_invoice_in_two_files_counts_from_the_first(tmp_path: Path) -> None:
    header = "invoice,customer_id,date,amount\n"
    shared = "1,a,2024-01-01,10\n1,a,2024-01-01,10\n"
    (tmp_path / "x1.csv").write_text(header + shared)
    (tmp_path / "x2.csv").write_text(header + shared + "2,a,2024-01-02,4\n,a,2024-01-02,1\n")
    common = {"cache": str(tmp_path), "until": "2024-03-01", "invoice": "invoice"}
    across = {"dedupe": "invoice_across_files", "sheet": "filename"}
    history = transactions_of(tmp_path / "x*.csv", common | across).history()
    assert list(history.values[0, :2]) == [20, 25]  # equal lines of one invoice both count
    twice = transactions_of(tmp_path / "x*.csv", common).history()
    assert list(twice.values[0, :2]) == [40, 45]
    rows = transactions_of(tmp_path / "x*.csv", common | {"dedupe": "rows"}).history()
    assert list(rows.values[0, :2]) == [10, 15]


def test_columns_may_be_expressions_and_need_quoting(tmp_path: Path) -> None:
    path = tmp_path / "[shop] orders.csv"
    path.write_text('Customer ID,when,n,"unit ""price"""\n1,03/01/2024 09:30,3,2.5\n')
    columns = {"customer": "Customer ID", "amount": 'n * "unit ""price"""', "cache": str(tmp_path)}
    when = {"date": "strptime(\"when\", '%d/%m/%Y %H:%M')", "period": "day"}
    history = transactions_of(path, columns | when).history()
    assert dates_and_users(history) == [("2024-01-03", "2024-01-03", 1)]
    assert history.values[0, 0] == 7.5


def test_an_amount_of_one_counts_lines(tmp_path: Path) -> None:
    history = shop_transactions(tmp_path, {"amount": 1}).history()
    assert value_at(history, "2024-01-01", 7) == (3 + 2) / 2


def test_parquet_and_gzip_give_what_csv_gives(tmp_path: Path) -> None:
    expected = shop_transactions(tmp_path, {}).history()
    frame = pd.read_csv(tmp_path / "lines.csv", parse_dates=["date"])
    frame.to_parquet(tmp_path / "lines.parquet")
    frame.to_csv(tmp_path / "lines.csv.gz", index=False)
    for name in ("lines.parquet", "lines.csv.gz"):
        got = transactions_of(
            tmp_path / name, {"until": "2024-03-10", "cache": str(tmp_path)}
        ).history()
        np.testing.assert_array_equal(got.values, expected.values)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"period": "quarter"}, r"data\.period: expected one of day, week, month, got 'quarter'"),
        ({"refunds": "both"}, r"data\.refunds: expected one of gross, net, got 'both'"),
        ({"dedupe": "yes"}, r"data\.dedupe: expected one of none, rows, .*, got 'yes'"),
        ({"burn_in": "spring"}, r"data\.burn_in: expected a date such as .*, got 'spring'"),
        ({"until": "2024-13-01"}, r"data\.until: expected a date such as .*, got '2024-13-01'"),
        ({"dedupe": "invoice_across_files"}, r"needs data\.invoice and data\.sheet"),
        ({"users": "users.csv"}, r"needs data\.users_customer and data\.users_date: .* users\.csv"),
        ({"hierarchy": ["Campaign"]}, r"names \['Campaign'\], but data\.by only \[\]"),
    ],
)
def test_words_are_checked_where_they_are_given(
    tmp_path: Path, choices: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        shop_transactions(tmp_path, choices)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (
            {"customer": "user"},
            r"lines\.csv: .* customer 'user' .*; the columns are customer_id, d",
        ),
        ({"customer": "x", "amount": "y", "by": ["z"]}, r"customer 'x'.*amount 'y'.*a0 'z'"),
        ({"where": "status = "}, r"where 'status = ' \(Parser Error"),
        ({"where": "status = 'gone'"}, r"no line is left: .*'lines left out by data.where': 10"),
        ({"until": "2020-01-01"}, r"no line is left.*check data\.where, data\.customer and"),
        ({"burn_in": "2025-01-01"}, r"users in some cohort, got .*burn_in': 4, 'users': 0}"),
        ({"date": "country"}, r"lines\.csv: expected a date, got 'KR' in data row 1 \(9 such"),
        ({"amount": "status"}, r"expected a number, got 'paid' in data row 1 .*data\.amount as an"),
        ({"amount": "1 / (amount - 7)"}, r"expected a number, got .* in data row 3 \(1 such"),
        (
            {"date": "if(amount = 7, NULL, date)", "amount": "if(amount = 5, NULL, amount)"},
            r"a date, got an empty cell in data row 3(.|\n)*a number, got .* in data row 2",
        ),
        ({"engine": {"threads": 0}}, r"DuckDB could not prepare .*at least 1 thread"),
        ({"date": "strptime(country, '%Y')"}, r"DuckDB could not prepare these transactions"),
    ],
)
def test_what_does_not_fit_the_file_is_told(
    tmp_path: Path, choices: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        shop_transactions(tmp_path, choices).history()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.csv", None, r"gone\.csv: expected a file there, found none; name a CSV"),
        ("empty.csv", b"", r"empty\.csv: expected a table, got an empty file; export it again"),
        ("bare.csv", b"customer_id,date,amount\n", r"expected purchases, but no line is left"),
        ("bad.parquet", b"no parquet", r"bad\.parquet: DuckDB could not prepare .*bad\.parquet"),
        ("cut.csv.gz", b"\x1f\x8b\x08\x00\x00", r"cut\.csv\.gz: the gzip file is cut off"),
        ("date.csv", b"customer_id,date,amount\na,2024-01-01,3\nb,2024-30-30,4\n", r"row 2 \(1"),
        ("gap.csv", b"customer_id,date,amount\na,2024-01-01,3\nb,2024-01-01,\n", r"empty cell in"),
        ("money.csv", b"customer_id,date,amount\na,2024-01-01,1.234.5\n", r"'1\.234\.5' in data"),
    ],
)
def test_files_that_are_no_table_are_told(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        transactions_of(tmp_path / name, {"cache": str(tmp_path)}).history()


def test_the_row_told_is_that_of_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "later.csv").write_text(LINES.splitlines()[0] + "\na,2024-01-01,1,,\na,never,1,,\n")
    with pytest.raises(ValueError, match=r"later\.csv: expected a date, got 'never' in data row 2"):
        transactions_of(tmp_path / "l*.csv", {"cache": str(tmp_path)}).history()


def test_users_without_a_date_are_told(tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("player,joined\na,2024-01-01\nb,soon\n")
    users = {
        "users": str(tmp_path / "users.csv"),
        "users_customer": "player",
        "users_date": "joined",
    }
    with pytest.raises(ValueError, match=r"users\.csv: .*'soon' in data row 2 .*data\.users_date"):
        shop_transactions(tmp_path, users).history()


def test_a_large_file_is_known_by_its_ends_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    with path.open("wb") as file:
        file.truncate(100 << 20)
    first_fingerprint = file_fingerprint(path)
    assert file_fingerprint(path) == first_fingerprint
    os.utime(path, ns=(0, 0))
    assert file_fingerprint(path) != first_fingerprint
