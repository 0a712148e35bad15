"""All models on past days of every data set and published seed: what=leaderboard."""

import json
import logging
import sys
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from hydra import compose
from launch import model_specs, plain
from omegaconf import DictConfig
from targets import run_logged

from ltvnet.backtesting.leaderboard import EXCESS_HORIZONS, Leaderboard
from ltvnet.reports.leaderboard_tables import state_finding
from ltvnet.reports.markdown import markdown_table
from ltvnet.reports.wording import terminal_percent, terminal_signed_percent

log = logging.getLogger("benchmark")

SCRIPTS = Path(__file__).resolve().parent.parent

PLACE_KEYS = ("machine", "folder")
"""Keys of a model, at any depth, that say where it is fitted: of these its precision counts."""

JOB_PLACE_KEYS = (*PLACE_KEYS, "out", "ledger", "workers", "trainer")
"""Keys of a backtest that say where it runs; `trainer` is the machine of its models."""


class BacktestPart(NamedTuple):
    """A backtest of one data set and seed: its folder, overrides, and what results depend on."""

    folder: Path
    overrides: list[str]
    stamp: str


def report(config: DictConfig) -> str:
    """Score all models on every data set and published seed; return tables pooled over seeds."""
    parts = []
    for data, seeds in config.leaderboard.data.items():
        for seed in seeds:
            overrides = [f"data={data}", f"seed={seed}"]
            parts.append(prepare_part(config, f"{data}_{seed}", overrides))
    with ThreadPoolExecutor(config.workers) as pool:
        waiting = [pool.submit(run_backtest, *part) for part in parts]
        folders = [future.result() for future in waiting]

    boards: dict[str, list[Leaderboard]] = {}
    for folder in folders:
        data = folder.name.rpartition("_")[0]
        boards.setdefault(data, []).append(Leaderboard.read(folder))
    rankings = [
        Leaderboard.pool(data_boards).ranking.assign(data=data)
        for data, data_boards in boards.items()
    ]
    pd.concat(rankings).to_csv(Path(config.out) / "leaderboard.csv")
    return standings(boards)


def prepare_part(config: DictConfig, name: str, overrides: Sequence[str]) -> BacktestPart:
    """Return a part with its backtest's command line, and all that its results depend on."""
    from ltvnet.backtesting.model_identity import FORECAST_VERSION

    settings = config.leaderboard
    models = f"models=[{','.join(settings.models)}]"
    all_overrides = [*overrides, models, *settings.overrides]
    job = compose("backtest", all_overrides)
    job.out = ""
    model_values = {name: spec.as_config() for name, spec in model_specs(job).items()}
    job.settings = {}  # models have them

    inputs = [
        FORECAST_VERSION,
        job.trainer.precision,
        without_keys(plain(job, resolve=True), JOB_PLACE_KEYS),
        without_keys(model_values, PLACE_KEYS),
    ]
    stamp = json.dumps(inputs, sort_keys=True, default=str)
    return BacktestPart(Path(config.out) / name, all_overrides, stamp)


def without_keys(value: object, names: Collection[str]) -> object:
    """Return a config without some keys, at any depth."""
    if isinstance(value, Mapping):
        return {key: without_keys(inner, names) for key, inner in value.items() if key not in names}
    if isinstance(value, list):
        return [without_keys(inner, names) for inner in value]
    return value


def run_backtest(folder: Path, overrides: Sequence[str], stamp: str) -> Path:
    """Run a backtest in a process of its own unless its results are there; return its folder.

    Raises ValueError when it fails.
    """
    finished = folder / "finished.json"
    if finished.exists() and finished.read_text() == stamp:
        log.info("%s: finished before", folder.name)
        return folder

    folder.mkdir(parents=True, exist_ok=True)
    log_file = folder / "backtest.log"
    command = [sys.executable, SCRIPTS / "backtest.py", *overrides, f"out='{folder}'"]
    if not run_logged(command, log_file):
        *_, last_line = ["", *log_file.read_text().splitlines()]
        raise ValueError(f"expected a backtest of {folder.name}, got {last_line}: see {log_file}")
    finished.write_text(stamp)
    log.info("%s: %s", folder.name, state_finding(Leaderboard.read(folder)))
    return folder


def standings(boards: Mapping[str, Sequence[Leaderboard]]) -> str:
    """Return models by data set, pooled over seeds, as Markdown.

    Their scores, their excess, and ours against the best baseline.
    """
    pooled = {data: Leaderboard.pool(data_boards) for data, data_boards in boards.items()}
    scores = pd.DataFrame({data: board.scores for data, board in pooled.items()})
    order = scores.mean(axis=1).sort_values(kind="stable").index
    is_baseline = next(iter(pooled.values())).is_baseline
    names = [f"{name} *" if is_baseline[name] else str(name) for name in order]

    head = ("data", "best single baseline", "its score", "ours", "its score", "spread over seeds")
    versus = [[data, *versus_baseline(data_boards)] for data, data_boards in boards.items()]
    return "\n\n".join(
        [
            "Score (mean WAPE at D90, D180, D360 of cohorts cut to 7 and 30 days); * a baseline:",
            _score_table(pooled, names, scores.loc[order]),
            "Excess on day 7: (WAPE - oracle) / (chain ladder - oracle):",
            _excess_table(pooled, names, order),
            "Error that ours saves of the best single baseline, with its 95 % interval:",
            markdown_table((*head, "saved", "from", "to"), versus),
        ]
    )


def _score_table(
    pooled: Mapping[str, Leaderboard], names: Sequence[str], scores: pd.DataFrame
) -> str:
    """Return a Markdown table of scores by model (rows) and data set, the oracle's last."""
    rows = [
        [name, *map(optional_percent, row)]
        for name, row in zip(names, scores.to_numpy(), strict=True)
    ]
    oracle = [optional_percent(board.oracle_score) for board in pooled.values()]
    rows.append(["who knows the truth", *oracle])
    return markdown_table(["model", *scores], rows)


def _excess_table(pooled: Mapping[str, Leaderboard], names: Sequence[str], order: pd.Index) -> str:
    """Return a Markdown table of the excess by model (rows), data set and horizon."""
    columns = {}
    for data, board in pooled.items():
        for horizon in EXCESS_HORIZONS:
            columns[f"{data} D{horizon}"] = board.ranking[f"excess_d{horizon}"]
    excess = pd.DataFrame(columns).dropna(axis=1, how="all")

    rows = []
    for name, values in zip(names, excess.loc[order].to_numpy(), strict=True):
        cells = ["" if pd.isna(value) else f"{value:.2f}" for value in values]
        rows.append([name, *cells])
    return markdown_table(["model", *excess], rows)


def versus_baseline(boards: Sequence[Leaderboard]) -> list[str]:
    """Return our champion beside the best single baseline, over seeds, as cells of a table.

    The champion is `best`, or else the best of our own.
    """
    pooled = Leaderboard.pool(boards)
    champion, baseline = pooled.champion, pooled.best_baseline
    if champion is None or baseline is None:
        return [""] * 8
    spread = pd.Series([board.scores[champion] for board in boards]).std()
    versus = pooled.compare_scores(champion, baseline)

    baseline_score = optional_percent(pooled.scores[baseline])
    champion_score = optional_percent(pooled.scores[champion])
    cells = [baseline, baseline_score, champion, champion_score, optional_percent(spread)]
    saved = (versus.skill, versus.skill_low, versus.skill_high)
    return [*cells, *map(terminal_signed_percent, saved)]


def optional_percent(value: float | None) -> str:
    """Return a percentage, empty where there is none."""
    return "" if value is None or pd.isna(value) else terminal_percent(value)
