"""The parts of the GPU benchmark, on the CPU."""

import logging
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from factories.configs import CONFIGS, compose_config
from gpu_speed import (
    DeviceLimits,
    UntrainedNet,
    byte_count,
    copy_rate,
    count_kernels,
    forecast_tasks,
    full_batches,
    largest_change,
    latest_tasks,
    launch_seconds,
    measure_agreement,
    measure_steps,
    measure_whole_runs,
    measurements,
    repeat_cohorts,
    replay_seconds,
    training_module,
)
from hydra import initialize_config_dir
from omegaconf import DictConfig

from ltvnet.forecasting.run_context import HardwareConfig
from ltvnet.models.neural.cuda_graphs import iter_tensors
from ltvnet.models.neural.task_sampling import EpochPlan, EpochSampler, ProcessShard

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def chosen() -> DictConfig:
    config = compose_config("benchmark", "what=gpu", "gpu.device=cpu").gpu
    config.machine.accelerator = "cpu"
    config.models, config.precisions = ["mlp"], ["32-true", "bf16-mixed"]
    config.overrides = ["data=simulated", "data.timeline.weeks=60", "data.campaigns.count=6"]
    config.training = {"batch_size": 64, "min_steps": 1, "epochs": 1, "tasks": 1}
    config.cohorts, config.forecasts, config.chunk, config.blocks = 150, 300, 64, 1
    config.copied, config.launches = 1000, 3
    return config


@pytest.fixture(scope="module")
def ready(chosen: DictConfig) -> UntrainedNet:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return UntrainedNet.from_config(chosen, "mlp")


def draws(ready: UntrainedNet, cohorts: int = 150) -> EpochSampler:
    plan = EpochPlan(1, ready.training.batch_size, ready.training.unseen)
    return EpochSampler(
        cohort_tensors=repeat_cohorts(ready.windows, cohorts),
        plan=plan,
        seed=0,
        shard=ProcessShard(0, 1),
    )


def test_without_a_gpu_a_note_says_so(
    chosen: DictConfig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = compose_config("benchmark", "what=gpu")
    with caplog.at_level(logging.WARNING):
        (line,) = measurements(config)
    assert caplog.messages == ["what=gpu: no GPU is at hand, so nothing was measured"]
    assert line.cells() == ["GPU: none is at hand", "", "", ""]


def test_cohorts_are_repeated(ready: UntrainedNet) -> None:
    many = repeat_cohorts(ready.windows, 2 * len(ready.windows) + 1)
    assert len(many) == len(many.values) == 2 * len(ready.windows) + 1
    assert torch.equal(many.values[-1], ready.windows.values[0])
    assert torch.equal(many.codes[len(ready.windows)], ready.windows.codes[0])
    assert torch.equal(many.rarity, ready.windows.rarity)
    found = forecast_tasks(ready, many, latest_tasks(many))
    assert torch.equal(found[:, 0], found[:, len(ready.windows)])


def test_an_untrained_net_forecasts_the_pattern_in_any_precision(ready: UntrainedNet) -> None:
    tasks = latest_tasks(ready.windows)
    exact = forecast_tasks(ready, ready.windows, tasks)[0]
    _, targets = ready.windows.inputs_and_targets(tasks)
    pattern = targets.observed_value[:, None] + targets.interval_growth.cumsum(1)
    torch.testing.assert_close(exact, pattern)
    rounded = forecast_tasks(ready, ready.windows, tasks, "bf16-mixed")[0]
    assert largest_change(rounded, exact) < 1e-6


def test_a_change_is_relative() -> None:
    assert largest_change(torch.tensor([1.0, 101.0]), torch.tensor([1.0, 100.0])) == pytest.approx(
        0.01
    )


def test_batches_are_of_one_size_and_their_bytes_are_counted(
    ready: UntrainedNet, chosen: DictConfig
) -> None:
    drawn = draws(ready)
    module = training_module(ready, drawn.cohort_tensors, HardwareConfig(**chosen.machine))
    found = full_batches(module, drawn, len(drawn))
    assert len(found) == int((drawn.cohort_tensors.last_age > 0).sum()) // 64
    shapes = {tuple(tensor.shape for tensor in iter_tensors(batch)) for batch in found}
    assert len(shapes) == 1
    assert byte_count(found[0]) == sum(len(x.numpy().tobytes()) for x in iter_tensors(found[0]))
    losses = [float(module.compute_gradient(batch, 64)) for batch in found]
    assert len(set(losses)) > 1


def test_limits_are_positive_and_a_cpu_has_no_kernels() -> None:
    assert copy_rate(CPU, 1000) > 0 and launch_seconds(CPU, 3) > 0 and replay_seconds(CPU, 3) > 0
    if not torch.cuda.is_available():
        assert count_kernels(lambda: torch.zeros(1)) == 0


def test_every_part_gives_its_lines(ready: UntrainedNet, chosen: DictConfig) -> None:
    ready = replace(ready, net=deepcopy(ready.net))  # which is trained
    told = [
        *measure_agreement(ready, chosen, CPU),
        *measure_steps(ready, chosen, CPU, DeviceLimits(1e9, 1e-6, 1e-6)),
        *measure_whole_runs(ready, chosen, CPU),
    ]
    assert [line.what for line in told] == [
        "MLP: forecasts in 32-true differ from the CPU's by",
        "MLP: forecasts in bf16-mixed differ from the CPU's by",
        "MLP: examples of the data path, features included",
        "MLP: memory bandwidth that they reach, of a copy's",
        "MLP: examples of training steps, kernel by kernel",
        "MLP: examples of training steps, recorded",
        "MLP: training on 150 cohorts",
        "MLP: forecasts of 300 cohorts in 32-true",
        "MLP: forecasts of 300 cohorts in bf16-mixed",
    ]
    assert told[0].value == 0.0 and told[0].meets_target and told[1].target is None
    assert told[1].value is not None and 0.0 < told[1].value < 0.1
    assert all(line.value is not None and line.value > 0 for line in told[2:])
