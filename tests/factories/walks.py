"""A past walked forward, and models that learned from it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from factories.configs import ALL_STAGES, CHAIN_LADDER, corrected_config
from factories.models import make_corrected, make_replay
from ltvnet.backtesting.ledger import STAGES, Ledger
from ltvnet.backtesting.origins import ReplayPlan
from ltvnet.correction.corrected import Corrected
from ltvnet.correction.stages import LearnedStages
from ltvnet.correction.walk_forward import WalkForward, replay_and_correct
from ltvnet.data.arrays import Floats
from ltvnet.data.curves import History
from ltvnet.forecasting.forecast import QUANTITIES, Band

DAY = np.datetime64("2024-05-30")
LATE = np.datetime64("2024-12-29")


DAYS = list(np.arange(DAY - 28 * 8, DAY + 1, 28))


DRIFTING_CONFIG = corrected_config(CHAIN_LADDER, every_weeks=4, origins=8)
DRIFTING_PLAN = ReplayPlan(**DRIFTING_CONFIG["plan"])


def fit_corrected(past: History, date: object = DAY, **changes: object) -> Corrected:
    """A corrected chain ladder, with some arguments changed."""
    return make_corrected(DRIFTING_CONFIG | changes).fit(past, date)


def walk_days(past: History, folder: Path, days: Sequence[np.datetime64] = DAYS) -> WalkForward:
    """Past days of a chain ladder, replayed and walked forward."""
    return replay_and_correct(
        make_replay(CHAIN_LADDER, past, days, DRIFTING_PLAN, Ledger(folder)), ALL_STAGES
    )


def stack_bands(bands: Mapping[str, Band]) -> Floats:
    """The cells of all stages and quantities: (stages, Q, E, J)."""
    return np.stack([np.stack([getattr(bands[s], q) for q in QUANTITIES]) for s in STAGES])


def assert_same_stages(first: LearnedStages, second: LearnedStages) -> None:
    """Check that two stages are equal to the bit."""
    values, arrays = first.state()
    other_values, other_arrays = second.state()
    assert values == other_values and list(arrays) == list(other_arrays)
    for name in arrays:
        np.testing.assert_array_equal(arrays[name], other_arrays[name])
