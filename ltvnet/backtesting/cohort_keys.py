"""Keys of cohorts, as a ledger has them: nothing else is known of these cohorts.

Shapes: K cohorts, E entries.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ltvnet.data.arrays import Categorical, Ints, Strings
from ltvnet.data.output_columns import attribute_of_column

DATE_LEVELS = 2
"""Levels of a cohort's key before those of its attributes: start and end."""


@dataclass(frozen=True)
class CohortKeys:
    """Keys of cohorts: `keys` (K) start, end and attributes, named as `Curves.index` names them."""

    keys: pd.MultiIndex

    def __len__(self) -> int:
        """Number of cohorts."""
        return len(self.keys)

    @property
    def _level_of_attribute(self) -> dict[str, int]:
        """Level of each attribute in the keys, by its name."""
        names = list(map(str, self.keys.names))[DATE_LEVELS:]
        return {attribute_of_column(name): level for level, name in enumerate(names, DATE_LEVELS)}

    @property
    def attributes(self) -> Mapping[str, Strings]:
        """The attributes of each cohort, (K,) each."""
        return {
            name: self.keys.get_level_values(level).to_numpy()
            for name, level in self._level_of_attribute.items()
        }

    @property
    def attribute_codes(self) -> Mapping[str, Categorical]:
        """The attributes of each cohort as codes (K,) of their values."""
        codes_by_name = {}
        for name, level in self._level_of_attribute.items():
            codes = self.keys.codes[level].astype(np.int64)
            values = self.keys.levels[level].to_numpy(object)
            codes_by_name[name] = Categorical(codes, values)
        return codes_by_name


def rank_keys(keys: pd.MultiIndex) -> tuple[Ints, pd.MultiIndex]:
    """Position of each of the keys (E) among the distinct ones, and those (K), sorted.

    By arithmetic on the codes of each level, as objects for rows would take minutes.
    """
    rank = first_row = np.zeros(len(keys), dtype=np.int64)
    for level in range(keys.nlevels):
        codes, values = pd.factorize(keys.get_level_values(level), sort=True)
        prefix_and_value = rank * len(values) + codes
        _, first_row, rank = np.unique(prefix_and_value, return_index=True, return_inverse=True)
    return rank, keys[first_row]
