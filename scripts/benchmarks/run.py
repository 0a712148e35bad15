"""The figures of the README: python scripts/benchmarks/run.py what=accuracy."""

import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from hydra import compose
from omegaconf import DictConfig, OmegaConf

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from backtest import replayed  # noqa: E402 the scripts' folder must be on the path
from launch import launch  # noqa: E402

if TYPE_CHECKING:
    from ltvnet.corrected import Walk
    from ltvnet.report import Backtest
    from ltvnet.scores import Record

log = logging.getLogger("benchmark")


def main(config: DictConfig) -> None:
    """Run the benchmark that is asked for."""
    if config.what not in BENCHMARKS:
        raise ValueError(f"expected what out of {', '.join(BENCHMARKS)}, got {config.what!r}")
    BENCHMARKS[config.what](config)


def accuracy(config: DictConfig) -> None:
    """Score models on past days of every data set and published seed: mean and spread."""
    from ltvnet import scores

    tables = []
    for (data, seed), found in replays(config):
        scored = [scores.table(record, found.ages) for record in found.records]
        tables.append(pd.concat(scored).assign(data=data, seed=seed))
    table = pd.concat(tables)
    table.to_csv(Path(config.out) / "scores.csv", index=False)
    log.info(errors(table))


def proof(config: DictConfig) -> None:
    """Whether correction and intervals hold what they promise, walking forward."""
    from ltvnet import scores

    tables, totals = [], []
    for (data, seed), found in replays(config):
        for record, walk in zip(found.records, found.walks, strict=True):
            for stage in ("raw", "corrected", "final"):
                scored = scores.table(record, found.ages, stage)
                tables.append(scored.assign(data=data, seed=seed, stage=stage))
            held = sums(walk, record)
            totals.append(held.assign(data=data, seed=seed, model=record.name))
    table, total = pd.concat(tables), pd.concat(totals)
    table.to_csv(Path(config.out) / "scores.csv", index=False)
    total.to_csv(Path(config.out) / "totals.csv", index=False)
    log.info("%s\n\n%s\n\n%s", corrections(table), coverage(table), portfolios(total))


def replays(config: DictConfig) -> Iterator[tuple[tuple[str, int], "Backtest"]]:
    """Backtests of the benchmark's models on each of its data sets and seeds, reports written."""
    chosen = config[config.what]
    for data, seeds in chosen.data.items():
        for seed in seeds:
            out = Path(config.out) / f"{data}_{seed}"
            job = compose("backtest", [f"data={data}", f"seed={seed}", *chosen.overrides])
            job.out, job.models = str(out), chosen.models
            OmegaConf.resolve(job)
            found = replayed(job)
            found.write(out)
            yield (data, seed), found


def errors(table: pd.DataFrame) -> str:
    """WAPE and bias of every model at the ages and horizons of the score, as Markdown."""
    from ltvnet import scores

    ages = list(map(str, scores.SCORED_AGES))
    chosen = table[table.observed_age.isin(ages) & table.horizon.isin(scores.SCORED_HORIZONS)]
    names = [name for name in ("wape", "bias", "wape_oracle") if name in chosen]
    by_seed = chosen.groupby(["data", "model", "seed"])[names].mean().groupby(["data", "model"])
    mean, spread = by_seed.mean(), by_seed.std()
    rows = [
        (*key, f"{row.wape:.1%}", share(spread.wape[key]), f"{row.bias:+.1%}",
         share(row.get("wape_oracle")))
        for key, row in mean.iterrows()
    ]  # fmt: skip
    return markdown(("data", "model", "WAPE", "spread over seeds", "bias", "WAPE of oracle"), rows)


def corrections(table: pd.DataFrame) -> str:
    """Bias and WAPE before and after correction, pooled over seeds, as Markdown."""
    chosen = table[table.observed_age.isin(["7", "30", "all"]) & (table.stage != "final")]
    keys = ["data", "model", "observed_age", "horizon", "stage"]
    mean = chosen.groupby(keys)[["wape", "bias"]].mean().unstack("stage")
    rows = [
        (*key[:2], key[2], f"D{key[3]}",
         *(f"{row[name, stage]:{form}}" for name, form in (("bias", "+.1%"), ("wape", ".1%"))
           for stage in ("raw", "corrected")))
        for key, row in mean.iterrows()
    ]  # fmt: skip
    head = ("data", "model", "observed", "horizon", "bias raw", "corrected", "WAPE raw")
    return markdown((*head, "corrected"), rows)


def coverage(table: pd.DataFrame) -> str:
    """Share of outcomes in the 80 % interval by horizon, with its standard error, as Markdown."""
    chosen = table[(table.observed_age == "all") & (table.stage == "final")]
    mean = chosen.groupby(["data", "model", "horizon"])[["coverage", "coverage_error"]].mean()
    rows = [
        (*key[:2], f"D{key[2]}", f"{row.coverage:.1%}", f"{row.coverage_error:.1%}")
        for key, row in mean.iterrows()
    ]
    return markdown(("data", "model", "horizon", "80 % interval held", "standard error"), rows)


def sums(walk: "Walk", record: "Record") -> pd.DataFrame:
    """For each past day and horizon, whether the interval of the sum over cohorts held."""
    import numpy as np

    from ltvnet.curves import NODES
    from ltvnet.scores import HORIZONS

    entries, rows = record.entries, []
    own = entries.natural == entries.observed
    band = entries.bands["final"]
    grown = np.maximum(band.mean, entries.pattern) - entries.value[:, None]
    for origin, stages in walk.stages.items():
        for horizon in HORIZONS:
            j = NODES.index(horizon)
            at = own & (entries.origin == origin) & record.supported[:, j]
            size = np.where(at, entries.users * grown[:, j], 0.0)
            whole, squared = np.zeros((2, len(NODES)))
            whole[j], squared[j] = size.sum(), (size**2).sum()
            half = stages.totals.spread(whole, squared)[j]
            if at.any() and np.isfinite(half):
                missed = entries.users[at] @ (record.actual[at, j] - band.mean[at, j])
                rows.append((origin, horizon, missed / size.sum(), half / size.sum()))
    return pd.DataFrame(rows, columns=["origin", "horizon", "missed", "half"])


def portfolios(total: pd.DataFrame) -> str:
    """Share of sums over all cohorts of a day that their 80 % interval held, as Markdown."""
    held = total.assign(held=total.missed.abs() <= total.half)
    rows = [
        (*key, f"{part.held.mean():.1%}", str(len(part)), str(part.seed.nunique()))
        for key, part in held.groupby(["data", "model"])
    ]
    return markdown(("data", "model", "interval of sums held", "sums", "seeds"), rows)


def share(value: float | None) -> str:
    """A percentage, empty where there is none."""
    return "" if value is None or pd.isna(value) else f"{value:.1%}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


BENCHMARKS = {"accuracy": accuracy, "proof": proof}

if __name__ == "__main__":
    launch(main, "benchmark")
