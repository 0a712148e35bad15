"""Training runs: what they write, and how they end when they are cut off."""

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
from factories.configs import ROOT
from factories.neural import make_neural
from rich.progress import Progress, TaskID
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ltvnet.data.curves import Curves

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
def uninterrupted_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    run = tmp_path_factory.mktemp("whole")
    subprocess.run(train(*TINY, f"out={run}"), check=True, capture_output=True)
    return run


@pytest.mark.parametrize("stage", ["inner", "."])
def test_a_killed_run_resumes_to_the_same_weights(
    stage: str, uninterrupted_run: Path, tmp_path: Path
) -> None:
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
    assert weights(cut) == weights(uninterrupted_run)


def test_a_run_is_not_taken_up_by_accident(uninterrupted_run: Path) -> None:
    refused = subprocess.run(
        train(*TINY, f"out={uninterrupted_run}"), capture_output=True, text=True
    )
    assert refused.returncode == 2 and f"resume={uninterrupted_run} continues it" in refused.stderr
    assert "Traceback" not in refused.stderr


SCHEDULERS = {
    "sbatch": {
        "SLURM_NTASKS": "4", "SLURM_JOB_NAME": "x", "SLURM_JOB_ID": "1", "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NODELIST": "localhost",
        "SLURM_STEP_NODELIST": "localhost",
    },
    "srun, the second task": {
        "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "x", "SLURM_JOB_ID": "1", "SLURM_PROCID": "1",
        "SLURM_LOCALID": "1", "SLURM_NODEID": "0", "SLURM_NODELIST": "localhost",
        "SLURM_NTASKS_PER_NODE": "2",
    },
    "LSF": {
        "LSB_JOBID": "1", "LSB_DJOB_RANKFILE": "/nonexistent", "JSM_NAMESPACE_LOCAL_RANK": "0",
        "JSM_NAMESPACE_SIZE": "2", "JSM_NAMESPACE_RANK": "0",
    },
    "torchrun": {
        "TORCHELASTIC_RUN_ID": "x", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2",
        "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost",
        "MASTER_PORT": "1234",
    },
}  # fmt: skip
"""Variables with which schedulers start a process."""


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_one_device_is_one_process_whatever_scheduler_started_it(
    scheduler: str, training_curves: Curves, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = make_neural().fit(training_curves).predict(training_curves, [180])
    for name, value in SCHEDULERS[scheduler].items():
        monkeypatch.setenv(name, value)
    fitted = make_neural(folder=tmp_path / "checkpoints").fit(training_curves)
    forecast = fitted.predict(training_curves, [180])
    np.testing.assert_array_equal(forecast.raw.mean, plain.raw.mean)
    assert (tmp_path / "checkpoints" / "last.ckpt").exists()


class Harmful:
    """Makes a folder when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("harm",)


def test_a_checkpoint_with_code_is_refused(
    tmp_path: Path, training_curves: Curves, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "checkpoints"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "last.ckpt").write_bytes(pickle.dumps(Harmful(), protocol=2))
    with pytest.raises(ValueError, match=r"last.ckpt is not a checkpoint of plain tensors"):
        make_neural(folder=folder).fit(training_curves)
    torch.save({"state_dict": {}, "code": Harmful()}, folder / "inner" / "last.ckpt")
    with pytest.raises(ValueError, match=r"last.ckpt is not a checkpoint of plain tensors"):
        make_neural(folder=folder).fit(training_curves)
    assert not (tmp_path / "harm").exists()


def test_checkpoints_and_events_are_written(tmp_path: Path, training_curves: Curves) -> None:
    make_neural(folder=tmp_path / "checkpoints").fit(training_curves)
    for folder in (tmp_path / "checkpoints", tmp_path / "checkpoints" / "inner"):
        for name in ("best.ckpt", "last.ckpt"):
            loaded = torch.load(folder / name, weights_only=True)
            assert "state_dict" in loaded
    assert list(tmp_path.glob("events*")) and list((tmp_path / "inner").glob("events*"))
    assert not list(tmp_path.rglob("hparams.yaml"))  # it would be empty
    for folder, own_tags in ((tmp_path, set()), (tmp_path / "inner", {"val/loss"})):
        tags = set(EventAccumulator(str(folder)).Reload().Tags()["scalars"])
        assert tags >= {"train/loss_epoch", *own_tags} and "epoch" not in tags


def test_the_bar_of_a_fit_has_a_name_and_counts_all_epochs(
    tmp_path: Path, training_curves: Curves, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of both fits: the one that finds how long to train, and the other that stops there."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    fits: dict[str, float] = {}
    told: list[tuple[str, int]] = []

    def add_task(_: Progress, description: str, *, total: float) -> TaskID:
        fits[description] = total
        return TaskID(0)

    def update(_: Progress, __: TaskID, *, description: str, completed: int) -> None:
        told.append((description, completed))

    monkeypatch.setattr(Progress, "add_task", add_task)
    monkeypatch.setattr(Progress, "update", update)
    make_neural(folder=tmp_path / "checkpoints").fit(training_curves)
    assert list(fits) == ["lstm: finding how long to train", "lstm: training"]
    for name, total in fits.items():
        bar = [each for each in told if each[0].startswith(name)]
        epochs = int(bar[-1][0].rsplit(" of ")[1])
        assert bar[0][0] == f"{name}, epoch 1 of {epochs}"
        assert bar[-1] == (f"{name}, epoch {epochs} of {epochs}", total)
        assert [completed for _, completed in bar] == sorted(completed for _, completed in bar)


def test_ctrl_c_is_handed_on(training_curves: Curves, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning would make an exit of it, and ignore it from then on."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(
        "ltvnet.models.neural.training_module.ResidualTrainingModule.training_step", stop
    )
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        make_neural().fit(training_curves)
    assert signal.getsignal(signal.SIGINT) is handler
