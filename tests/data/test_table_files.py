"""Tables on disk: formats, encodings, folders of snapshots, and reports of faults."""

import gzip
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ltvnet.data.table_files import FaultReport, TableFile, find_tables


def cells(path: Path, rows: int = 1000) -> list[dict[str, list[str | None]]]:
    return [block.to_pydict() for block in TableFile(path).blocks(rows)]


def test_blocks_have_the_rows_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "".join(f"{n},x\n" for n in range(7)))
    assert [len(block["a"]) for block in cells(path, 3)] == [3, 3, 1]
    pd.DataFrame({"a": range(6)}).to_parquet(tmp_path / "a.parquet")
    assert cells(tmp_path / "a.parquet", 3) == [{"a": [0, 1, 2]}, {"a": [3, 4, 5]}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp949", "euc-kr"])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".CSV"])
def test_encodings_and_compression(tmp_path: Path, encoding: str, suffix: str) -> None:
    data = "Date,Apps\r\n2025-01-06,한국\r\n2025-01-07,\r\n".encode(encoding)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    assert cells(path) == [{"Date": ["2025-01-06", "2025-01-07"], "Apps": ["한국", None]}]


def test_another_encoding_than_utf8_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.csv").write_bytes("a\n한국\n".encode("cp949"))
    with caplog.at_level(logging.INFO):
        cells(tmp_path / "a.csv")
    assert "a.csv: read as cp949" in caplog.text


GZIPPED = gzip.compress("\n".join(str(n) for n in range(9999)).encode())


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"", r"a\.csv: expected a header and at least one row, got an empty file"),
        ("a.csv", b"Date,day_0\n", r"a\.csv: expected at least one cohort below the header"),
        ("a.csv", b"Date,day_0", r"a\.csv: expected at least one cohort below the header"),
        ("a.csv.gz", b"", r"a\.csv\.gz: expected a header and at least one row"),
        ("a.csv.gz", GZIPPED[:-9], r"a\.csv\.gz: the gzip file is cut off.*export the file again"),
        ("a.csv.gz", GZIPPED[:99] + b"\xff" * 99, r"the gzip file is cut off or damaged"),
        ("a.csv.gz", b"Date,day_0\n2025-01-06,1\n", r"the gzip file is cut off or damaged"),
        ("a.csv", b"Date,day_0\n\x81\xff\x81,1", r"expected text in UTF-8.*save"),
        ("a.csv", b"a,b\n1,2\n\n3,4,5\n", r"a\.csv, line 4: expected 2 cells.*got 3\nremove thous"),
        ("a.parquet", b"", r"a\.parquet: expected a Parquet file, got something else"),
        ("a.parquet", b"Date,day_0\n2025-01-06,1\n", r"expected a Parquet file, got something"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        cells(tmp_path / name)


def test_a_parquet_file_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"a": range(999)}).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"expected a Parquet file, got something else or a part"):
        cells(path)


def test_a_line_that_fits_no_block(tmp_path: Path) -> None:
    """Lines are read up to 16 MiB."""
    (tmp_path / "a.csv").write_text("a\n" + "x" * (3 << 24))
    with pytest.raises(ValueError, match=r"a\.csv: cannot be read as a table of text"):
        cells(tmp_path / "a.csv")


def test_places_count_lines_from_the_header_and_skip_empty_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a\n\nx\ny\n\nz\n")
    assert TableFile(path).locations([0, 2]) == ["line 3", "line 6"]
    assert TableFile(tmp_path / "a.parquet").locations([0, 2]) == ["row 1", "row 3"]


@pytest.mark.parametrize("date", ["2025_02_10", "2025-02-10", "20250210"])
@pytest.mark.parametrize("name", ["[MKT]_LTV_{}.csv", "{}.csv.gz", "12345678_{}_v2.parquet"])
def test_the_date_in_a_name(tmp_path: Path, name: str, date: str) -> None:
    path = tmp_path / name.format(date)
    path.touch()
    assert find_tables(path) == find_tables(tmp_path) == {path: np.datetime64("2025-02-10")}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"expected files that end in \.csv, \.csv\.gz, .*\.parquet, \.xlsx, got none"),
        (["notes.txt"], r"expected files that end in \.csv"),
        (["2025_02_10.csv", "b.csv"], r"b\.csv: expected a date such as 2025_02_10 in the name"),
        (["a_2025_13_10.csv"], r"a_2025_13_10\.csv: expected a date such as"),
        (["a_20250210.csv", "b_2025-02-10.csv"], r"a_20250210\.csv and .*b_2025-02-10\.csv: two"),
        (["2025-01-01_2025-01-07.csv"], r"expected one date in the name, got several; rename"),
    ],
)
def test_folders_that_are_no_snapshots(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=message):
        find_tables(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.csv", r"found none; see data\.path"), ("a.xls", r"expected a file that ends in")],
)
def test_paths_without_a_table(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "a.xls").touch()
    with pytest.raises(ValueError, match=message):
        find_tables(tmp_path / name)


def test_files_that_are_no_tables_are_ignored_with_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("b_2025_02_17.csv", "a_2025_02_24.csv", "~$b_2025_02_17.csv", "readme.txt"):
        (tmp_path / name).touch()
    (tmp_path / "Files").mkdir()
    with caplog.at_level(logging.INFO):
        assert [path.name[0] for path in find_tables(tmp_path)] == ["b", "a"]
    assert caplog.messages == [
        f"{tmp_path}: ignored, as they are no tables: readme.txt, ~$b_2025_02_17.csv"
    ]


def test_a_report_lists_twenty_and_counts_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    faults = pd.DataFrame({"row": range(25), "column": "Users", "value": "x", "more": 0})
    report = FaultReport({"Users": "Installs"})
    report.raise_if_any()
    report.add_file("b.csv: empty")
    report.add_table(TableFile(path), faults.assign(problem="bad"))
    with pytest.raises(ValueError, match=r"^problems in the data: 26\n") as error:
        report.raise_if_any()
    lines = str(error.value).splitlines()
    assert lines[1:3] == ["b.csv: empty", f"{path}, row 1, Installs = 'x': bad"]
    assert lines[-2:] == [f"{path}, row 19, Installs = 'x': bad", "and 6 more"]
