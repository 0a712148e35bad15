"""Make a cohort table of purchases, with its standard errors: what `scripts/prepare.py` does."""

from pathlib import Path

import pandas as pd

from ltvnet.data.cohort_tables import key_columns, write_cohorts
from ltvnet.data.source import DataSource
from ltvnet.storage import atomic_write


def prepare_cohorts(source: DataSource, out: Path) -> None:
    """Write `cohorts.csv`, and `standard_errors.csv` of the same curves.

    Raises ValueError for a source that does not know its customers.
    """
    errors = source.standard_errors()
    if errors is None:
        raise ValueError("expected purchases, as data=transactions has, got cohorts or none")
    history = source.history()
    curves = history.as_of(history.last_day)
    write_cohorts(curves, out / "cohorts.csv")
    columns = errors.loc[curves.index].add_prefix("day_").reset_index(drop=True)
    with atomic_write(out / "standard_errors.csv") as path:
        pd.DataFrame({**key_columns(curves), **columns}).to_csv(path, index=False)
