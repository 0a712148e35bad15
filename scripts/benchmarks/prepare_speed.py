"""prepare.py beside hand-written SQL and pandas on the same generated purchases: what=prepare."""

import json
import logging
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from omegaconf import DictConfig
from targets import Measurement, log_log_slope, run_process

log = logging.getLogger("benchmark")

HERE = Path(__file__).resolve().parent
WAYS = ("scan", "query", "steps", "prepare")
"""Interleaved; prepare is the whole process, the others the statements alone."""


@dataclass(frozen=True)
class Cost:
    """Seconds of a process, and the most memory it held, in GiB."""

    seconds: float
    gib: float
    output: str = ""


def lines(config: DictConfig) -> list[Measurement]:
    """Seconds at the largest size, ratios of them, memory and growth.

    `config.prepare`: numbers of `lines`, of which the last is measured in full, `customer_lines`
    a customer, `pandas` lines for pandas, attributes `by`, DuckDB's `threads` and `memory`, and
    `repeats`, of which medians count.
    """
    chosen, out = config.prepare, Path(config.out).resolve()
    if list(chosen.lines) != sorted(set(chosen.lines)) or len(chosen.lines) < 2:
        raise ValueError(f"expected prepare.lines to grow, got {list(chosen.lines)}")
    found = {count: measured(chosen, out, count) for count in chosen.lines}
    table = purchases(chosen, out, chosen.pandas)
    pandas = spent(by_hand(chosen, "pandas", table, chosen.by))
    table.unlink()
    log.info("pandas, %s lines: %.1f s", f"{chosen.pandas:,}", pandas.seconds)
    return told(found, pandas, chosen.pandas)


def measured(chosen: DictConfig, out: Path, count: int) -> dict[str, Cost]:
    """The median cost of each of WAYS on so many purchases, which are removed thereafter."""
    table = purchases(chosen, out, count)
    costs: dict[str, list[Cost]] = {way: [] for way in WAYS}
    for _ in range(chosen.repeats):
        for way in WAYS:
            ours = way == "prepare"
            command = prepare(chosen, table) if ours else by_hand(chosen, way, table, chosen.by)
            costs[way].append(spent(command))
            shutil.rmtree(out / "prepared", ignore_errors=True)
        last = ", ".join(f"{way} {each[-1].seconds:.1f} s" for way, each in costs.items())
        log.info("%s lines: %s", f"{count:,}", last)
    table.unlink()
    return {
        way: Cost(median(cost.seconds for cost in each), max(cost.gib for cost in each))
        for way, each in costs.items()
    }


def purchases(chosen: DictConfig, out: Path, count: int) -> Path:
    """A Parquet file of so many generated purchases, made anew."""
    out.mkdir(parents=True, exist_ok=True)
    table = out / f"purchases_{count}.parquet"
    spent(by_hand(chosen, "generate", table, [str(count), str(chosen.customer_lines)]))
    return table


def by_hand(chosen: DictConfig, way: str, table: Path, rest: Sequence[str]) -> list[str]:
    """The command of cohort_query.py."""
    engine = [str(chosen.threads), chosen.memory]
    return [sys.executable, str(HERE / "cohort_query.py"), way, str(table), *engine, *rest]


def prepare(chosen: DictConfig, table: Path) -> list[str]:
    """The command of prepare.py, which writes and caches into a folder beside the table."""
    folder = table.parent / "prepared"
    return [
        sys.executable,
        str(HERE.parent / "prepare.py"),
        f"data.path={table}",
        f"data.by=[{','.join(chosen.by)}]",
        f"data.cache={folder}/cache",
        f"data.engine.threads={chosen.threads}",
        f"data.engine.memory_limit={chosen.memory}",
        f"out={folder}",
    ]


def spent(command: Sequence[str]) -> Cost:
    """What a process took: the seconds that it prints, or else all of them."""
    begin = time.perf_counter()
    output, gib = run_process(command)
    seconds = time.perf_counter() - begin
    *_, last = ["", *output.splitlines()]
    return Cost(seconds if "prepare.py" in command[1] else float(json.loads(last)), gib, output)


def told(found: dict[int, dict[str, Cost]], pandas: Cost, pandas_lines: int) -> list[Measurement]:
    """The lines of the table."""
    count = max(found)
    costs, ours = found[count], found[count]["prepare"]
    size = f"{count / 1e6:g} M lines"
    at_rate = pandas.seconds * count / pandas_lines
    growth = log_log_slope(list(found), [each["prepare"].seconds for each in found.values()])
    memory = log_log_slope(list(found), [each["prepare"].gib for each in found.values()])
    return [
        Measurement(f"prepare.py, whole process, {size}", ours.seconds, "s"),
        Measurement("bare scan of the columns", costs["scan"].seconds, "s"),
        Measurement("shortest query, no standard errors", costs["query"].seconds, "s"),
        Measurement("the same in three statements", costs["steps"].seconds, "s"),
        Measurement(f"pandas, {pandas_lines / 1e6:g} M lines", pandas.seconds, "s"),
        Measurement(
            "prepare.py / shortest query", ours.seconds / costs["query"].seconds, target=2.0
        ),
        Measurement("prepare.py / three statements", ours.seconds / costs["steps"].seconds),
        Measurement("prepare.py / bare scan", ours.seconds / costs["scan"].seconds),
        Measurement("pandas at its rate / prepare.py", at_rate / ours.seconds),
        Measurement("prepare.py, peak memory", ours.gib, "GiB", 8.0),
        Measurement(f"pandas, peak memory, {pandas_lines / 1e6:g} M lines", pandas.gib, "GiB"),
        Measurement("prepare.py, growth of seconds with lines (log-log slope)", growth),
        Measurement("prepare.py, growth of memory with lines (log-log slope)", memory),
    ]
