"""Odd days and absurd amounts are asked about, and what people have is not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories.shop import transactions_of
from hypothesis import given
from hypothesis import strategies as st

from ltvnet.data.doubtful_lines import believable_exponent, believable_period
from ltvnet.data.transactions import Transactions

DAILY = np.arange("2023-01-01", "2024-03-01", dtype="datetime64[D]")


def period_of(days: dict[str, int], *, is_end_given: bool = False, daily: int = 3) -> list[str]:
    """The first and last day believed of a shop with lines every day, and on some days more."""
    odd_days = np.array(list(days), dtype="datetime64[D]")
    all_days = np.concatenate([DAILY if daily else DAILY[:0], odd_days])
    lines = np.concatenate([np.full(len(DAILY) if daily else 0, daily), list(days.values())])
    order = np.argsort(all_days)
    period = believable_period(
        all_days[order], lines[order].astype(np.int64), is_end_given=is_end_given
    )
    return [str(period.first), str(period.last)]


WHOLE = ["2023-01-01", "2024-02-29"]


@pytest.mark.parametrize(
    "day",
    ["0001-01-01", "0204-01-05", "1899-12-30", "1900-01-01", "1970-01-01", "2014-01-05",
     "2024-06-01", "2042-01-05", "2204-01-05", "2099-12-31", "9999-12-31"],
)  # fmt: skip
def test_a_line_far_from_all_others_is_not_believed(day: str) -> None:
    assert period_of({day: 1}) == WHOLE


@pytest.mark.parametrize("day", ["1900-01-01", "1970-01-01", "9999-12-31"])
def test_placeholders_are_not_believed_in_bulk(day: str) -> None:
    assert period_of({day: 1000}) == WHOLE


def test_odd_days_at_both_ends_and_several_of_them() -> None:
    assert period_of({"1970-01-01": 9, "2015-03-01": 1, "2031-01-01": 1, "9999-12-31": 2}) == WHOLE


@pytest.mark.parametrize("day", ["2022-12-20", "2022-01-01", "2024-03-15", "2024-04-20"])
def test_days_near_the_others_are_believed(day: str) -> None:
    assert day in period_of({day: 1})


def test_many_lines_after_a_gap_are_believed() -> None:
    """A shop that was closed for months, or a file that lost some, goes on."""
    assert period_of({"2024-09-01": 500}) == ["2023-01-01", "2024-09-01"]


def test_a_given_end_is_believed() -> None:
    assert period_of({"2024-06-01": 1}, is_end_given=True) == ["2023-01-01", "2024-06-01"]


@pytest.mark.parametrize(
    "days",
    [["2024-01-01", "2024-02-20"], ["2024-01-01", "2024-01-08", "2024-02-20"],
     ["2022-01-01", "2023-01-01", "2024-01-01"], ["2024-01-01"], ["2024-01-01", "2024-12-01"]],
)  # fmt: skip
def test_few_days_tell_too_little_to_ask(days: list[str]) -> None:
    assert period_of(dict.fromkeys(days, 1), daily=0) == [days[0], days[-1]]


@given(st.lists(st.integers(0, 400), min_size=1, max_size=40), st.integers(0, 20_000))
def test_moving_all_days_moves_the_period(offsets: list[int], shift: int) -> None:
    unique, lines = np.unique(offsets, return_counts=True)
    start = np.datetime64("1995-01-01", "D")
    period = believable_period(start + unique, lines, is_end_given=False)
    moved = believable_period(start + unique + shift, lines, is_end_given=False)
    assert (moved.first, moved.last) == (period.first + shift, period.last + shift)
    assert unique.min() <= (period.last - start).astype(int) <= unique.max()


def test_amounts_are_believed_up_to_a_million_medians() -> None:
    powers = np.array([-3, 2, 3, 5, 40])
    assert believable_exponent(powers, np.array([5, 10, 12, 3, 1])) == 3 + 20


def shop(folder: Path, lines: str, choices: Mapping[str, Any]) -> Transactions:
    """A shop of some lines, with daily cohorts."""
    (folder / "orders.csv").write_text("customer_id,date,amount\n" + lines)
    defaults = {"cache": str(folder), "period": "day"}
    return transactions_of(folder / "orders.csv", defaults | dict(choices))


USUAL = "1,2024-01-01,10.55\n2,2024-01-08,20.25\n3,2024-02-20,7\n"


def test_the_end_of_time_is_asked_about(tmp_path: Path) -> None:
    lines = USUAL + "3,9999-12-31,1\n"
    message = (
        r"orders\.csv: expected dates that can be believed, got '9999-12-31' in data row 4 \(1 such"
        r" .* line 5\), while all other rows are of 2024-01-01 to 2024-02-20\n.*data\.doubtful=drop"
    )
    with pytest.raises(ValueError, match=message):
        shop(tmp_path, lines, {}).history()
    dropped = shop(tmp_path, lines, {"doubtful": "drop"})
    assert str(dropped.history().last_day) == "2024-02-20"
    assert dropped.prepared_cohorts.row_counts["lines with odd dates, by data.doubtful=drop"] == 1
    assert str(shop(tmp_path, lines, {"where": "date < '9'"}).history().last_day) == "2024-02-20"
    assert str(shop(tmp_path, lines, {"until": "2024-03-01"}).history().last_day) == "2024-03-01"
    assert str(shop(tmp_path, lines, {"doubtful": "keep"}).history().last_day) == "9999-12-31"


def test_a_dropped_line_acquires_nobody(tmp_path: Path) -> None:
    history = shop(tmp_path, USUAL + "3,1900-01-01,1\n", {"doubtful": "drop"}).history()
    assert list(history.start.astype(str)) == ["2024-01-01", "2024-01-08", "2024-02-20"]


def test_users_acquired_on_odd_days_are_asked_about(tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("id,joined\n1,2024-01-01\n2,1970-01-01\n3,2024-01-02\n")
    users = {"users": str(tmp_path / "users.csv"), "users_customer": "id", "users_date": "joined"}
    with pytest.raises(ValueError, match=r"users\.csv: .*'1970-01-01' in data row 2 \(1 such"):
        shop(tmp_path, USUAL, users).history()
    dropped = shop(tmp_path, USUAL, users | {"doubtful": "drop"})
    assert dropped.history().users.sum() == 2
    counts = dropped.prepared_cohorts.row_counts
    assert counts["rows of data.users with odd dates, by data.doubtful=drop"] == 1


ABSURD = ["-9223372036854775808", "-999999999999999", "-1e300", "-1e12", "-1e40"]


@pytest.mark.parametrize("amount", ABSURD)
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_refund_that_does_not_count_rounds_no_other(
    tmp_path: Path, amount: str, threads: int
) -> None:
    choices = {"engine": {"threads": threads}, "until": "2024-03-01"}
    expected = shop(tmp_path, USUAL, choices)
    values, errors = expected.history().values, expected.standard_errors()
    beside = shop(tmp_path, USUAL + f"2,2024-01-09,{amount}\n", choices)
    np.testing.assert_array_equal(beside.history().values, values)
    np.testing.assert_array_equal(beside.standard_errors(), errors)


@pytest.mark.parametrize("amount", ["1e12", "-1e15", "9223372036854775807", "-1e18"])
@pytest.mark.parametrize("threads", [1, 3])
def test_an_absurd_amount_that_counts_is_asked_about_and_rounds_no_other(
    tmp_path: Path, amount: str, threads: int
) -> None:
    choices = {"engine": {"threads": threads}, "until": "2024-03-01", "refunds": "net"}
    lines = USUAL + "4,2024-01-08,0.49\n5,2024-01-01,9.99\n"
    expected = shop(tmp_path, lines, choices)
    values, errors = expected.history().values, expected.standard_errors()
    absurd = lines + f"3,2024-02-21,{amount}\n"
    with pytest.raises(
        ValueError, match=r"orders\.csv: expected amounts that can be believed, got"
    ):
        shop(tmp_path, absurd, choices).history()

    dropped = shop(tmp_path, absurd, choices | {"doubtful": "drop"})
    np.testing.assert_array_equal(dropped.history().values, values)
    kept = shop(tmp_path, absurd, choices | {"doubtful": "keep"})
    np.testing.assert_array_equal(kept.history().values[:2], values[:2])
    np.testing.assert_array_equal(kept.standard_errors()[:2], errors[:2])
    assert kept.history().values[2, 1] == pytest.approx(7 + float(amount), rel=1e-12)


def test_what_no_sum_can_hold_is_refused_in_any_case(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no sum of money can hold it"):
        shop(tmp_path, USUAL + "3,2024-02-20,1e300\n", {"doubtful": "keep"}).history()
