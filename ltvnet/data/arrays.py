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

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Days = NDArray[np.datetime64]
Strings = NDArray[np.object_]


def block_slices(count: int) -> Iterator[slice]:
    """Slices that divide so many cohorts."""
    return (slice(begin, begin + BLOCK) for begin in range(0, count, BLOCK))


class Categorical(NamedTuple):
    """A column (R,) as `codes` of its `values`, each once, in order."""

    codes: Ints
    values: NDArray[Any]

    def positions_in(self, known: Sequence[Any]) -> Ints:
        """The place of each row's value in a list, -1 of others: (R,)."""
        place = {value: number for number, value in enumerate(known)}
        found = np.array([place.get(value, -1) for value in self.values], dtype=np.int64)
        each: Ints = found[self.codes]
        return each


def factorize(column: NDArray[Any]) -> Categorical:
    """A column as codes."""
    codes, values = pd.factorize(column, sort=True)
    if (codes < 0).any():
        row = int(np.argmax(codes < 0))
        raise ValueError(f"expected a value in a key, got none in row {row}: '' is an unknown one")
    return Categorical(codes.astype(np.int64), values)


def key_ranks(columns: Sequence[Categorical]) -> Ints:
    """Place of each row (R,) in the order of a key of several columns; equal keys share it."""
    place, size = np.zeros(len(columns[0].codes), dtype=np.int64), 1
    for codes, values in columns:
        if size * len(values) >= 1 << 62:
            found, place = np.unique(place, return_inverse=True)
            size = len(found)
        place, size = place * len(values) + codes, size * len(values)
    return place
