"""Make a cohort table of purchases, with its standard errors: what `scripts/prepare.py` does."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ltvnet.data.arrays import Strings
from ltvnet.data.cohort_tables import key_columns, write_cohorts
from ltvnet.data.source import DataSource
from ltvnet.storage import atomic_write

ERRORS_FOLDER = "standard_errors"
"""Folder beside the cohort tables, as every table in theirs is read as a snapshot."""


@dataclass(frozen=True)
class PreparedTable:
    """A cohort table that was written, and what training needs to know of it.

    `cohorts`, `standard_errors` paths of the tables; `hierarchy` and `lag_days` as in Cohorts;
    `attributes` names of all attributes, `has_number_attributes` whether some look like numbers,
    which are no attributes unasked; `falls` whether refunds make curves fall.
    """

    cohorts: Path
    standard_errors: Path
    hierarchy: tuple[str, ...]
    attributes: tuple[str, ...]
    has_number_attributes: bool
    lag_days: int
    falls: bool

    def training_choices(self) -> dict[str, str | int | list[str]]:
        """Return the options by which data=files reads the folder of the table as it was meant."""
        choices: dict[str, str | int | list[str]] = {"path": str(self.cohorts.parent)}
        if self.hierarchy:
            choices["hierarchy"] = list(self.hierarchy)
        if self.has_number_attributes:
            choices["attributes"] = list(self.attributes)
        if self.lag_days:
            choices["lag_days"] = self.lag_days
        if self.falls:
            choices["revenue"] = "net"
        return choices


def prepare_cohorts(source: DataSource, out: Path) -> PreparedTable:
    """Write a snapshot of the cohorts named by its as-of date, and standard errors of its curves.

    Snapshots of several days stand side by side in `out`, as training reads them. Raises ValueError
    for a source that does not know its customers.
    """
    errors = source.standard_errors()
    if errors is None:
        raise ValueError("expected purchases, as data=transactions has, got cohorts or none")
    history = source.history()
    curves = history.as_of(history.last_day)

    name = f"cohorts_{str(history.last_day).replace('-', '_')}.csv"
    prepared = PreparedTable(
        cohorts=out / name,
        standard_errors=out / ERRORS_FOLDER / name,
        hierarchy=tuple(history.hierarchy),
        attributes=tuple(history.attributes),
        has_number_attributes=any(map(_is_numeric, history.attributes.values())),
        lag_days=history.lag_days,
        falls=bool((np.diff(curves.values) < 0).any()),
    )
    write_cohorts(curves, prepared.cohorts)
    columns = errors.loc[curves.index].add_prefix("day_").reset_index(drop=True)
    with atomic_write(prepared.standard_errors) as path:
        pd.DataFrame({**key_columns(curves), **columns}).to_csv(path, index=False)
    return prepared


def _is_numeric(texts: Strings) -> bool:
    """Return whether all texts that are not empty are numbers."""
    filled = pd.Series(texts[texts != ""])
    return bool(len(filled) and pd.to_numeric(filled, errors="coerce").notna().all())
