"""Training: checked settings, the losses, the schedule, and a run that was cut off."""

import math
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from cohorts import curve, history, weekly
from test_forecaster import COVARIATES, MACHINE, TRAINING, neural

from ltvnet.data.curves import NODES, Curves
from ltvnet.forecasting.run_context import HardwareConfig
from ltvnet.models.neural.cohort_tensors import CohortTensors, Tasks
from ltvnet.models.neural.covariates import CovariateConfig
from ltvnet.models.neural.input_scaling import InputScaling
from ltvnet.models.neural.nets.heads import log_multiples
from ltvnet.models.neural.nets.losses import forecast_growth
from ltvnet.models.neural.task_sampling import EpochPlan, EpochSampler, ProcessShard
from ltvnet.models.neural.training_config import TrainingConfig

ROOT = Path(__file__).parent.parent.parent.parent


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unseen": 1.0}, r"expected unseen in \[0, 1\), got 1.0"),
        ({"epochs": 0}, "expected epochs, .*, min_steps, patience and warm_epochs >= 1"),
        ({"rate": 0.0}, "expected rate, clip and average > 0"),
        ({"penalty": -1.0}, "weight_decay, penalty and users >= 0"),
        ({"loss": "mse"}, "expected loss=deviance or loss=huber, got 'mse'"),
    ],
)
def test_settings_are_checked(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**TRAINING | change)  # type: ignore[arg-type]


def test_few_tasks_are_learned_in_smaller_batches_at_a_lower_rate() -> None:
    chosen = {"batch_size": 1024, "min_steps": 8, "rate": 0.012}
    training = TrainingConfig(**TRAINING | chosen)  # type: ignore[arg-type]
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


@pytest.fixture(scope="module")
def curves() -> Curves:
    known = weekly(60).as_of("2024-02-29")
    return known.take(known.observed_age >= 0)


@pytest.fixture(scope="module")
def windows(curves: Curves) -> CohortTensors:
    fitted = neural().prepare(curves)
    return CohortTensors.from_curves(
        curves, fitted.pattern.leave_one_out_curves(curves), fitted.scaling
    )


def test_tasks_are_log_uniform_and_leave_something_to_forecast(windows: CohortTensors) -> None:
    tasks = windows.draw_tasks(200, torch.Generator().manual_seed(0))
    assert (tasks.observed_age >= 0).all() and (
        tasks.observed_age < windows.last_age[tasks.cohort_index]
    ).all()
    counts = torch.bincount(tasks.cohort_index, minlength=len(windows))
    assert counts[windows.last_age > 0].eq(200).all() and counts[windows.last_age == 0].eq(0).all()
    oldest = tasks.observed_age[windows.last_age[tasks.cohort_index] == 360].float()
    share = (oldest < 18).float().mean()  # log 19 of log 361 of the draws
    assert float(share) == pytest.approx(math.log(19) / math.log(361), abs=0.02)


def test_an_epoch_is_drawn_from_its_seed(windows: CohortTensors) -> None:
    plan = EpochPlan(tasks_per_cohort=4, batch_size=128, unseen_share=0.3)
    one, same, other = (
        EpochSampler(windows=windows, plan=plan, seed=s, share=ProcessShard(0, 1))
        for s in (1, 1, 2)
    )
    assert torch.equal(one.tasks.observed_age, same.tasks.observed_age) and torch.equal(
        one.is_hidden, same.is_hidden
    )
    assert not torch.equal(one.tasks.observed_age, other.tasks.observed_age)
    assert float(one.is_hidden.float().mean()) == pytest.approx(0.3, abs=0.1)
    sizes = [size for block in one for size in block.global_sizes]
    assert (
        len(sizes)
        == one.batch_count
        == plan.count_batches(windows)
        == -(-len(one.tasks.observed_age) // 128)
    )
    assert sum(sizes) == len(one.tasks.observed_age)


def test_targets_are_growth_since_the_observed_age(windows: CohortTensors, curves: Curves) -> None:
    row, age = 30, 18
    tasks = Tasks(torch.tensor([row]), torch.tensor([age]))
    targets = windows.targets(tasks)
    steps = targets.interval_growth
    last = int(curves.observed_age[row])
    assert last not in NODES
    later = [j for j, node in enumerate(NODES[1:]) if age < node <= last]
    assert targets.weight[0, :-1].nonzero().squeeze(1).tolist() == later
    value = curves.values[row]
    ages = [NODES[j + 1] for j in later] + [last]
    actual = targets.actual_growth[0, [*later, -1]].numpy()
    np.testing.assert_allclose(actual, value[ages] - value[age], rtol=1e-4)
    assert steps[0, : later[0]].eq(0).all() and steps[0, later[0]] > 0
    total = targets.weight[0, later].div(windows.rarity[[j + 1 for j in later]]).sum()
    assert float(total) == pytest.approx(
        math.log1p(NODES[later[-1] + 1]) - math.log1p(age), rel=1e-5
    )


def test_untrained_growth_is_the_patterns(windows: CohortTensors) -> None:
    tasks = windows.draw_tasks(3, torch.Generator().manual_seed(1))
    targets = windows.targets(tasks)
    raw = torch.zeros(len(tasks.observed_age), len(NODES) - 1, 4)
    raw[..., 2:] = -50.0  # next to no gaps between quantiles
    for quantity in forecast_growth(raw, targets, 1.0).growth:
        torch.testing.assert_close(quantity, targets.pattern_growth, rtol=1e-5, atol=1e-7)


def test_departures_order_quantiles_and_scale_the_mean_only() -> None:
    raw = torch.randn(4, 50, 20, generator=torch.Generator().manual_seed(0))
    z, damped = log_multiples(raw, 1.0), log_multiples(raw, 0.25)
    assert (z[1] < z[2]).all() and (z[2] < z[3]).all()
    torch.testing.assert_close(damped[0], 0.25 * raw[0])
    torch.testing.assert_close(damped[3] - damped[2], z[3] - z[2])


def test_rare_values_share_the_unseen_bucket() -> None:
    rows = [
        (str(day), str(day), {"Apps": app}, 10.0, curve(20))
        for app, count in (("a", 9), ("b", 5), ("rare", 4))
        for day in np.datetime64("2024-01-01") + np.arange(count)
    ]
    curves = history(rows).as_of("2024-02-29")
    scaling = InputScaling.fit(curves, 1.0, CovariateConfig(**COVARIATES))  # type: ignore[arg-type]
    assert scaling.categories == {"Apps": ["a", "b"]} and scaling.input_sizes.categories == (3,)
    codes = dict(
        zip(
            curves.attributes["Apps"], scaling.encode_categories(curves)[:, 0].tolist(), strict=True
        )
    )
    assert codes == {"a": 1, "b": 2, "rare": 0}
    nameless = history([(*rows[0][:2], {}, 10.0, curve(20))]).as_of("2024-02-29")
    assert scaling.encode_categories(nameless).tolist() == [[0]]


def test_machine_is_plain_data() -> None:
    assert HardwareConfig(**MACHINE).threads == 1  # type: ignore[arg-type]


TINY = [
    "data.timeline.weeks=40", "data.campaigns.count=4", "data.effects.base.users=200",
    "model.net.units=[6,4]", "model.training.epochs=4", "model.training.tasks=6",
    "model.training.batch_size=64",
]  # fmt: skip


def train(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "scripts" / "train.py"), *arguments]


def weights(run: Path) -> bytes:
    return (run / "bundle" / "arrays.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    run = tmp_path_factory.mktemp("whole")
    subprocess.run(train(*TINY, f"out={run}"), check=True, capture_output=True)
    return run


@pytest.mark.parametrize("stage", ["inner", "."])
def test_a_killed_run_resumes_to_the_same_weights(stage: str, whole: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    process = subprocess.Popen(
        train(*TINY, f"out={cut}"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    awaited = cut / "checkpoints" / stage / "last.ckpt"
    deadline = time.monotonic() + 120
    while not awaited.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert awaited.exists()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (cut / "bundle").exists()
    subprocess.run(train(f"resume={cut}"), check=True, capture_output=True)
    assert weights(cut) == weights(whole)


def test_a_run_is_not_taken_up_by_accident(whole: Path) -> None:
    refused = subprocess.run(train(*TINY, f"out={whole}"), capture_output=True, text=True)
    assert refused.returncode == 2 and f"resume={whole} continues it" in refused.stderr
    assert "Traceback" not in refused.stderr


class Harmful:
    """Makes a folder when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("harm",)


def test_a_checkpoint_with_code_is_refused(
    tmp_path: Path, curves: Curves, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "checkpoints"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "last.ckpt").write_bytes(pickle.dumps(Harmful(), protocol=2))
    with pytest.raises(ValueError, match=r"last.ckpt is not a checkpoint of plain tensors"):
        neural(folder=folder).fit(curves)
    torch.save({"state_dict": {}, "code": Harmful()}, folder / "inner" / "last.ckpt")
    with pytest.raises(ValueError, match=r"last.ckpt is not a checkpoint of plain tensors"):
        neural(folder=folder).fit(curves)
    assert not (tmp_path / "harm").exists()


def test_checkpoints_and_events_are_written(tmp_path: Path, curves: Curves) -> None:
    neural(folder=tmp_path / "checkpoints").fit(curves)
    for folder in (tmp_path / "checkpoints", tmp_path / "checkpoints" / "inner"):
        for name in ("best.ckpt", "last.ckpt"):
            loaded = torch.load(folder / name, weights_only=True)
            assert "state_dict" in loaded
    assert list(tmp_path.glob("events*")) and list((tmp_path / "inner").glob("events*"))


def test_ctrl_c_is_handed_on(curves: Curves, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning makes an exit of it, and ignores it from then on."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(
        "ltvnet.models.neural.training_module.ResidualTrainingModule.training_step", stop
    )
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        neural().fit(curves)
    assert signal.getsignal(signal.SIGINT) is before
