"""Cost of advertising in the layouts of networks becomes the spend of cohorts, to the bit."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories.cost_exports import (
    COST_LAYOUTS,
    STRAY_SPEND,
    advertised_cohorts,
    cost_rows,
    meta,
    someones_own,
    write_google_page,
)
from factories.exports import EXPORT_DAY, Table, wide, write_table

from ltvnet.data.cohort_tables import Files
from ltvnet.data.curves import Curves
from ltvnet.data.importers.cost_files import read_costs
from ltvnet.data.importers.table_format import TableFormat


def write_cohorts_without_spend(folder: Path, *, weekly: bool = False) -> Path:
    """A table of the cohorts that were advertised, in a folder of its own."""
    path = folder / "cohorts" / f"cohorts_{EXPORT_DAY}.csv"
    path.parent.mkdir()
    table = wide(advertised_cohorts(weekly=weekly), "ltv_day_{}")
    del table["Spend"]
    write_table(table, path)
    return path


def write_own(folder: Path, table: Table, name: str = "cost.csv") -> Path:
    path = folder / name
    write_table(table, path)
    return path


def own_table(*, weekly: bool = False) -> Table:
    return someones_own(cost_rows(advertised_cohorts(weekly=weekly)))


def spend_of(path: Path, cost: Path, **options: bool) -> Curves:
    return Files(path=path, cost=cost, **options).history().as_of(EXPORT_DAY)  # type: ignore[arg-type]


@pytest.mark.parametrize("weekly", [False, True])
@pytest.mark.parametrize("name", COST_LAYOUTS)
def test_a_layout_is_the_spend_to_the_bit(
    name: str, *, weekly: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layout = COST_LAYOUTS[name]
    cohorts = advertised_cohorts(weekly=weekly)
    cost = layout.write(tmp_path, cohorts)
    path = write_cohorts_without_spend(tmp_path, weekly=weekly)
    with caplog.at_level(logging.INFO):
        curves = spend_of(path, cost)
    np.testing.assert_array_equal(curves.spend, cohorts.spend)
    assert f"cost read as {layout.preset}, " in caplog.text
    assert f"cost joined by dates and Campaign, Country: {STRAY_SPEND:,.2f} of" in caplog.text
    if layout.currency:
        assert f"amounts in {layout.currency}" in caplog.text


def test_the_page_of_google_is_read(tmp_path: Path) -> None:
    """Titles above, tabs in UTF-16, totals below that do not count."""
    cohorts = advertised_cohorts()
    cost = write_google_page(tmp_path, cohorts)
    assert read_costs(cost).total == np.nansum(cohorts.spend) + STRAY_SPEND
    curves = spend_of(write_cohorts_without_spend(tmp_path), cost)
    np.testing.assert_array_equal(curves.spend, cohorts.spend)


def test_a_folder_of_networks_adds_up(tmp_path: Path) -> None:
    """Each campaign in a file of its own network."""
    cohorts = advertised_cohorts()
    folder = tmp_path / "cost"
    folder.mkdir()
    frame = pd.DataFrame(own_table())
    for campaign, rows in frame.groupby("Campaign"):
        write_own(folder, {name: list(rows[name]) for name in rows}, f"{campaign}.csv")
    curves = spend_of(write_cohorts_without_spend(tmp_path), folder)
    np.testing.assert_array_equal(curves.spend, cohorts.spend)


def test_two_exports_of_one_day_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "cost"
    folder.mkdir()
    for name in ("old.csv", "new.csv"):
        write_own(folder, own_table(), name)
    message = r"new\.csv and .*old\.csv: both have cost of 2022-01-03, .*keep the newer export"
    with pytest.raises(ValueError, match=message):
        read_costs(folder)


def test_a_period_is_spread_only_if_said(tmp_path: Path) -> None:
    """A row a month of one campaign: of its 31 days a cohort of a day has one."""
    path = write_cohorts_without_spend(tmp_path)
    table = {
        name: cells[:1] for name, cells in meta(cost_rows(advertised_cohorts())[1:]).items()
    } | {"Reporting ends": ["2022-02-02"], "Amount spent (USD)": ["310.00"]}
    cost = write_own(tmp_path, table)
    with pytest.raises(ValueError, match=r"expected cost by day.*data\.cost_spread=true"):
        spend_of(path, cost)
    spend = spend_of(path, cost, cost_spread=True).spend
    assert set(spend[np.isfinite(spend)]) == {10.0}


def test_spend_that_the_table_had_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cohorts = advertised_cohorts()
    table = wide(cohorts, "ltv_day_{}") | {"Spend": ["1"] * len(cohorts)}
    path = write_own(tmp_path, table, f"cohorts_{EXPORT_DAY}.csv")
    with caplog.at_level(logging.INFO):
        curves = spend_of(path, write_own(tmp_path, own_table()))
    np.testing.assert_array_equal(curves.spend, cohorts.spend)
    assert "its cost replaces the spend of the cohort table" in caplog.text


def test_pieces_have_the_spend_too(tmp_path: Path) -> None:
    cohorts = advertised_cohorts()
    source = Files(
        path=write_cohorts_without_spend(tmp_path), cost=write_own(tmp_path, own_table())
    )
    spend = np.concatenate([curves.spend for curves in source.curves(7)])
    np.testing.assert_array_equal(spend, cohorts.spend)


def test_attributes_of_the_hierarchy_keep_their_names(tmp_path: Path) -> None:
    cohorts = advertised_cohorts()
    table = wide(cohorts, "ltv_day_{}")
    del table["Spend"]
    table["geo"] = table.pop("Country")
    path = write_own(tmp_path, table, f"cohorts_{EXPORT_DAY}.csv")
    own = own_table()
    own["geo"] = own.pop("Country")
    source = Files(path=path, hierarchy=["Campaign", "geo"], cost=write_own(tmp_path, own))
    curves = source.history().as_of(EXPORT_DAY)
    assert curves.hierarchy == ("Campaign", "geo")
    np.testing.assert_array_equal(np.sort(curves.spend), np.sort(cohorts.spend))


def test_numbers_of_the_cost_are_written_as_they_are(tmp_path: Path) -> None:
    """What was said of the cohorts stands where the file of cost does not tell it itself."""
    rows = own_table()
    cost = write_own(tmp_path, rows)
    decimal_comma = TableFormat(decimal="comma")
    assert read_costs(cost, decimal_comma).total == read_costs(cost).total
    ambiguous = {name: cells[:1] for name, cells in rows.items()} | {"Cost": ["1.234"]}
    path = tmp_path / "tabs.tsv"
    pd.DataFrame(ambiguous).to_csv(path, sep="\t", index=False)
    with pytest.raises(ValueError, match=r"can be 1\.234 or 1234"):
        read_costs(path)
    assert read_costs(path, decimal_comma).total == 1234.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Cost": "twelve"}, r"line 2, Cost = 'twelve': expected a plain number"),
        ({"Date": "soon"}, r"line 2, Date = 'soon': expected a day such as 2025-01-06"),
    ],
)
def test_a_cell_that_cannot_be_read_is_named(
    changes: dict[str, str], message: str, tmp_path: Path
) -> None:
    table = own_table()
    for name, cell in changes.items():
        table[name][0] = cell
    with pytest.raises(ValueError, match=message):
        read_costs(write_own(tmp_path, table))


def test_what_is_no_cost_is_refused(tmp_path: Path) -> None:
    path = write_own(tmp_path, {"name": ["a"], "size": ["1"]})
    with pytest.raises(ValueError, match="expected columns of days and of cost.*got name, size"):
        read_costs(path)
    with pytest.raises(
        ValueError, match=r"expected a file or a folder, found none; see data\.cost"
    ):
        read_costs(tmp_path / "nothing.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="expected files that end in"):
        read_costs(tmp_path / "empty")


def test_currencies_of_two_files_are_refused(tmp_path: Path) -> None:
    rows = cost_rows(advertised_cohorts())
    folder = tmp_path / "cost"
    folder.mkdir()
    dollars = meta(rows)
    euros = {name.replace("USD", "EUR"): cells for name, cells in dollars.items()}
    write_own(folder, dollars, "a.csv")
    write_own(folder, euros | {"Campaign name": ["other"] * len(rows)}, "b.csv")
    with pytest.raises(ValueError, match=r"one currency, got USD in a\.csv, EUR in b\.csv"):
        read_costs(folder)
