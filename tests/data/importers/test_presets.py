"""Each layout of a platform gives back the cohorts that it was written from, to the bit."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories.exports import (
    EXPORT_DAY,
    LAYOUTS,
    adjust,
    appsflyer_cohort,
    exact_cohorts,
    quarters,
    revenue_totals,
    wide,
    write_table,
)
from factories.odd_exports import ODD_EXPORTS

from ltvnet.data.cohort_tables import Files
from ltvnet.data.curves import EVERY_AGE, Curves, History
from ltvnet.data.importers.table_format import TableFormat


def read_curves(path: Path, date: str = EXPORT_DAY, **options: Any) -> Curves:  # noqa: ANN401
    return Files(path=path, **options).history().as_of(date)


def assert_alike(curves: Curves, expected: Curves, ages: tuple[int, ...]) -> None:
    """Equal to the bit at the exported ages, and known no longer than at the last of them."""
    assert sorted(curves.attributes) == sorted(expected.attributes)
    for name, text in expected.attributes.items():
        assert curves.attributes[name].tolist() == text.tolist(), name
    for name in ("start", "end", "users", "spend"):
        first, second = getattr(curves, name), getattr(expected, name)
        np.testing.assert_array_equal(first, second, err_msg=name)
    every_age = EVERY_AGE if ages == tuple(range(len(ages))) else ages
    assert curves.exported_ages == every_age
    np.testing.assert_array_equal(curves.values[:, ages], expected.values[:, ages])
    assert curves.lag_days == expected.lag_days


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_read_to_the_bit(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layout = LAYOUTS[name]
    path = layout.write(tmp_path)
    with caplog.at_level(logging.INFO):
        curves = read_curves(path)
    expected = layout.cohorts()
    if not layout.has_spend:
        expected = replace(expected, spend=np.full(len(expected), np.nan))
    assert_alike(curves, expected, layout.ages)
    assert f"read as {layout.preset}" in caplog.text


@pytest.mark.parametrize("name", ODD_EXPORTS)
def test_exports_of_new_users_are_read_to_the_bit(name: str, tmp_path: Path) -> None:
    export = ODD_EXPORTS[name]
    curves = read_curves(export.write(tmp_path))
    assert_alike(curves, export.cohorts(), tuple(range(181)))


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_that_is_named_is_read_alike(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    path = layout.write(tmp_path)
    curves = read_curves(path, format=TableFormat(preset=layout.preset))
    np.testing.assert_array_equal(
        curves.values[:, layout.ages], layout.cohorts().values[:, layout.ages]
    )


# --- On which day a cell is complete. ---


@pytest.mark.parametrize(
    ("name", "lag_days"),
    [
        ("appsflyer_cohort", 0),
        ("appsflyer_master", 2),
        ("appsflyer_locker", 0),
        ("adjust", 1),
        ("adjust_mature", 1),
        ("singular", 0),
        ("tenjin", 0),
        ("applovin_max", 0),
        ("long", 0),
        ("wide", 0),
    ],
)
def test_a_cell_is_known_on_its_day_and_not_the_day_before(
    name: str, lag_days: int, tmp_path: Path
) -> None:
    """Age N of a cohort whose last user came on E: E + N, and as much later as the platform is."""
    layout = LAYOUTS[name]
    history = Files(path=layout.write(tmp_path)).history()
    first_end = history.end.min()
    earlier_age = -1
    for age in [age for age in layout.ages if age <= 30]:
        day = first_end + age + lag_days
        assert observed_age(history, first_end, day - 1) == earlier_age
        assert observed_age(history, first_end, day) == age
        earlier_age = age


def observed_age(history: History, end: np.datetime64, day: np.datetime64) -> int:
    """Last age that is known, on a day, of the cohorts that end on another."""
    if day < history.start.min():
        return -1
    curves = history.as_of(day)
    return int(curves.observed_age[curves.end == end].max(initial=-1))


def test_a_day_that_only_the_calendar_has_ended_is_masked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An export of everything so far has the running 24 hours, too."""
    layout = LAYOUTS["adjust"]
    path = tmp_path / f"export_{EXPORT_DAY}.csv"
    write_table(adjust(exact_cohorts(layout.attributes, lag_days=0)), path)
    with caplog.at_level(logging.INFO):
        curves = read_curves(path)
    np.testing.assert_array_equal(curves.values[:, :121], layout.cohorts().values[:, :121])
    assert "masked" in caplog.text


def test_a_value_of_a_day_to_come_is_refused(tmp_path: Path) -> None:
    """The name of the file says that it is a day older than its values."""
    path = LAYOUTS["wide"].write(tmp_path)
    older = path.rename(tmp_path / "export_2022-10-29.csv")
    with pytest.raises(ValueError, match="nothing after the as-of date; correct data.snapshot"):
        Files(path=older).history()


@pytest.mark.parametrize("name", ["appsflyer_cohort", "adjust", "adjust_mature", "tenjin", "long"])
def test_an_export_without_a_date_is_dated_by_its_last_complete_day(
    name: str, tmp_path: Path
) -> None:
    layout = LAYOUTS[name]
    path = layout.write(tmp_path).rename(tmp_path / "export.csv")
    history = Files(path=path).history()
    assert str(history.last_day) == EXPORT_DAY
    np.testing.assert_array_equal(
        history.as_of(EXPORT_DAY).values[:, layout.ages], layout.cohorts().values[:, layout.ages]
    )


# --- What the user says stands above what a preset says. ---


def test_increments_under_the_names_of_cumulative_revenue_are_asked_about(tmp_path: Path) -> None:
    layout = LAYOUTS["appsflyer_cohort"]
    path = tmp_path / f"export_{EXPORT_DAY}.csv"
    write_table(appsflyer_cohort(layout.cohorts(), on_day=True), path)
    message = (
        r"revenue_sum_day_1 = .* got falls in so many cohorts that this is rather the revenue of "
        r"each day: set data\.format\.values=increment, or data\.revenue=net"
    )
    with pytest.raises(ValueError, match=message):
        read_curves(path)
    assert_alike(
        read_curves(path, format=TableFormat(values="increment")), layout.cohorts(), layout.ages
    )


def test_one_cohort_that_falls_is_no_sign_of_increments(tmp_path: Path) -> None:
    table = wide(exact_cohorts(LAYOUTS["wide"].attributes, weekly=True))
    table["ltv_day_30"][3] = "0.015625"
    path = tmp_path / f"export_{EXPORT_DAY}.csv"
    write_table(table, path)
    with pytest.raises(ValueError, match="no fall of cumulative revenue; with refunds in it"):
        read_curves(path)


def test_increments_that_leave_days_out_are_refused(tmp_path: Path) -> None:
    path = LAYOUTS["applovin_max"].write(tmp_path)
    with pytest.raises(ValueError, match="expected the revenue of every day from day 0 on"):
        read_curves(path, format=TableFormat(values="increment"))


def test_a_calendar_day_can_be_said_of_a_rolling_one(tmp_path: Path) -> None:
    path = LAYOUTS["adjust"].write(tmp_path)
    assert Files(path=path).history().lag_days == 1
    calendar = TableFormat(day="calendar")
    assert Files(path=path, format=calendar, partial="mask").history().lag_days == 0
    assert Files(path=path, lag_days=2, partial="mask").history().lag_days == 3


def test_a_period_of_seven_days_can_be_said_to_end_on_day_7(tmp_path: Path) -> None:
    """Whether 7d is the first seven days is Singular's word: a user may know better."""
    path = LAYOUTS["singular"].write(tmp_path)
    by_preset = read_curves(path)
    shifted = read_curves(path, partial="mask", format=TableFormat(age_offset=0))
    assert by_preset.exported_ages == (0, 2, 6, 13, 29, 59, 89, 179)
    assert shifted.exported_ages == (1, 3, 7, 14, 30, 60, 90, 180)
    np.testing.assert_array_equal(shifted.values[0, 7], by_preset.values[0, 6])


def test_cents_are_said_by_the_unit(tmp_path: Path) -> None:
    path = LAYOUTS["wide"].write(tmp_path)
    cents = read_curves(path, format=TableFormat(unit=0.01))
    np.testing.assert_array_equal(cents.values, LAYOUTS["wide"].cohorts().values / 100)


def test_zeros_can_be_said_to_be_data(tmp_path: Path) -> None:
    """A row of an export of mature cohorts falls to zero then, and is refused."""
    path = LAYOUTS["adjust_mature"].write(tmp_path)
    with pytest.raises(ValueError, match="expected no fall|nothing after the as-of date"):
        read_curves(path, format=TableFormat(zeros="data"))


def test_columns_can_be_said_where_a_preset_takes_others(tmp_path: Path) -> None:
    """Singular's custom installs are preferred to those of the network."""
    layout = LAYOUTS["singular"]
    path = layout.write(tmp_path)
    curves = read_curves(path, columns={"Users": "adn_installs"})
    np.testing.assert_array_equal(curves.users, layout.cohorts().users - 1)


def test_the_pattern_of_ages_can_be_said(tmp_path: Path) -> None:
    """Purchases alone, which are beside all revenue."""
    layout = LAYOUTS["adjust"]
    path = layout.write(tmp_path)
    curves = read_curves(path, format=TableFormat(age=r"ad_revenue_total_d(?P<age>\d+)"))
    whole = layout.cohorts()
    totals = revenue_totals(whole)
    advertising = (totals - quarters(totals / 2)) / whole.users[:, None]
    np.testing.assert_array_equal(curves.values[:, :121], advertising[:, :121])


def test_no_preset_can_be_said(tmp_path: Path) -> None:
    path = LAYOUTS["appsflyer_cohort"].write(tmp_path)
    with pytest.raises(ValueError, match="expected a column Date|expected columns day_0"):
        read_curves(path, format=TableFormat(preset="none"))


@pytest.mark.parametrize("name", ["adjust", "singular", "appsflyer_cohort"])
def test_capitals_and_blanks_in_headings_do_not_matter(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    table = layout.table(layout.cohorts())
    path = tmp_path / f"export_{EXPORT_DAY}.csv"
    write_table({heading.replace("_", " ").title(): table[heading] for heading in table}, path)
    curves = read_curves(path)
    np.testing.assert_array_equal(
        curves.values[:, layout.ages], layout.cohorts().values[:, layout.ages]
    )


@pytest.mark.parametrize(
    ("name", "hierarchy"),
    [
        ("appsflyer_cohort", ["pid", "geo"]),
        ("appsflyer_locker", ["media_source", "geo"]),
        ("singular", ["adn_campaign_name"]),
    ],
)
def test_names_of_the_hierarchy_are_kept(name: str, hierarchy: list[str], tmp_path: Path) -> None:
    """A preset gives other names only to columns that the user does not speak of."""
    layout = LAYOUTS[name]
    curves = read_curves(layout.write(tmp_path), hierarchy=hierarchy)
    assert curves.hierarchy == tuple(hierarchy)
    assert len(curves.attributes) == len(layout.attributes)
    np.testing.assert_array_equal(np.sort(curves.users), np.sort(layout.cohorts().users))
