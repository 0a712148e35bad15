"""Purchases become cohorts: every choice on a shop's ten lines, then on real data."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from factories.configs import CONFIGS
from factories.shop import (
    LINES,
    USERS,
    dates_and_users,
    shop_transactions,
    transactions_of,
    value_at,
)
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st

from ltvnet.data.curves import AGES, MAX_AGE, NODES
from ltvnet.data.transactions import PreparedCohorts, Transactions


def test_weeks_begin_on_monday_and_end_on_sunday(tmp_path: Path) -> None:
    history = shop_transactions(tmp_path, {}).history()
    assert dates_and_users(history) == [
        ("2024-01-01", "2024-01-07", 2),
        ("2024-01-08", "2024-01-14", 1),
        ("2024-01-29", "2024-02-04", 1),
    ]
    # from the Sunday to 2024-03-10, though nobody came after the Wednesday, Monday and Thursday
    assert list(history.observed_age) == [63, 56, 35]
    assert str(history.last_day) == "2024-03-10"


def test_days_and_months(tmp_path: Path) -> None:
    days = shop_transactions(tmp_path, {"period": "day"}).history()
    assert [row[:2] for row in dates_and_users(days)] == [
        (date, date) for date in ("2024-01-01", "2024-01-03", "2024-01-08", "2024-02-01")
    ]
    months = shop_transactions(tmp_path, {"period": "month"}).history()
    assert dates_and_users(months) == [
        ("2024-01-01", "2024-01-31", 3),
        ("2024-02-01", "2024-02-29", 1),
    ]
    assert value_at(months, "2024-01-01", 0) == (10 + 20 + 1) / 3


def test_ages_change_at_midnight_of_each_customers_own_days(tmp_path: Path) -> None:
    history = shop_transactions(tmp_path, {}).history()
    first = [value_at(history, "2024-01-01", age) for age in (0, 5, 6, 7, 63)]
    assert first == [15, 15, 17.5, 21, 21]  # of users a and b, with 5 a second before age 7
    assert [value_at(history, "2024-01-08", age) for age in (0, 11, 12)] == [1, 1, 3]
    assert [value_at(history, "2024-01-29", age) for age in (27, 28)] == [8, 11]
    assert np.isnan(value_at(history, "2024-01-01", 64))


def test_refunds_count_in_net_curves_only(tmp_path: Path) -> None:
    assert (
        value_at(shop_transactions(tmp_path, {"refunds": "net"}).history(), "2024-01-01", 0) == 13
    )
    assert (
        value_at(shop_transactions(tmp_path, {"refunds": "gross"}).history(), "2024-01-01", 0) == 15
    )


def test_until_defaults_to_the_day_of_the_last_line(tmp_path: Path) -> None:
    history = shop_transactions(tmp_path, {"until": None}).history()
    assert str(history.last_day) == "2024-02-29"
    assert list(history.observed_age) == [53, 46, 25]
    assert np.isnan(value_at(history, "2024-01-29", 28))


def test_lines_after_until_are_unknown_and_an_open_cohort_has_no_age(tmp_path: Path) -> None:
    history = shop_transactions(tmp_path, {"until": "2024-02-01"}).history()
    assert list(history.observed_age) == [25, 18, -1]
    assert np.isnan(history.users[2])


def test_revenue_that_comes_in_late_shortens_the_observed_age(tmp_path: Path) -> None:
    history = shop_transactions(tmp_path, {"lag_days": 3}).history()
    assert list(history.observed_age) == [60, 53, 32]


def test_customers_from_before_the_burn_in_are_in_no_cohort(tmp_path: Path) -> None:
    history = shop_transactions(tmp_path, {"burn_in": "2024-01-03"}).history()
    assert dates_and_users(history)[0] == (
        "2024-01-01",
        "2024-01-07",
        1,
    )  # b alone; a came on the 1st
    assert value_at(history, "2024-01-01", 7) == 20


def test_attributes_are_those_of_the_first_line(tmp_path: Path) -> None:
    history = shop_transactions(tmp_path, {"by": ["country"], "period": "month"}).history()
    named = zip(history.start.astype(str), history.attributes["country"], strict=True)
    assert list(named) == [("2024-01-01", "KR"), ("2024-01-01", "US"), ("2024-02-01", "")]
    assert list(history.users) == [2, 1, 1]
    assert history.hierarchy == ("country",)


def test_several_attributes_keep_their_names(tmp_path: Path) -> None:
    history = shop_transactions(
        tmp_path, {"by": ["status", "country"], "hierarchy": ["status"]}
    ).history()
    assert list(history.attributes["status"]) == ["paid", "paid", "open", "paid"]
    assert list(history.attributes["country"]) == ["KR", "US", "KR", ""]


def test_users_file_counts_those_who_never_bought(tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text(USERS)
    users = {"users": str(tmp_path / "users.csv"), "users_customer": "player"}
    shop = shop_transactions(tmp_path, users | {"users_date": "joined", "by": ["country"]})
    history = shop.history()
    assert list(history.attributes["country"]) == ["KR", "US", "KR"]
    assert list(history.users) == [1, 2, 1]  # a; b and e; c
    assert list(history.values[:, 0]) == [10, 0, 0]
    assert history.values[1, 1] == 20 / 2  # b joined the day before its first line
    assert history.values[2, 10] == 2  # what c bought before it joined does not count
    counts = shop.prepared_cohorts.row_counts
    assert counts["lines of customers that data.users lacks"] == 2  # both of d
    assert counts["lines before their customer was acquired"] == 1
    assert counts["rows of data.users after 2024-03-10"] == 1
    assert counts["rows of data.users without a customer"] == 1


def test_standard_error_is_that_of_a_mean_over_users(tmp_path: Path) -> None:
    errors = shop_transactions(tmp_path, {}).standard_errors()
    assert list(errors.columns) == list(NODES)
    first = errors.loc[("2024-01-01", "2024-01-07")].to_numpy().ravel()
    # users a and b had spent 10 and 20 by D0, 15 and 20 by D6, 22 and 20 by D7
    nodes = list(NODES)
    expected = {0: 5.0, 6: 2.5, 7: 1.0, 60: 1.0}
    for node, error in expected.items():
        assert first[nodes.index(node)] == pytest.approx(error, rel=1e-9)
    assert np.isnan(first[nodes.index(90)])  # D90 is not complete on 2024-03-10
    assert errors.iloc[1:].isna().all(axis=None)  # one user has no variance


def test_users_in_parts_give_the_same_standard_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    purchases = purchases_table(
        [(user, int(random.integers(500)), user + 0.01) for user in range(300)] * 3
    )
    purchases.to_parquet(tmp_path / "lines.parquet")
    choices = {"period": "month", "until": "2026-01-01"}
    errors = []
    for part_number, size in enumerate(
        (1 << 20, 8 * len(NODES) * 7)
    ):  # all users at once, or seven
        monkeypatch.setattr("ltvnet.data.transactions.TOTALS_BYTES", size)
        choices["cache"] = str(tmp_path / str(part_number))
        errors.append(transactions_of(tmp_path / "lines.parquet", choices).standard_errors())
    assert errors[0].notna().sum().sum() > 100
    pd.testing.assert_frame_equal(*errors, check_exact=True)


def test_of_first_lines_at_one_moment_the_least_attributes_count(tmp_path: Path) -> None:
    header = "customer_id,date,amount,country,os\n"
    at_one_moment = ["a,2024-01-01,1,US,x\n", "a,2024-01-01,1,KR,z\n", "a,2024-01-01,1,KR,y\n"]
    before_1970 = "b,1969-12-31 23:59:59,1,US,x\nb,1970-01-01,1,KR,x\n"  # negative since 1970
    for number, first_lines in enumerate((at_one_moment, at_one_moment[::-1])):
        path = tmp_path / f"{number}.csv"
        path.write_text(header + "".join(first_lines) + before_1970)
        by = {"by": ["country", "os"], "cache": str(tmp_path), "doubtful": "keep"}
        history = transactions_of(path, by).history()
        attributes = zip(history.attributes["country"], history.attributes["os"], strict=True)
        assert list(attributes) == [("US", "x"), ("KR", "y")]


purchase = st.tuples(
    st.integers(0, 6), st.integers(0, 500), st.integers(-50_000, 100_000).map(lambda x: x / 100)
)


def purchases_table(lines: list[tuple[int, int, float]]) -> pd.DataFrame:
    frame = pd.DataFrame(lines, columns=["customer_id", "day", "amount"])
    date = pd.Timestamp("2023-01-01") + pd.to_timedelta(frame["day"], unit="D")
    return frame.assign(date=date)


@given(st.lists(purchase, min_size=1, max_size=60), st.sampled_from(["gross", "net"]))
@settings(max_examples=8, deadline=None)
def test_cohorts_hold_every_amount_that_counts(
    lines: list[tuple[int, int, float]], refunds: str
) -> None:
    with TemporaryDirectory() as name:
        frame, path = purchases_table(lines), Path(name) / "lines.parquet"
        frame.to_parquet(path)
        choices = {"refunds": refunds, "until": "2026-01-01", "cache": name}
        shop = transactions_of(path, choices)
        history, errors = shop.history(), shop.standard_errors()
        shuffled = Path(name) / "shuffled.parquet"
        frame.iloc[::-1].assign(amount=frame["amount"] * 1024).to_parquet(shuffled)
        again = transactions_of(shuffled, choices | {"engine": {"threads": 2}})
        # neither the order of lines nor threads nor the currency unit changes a digit
        np.testing.assert_array_equal(again.history().values, history.values * 1024)
        np.testing.assert_array_equal(again.standard_errors(), errors * 1024)
    frame["age"] = frame["day"] - frame.groupby("customer_id")["day"].transform("min")
    frame.loc[(frame["amount"] < 0) & (refunds == "gross"), "amount"] = 0
    inside = frame[frame["age"] < AGES]
    total = (history.users * history.values[:, MAX_AGE]).sum()
    assert total == pytest.approx(inside["amount"].sum(), rel=1e-12, abs=1e-9)
    assert history.users.sum() == frame["customer_id"].nunique()
    counts = shop.prepared_cohorts.row_counts
    counts_of_lines = [number for text, number in counts.items() if text.startswith("lines")][1:]
    assert counts["lines read"] == len(lines) == sum(counts_of_lines)


def test_cohorts_come_from_the_cache_until_file_or_choices_change(tmp_path: Path) -> None:
    first = shop_transactions(tmp_path, {})
    first.history()
    (cached,) = (tmp_path / "cache").iterdir()
    marked = {**vars(PreparedCohorts.load(cached)), "users": np.array([7.0, 7, 7])}
    PreparedCohorts(**marked).save(cached)
    assert list(shop_transactions(tmp_path, {}).history().users) == [7, 7, 7]
    assert list(shop_transactions(tmp_path, {"lag_days": 1, "engine": {}}).history().users) == [
        7,
        7,
        7,
    ]
    assert list(shop_transactions(tmp_path, {"refunds": "net"}).history().users) == [2, 1, 1]
    more = LINES + "e,2024-01-02,1,KR,paid\n"
    assert list(shop_transactions(tmp_path, {}, more).history().users) == [3, 1, 1]


def test_a_broken_cache_is_told_and_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = shop_transactions(tmp_path, {}).history()
    (cached,) = (tmp_path / "cache").iterdir()
    cached.write_bytes(cached.read_bytes()[:100])
    np.testing.assert_array_equal(shop_transactions(tmp_path, {}).history().values, expected.values)
    assert "cannot be read: transactions prepared again" in caplog.text
    (tmp_path / "file").write_text("")
    shop_transactions(tmp_path, {"cache": str(tmp_path / "file")}).history()
    assert "cannot be written: nothing is cached" in caplog.text


def test_the_cache_is_the_users_own_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    shop_transactions(tmp_path, {"cache": None}).history()
    assert len(list((tmp_path / "home" / "ltvnet").iterdir())) == 1


def test_the_log_says_what_became_of_every_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    shop_transactions(tmp_path, {}).history()
    for count in (
        "10 lines read",
        "1 lines without a customer",
        "1 lines not counted by data.refunds=gross",
        "8 lines counted",
        "4 users",
        "3 cohorts with a complete age on 2024-03-10",
        "0 cohorts observed to D360",
    ):
        assert f" {count}\n" in caplog.text


def run(folder: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(CONFIGS.parent / "scripts" / "prepare.py"), *arguments]
    return subprocess.run(script, cwd=folder, capture_output=True, text=True, check=False)


def test_prepare_writes_a_cohort_table_and_its_standard_errors(tmp_path: Path) -> None:
    (tmp_path / "lines.csv").write_text(LINES)
    until = ["data.until=2024-03-10", "data.cache=cache", "data.by=[country]", "out=prepared"]
    process = run(tmp_path, ["data=transactions", "data.path=lines.csv", *until])
    assert process.returncode == 0, process.stderr
    assert "8 lines counted" in process.stdout
    words = "train.py model=best data=files data.path=prepared 'data.hierarchy=[country]'\n"
    assert words in process.stdout
    name = "cohorts_2024_03_10.csv"
    table = pd.read_csv(tmp_path / "prepared" / name, keep_default_na=False)
    assert list(table["Date"])[:2] == ["2024-01-01~2024-01-07"] * 2
    assert list(table["country"]) == ["KR", "US", "KR", ""]
    assert list(table["day_7"].astype(float)) == [22, 20, 1, 8]
    assert "day_64" not in table
    errors = pd.read_csv(tmp_path / "prepared" / "standard_errors" / name, keep_default_na=False)
    assert list(errors) == ["Date", "country", "Users", *(f"day_{age}" for age in NODES)]
    pd.testing.assert_frame_equal(errors[["Date", "country"]], table[["Date", "country"]])


def test_prepare_tells_errors_without_a_traceback(tmp_path: Path) -> None:
    process = run(tmp_path, ["data.path=gone.csv"])
    assert process.returncode == 2
    assert "gone.csv: expected a file there" in process.stderr
    assert "Traceback" not in process.stderr


REAL = os.environ.get("LTVNET_DATA")
real = pytest.mark.skipif(not REAL, reason="LTVNET_DATA names no folder of real data")


def source_of_config(name: str, cache: Path, overrides: list[str]) -> Transactions:
    """A source as `data=name` makes it."""
    options = [f"data={name}", f"data.cache={cache}", "data.engine.threads=1", *overrides]
    with initialize_config_dir(str(CONFIGS), version_base=None):
        transactions = instantiate(compose("prepare", overrides=options).data)
    assert isinstance(transactions, Transactions)
    return transactions


def by_pandas(purchases: pd.DataFrame, until: pd.Timestamp) -> pd.DataFrame:
    """Online Retail II in weekly gross cohorts from 2010-03-01, without any code of ours."""
    purchases = purchases[
        ~purchases["InvoiceNo"].str.startswith("A") & purchases["CustomerID"].notna()
    ]
    sheet = purchases["sheet"].astype(str)
    purchases = purchases[sheet == sheet.groupby(purchases["InvoiceNo"]).transform("min")]
    purchases = purchases.assign(
        amount=purchases["Quantity"] * purchases["UnitPrice"],
        day=purchases["InvoiceDate"].dt.normalize(),
    )
    purchases["acquired"] = purchases.groupby("CustomerID")["day"].transform("min")
    purchases = purchases[purchases["acquired"] >= pd.Timestamp("2010-03-01")]
    purchases["start"] = purchases["acquired"].dt.to_period("W-SUN").dt.start_time
    users = purchases.groupby("start")["CustomerID"].nunique()
    gross = purchases[purchases["amount"] >= 0]
    age = (gross["day"] - gross["acquired"]).dt.days
    daily = gross["amount"].groupby([gross["start"], age]).sum().unstack(fill_value=0.0)
    daily = daily.reindex(index=users.index, columns=range(AGES), fill_value=0.0)
    curves = daily.cumsum(axis=1).div(users, axis=0)
    last = (until - (curves.index + pd.Timedelta(6, unit="D"))).days
    return curves.where(np.arange(AGES) <= last.to_numpy()[:, None])


@real
def test_online_retail_equals_an_independent_computation(tmp_path: Path) -> None:
    transactions = source_of_config("online_retail", tmp_path, [])
    history = transactions.history()
    purchases = pd.read_parquet(Path(str(REAL)) / "online_retail_ii" / "lines.parquet")
    expected = by_pandas(purchases, pd.Timestamp("2011-12-09"))
    assert list(history.start) == list(expected.index.to_numpy().astype("datetime64[D]"))
    np.testing.assert_allclose(history.values, expected.to_numpy(), rtol=1e-11)
    k = history.observed_age
    assert (len(k), (k >= 0).sum(), (k == MAX_AGE).sum()) == (92, 91, 41)
    assert transactions.prepared_cohorts.users.sum() == 4140
    assert str(history.last_day) == "2011-12-09"


@real
def test_online_retail_net_is_of_the_known_size(tmp_path: Path) -> None:
    history = source_of_config("online_retail", tmp_path, ["data.refunds=net"]).history()
    mature = history.observed_age == MAX_AGE
    users, values = history.users[mature], history.values[mature]
    pooled = (users[:, None] * values).sum(axis=0) / users.sum()
    assert pooled[MAX_AGE] == pytest.approx(1260, abs=5)
    shares = pooled[[0, 7, 30, 90, 180]] / pooled[MAX_AGE]
    assert shares == pytest.approx([0.31, 0.31, 0.35, 0.48, 0.67], abs=0.006)
    with np.errstate(invalid="ignore"):
        falls = (np.diff(history.values, axis=1) < 0).any(axis=1).sum()
    assert falls == 90


@real
def test_cdnow_gives_the_published_curve(tmp_path: Path) -> None:
    history = source_of_config("cdnow", tmp_path, []).history()
    assert (history.observed_age == MAX_AGE).all()
    assert history.users.sum() == 23570
    by_week = np.add.reduceat(history.users, np.arange(0, 84, 7))
    weeks = [1574, 1642, 1822, 1924, 2164, 2197, 2024, 2034, 2198, 2165, 2037, 1789]
    assert list(by_week) == weeks
    pooled = (history.users @ history.values) / history.users.sum()
    published = [33.29, 35.53, 42.28, 48.80, 53.68, 66.93, 78.86, 90.16]
    assert list(pooled[[0, 7, 30, 60, 90, 180, 270, 360]].round(2)) == published


@real
def test_cdnow_standard_error_is_the_published_variation(tmp_path: Path) -> None:
    transactions = source_of_config("cdnow", tmp_path, ["data.period=month", "data.by=[]"])
    history, errors = transactions.history(), transactions.standard_errors()
    mean = history.values[:, MAX_AGE]
    variation = errors[MAX_AGE] * np.sqrt(history.users) / mean
    assert np.average(variation, weights=history.users) == pytest.approx(2.1, abs=0.1)


@real
def test_intendo_counts_players_who_never_paid(tmp_path: Path) -> None:
    transactions = source_of_config("intendo", tmp_path, [])
    history = transactions.history()
    assert len(history) == 53
    assert transactions.prepared_cohorts.users.sum() == 1231
    assert np.nanmedian(history.users) == 24
    assert (history.observed_age == MAX_AGE).sum() == 1
