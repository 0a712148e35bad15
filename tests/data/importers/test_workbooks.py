"""Workbooks: the table in a sheet, its cells as Excel shows them."""

import datetime
from pathlib import Path
from zipfile import ZipFile

import pytest
from factories.workbooks import Cell, write_workbook

from ltvnet.data.cohort_tables import Files
from ltvnet.data.importers.workbooks import read_workbook
from ltvnet.data.table_files import TableFile

HEADER: list[Cell] = ["Date", "Campaign", "Users", "day_0"]
ROWS: list[list[Cell]] = [
    [datetime.date(2025, 1, 6), "0012", 100, 0.1],
    [datetime.date(2025, 1, 13), "spring", 50.0, None],
]
TEXTS = [["2025-01-06", "0012", "100", "0.1"], ["2025-01-13", "spring", "50", None]]


def rows_of(path: Path, sheet: str | None = None) -> list[list[str | None]]:
    batch = read_workbook(path, sheet).batch
    return [list(row) for row in zip(*batch.to_pydict().values(), strict=True)]


def written(folder: Path, rows: list[list[Cell]], **more: list[list[Cell]]) -> Path:
    path = folder / "a_2025-02-01.xlsx"
    write_workbook(path, {"LTV": rows, **more})
    return path


@pytest.mark.parametrize(
    "titles", [[], [["LTV report"]], [["From", "2025-01-06"], [], [None, "x"]]]
)
def test_titles_above_the_table_are_passed_over(titles: list[list[Cell]], tmp_path: Path) -> None:
    path = written(tmp_path, [*titles, HEADER, *ROWS])
    assert rows_of(path) == TEXTS
    assert TableFile(path).columns == HEADER
    assert TableFile(path).locations([1]) == [f"row {len(titles) + 3}"]


def test_empty_rows_and_repeated_headers_are_left_out_and_counted(tmp_path: Path) -> None:
    path = written(tmp_path, [HEADER, [], ROWS[0], HEADER, [" "], ROWS[1]])
    assert rows_of(path) == TEXTS
    counts = read_workbook(path).counts
    assert (counts.blanks, counts.repeated_headers) == (2, 1)
    assert TableFile(path).locations([0, 1]) == ["row 3", "row 6"]


def test_the_table_may_begin_in_any_column(tmp_path: Path) -> None:
    path = written(tmp_path, [[None, *row] for row in [HEADER, *ROWS]])
    curves = Files(path=path).history().as_of("2025-02-01")
    assert curves.attributes["Campaign"].tolist() == ["0012", "spring"]
    assert curves.values[0, 0] == 0.1


def test_one_of_several_tables_is_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, [HEADER, *ROWS], Older=[HEADER, ROWS[0]], Notes=[["nothing"]])
    with pytest.raises(
        ValueError, match=r"a_2025-02-01\.xlsx: tables stand in the sheets LTV, Old"
    ):
        read_workbook(path)
    assert rows_of(path, "Older") == TEXTS[:1]
    with pytest.raises(
        ValueError, match=r"data\.format\.sheet out of LTV, Older, Notes, got 'New'"
    ):
        read_workbook(path, "New")
    with pytest.raises(ValueError, match="expected a table in sheet Notes, got none"):
        read_workbook(path, "Notes")


def test_hidden_sheets_are_no_candidates(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    write_workbook(path, {"Old": [HEADER, ROWS[0]], "LTV": [HEADER, *ROWS]}, hidden=["Old"])
    assert rows_of(path) == TEXTS
    assert rows_of(path, "Old") == TEXTS[:1]


def test_failed_formulas_are_no_numbers(tmp_path: Path) -> None:
    """A cell in which a formula failed is refused with its row, and not read as empty."""
    for cell in ("#N/A", "#DIV/0!", "#REF!"):
        path = written(tmp_path, [HEADER, ROWS[0], [datetime.date(2025, 1, 13), "b", cell, 1.0]])
        with pytest.raises(ValueError, match="row 3, Users = '#"):
            Files(path=path).history()


def test_values_of_formulas_count(tmp_path: Path) -> None:
    path = written(tmp_path, [HEADER, *ROWS])
    with ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    sheet = files["xl/worksheets/sheet1.xml"]
    files["xl/worksheets/sheet1.xml"] = sheet.replace(b"<v>100</v>", b"<f>60+40</f><v>100</v>")
    with ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    assert rows_of(path) == TEXTS


@pytest.mark.parametrize("data", [b"", b"Date,day_0\n", b"PK\x03\x04 and no more"])
def test_what_is_no_workbook_is_named(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.xlsx: expected a workbook of Excel, got something"):
        read_workbook(path)
