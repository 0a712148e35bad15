"""Rows are counted where a file says how many it has, and estimated from its first lines else."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltvnet.data.row_counts import estimate_rows


@given(rows=st.integers(0, 5000))
def test_parquet_says_how_many_rows_it_has(
    rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("table") / "cohorts.parquet"
    parquet.write_table(pa.table({"day_0": pa.array([1.0] * rows)}), path)
    assert estimate_rows(path) == rows


@pytest.mark.parametrize("rows", [2, 100, 200_000])
def test_lines_are_estimated_from_the_first_megabyte(rows: int, tmp_path: Path) -> None:
    """Lines of 13 to 15 bytes: of a file beyond the sample within 2 %, else to the line."""
    path = tmp_path / "cohorts.csv"
    lines = (f"{row:07},0.25{'0' * (row % 3)}\n" for row in range(rows))
    path.write_text("Date,day_0\n" + "".join(lines))
    assert estimate_rows(path) == pytest.approx(rows, rel=0.02, abs=0)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.xlsx", "a.parquet", "missing.csv"])
def test_what_cannot_be_counted_is_not_guessed(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if not name.startswith("missing"):
        path.write_bytes(b"header only")
    assert estimate_rows(path) is None
