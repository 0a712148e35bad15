"""The day that a run stands at."""

import numpy as np

from ltvnet.data.curves import History, parse_day
from ltvnet.data.source import DataSource


def find_origin(source: DataSource, history: History, as_of: str | None) -> np.datetime64:
    """Find the day to stand at: the one asked for, or else the source's own.

    Raises ValueError for what is no day, and where no cohort had begun by it.
    """
    origin = parse_day(as_of or source.default_origin(history))
    first_start = history.start.min()
    if origin < first_start:
        raise ValueError(
            f"no cohort had begun by as_of={origin}: the first began on {first_start}, the newest "
            f"data are of {history.last_day}; set as_of to a day between, or leave it out"
        )
    return origin
