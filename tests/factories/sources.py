"""Cohorts in memory, as a source of data."""

import numpy as np

from ltvnet.data.curves import Curves, History


class MemorySource:
    """Cohorts in memory, of which the truth may be known."""

    def __init__(self, data: History, truth: Curves | None = None) -> None:
        self.data, self.expected = data, truth

    def history(self) -> History:
        return self.data

    def default_origin(self, history: History) -> np.datetime64:
        return history.last_day

    def truth(self) -> Curves | None:
        return self.expected

    def standard_errors(self) -> None:
        return None
