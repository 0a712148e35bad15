"""Fits here, in neuralforecast and in darts, of nets of the same size: what=race.

The same cohorts, one thread, batches and windows seen as many as ours. Theirs see no attributes,
and forecast one number a day, ours four; making series of cohorts is left out for darts.
"""

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from unittest.mock import patch

import numpy as np
from hydra import compose
from hydra.utils import instantiate
from launch import model_spec, plain, run_context
from omegaconf import DictConfig, OmegaConf
from peers import library_python, long_table
from targets import Measurement, run_logged

if TYPE_CHECKING:
    from ltvnet.data.curves import Curves

log = logging.getLogger("benchmark")

HERE = Path(__file__).resolve().parent
LIBRARIES = ("neuralforecast", "darts")


@dataclass(frozen=True)
class FitRun:
    """One fit: seconds, windows seen, parameters; `own` seconds of the net's training alone."""

    seconds: float
    windows: int
    parameters: int
    own: float = np.nan


def measurements(config: DictConfig) -> list[Measurement]:
    """Measure seconds and windows a second of each net and library.

    `config.race`: `overrides` of configs/train.yaml, `repeats`; of each library its `requirements`
    and `environment` (see peers.py) and `nets`, name of ours -> model and arguments.
    """
    settings = config.race
    out = Path(config.out)
    job = compose("train", settings.overrides)
    job.out = config.out
    source = instantiate(job.data)
    curves = source.history().as_of(source.origin)
    pythons = {
        name: library_python(settings[name], out / name / "environment") for name in LIBRARIES
    }

    runs: dict[tuple[str, str], list[FitRun]] = {}
    for _ in range(settings.repeats):
        our_runs = {net: fit_ours(net, settings.overrides, curves) for net in settings.darts.nets}
        for net, run in our_runs.items():
            runs.setdefault(("ltvnet", net), []).append(run)
        for name, python in pythons.items():
            write_race(out / name, curves, library_settings(settings[name].nets, our_runs))
            for net, run in run_library(python, name, out / name).items():
                runs.setdefault((name, net), []).append(run)
    results: list[Measurement] = []
    for net in settings.darts.nets:
        results += compare_runs(net, runs)
    return results


def fit_ours(net: str, overrides: Sequence[str], curves: "Curves") -> FitRun:
    """Fit a net of ours once, pattern and the search for its length included."""
    from ltvnet.forecasting.registry import create_forecaster

    job = compose("train", [f"model={net}", *overrides])
    spec = model_spec(job)
    context = run_context(job, None)
    with record_training(spec.arguments["training"]["tasks"]) as training_runs:
        start = time.perf_counter()
        create_forecaster(spec, context).fit(curves)
        seconds = time.perf_counter() - start

    fit_run = FitRun(
        seconds=seconds,
        windows=sum(run.windows for run in training_runs),
        parameters=training_runs[-1].parameters,
        own=sum(run.seconds for run in training_runs),
    )
    log.info("%s: %s", net, fit_run)
    return fit_run


@contextmanager
def record_training(tasks: int) -> Iterator[list[FitRun]]:
    """Note the training of each net within, of so many `tasks` a cohort and epoch."""
    from ltvnet.models.neural import training

    runs: list[FitRun] = []
    train_net = training.train_net

    def train_and_note(job: training.TrainingJob, *config: Any) -> list[list[float]]:  # noqa: ANN401
        start = time.perf_counter()
        scores = train_net(job, *config)
        seconds = time.perf_counter() - start
        cohorts_with_growth = int((job.cohort_tensors.last_age > 0).sum())
        parameters = sum(weight.numel() for weight in job.net.parameters())
        windows = job.stop_epoch * tasks * cohorts_with_growth
        runs.append(FitRun(seconds, windows, parameters))
        return scores

    with patch.object(training, "train_net", train_and_note):
        yield runs


def library_settings(nets: Mapping[str, Any], our_runs: Mapping[str, FitRun]) -> dict[str, Any]:
    """Return models and arguments of a library's nets, with the windows that ours saw."""
    configs = plain(OmegaConf.create(nets), resolve=True)
    return {net: configs[net] | {"windows": run.windows} for net, run in our_runs.items()}


def write_race(folder: Path, curves: "Curves", settings: Mapping[str, Any]) -> None:
    """Write what is known of the cohorts, and what to fit, for a library."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = np.flatnonzero(curves.observed_age >= 0)
    known_values = long_table([f"c{row}" for row in rows], curves.values[rows])
    known_values.to_parquet(folder / "known.parquet", index=False)
    (folder / "settings.json").write_text(json.dumps(settings))


def run_library(python: Path, name: str, folder: Path) -> dict[str, FitRun]:
    """Let a library fit what is in a folder, in a process of its own.

    Raises ValueError when it fails.
    """
    log_file = folder / "race.log"
    if not run_logged([python, HERE / f"{name}_race.py", folder], log_file):
        raise ValueError(f"expected fits of {name}, got none: see {log_file}")
    costs = json.loads((folder / "costs.json").read_text())
    log.info("%s: %s", name, costs)
    return {net: FitRun(**cost) for net, cost in costs.items()}


def compare_runs(
    net: str, runs: Mapping[tuple[str, str], Sequence[FitRun]]
) -> Iterator[Measurement]:
    """Yield medians of a net over its runs here, and those of each library beside them."""
    ours = runs["ltvnet", net]
    parameters, windows = ours[0].parameters, ours[0].windows
    seconds = median(ours, "seconds")
    subject = f"{net} ({parameters:,} parameters, {windows:,} windows)"
    yield Measurement(f"{subject}, whole fit", seconds, "s")
    yield Measurement(f"{net}, training of the net alone", median(ours, "own"), "s")
    yield Measurement(f"{net}, of the whole fit", windows / seconds, "windows/s")

    for name in LIBRARIES:
        theirs = runs[name, net]
        parameters = theirs[0].parameters
        their_rate = theirs[0].windows / median(theirs, "seconds")
        yield Measurement(f"{net} in {name} ({parameters:,} parameters)", their_rate, "windows/s")
        speedup = windows / seconds / their_rate
        yield Measurement(f"{net}, faster than {name}", speedup, "x", 5, is_minimum=True)
        net_speedup = windows / median(ours, "own") / their_rate
        yield Measurement(f"{net}, the net alone, faster than {name}", net_speedup, "x")


def median(runs: Sequence[FitRun], figure: Literal["seconds", "own"]) -> float:
    """Return the median of one figure over runs."""
    return float(np.median([getattr(run, figure) for run in runs]))
