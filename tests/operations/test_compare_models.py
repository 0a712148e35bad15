"""Several models on the same past days."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from factories.cohorts import weekly_history
from factories.configs import ALL_STAGES, PATTERN, PLAN
from factories.models import make_run_context
from factories.sources import MemorySource

from ltvnet.backtesting import scores
from ltvnet.backtesting.origins import OriginsConfig, ReplayPlan
from ltvnet.backtesting.replay import Replay
from ltvnet.correction.walk_forward import StageSwitches, WalkForward
from ltvnet.data.curves import History
from ltvnet.forecasting.model_spec import ModelSpec
from ltvnet.operations import compare_models
from ltvnet.operations.compare_models import CompareOptions, ModelComparison


def compare_on_days(
    models: Mapping[str, Mapping[str, Any]],
    data: History,
    origins: Mapping[str, object],
    learning: StageSwitches,
    ledger: Path,
) -> ModelComparison:
    options = CompareOptions(
        origins=OriginsConfig(**origins),  # type: ignore[arg-type]
        plan=ReplayPlan(**PLAN | {"ages": [7, 30]}),
        stages=learning,
        ledger=ledger,
    )
    specs = {name: ModelSpec.from_config(config) for name, config in models.items()}
    return compare_models.compare_models(MemorySource(data), specs, make_run_context(), options)


def test_a_backtest_of_two_models_on_the_same_days(tmp_path: Path) -> None:
    data = weekly_history(70, noise=0.3)
    days = {"every": "13w", "first": "2023-10-01", "last": "2024-04-01", "dates": None}
    models = {"pattern": PATTERN, "ladder": PATTERN | {"levels": 0, "kappa": 0.0}}
    learning, ledger = ALL_STAGES, tmp_path / "ledger"
    backtest = compare_on_days(models, data, days, learning, ledger)
    assert {record.name for record in backtest.records} == set(models)
    best, worse = (scores.mean_wape(record) or 0.0 for record in backtest.records)
    assert best <= worse
    by_name = {record.name: record for record in backtest.records}
    pattern_scores = (
        scores.mean_wape(by_name["ladder"], "pattern"),
        scores.mean_wape(by_name["pattern"], "raw"),
    )
    assert (
        pattern_scores[0] == pattern_scores[1]
    )  # the pattern that models are held against is that of the backtest
    text = backtest.as_text()
    assert "pattern" in text and "ladder" in text
    model_column = [line.split("│")[1].strip() for line in text.splitlines() if "│" in line]
    assert list(dict.fromkeys(model_column)) == [record.name for record in backtest.records]
    assert model_column == sorted(model_column, key=list(by_name).index)  # a block each
    backtest.write(tmp_path)
    table = pd.read_csv(tmp_path / "scores.csv")
    assert set(table["model"]) == set(models) and {7, 30} <= set(
        pd.to_numeric(table["observed_age"], errors="coerce")
    )
    in_ledger = set(pd.read_parquet(ledger)["model"])
    ledger_names = json.loads((tmp_path / "metrics.json").read_text())["ledger"]
    assert set(ledger_names) == set(models) and set(ledger_names.values()) == in_ledger
    segments = pd.read_csv(tmp_path / "segments.csv")
    assert set(segments["Apps"]) == {"a", "b"} and set(segments["model"]) == set(models)
    page = (tmp_path / "report.html").read_text()
    assert "There is no export of that time" in page and "refit=each" in page
    board = pd.read_csv(tmp_path / "leaderboard.csv").set_index("model")
    assert dict(board["baseline"]) == {"pattern": False, "ladder": True}
    assert board["fit_seconds"].min() > 0 and board["score"].tolist() == pytest.approx(
        [best, worse]
    )
    assert backtest.names == ["pattern"]
    assert "pattern is" in page and "than the best single baseline, ladder" in page
    assert "than the best single baseline, ladder" in (tmp_path / "leaderboard.md").read_text()
    again = compare_on_days(models, data, days, learning, ledger)
    pd.testing.assert_frame_equal(again.board.ranking, backtest.board.ranking)  # and its seconds


def test_baselines_are_not_blended_with_the_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, learning_by_model = weekly_history(70), list[StageSwitches]()
    days = {"every": "26w", "first": "2023-10-01", "last": "2024-04-01", "dates": None}
    walked = compare_models.replay_and_correct

    def walk_and_note(replay: Replay, learning: StageSwitches) -> WalkForward:
        learning_by_model.append(learning)
        return walked(replay, learning)

    monkeypatch.setattr(compare_models, "replay_and_correct", walk_and_note)
    models = {"pattern": PATTERN, "ladder": PATTERN | {"levels": 0, "kappa": 0.0}}
    compare_on_days(models, data, days, ALL_STAGES, tmp_path / "ledger")
    assert learning_by_model == [ALL_STAGES, replace(ALL_STAGES, blend=False)]
