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
    """Segments of all levels of a hierarchy, stacked: a parent always before its children.

    `names` the attributes of the hierarchy; `keys` (S,) the attribute values of each segment, ()
    for everything; `level` (S,) the number of these values; `parent` (S,) the segment one level
    up, of the first segment itself.
    """

    names: tuple[str, ...]
    keys: list[tuple[str, ...]]
    level: Ints
    parent: Ints

    @classmethod
    def from_keys(cls, names: tuple[str, ...], keys: list[tuple[str, ...]]) -> Self:
        """Build segments from their keys, sorted by level."""
        segment_of = {key: segment for segment, key in enumerate(keys)}
        parent = [segment_of[key[:-1]] for key in keys]
        level = [len(key) for key in keys]
        return cls(names, keys, np.array(level), np.array(parent))

    @classmethod
    def from_curves(cls, curves: Curves, levels: int | None) -> Self:
        """Build the segments of `curves`, down to `levels` names of the hierarchy (None: all)."""
        names = curves.hierarchy[:levels]
        keys: list[tuple[str, ...]] = []
        for level in range(len(names) + 1):
            _, level_keys = curves.segments(level)
            keys.extend(level_keys)
        return cls.from_keys(names, keys)

    def lower_levels(self) -> list[Ints]:
        """List the segments of each level under the top, from the top down."""
        return [np.flatnonzero(self.level == level) for level in range(1, len(self.names) + 1)]

    def find_deepest(self, cohorts: HasAttributes) -> Ints:
        """Find the deepest of these segments that each cohort belongs to: (N,)."""
        segment = np.zeros(len(cohorts), dtype=np.int64)
        empty_text = Categorical(segment, np.array([""], dtype=object))
        in_hierarchy = np.ones(len(cohorts), dtype=bool)  # False from the first unknown value on

        for name, children in zip(self.names, self.lower_levels(), strict=True):
            child_values = [self.keys[child][-1] for child in children]
            values, child_code = np.unique(child_values, return_inverse=True)

            # a parent and a value have one child: their pair is its number
            child_pairs = self.parent[children] * len(values) + child_code
            order = np.argsort(child_pairs)
            column = cohorts.attribute_codes.get(name, empty_text)
            code = column.positions_in(values.tolist())
            pairs = segment * len(values) + code
            rank = np.searchsorted(child_pairs, pairs, sorter=order)
            child_index = order[rank.clip(max=len(order) - 1)]

            in_hierarchy &= (code >= 0) & (child_pairs[child_index] == pairs)
            segment = np.where(in_hierarchy, children[child_index], segment)
        return segment

    def lineage(self, segment: Ints) -> list[Ints]:
        """List the segment of each row (R,) at every level, from the top down to `segment`.

        A row whose segment ends above a level keeps that segment there.
        """
        levels = [segment]
        for level in range(len(self.names), 0, -1):
            child = levels[-1]
            levels.append(np.where(self.level[child] == level, self.parent[child], child))
        return levels[::-1]

    def subtotals(self, rows: Floats, segment: Ints) -> Floats:
        """Sum rows (N, ...), each of a segment (N,), over each segment's tree: (S, ...)."""
        order = np.argsort(segment, kind="stable")
        present, begin = np.unique(segment[order], return_index=True)
        sums = np.zeros((len(self.keys), *rows.shape[1:]))
        sums[present] = np.add.reduceat(rows[order], begin, axis=0)
        return self.add_descendants(sums)

    def add_descendants(self, sums: Floats) -> Floats:
        """Add to the sums of each segment (S, ...) those of its descendants, in place."""
        if sums.ndim > 1:  # a sum of wide rows takes longer than a step of Python
            for segment in range(len(sums) - 1, 0, -1):
                sums[self.parent[segment]] += sums[segment]
            return sums

        for level_segments in reversed(self.lower_levels()):
            children = level_segments[np.argsort(self.parent[level_segments], kind="stable")]
            parents, begin = np.unique(self.parent[children], return_index=True)
            sums[parents] += np.add.reduceat(sums[children], begin, axis=0)
        return sums
