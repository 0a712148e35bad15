"""Plans of replays, and the days that they replay."""

from collections.abc import Sequence

import numpy as np

from factories.configs import EXPANDING
from ltvnet.backtesting.origins import ReplayPlan

ORIGINS = [np.datetime64("2024-01-01") + 28 * i for i in range(5)]
"""Mondays, four weeks apart."""


def replay_plan(**changes: object) -> ReplayPlan:
    """A plan of cold fits, with some choices changed."""
    return ReplayPlan(**EXPANDING | changes)


def as_text(origins: Sequence[np.datetime64]) -> list[str]:
    """Days as they are written."""
    return [str(origin) for origin in origins]
