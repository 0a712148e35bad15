"""Fits here, in neuralforecast and in darts, of nets of the same size: what=race.

The same cohorts, one thread, batches and windows seen as many as ours. Theirs see no attributes,
and forecast one number a day, ours four; making series of cohorts is left out for darts.
"""

import json
import logging
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
from hydra import compose
from hydra.utils import instantiate
from launch import model_spec, run_context
from omegaconf import DictConfig, OmegaConf
from peers import library_python, long_table
from targets import Measurement

if TYPE_CHECKING:
    from ltvnet.data.curves import Curves

log = logging.getLogger("benchmark")

HERE = Path(__file__).resolve().parent
LIBRARIES = ("neuralforecast", "darts")


@dataclass(frozen=True)
class Run:
    """One fit: seconds, windows seen, parameters; `own` seconds of the net's training alone."""

    seconds: float
    windows: int
    parameters: int
    own: float = np.nan


def lines(config: DictConfig) -> list[Measurement]:
    """Seconds and windows a second of each net and library.

    `config.race`: `overrides` of configs/train.yaml, `repeats`; of each library its `requirements`
    and `environment` (see peers.py) and `nets`, name of ours -> model and arguments.
    """
    chosen = config.race
    job = compose("train", chosen.overrides)
    job.out = config.out
    source = instantiate(job.data)
    curves = source.history().as_of(source.origin)
    runs: dict[tuple[str, str], list[Run]] = {}
    pythons = {
        name: library_python(chosen[name], Path(config.out) / name / "environment")
        for name in LIBRARIES
    }
    for _ in range(chosen.repeats):
        ours = {net: fitted(net, chosen.overrides, curves) for net in chosen.darts.nets}
        for net, run in ours.items():
            runs.setdefault(("ltvnet", net), []).append(run)
        for name, python in pythons.items():
            folder = Path(config.out) / name
            write(folder, curves, settings(chosen[name].nets, ours))
            for net, run in raced(python, name, folder).items():
                runs.setdefault((name, net), []).append(run)
    return [line for net in chosen.darts.nets for line in compared(net, runs)]


def fitted(net: str, overrides: Sequence[str], curves: "Curves") -> Run:
    """One fit of a net of ours, pattern and the search for its length included."""
    from ltvnet.forecasting.registry import create_forecaster

    job = compose("train", [f"model={net}", *overrides])
    spec, context = model_spec(job), run_context(job, None)
    with counted(spec.arguments["training"]["tasks"]) as trained:
        begun = time.perf_counter()
        create_forecaster(spec, context).fit(curves)
        seconds = time.perf_counter() - begun
    found = Run(
        seconds=seconds,
        windows=sum(run.windows for run in trained),
        parameters=trained[-1].parameters,
        own=sum(run.seconds for run in trained),
    )
    log.info("%s: %s", net, found)
    return found


@contextmanager
def counted(tasks: int) -> Iterator[list[Run]]:
    """Notes the training of each net within, of so many `tasks` a cohort and epoch."""
    from ltvnet.models.neural import training

    found: list[Run] = []
    fit = training.train_net

    def noted(job: training.TrainingJob, *config: Any) -> list[list[float]]:  # noqa: ANN401
        begun = time.perf_counter()
        scores = fit(job, *config)
        seconds = time.perf_counter() - begun
        grown = int((job.cohort_tensors.last_age > 0).sum())
        weights = sum(weight.numel() for weight in job.net.parameters())
        found.append(Run(seconds, job.stop_epoch * tasks * grown, weights))
        return scores

    with patch.object(training, "train_net", noted):
        yield found


def settings(nets: Mapping[str, Any], ours: Mapping[str, Run]) -> dict[str, Any]:
    """Models and arguments of a library's nets, with the windows that ours saw."""
    plain: Any = OmegaConf.to_container(OmegaConf.create(nets), resolve=True)
    return {net: plain[net] | {"windows": run.windows} for net, run in ours.items()}


def write(folder: Path, curves: "Curves", chosen: Mapping[str, Any]) -> None:
    """Write what is known of the cohorts, and what to fit, for a library."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = np.flatnonzero(curves.observed_age >= 0)
    known = long_table([f"c{row}" for row in rows], curves.values[rows])
    known.to_parquet(folder / "known.parquet", index=False)
    (folder / "settings.json").write_text(json.dumps(chosen))


def raced(python: Path, name: str, folder: Path) -> dict[str, Run]:
    """Let a library fit what is in a folder, in a process of its own.

    Raises ValueError when it fails.
    """
    with (folder / "race.log").open("w") as file:
        command = [python, HERE / f"{name}_race.py", folder]
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise ValueError(f"expected fits of {name}, got none: see {file.name}")
    costs = json.loads((folder / "costs.json").read_text())
    log.info("%s: %s", name, costs)
    return {net: Run(**cost) for net, cost in costs.items()}


def compared(net: str, runs: Mapping[tuple[str, str], Sequence[Run]]) -> Iterator[Measurement]:
    """Lines of a net: medians over its runs here, and those of each library beside them."""
    ours = runs["ltvnet", net]
    seconds = median(ours, "seconds")
    size, seen = ours[0].parameters, ours[0].windows
    yield Measurement(f"{net} ({size:,} parameters, {seen:,} windows), whole fit", seconds, "s")
    yield Measurement(f"{net}, training of the net alone", median(ours, "own"), "s")
    yield Measurement(f"{net}, of the whole fit", seen / seconds, "windows/s")
    for name in LIBRARIES:
        theirs = runs[name, net]
        size, speed = theirs[0].parameters, theirs[0].windows / median(theirs, "seconds")
        yield Measurement(f"{net} in {name} ({size:,} parameters)", speed, "windows/s")
        times = seen / seconds / speed
        yield Measurement(f"{net}, faster than {name}", times, "x", 5, is_minimum=True)
        alone = seen / median(ours, "own") / speed
        yield Measurement(f"{net}, the net alone, faster than {name}", alone, "x")


def median(runs: Sequence[Run], name: str) -> float:
    """Of one figure over runs."""
    return float(np.median([getattr(run, name) for run in runs]))
