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

NOTHING = "nothing"
PACKAGE = "import ltvnet"
TORCH = "import torch"
PREDICT = "predict.py"


def measurements(config: DictConfig) -> list[Measurement]:
    """Measure seconds of whole processes: each is started `repeats` times, in turn; medians.

    `config.startup`: `overrides` of configs/train.yaml for the bundle and its data, of which the
    `cohorts` that began last are forecast.
    """
    overrides = prepare_prediction(config.startup, Path(config.out) / "startup")
    seconds = median_seconds(timed_commands(overrides), config.startup.repeats)
    return compare_seconds(seconds, config.startup.cohorts)


def prepare_prediction(settings: DictConfig, folder: Path) -> list[str]:
    """Train a bundle and write a small table; return the overrides that name them to predict.py."""
    from ltvnet.data.cohort_tables import write_cohorts
    from ltvnet.forecasting.registry import create_forecaster
    from ltvnet.prediction import bundle

    job = compose("train", list(settings.overrides))
    job.out = str(folder)
    spec = model_spec(job)
    source = instantiate(job.data)
    curves = source.history().as_of(source.origin)
    forecaster = create_forecaster(spec, run_context(job, None)).fit(curves)
    bundle.save(folder / "bundle", spec.name, forecaster, curves, {})

    table = folder / f"LTV_{str(source.origin).replace('-', '_')}.csv"
    youngest = np.argsort(curves.start, kind="stable")[-settings.cohorts :]
    write_cohorts(curves.take(np.sort(youngest)), table)
    return [f"bundle='{folder / 'bundle'}'", f"data.path='{table}'", f"out='{folder / 'out'}'"]


def timed_commands(overrides: Sequence[str]) -> dict[str, list[str]]:
    """Return the processes that are timed, by name; predict.py is given `overrides`."""
    return {
        NOTHING: [sys.executable, "-c", "pass"],
        PACKAGE: [sys.executable, "-c", "import ltvnet"],
        TORCH: [sys.executable, "-c", "import torch"],
        PREDICT: [sys.executable, str(SCRIPTS / "predict.py"), *overrides],
    }


def median_seconds(commands: Mapping[str, Sequence[str]], repeats: int) -> dict[str, float]:
    """Return median seconds of processes that take turns; one more run is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for run in range(repeats + 1):
        is_counted = run > 0  # the first reads from disk what the later ones find in memory
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if is_counted:
                seconds[name].append(time.perf_counter() - start)
        log.info("start-up: run %d of %d", run, repeats)
    return {name: statistics.median(runs) for name, runs in seconds.items()}


def compare_seconds(seconds: Mapping[str, float], cohorts: int) -> list[Measurement]:
    """Put whole processes beside their targets, and torch's own import beside predict.py."""
    torch_import = seconds[TORCH] - seconds[NOTHING]
    predict = seconds[PREDICT]
    return [
        Measurement("the interpreter alone, whole process", seconds[NOTHING], "s"),
        Measurement("import ltvnet, whole process", seconds[PACKAGE], "s", 0.3),
        Measurement("import torch, without the interpreter", torch_import, "s"),
        Measurement(f"predict.py on {cohorts} cohorts, whole process", predict, "s", 4.0),
        Measurement(
            "share of torch's import in it", torch_import / predict, "", 0.5, is_minimum=True
        ),
    ]
