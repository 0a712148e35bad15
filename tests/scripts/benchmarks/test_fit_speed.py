"""The benchmark of training: the bare loop is the same fit, and what is counted is what is made."""

import pytest
import torch
from factories.cohorts import weekly_history
from factories.configs import HARDWARE, LSTM_NET, TRAINING
from factories.neural import make_neural
from fit_speed import (
    Case,
    FitSettings,
    Items,
    fit_by_bare_loop,
    fit_net,
    load_items,
    make_examples,
    median_seconds_in_turn,
)

from ltvnet.forecasting.run_context import HardwareConfig
from ltvnet.models.neural.cohort_tensors import CohortTensors
from ltvnet.models.neural.training_config import TrainingConfig


@pytest.fixture(scope="module")
def case() -> Case:
    known = weekly_history(60).as_of("2024-02-29")
    curves = known.take(known.observed_age >= 0)
    start = make_neural().prepare(curves)
    windows = CohortTensors.from_curves(
        curves, start.pattern.leave_one_out_curves(curves), start.scaling
    )
    return Case(windows, start.scaling.input_sizes, start.confidence)


def test_the_bare_loop_learns_what_fit_learns(case: Case) -> None:
    """Dropout included: both begin an epoch from the same seed."""
    training = TrainingConfig(**TRAINING | {"loss": "huber"})  # type: ignore[arg-type]
    hardware = HardwareConfig(**HARDWARE)  # type: ignore[arg-type]
    one = fit_net(case, FitSettings(LSTM_NET, training, hardware))
    other = fit_by_bare_loop(case, LSTM_NET, training)
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)


def test_a_window_of_a_data_loader(case: Case) -> None:
    items = Items(case, 5)
    prefix, seen, growth = items[3]
    age = int(items.tasks.observed_age[3])
    curve = case.windows.values[items.tasks.cohort_index[3]]
    assert len(items) == 5 and seen.tolist() == [float(n <= age) for n in items.nodes.tolist()]
    assert float(prefix[0]) == pytest.approx(float(torch.log1p(curve[0])), abs=1e-6)
    assert prefix[seen == 0].eq(0).all()
    assert float(growth[-1]) == pytest.approx(float(curve[360] - curve[age]), abs=1e-6)


def test_runs_are_interleaved_and_the_first_is_left_out(case: Case) -> None:
    order: list[str] = []
    runs = {name: lambda name=name: order.append(name) for name in ("a", "b")}
    seconds = median_seconds_in_turn(runs, 2)  # type: ignore[arg-type]
    assert order == ["a", "b"] * 3 and min(seconds.values()) >= 0
    make_examples(case.windows, 1)
    load_items(case, 3)
