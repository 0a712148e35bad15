"""A study is filled exactly once, whoever dies, on every kind of storage."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from factories.configs import ROOT
from factories.quick_tasks import (
    DeadlyTask,
    FailingTask,
    InterruptedTask,
    finish_study,
    quick_settings,
    quick_task,
    trials_begun,
)
from optuna.trial import FrozenTrial, TrialState

from ltvnet.tuning import study, workers
from ltvnet.tuning.study import latest_attempts

pytestmark = pytest.mark.filterwarnings("ignore:.*experimental")


def check_filled(found: Sequence[FrozenTrial], count: int) -> None:
    """As many finished places as were asked for, and nothing that still runs."""
    counted = latest_attempts(found)
    assert len(counted) == count
    assert all(trial.state.is_finished() for trial in counted)
    assert all(trial.state != TrialState.RUNNING for trial in found)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server of this test's own."""
    folders = [Path("/usr/lib/postgresql"), Path("/usr/local/pgsql")]
    homes = sorted(path.parent for folder in folders for path in folder.glob("**/initdb"))
    initdb = shutil.which("initdb") or (homes and str(homes[-1] / "initdb"))
    if not initdb:
        pytest.skip("there is no PostgreSQL server to start")
    binaries, root = Path(initdb).resolve().parent, os.geteuid() == 0
    folder = Path(tempfile.mkdtemp(prefix="ltvnet_postgres_"))
    user = {"user": "postgres", "group": "postgres"} if root else {}
    if root:
        shutil.chown(folder, "postgres", "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [binaries / "initdb", "-D", folder / "data", "-A", "trust", "-U", "ltvnet", "-N"]
    subprocess.run(command, check=True, capture_output=True, cwd=folder, **user)  # type: ignore[call-overload]
    options = ["-c", f"port={port}", "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    server = subprocess.Popen(  # type: ignore[call-overload]
        [binaries / "postgres", "-D", folder / "data", "-k", folder, *options],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, **user,
    )  # fmt: skip
    try:
        ready = [binaries / "pg_isready", "-h", "127.0.0.1", "-p", str(port)]
        while subprocess.run(ready, capture_output=True).returncode:
            assert server.poll() is None
            time.sleep(0.1)
        yield f"postgresql+psycopg://ltvnet@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "journal", pytest.param("postgres", marks=pytest.mark.postgres)])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres"))
    return f"{request.param}:///{tmp_path}/study.{request.param}"


def test_workers_share_a_study_and_the_same_command_finishes_it(
    address: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """One of two workers is killed, then who started them; the rest is done, each place once."""
    how = quick_settings(
        storage=address, workers=2, trials=8, study=request.node.name, heartbeat=2.0
    )  # so that a busy machine, which imports torch twice, does not take the living for dead
    parent = get_context("spawn").Process(
        target=finish_study, args=(quick_task(tmp_path, nap=0.5), how)
    )
    parent.start()
    while len({pid for pid, _ in trials_begun(tmp_path)}) < 2:
        assert parent.is_alive()
        time.sleep(0.05)
    first, second = dict.fromkeys(int(pid) for pid, _ in trials_begun(tmp_path))
    os.kill(first, signal.SIGKILL)
    parent.kill()
    parent.join()
    all_trials = finish_study(quick_task(tmp_path), how)
    check_filled(all_trials, 8)
    counted = latest_attempts(all_trials)
    assert all(trial.state == TrialState.COMPLETE for trial in counted)
    lost = [t for t in all_trials if t not in counted and t.state == TrialState.FAIL]
    assert len(lost) <= 2  # what the two worked on, unless they were between two trials
    assert all(trial.user_attrs["error"] for trial in lost)
    again = [trial.user_attrs["place"] for trial in counted if trial.user_attrs.get("turn")]
    assert sorted(again) == sorted(trial.user_attrs["place"] for trial in lost)
    assert 8 <= len(trials_begun(tmp_path)) <= 8 + len(lost)  # none was worked on twice
    assert {"model.x": 0.5, "model.y": 3, "model.kind": "a"} in [t.params for t in counted]
    with pytest.raises(ProcessLookupError):  # the other ended with its parent
        os.kill(second, 0)


def test_the_place_of_a_lost_trial_keeps_its_values(tmp_path: Path) -> None:
    how = quick_settings(tmp_path / "study.db", trials=3)
    finish_study(quick_task(tmp_path), replace(how, timeout="0s"))
    with study.open_storage(how.storage) as storage:
        worker = workers.Worker(quick_task(tmp_path), how, storage, deadline=np.inf)
        waiting = worker.load_study().get_trials(deepcopy=False)[0]
        assert worker.claim(waiting) and not worker.claim(waiting)
    all_trials = finish_study(
        quick_task(tmp_path), how
    )  # waits until the beat was missed often enough
    check_filled(all_trials, 3)
    first = all_trials[0]
    assert first.state == TrialState.FAIL and first.user_attrs["place"] == 0
    taken_over = latest_attempts(all_trials)[0]
    assert taken_over.number == 3 and taken_over.params["model.x"] == 0.5


def test_values_that_are_refused_are_recorded_once(tmp_path: Path) -> None:
    how = quick_settings(trials=8, sampler="random")
    all_trials = finish_study(quick_task(tmp_path, FailingTask), how)
    check_filled(all_trials, 8)
    failed = [trial for trial in all_trials if trial.state == TrialState.FAIL]
    assert failed and len(all_trials) == 8
    assert {trial.user_attrs["error"] for trial in failed} == {"kind b does not work"}
    assert all(trial.params["model.kind"] == "b" for trial in failed)


def test_other_errors_are_tried_again_a_bounded_number_of_times(tmp_path: Path) -> None:
    how = quick_settings(trials=8, sampler="random", retries=2)
    all_trials = finish_study(quick_task(tmp_path, FailingTask, error=RuntimeError), how)
    check_filled(all_trials, 8)
    failed = [trial for trial in all_trials if trial.state == TrialState.FAIL]
    bad = [t for t in latest_attempts(all_trials) if t.state == TrialState.FAIL]
    assert len(failed) == 3 * len(bad) > 0  # each once, and twice again
    assert {t.user_attrs["error"] for t in bad} == {"RuntimeError: kind b does not work"}


def test_an_interrupted_trial_gives_its_place_back(tmp_path: Path) -> None:
    """As often as it takes: interruptions are no failures."""
    how = quick_settings(tmp_path / "study.db", trials=2, retries=0)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            finish_study(quick_task(tmp_path, InterruptedTask), how)
    all_trials = finish_study(quick_task(tmp_path), how)
    check_filled(all_trials, 2)
    counted = latest_attempts(all_trials)
    assert [trial.state for trial in counted] == [TrialState.COMPLETE] * 2
    assert len(all_trials) == 2 + 3


def test_who_was_taken_for_lost_does_not_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that comes back after its trial was given to another loses its result."""
    how = quick_settings(tmp_path / "study.db", trials=1)
    slow = quick_task(tmp_path)
    with (
        study.open_storage(how.storage) as first_storage,
        study.open_storage(how.storage) as second_storage,
    ):
        lost_worker, other_worker = (
            workers.Worker(slow, how, storage, deadline=np.inf)
            for storage in (first_storage, second_storage)
        )
        study.open_study(slow, how, first_storage)
        claimed = lost_worker.load_study().get_trials()[0]
        assert lost_worker.claim(claimed)
        other_worker.requeue(other_worker.load_study().get_trials()[0], "no sign of life")
        other_worker.run()
        lost_worker.run_trial(claimed.number, claimed._trial_id)
        all_trials = lost_worker.load_study().trials
    assert "trial 0 was taken for lost" in caplog.text
    check_filled(all_trials, 1)
    assert latest_attempts(all_trials)[0].number == 1


def test_nothing_begins_after_the_timeout(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    all_trials = finish_study(quick_task(tmp_path), quick_settings(timeout="0s"))
    assert "6 of 6 trials are left: the same command goes on" in caplog.text
    assert [trial.state for trial in all_trials] == [TrialState.WAITING] * 6
    assert not trials_begun(tmp_path)


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "grid"])
def test_one_worker_tries_the_same_however_often_it_is_stopped(
    sampler: str, tmp_path: Path
) -> None:
    """The choice depends on the seed, the number of the trial and those before it."""
    at_once_folder, in_parts_folder = tmp_path / "whole", tmp_path / "parts"
    for folder in (at_once_folder, in_parts_folder):
        folder.mkdir()
    how = {"sampler": sampler, "startup": 3}
    at_once = finish_study(
        quick_task(at_once_folder), quick_settings(at_once_folder / "study.db", trials=9, **how)
    )
    for trials in (2, 5, 9):
        in_parts = finish_study(
            quick_task(in_parts_folder),
            quick_settings(in_parts_folder / "study.db", trials=trials, **how),
        )
    tried = [[trial.params for trial in trials_of_study] for trials_of_study in (at_once, in_parts)]
    assert tried[0] == tried[1] and len(tried[0]) == 9
    assert len({repr(params) for params in tried[0]}) > 5


def test_the_sampler_learns(tmp_path: Path) -> None:
    """TPE's later trials are better than its first ones, and the default is not beaten by luck."""
    all_trials = finish_study(quick_task(tmp_path), quick_settings(trials=40, startup=10))
    scores = [trial.value for trial in all_trials]
    assert np.median(scores[30:]) < 0.6 * np.median(scores[1:10])
    assert min(scores) < 0.02


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_bad_trials_are_stopped_but_never_the_default(pruner: str, tmp_path: Path) -> None:
    how = quick_settings(trials=20, startup=4, pruner=pruner, sampler="random")
    all_trials = finish_study(quick_task(tmp_path), how)
    check_filled(all_trials, 20)
    states = [trial.state for trial in all_trials]
    assert states[0] == TrialState.COMPLETE
    first = states.index(TrialState.PRUNED)
    assert TrialState.COMPLETE in states[first:]
    assert states.count(TrialState.PRUNED) >= 5


def test_two_objectives_have_a_front(tmp_path: Path) -> None:
    how = quick_settings(trials=12, objectives=["score", "seconds"], pruner="median")
    with study.open_storage(how.storage) as storage:
        finished_study = workers.run_study(quick_task(tmp_path), how, storage)
        assert (
            len(finished_study.directions) == 2 and not finished_study.trials[3].intermediate_values
        )
        assert all(len(trial.values) == 2 for trial in finished_study.trials)
        assert study.key_importances(finished_study)


def run(script: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = ROOT / "scripts" / f"{script}.py"
    command = [sys.executable, str(path), *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_the_best_is_trained_as_it_was_scored(tmp_path: Path) -> None:
    """From the command line: sweep, then train.py with best.yaml has the same score."""
    small = ["data.timeline.weeks=70", "data.campaigns.count=4"]
    search = ["model=chain_ladder", "sweep.trials=6", "sweep.startup=4", "sweep.study=small"]
    process = run("sweep", tmp_path, *search, *small)
    assert process.returncode == 0, process.stderr
    out = tmp_path / "runs" / "sweep" / "small"
    best = json.loads((out / "metrics.json").read_text())
    more = run("sweep", tmp_path, *search, *small)  # the same command finds all done
    assert more.returncode == 0 and ": trial" not in more.stdout
    trained = run("train", tmp_path, f"experiment={out}/best.yaml", "out=trained")
    assert trained.returncode == 0, trained.stderr
    metrics = json.loads((tmp_path / "trained" / "metrics.json").read_text())
    assert metrics["score"]["past_model"] == best["best"]
    refused = run("sweep", tmp_path, *search, "data.timeline.weeks=71", small[1])
    assert refused.returncode == 2
    assert "was begun with another data" in refused.stderr and "sweep.study=NAME" in refused.stderr


def test_an_error_of_the_sampler_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("no such distribution")

    monkeypatch.setattr("optuna.samplers.RandomSampler.sample_independent", broken)
    all_trials = finish_study(quick_task(tmp_path), quick_settings(trials=3, sampler="random"))
    check_filled(all_trials, 3)
    assert [t.user_attrs.get("error") for t in all_trials] == [None] + ["no such distribution"] * 2


def test_workers_that_all_end_early_are_an_error(tmp_path: Path) -> None:
    how = quick_settings(tmp_path / "study.db", workers=2, trials=2)
    with pytest.raises(ValueError, match="2 of 2 trials are left: the same command goes on"):
        finish_study(quick_task(tmp_path, DeadlyTask), how)
