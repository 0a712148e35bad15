"""Seconds of start-up: what is timed, and the figures made of it."""

import subprocess
import sys
from pathlib import Path

import pytest
from factories.configs import CONFIGS
from hydra import initialize_config_dir
from omegaconf import OmegaConf
from startup import (
    NOTHING,
    PACKAGE,
    PREDICT,
    TORCH,
    compare_seconds,
    median_seconds,
    prepare_prediction,
    timed_commands,
)


def test_processes_are_told_whole_and_torch_alone() -> None:
    found = compare_seconds({NOTHING: 0.1, PACKAGE: 0.25, TORCH: 1.6, PREDICT: 2.5}, 126)
    by_name = {line.what: line for line in found}
    assert by_name["import torch, without the interpreter"].value == 1.5
    assert by_name["import ltvnet, whole process"].meets_target is True
    assert by_name["predict.py on 126 cohorts, whole process"].value == 2.5
    assert by_name["share of torch's import in it"].value == pytest.approx(1.5 / 2.5)
    slow = compare_seconds({NOTHING: 0.1, PACKAGE: 0.5, TORCH: 1.6, PREDICT: 4.5}, 126)
    assert [line.meets_target for line in slow if line.target] == [False, False, False]


def test_processes_take_turns_after_a_run_that_is_not_counted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = f"open({str(log)!r}, 'a').write('x')"
    other = f"open({str(log)!r}, 'a').write('y')"
    found = median_seconds(
        {"one": [sys.executable, "-c", code], "two": [sys.executable, "-c", other]}, 3
    )
    assert log.read_text() == "xy" * 4
    assert set(found) == {"one", "two"} and min(found.values()) > 0


def test_a_process_that_fails_stops_the_benchmark() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        median_seconds({"broken": [sys.executable, "-c", "raise SystemExit(2)"]}, 1)


def test_the_small_file_is_forecast(tmp_path: Path) -> None:
    chosen = OmegaConf.create({"overrides": ["model=pattern", "data=simulated"], "cohorts": 20})
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        words = prepare_prediction(chosen, tmp_path)
    command = timed_commands(words)[PREDICT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("20 cohorts in ")
