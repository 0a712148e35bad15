"""Cohorts in memory, as a source of data."""

import numpy as np
import pandas as pd

from ltvnet.data.curves import Curves, History


class MemorySource:
    """Cohorts in memory, of which the truth or standard errors may be known."""

    def __init__(
        self, data: History, truth: Curves | None = None, errors: pd.DataFrame | None = None
    ) -> None:
        self.data, self.expected, self.errors = data, truth, errors

    def history(self) -> History:
        return self.data

    def default_origin(self, history: History) -> np.datetime64:
        return history.last_day

    def truth(self) -> Curves | None:
        return self.expected

    def standard_errors(self) -> pd.DataFrame | None:
        return self.errors
