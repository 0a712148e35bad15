"""Time has one rule: what was known at the end of a day, and nothing else."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from factories.cohorts import curve, history, weekly_history
from hypothesis import given
from hypothesis import strategies as st

from ltvnet.data.curves import AGES, NODE_AGES, NODES, Curves, History, parse_day


def test_nodes_are_the_contract() -> None:
    assert NODES[0] == 0 and NODES[-1] == 360 and len(NODES) == 21
    assert NODE_AGES.dtype == np.int64 and NODE_AGES.tolist() == list(NODES)
    with pytest.raises(ValueError, match="read-only"):
        NODE_AGES[0] = 1


def test_age_is_complete_at_the_end_of_its_day() -> None:
    one_cohort = history([("2025-01-06", "2025-01-12", {}, 10, curve(100))])
    assert one_cohort.as_of("2025-01-12").observed_age.tolist() == [0]
    assert one_cohort.as_of("2025-01-15").observed_age.tolist() == [3]


def test_lag_delays_completeness() -> None:
    one_cohort = history([("2025-01-06", "2025-01-12", {}, 10, curve(100))], lag_days=2)
    assert one_cohort.as_of("2025-01-13").observed_age.tolist() == [-1]
    assert one_cohort.as_of("2025-01-15").observed_age.tolist() == [1]


def test_cohort_in_acquisition_shows_its_key_only() -> None:
    curves = history([("2025-01-06", "2025-01-12", {}, 10, curve(100))]).as_of("2025-01-08")
    assert len(curves) == 1
    assert np.isnan(curves.users).all() and np.isnan(curves.values).all()
    assert curves.observed_age.tolist() == [-1]


def test_cohort_not_begun_is_unknown() -> None:
    rows = [
        ("2025-01-06", "2025-01-12", {}, 10, curve(9)),
        ("2025-02-03", "2025-02-09", {}, 10, curve(9)),
    ]
    assert len(history(rows).as_of("2025-01-20")) == 1


def vintages() -> History:
    a, b = ("2025-01-06", "2025-01-12"), ("2025-01-13", "2025-01-19")
    return history(
        [
            (*a, {}, 10, curve(8)),
            (*b, {}, 20, curve(1)),
            (*a, {}, 11, 2 * curve(15)),  # restated; b was dropped from the later export
        ],
        snapshots=["2025-01-20", "2025-01-20", "2025-01-27"],
    )


def test_newest_vintage_not_later_than_the_day_counts() -> None:
    vintage_history = vintages()
    assert vintage_history.as_of("2025-01-26").users.tolist() == [10, 20]
    assert vintage_history.as_of("2025-01-27").users.tolist() == [11, 20]
    assert vintage_history.as_of("2025-01-27").observed_age.tolist() == [15, 1]


def test_cohort_dropped_from_later_files_keeps_its_last_vintage() -> None:
    assert vintages().as_of("2025-03-01").observed_age.tolist() == [15, 1]


def test_day_before_the_first_snapshot_is_cut_from_it() -> None:
    curves = vintages().as_of("2025-01-15")
    assert curves.users[0] == 10 and curves.observed_age[0] == 3


def test_until_drops_later_snapshots_and_masks_later_cells() -> None:
    early_history = vintages().until("2025-01-22")
    assert early_history.last_day == parse_day("2025-01-20") and len(early_history) == 2
    for date in ("2025-01-13", "2025-01-20", "2025-01-22"):
        full = vintages().as_of(date)
        np.testing.assert_array_equal(early_history.as_of(date).values, full.values)


def test_until_a_day_before_the_first_snapshot() -> None:
    early_history = vintages().until("2025-01-15")
    assert early_history.last_day == parse_day("2025-01-15")
    assert early_history.as_of("2025-01-30").observed_age.tolist() == [3, -1]


def test_actuals_stand_by_key_and_age() -> None:
    actual = vintages().actuals("2025-01-27")
    assert actual.iloc[0][15] == pytest.approx(2 * curve(15)[15])
    assert np.isnan(actual.iloc[1][2]) and actual.columns.tolist() == list(range(AGES))


@given(st.integers(0, 500), st.integers(0, 500))
def test_curves_and_history_cut_alike(first: int, second: int) -> None:
    rows = [(f"2024-0{m}-01", f"2024-0{m}-07", {"Apps": f"a{m}"}, m, curve(360)) for m in (1, 2, 5)]
    full_history = history(rows)
    early, late = sorted((first, second))
    begin = np.datetime64("2023-12-25")
    cut = full_history.as_of(begin + late).as_of(begin + early)
    direct = full_history.as_of(begin + early)
    np.testing.assert_array_equal(cut.values, direct.values)
    np.testing.assert_array_equal(cut.users, direct.users)
    assert cut.index.equals(direct.index)


def test_rows_are_sorted_by_key_whatever_their_order() -> None:
    rows = [
        (f"2024-01-{d:02}", f"2024-01-{d:02}", {"Apps": app}, d, curve(9))
        for d in (3, 1, 2)
        for app in ("b", "a")
    ]
    index = history(rows).as_of("2024-02-01").index
    assert index.is_monotonic_increasing and len(index) == 6


def test_cut_shortens_prefixes_only() -> None:
    curves = history([("2024-01-01", "2024-01-07", {}, 10, curve(50))]).as_of("2024-06-01").cut(7)
    assert curves.observed_age.tolist() == [7] and curves.origin == parse_day("2024-06-01")
    assert curves.observed_value[0] == curve(50)[7]


def every_other_age(rows: int, ages: int, level: float = 1.0) -> np.ndarray:
    """A series known at every other age up to one."""
    is_known = (np.arange(AGES) <= ages) & (np.arange(AGES) % 2 == 0)
    return np.tile(np.where(is_known, level * (1.0 + np.arange(AGES)), np.nan), (rows, 1))


def test_series_are_known_when_their_age_is_complete() -> None:
    rows = [
        ("2025-01-06", "2025-01-12", {}, 10, curve(100)),
        ("2025-01-20", "2025-01-26", {}, 10, curve(100)),
    ]
    full_history = history(rows, lag_days=2, series={"active": every_other_age(2, 90)})
    curves = full_history.as_of("2025-01-20")
    cells = curves.series["active"]
    assert np.flatnonzero(np.isfinite(cells[0])).tolist() == [0, 2, 4, 6]
    assert cells[0, 6] == 7.0 and np.isnan(cells[1]).all()
    np.testing.assert_array_equal(full_history.until("2025-01-20").series["active"], cells)
    assert np.flatnonzero(np.isfinite(curves.cut(3).series["active"][0])).tolist() == [0, 2]
    np.testing.assert_array_equal(
        full_history.as_of("2025-03-01").as_of(parse_day("2025-01-20")).series["active"], cells
    )
    with pytest.raises(ValueError, match="read-only"):
        cells[0, 0] = 1.0


def test_series_go_with_their_cohorts() -> None:
    rows = [(f"2024-01-0{d}", f"2024-01-0{d}", {}, d, curve(9)) for d in (3, 1, 2)]
    levels = np.concatenate([every_other_age(1, 9, level) for level in (3.0, 1.0, 2.0)])
    curves = history(rows, series={"active": levels}).as_of("2024-02-01")
    assert curves.series["active"][:, 0].tolist() == [1.0, 2.0, 3.0]
    assert curves.take(np.array([0, 2])).series["active"][:, 0].tolist() == [1.0, 3.0]


def test_series_are_checked_where_they_are_made() -> None:
    fields = vars_of(vintages().as_of("2025-01-27"))
    for cells, message in (
        (
            every_other_age(2, 360),
            r"a value of series active is known before its age was .* at 2025-01-27",
        ),
        (np.ones((1, AGES)), r"expected series active of shape \(2, 361\), got \(1, 361\)"),
        (np.full((2, AGES), np.inf), "a value is infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            Curves(**(fields | {"series": {"active": cells}}))
    row = ("2025-01-06", "2025-01-12", {}, 10, curve(1))
    with pytest.raises(ValueError, match="value of series active is known .* at its snapshot"):
        history([row], snapshots=["2025-01-20"], series={"active": every_other_age(1, 30)})


def test_arrays_are_frozen() -> None:
    curves = vintages().as_of("2025-01-27")
    with pytest.raises(ValueError, match="read-only"):
        curves.values[0, 0] = 1.0


def test_a_later_day_is_refused() -> None:
    curves = vintages().as_of("2025-01-20")
    with pytest.raises(ValueError, match="2025-01-27 was not known then"):
        curves.as_of(parse_day("2025-01-27"))


def test_gap_is_refused() -> None:
    broken = curve(9)
    broken[4] = np.nan
    with pytest.raises(ValueError, match="a curve has a gap"):
        history([("2024-01-01", "2024-01-07", {}, 1, broken)])


def test_value_of_an_incomplete_age_is_refused() -> None:
    curves = vintages().as_of("2025-01-27")
    with pytest.raises(ValueError, match="known before its age was complete"):
        Curves(**(vars_of(curves) | {"origin": parse_day("2025-01-20")}))


def vars_of(curves: Curves) -> dict[str, object]:
    return {name: getattr(curves, name) for name in curves.__dataclass_fields__}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": np.ones(1)}, r"expected users of shape \(2,\), got \(1,\)"),
        ({"values": np.ones((2, 5))}, r"expected values of shape \(2, 361\), got \(2, 5\)"),
        ({"hierarchy": ("Nope",)}, r"hierarchy names \['Nope'\], which are not attributes"),
        ({"lag_days": -1}, "expected lag_days >= 0, got -1"),
        ({"end": np.array(["2024-01-01"] * 2, "datetime64[D]")}, "a cohort ends before it starts"),
        ({"values": np.full((2, AGES), np.inf)}, "a value is infinite"),
        (
            {
                "start": np.array(["2025-01-13", "2025-01-06"], "datetime64[D]"),
                "end": np.array(["2025-01-19", "2025-01-12"], "datetime64[D]"),
                "values": np.full((2, AGES), np.nan),
            },
            "cohorts are not sorted by key",
        ),
        (
            {
                "start": np.array(["2025-01-06"] * 2, "datetime64[D]"),
                "end": np.array(["2025-01-12"] * 2, "datetime64[D]"),
                "values": np.full((2, AGES), np.nan),
            },
            "a cohort stands twice",
        ),
    ],
)
def test_curves_are_checked_where_they_are_made(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Curves(**(vars_of(vintages().as_of("2025-01-27")) | change))


def test_history_refuses_a_cohort_twice_in_a_snapshot_and_no_cohorts() -> None:
    row = ("2024-01-01", "2024-01-07", {}, 1, curve(9))
    with pytest.raises(ValueError, match="a cohort stands twice in one snapshot"):
        history([row, row])
    with pytest.raises(ValueError, match="no cohorts: the history is empty"):
        history([])


def test_day_reads_dates_and_refuses_words() -> None:
    assert (
        parse_day("2025-02-10")
        == parse_day(pd.Timestamp("2025-02-10 13:00"))
        == np.datetime64("2025-02-10")
    )
    with pytest.raises(ValueError, match="expected a date such as 2025-02-10, got 'soon'"):
        parse_day("soon")


def test_a_part_of_curves_is_what_it_would_be_if_made_anew() -> None:
    curves = weekly_history(30, covariates=True).as_of("2023-06-01")
    assert curves.take(np.ones(len(curves), dtype=bool)) is curves
    mask = curves.attributes["Apps"] == "b"
    for rows in (mask, np.flatnonzero(mask), slice(3, 9)):
        selected = curves.take(rows)
        checked = replace(selected)  # checked, and nothing kept from before
        assert selected.index.equals(checked.index) and selected.index.equals(curves.index[rows])
        assert selected.key_rank.tolist() == checked.key_rank.tolist()
        assert selected.observed_age.tolist() == checked.observed_age.tolist()
        np.testing.assert_array_equal(
            selected.series["retention"], curves.series["retention"][rows]
        )
        assert selected.segments(1)[1] == checked.segments(1)[1]
        with pytest.raises(ValueError, match="read-only"):
            selected.values[0, 0] = 1.0
    for wrong in (np.array([3, 3]), np.array([4, 3]), slice(9, 3, -1)):
        with pytest.raises(ValueError, match="expected increasing row numbers"):
            curves.take(wrong)


def test_other_values_are_of_the_same_ages() -> None:
    curves = weekly_history(10).as_of("2023-02-20")
    doubled = curves.with_values(2 * curves.values)
    np.testing.assert_array_equal(doubled.values, 2 * curves.values)
    assert doubled.observed_age.tolist() == curves.observed_age.tolist()
    for wrong_values in (
        np.nan_to_num(curves.values),
        np.where(curves.values > 1, np.inf, curves.values),
    ):
        with pytest.raises(ValueError, match="expected finite values at the ages that are known"):
            curves.with_values(wrong_values)


def test_ages_of_past_days_are_those_of_curves_of_these_days() -> None:
    full_history = weekly_history(40)
    curves = replace(full_history, lag_days=2).as_of("2023-09-01")
    ages = curves.observed_ages_before([0, 30, 200])
    for days, past_ages in zip((0, 30, 200), ages, strict=True):
        past_curves = curves.as_of(curves.origin - np.timedelta64(days, "D"))
        assert past_ages[: len(past_curves)].tolist() == past_curves.observed_age.tolist()
        assert (past_ages[len(past_curves) :] == -1).all()


def test_data_are_shown_in_a_line() -> None:
    shown = repr(weekly_history(70, ("a", "b")))
    assert shown == (
        "History(140 cohorts in 1 snapshot up to 2030-01-01 by Apps, acquired 2023-01-02 to "
        "2024-05-05, observed to D360)"
    )
    curves = weekly_history(70, ("a", "b")).as_of("2023-03-01")
    assert repr(curves) == (
        "Curves(18 cohorts as of 2023-03-01 by Apps, acquired 2023-01-02 to 2023-03-05, observed "
        "to D52)"
    )
    assert repr(curves.take(np.array([], dtype=np.int64))) == "Curves(no cohorts)"


@pytest.mark.parametrize("name", ["start", "end", "reason", "age", "Date_", "attribute_start"])
def test_an_attribute_may_have_any_name(name: str) -> None:
    past = weekly_history(8, ("a", "b"))
    named = replace(past, attributes={name: past.attributes["Apps"]}, hierarchy=(name,))
    curves = named.as_of("2023-03-01")
    column = f"attribute_{name}" if name != "Date_" else name
    assert list(curves.index.names) == ["start", "end", column]
    assert curves.segments(1)[1] == [("a",), ("b",)]
    assert list(named.actuals("2023-03-01").index.names) == ["start", "end", column]
