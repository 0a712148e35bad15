"""Types of arrays, blocks of rows, and text columns as integer codes.

Legend: N cohorts, R rows, A ages, C columns.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BLOCK = 256
"""Cohorts that are worked on together: their cells stay in a processor's cache."""

_MAX_KEYS = 1 << 62  # combinations of values that the codes of a key can number

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Days = NDArray[np.datetime64]
Strings = NDArray[np.object_]

ONE_DAY = np.timedelta64(1, "D")


def block_slices(count: int) -> Iterator[slice]:
    """Yield slices of at most BLOCK rows that cover `count` rows."""
    return (slice(begin, begin + BLOCK) for begin in range(0, count, BLOCK))


class Categorical(NamedTuple):
    """A column (R,) as integer `codes` of its sorted `values`, each of which stands there once."""

    codes: Ints
    values: NDArray[Any]

    def positions_in(self, vocabulary: Sequence[Any]) -> Ints:
        """Return the position of each row's value in a list, -1 where it is not in it: (R,)."""
        position_of = {value: position for position, value in enumerate(vocabulary)}
        positions = [position_of.get(value, -1) for value in self.values]
        row_positions: Ints = np.array(positions, dtype=np.int64)[self.codes]
        return row_positions


def factorize(column: NDArray[Any]) -> Categorical:
    """Encode a column (R,) as integer codes of its sorted values.

    Raises ValueError where a value is missing.
    """
    codes, values = pd.factorize(column, sort=True)
    is_missing = codes < 0
    if is_missing.any():
        row = int(np.argmax(is_missing))
        raise ValueError(f"expected a value in a key, got none in row {row}: '' is an unknown one")
    return Categorical(codes.astype(np.int64), values)


def key_ranks(columns: Sequence[Categorical]) -> Ints:
    """Rank each row (R,) by a key of several columns, the first most significant.

    Equal keys share a rank. Ranks may have gaps: only their order means anything.
    """
    ranks = np.zeros(len(columns[0].codes), dtype=np.int64)
    rank_count = 1
    for codes, values in columns:
        if rank_count * len(values) >= _MAX_KEYS:  # close the gaps, lest the numbers overflow
            present, ranks = np.unique(ranks, return_inverse=True)
            rank_count = len(present)
        ranks = ranks * len(values) + codes
        rank_count *= len(values)
    return ranks


def ratio_or_zero(numerator: Floats | np.float64, denominator: Floats | np.float64) -> Floats:
    """Ratio of arrays that broadcast; 0 where the denominator is not positive."""
    zeros = np.zeros(np.broadcast_shapes(numerator.shape, denominator.shape))
    return np.divide(numerator, denominator, out=zeros, where=denominator > 0)
