"""The cost of a backtest, measured on a history that takes next to nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from factories.cohorts import weekly_history
from factories.configs import LSTM, PLAIN_PATTERN, ROOT
from factories.models import make_run_context
from fold_cost import (
    Past,
    backtest_job,
    backtest_seconds,
    cold_and_backtest_seconds,
    fold_shares,
    last_fold,
    past_of,
    unwritten_model,
)
from hydra import compose, initialize_config_dir

from ltvnet.backtesting.origins import ReplayPlan
from ltvnet.forecasting.model_spec import ModelSpec
from ltvnet.forecasting.run_context import RunContext
from ltvnet.models.neural.forecaster import NeuralForecaster

PATTERN = {"name": "pattern", **PLAIN_PATTERN}


@pytest.fixture
def past() -> Past:
    days = [np.datetime64("2023-10-01"), np.datetime64("2023-12-03")]
    plan = ReplayPlan(window="expanding", refit="each", ages=[7], warm=True, workers=1)
    return Past(weekly_history(60), days, plan)


@pytest.fixture
def composing() -> Iterator[None]:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        yield


def model(config: Mapping[str, Any]) -> tuple[ModelSpec, RunContext]:
    return ModelSpec.from_config(config), make_run_context()


def test_every_repeat_is_measured(past: Past) -> None:
    cold, whole = cold_and_backtest_seconds(model(PATTERN), past, 3)
    assert cold.shape == whole.shape == (3,) and (cold > 0).all() and (whole > 0).all()
    assert backtest_seconds(model(PATTERN), past) > 0


def test_the_last_fold_starts_from_the_first_that_learned(past: Past) -> None:
    """A pattern has no warm start; a net has that of the first day, if it beat the pattern."""
    last = last_fold(model(PATTERN), past)
    assert (last.fit_day, list(last.origins), last.start_state) == (
        past.days[-1],
        past.days[-1:],
        None,
    )
    begun = []

    class Watched(NeuralForecaster):
        def can_start(self) -> bool:
            begun.append(self.fitted_net.pattern.date_effects.trend.reference)
            return len(begun) > 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ltvnet.models.neural.forecaster.NeuralForecaster", Watched)
        last = last_fold(model(LSTM), past)
    assert begun == past.days and last.start_state is not None


def test_the_shares_of_a_pattern_are_all_there_is(past: Past) -> None:
    found = fold_shares(model(PATTERN), past)
    assert list(found) == ["the pattern", "forecasts", "the ledger"]
    assert all(0 < share < 1 for share in found.values())


def test_the_benchmark_is_of_24_days_and_writes_nothing(composing: None) -> None:
    config = compose("benchmark", ["what=backtest"])
    config.out = "nowhere"
    job = backtest_job(config, ["data.campaigns.count=2"])
    past = past_of(job)
    assert len(past.days) == 24 and str(past.days[-1]) == "2023-12-31"
    assert set(np.diff(past.days)) == {np.timedelta64(21, "D")}
    assert past.plan.refit == "each" and past.plan.workers == 1
    for name in config.backtest.models:
        _, context = unwritten_model(job, name)
        assert context.folder is None
    assert len(replace(past, days=past.days[::-1][::4][::-1]).days) == 6
