"""CSV tables for people: Excel opens them by double click, and numbers have sensible digits.

A table begins with the byte order mark of UTF-8, without which Excel takes Hangul for another
encoding. Numbers keep their order when they are rounded, so that a range still holds its mean.
"""

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
from numpy.typing import NDArray

from ltvnet.data.arrays import Floats

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

SIGNIFICANT_DIGITS = 6
"""Digits of revenue per user, which is known to a few of them at best."""

MONEY_DECIMALS = 2
"""Decimals of sums of money; small sums have more, as many as SIGNIFICANT_DIGITS."""

_MOST_DECIMALS = 200  # beyond that is rounding, and soon beyond what a number can be scaled by

_ROUNDED_CELLS = 1 << 15  # cells that are rounded together: they stay in a processor's cache

_EXPONENTS = np.arange(256)
"""Exponents of two as float32 has them: 0 is zero or next to it, 255 is no number."""

_LOWEST_DECADE = np.floor((_EXPONENTS - 127) * np.log10(2.0)).astype(np.int64)
_NEXT_DECADE = 10.0 ** (_LOWEST_DECADE + 1)  # a value from there on has one decimal less
_SCALE = 10.0 ** (SIGNIFICANT_DIGITS - 1 - _LOWEST_DECADE)
_SCALE[[0, 255]] = 1.0


class CsvWriter:
    """A writer of tables of one schema, one after the other, to a CSV file of UTF-8 with its mark.

    To be used as a context: the file is closed at the end.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """Open the file and write its mark and header."""
        self._file = pa.OSFile(str(path), "wb")
        self._file.write(BYTE_ORDER_MARK)
        self._writer = arrow_csv.CSVWriter(self._file, schema)

    def write(self, table: pa.Table) -> None:
        """Write the rows of a table."""
        self._writer.write(table)

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file, also after an error."""
        try:
            self._writer.close()
        finally:
            self._file.close()


def round_significant(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return values of any shape to SIGNIFICANT_DIGITS, large ones to whole units; NaN stays NaN.

    >>> round_significant(np.array([0.12345678, -1234.5678, 0.0], np.float32)).tolist()
    [0.12345699965953827, -1234.5699462890625, 0.0]
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    rounded = np.empty_like(flat)
    for begin in range(0, len(flat), _ROUNDED_CELLS):
        block = flat[begin : begin + _ROUNDED_CELLS]
        exponent = (block.view(np.uint32) >> 23) & 0xFF
        scale = _SCALE.take(exponent)
        scale[np.abs(block) >= _NEXT_DECADE.take(exponent)] /= 10
        np.maximum(scale, 1.0, out=scale)
        np.divide(np.rint(block * scale), scale, out=rounded[begin : begin + _ROUNDED_CELLS])
    return rounded.reshape(values.shape)


def round_money(amounts: Floats) -> Floats:
    """Return amounts (R,) to MONEY_DECIMALS, small ones to SIGNIFICANT_DIGITS; NaN stays NaN.

    >>> round_money(np.array([77670.76794689438, 1.23456789, 0.0])).tolist()
    [77670.77, 1.23457, 0.0]
    """
    size = np.abs(amounts)
    decade = np.floor(np.log10(np.where(size > 0, size, 1.0)))
    decimals = np.maximum(MONEY_DECIMALS, SIGNIFICANT_DIGITS - 1 - decade)
    scale = 10.0 ** np.minimum(decimals, _MOST_DECIMALS)
    rounded: Floats = np.rint(amounts * scale) / scale
    return rounded
