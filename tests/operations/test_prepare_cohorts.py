"""Purchases as a cohort table, and the standard errors of its curves beside it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories.cohorts import curve, history
from factories.sources import MemorySource

from ltvnet.data.cohort_tables import Files
from ltvnet.data.curves import History
from ltvnet.operations.prepare_cohorts import prepare_cohorts


def two_cohorts() -> History:
    """Cohorts that ended three days and one day before the last one that is known."""
    rows = [
        ("2024-01-01", "2024-01-07", {"country": "KR"}, 10.0, curve(3, power=1.0)),
        ("2024-01-03", "2024-01-09", {"country": "US"}, 20.0, curve(1, level=5.0, power=1.0)),
    ]
    return history(rows, snapshots=["2024-01-10"] * 2)


def test_cohorts_and_standard_errors_are_written_row_by_row(tmp_path: Path) -> None:
    data = two_cohorts()
    keys = data.as_of("2024-01-10").index
    errors = pd.DataFrame({0: [0.2, 0.1], 7: [2.0, 1.0]}, index=keys[::-1])  # in another order
    prepare_cohorts(MemorySource(data, errors=errors), tmp_path)

    assert (tmp_path / "cohorts_2024_01_10.csv").read_text().replace('"', "").splitlines() == [
        "Date,country,Users,day_0,day_1,day_2,day_3",
        "2024-01-01~2024-01-07,KR,10,1,2,3,4",
        "2024-01-03~2024-01-09,US,20,5,10,,",
    ]
    assert (tmp_path / "standard_errors" / "cohorts_2024_01_10.csv").read_text().splitlines() == [
        "Date,country,Users,day_0,day_7",
        "2024-01-01~2024-01-07,KR,10.0,0.1,1.0",
        "2024-01-03~2024-01-09,US,20.0,0.2,2.0",
    ]


def test_a_source_without_customers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected purchases, as data=transactions has, got"):
        prepare_cohorts(MemorySource(two_cohorts()), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_folder_is_read_back_as_it_was_meant(tmp_path: Path) -> None:
    """With numbers as attributes, refunds and late revenue, and standard errors beside."""
    falling = curve(2, power=1.0)
    falling[1] = 0.5
    rows = [
        ("2024-01-01", "2024-01-07", {"store": "7"}, 10.0, falling),
        ("2024-01-02", "2024-01-08", {"store": "12"}, 20.0, curve(1, level=5.0)),
    ]
    data = history(rows, ["2024-01-10"] * 2, hierarchy=("store",), lag_days=1)
    errors = pd.DataFrame({0: [0.2, 0.1]}, index=data.as_of("2024-01-10").index)
    prepared = prepare_cohorts(MemorySource(data, errors=errors), tmp_path)

    assert prepared.training_choices() == {
        "path": str(tmp_path),
        "hierarchy": ["store"],
        "attributes": ["store"],
        "lag_days": 1,
        "revenue": "net",
    }
    files = Files(
        path=tmp_path, hierarchy=["store"], attributes=["store"], lag_days=1, revenue="net"
    )
    read = files.history()
    assert read.hierarchy == ("store",)
    assert str(read.last_day) == "2024-01-10"
    np.testing.assert_array_equal(read.values, data.as_of("2024-01-10").values)


def test_days_stand_side_by_side_in_the_folder(tmp_path: Path) -> None:
    """What is prepared week after week is a folder of snapshots."""
    for snapshot in ("2024-01-10", "2024-01-17"):
        data = history([("2024-01-01", "2024-01-07", {}, 10.0, curve(3))], [snapshot])
        errors = pd.DataFrame({0: [0.2]}, index=data.as_of(snapshot).index)
        prepare_cohorts(MemorySource(data, errors=errors), tmp_path)
    snapshots = Files(path=tmp_path, hierarchy=[]).history().snapshot
    assert list(snapshots.astype(str)) == ["2024-01-10", "2024-01-17"]
