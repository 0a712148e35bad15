"""Workbooks of Excel (.xlsx) as tables of text, one sheet of them.

Needs python-calamine. Cells are what Excel shows of their value: dates as YYYY-MM-DD, whole numbers
without a point, others with as many digits as tell them apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path

import pyarrow as pa

from ltvnet.data.importers.text_files import LineCounts, find_header_row, is_blank_row

Cell = str | float | bool | date | datetime | time | timedelta | None


@dataclass(frozen=True)
class Workbook:
    """The table in a sheet: its `columns`, and the `batch` of its rows as text.

    `row_numbers` (from 1) of the sheet in which the rows of the table stand; `counts` of other
    rows below the header.
    """

    sheet: str
    columns: tuple[str, ...]
    batch: pa.RecordBatch
    row_numbers: tuple[int, ...]
    counts: LineCounts


def read_workbook(path: Path, sheet: str | None = None) -> Workbook:
    """Read the table in a workbook: of the sheet of that name, or of the only one that has any.

    Raises ValueError, which names the file, where there is no table, where several sheets have
    one, and for a file that is no workbook.
    """
    from python_calamine import CalamineError

    try:
        tables = _read_sheets(path, sheet)
    except CalamineError as error:
        raise ValueError(
            f"{path}: expected a workbook of Excel, got something else or a damaged one; {error}"
        ) from error
    if len(tables) > 1:
        listed = ", ".join(table.sheet for table in tables)
        raise ValueError(
            f"{path}: tables stand in the sheets {listed}; say which by "
            f"data.format.sheet='{tables[0].sheet}'"
        )
    return tables[0]


def _read_sheets(path: Path, sheet: str | None) -> list[Workbook]:
    """Find the tables in the sheet of that name, or in all that are not hidden."""
    from python_calamine import CalamineWorkbook, SheetVisibleEnum

    workbook = CalamineWorkbook.from_path(str(path))
    visible = [
        one.name for one in workbook.sheets_metadata if one.visible == SheetVisibleEnum.Visible
    ]
    names = visible if sheet is None else [sheet]
    if sheet is not None and sheet not in workbook.sheet_names:
        known = ", ".join(workbook.sheet_names)
        raise ValueError(f"{path}: expected data.format.sheet out of {known}, got {sheet!r}")

    tables = []
    for name in names:
        rows = workbook.get_sheet_by_name(name).to_python(skip_empty_area=False)
        texts = [[_cell_text(cell) for cell in row] for row in rows]
        if table := _find_table(name, texts):
            tables.append(table)
    if not tables:
        raise ValueError(f"{path}: expected a table in sheet {' or '.join(names)}, got none")
    return tables


def _find_table(sheet: str, rows: Sequence[Sequence[str]]) -> Workbook | None:
    """Find header and rows of the table in a sheet; None where there is none."""
    header = find_header_row(rows)
    if header is None:
        return None
    width = max(position for position, name in enumerate(rows[header]) if name.strip()) + 1
    columns = tuple(name.strip() for name in rows[header][:width])
    counts = LineCounts()
    body = []
    row_numbers = []
    for number, row in enumerate(rows[header + 1 :], header + 2):
        cells = row[:width]
        if is_blank_row(cells):
            counts.blanks += 1
        elif tuple(cell.strip() for cell in cells) == columns:
            counts.repeated_headers += 1
        else:
            body.append(cells)
            row_numbers.append(number)

    arrays = [pa.array([row[i] or None for row in body], pa.string()) for i in range(width)]
    batch = pa.RecordBatch.from_arrays(arrays, names=list(columns))
    return Workbook(sheet, columns, batch, tuple(row_numbers), counts)


def _cell_text(cell: Cell) -> str:
    """Write a cell as text.

    >>> _cell_text(3.0), _cell_text(0.1), _cell_text(datetime(2025, 1, 6)), _cell_text(None)
    ('3', '0.1', '2025-01-06', '')
    """
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell)
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else repr(cell)
    if isinstance(cell, datetime) and cell.time() == time():
        return cell.date().isoformat()
    return str(cell)
