"""Settings of training and hardware are checked where they are given."""

import pytest
from factories.configs import HARDWARE, TRAINING

from ltvnet.forecasting.run_context import HardwareConfig
from ltvnet.models.neural.training_config import TrainingConfig


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unseen": 1.0}, r"expected unseen in \[0, 1\), got 1.0"),
        ({"epochs": 0}, "expected epochs >= 1, got 0"),
        ({"rate": 0.0}, "expected rate > 0, got 0.0"),
        ({"penalty": -1.0}, "expected penalty >= 0, got -1.0"),
        ({"quantiles": -1.0}, "expected quantiles >= 0, got -1.0"),
        ({"loss": "mse"}, "expected loss=deviance or loss=huber, got 'mse'"),
    ],
)
def test_settings_are_checked(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**TRAINING | change)  # type: ignore[arg-type]


def test_few_tasks_are_learned_in_smaller_batches_at_a_lower_rate() -> None:
    settings = {"batch_size": 1024, "min_steps": 8, "rate": 0.012}
    training = TrainingConfig(**TRAINING | settings)  # type: ignore[arg-type]
    assert [training.batch_size_for(tasks) for tasks in (3, 800, 8192, 100_000)] == [
        1,
        100,
        1024,
        1024,
    ]
    assert [140 % training.batch_size_for(140), 4 * 2047 % training.batch_size_for(4 * 2047)] == [
        14,
        1020,
    ]
    assert training.peak_rate(1024) == 0.012 and training.peak_rate(256) == pytest.approx(0.006)


def test_machine_is_plain_data() -> None:
    assert HardwareConfig(**HARDWARE).threads == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategy": "fsdp"}, "expected strategy out of auto, ddp, got 'fsdp'"),
        ({"accelerator": "abacus"}, "expected accelerator out of cpu, gpu, .*, got 'abacus'"),
        ({"devices": 0}, "expected devices >= 1, or -1 for all of them, got 0"),
        ({"devices": 2}, "expected trainer=ddp for devices other than 1, got 2"),
        ({"threads": 0}, "expected threads and log_every >= 1, got 0 and 5"),
        ({"precision": "16"}, "expected precision out of 32-true, tf32, bf16-mixed, got '16'"),
    ],
)
def test_a_machine_is_checked(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HardwareConfig(**HARDWARE | change)  # type: ignore[arg-type]
