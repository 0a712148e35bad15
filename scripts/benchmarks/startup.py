"""How long a process takes to begin: what=startup."""

import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from hydra import compose
from hydra.utils import instantiate
from launch import model_spec, run_context
from omegaconf import DictConfig
from targets import Measurement

log = logging.getLogger("benchmark")

SCRIPTS = Path(__file__).resolve().parent.parent

NOTHING, PACKAGE, TORCH, PREDICT = "nothing", "import ltvnet", "import torch", "predict.py"


def lines(config: DictConfig) -> list[Measurement]:
    """Seconds of whole processes: each is started `repeats` times, in turn; medians.

    `config.startup`: `overrides` of configs/train.yaml for the bundle and its data, of which the
    `cohorts` that began last are forecast.
    """
    chosen, folder = config.startup, Path(config.out) / "startup"
    words = prepared(chosen, folder)
    seconds = medians(commands(words), chosen.repeats)
    return told(seconds, chosen.cohorts)


def prepared(chosen: DictConfig, folder: Path) -> list[str]:
    """Train a bundle, write a small table, and tell predict.py of both."""
    from ltvnet.data.cohort_tables import write_cohorts
    from ltvnet.forecasting.registry import create_forecaster
    from ltvnet.prediction import bundle

    job = compose("train", list(chosen.overrides))
    job.out = str(folder)
    spec = model_spec(job)
    source = instantiate(job.data)
    curves = source.history().as_of(source.origin)
    forecaster = create_forecaster(spec, run_context(job, None)).fit(curves)
    bundle.save(folder / "bundle", spec.name, forecaster, curves, {})
    table = folder / f"LTV_{str(source.origin).replace('-', '_')}.csv"
    youngest = np.argsort(curves.start, kind="stable")[-chosen.cohorts :]
    write_cohorts(curves.take(np.sort(youngest)), table)
    return [f"bundle='{folder / 'bundle'}'", f"data.path='{table}'", f"out='{folder / 'out'}'"]


def commands(words: Sequence[str]) -> dict[str, list[str]]:
    """The processes that are timed, by name; predict.py is given `words`."""
    alone = {NOTHING: "pass", PACKAGE: "import ltvnet", TORCH: "import torch"}
    made = {name: [sys.executable, "-c", code] for name, code in alone.items()}
    return {**made, PREDICT: [sys.executable, str(SCRIPTS / "predict.py"), *words]}


def medians(commands: Mapping[str, Sequence[str]], repeats: int) -> dict[str, float]:
    """Seconds of each process, the median of runs that take turns; one more run is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(repeats + 1):  # the first reads from disk what the later ones find in memory
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if turn:
                seconds[name].append(time.perf_counter() - began)
        log.info("start-up: run %d of %d", turn, repeats)
    return {name: statistics.median(found) for name, found in seconds.items()}


def told(seconds: Mapping[str, float], cohorts: int) -> list[Measurement]:
    """Whole processes beside their targets, and how much of predict.py is torch's own import."""
    torch = seconds[TORCH] - seconds[NOTHING]
    return [
        Measurement("the interpreter alone, whole process", seconds[NOTHING], "s"),
        Measurement("import ltvnet, whole process", seconds[PACKAGE], "s", 0.3),
        Measurement("import torch, without the interpreter", torch, "s"),
        Measurement(f"predict.py on {cohorts} cohorts, whole process", seconds[PREDICT], "s", 4.0),
        Measurement(
            "share of torch's import in it", torch / seconds[PREDICT], "", 0.5, is_minimum=True
        ),
    ]
