"""A model trained, scored on its past and on what came after, and what is written of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories.cohorts import curve, history, weekly_history
from factories.configs import PATTERN
from factories.models import make_corrected, make_run_context
from factories.sources import MemorySource
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ltvnet.backtesting import scores
from ltvnet.backtesting.ledger import STAGES
from ltvnet.data.curves import Curves, History
from ltvnet.forecasting.forecast import Band
from ltvnet.forecasting.model_spec import ModelSpec
from ltvnet.operations.train_model import TrainedModel, score_model, write_reports

PLAN = {"window": "expanding", "refit": "each", "ages": [7, 30], "warm": True, "workers": 1}


ALL = {"blend": True, "correction": True, "intervals": True}


ORIGIN = "2024-02-29"


def identical_cohorts() -> History:
    days = [np.datetime64("2023-01-02") + 7 * week for week in range(70)]
    return history([(str(d), str(d + 6), {}, 10.0, curve(360)) for d in days])


def run(origins: int, data: History, truth: Curves | None = None) -> TrainedModel:
    config = {"base": PATTERN, "every_weeks": 8, "origins": origins, "plan": PLAN, "learning": ALL}
    model = make_corrected(config | {"ledger": None}).fit(data, ORIGIN)
    return score_model("pattern", model, data, np.datetime64(ORIGIN), MemorySource(data, truth))


@pytest.fixture(scope="module")
def replayed_run() -> TrainedModel:
    """A simulation that knows what came true to be what was expected."""
    return run(3, identical_cohorts(), identical_cohorts().as_of("2026-01-01"))


def record_off_by(record: scores.BacktestRecord, factor: float) -> scores.BacktestRecord:
    """A model that says so many times what came true."""
    cells = record.actual * factor
    bands = dict.fromkeys(STAGES, Band(cells, cells, cells, cells))
    return replace(record, entries=replace(record.entries, bands=bands))


def test_a_run_is_scored_on_its_past_and_on_what_came_after(replayed_run: TrainedModel) -> None:
    assert replayed_run.past is not None and replayed_run.after is not None
    half = replace(
        replayed_run,
        past=record_off_by(replayed_run.past, 0.5),
        after=record_off_by(replayed_run.after, 2.0),
    )
    text = half.as_text()
    assert "Forecasts of past days against what came true" in text
    assert f"Forecasts of {ORIGIN} against what was known on" in text
    assert "50.0%" in text and "-50.0%" in text and "+100.0%" in text
    assert "score (mean WAPE at D90, D180, D360 of cohorts cut to 7 and 30 days): pattern" in text
    about = half.manifest_entries()
    assert about["score"]["past_model"] == pytest.approx(0.5)
    assert about["score"]["after_model"] == pytest.approx(1.0)
    assert about["score"]["past_pattern"] == scores.mean_wape(replayed_run.past, "pattern") < 0.002
    assert about["earned"] is False


def test_a_model_worse_than_the_pattern_is_refused_unless_forced(
    replayed_run: TrainedModel,
) -> None:
    assert replayed_run.past is not None
    worse = replace(replayed_run, past=record_off_by(replayed_run.past, 0.5))
    with pytest.raises(ValueError, match="pattern was worse than the historical pattern on the"):
        worse.refuse_if_worse()
    replayed_run.refuse_if_worse()  # it is the pattern: not told apart


def test_a_model_better_than_the_pattern_has_earned_it() -> None:
    noisy = run(3, weekly_history(70, noise=0.5))
    assert noisy.past is not None
    assert (
        not noisy.beat_pattern and replace(noisy, past=record_off_by(noisy.past, 1.01)).beat_pattern
    )


def test_without_a_past_nothing_is_refused_and_it_is_said() -> None:
    early = run(0, identical_cohorts().until(ORIGIN))
    assert early.past is None and not early.beat_pattern
    early.refuse_if_worse()
    assert f"No cell has matured after {ORIGIN}" in early.as_text()
    assert "Forecasts of past days" not in early.as_text()


def test_a_run_writes_its_files_and_tensorboard(replayed_run: TrainedModel, tmp_path: Path) -> None:
    write_reports(
        replayed_run, ModelSpec("pattern", {"sizes": [1, 2]}), make_run_context(), tmp_path
    )
    saved: dict[str, Any] = json.loads((tmp_path / "metrics.json").read_text())
    assert set(saved) == {"score", "past", "after"}
    assert replayed_run.past is not None
    assert saved["score"]["past_model"] == pytest.approx(scores.mean_wape(replayed_run.past))
    assert len(saved["past"]) == len(scores.score_table(replayed_run.past, scores.SCORED_AGES))
    assert "<html" in (tmp_path / "report.html").read_text()
    events = EventAccumulator(str(tmp_path)).Reload()
    images = events.Tags()["images"]
    assert "forecasts/six cohorts" in images and any(name.startswith("past/") for name in images)
    assert "score/past_model" in events.Tags()["scalars"]
    assert "_hparams_/experiment" in events.PluginTagToContent("hparams")
