"""The ledger keeps what was issued, bit for bit, and says what came true of it as of a date."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import pytest
from factories.cohorts import curve, history
from factories.ledgers import AFTER_5, AFTER_20, assert_same_entries, file_contents

from ltvnet.backtesting.ledger import STAGES, Ledger, LedgerEntries
from ltvnet.data.arrays import Floats, Ints
from ltvnet.data.curves import NODES, Curves, History
from ltvnet.forecasting.forecast import Band, Forecast

ORIGIN = np.datetime64("2024-03-01")


def four_cohorts(spend: float = np.nan) -> History:
    """At ORIGIN cohorts complete, at D20, at D5, and one that has not ended."""
    rows = [
        ("2022-12-26", "2023-01-01", {"Apps": "a", "OS": "ios"}, 100.0, curve(360, 4.0)),
        ("2024-02-04", "2024-02-10", {"Apps": "b", "OS": "ios"}, 200.0, curve(360, 2.0)),
        ("2024-02-19", "2024-02-25", {"Apps": "a", "OS": ""}, 300.0, curve(360, 1.0)),
        ("2024-02-26", "2024-03-03", {"Apps": "a", "OS": "ios"}, 400.0, curve(360, 3.0)),
    ]
    cohorts = history(rows, hierarchy=("Apps",))
    return replace(cohorts, spend=np.where(cohorts.users > 200, np.nan, spend))


def random_forecast(curves: Curves, seed: int = 0, **changes: Any) -> Forecast:  # noqa: ANN401
    """Some numbers at the nodes, of every cohort; p10 is blank."""
    rng = np.random.default_rng(seed)
    shape = (len(curves), len(NODES))

    def cells() -> Floats:
        return rng.uniform(1, 2, shape)

    raw = Band(cells(), np.full(shape, np.nan), cells(), cells())
    reasons = np.full(len(curves), "ok", dtype=object)
    forecast = Forecast(curves, np.array(NODES), cells(), raw, raw, reasons, 180)
    return replace(forecast, **changes)


def random_entries(
    day: np.datetime64 = ORIGIN, seed: int = 0, spend: float = np.nan
) -> LedgerEntries:
    """Cohorts at their own ages and cut to D3, each stage with numbers of its own."""
    curves = four_cohorts(spend).as_of(day)
    cut = curves.take(curves.observed_age == 5).cut(3)
    entries_by_prefix = [
        LedgerEntries.from_forecast(random_forecast(curves, seed), curves.observed_age),
        LedgerEntries.from_forecast(random_forecast(cut, seed + 1), np.full(len(cut), 5)),
    ]
    joined = LedgerEntries.concatenate([piece for piece in entries_by_prefix if len(piece)])
    rng = np.random.default_rng(seed + 2)

    def noise() -> Floats:
        return np.where(joined.has_forecast, rng.uniform(1, 2, joined.pattern.shape), np.nan)

    bands = {stage: Band(noise(), noise(), noise(), noise()) for stage in STAGES}
    bands["final"] = replace(bands["final"], p10=np.full_like(joined.pattern, np.nan))
    borrowed = joined.has_forecast & (rng.uniform(size=joined.pattern.shape) < 0.5)
    return replace(joined, bands=bands, is_borrowed=borrowed)


def test_cells_are_issued_above_the_natural_age_only(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.write("m-1", random_entries(), bundle="b-1", last_training_day=ORIGIN)
    rows = parquet.read_table(ledger.path("m-1", ORIGIN), partitioning=None).to_pandas()
    issued_cells = [
        (str(start), k, observed, list(cells["age"]))
        for (start, k, observed), cells in rows.groupby(
            ["cohort_start", "natural_k", "observed_age"]
        )
    ]
    assert issued_cells == [
        ("2024-02-04", 20, 20, AFTER_20),
        ("2024-02-19", 5, 3, AFTER_5),
        ("2024-02-19", 5, 5, AFTER_5),
    ]
    assert set(rows["observed_value"]) == {2 * 21**0.5, 4**0.5, 6**0.5}
    assert rows.loc[rows["natural_k"] == 20, "cohort_end"].astype(str).unique() == ["2024-02-10"]
    assert (rows["reach"] == 180).all() and set(rows["users"]) == {200.0, 300.0}


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    ledger, days = Ledger(tmp_path), [ORIGIN, np.datetime64("2024-03-08")]
    entries_by_day = [random_entries(day, seed, spend=7.5) for seed, day in enumerate(days)]
    for day, day_entries in zip(days, entries_by_day, strict=True):
        ledger.write("m-1", day_entries, bundle="b-1", last_training_day=day)
        assert_same_entries(ledger.read("m-1", [day], ("Absent", "Apps")), day_entries)
    both_days = ledger.read("m-1", days, ("Apps",))
    assert_same_entries(both_days, LedgerEntries.concatenate(entries_by_day))
    assert_same_entries(ledger.read("m-1", days[::-1], ("Apps",)), both_days)
    assert len(both_days.keys) == 3 and both_days.cohort_index.tolist() == [0, 1, 1, 0, 1, 2, 2]
    assert both_days.spend.tolist()[0] == 7.5 and np.isnan(both_days.spend[1])
    assert len(both_days.cohorts) == 3
    assert both_days.cohorts.attributes["OS"].tolist() == ["ios", "", "ios"]
    assert both_days.attributes["OS"].tolist() == ["ios", "", "", "ios", "", "ios", "ios"]
    assert both_days.start.astype("datetime64[D]").tolist()[-1].isoformat() == "2024-02-26"


def test_a_file_in_several_row_groups_reads_the_same(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.write("m-1", random_entries(), bundle="b-1", last_training_day=ORIGIN)
    path = ledger.path("m-1", ORIGIN)
    parquet.write_table(parquet.read_table(path, partitioning=None), path, row_group_size=7)
    assert parquet.ParquetFile(path).num_row_groups == 6
    assert_same_entries(ledger.read("m-1", [ORIGIN], ("Apps",)), random_entries())


def test_written_again_it_is_the_same_file(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.write("m-1", random_entries(), bundle="b-1", last_training_day=ORIGIN)
    once = file_contents(tmp_path)
    assert list(once) == ["origin=2024-03-01/m-1.parquet"]
    ledger.write("m-1", random_entries(), bundle="b-1", last_training_day=ORIGIN)
    assert file_contents(tmp_path) == once
    ledger.write(
        "m-1", random_entries().take(np.array([2, 0, 1])), bundle="b-1", last_training_day=ORIGIN
    )
    assert file_contents(tmp_path) == once


def test_a_write_that_fails_leaves_what_stood_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path)
    ledger.write("m-1", random_entries(), bundle="b-1", last_training_day=ORIGIN)
    once = file_contents(tmp_path)

    def fail(table: object, where: Path, **_: object) -> None:
        where.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(parquet, "write_table", fail)
    for model in ("m-1", "m-2"):
        with pytest.raises(OSError, match="disk full"):
            ledger.write(model, random_entries(seed=5), bundle="b-1", last_training_day=ORIGIN)
    assert file_contents(tmp_path) == once and not ledger.has("m-2", ORIGIN)


def test_pandas_and_duckdb_read_the_folder(tmp_path: Path) -> None:
    ledger, days = Ledger(tmp_path), [ORIGIN, np.datetime64("2024-03-08")]
    for model in ("m-1", "m-2"):
        for day in days:
            ledger.write(model, random_entries(day), bundle="b-1", last_training_day=ORIGIN)
    joined = LedgerEntries.concatenate([random_entries(day) for day in days])
    mean = joined.bands["final"].mean[joined.has_forecast]
    by_pandas = pd.read_parquet(tmp_path)
    assert len(by_pandas) == 2 * len(mean)
    first_model = by_pandas[by_pandas["model"] == "m-1"]
    assert sorted(first_model["mean"]) == sorted(mean)
    assert pd.api.types.is_string_dtype(first_model["Apps"])
    assert first_model["origin"].unique().tolist() == ["2024-03-01", "2024-03-08"]
    assert by_pandas["p10"].isna().all() and by_pandas["raw_p10"].notna().all()
    query = f"""
        select model, origin, typeof(origin), sum(mean), count(*), count(p10), max(trained)
        from read_parquet('{tmp_path}/*/*.parquet', hive_partitioning = true)
        group by all order by all"""
    rows = duckdb.sql(query).fetchall()
    assert [(row[0], str(row[1]), row[2]) for row in rows] == [
        (model, str(day), "DATE") for model in ("m-1", "m-2") for day in days
    ]
    counts = [int(random_entries(day).has_forecast.sum()) for day in days] * 2
    assert [row[4] for row in rows] == counts
    assert {row[5] for row in rows} == {0} and {str(row[6]) for row in rows} == {"2024-03-01"}
    np.testing.assert_allclose(sum(row[3] for row in rows), 2 * mean.sum())


def test_every_stage_of_an_uncorrected_forecast_is_the_raw_one(tmp_path: Path) -> None:
    curves = four_cohorts().as_of(ORIGIN)
    uncorrected = LedgerEntries.from_forecast(random_forecast(curves), curves.observed_age)
    ledger = Ledger(tmp_path)
    ledger.write("m-1", uncorrected, bundle="b-1", last_training_day=ORIGIN)
    for issued in (uncorrected, ledger.read("m-1", [ORIGIN], ())):
        assert {id(band) for band in issued.bands.values()} == {id(issued.bands["raw"])}
    assert not uncorrected.is_borrowed.any()


def test_a_corrected_forecast_keeps_its_final_band() -> None:
    curves = four_cohorts().as_of(ORIGIN)
    shape = (len(curves), len(NODES))
    final = Band(*(np.full(shape, value) for value in (2.0, 1.0, 2.0, 3.0)))
    borrowed = np.broadcast_to(np.array(NODES) >= 300, shape)
    corrected = LedgerEntries.from_forecast(
        random_forecast(curves, final=final, is_borrowed=borrowed), curves.observed_age
    )
    assert set(corrected.bands["final"].p90[corrected.has_forecast]) == {3.0}
    assert np.isnan(corrected.bands["final"].p90[~corrected.has_forecast]).all()
    assert np.isnan(corrected.bands["blended"].mean).all()
    assert np.isnan(corrected.bands["corrected"].mean).all()
    assert corrected.is_borrowed.sum() == 2 * 2  # D300 and D360 of the two cohorts


def test_a_fold_without_anything_to_forecast_has_no_entries() -> None:
    curves = four_cohorts().as_of("2026-01-01")
    assert len(LedgerEntries.from_forecast(random_forecast(curves), curves.observed_age)) == 0


def restated_history() -> History:
    """One cohort, ended on 2024-02-10, exported on 03-01 and, twice as large, on 04-01."""
    early, late = curve(20, 1.0), curve(51, 2.0)
    rows = [
        ("2024-02-04", "2024-02-10", {"Apps": "b", "OS": "ios"}, 200.0, c) for c in (early, late)
    ]
    return history(rows, ["2024-03-01", "2024-04-01"], hierarchy=("Apps",))


@pytest.mark.parametrize(
    ("date", "known"),
    [
        ("2024-02-01", []),  # before the cohort began
        ("2024-03-01", []),  # D20
        ("2024-03-31", []),  # D50 by calendar, but the last export then was of D20
        ("2024-04-01", [21, 30, 45]),
        ("2030-01-01", [21, 30, 45]),  # nothing was exported later
    ],
)
def test_what_came_true_is_joined_as_of_a_date(date: str, known: list[int]) -> None:
    curves = restated_history().as_of(ORIGIN)
    issued = LedgerEntries.from_forecast(random_forecast(curves), curves.observed_age)
    actual = issued.look_up_actuals(restated_history().as_of(date))
    has_matured = np.isin(NODES, known)
    np.testing.assert_array_equal(np.isfinite(actual[0]), has_matured)
    np.testing.assert_array_equal(actual[0, has_matured], 2 * (1.0 + np.array(known)) ** 0.5)


@pytest.mark.parametrize(
    ("date", "known"),
    [
        ("2024-03-01", [[], [], []]),
        ("2024-03-02", [[21], [6], [6]]),  # D21 and D6
        ("2024-03-10", [[21], [6, 7, 10, 14], [6, 7, 10, 14]]),  # D29 and D14
    ],
)
def test_one_file_is_cut_by_date(date: str, known: list[list[int]]) -> None:
    actual = random_entries().look_up_actuals(four_cohorts().as_of(date))
    assert [list(np.array(NODES)[np.isfinite(row)]) for row in actual] == known


def test_cohorts_that_data_lack_have_not_come_true() -> None:
    curves = four_cohorts().as_of(ORIGIN)
    missing = replace(
        four_cohorts(), attributes={**four_cohorts().attributes, "Apps": np.full(4, "c", object)}
    )
    issued = LedgerEntries.from_forecast(random_forecast(curves), curves.observed_age)
    assert np.isnan(issued.look_up_actuals(missing.as_of("2030-01-01"))).all()


def test_cohorts_with_other_attributes_are_refused() -> None:
    fewer = replace(four_cohorts(), attributes={"Apps": four_cohorts().attributes["Apps"]})
    with pytest.raises(ValueError, match="expected cohorts by start, end, Apps, OS as in the ledg"):
        random_entries().look_up_actuals(fewer.as_of(ORIGIN))


def test_a_forecast_of_a_day_that_training_knew_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2024-03-01 by a model that knew 2024-03-02 proves noth"):
        Ledger(tmp_path).write(
            "m", random_entries(), "b", last_training_day=np.datetime64("2024-03-02")
        )
    assert file_contents(tmp_path) == {}


@pytest.mark.parametrize(("days", "count"), [(["2024-03-01", "2024-03-08"], 2), ([], 0)])
def test_entries_of_one_origin_are_expected(tmp_path: Path, days: list[str], count: int) -> None:
    joined = random_entries().take(np.array([], dtype=np.int64))
    joined = LedgerEntries.concatenate(
        [joined, *(random_entries(np.datetime64(day)) for day in days)]
    )
    with pytest.raises(ValueError, match=f"expected entries of one origin, got those of {count}"):
        Ledger(tmp_path).write("m", joined, "b", last_training_day=ORIGIN)


def test_a_cohort_stands_once_at_an_observed_age(tmp_path: Path) -> None:
    twice = LedgerEntries.concatenate(
        [random_entries(), random_entries(seed=3).take(np.array([1]))]
    )
    with pytest.raises(ValueError, match="got 2024-02-19 .* a .* twice at 3: append what was for"):
        Ledger(tmp_path).write("m", twice, "b", last_training_day=ORIGIN)


@pytest.mark.parametrize("name", ["age", "Bundle", "start", "end", "p10", "attribute_age"])
def test_an_attribute_named_like_a_column_is_kept_beside_it(tmp_path: Path, name: str) -> None:
    names = {name: four_cohorts().attributes["Apps"], "OS": four_cohorts().attributes["OS"]}
    cohorts = replace(four_cohorts(), attributes=names, hierarchy=(name,))
    curves = cohorts.as_of(ORIGIN)
    issued = LedgerEntries.from_forecast(random_forecast(curves), curves.observed_age)
    ledger = Ledger(tmp_path)
    ledger.write("m", issued, "b", last_training_day=ORIGIN)
    read_back = ledger.read("m", [ORIGIN], (name,))
    assert_same_entries(read_back, issued)
    assert read_back.hierarchy == (name,)
    assert read_back.attributes[name].tolist() == ["b", "a"]
    actual = read_back.look_up_actuals(cohorts.as_of("2030-01-01"))
    assert np.isfinite(actual[read_back.has_forecast]).all()

    rows = pd.read_parquet(tmp_path)
    assert set(rows[f"attribute_{name}"]) == {"a", "b"}
    assert set(rows["age"]) <= set(NODES) and set(rows["bundle"]) == {"b"}


def test_a_ledger_of_before_there_was_a_prefix_is_read(tmp_path: Path) -> None:
    """An attribute could then be named like a column of another case: Age beside age."""
    names = {"Age": four_cohorts().attributes["Apps"], "OS": four_cohorts().attributes["OS"]}
    curves = replace(four_cohorts(), attributes=names, hierarchy=("OS",)).as_of(ORIGIN)
    issued = LedgerEntries.from_forecast(random_forecast(curves), curves.observed_age)
    ledger = Ledger(tmp_path)
    ledger.write("m", issued, "b", last_training_day=ORIGIN)
    path = ledger.path("m", ORIGIN)
    table = parquet.read_table(path, partitioning=None)
    parquet.write_table(table.rename_columns({"attribute_Age": "Age"}), path)
    assert_same_entries(ledger.read("m", [ORIGIN], ("OS",)), issued)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_damaged_file_is_named(tmp_path: Path, kept: float) -> None:
    ledger = Ledger(tmp_path)
    ledger.write("m-1", random_entries(), bundle="b-1", last_training_day=ORIGIN)
    path = ledger.path("m-1", ORIGIN)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    for read in (
        lambda: ledger.read("m-1", [ORIGIN], ()),
        lambda: ledger.last_training_day("m-1", ORIGIN),
    ):
        with pytest.raises(ValueError, match="m-1.parquet: the file is damaged .*: delete it, and"):
            read()


def test_a_table_of_another_kind_is_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    path = ledger.path("m-1", ORIGIN)
    path.parent.mkdir()
    pd.DataFrame({"age": [1]}).to_parquet(path)
    for read in (
        lambda: ledger.read("m-1", [ORIGIN], ()),
        lambda: ledger.last_training_day("m-1", ORIGIN),
    ):
        with pytest.raises(ValueError, match="m-1.parquet: the file is damaged"):
            read()


def test_a_forecast_is_at_the_nodes() -> None:
    curves = four_cohorts().as_of(ORIGIN)
    with pytest.raises(
        ValueError, match=r"expected a forecast at the nodes .*got ages \[ 30 360\]"
    ):
        LedgerEntries.from_forecast(random_forecast(curves).at([30, 360]), curves.observed_age)


def test_forecasts_that_are_not_there_are_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.write("m-1", random_entries(), bundle="b-1", last_training_day=ORIGIN)
    later = np.datetime64("2024-03-08")
    with pytest.raises(ValueError, match="m-1 at 2 origins, found none at .*origin=2024-03-08/m-1"):
        ledger.read("m-1", [ORIGIN, later], ())
    with pytest.raises(ValueError, match="expected origins to read of m-1, got none"):
        ledger.read("m-1", [], ())
    assert ledger.has("m-1", ORIGIN) and not ledger.has("m-1", later)
    assert (
        ledger.last_training_day("m-1", ORIGIN) == ORIGIN
        and ledger.last_training_day("m-1", later) is None
    )


def test_keys_are_told_apart_and_sorted_like_curves() -> None:
    rng = np.random.default_rng(0)
    rows = [
        (f"2024-01-{d:02d}", f"2024-01-{d + 1:02d}", {"Apps": a, "OS": o}, 1.0, curve(3))
        for d in range(1, 9)
        for a in ("b", "a", "", "B")
        for o in ("x", "y")
    ]
    curves = history([rows[i] for i in rng.permutation(len(rows))]).as_of("2024-02-01")
    natural: Ints = np.full(len(curves), 3)
    samples = [
        LedgerEntries.from_forecast(random_forecast(curves), natural).take(rng.permutation(64)[:40])
        for _ in range(3)
    ]
    joined = LedgerEntries.concatenate(samples)
    cohort_rows = set(np.concatenate([sample.cohort_index for sample in samples]).tolist())
    assert joined.keys.equals(curves.index[sorted(cohort_rows)])
    assert len(joined) == 120 and (np.diff(joined.cohort_index) >= 0).all()
