"""Rows of a table on disk, counted or estimated without reading it: how long a bar is."""

from pathlib import Path

import pyarrow.parquet as parquet
from pyarrow import ArrowInvalid

LINE_SAMPLE_BYTES = 1 << 20
"""Bytes at the beginning of a text file that tell how long its lines are."""


def estimate_rows(path: Path) -> int | None:
    """Return the rows of a Parquet file, about those of a CSV file, and None for other files.

    None also where it is not a readable file: who reads it will say what is wrong.
    """
    kind = path.suffix.lower()
    try:
        if kind == ".parquet":
            return int(parquet.read_metadata(path).num_rows)
        if kind in (".csv", ".tsv", ".txt"):
            return _estimate_lines(path)
    except (OSError, ArrowInvalid):
        return None
    return None


def _estimate_lines(path: Path) -> int | None:
    """Estimate the lines after the first of a text file; None where there is no line to go by."""
    with path.open("rb") as file:
        sample = file.read(LINE_SAMPLE_BYTES)
    lines = sample.count(b"\n")
    if lines < 2:
        return None
    header_bytes = sample.index(b"\n") + 1
    last_end = sample.rindex(b"\n") + 1
    bytes_per_line = (last_end - header_bytes) / (lines - 1)
    return round((path.stat().st_size - header_bytes) / bytes_per_line)
