"""Purchases as a cohort table, and the standard errors of its curves beside it."""

from pathlib import Path

import pandas as pd
import pytest
from factories.cohorts import curve, history
from factories.sources import MemorySource

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

    assert (tmp_path / "cohorts.csv").read_text().replace('"', "").splitlines() == [
        "Date,country,Users,day_0,day_1,day_2,day_3",
        "2024-01-01~2024-01-07,KR,10,1,2,3,4",
        "2024-01-03~2024-01-09,US,20,5,10,,",
    ]
    assert (tmp_path / "standard_errors.csv").read_text().splitlines() == [
        "Date,country,Users,day_0,day_7",
        "2024-01-01~2024-01-07,KR,10.0,0.1,1.0",
        "2024-01-03~2024-01-09,US,20.0,0.2,2.0",
    ]


def test_a_source_without_customers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected purchases, as data=transactions has, got"):
        prepare_cohorts(MemorySource(two_cohorts()), tmp_path)
    assert not list(tmp_path.iterdir())
