"""Money per user or of whole cohorts: told by names or numbers, asked about where neither tells."""

from pathlib import Path

import numpy as np
import pytest
from factories.exports import (
    EXPORT_DAY,
    LAYOUTS,
    Table,
    appsflyer_cohort,
    exact_cohorts,
    long,
    number_texts,
    revenue_totals,
    wide,
    write_table,
)

from ltvnet.data.cohort_tables import Files
from ltvnet.data.curves import Curves
from ltvnet.data.importers.table_format import TableFormat

ATTRIBUTES = ("Source", "Campaign", "Country")
ASKED = r"may be money per user or of the whole cohort; say which by data\.format\.per=user or"


def read_values(table: Table, folder: Path, table_format: TableFormat | None = None) -> Curves:
    path = folder / f"export_{EXPORT_DAY}.csv"
    write_table(table, path)
    return Files(path=path, format=table_format or TableFormat()).history().as_of(EXPORT_DAY)


def assert_same_curves(curves: Curves, expected: Curves, last_age: int = 180) -> None:
    ages = slice(0, last_age + 1)
    np.testing.assert_array_equal(curves.values[:, ages], expected.values[:, ages])


@pytest.mark.parametrize("on_day", [False, True])
@pytest.mark.parametrize("per_user", [False, True])
def test_appsflyer_names_alike_what_the_numbers_tell(
    *, on_day: bool, per_user: bool, tmp_path: Path
) -> None:
    cohorts = LAYOUTS["appsflyer_cohort"].cohorts()
    table = appsflyer_cohort(cohorts, on_day=on_day, per_user=per_user)
    values = TableFormat(values="increment" if on_day else None)
    assert_same_curves(read_values(table, tmp_path, values), cohorts)


@pytest.mark.parametrize("on_day", [False, True])
def test_too_few_cohorts_to_tell_are_asked_about(*, on_day: bool, tmp_path: Path) -> None:
    cohorts = LAYOUTS["appsflyer_cohort"].cohorts().take(np.arange(5))
    table = appsflyer_cohort(cohorts, on_day=on_day, per_user=True)
    with pytest.raises(ValueError, match=f"revenue_sum_day_180 {ASKED}"):
        read_values(table, tmp_path)
    words = TableFormat(per="user", values="increment" if on_day else None)
    assert_same_curves(read_values(table, tmp_path, words), cohorts)


def test_cohorts_of_one_size_tell_nothing(tmp_path: Path) -> None:
    cohorts = exact_cohorts(ATTRIBUTES)
    table = wide(cohorts, "Revenue D{}")
    table["Users"] = ["1024"] * len(cohorts)
    with pytest.raises(ValueError, match=f"Revenue D360 {ASKED}"):
        read_values(table, tmp_path)


@pytest.mark.parametrize("pattern", ["LTV D{}", "ltv_day_{}", "arpu_d{}"])
def test_a_name_tells_it(pattern: str, tmp_path: Path) -> None:
    """Five cohorts are too few for the numbers to tell."""
    cohorts = exact_cohorts(ATTRIBUTES).take(np.arange(5))
    assert_same_curves(read_values(wide(cohorts, pattern), tmp_path), cohorts)


@pytest.mark.parametrize(("column", "per"), [("ltv", "user"), ("revenue", "cohort")])
def test_long_tables_of_either_are_read(column: str, per: str, tmp_path: Path) -> None:
    cohorts = exact_cohorts(ATTRIBUTES)
    table = long(cohorts)
    revenue = np.array(table.pop("revenue"), dtype=float)
    users = np.array(table["users"], dtype=float)
    table[column] = number_texts(revenue / users if per == "user" else revenue)
    assert_same_curves(read_values(table, tmp_path), cohorts)


def test_long_revenue_per_user_is_told_by_the_numbers(tmp_path: Path) -> None:
    cohorts = exact_cohorts(ATTRIBUTES)
    table = long(cohorts)
    revenue = np.array(table["revenue"], dtype=float) / np.array(table["users"], dtype=float)
    assert_same_curves(read_values({**table, "revenue": number_texts(revenue)}, tmp_path), cohorts)


@pytest.mark.parametrize("column", ["revenue", "value"])
def test_long_revenue_of_few_cohorts_is_asked_about(column: str, tmp_path: Path) -> None:
    table = long(exact_cohorts(ATTRIBUTES).take(np.arange(5)))
    table[column] = table.pop("revenue")
    with pytest.raises(ValueError, match=f"{column} {ASKED}"):
        read_values(table, tmp_path)


@pytest.mark.parametrize("percent", [False, True])
def test_a_return_on_spend_that_contradicts_the_name_is_refused(
    *, percent: bool, tmp_path: Path
) -> None:
    """Totals under a name that says per user."""
    cohorts = exact_cohorts(ATTRIBUTES)
    totals = revenue_totals(cohorts)
    scale = 100.0 if percent else 1.0
    table = wide(cohorts.with_values(totals), "ltv_day_{}")
    table["roas_day_7"] = number_texts(np.round(totals[:, 7] / cohorts.spend * scale, 4))
    message = r"expected money per user, but .* as money of the whole cohort; say which by"
    with pytest.raises(ValueError, match=message):
        read_values(table, tmp_path)
    assert_same_curves(read_values(table, tmp_path, TableFormat(per="cohort")), cohorts)


def test_users_of_a_large_channel_that_pay_less_do_not_mislead(tmp_path: Path) -> None:
    """Among all cohorts revenue hardly grows with users; within a channel it does."""
    cohorts = exact_cohorts(ATTRIBUTES)
    is_organic = cohorts.attributes["Source"] == "organic"
    assert cohorts.users[is_organic].mean() > 2 * cohorts.users[~is_organic].mean()
    poorer = np.where(is_organic, 0.125, 1.0)[:, None] * cohorts.values
    lopsided = cohorts.with_values(poorer)
    table = wide(lopsided.with_values(revenue_totals(lopsided)), "Revenue D{}")
    assert_same_curves(read_values(table, tmp_path), lopsided)


def test_unknown_users_tell_nothing(tmp_path: Path) -> None:
    cohorts = exact_cohorts(ATTRIBUTES)
    table = wide(cohorts, "Revenue D{}") | {"Users": [""] * len(cohorts)}
    with pytest.raises(ValueError, match=ASKED):
        read_values(table, tmp_path)
