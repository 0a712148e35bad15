"""The figures of the README: python scripts/benchmarks/run.py what=leaderboard, or what=all."""

import json
import logging
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from hydra import compose
from omegaconf import DictConfig, OmegaConf

SCRIPTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(SCRIPTS), str(SCRIPTS / "benchmarks")]
from backtest import compare  # noqa: E402 the scripts' folder must be on the path
from launch import launch, model_specs, plain  # noqa: E402
from targets import measurement_table  # noqa: E402

from ltvnet.backtesting.leaderboard import EXCESS_HORIZONS, Leaderboard  # noqa: E402
from ltvnet.reports.leaderboard_tables import markdown_table, state_finding  # noqa: E402

if TYPE_CHECKING:
    from ltvnet.backtesting.scores import BacktestRecord
    from ltvnet.correction.walk_forward import WalkForward
    from ltvnet.operations.compare_models import ModelComparison

log = logging.getLogger("benchmark")

ALL = "all"
"""What to ask for to get every benchmark of speed in one table."""

PLACES = ("machine", "folder")
"""Keys of a model, at any depth, that say where it is fitted: of these its precision counts."""

ELSEWHERE = (*PLACES, "out", "ledger", "workers", "trainer")
"""The same of a backtest; `trainer` is the machine of its models."""


def main(config: DictConfig) -> None:
    """Run the benchmark that is asked for."""
    known = (*ACCURACY, *FILES, *SPEED, ALL)
    if config.what not in known:
        raise ValueError(f"expected what out of {', '.join(known)}, got {config.what!r}")
    text = benchmark(config.what, config)
    Path(config.out, f"{config.what}.md").write_text(text + "\n", encoding="utf-8")
    log.info("%s\nwrote %s: %s.md", text, config.out, config.what)


def leaderboard(config: DictConfig) -> str:
    """Score all models on past days of every data set and published seed, pooled over seeds."""
    jobs = [
        (f"{data}_{seed}", [f"data={data}", f"seed={seed}"])
        for data, seeds in config.leaderboard.data.items()
        for seed in seeds
    ]
    with ThreadPoolExecutor(config.workers) as pool:
        waiting = [pool.submit(backtested, *prepared(config, *job)) for job in jobs]
        parts = [part.result() for part in waiting]
    boards: dict[str, list[Leaderboard]] = {}
    for folder in parts:
        boards.setdefault(folder.name.rpartition("_")[0], []).append(Leaderboard.read(folder))
    tables = [Leaderboard.pool(each).ranking.assign(data=data) for data, each in boards.items()]
    pd.concat(tables).to_csv(Path(config.out) / "leaderboard.csv")
    return standings(boards)


def prepared(config: DictConfig, part: str, words: Sequence[str]) -> tuple[Path, list[str], str]:
    """The folder of a part, its backtest's command line, and all that its results depend on."""
    from ltvnet.backtesting.model_identity import FORECAST_VERSION

    chosen, folder = config.leaderboard, Path(config.out) / part
    given = [*words, f"models=[{','.join(chosen.models)}]", *chosen.overrides]
    job = compose("backtest", given)
    job.out = ""
    models = {name: spec.as_config() for name, spec in model_specs(job).items()}
    job.settings = {}  # models have them
    told = [FORECAST_VERSION, job.trainer.precision]
    told += [without(plain(job, resolve=True), ELSEWHERE), without(models, PLACES)]
    return folder, given, json.dumps(told, sort_keys=True, default=str)


def without(value: object, names: Collection[str]) -> object:
    """A config without some keys, at any depth."""
    if isinstance(value, Mapping):
        return {key: without(part, names) for key, part in value.items() if key not in names}
    return [without(part, names) for part in value] if isinstance(value, list) else value


def backtested(folder: Path, words: Sequence[str], stamp: str) -> Path:
    """Run a backtest in a process of its own unless its results are there; returns its folder.

    Raises ValueError when it fails.
    """
    finished = folder / "finished.json"
    if finished.exists() and finished.read_text() == stamp:
        log.info("%s: finished before", folder.name)
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(SCRIPTS / "backtest.py"), *words, f"out='{folder}'"]
    with (folder / "backtest.log").open("w") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        *_, last = ["", *(folder / "backtest.log").read_text().splitlines()]
        raise ValueError(f"expected a backtest of {folder.name}, got {last}: see {file.name}")
    finished.write_text(stamp)
    log.info("%s: %s", folder.name, state_finding(Leaderboard.read(folder)))
    return folder


def standings(boards: Mapping[str, Sequence[Leaderboard]]) -> str:
    """Models by data set, pooled over seeds: scores, excess, ours against the best baseline."""
    pooled = {data: Leaderboard.pool(each) for data, each in boards.items()}
    score = pd.DataFrame({data: board.scores for data, board in pooled.items()})
    order = score.mean(axis=1).sort_values(kind="stable").index
    baseline = next(iter(pooled.values())).is_baseline
    names = [f"{name} *" if baseline[name] else str(name) for name in order]
    rows = [
        [name, *map(share, row)]
        for name, row in zip(names, score.loc[order].to_numpy(), strict=True)
    ]
    rows.append(["who knows the truth", *(share(board.oracle_score) for board in pooled.values())])
    excess = pd.DataFrame(
        {
            f"{data} D{horizon}": board.ranking[f"excess_d{horizon}"]
            for data, board in pooled.items()
            for horizon in EXCESS_HORIZONS
        }
    ).dropna(axis=1, how="all")
    above = [
        [name, *("" if pd.isna(x) else f"{x:.2f}" for x in row)]
        for name, row in zip(names, excess.loc[order].to_numpy(), strict=True)
    ]
    versus = [[data, *against(each)] for data, each in boards.items()]
    head = ("data", "best single baseline", "its score", "ours", "its score", "spread over seeds")
    return "\n\n".join(
        [
            "Score (mean WAPE at D90, D180, D360 of cohorts cut to 7 and 30 days); * a baseline:",
            markdown_table(["model", *score], rows),
            "Excess on day 7: (WAPE - oracle) / (chain ladder - oracle):",
            markdown_table(["model", *excess], above),
            "Error that ours saves of the best single baseline, with its 95 % interval:",
            markdown_table((*head, "saved", "from", "to"), versus),
        ]
    )


def against(boards: Sequence[Leaderboard]) -> list[str]:
    """`best`, or else the best of our own, beside the best single baseline, over seeds."""
    pooled = Leaderboard.pool(boards)
    own, other = pooled.champion, pooled.best_baseline
    if own is None or other is None:
        return [""] * 8
    spread = pd.Series([board.scores[own] for board in boards]).std()
    found = pooled.compare_scores(own, other)
    saved = [f"{x:+.1%}" for x in (found.skill, found.skill_low, found.skill_high)]
    named = [other, share(pooled.scores[other]), own, share(pooled.scores[own])]
    return [*named, share(spread), *saved]


def proof(config: DictConfig) -> str:
    """Whether correction and intervals hold what they promise, walking forward."""
    from ltvnet.backtesting import scores

    tables, totals = [], []
    for (data, seed), found in replays(config):
        for record, walk in zip(found.records, found.walks, strict=True):
            for stage in ("raw", "corrected", "final"):
                scored = scores.score_table(record, found.ages, stage)
                tables.append(scored.assign(data=data, seed=seed, stage=stage))
            held = sums(walk, record)
            totals.append(held.assign(data=data, seed=seed, model=record.name))
    table, total = pd.concat(tables), pd.concat(totals)
    table.to_csv(Path(config.out) / "scores.csv", index=False)
    total.to_csv(Path(config.out) / "totals.csv", index=False)
    return "\n\n".join([corrections(table), coverage(table), portfolios(total)])


def replays(config: DictConfig) -> Iterator[tuple[tuple[str, int], "ModelComparison"]]:
    """Backtests of the benchmark's models on each of its data sets and seeds, reports written."""
    chosen = config[config.what]
    for data, seeds in chosen.data.items():
        for seed in seeds:
            out = Path(config.out) / f"{data}_{seed}"
            job = compose("backtest", [f"data={data}", f"seed={seed}", *chosen.overrides])
            job.out, job.models = str(out), chosen.models
            OmegaConf.resolve(job)
            found = compare(job)
            found.write(out)
            yield (data, seed), found


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
    return markdown_table((*head, "corrected"), rows)


def coverage(table: pd.DataFrame) -> str:
    """Share of outcomes in the 80 % interval by horizon, with its standard error, as Markdown."""
    chosen = table[(table.observed_age == "all") & (table.stage == "final")]
    mean = chosen.groupby(["data", "model", "horizon"])[["coverage", "coverage_error"]].mean()
    rows = [
        (*key[:2], f"D{key[2]}", f"{row.coverage:.1%}", f"{row.coverage_error:.1%}")
        for key, row in mean.iterrows()
    ]
    return markdown_table(
        ("data", "model", "horizon", "80 % interval held", "standard error"), rows
    )


def sums(walk: "WalkForward", record: "BacktestRecord") -> pd.DataFrame:
    """For each past day and horizon, whether the interval of the sum over cohorts held."""
    import numpy as np

    from ltvnet.backtesting.scores import HORIZONS
    from ltvnet.data.curves import NODES

    entries, rows = record.entries, []
    own = entries.natural_age == entries.observed_age
    band = entries.bands["final"]
    grown = np.maximum(band.mean, entries.pattern) - entries.observed_value[:, None]
    for origin, stages in walk.stages_by_origin.items():
        for horizon in HORIZONS:
            j = NODES.index(horizon)
            at = own & (entries.origin == origin) & record.is_scorable[:, j]
            size = np.where(at, entries.users * grown[:, j], 0.0)
            whole, squared = np.zeros((2, len(NODES)))
            whole[j], squared[j] = size.sum(), (size**2).sum()
            half = stages.totals.half_width(whole, squared)[j]
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
    return markdown_table(("data", "model", "interval of sums held", "sums", "seeds"), rows)


def share(value: float | None) -> str:
    """A percentage, empty where there is none."""
    return "" if value is None or pd.isna(value) else f"{value:.1%}"


ACCURACY = {"leaderboard": leaderboard, "proof": proof}
"""Benchmarks of this file; those of files of their own follow."""

FILES = ("claim", "ett", "peers")
"""Files of a benchmark, each a function of the file's name that gives its text."""

SPEED: dict[str, str] = {
    "train": "fit_speed",
    "backtest": "fold_cost",
    "gpu": "gpu_speed",
    "startup": "startup",
    "keras": "keras_job",
    "race": "race",
    "predict": "predict_speed",
    "prepare": "prepare_speed",
}
"""Benchmarks of speed: what to ask for, and the file whose function `lines` measures it."""


def benchmark(what: str, config: DictConfig) -> str:
    """The text of a benchmark. Raises ValueError for one that is not there."""
    if what in ACCURACY:
        return ACCURACY[what](config)
    if what in FILES:
        text: str = getattr(import_module(what), what)(config)
        return text
    if what in SPEED:
        return measurement_table(import_module(SPEED[what]).lines(config))
    told = []
    for file in SPEED.values():
        told += import_module(file).lines(config)
        Path(config.out, f"{ALL}.md").write_text(measurement_table(told) + "\n", encoding="utf-8")
    return measurement_table(told)


if __name__ == "__main__":
    launch(main, "benchmark")
