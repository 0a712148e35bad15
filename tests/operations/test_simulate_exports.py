"""Simulated cohorts, exported as they were known on one day or on several."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories.simulations import BASE, EFFECTS_ALIKE, PLAIN

from ltvnet.operations.simulate_exports import ExportOptions, simulate_exports

SOURCE = replace(PLAIN, effects=replace(EFFECTS_ALIKE, base=BASE | {"users": 100.0}))
"""Four cohorts in each of three weeks, of which the first ends on 2022-01-09."""

OPTIONS = ExportOptions(as_of=None, table="LTV.csv", snapshots=0, every_weeks=1)


def day_columns(table: pd.DataFrame) -> list[str]:
    """Names of the columns of ages."""
    return [name for name in table if name.startswith("day_")]


def test_one_table_holds_what_was_known_on_its_day(tmp_path: Path) -> None:
    simulate_exports(SOURCE, replace(OPTIONS, as_of="2022-01-16"), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"LTV.csv", "truth.parquet"}

    table = pd.read_csv(tmp_path / "LTV.csv")
    assert table["Date"].value_counts().to_dict() == {
        "2022-01-03~2022-01-09": 4,
        "2022-01-10~2022-01-16": 4,
    }
    assert day_columns(table) == [f"day_{age}" for age in range(8)]
    known_ages = table[day_columns(table)].notna().sum(axis=1)
    assert known_ages.groupby(table["Date"]).unique().map(list).tolist() == [[8], [1]]


def test_without_a_day_every_cohort_is_known_to_the_end(tmp_path: Path) -> None:
    simulate_exports(SOURCE, OPTIONS, tmp_path)
    table = pd.read_csv(tmp_path / "LTV.csv")
    truth = pd.read_parquet(tmp_path / "truth.parquet")

    keys = ["Date", "Apps", "Country", "Campaign", "Users"]
    pd.testing.assert_frame_equal(table[keys], truth[keys], check_dtype=False)
    for written, curves in (
        (table, SOURCE.history().as_of(SOURCE.timeline.last_day)),
        (truth, SOURCE.truth()),
    ):
        assert written.shape[0] == 12 and len(day_columns(written)) == 361
        np.testing.assert_array_equal(written[day_columns(written)], curves.values)


def test_snapshots_are_files_as_many_weeks_apart_up_to_the_day(tmp_path: Path) -> None:
    options = replace(OPTIONS, as_of="2022-01-30", snapshots=2, every_weeks=2)
    simulate_exports(SOURCE, options, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"Files", "truth.parquet"}
    rows_by_file = {path.name: len(pd.read_csv(path)) for path in (tmp_path / "Files").iterdir()}
    assert rows_by_file == {
        "[MKT]_LTV_Analysis_2022_01_16.csv": 8,
        "[MKT]_LTV_Analysis_2022_01_30.csv": 12,
    }


def test_exports_from_before_the_first_cohort_are_refused(tmp_path: Path) -> None:
    options = replace(OPTIONS, as_of="2022-01-30", snapshots=5)
    with pytest.raises(ValueError, match="exports from 2022-01-09 on, got 2022-01-02: take fewer"):
        simulate_exports(SOURCE, options, tmp_path)
    assert not list(tmp_path.iterdir())
