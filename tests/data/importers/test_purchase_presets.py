"""Purchases as shops export them give the cohorts that the same purchases give as plain lines."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories.configs import compose_config
from factories.exports import write_table
from factories.purchase_exports import PURCHASE_LAYOUTS, make_purchases, plain, plain_users
from hydra.utils import instantiate

from ltvnet.data.cohort_tables import Files
from ltvnet.data.curves import History
from ltvnet.data.importers.purchase_presets import recognise_purchases


def read_purchases(data: str, *overrides: str) -> History:
    history: History = instantiate(
        compose_config("train", f"data={data}", *overrides).data
    ).history()
    return history


@pytest.mark.parametrize("name", PURCHASE_LAYOUTS)
def test_the_cohorts_are_those_of_plain_lines(name: str, tmp_path: Path) -> None:
    layout = PURCHASE_LAYOUTS[name]
    purchases = make_purchases()
    layout.write(purchases, tmp_path / "export.csv")
    write_table(plain(purchases), tmp_path / "plain.csv")
    write_table(plain_users(purchases), tmp_path / "users.csv")
    common = ["data.until=2024-07-31", f"data.cache={tmp_path}/cache", "data.engine.threads=1"]
    users = [
        f"data.users={tmp_path}/users.csv",
        "data.users_customer=customer_id",
        "data.users_date=joined",
    ]

    history = read_purchases(
        name, f"data.path={tmp_path}/export.csv", f"data.by=['{layout.country}']", *common
    )
    expected = read_purchases(
        "transactions",
        f"data.path={tmp_path}/plain.csv",
        "data.by=[country]",
        *common,
        *(users if layout.has_users else ()),
    )
    assert_alike(history, expected, {layout.country: "country"})


def assert_alike(history: History, expected: History, names: dict[str, str]) -> None:
    arrays: list[tuple[Any, Any]] = [
        (getattr(history, name), getattr(expected, name))
        for name in ("start", "end", "users", "values")
    ]
    arrays += [
        (history.attributes[name], expected.attributes[plain]) for name, plain in names.items()
    ]
    for first, second in arrays:
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", PURCHASE_LAYOUTS)
def test_a_layout_that_is_read_as_plain_lines_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    PURCHASE_LAYOUTS[name].write(make_purchases(), path)
    with pytest.raises(ValueError, match=f"they are those of {name}, which data={name} reads"):
        read_purchases("transactions", f"data.path={path}", "data.customer=nobody")


@pytest.mark.parametrize("name", PURCHASE_LAYOUTS)
def test_purchases_are_no_cohorts(name: str, tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    PURCHASE_LAYOUTS[name].write(make_purchases(), path)
    message = f"expected a table of cohorts, got purchases as {name} has them; data={name} reads"
    with pytest.raises(ValueError, match=message):
        Files(path=path).history()


def test_plain_lines_are_nobodys() -> None:
    assert recognise_purchases(["customer_id", "date", "amount"]) is None
    assert recognise_purchases([]) is None


def test_capitals_and_blanks_do_not_matter() -> None:
    columns = ["NAME", "EMAIL", "FINANCIAL STATUS", "TOTAL", "CREATED AT", "LINEITEM QUANTITY"]
    assert recognise_purchases(columns) == "shopify"
