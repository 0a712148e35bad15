"""The figures of the README: python scripts/benchmarks/run.py what=leaderboard, or what=all."""

import logging
import sys
from importlib import import_module
from pathlib import Path

from omegaconf import DictConfig

sys.path.insert(1, str(Path(__file__).resolve().parent.parent))  # scripts; this folder comes first
from launch import launch  # noqa: E402 the scripts' folder must be on the path
from targets import Measurement, measurement_table  # noqa: E402

log = logging.getLogger("benchmark")

ALL = "all"
"""What to ask for to get every benchmark of speed in one table."""

ACCURACY = {
    "leaderboard": "leaderboard_job",
    "proof": "proof_job",
    "claim": "claim",
    "ett": "ett",
    "peers": "peers",
}
"""Benchmarks of accuracy: what to ask for, and the file whose function `report` gives its text."""

SPEED = {
    "train": "fit_speed",
    "backtest": "fold_cost",
    "gpu": "gpu_speed",
    "startup": "startup",
    "keras": "keras_job",
    "race": "race",
    "predict": "predict_speed",
    "prepare": "prepare_speed",
}
"""Benchmarks of speed: what to ask for, and the file whose function `measurements` takes them."""


def main(config: DictConfig) -> None:
    """Run the benchmark that is asked for, and write its text."""
    choices = (*ACCURACY, *SPEED, ALL)
    if config.what not in choices:
        raise ValueError(f"expected what out of {', '.join(choices)}, got {config.what!r}")
    text = run_benchmark(config.what, config)
    Path(config.out, f"{config.what}.md").write_text(text + "\n", encoding="utf-8")
    log.info("%s\nwrote %s: %s.md", text, config.out, config.what)


def run_benchmark(what: str, config: DictConfig) -> str:
    """Run a benchmark, or all of speed, and return its text.

    All of speed are written after each, so that what is measured is not lost.
    """
    if what in ACCURACY:
        text: str = import_module(ACCURACY[what]).report(config)
        return text
    if what in SPEED:
        return measurement_table(import_module(SPEED[what]).measurements(config))

    measurements: list[Measurement] = []
    for module_name in SPEED.values():
        measurements += import_module(module_name).measurements(config)
        table = measurement_table(measurements)
        Path(config.out, f"{ALL}.md").write_text(table + "\n", encoding="utf-8")
    return measurement_table(measurements)


if __name__ == "__main__":
    launch(main, "benchmark")
