"""The figures of the README: python scripts/benchmarks/run.py what=accuracy."""

import logging
import sys
from pathlib import Path

import pandas as pd
from hydra import compose
from omegaconf import DictConfig, OmegaConf

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from backtest import replayed  # noqa: E402 the scripts' folder must be on the path
from launch import launch  # noqa: E402

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
    for data, seeds in config.accuracy.data.items():
        for seed in seeds:
            out = Path(config.out) / f"{data}_{seed}"
            chosen = [f"data={data}", f"seed={seed}", f"out={out}"]
            job = compose("backtest", [*chosen, *config.accuracy.overrides])
            job.models = config.accuracy.models
            OmegaConf.resolve(job)
            found = replayed(job)
            found.write(out)
            for stage in ("raw", "corrected", "final"):
                scored = [scores.table(r, job.ages, stage) for r in found.records]
                tables.append(pd.concat(scored).assign(data=data, seed=seed, stage=stage))
    table = pd.concat(tables)
    table.to_csv(Path(config.out) / "scores.csv", index=False)
    log.info(summary(table))


def summary(table: pd.DataFrame) -> str:
    """WAPE and bias of every model at the ages and horizons of the score, as Markdown."""
    from ltvnet import scores

    ages = list(map(str, scores.SCORED_AGES))
    chosen = table[table.observed_age.isin(ages) & table.horizon.isin(scores.SCORED_HORIZONS)]
    final = chosen[chosen.stage == "final"]
    by_seed = final.groupby(["data", "model", "seed"])[["wape", "wape_pattern", "bias"]].mean()
    mean, spread = (getattr(by_seed.groupby(["data", "model"]), f)() for f in ("mean", "std"))
    lines = ["| data | model | WAPE | spread over seeds | bias |", "|---|---|---|---|---|"]
    for (data, model), row in mean.iterrows():
        wide = spread.loc[(data, model), "wape"]
        told = "" if pd.isna(wide) else f"{wide:.1%}"
        lines.append(f"| {data} | {model} | {row.wape:.1%} | {told} | {row.bias:+.1%} |")
    return "\n".join(lines)


BENCHMARKS = {"accuracy": accuracy}

if __name__ == "__main__":
    launch(main, "benchmark")
