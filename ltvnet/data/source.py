"""Where cohorts come from: the protocol that every choice of `configs/data` satisfies."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd

from ltvnet.data.curves import Curves, History
from ltvnet.data.history_checks import InspectedHistory


@runtime_checkable
class DataSource(Protocol):
    """Cohorts with their history: a table or folder, purchases, or a simulation."""

    def history(self) -> History:
        """Read all vintages of all cohorts. Raises ValueError that lists all that is wrong."""
        ...

    def default_origin(self, history: History) -> np.datetime64:
        """Return the day to stand at when none is asked for, given the history that was read."""
        ...

    def truth(self) -> Curves | None:
        """Return the expected curves of the cohorts; None where only a simulation knows them."""
        ...

    def standard_errors(self) -> pd.DataFrame | None:
        """Return standard errors of curves at nodes, by cohort key; None where not known."""
        ...


@runtime_checkable
class Inspectable(Protocol):
    """A source that can tell what is odd in its cohorts instead of refusing them."""

    def inspect(self) -> InspectedHistory:
        """Read all vintages of all cohorts, and find what is odd in them."""
        ...


@runtime_checkable
class CurvesStream(Protocol):
    """A source that can hand out its cohorts piece by piece, in bounded memory."""

    def curves(self, rows: int) -> Iterator[Curves]:
        """Yield what was known at the end of the as-of day, at most `rows` cohorts at a time."""
        ...


@runtime_checkable
class CountsRows(Protocol):
    """A source that knows about how many cohorts it has before they are read."""

    def expected_rows(self) -> int | None:
        """Return the rows, exactly or about; None where they cannot be known without reading."""
        ...
