"""Files of purchases: no line goes missing, and SQL sees columns as one type over all files."""

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from factories.shop import transactions_of

from ltvnet.data.purchase_files import distinct_names
from ltvnet.data.transactions import Transactions


def shop(folder: Path, content: str | bytes, choices: Mapping[str, Any]) -> Transactions:
    """A shop of a CSV file, with daily cohorts."""
    path = folder / "orders.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return transactions_of(path, {"cache": str(folder), "period": "day"} | dict(choices))


def day_zero(source: Transactions) -> dict[str, float]:
    """Revenue on day 0 by cohort, in total."""
    history = source.history()
    totals = history.values[:, 0] * history.users
    return dict(zip(history.start.astype(str).tolist(), totals.tolist(), strict=True))


HEADER = "customer_id,date,amount\n"
LINES = "1,2024-01-01,10\n1,2024-01-02,5\n2,2024-02-20,3\n"
EXPECTED = {"2024-01-01": 10.0, "2024-02-20": 3.0}


@pytest.mark.parametrize(
    "content",
    [
        HEADER + LINES,
        (HEADER + LINES).replace("\n", "\r\n"),
        (HEADER + LINES).replace("\n", "\r"),
        (HEADER + LINES).replace("\n", "\r\n", 1),
        HEADER + LINES.replace("\n", "\r\n", 1),
        "\ufeff" + HEADER + LINES,
        (HEADER + LINES).encode("utf-16"),
        (HEADER + LINES).replace(",", ";"),
        (HEADER + LINES).replace(",", "\t"),
        "Orders of the shop\nsince January\n\n" + HEADER + LINES,
        HEADER + "\n\n" + LINES + "\n\n",
        (HEADER + LINES).rstrip("\n"),
        (HEADER + LINES).replace("1,2024-01-01,10", '"1","2024-01-01","10"'),
        HEADER.replace("\n", ",note\n") + LINES.replace("\n", ',"two\nlines, a ""comma"""\n'),
        HEADER.replace("\n", ",filename\n") + LINES.replace("\n", ",a.csv\n"),
    ],
)  # fmt: skip
def test_dialects_are_read(tmp_path: Path, content: str | bytes) -> None:
    assert day_zero(shop(tmp_path, content, {})) == EXPECTED


@pytest.mark.parametrize("encoding", ["latin-1", "cp949", "utf-8"])
def test_encodings_are_found(tmp_path: Path, encoding: str) -> None:
    cities = ["서울", "부산"] if encoding == "cp949" else ["São Paulo", "Brasília"]
    lines = [f"{n},2024-01-0{n + 1},1,{city}" for n, city in enumerate(cities)]
    content = HEADER.replace("\n", ",city\n") + "\n".join(lines)
    source = shop(tmp_path, content.encode(encoding), {"by": ["city"]})
    assert list(source.history().attributes["city"]) == cities


def test_an_encoding_may_be_told(tmp_path: Path) -> None:
    content = (HEADER.replace("\n", ",city\n") + "1,2024-01-01,1,Łódź").encode("cp1250")
    source = shop(tmp_path, content, {"by": ["city"], "format": {"encoding": "cp1250"}})
    assert list(source.history().attributes["city"]) == ["Łódź"]


def test_unquoted_commas_are_told_with_their_lines(tmp_path: Path) -> None:
    content = HEADER.replace("\n", ",name\n") + "1,2024-01-01,10,Doe\n2,2024-01-08,7,Smith, John\n"
    message = r"orders\.csv, line 3: expected 4 cells as in the header, got 5\n.*quote cells"
    with pytest.raises(ValueError, match=message):
        shop(tmp_path, content, {}).history()
    with pytest.raises(ValueError, match=r"line 3: expected 3 cells .*, got 2"):
        shop(tmp_path, HEADER + "1,2024-01-01,10\n2,2024-01-08\n", {}).history()


def test_a_second_header_with_another_column_is_told(tmp_path: Path) -> None:
    content = HEADER + LINES + HEADER.replace("\n", ",coupon\n") + "2,2024-01-08,7,A\n"
    with pytest.raises(ValueError, match=r"orders\.csv, line 5: another header, of 4 columns"):
        shop(tmp_path, content, {}).history()


def test_every_line_of_the_file_is_counted_once(tmp_path: Path) -> None:
    content = (
        HEADER
        + "1,2024-01-01,10\n#N/A,2024-01-02,5\n\n,,\n"
        + HEADER
        + "#2,2024-01-03,5\n2,2024-01-04,-5\n3,2024-01-05,test\nTotal\n   \n4,2024-06-01,1\n"
        + "2,2024-01-04,8\n2,2024-01-04,8\n\n"
    )
    choices = {"until": "2024-03-01", "where": "amount <> 'test'", "dedupe": "rows"}
    counts = shop(tmp_path, content, choices).prepared_cohorts.row_counts
    filled = {text: number for text, number in counts.items() if number and "line" in text}
    assert filled == {
        "lines read": len(content.splitlines()) - 1,  # but the header
        "lines that repeat the header": 1,
        "lines of totals": 1,
        "lines that are blank": 4,
        "lines left out by data.where": 1,
        "lines without a customer": 1,
        "lines after data.until": 1,
        "lines not counted by data.refunds=gross": 1,
        "lines that stand twice": 1,
        "lines counted": 3,
    }
    assert sum(filled.values()) == 2 * filled["lines read"]


def test_a_glob_sums_lines_and_finds_columns_of_any_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + LINES)
    with gzip.open(tmp_path / "b.csv.gz", "wt") as file:
        file.write("date;AMOUNT;customer_id;coupon\n2024-02-21;7;3;x\n")
    choices = {"cache": str(tmp_path), "period": "day", "by": ["coupon"]}
    source = transactions_of(tmp_path / "*.csv*", choices)
    assert list(source.history().attributes["coupon"]) == ["", "", "x"]
    assert source.prepared_cohorts.row_counts["lines read"] == 4


def test_a_glob_of_csv_and_parquet_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + LINES)
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"files of one kind, got b\.parquet and a\.csv"):
        transactions_of(tmp_path / "?.*", {"cache": str(tmp_path)}).history()


def test_the_file_is_known_unless_a_column_has_its_name(tmp_path: Path) -> None:
    for suffix in ("csv", "parquet"):
        frame = pd.DataFrame({"customer_id": ["1"], "date": ["2024-01-01"], "amount": [1.0]})
        for number in (1, 2):
            path = tmp_path / f"o{number}.{suffix}"
            frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
        of_one = {"where": "filename LIKE '%o1%'", "cache": str(tmp_path)}
        source = transactions_of(tmp_path / f"o?.{suffix}", of_one)
        assert source.prepared_cohorts.row_counts["lines counted"] == 1

        frame["filename"] = "o1"
        frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
        own = {"where": "filename = 'o1'", "cache": str(tmp_path), "by": ["filename"]}
        source = transactions_of(path, own | {"until": "2024-02-01"})
        assert list(source.history().attributes["filename"]) == ["o1"]


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("store = 7", 2),  # plain numbers everywhere
        ("zip = '00123'", 1),  # zeros in front: text
        ("code = 'A1'", 1),
        ("code NOT LIKE 'A%'", 2),
        ("store NOT LIKE '8%'", 2),  # text where DuckDB knows no other way
        ("amount BETWEEN 5 AND 10", 2),
        ("qty * price > 20", 1),
    ],
)
def test_sql_sees_numbers_where_all_cells_are_plain_numbers(
    tmp_path: Path, condition: str, kept: int
) -> None:
    content = (
        "customer_id,date,amount,store,zip,code,qty,price\n"
        "1,2024-01-01,10,7,00123,A1,3,7.5\n"
        "2,2024-01-01,5,7,123,12,2,1e0\n"
        "3,2024-01-01,3,8,9,13,1,.5\n"
    )
    source = shop(tmp_path, content, {"where": condition, "until": "2024-02-01"})
    assert source.prepared_cohorts.row_counts["lines counted"] == kept


def test_one_cell_of_one_file_makes_a_column_text(tmp_path: Path) -> None:
    """In every file: numbers here and text there would mean different things by one condition."""
    (tmp_path / "a.csv").write_text("customer_id,date,amount,code\n1,2024-01-01,1,10\n")
    (tmp_path / "b.csv").write_text(
        "customer_id,date,amount,code\n2,2024-01-01,1,9\n3,2024-01-01,1,x\n"
    )
    where = {"where": "code < '9'", "cache": str(tmp_path)}
    source = transactions_of(tmp_path / "?.csv", where)
    assert source.prepared_cohorts.row_counts["lines counted"] == 1  # '10', as text


def test_attributes_and_customers_are_the_text_in_the_file(tmp_path: Path) -> None:
    content = "customer_id,date,amount,store\n1,2024-01-01,1,7\n1.0,2024-01-01,2,7.0\n"
    choices = {"by": ["store"], "where": "store > 0", "until": "2024-02-01"}
    history = shop(tmp_path, content, choices).history()
    assert list(history.attributes["store"]) == ["7", "7.0"]


def test_expressions_of_customers_see_text(tmp_path: Path) -> None:
    content = "user,device,date,amount\n0012,,2024-01-01,1\n,12,2024-01-01,2\n12,,2024-01-01,4\n"
    choices = {"customer": "coalesce(user, device)", "until": "2024-02-01"}
    assert shop(tmp_path, content, choices).history().users.sum() == 2


@pytest.mark.parametrize("options", [{"decimal": "dot"}, {"dates": "us"}, {"thousands": ","}])
def test_words_of_the_format_are_checked(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"data\.format"):
        shop(tmp_path, HEADER + LINES, {"format": options})


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"doubtful": "believe"}, r"data\.doubtful: expected one of refuse, drop, keep, got"),
        ({"timezone": "Korea time"}, r"data\.timezone: expected a name such as Asia/Seoul, got"),
    ],
)
def test_further_words_are_checked(
    tmp_path: Path, choices: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        shop(tmp_path, HEADER + LINES, choices).history()


def test_columns_without_or_with_one_name_can_be_told_apart() -> None:
    header = ["id", "", "Amount", "amount", "amount_1", ""]
    names = distinct_names(header)
    assert names[:4] == ["id", "column_2", "Amount", "amount_1"]
    assert len({name.lower() for name in names}) == len(header)


def test_parquet_text_is_read_as_that_of_a_csv(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "customer_id": ["1", "1", "nan"],
            "date": ["13.01.2024", "14.01.2024", "15.01.2024"],
            "amount": ["12,50", "1,5", "3"],
        }
    )
    frame.to_parquet(tmp_path / "orders.parquet")
    choices = {"cache": str(tmp_path), "period": "day", "until": "2024-02-01"}
    history = transactions_of(tmp_path / "orders.parquet", choices).history()
    assert list(history.start.astype(str)) == ["2024-01-13"]
    np.testing.assert_allclose(history.values[0, :2], [12.5, 14], rtol=1e-12)


def users_of(folder: Path, orders: str, users: str, **choices: object) -> Transactions:
    """A shop with a users file."""
    (folder / "users.csv").write_text("uid,joined\n" + users)
    options = {"users": str(folder / "users.csv"), "users_customer": "uid", "users_date": "joined"}
    return shop(folder, HEADER + orders, options | {"until": "2024-03-01"} | choices)


@pytest.mark.parametrize(
    ("order_id", "user_id"),
    [("76661000", "76661e3"), ("123.0", "123"), ("123", "123.0"), ("1200", "1.2e3"), ("5", "5")],
)
def test_one_number_in_two_spellings_is_one_customer_where_all_ids_are_numbers(
    tmp_path: Path, order_id: str, user_id: str
) -> None:
    orders = f"41195147,2024-01-03,499\n{order_id},2024-01-04,99\n"
    users = f"41195147,2024-01-01\n{user_id},2024-01-02\n54030035,2024-01-03\n"
    counts = users_of(tmp_path, orders, users).prepared_cohorts.row_counts
    assert (counts["lines counted"], counts["users"]) == (2, 3)


@pytest.mark.parametrize(
    ("orders", "users"),
    [
        ("12000,2024-01-03,1\nA7,2024-01-03,1\n", "12e3,2024-01-01\nA7,2024-01-01\n"),
        ("123,2024-01-03,1\n123.0,2024-01-03,1\n", "123,2024-01-01\n"),
        ("123,2024-01-03,1\n0123,2024-01-03,1\n", "123.0,2024-01-01\n0123,2024-01-01\n"),
    ],
)
def test_two_spellings_are_asked_about_where_the_rule_does_not_tell(
    tmp_path: Path, orders: str, users: str
) -> None:
    with pytest.raises(ValueError, match=r"expected customers that are spelt alike in both files"):
        users_of(tmp_path, orders, users).history()
    way_out = "coalesce(CAST(TRY_CAST({} AS HUGEINT) AS VARCHAR), {})"
    choices = {
        "customer": way_out.format("customer_id", "customer_id"),
        "users_customer": way_out.format("uid", "uid"),
    }
    counts = users_of(tmp_path, orders, users, **choices).prepared_cohorts.row_counts
    assert counts["lines counted"] == 2


def test_lines_that_find_no_users_are_told_with_numbers(tmp_path: Path) -> None:
    orders = "a,2024-01-03,1\nb,2024-01-03,1\nc,2024-01-04,1\n"
    users = "a,2024-01-01\nx-b,2024-01-01\nx-c,2024-01-01\n"
    message = (
        r"lines of the customers in .*users\.csv, but 2 of 3 lines find none; such customers of"
        r" lines are 'b', 'c', users are 'a', 'x-b', 'x-c'; .*data\.doubtful=keep"
    )
    with pytest.raises(ValueError, match=message):
        users_of(tmp_path, orders, users).history()
    counts = users_of(tmp_path, orders, users, doubtful="keep").prepared_cohorts.row_counts
    assert counts["lines counted"] == 1


def test_float_ids_of_parquet_find_whole_ids(tmp_path: Path) -> None:
    """As pandas writes whole numbers beside an empty cell."""
    frame = pd.DataFrame({"customer_id": [7.0, np.nan], "date": ["2024-01-02"] * 2, "amount": 1.0})
    frame.to_parquet(tmp_path / "orders.parquet")
    (tmp_path / "users.csv").write_text("uid,joined\n7,2024-01-01\n")
    users = {"users": str(tmp_path / "users.csv"), "users_customer": "uid", "users_date": "joined"}
    source = transactions_of(
        tmp_path / "orders.parquet", users | {"cache": str(tmp_path), "until": "2024-03-01"}
    )
    assert source.prepared_cohorts.row_counts["lines counted"] == 1
