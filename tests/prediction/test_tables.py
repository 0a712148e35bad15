"""Prediction tables out: every number read back, and no table that is not whole."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as parquet
import pytest
from factories.forecasts import four_cohorts, linear_forecast
from pyarrow import csv as arrow_csv

from ltvnet.data.cohort_tables import Files
from ltvnet.data.curves import AGES, NODES, Curves
from ltvnet.data.output_columns import attribute_column
from ltvnet.forecasting.forecast import Forecast
from ltvnet.forecasting.interpolation import InterpolationShape
from ltvnet.prediction import tables
from ltvnet.prediction.tables import OutputPaths, Rollup, write_long, write_rollup, write_wide


def columns(prefix: str, ages: range | tuple[int, ...]) -> list[str]:
    return [f"{prefix}_D{age}" for age in ages]


def drain(stream: Iterator[Forecast]) -> None:
    deque(stream, maxlen=0)


def write_predictions(made: Forecast, folder: Path, *, young: bool = True) -> tuple[Path, Path]:
    drain(write_wide([made], OutputPaths(folder), "csv", None, first_week=young))
    raw = folder / "Files_Predictions" / "LTV_predictions_2025_02_10.csv"
    return raw, folder / "Files_Predictions_Final" / "LTV_predictions_final_2025_02_10.csv"


def write_forecasts(made: Iterable[Forecast], path: Path, bundle: str) -> None:
    drain(write_long(made, path, bundle))


def roll_up(made: Iterable[Forecast], path: Path, by: str | None = None) -> None:
    first, *further = (Rollup.from_forecast(forecast, by) for forecast in made)
    write_rollup(reduce(lambda sums, other: sums.add(other.table), further, first), path)


def test_predictions_in_numbers(tmp_path: Path) -> None:
    raw, final = write_predictions(linear_forecast(), tmp_path)
    assert final.exists()
    table = pd.read_csv(raw, keep_default_na=False, na_values={"Users": "", "P_D30": ""})
    keys = ["Date", "Source", "Campaign", "Users", "observed_age"]
    assert list(table) == [*keys, *columns("P", range(1, AGES)), "reason"]
    assert table["Date"].tolist() == [
        "2024-02-16",
        "2025-01-24~2025-01-30",
        "2025-02-08",
        "2025-02-11",
    ]
    assert table["Campaign"].tolist() == ["x, 1", "x, 1", "y", "y"]
    assert table["observed_age"].tolist() == [360, 11, 2, -1]
    assert table["reason"].tolist() == ["complete", "ok", "young", "no_complete_age"]
    np.testing.assert_allclose(table["Users"], [40, 10, 20, np.nan])
    np.testing.assert_allclose(table["P_D30"], [3.4, 3.1, 3.2, np.nan], rtol=1e-6)
    assert table["P_D2"].tolist() == ["0.6", "0.3", "0.4", ""]
    assert table["P_D360"].tolist() == ["36.4", "36.1", "36.2", ""]


def test_final_predictions_have_intervals_once_calibrated(tmp_path: Path) -> None:
    bounds = [f"{bound}_D{age}" for age in (30, 60, 90, 180, 360) for bound in ("P10", "P90")]
    _, final = write_predictions(linear_forecast(), tmp_path)
    table = pd.read_csv(final)
    assert list(table)[-11:] == [*bounds, "reason"]
    assert table[bounds].isna().all(axis=None)
    np.testing.assert_allclose(table["P_D30"], [3.4, 5.0, 6.0, np.nan], rtol=1e-6)
    write_predictions(linear_forecast(calibrated=True), tmp_path)
    table = pd.read_csv(final)
    np.testing.assert_allclose(table["P10_D30"], [3.4, 3.1, 3.2, np.nan], rtol=1e-6)
    np.testing.assert_allclose(table["P90_D30"], [3.4, 8.8, 11.6, np.nan], rtol=1e-6)
    np.testing.assert_allclose(table["P90_D360"], [36.4, 140.8, 143.6, np.nan], rtol=1e-6)


def test_the_first_week_is_there_for_young_cohorts_only(tmp_path: Path) -> None:
    raw, _ = write_predictions(linear_forecast(), tmp_path, young=False)
    names = [name for name in pd.read_csv(raw) if name.startswith("P_")]
    assert names == columns("P", range(8, AGES))


def test_predictions_need_every_age(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected forecasts of all ages 1\.\.360: \[ *0"):
        write_predictions(linear_forecast(NODES), tmp_path)
    with pytest.raises(ValueError, match=r"expected forecasts of all of NODES: \[ *1 *2"):
        drain(
            write_wide(
                [linear_forecast()], OutputPaths(tmp_path), "csv", linear_course, first_week=True
            )
        )


def linear_course(cohorts: Curves) -> InterpolationShape:
    """Growth is the same each day."""
    return InterpolationShape(
        np.linspace(0.0, 1.0, AGES)[None], np.zeros(len(cohorts), dtype=np.int64)
    )


def test_days_between_nodes_have_the_shape_of_their_course(tmp_path: Path) -> None:
    daily_tables = write_predictions(linear_forecast(calibrated=True), tmp_path / "every")
    nodes = tmp_path / "nodes"
    drain(
        write_wide(
            [linear_forecast(NODES, calibrated=True)],
            OutputPaths(nodes),
            "csv",
            linear_course,
            first_week=True,
        )
    )
    for path in daily_tables:
        from_nodes = pd.read_csv(nodes / path.relative_to(tmp_path / "every"))
        pd.testing.assert_frame_equal(from_nodes, pd.read_csv(path), rtol=1e-6)


def test_predictions_of_pieces_are_one_table(tmp_path: Path) -> None:
    drain(
        write_wide(
            [linear_forecast(), linear_forecast()],
            OutputPaths(tmp_path),
            "csv",
            None,
            first_week=True,
        )
    )
    raw, _ = write_predictions(linear_forecast(), tmp_path / "one")
    twice = tmp_path / "Files_Predictions" / raw.name
    lines = raw.read_text().splitlines()
    assert twice.read_text().splitlines() == [*lines, *lines[1:]]


def test_prediction_tables_can_be_read_as_keys(tmp_path: Path) -> None:
    raw, _ = write_predictions(linear_forecast(), tmp_path)
    table = pd.read_csv(raw)[["Date", "Source", "Campaign"]].assign(day_0=1.0)
    table.to_csv(tmp_path / "again.csv", index=False)
    again = Files(path=tmp_path / "again.csv", snapshot="2026-02-10").history()
    assert again.as_of("2026-02-10").index.equals(four_cohorts().index)


def test_forecasts_in_numbers(tmp_path: Path) -> None:
    path = tmp_path / "forecasts.parquet"
    write_forecasts([linear_forecast(NODES), linear_forecast((90, 360))], path, "bundle-1")
    table = pd.read_parquet(path)
    bands = [f"{stage}{name}" for stage in ("raw_", "") for name in ("mean", "p10", "p50", "p90")]
    assert list(table) == [
        *("cohort_start", "cohort_end", "Source", "Campaign", "users", "spend", "origin"),
        *("observed_age", "observed_value", "age", "pattern", *bands),
        *("roas", "uncalibrated", "reason", "bundle"),
    ]
    later = [sum(node > k for node in NODES) for k in (11, 2)]
    assert len(table) == sum(later) + 4
    assert set(table["bundle"]) == {"bundle-1"}
    row = table[(table["age"] == 90) & (table["reason"] == "young")].iloc[0]
    assert row["cohort_start"] == row["cohort_end"] == pd.Timestamp("2025-02-08").date()
    assert row["origin"] == pd.Timestamp("2025-02-10").date()
    assert (row["Campaign"], row["users"], row["observed_age"]) == ("y", 20, 2)
    np.testing.assert_allclose(row["observed_value"], 0.4)
    cells = row[["pattern", *bands]].to_numpy(float)
    np.testing.assert_allclose(cells, [9.2, 9.2, 4.8, 9.2, 18.0, 18, 9.2, 18, 35.6], rtol=1e-6)


def test_forecasts_are_handed_on_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "forecasts.parquet"
    yielded: list[str] = []

    def two() -> Iterator[Forecast]:
        for name in ("first", "second"):
            yielded.append(name)
            yield linear_forecast((90, 360))

    stream = write_long(two(), path, "b")
    next(stream)
    assert yielded == ["first"]
    assert not path.exists()
    roll_up(stream, tmp_path / "rollup.csv")
    assert len(pd.read_parquet(path)) == 8
    assert pd.read_csv(tmp_path / "rollup.csv")["cohorts"].tolist() == [2, 2, 1, 1, 3, 3]


def test_an_error_on_the_way_leaves_no_table(tmp_path: Path) -> None:
    def broken() -> Iterator[Forecast]:
        yield linear_forecast(NODES)
        raise RuntimeError

    def broken_days() -> Iterator[Forecast]:
        yield linear_forecast()
        raise RuntimeError

    for write in (
        lambda: drain(
            write_wide(broken_days(), OutputPaths(tmp_path), "csv", None, first_week=True)
        ),
        lambda: write_forecasts(broken(), tmp_path / "forecasts.parquet", "b"),
    ):
        with pytest.raises(RuntimeError):
            write()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("bad", [0, 1])
def test_a_disk_that_fails_in_a_thread_is_told_and_leaves_no_table(
    bad: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first of two pieces, or at the last one, when nothing else comes."""

    class Full(arrow_csv.CSVWriter):  # type: ignore[misc]
        pieces = 0

        def write(self, table: object) -> None:
            self.pieces += 1
            if self.pieces > bad:
                raise OSError("no space left")

    monkeypatch.setitem(tables.WIDE_WRITERS, "csv", Full)
    with pytest.raises(OSError, match="no space left"):
        drain(
            write_wide(
                [linear_forecast(), linear_forecast()],
                OutputPaths(tmp_path),
                "csv",
                None,
                first_week=True,
            )
        )
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_ages_without_a_horizon_have_an_empty_rollup(tmp_path: Path) -> None:
    roll_up([linear_forecast((7, 14)), linear_forecast((7, 14))], tmp_path / "rollup.csv")
    table = pd.read_csv(tmp_path / "rollup.csv")
    assert len(table) == 0 and "forecast_revenue" in table


def test_nothing_to_write_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"forecasts\.parquet: expected forecasts to write, got"):
        write_forecasts([], tmp_path / "forecasts.parquet", "b")
    assert list(tmp_path.iterdir()) == []


def test_rollup_in_numbers(tmp_path: Path) -> None:
    roll_up([linear_forecast((30, 360))], tmp_path / "rollup.csv")
    table = pd.read_csv(tmp_path / "rollup.csv", keep_default_na=False)
    assert list(table) == [
        *("level", "segment", "age", "cohorts", "cohorts_left_out", "users", "spend"),
        *("observed_revenue", "forecast_revenue", "p10", "p90", "uncalibrated"),
        *("roas", "roas_users_share"),
    ]
    assert table["level"].tolist() == [*["Campaign"] * 4, *["TOTAL"] * 2]
    assert table["segment"].tolist() == ["x, 1", "x, 1", "y", "y", "TOTAL", "TOTAL"]
    assert table["age"].tolist() == [30, 360] * 3
    assert table["cohorts"].tolist() == [2, 2, 1, 1, 3, 3]
    assert table["cohorts_left_out"].tolist() == [0, 0, 1, 1, 1, 1]
    assert table["users"].tolist() == [50, 50, 20, 20, 70, 70]
    assert table["spend"].tolist() == ["12", "12", "", "", "12", "12"]
    # a: 10 users at 1.2; b: 20 at 0.4; d: 40 at 3.4 on day 30 and at 36.4 on day 360
    observed = [12 + 136, 12 + 1456, 8, 8, 156, 1476]
    np.testing.assert_allclose(table["observed_revenue"], observed)
    # final growth 0.2 a day from day 11 (a) and from day 2 (b)
    forecasts = [50 + 136, 710 + 1456, 120, 1440, 306, 3606]
    np.testing.assert_allclose(table["forecast_revenue"], forecasts)
    assert set(table["p10"]) == set(table["p90"]) == {""}


class Half:
    """Half a width of sqrt(grown^2 + 3 squared): twice the growth of a cohort alone."""

    is_borrowed = np.array(NODES) == 360

    def half_width(self, grown: np.ndarray, squared: np.ndarray) -> np.ndarray:
        return np.asarray(np.sqrt(grown**2 + 3 * squared))


def test_rollup_has_bounds_of_sums_not_sums_of_bounds() -> None:
    with_totals = replace(linear_forecast((30, 360)), portfolio_spread=Half())
    table = Rollup.from_forecast(with_totals, None).with_total()
    # growth of final: a 10 users x 0.2 x 19 days = 38, b 20 x 0.2 x 28 = 112, d is complete
    half = [2 * 38, 2 * 112, np.hypot(38 + 112, np.sqrt(3 * (38**2 + 112**2)))]
    at30 = table[table["age"] == 30]
    np.testing.assert_allclose(at30["p90"], at30["forecast_revenue"] + half)
    assert table["uncalibrated"].tolist() == (table["age"] == 360).tolist()
    observed = at30["observed_revenue"].to_numpy()
    np.testing.assert_allclose(
        at30["p10"], np.maximum([186 - 76, 120 - 224, 306 - half[2]], observed)
    )


def test_rollup_has_no_row_where_a_forecast_is_extrapolated(tmp_path: Path) -> None:
    """D360 of cohort d was observed, so sums of it alone are known however far the data reach."""
    extrapolated = replace(
        linear_forecast((30, 360)), portfolio_spread=Half(), last_supported_age=90
    )
    path = tmp_path / "rollup.csv"
    roll_up([extrapolated], path)
    table = pd.read_csv(path)
    assert table["age"].tolist() == [30] * 3 and table["p90"].notna().all()

    complete = extrapolated.take(np.array([0]))
    roll_up([complete], path)
    table = pd.read_csv(path)
    assert table["age"].tolist() == [30, 360] * 2 and not table["uncalibrated"].any()
    np.testing.assert_array_equal(table["p10"], table["forecast_revenue"])
    np.testing.assert_array_equal(table["p90"], table["observed_revenue"])
    roll_up([complete, extrapolated], path)
    assert pd.read_csv(path)["age"].tolist() == [30] * 3


def test_what_was_observed_is_certain_without_a_past_to_learn_from(tmp_path: Path) -> None:
    roll_up([linear_forecast((30, 360)).take(np.array([0]))], tmp_path / "rollup.csv")
    table = pd.read_csv(tmp_path / "rollup.csv")
    assert not table["uncalibrated"].any()
    np.testing.assert_array_equal(table["p90"], table["forecast_revenue"])


def test_no_table_has_a_forecast_beyond_what_the_data_support(tmp_path: Path) -> None:
    """To D90: cohort d was observed to D360, a and b are forecast."""
    made = replace(linear_forecast(calibrated=True), last_supported_age=90)
    raw, final = write_predictions(made, tmp_path)
    for path in (raw, final):
        table = pd.read_csv(path)
        np.testing.assert_array_equal(table["P_D90"].notna(), [True, True, True, False])
        for age in (91, 180, 360):
            assert table[f"P_D{age}"].notna().tolist() == [True, False, False, False]
        assert table["reason"].tolist() == ["complete", "ok", "young", "no_complete_age"]
    for name in ("P10", "P90"):
        assert table[f"{name}_D90"].notna().tolist() == [True, True, True, False]
        assert table[f"{name}_D180"].notna().tolist() == [True, False, False, False]
    assert table["ROAS_D90"].notna().tolist() == [True, True, False, False]
    assert table["ROAS_D180"].notna().tolist() == [True, False, False, False]

    at_nodes = made.at((60, 90, 120))
    write_forecasts([at_nodes], tmp_path / "forecasts.parquet", "b")
    rows = pd.read_parquet(tmp_path / "forecasts.parquet")
    assert rows["age"].tolist() == [60, 90, 120] * 2
    assert rows["reason"].tolist() == ["ok", "ok", "extrapolated", "young", "young", "extrapolated"]
    is_beyond = rows["age"] == 120
    for name in ("mean", "p10", "p50", "p90", "roas"):
        assert rows[name][is_beyond].isna().all()
    assert rows[["pattern", "raw_mean", "raw_p90"]].notna().all(axis=None)
    assert rows["mean"].notna().tolist() == (~is_beyond).tolist()
    assert rows["uncalibrated"][is_beyond].all()


def test_ages_that_were_not_exported_are_blank_where_they_are_past(tmp_path: Path) -> None:
    """At D30 and D90 of cohort d stand the values of D20 and D60, which are no revenue by then."""
    made = linear_forecast(calibrated=True)
    exported_ages = (0, 1, 2, 11, 20, 60, 180, 360)
    sparse = replace(made, curves=replace(made.curves, exported_ages=exported_ages))
    raw, final = write_predictions(sparse, tmp_path)
    for path in (raw, final):
        table = pd.read_csv(path)
        assert table["P_D60"].notna().tolist() == [True, True, True, False]
        for age in (30, 90):
            assert table[f"P_D{age}"].notna().tolist() == [False, True, True, False]
        assert table["P_D5"].notna().tolist() == [False, False, True, False]
    assert table["P90_D30"].notna().tolist() == [False, True, True, False]
    roll_up([sparse.at((30, 60))], tmp_path / "rollup.csv")
    table = pd.read_csv(tmp_path / "rollup.csv")
    rows = [("x, 1", 60), ("y", 30), ("y", 60), ("TOTAL", 60)]
    assert list(zip(table["segment"], table["age"], strict=True)) == rows


def test_blanks_are_null_so_that_an_average_leaves_them_out(tmp_path: Path) -> None:
    path = tmp_path / "forecasts.parquet"
    write_forecasts([replace(linear_forecast(NODES), last_supported_age=90)], path, "b")
    mean = parquet.read_table(path)["mean"]
    assert mean.null_count > 0 and not pc.is_nan(mean).to_pylist().count(True)


def test_roas_in_numbers(tmp_path: Path) -> None:
    """Spend of d is 7 of 40 users, of a 5 of 10, of b unknown; P_D360 is 36.4, 71.0 and 72.0."""
    _, final = write_predictions(linear_forecast(), tmp_path)
    table = pd.read_csv(final)
    assert list(table)[:6] == ["Date", "Source", "Campaign", "Users", "Spend", "observed_age"]
    np.testing.assert_allclose(table["Spend"], [7, 5, np.nan, np.nan])
    np.testing.assert_allclose(
        table["ROAS_D360"], [36.4 * 40 / 7, 71.0 * 10 / 5, np.nan, np.nan], rtol=1e-5
    )
    write_forecasts([linear_forecast((360,))], tmp_path / "forecasts.parquet", "b")
    rows = pd.read_parquet(tmp_path / "forecasts.parquet")
    np.testing.assert_allclose(rows["spend"], [5, np.nan])
    np.testing.assert_allclose(rows["roas"], [71.0 * 10 / 5, np.nan], rtol=1e-6)


def test_roas_of_a_sum_is_of_the_cohorts_with_spend(tmp_path: Path) -> None:
    """Campaign x: a and d, 12 spent; y: b, nothing known; in total 50 of 70 users have spend."""
    rollup = Rollup.from_forecast(linear_forecast((360,)), None)
    write_rollup(rollup, tmp_path / "rollup.csv")
    table = pd.read_csv(tmp_path / "rollup.csv")
    np.testing.assert_allclose(table["roas"], [(710 + 1456) / 12, np.nan, (710 + 1456) / 12])
    np.testing.assert_allclose(table["roas_users_share"], [1, 0, 0.714286])
    gap = rollup.describe_spend_gap()
    assert gap is not None and gap.startswith("Spend is known for 2 of 3 cohorts")
    every = replace(linear_forecast((360,)), curves=replace(four_cohorts(), spend=np.zeros(4)))
    for made in (every, linear_forecast((360,)).take(np.array([2])), linear_forecast((7,))):
        assert Rollup.from_forecast(made, None).describe_spend_gap() is None


def test_an_attribute_named_like_a_column_is_kept_beside_it(tmp_path: Path) -> None:
    made = linear_forecast()
    names = ("reason", "Age", "bundle", "P_D30", "level", "attribute_age", "Country")
    attributes = {name: np.array(list("pqrs"), object) for name in names}
    named = replace(made, curves=replace(made.curves, attributes=attributes, hierarchy=()))
    raw, final = write_predictions(named, tmp_path)
    write_forecasts([named.at((90, 360))], tmp_path / "forecasts.parquet", "b")
    tables = [pd.read_csv(raw), pd.read_csv(final), pd.read_parquet(tmp_path / "forecasts.parquet")]
    for table in tables:
        for name in names:
            column = name if name == "Country" else f"attribute_{name}"
            assert set(table[column]) <= set("pqrs"), column
    for table in tables[:2]:
        assert table["reason"].tolist() == ["complete", "ok", "young", "no_complete_age"]
    np.testing.assert_allclose(tables[0]["P_D30"].iloc[:3], [3.4, 3.1, 3.2], rtol=1e-6)
    assert set(tables[2]["bundle"]) == {"b"}


def test_rollup_adds_up_over_pieces(tmp_path: Path) -> None:
    roll_up([linear_forecast((30, 360))] * 3, tmp_path / "three.csv")
    roll_up([linear_forecast((30, 360))], tmp_path / "one.csv")
    three, single = (pd.read_csv(tmp_path / name) for name in ("three.csv", "one.csv"))
    sums = ["cohorts", "cohorts_left_out", "users", "spend", "observed_revenue"]
    pd.testing.assert_frame_equal(three[sums], single[sums] * 3)


def test_rollup_by_another_attribute_or_in_total_alone(tmp_path: Path) -> None:
    path = tmp_path / "rollup.csv"
    roll_up([linear_forecast((360,))], path, by="Source")
    assert pd.read_csv(path)["level"].tolist() == ["Source"] * 3 + ["TOTAL"]
    plain = linear_forecast((360,))
    plain = replace(plain, curves=replace(plain.curves, attributes={}, hierarchy=()))
    roll_up([plain], path)
    assert pd.read_csv(path)["level"].tolist() == ["TOTAL"]
    with pytest.raises(ValueError, match=r"expected to sum by one of Source, Campaign, got 'App'"):
        roll_up([linear_forecast((360,))], path, by="App")


def test_the_names_of_all_columns_are_reserved(tmp_path: Path) -> None:
    """So that no attribute is written over one: with a table or a column that is added, too."""
    plain = linear_forecast(calibrated=True)
    plain = replace(plain, curves=replace(plain.curves, attributes={}, hierarchy=()))
    paths = write_predictions(plain, tmp_path)
    write_forecasts([plain.at(NODES[1:])], tmp_path / "forecasts.parquet", "b")
    names = [*pd.read_parquet(tmp_path / "forecasts.parquet")]
    for path in paths:
        names += list(pd.read_csv(path))
    for name in names:
        assert attribute_column(name) == f"attribute_{name}"
