"""prepare.py beside hand-written SQL and pandas on the same generated purchases: what=prepare."""

import json
import logging
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig
from targets import Measurement, ProcessCost, log_log_slope, pool_costs, run_process

log = logging.getLogger("benchmark")

HERE = Path(__file__).resolve().parent
WAYS = ("scan", "query", "steps", "prepare")
"""Interleaved; prepare is the whole process, the others the statements alone."""


def measurements(config: DictConfig) -> list[Measurement]:
    """Measure seconds at the largest size, ratios of them, memory and growth.

    `config.prepare`: numbers of `lines`, of which the last is measured in full, `customer_lines`
    a customer, `pandas` lines for pandas, attributes `by`, DuckDB's `threads` and `memory`, and
    `repeats`, of which medians count.
    """
    settings = config.prepare
    out = Path(config.out).resolve()
    if list(settings.lines) != sorted(set(settings.lines)) or len(settings.lines) < 2:
        raise ValueError(f"expected prepare.lines to grow, got {list(settings.lines)}")
    costs = {count: cost_by_way(settings, out, count) for count in settings.lines}

    table = write_purchases(settings, out, settings.pandas)
    pandas_cost = cost_of(by_hand_command(settings, "pandas", table, settings.by))
    table.unlink()
    log.info("pandas, %s lines: %.1f s", f"{settings.pandas:,}", pandas_cost.seconds)
    return compare_costs(costs, pandas_cost, settings.pandas)


def cost_by_way(settings: DictConfig, out: Path, count: int) -> dict[str, ProcessCost]:
    """Return the median cost of each of WAYS on so many purchases, removed thereafter."""
    table = write_purchases(settings, out, count)
    costs: dict[str, list[ProcessCost]] = {way: [] for way in WAYS}
    for _ in range(settings.repeats):
        for way in WAYS:
            if way == "prepare":
                command = prepare_command(settings, table)
            else:
                command = by_hand_command(settings, way, table, settings.by)
            costs[way].append(cost_of(command))
            shutil.rmtree(out / "prepared", ignore_errors=True)
        texts = [f"{way} {way_costs[-1].seconds:.1f} s" for way, way_costs in costs.items()]
        log.info("%s lines: %s", f"{count:,}", ", ".join(texts))
    table.unlink()
    return {way: pool_costs(way_costs) for way, way_costs in costs.items()}


def write_purchases(settings: DictConfig, out: Path, count: int) -> Path:
    """Write a Parquet file of so many generated purchases, made anew."""
    out.mkdir(parents=True, exist_ok=True)
    table = out / f"purchases_{count}.parquet"
    sizes = [str(count), str(settings.customer_lines)]
    cost_of(by_hand_command(settings, "generate", table, sizes))
    return table


def by_hand_command(
    settings: DictConfig, way: str, table: Path, arguments: Sequence[str]
) -> list[str]:
    """Return the command of cohort_query.py."""
    script = [sys.executable, str(HERE / "cohort_query.py")]
    engine = [str(settings.threads), settings.memory]
    return [*script, way, str(table), *engine, *arguments]


def prepare_command(settings: DictConfig, table: Path) -> list[str]:
    """Return the command of prepare.py, which writes and caches into a folder beside the table."""
    folder = table.parent / "prepared"
    return [
        sys.executable,
        str(HERE.parent / "prepare.py"),
        f"data.path={table}",
        f"data.by=[{','.join(settings.by)}]",
        f"data.cache={folder}/cache",
        f"data.engine.threads={settings.threads}",
        f"data.engine.memory_limit={settings.memory}",
        f"out={folder}",
    ]


def cost_of(command: Sequence[str]) -> ProcessCost:
    """Return the cost of a process: the seconds that it prints, or all of those of prepare.py."""
    start = time.perf_counter()
    output, gib = run_process(command)
    seconds = time.perf_counter() - start
    if "prepare.py" not in command[1]:
        seconds = float(json.loads(output.splitlines()[-1]))
    return ProcessCost(seconds, gib)


def compare_costs(
    costs: Mapping[int, Mapping[str, ProcessCost]], pandas_cost: ProcessCost, pandas_lines: int
) -> list[Measurement]:
    """Compare the costs of WAYS by number of lines, and of pandas on so many lines."""
    count = max(costs)
    largest = costs[count]
    ours = largest["prepare"]
    size = f"{count / 1e6:g} M lines"
    pandas_size = f"{pandas_lines / 1e6:g} M lines"
    pandas_seconds_at_size = pandas_cost.seconds * count / pandas_lines

    our_costs = [by_way["prepare"] for by_way in costs.values()]
    seconds_slope = log_log_slope(list(costs), [cost.seconds for cost in our_costs])
    memory_slope = log_log_slope(list(costs), [cost.gib for cost in our_costs])
    over_query = ours.seconds / largest["query"].seconds
    over_steps = ours.seconds / largest["steps"].seconds
    over_scan = ours.seconds / largest["scan"].seconds
    return [
        Measurement(f"prepare.py, whole process, {size}", ours.seconds, "s"),
        Measurement("bare scan of the columns", largest["scan"].seconds, "s"),
        Measurement("shortest query, no standard errors", largest["query"].seconds, "s"),
        Measurement("the same in three statements", largest["steps"].seconds, "s"),
        Measurement(f"pandas, {pandas_size}", pandas_cost.seconds, "s"),
        Measurement("prepare.py / shortest query", over_query, target=2.0),
        Measurement("prepare.py / three statements", over_steps),
        Measurement("prepare.py / bare scan", over_scan),
        Measurement("pandas at its rate / prepare.py", pandas_seconds_at_size / ours.seconds),
        Measurement("prepare.py, peak memory", ours.gib, "GiB", 8.0),
        Measurement(f"pandas, peak memory, {pandas_size}", pandas_cost.gib, "GiB"),
        Measurement("prepare.py, growth of seconds with lines (log-log slope)", seconds_slope),
        Measurement("prepare.py, growth of memory with lines (log-log slope)", memory_slope),
    ]
