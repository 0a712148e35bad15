"""What was measured, beside what was aimed at and on which machine."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from ltvnet.reports.leaderboard_tables import markdown_table

LIBRARIES = ("torch", "numpy", "pandas", "pyarrow", "duckdb", "pytorch-lightning")


@dataclass(frozen=True)
class Measurement:
    """A figure, its unit ("" of a ratio), and its target: the `least` or else the most it may be.

    Without a value a line is a note; without a target a figure stands beside others.
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
        """The line as cells of a table."""
        aim = (
            ""
            if self.target is None
            else f"{'≥' if self.is_minimum else '≤'} {three_digits(self.target)}"
        )
        met = {True: "yes", False: "NO", None: ""}[self.meets_target]
        measured = "" if self.value is None else f"{three_digits(self.value)} {self.unit}".strip()
        return [self.what, measured, aim, met]


def three_digits(value: float) -> str:
    """A figure with three digits, or all of those before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def measurement_table(lines: Sequence[Measurement]) -> str:
    """The machine, and the lines as Markdown."""
    rows = markdown_table(("what", "measured", "target", "met"), [line.cells() for line in lines])
    return f"{describe_machine()}\n\n{rows}"


def describe_machine() -> str:
    """Processor, cores, threads asked for, and versions."""
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{processor()}, {cores} cores, OMP_NUM_THREADS {threads}, "
        f"Python {platform.python_version()}, {versions}"
    )


def processor() -> str:
    """The name of the processor, as far as the system tells it."""
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
    """What a process printed, and the most memory it held, in GiB.

    Raises ValueError when it fails.
    """
    words = [sys.executable, "-S", "-c", _WATCH, *command]
    text = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
    *said, last = text.splitlines()
    code, peak = json.loads(last)
    if code:
        raise ValueError(f"expected {command[1]} to end well, got {code}")
    unit = 1 if sys.platform == "darwin" else 1024
    return "\n".join(said), peak * unit / 2**30


def log_log_slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """How cost grows: the least-squares slope of log seconds over log size, 1 where it is linear.

    Raises ValueError for fewer than two sizes.
    """
    if len(sizes) < 2 or len(sizes) != len(seconds):
        raise ValueError(f"expected seconds of two sizes or more, got {sizes} and {seconds}")
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
