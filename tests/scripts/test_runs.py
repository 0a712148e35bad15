"""Runs of scripts: their folders, their exit codes, and what they say at the end."""

import os
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from factories.cohorts import weekly_history
from factories.commands import run_script
from factories.configs import ROOT
from launch import exit_on_error

from ltvnet.data.cohort_tables import write_cohorts
from ltvnet.operations.train_model import WorseThanPatternError
from ltvnet.storage import lock_folder

QUICK = ("model=pattern", "validation=none")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort table in a folder and of a name that need quotes."""
    path = tmp_path_factory.mktemp("data") / "[MKT] it's (1), a=b" / "한글 %20#.csv"
    path.parent.mkdir()
    write_cohorts(weekly_history(30).as_of("2023-12-31"), path)
    return path


def next_command(text: str, begin: str) -> list[str]:
    """The command that a script told to run, as a shell would split it."""
    (line,) = [line for line in text.splitlines() if begin in line]
    words = shlex.split(line.partition(begin)[2])
    return [sys.executable, *words[1:]]


def test_a_run_with_odd_names_tells_the_command_that_goes_on(tmp_path: Path, table: Path) -> None:
    """Its data, a folder of any name; the line is true after resuming too."""
    out = tmp_path / "결과 [x], y='z'"
    trained = run_script("train", *QUICK, f"data.path={table}", f"out={out}", folder=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "data.path without data: read as data=files" in trained.stdout

    resumed = run_script("train", f"resume={out}", folder=tmp_path)
    for said in (trained.stdout, resumed.stdout):
        command = next_command(said, "next: ")
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "rollup.csv").exists()
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".")} == set()


def test_a_folder_that_holds_a_run_is_refused_for_every_model(tmp_path: Path, table: Path) -> None:
    words = (*QUICK, f"data.path={table}", f"out={tmp_path / 'a b'}")
    assert run_script("train", *words).returncode == 0
    refused = run_script("train", *words)
    assert refused.returncode == 2
    assert f"holds a run: 'resume={tmp_path / 'a b'}' continues it" in refused.stderr


@pytest.mark.parametrize("script", ["train", "predict", "backtest", "prepare", "simulate"])
def test_two_runs_do_not_share_a_folder(script: str, tmp_path: Path) -> None:
    words = {"predict": ["bundle=b", "data.path=x"], "prepare": ["data.path=x"]}
    with lock_folder(tmp_path, "train.py"):
        refused = run_script(script, *words.get(script, []), f"out={tmp_path}")
    assert refused.returncode == 2
    assert f"got {tmp_path}, in which process {os.getpid()} on " in refused.stderr


def test_check_leaves_nothing(tmp_path: Path, table: Path) -> None:
    done = run_script("check", f"data.path={table}", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", ["new/run", "."])
def test_a_run_that_wrote_nothing_leaves_nothing(tmp_path: Path, out: str) -> None:
    for script, words in (("train", QUICK), ("backtest", ()), ("predict", ("bundle=b",))):
        failed = run_script(script, *words, "data.path=nowhere", f"out={out}", folder=tmp_path)
        assert failed.returncode == 2
        assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    (tmp_path / "empty").mkdir()
    for out in (tmp_path, tmp_path / "empty"):
        assert run_script("train", "data.path=nowhere", f"out={out}").returncode == 2
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "empty"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("x"), 2),
        (OSError("x"), 2),
        (WorseThanPatternError("x"), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes_tell_ends_apart(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end, exit_on_error(lambda: "; go on"):
        raise error
    assert end.value.code == code
    assert capsys.readouterr().err == ("stopped; go on\n" if code == 130 else "error: x\n")


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_training_that_was_stopped_says_how_it_goes_on(
    tmp_path: Path, sign: signal.Signals
) -> None:
    out = tmp_path / "a b"
    words = ("model=mlp", "data.timeline.weeks=40", "data.campaigns.count=4", f"out={out}")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "train.py"), *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a job may ignore it
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (out / "checkpoints").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(sign)
    _, said = process.communicate()
    assert process.returncode == 130
    command = next_command(said, "stopped; this goes on: ")
    assert command[2:] == [f"resume={out}"]
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert (out / "bundle").is_dir()


@pytest.mark.parametrize(
    ("option", "key"),
    [
        ("ages=30", "ages"),
        ("ages=null", "ages"),
        ("rows=abc", "rows"),
        ("rows=1.5", "rows"),
        ("threads=0", "threads"),
        ("threads=abc", "threads"),
        ("data.path=null", "data.path"),
        ("bundle=null", "bundle"),
        ("data.lag_days=two", "data.lag_days"),
        ("data.hierarchy=null", "data.hierarchy"),
    ],
)
def test_options_of_the_wrong_type_are_told(option: str, key: str, tmp_path: Path) -> None:
    words = ("bundle=b", "data.path=x", option, f"out={tmp_path}")
    refused = run_script("predict", *words)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert refused.stderr.startswith("error: expected ") and key in refused.stderr


def test_a_gpu_that_is_not_there_is_told(tmp_path: Path) -> None:
    import torch

    if torch.accelerator.is_available():
        pytest.skip("there is one")
    words = ("data.timeline.weeks=40", "data.campaigns.count=4", "model=mlp", "validation=none")
    refused = run_script("train", *words, "trainer=gpu", f"out={tmp_path / 'a'}")
    assert refused.returncode == 2 and "expected trainer=cpu, or hardware for" in refused.stderr
    assert "Traceback" not in refused.stderr
