"""predict.py on up to a million cohorts, beside the least that any prediction needs: what=predict.

Shapes: N cohorts.
"""

import json
import logging
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from hydra import compose
from hydra.utils import instantiate
from omegaconf import DictConfig
from targets import Measurement, log_log_slope, run_process

from ltvnet.data.arrays import Ints
from ltvnet.data.cohort_tables import key_columns
from ltvnet.data.curves import AGES, Curves

log = logging.getLogger("benchmark")

HERE = Path(__file__).resolve().parent
BARE = ("read", "net")
"""Ways of bare_prediction.py."""


@dataclass(frozen=True)
class Cost:
    """Seconds from reading to the last file, and the most memory the process held, in GiB."""

    seconds: float
    gib: float


def lines(config: DictConfig) -> list[Measurement]:
    """Cohorts a second of each net, memory, and how both grow.

    `config.predict`: `overrides` of the training data, `nets` and their targets (cohorts a
    second), `cohorts` the sizes, of which the last is measured for all, the `ages` asked for, the
    target of the table of every `wide` day, `gib` that a process may hold, and `repeats`, of which
    medians count.
    """
    chosen, out = config.predict, Path(config.out).resolve()
    curves = portfolio(chosen)
    bundles = {net: trained(chosen, out, net) for net in chosen.nets}
    sizes = sorted(chosen.cohorts)
    tables = {count: cohorts(curves, out, count) for count in sizes}
    first, whole = next(iter(bundles)), tables[sizes[-1]]
    bare: dict[str, list[float]] = {way: [] for way in BARE}
    said: dict[str, list[Cost]] = {net: [] for net in bundles}
    for _ in range(chosen.repeats):
        for way, seconds in bare.items():
            seconds.append(by_hand(way, whole))
        for net, costs in said.items():
            costs.append(predicted(bundles[net], whole, out, tables_of(chosen)))
        last = ", ".join(f"{net} {costs[-1].seconds:.1f} s" for net, costs in said.items())
        log.info("%s cohorts: %s", f"{sizes[-1]:,}", last)
    grown = [predicted(bundles[first], tables[n], out, tables_of(chosen)) for n in sizes[:-1]]
    wide = {
        kind: predicted(bundles[first], tables[sizes[0]], out, [f"wide={kind}", "ages=[360]"])
        for kind in ("parquet", "csv")
    }
    for table in tables.values():
        table.unlink()
    costs = {net: pooled(each) for net, each in said.items()}
    told = [*rates(chosen, sizes[-1], costs), *beside(sizes[-1], bare)]
    return [*told, *growth(first, sizes, [*grown, costs[first]]), *days(chosen, sizes[0], wide)]


def portfolio(chosen: DictConfig) -> Curves:
    """Cohorts with something left to forecast, as the nets are trained on."""
    source = instantiate(compose("train", list(chosen.overrides)).data)
    curves: Curves = source.history().as_of(source.origin)
    age = curves.observed_age
    return curves.take((age >= 0) & (age < AGES - 1))


def trained(chosen: DictConfig, out: Path, net: str) -> Path:
    """The bundle of a net, trained unless it is there."""
    folder = out / net
    if not (folder / "bundle" / "manifest.json").exists():
        script = [sys.executable, str(HERE.parent / "train.py")]
        run_process([*script, f"model={net}", *chosen.overrides, f"out={folder}"])
    return folder / "bundle"


def cohorts(curves: Curves, out: Path, count: int) -> Path:
    """A Parquet file of so many cohorts: the same again and again, told apart by an ad set."""
    path = out / f"cohorts_{str(curves.origin).replace('-', '_')}_{count}.parquet"
    rng, writer = np.random.default_rng(0), None
    for first in range(0, count, 50_000):
        number = np.arange(first, min(first + 50_000, count))
        table = piece(curves, number, rng.lognormal(0.0, 0.3, (2, len(number))))
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
    return path


def piece(curves: Curves, number: Ints, scale: np.ndarray) -> pa.Table:
    """Cohorts of these numbers, users and revenue multiplied by `scale` (2, N)."""
    row = number % len(curves)
    columns = {name: cells[row] for name, cells in key_columns(curves).items()}
    columns["Users"] = np.ceil(columns["Users"] * scale[0])
    columns["AdSet"] = np.char.add("ad", (number // len(curves)).astype(str)).astype(object)
    values = (curves.values[row] * scale[1][:, None]).T
    columns |= {f"day_{age}": cells for age, cells in enumerate(values)}
    return pa.table({name: pa.array(cells, from_pandas=True) for name, cells in columns.items()})


def tables_of(chosen: DictConfig) -> list[str]:
    """The words of predict.py for the long table alone."""
    return ["wide=null", f"ages=[{','.join(map(str, chosen.ages))}]"]


def predicted(bundle: Path, table: Path, out: Path, words: Sequence[str]) -> Cost:
    """What predict.py took, but for its start, as it says itself."""
    folder = out / "predicted"
    script = [sys.executable, str(HERE.parent / "predict.py")]
    text, gib = run_process(
        [*script, f"bundle={bundle}", f"data.path={table}", f"out={folder}", *words]
    )
    shutil.rmtree(folder)
    found = re.search(r"cohorts in ([0-9.]+) s", text)
    assert found is not None, text
    return Cost(float(found[1]), gib)


def by_hand(way: str, table: Path) -> float:
    """Seconds of a way of bare_prediction.py."""
    text, _ = run_process([sys.executable, str(HERE / "bare_prediction.py"), way, str(table)])
    return float(json.loads(text))


def pooled(costs: Sequence[Cost]) -> Cost:
    """The median of seconds, the most of memory."""
    return Cost(median(cost.seconds for cost in costs), max(cost.gib for cost in costs))


def rates(chosen: DictConfig, count: int, costs: dict[str, Cost]) -> list[Measurement]:
    """Cohorts a second of each net, and the memory of the largest."""
    size = f"{count:,} cohorts at {len(chosen.ages)} ages"
    told = [
        Measurement(
            f"predict.py, {net}, {size}",
            count / cost.seconds,
            "a second",
            chosen.nets[net],
            is_minimum=True,
        )
        for net, cost in costs.items()
    ]
    most = max(cost.gib for cost in costs.values())
    return [*told, Measurement("predict.py, peak memory", most, "GiB", chosen.gib)]


def beside(count: int, bare: dict[str, list[float]]) -> list[Measurement]:
    """Cohorts a second of the bare ways."""
    names = {"read": "reading alone", "net": "reading, a small net, writing six numbers"}
    return [Measurement(names[way], count / median(each), "a second") for way, each in bare.items()]


def growth(net: str, sizes: Sequence[int], costs: Sequence[Cost]) -> list[Measurement]:
    """How seconds and memory of a net grow."""
    if len(sizes) < 2:
        return []
    name = f"predict.py, {net}, {sizes[0]:,} to {sizes[-1]:,} cohorts"
    return [
        Measurement(
            f"{name}: slope of seconds (log-log)", log_log_slope(sizes, [c.seconds for c in costs])
        ),
        Measurement(f"{name}: memory, last over first", costs[-1].gib / costs[0].gib),
    ]


def days(chosen: DictConfig, count: int, wide: dict[str, Cost]) -> list[Measurement]:
    """Cohorts a second of the tables of every day, raw and final."""
    targets = {"parquet": float(chosen.wide)}
    return [
        Measurement(
            f"predict.py, both tables of every day as {kind}, {count:,} cohorts",
            count / cost.seconds,
            "a second",
            targets.get(kind),
            is_minimum=True,
        )
        for kind, cost in wide.items()
    ]
