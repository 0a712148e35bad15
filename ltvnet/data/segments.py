"""Segments of a hierarchy of attributes, stacked over all levels.

Legend: N cohorts, R rows, S segments.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from ltvnet.data.arrays import Categorical, Floats, Ints
from ltvnet.data.curves import Curves


class HasAttributes(Protocol):
    """Rows with attributes: cohorts, or forecasts of them."""

    @property
    def attribute_codes(self) -> Mapping[str, Categorical]:
        """Text of each attribute, as codes (N,) of its values."""
        ...

    def __len__(self) -> int:
        """Number of rows N."""
        ...


@dataclass(frozen=True)
class Segments:
    """The segments of all levels, stacked: a parent always before its children.

    `keys` (S,) the attribute values of each, () for everything; `level` (S,) their number;
    `parent` (S,) the segment one level up, of the first segment itself.
    """

    names: tuple[str, ...]
    keys: list[tuple[str, ...]]
    level: Ints
    parent: Ints

    @classmethod
    def from_keys(cls, names: tuple[str, ...], keys: list[tuple[str, ...]]) -> Self:
        """Segments from their keys, sorted by level."""
        place = {key: s for s, key in enumerate(keys)}
        parent = [place[key[:-1]] for key in keys]
        return cls(names, keys, np.array([len(key) for key in keys]), np.array(parent))

    @classmethod
    def from_curves(cls, curves: Curves, levels: int | None) -> Self:
        """The segments that stand in `curves`, down to `levels` names of the hierarchy."""
        depth = len(curves.hierarchy[:levels])
        keys = [key for level in range(depth + 1) for key in curves.segments(level)[1]]
        return cls.from_keys(curves.hierarchy[:depth], keys)

    def lower_levels(self) -> list[Ints]:
        """The segments of each level under the top, from the top down."""
        return [np.flatnonzero(self.level == n) for n in range(1, len(self.names) + 1)]

    def find_deepest(self, cohorts: HasAttributes) -> Ints:
        """The deepest known segment of each cohort: (N,)."""
        found = np.zeros(len(cohorts), dtype=np.int64)
        absent = Categorical(found, np.array([""], dtype=object))
        alive = np.ones(len(cohorts), dtype=bool)
        for name, known in zip(self.names, self.lower_levels(), strict=True):
            values, code = np.unique([self.keys[s][-1] for s in known], return_inverse=True)
            pairs = self.parent[known] * len(values) + code  # a parent and a value: one child
            order = np.argsort(pairs)
            code = cohorts.attribute_codes.get(name, absent).positions_in(values.tolist())
            pair = found * len(values) + code
            place = order[np.searchsorted(pairs, pair, sorter=order).clip(max=len(order) - 1)]
            alive &= (code >= 0) & (pairs[place] == pair)
            found = np.where(alive, known[place], found)
        return found

    def lineage(self, found: Ints) -> list[Ints]:
        """The segment of each row at every level from the top: a list of (R,) down to `found`."""
        line = [found]
        for level in range(len(self.names), 0, -1):
            line.insert(0, np.where(self.level[line[0]] == level, self.parent[line[0]], line[0]))
        return line

    def subtotals(self, rows: Floats, found: Ints) -> Floats:
        """Sums of rows (N, ...) over each segment and its descendants: (S, ...)."""
        order = np.argsort(found, kind="stable")
        present, begin = np.unique(found[order], return_index=True)
        sums = np.zeros((len(self.keys), *rows.shape[1:]))
        sums[present] = np.add.reduceat(rows[order], begin, axis=0)
        return self.add_descendants(sums)

    def add_descendants(self, sums: Floats) -> Floats:
        """Sums of each segment (S, ...) with those of its descendants added, in place."""
        if sums.ndim > 1:  # a sum of wide rows takes longer than a step of Python
            for segment in range(len(sums) - 1, 0, -1):
                sums[self.parent[segment]] += sums[segment]
            return sums
        for below in reversed(self.lower_levels()):
            below = below[np.argsort(self.parent[below], kind="stable")]
            parents, begin = np.unique(self.parent[below], return_index=True)
            sums[parents] += np.add.reduceat(sums[below], begin, axis=0)
        return sums
