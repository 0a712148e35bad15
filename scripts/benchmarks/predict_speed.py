"""predict.py on up to a million cohorts, beside the least that any prediction needs: what=predict.

Shapes: N cohorts.
"""

import json
import logging
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from hydra import compose
from hydra.utils import instantiate
from omegaconf import DictConfig
from targets import Measurement, ProcessCost, log_log_slope, pool_costs, run_process

from ltvnet.data.arrays import Ints
from ltvnet.data.cohort_tables import key_columns
from ltvnet.data.curves import AGES, Curves

log = logging.getLogger("benchmark")

HERE = Path(__file__).resolve().parent

BARE_WAYS = {"read": "reading alone", "net": "reading, a small net, writing six numbers"}
"""Ways of bare_prediction.py, and what each does."""

ROWS_PER_PIECE = 50_000
"""Cohorts that are written at a time."""


def measurements(config: DictConfig) -> list[Measurement]:
    """Measure cohorts a second of each net, memory, and how both grow.

    `config.predict`: `overrides` of the training data, `nets` and their targets (cohorts a
    second), `cohorts` the sizes, of which the last is measured for all, the `ages` asked for, the
    target of the table of every `wide` day, `gib` that a process may hold, and `repeats`, of which
    medians count.
    """
    settings = config.predict
    out = Path(config.out).resolve()
    curves = forecastable_cohorts(settings)
    bundles = {net: train_bundle(settings, out, net) for net in settings.nets}
    sizes = sorted(settings.cohorts)
    tables = {count: write_cohort_table(curves, out, count) for count in sizes}
    first_net = next(iter(bundles))
    largest = sizes[-1]

    bare_seconds, net_costs = _measure_in_turn(settings, out, bundles, tables[largest])
    long_table = long_table_overrides(settings)
    growth_costs = [
        cost_of_predict(bundles[first_net], tables[count], out, long_table) for count in sizes[:-1]
    ]
    wide_costs = {}
    for kind in ("parquet", "csv"):
        overrides = [f"wide={kind}", "ages=[360]"]
        wide_costs[kind] = cost_of_predict(bundles[first_net], tables[sizes[0]], out, overrides)
    for table in tables.values():
        table.unlink()

    costs = {net: pool_costs(costs_of_net) for net, costs_of_net in net_costs.items()}
    return [
        *net_rates(settings, largest, costs),
        *bare_rates(largest, bare_seconds),
        *measure_growth(first_net, sizes, [*growth_costs, costs[first_net]]),
        *wide_rates(settings, sizes[0], wide_costs),
    ]


def _measure_in_turn(
    settings: DictConfig, out: Path, bundles: Mapping[str, Path], table: Path
) -> tuple[dict[str, list[float]], dict[str, list[ProcessCost]]]:
    """Return seconds of the bare ways and costs of the nets on one table, measured in turn."""
    bare_seconds: dict[str, list[float]] = {way: [] for way in BARE_WAYS}
    net_costs: dict[str, list[ProcessCost]] = {net: [] for net in bundles}
    for _ in range(settings.repeats):
        for way, seconds in bare_seconds.items():
            seconds.append(seconds_by_hand(way, table))
        for net, costs in net_costs.items():
            overrides = long_table_overrides(settings)
            costs.append(cost_of_predict(bundles[net], table, out, overrides))
        texts = [f"{net} {costs[-1].seconds:.1f} s" for net, costs in net_costs.items()]
        log.info("%s cohorts: %s", f"{max(settings.cohorts):,}", ", ".join(texts))
    return bare_seconds, net_costs


def forecastable_cohorts(settings: DictConfig) -> Curves:
    """Return cohorts with something left to forecast, as the nets are trained on."""
    source = instantiate(compose("train", list(settings.overrides)).data)
    curves: Curves = source.history().as_of(source.origin)
    age = curves.observed_age
    return curves.take((age >= 0) & (age < AGES - 1))


def train_bundle(settings: DictConfig, out: Path, net: str) -> Path:
    """Return the bundle of a net, trained unless it is there."""
    folder = out / net
    if not (folder / "bundle" / "manifest.json").exists():
        script = [sys.executable, str(HERE.parent / "train.py")]
        run_process([*script, f"model={net}", *settings.overrides, f"out={folder}"])
    return folder / "bundle"


def write_cohort_table(curves: Curves, out: Path, count: int) -> Path:
    """Write so many cohorts as Parquet: the same again and again, told apart by an ad set."""
    path = out / f"cohorts_{str(curves.origin).replace('-', '_')}_{count}.parquet"
    rng = np.random.default_rng(0)
    writer = None
    for first in range(0, count, ROWS_PER_PIECE):
        numbers = np.arange(first, min(first + ROWS_PER_PIECE, count))
        scale = rng.lognormal(0.0, 0.3, (2, len(numbers)))
        table = cohort_piece(curves, numbers, scale)
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
    return path


def cohort_piece(curves: Curves, numbers: Ints, scale: np.ndarray) -> pa.Table:
    """Return cohorts of these numbers (N,), users and revenue multiplied by `scale` (2, N)."""
    rows = numbers % len(curves)
    columns = {name: cells[rows] for name, cells in key_columns(curves).items()}
    columns["Users"] = np.ceil(columns["Users"] * scale[0])
    rounds = (numbers // len(curves)).astype(str)
    columns["AdSet"] = np.char.add("ad", rounds).astype(object)

    values_by_age = (curves.values[rows] * scale[1][:, None]).T
    columns |= {f"day_{age}": values for age, values in enumerate(values_by_age)}
    return pa.table({name: pa.array(cells, from_pandas=True) for name, cells in columns.items()})


def long_table_overrides(settings: DictConfig) -> list[str]:
    """Return the overrides of predict.py for the long table alone."""
    return ["wide=null", f"ages=[{','.join(map(str, settings.ages))}]"]


def cost_of_predict(bundle: Path, table: Path, out: Path, overrides: Sequence[str]) -> ProcessCost:
    """Return the cost of predict.py, but for its start, as it says itself."""
    folder = out / "predicted"
    script = [sys.executable, str(HERE.parent / "predict.py")]
    paths = [f"bundle={bundle}", f"data.path={table}", f"out={folder}"]
    text, gib = run_process([*script, *paths, *overrides])
    shutil.rmtree(folder)
    match = re.search(r"cohorts in ([0-9.]+) s", text)
    assert match is not None, text
    return ProcessCost(float(match[1]), gib)


def seconds_by_hand(way: str, table: Path) -> float:
    """Return seconds of a way of bare_prediction.py."""
    text, _ = run_process([sys.executable, str(HERE / "bare_prediction.py"), way, str(table)])
    return float(json.loads(text))


def net_rates(
    settings: DictConfig, count: int, costs: Mapping[str, ProcessCost]
) -> list[Measurement]:
    """Return cohorts a second of each net, and the memory of the largest."""
    subject = f"{count:,} cohorts at {len(settings.ages)} ages"
    rates = []
    for net, cost in costs.items():
        what = f"predict.py, {net}, {subject}"
        rate = count / cost.seconds
        rates.append(Measurement(what, rate, "a second", settings.nets[net], is_minimum=True))
    most_memory = max(cost.gib for cost in costs.values())
    return [*rates, Measurement("predict.py, peak memory", most_memory, "GiB", settings.gib)]


def bare_rates(count: int, bare_seconds: Mapping[str, Sequence[float]]) -> list[Measurement]:
    """Return cohorts a second of the bare ways."""
    return [
        Measurement(BARE_WAYS[way], count / median(seconds), "a second")
        for way, seconds in bare_seconds.items()
    ]


def measure_growth(
    net: str, sizes: Sequence[int], costs: Sequence[ProcessCost]
) -> list[Measurement]:
    """Return how seconds and memory of a net grow; empty for a single size."""
    if len(sizes) < 2:
        return []
    subject = f"predict.py, {net}, {sizes[0]:,} to {sizes[-1]:,} cohorts"
    slope = log_log_slope(sizes, [cost.seconds for cost in costs])
    return [
        Measurement(f"{subject}: slope of seconds (log-log)", slope),
        Measurement(f"{subject}: memory, last over first", costs[-1].gib / costs[0].gib),
    ]


def wide_rates(
    settings: DictConfig, count: int, wide_costs: Mapping[str, ProcessCost]
) -> list[Measurement]:
    """Return cohorts a second of the tables of every day, raw and final, by kind of file."""
    targets = {"parquet": float(settings.wide)}
    rates = []
    for kind, cost in wide_costs.items():
        what = f"predict.py, both tables of every day as {kind}, {count:,} cohorts"
        rate = count / cost.seconds
        rates.append(Measurement(what, rate, "a second", targets.get(kind), is_minimum=True))
    return rates
