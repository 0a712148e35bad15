"""What a run says of itself, in derivable numbers."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cohorts import curve, history, weekly
from factories import corrected_model, run_context
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_forecaster import PATTERN

from ltvnet.backtesting import scores
from ltvnet.backtesting.ledger import STAGES
from ltvnet.backtesting.origins import ReplayPlan
from ltvnet.backtesting.replay import Replay
from ltvnet.correction.walk_forward import StageSwitches, WalkForward
from ltvnet.data.curves import Curves, History
from ltvnet.forecasting.forecast import Band
from ltvnet.forecasting.model_spec import ModelSpec
from ltvnet.operations import compare_models
from ltvnet.operations.compare_models import CompareOptions, ModelComparison
from ltvnet.operations.train_model import TrainedModel, score_model, write_reports
from ltvnet.reports.run_report import terminal_score_table, vintage_note
from ltvnet.reports.tensorboard import read_epoch_losses

PLAN = {"window": "expanding", "refit": "each", "ages": [7, 30], "warm": True, "workers": 1}
ALL = {"blend": True, "correction": True, "intervals": True}
ORIGIN = "2024-02-29"


def known() -> History:
    days = [np.datetime64("2023-01-02") + 7 * week for week in range(70)]
    return history([(str(d), str(d + 6), {}, 10.0, curve(360)) for d in days])


class Source:
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


def run(origins: int, data: History, truth: Curves | None = None) -> TrainedModel:
    config = {"base": PATTERN, "every_weeks": 8, "origins": origins, "plan": PLAN, "learning": ALL}
    model = corrected_model(config | {"ledger": None}).fit(data, ORIGIN)
    return score_model("pattern", model, data, np.datetime64(ORIGIN), Source(data, truth))


def compared(
    models: Mapping[str, Mapping[str, Any]],
    data: History,
    origins: Mapping[str, object],
    learning: StageSwitches,
    ledger: Path,
) -> ModelComparison:
    options = CompareOptions(
        origins=origins,
        plan=ReplayPlan(**PLAN),
        stages=learning,
        ledger=ledger,  # type: ignore[arg-type]
    )
    specs = {name: ModelSpec.from_config(config) for name, config in models.items()}
    return compare_models.compare_models(Source(data), specs, run_context(), options)


@pytest.fixture(scope="module")
def replayed() -> TrainedModel:
    """A simulation that knows what came true to be what was expected."""
    return run(3, known(), known().as_of("2026-01-01"))


def times(record: scores.BacktestRecord, factor: float) -> scores.BacktestRecord:
    """A model that says so many times what came true."""
    cells = record.actual * factor
    bands = dict.fromkeys(STAGES, Band(cells, cells, cells, cells))
    return replace(record, entries=replace(record.entries, bands=bands))


def test_a_run_is_scored_on_its_past_and_on_what_came_after(replayed: TrainedModel) -> None:
    assert replayed.past is not None and replayed.after is not None
    half = replace(replayed, past=times(replayed.past, 0.5), after=times(replayed.after, 2.0))
    text = half.as_text()
    assert "Forecasts of past days against what came true" in text
    assert f"Forecasts of {ORIGIN} against what was known on" in text
    assert "50.0%" in text and "-50.0%" in text and "+100.0%" in text
    assert "score (mean WAPE at D90, D180, D360 of cohorts cut to 7 and 30 days): pattern" in text
    about = half.manifest_entries()
    assert about["score"]["past_model"] == pytest.approx(0.5)
    assert about["score"]["after_model"] == pytest.approx(1.0)
    assert about["score"]["past_pattern"] == scores.mean_wape(replayed.past, "pattern") < 0.002
    assert about["earned"] is False


def test_a_model_worse_than_the_pattern_is_refused_unless_forced(replayed: TrainedModel) -> None:
    assert replayed.past is not None
    worse = replace(replayed, past=times(replayed.past, 0.5))
    with pytest.raises(ValueError, match="pattern was worse than the historical pattern on the"):
        worse.refuse_if_worse()
    replayed.refuse_if_worse()  # it is the pattern: not told apart


def test_a_model_better_than_the_pattern_has_earned_it() -> None:
    noisy = run(3, weekly(70, noise=0.5))
    assert noisy.past is not None
    assert not noisy.earned and replace(noisy, past=times(noisy.past, 1.01)).earned


def test_without_a_past_nothing_is_refused_and_it_is_said() -> None:
    early = run(0, known().until(ORIGIN))
    assert early.past is None and not early.earned
    early.refuse_if_worse()
    assert f"No cell has matured after {ORIGIN}" in early.as_text()
    assert "Forecasts of past days" not in early.as_text()


def test_a_run_writes_its_files_and_tensorboard(replayed: TrainedModel, tmp_path: Path) -> None:
    write_reports(replayed, ModelSpec("pattern", {"sizes": [1, 2]}), tmp_path)
    saved: dict[str, Any] = json.loads((tmp_path / "metrics.json").read_text())
    assert set(saved) == {"score", "past", "after"}
    assert replayed.past is not None
    assert saved["score"]["past_model"] == pytest.approx(scores.mean_wape(replayed.past))
    assert len(saved["past"]) == len(scores.score_table(replayed.past, scores.SCORED_AGES))
    assert "<html" in (tmp_path / "report.html").read_text()
    events = EventAccumulator(str(tmp_path)).Reload()
    images = events.Tags()["images"]
    assert "forecasts/six cohorts" in images and any(name.startswith("past/") for name in images)
    assert "score/past_model" in events.Tags()["scalars"]
    assert "_hparams_/experiment" in events.PluginTagToContent("hparams")


def test_losses_are_read_from_the_events_of_the_inner_fit(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    assert read_epoch_losses(tmp_path, ["neural"]) == {}
    with SummaryWriter(str(tmp_path / "inner")) as writer:
        for epoch in range(3):
            writer.add_scalar("val/loss", 1.0 / (epoch + 1), epoch)
    validation = {"validation": pytest.approx([1.0, 1 / 2, 1 / 3])}
    assert read_epoch_losses(tmp_path, ["neural"]) == {"neural": validation}
    (tmp_path / "checkpoints" / "tide").mkdir(parents=True)
    (tmp_path / "inner").rename(tmp_path / "checkpoints" / "tide" / "inner")
    assert read_epoch_losses(tmp_path, ["lstm", "tide", "trees"]) == {"tide": validation}


def test_a_backtest_of_two_models_on_the_same_days(tmp_path: Path) -> None:
    data = weekly(70, noise=0.3)
    days = {"every": "13w", "first": "2023-10-01", "last": "2024-04-01", "dates": None}
    models = {"pattern": PATTERN, "ladder": PATTERN | {"levels": 0, "kappa": 0.0}}
    learning, ledger = StageSwitches(**ALL), tmp_path / "ledger"
    found = compared(models, data, days, learning, ledger)
    assert {record.name for record in found.records} == set(models)
    best, other = (scores.mean_wape(record) or 0.0 for record in found.records)
    assert best <= other
    by_name = {record.name: record for record in found.records}
    asked = (
        scores.mean_wape(by_name["ladder"], "pattern"),
        scores.mean_wape(by_name["pattern"], "raw"),
    )
    assert asked[0] == asked[1]  # the pattern that models are held against is that of the backtest
    text = found.as_text()
    assert "pattern" in text and "ladder" in text
    found.write(tmp_path)
    table = pd.read_csv(tmp_path / "scores.csv")
    assert set(table["model"]) == set(models) and {7, 30} <= set(
        pd.to_numeric(table["observed_age"], errors="coerce")
    )
    segments = pd.read_csv(tmp_path / "segments.csv")
    assert set(segments["Apps"]) == {"a", "b"} and set(segments["model"]) == set(models)
    page = (tmp_path / "report.html").read_text()
    assert "cut by date, not by vintage" in page and "refit=each" in page
    board = pd.read_csv(tmp_path / "leaderboard.csv").set_index("model")
    assert dict(board["baseline"]) == {"pattern": False, "ladder": True}
    assert board["fit_seconds"].min() > 0 and board["score"].tolist() == pytest.approx(
        [best, other]
    )
    assert found.names == ["pattern"]
    assert "pattern is" in page and "than the best single baseline, ladder" in page
    assert "than the best single baseline, ladder" in (tmp_path / "leaderboard.md").read_text()
    again = compared(models, data, days, learning, ledger)
    pd.testing.assert_frame_equal(again.board.ranking, found.board.ranking)  # and its seconds


def test_baselines_are_not_blended_with_the_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, asked = weekly(70), list[StageSwitches]()
    days = {"every": "26w", "first": "2023-10-01", "last": "2024-04-01", "dates": None}
    walked = compare_models.replay_and_correct

    def noted(replay: Replay, learning: StageSwitches) -> WalkForward:
        asked.append(learning)
        return walked(replay, learning)

    monkeypatch.setattr(compare_models, "replay_and_correct", noted)
    models = {"pattern": PATTERN, "ladder": PATTERN | {"levels": 0, "kappa": 0.0}}
    compared(models, data, days, StageSwitches(**ALL), tmp_path / "ledger")
    assert asked == [StageSwitches(**ALL), StageSwitches(**ALL | {"blend": False})]


def test_nothing_to_say_is_no_table() -> None:
    assert terminal_score_table([], "nothing", exact=True) == ""


def test_vintages_are_told_from_one_export() -> None:
    one = known()
    days = one.snapshot.min() + np.arange(-2, 2) * np.timedelta64(7, "D")
    assert vintage_note(one, days[:2]) == "cut by date, not by vintage"
    assert vintage_note(one, days[2:]) == "as exported by then"
    assert vintage_note(one, days) == "2 of 4 days cut by date, not by vintage"
