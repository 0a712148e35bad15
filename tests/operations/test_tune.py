"""A small sweep of the chain ladder: what wins, on which days it is tested, what is written."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories.cohorts import drifting_history
from factories.models import make_run_context
from factories.quick_tasks import quick_settings
from factories.sources import MemorySource
from factories.sweeps import SWEEP_CONFIG

from ltvnet.data.curves import History
from ltvnet.operations.tune import TuneOptions, tune

OPTIONS = TuneOptions(
    title="ladder",
    as_of=None,
    config=SWEEP_CONFIG,
    space={"model": {"half_life": [None, 60.0]}},
    settings=quick_settings(sampler="grid", trials=2),
    held_out=1,
    words=["model=chain_ladder"],
)


@pytest.fixture(scope="module")
def falling() -> History:
    """Cohorts whose growth after D7 falls fast: the newest tell most of the next."""
    return drifting_history(1.5)


def test_the_better_value_wins_and_is_tested_on_the_newest_day(
    falling: History, tmp_path: Path
) -> None:
    result = tune(MemorySource(falling), make_run_context(), OPTIONS, tmp_path)

    assert result.best_trial.values == {"model.half_life": 60.0}
    assert result.error_saved is not None and result.error_saved > 0.1
    newest_day = falling.end.max()  # a matured D90 follows every acquisition
    assert result.gain is not None and list(result.gain.days) == [newest_day]
    assert result.gain.saved > 0.1
    assert result.task.cutoff == newest_day and max(result.task.origins) < newest_day

    trials = pd.read_csv(tmp_path / "trials.csv")
    assert trials["state"].tolist() == ["complete"] * 2
    np.testing.assert_array_equal(trials["model.half_life"], [np.nan, 60.0])
    saved = json.loads((tmp_path / "metrics.json").read_text())
    assert saved["best"] == trials["score"].min() and saved["trials"] == 2
    assert saved["held_out"]["days"] == [str(newest_day)]
    best = (tmp_path / "best.yaml").read_text()
    assert '- "model=chain_ladder"' in best and '- "model.half_life=60.0"' in best
    assert "Sweep of ladder" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held_out": -1}, "expected sweep.held_out >= 0, got -1"),
        ({"space": {"seed": [1, 2]}}, "got space.seed: trials are compared on the same data"),
        ({"as_of": "2023-01-10"}, "expected past days to score trials on before 2023-01-10"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    changes: dict[str, object], message: str, falling: History, tmp_path: Path
) -> None:
    options = replace(OPTIONS, **changes)
    with pytest.raises(ValueError, match=message):
        tune(MemorySource(falling), make_run_context(), options, tmp_path)
    assert not list(tmp_path.iterdir())
