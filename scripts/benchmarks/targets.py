"""Measurements beside their targets, the machine they were taken on, and processes to measure."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np

from ltvnet.reports.markdown import markdown_table

LIBRARIES = ("torch", "numpy", "pandas", "pyarrow", "duckdb", "pytorch-lightning")
"""Libraries whose versions are told with the machine."""


@dataclass(frozen=True)
class Measurement:
    """A figure, its unit ("" of a ratio) and its target.

    The target is the least the figure may be where `is_minimum`, or else the most. Without a
    value a measurement is a note; without a target it stands beside others.
    """

    what: str
    value: float | None
    unit: str = ""
    target: float | None = None
    is_minimum: bool = False

    @property
    def meets_target(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.value is None or self.target is None:
            return None
        return self.value >= self.target if self.is_minimum else self.value <= self.target

    def cells(self) -> list[str]:
        """Return the measurement as cells of a table: what, measured, target, met."""
        measured = ""
        if self.value is not None:
            measured = f"{three_digits(self.value)} {self.unit}".strip()
        target = ""
        if self.target is not None:
            sign = "≥" if self.is_minimum else "≤"
            target = f"{sign} {three_digits(self.target)}"
        answer = {True: "yes", False: "NO", None: ""}[self.meets_target]
        return [self.what, measured, target, answer]


def three_digits(value: float) -> str:
    """Return a figure with three digits, or all of those before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def measurement_table(measurements: Sequence[Measurement]) -> str:
    """Return the machine, and a Markdown table of measurements below it."""
    rows = [measurement.cells() for measurement in measurements]
    table = markdown_table(("what", "measured", "target", "met"), rows)
    return f"{describe_machine()}\n\n{table}"


def describe_machine() -> str:
    """Return processor, cores, threads asked for, and versions."""
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{processor_name()}, {cores} cores, OMP_NUM_THREADS {threads}, "
        f"Python {platform.python_version()}, {versions}"
    )


def processor_name() -> str:
    """Return the name of the processor, as far as the system tells it."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


_WATCH = """
import json, os, subprocess, sys
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_maxrss]))
"""
"""A process that starts another and tells how it ended; the peak of memory of one that is started
includes that of who started it, which is small here."""


def run_process(command: Sequence[str]) -> tuple[str, float]:
    """Run a process; return what it printed, and the most memory it held, in GiB.

    Raises ValueError when it fails.
    """
    watched_command = [sys.executable, "-S", "-c", _WATCH, *command]
    text = subprocess.run(watched_command, stdout=subprocess.PIPE, text=True, check=True).stdout
    *output_lines, last_line = text.splitlines()
    code, peak_memory = json.loads(last_line)
    if code:
        raise ValueError(f"expected {command[1]} to end well, got {code}")

    bytes_per_unit = 1 if sys.platform == "darwin" else 1024
    return "\n".join(output_lines), peak_memory * bytes_per_unit / 2**30


@dataclass(frozen=True)
class ProcessCost:
    """Seconds of a process, and the most memory it held, in GiB."""

    seconds: float
    gib: float


def pool_costs(costs: Sequence[ProcessCost]) -> ProcessCost:
    """Return the median of seconds, the most of memory."""
    seconds = [cost.seconds for cost in costs]
    return ProcessCost(median(seconds), max(cost.gib for cost in costs))


def run_logged(command: Sequence[str | Path], log_file: Path) -> bool:
    """Run a process whose output goes to a file; return whether it ended well."""
    with log_file.open("w") as file:
        ended = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
    return ended.returncode == 0


def log_log_slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return how cost grows: the least-squares slope of log seconds over log size, 1 if linear.

    Raises ValueError for fewer than two sizes.
    """
    if len(sizes) < 2 or len(sizes) != len(seconds):
        raise ValueError(f"expected seconds of two sizes or more, got {sizes} and {seconds}")
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
