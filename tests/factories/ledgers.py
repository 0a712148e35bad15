"""Ages of issued cells, and what stands in a ledger."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np

from ltvnet.backtesting.ledger import STAGES, LedgerEntries
from ltvnet.forecasting.forecast import QUANTITIES

AFTER_20 = [21, 30, 45, 60, 90, 120, 150, 180, 240, 300, 360]


AFTER_5 = [6, 7, 10, 14, *AFTER_20]
"""Nodes after D20 and after D5."""


def assert_same_entries(first: LedgerEntries, second: LedgerEntries) -> None:
    """Check that two lists of entries are equal to the bit."""
    assert first.keys.equals(second.keys) and first.keys.names == second.keys.names
    assert first.hierarchy == second.hierarchy
    for name in (
        f.name for f in fields(LedgerEntries) if f.name not in ("hierarchy", "keys", "bands")
    ):
        cells, other_cells = getattr(first, name), getattr(second, name)
        assert cells.dtype == other_cells.dtype, name
        np.testing.assert_array_equal(cells, other_cells, err_msg=name)
    for stage in STAGES:
        for quantity in QUANTITIES:
            cells, other_cells = (getattr(e.bands[stage], quantity) for e in (first, second))
            np.testing.assert_array_equal(cells, other_cells, err_msg=f"{stage} {quantity}")


def file_contents(folder: Path) -> Mapping[str, bytes]:
    """Every file below a folder, by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
