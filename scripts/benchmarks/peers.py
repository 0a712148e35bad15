"""Networks of neuralforecast on the folds of a backtest, on the same leaderboard.

A cohort is a series by days since acquisition, its value the revenue per user so far; the library
learns from every window of the curves known at the origin, and goes on from prefixes: those cut
to the ages of the score, and the whole curves that teach the correction, which its networks get
as any baseline does. It runs in an environment of its own and is given nothing later than the
origin.

Shapes: E entries, J nodes, N cohorts, T tasks, A ages.
"""

import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from backtest import compare
from hydra import compose
from hydra.utils import instantiate
from launch import plain
from omegaconf import DictConfig, OmegaConf
from targets import run_logged

from ltvnet.backtesting.leaderboard import Entrant, Leaderboard
from ltvnet.backtesting.ledger import STAGES, LedgerEntries
from ltvnet.backtesting.replay import FitCost
from ltvnet.backtesting.scores import SCORED_AGES, BacktestRecord
from ltvnet.correction.walk_forward import StageSwitches, WalkForward
from ltvnet.data.arrays import Floats, Ints
from ltvnet.data.curves import NODE_AGES, NODES, Curves, History
from ltvnet.forecasting.forecast import QUANTITIES, Band
from ltvnet.reports.leaderboard_tables import as_markdown, write_markdown

log = logging.getLogger("benchmark")

PEER = Path(__file__).resolve().parent / "neuralforecast_peer.py"
INPUTS = ("known", "tasks", "statics")

MAX_CATEGORIES = 12
"""Attributes with more values are not told to the library."""


def report(config: DictConfig) -> str:
    """Return the leaderboard of each data set and seed, the library's networks among the models."""
    python = library_python(config.peers, Path(config.out))
    texts = []
    for data, seeds in config.peers.data.items():
        for seed in seeds:
            board = _leaderboard_with_library(config, python, data, seed)
            texts.append(f"{data}, seed {seed}:\n\n{as_markdown(board)}")
    return "\n".join(texts)


def _leaderboard_with_library(
    config: DictConfig, python: Path, data: str, seed: int
) -> Leaderboard:
    """Replay our models and the library's networks on one data set, and write the leaderboard."""
    out = Path(config.out) / f"{data}_{seed}"
    job = compose("backtest", [f"data={data}", f"seed={seed}", *config.peers.overrides])
    job.out = str(out)
    job.models = config.peers.models
    OmegaConf.resolve(job)
    comparison = compare(job)
    history = instantiate(job.data).history()

    settings = plain(config.peers.settings, resolve=True)
    reference = comparison.records[0]
    for origin in np.unique(reference.entries.origin):
        folder = task_folder(out, origin)
        write_tasks(folder, history.as_of(origin), reference.entries, settings)
        run_library(python, folder)

    switches = StageSwitches(**job.learning)
    ours = comparison_entrants(comparison.board, comparison.records)
    theirs = library_entrants(out, reference, settings, history, switches)
    board = Leaderboard.from_entrants([*ours, *theirs], comparison.ages)
    board.write(out)
    write_markdown(board, out)
    return board


def library_python(settings: DictConfig, out: Path) -> Path:
    """Return the Python of an environment with the library, which is made where it is missing."""
    folder = Path(settings.environment or out / "environment").resolve()
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        requirements = settings.requirements
        log.info("installing %s into %s", ", ".join(requirements), folder)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *requirements], check=True)
        (folder / "installed").touch()
    return python


def task_folder(out: Path, origin: np.datetime64) -> Path:
    """Return the folder of what is asked of the library on a day."""
    return out / "tasks" / str(origin)


def write_tasks(
    folder: Path, curves: Curves, entries: LedgerEntries, settings: Mapping[str, Any]
) -> None:
    """Write what is known at an origin, and the prefixes to go on from.

    Forecasts that are there are kept if they are of exactly these.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in _input_tables(curves, entries).items():
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    (folder / "settings.json").write_text(json.dumps(settings, sort_keys=True))

    inputs_hash = hash_inputs(folder, curves.origin)
    stamp = folder / "stamp"
    if not stamp.exists() or stamp.read_text() != inputs_hash:
        (folder / "costs.json").unlink(missing_ok=True)  # it goes with forecasts of something else
        stamp.write_text(inputs_hash)


def _input_tables(curves: Curves, entries: LedgerEntries) -> dict[str, pd.DataFrame]:
    """Return the tables that the library is given, by the names of INPUTS."""
    rows = scored_and_teaching_rows(entries, curves.origin)  # (T,)
    cohort_rows = curves.index.get_indexer(entries.keys)[entries.cohort_index[rows]]  # (T,)
    values = curves.values[cohort_rows]  # (T, A)
    is_observed = np.arange(values.shape[1]) <= entries.observed_age[rows, None]
    prefixes = np.where(is_observed, values, np.nan)

    known_rows = np.flatnonzero(curves.observed_age >= 0)
    known_names = [f"c{row}" for row in known_rows]
    task_names = [f"t{row}" for row in rows]
    numbers = static_numbers(curves, known_rows)
    task_numbers = numbers.iloc[np.searchsorted(known_rows, cohort_rows)]
    statics = [numbers.assign(unique_id=known_names), task_numbers.assign(unique_id=task_names)]
    return {
        "known": long_table(known_names, curves.values[known_rows]),
        "tasks": long_table(task_names, prefixes),
        "statics": pd.concat(statics),
    }


def hash_inputs(folder: Path, origin: np.datetime64) -> str:
    """Return SHA-256 of all that the forecasts in a folder depend on, the origin among it."""
    names = ["settings.json", *(f"{name}.parquet" for name in INPUTS)]
    digest = hashlib.sha256(str(origin).encode())
    for path in (*(folder / name for name in names), PEER):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def scored_and_teaching_rows(entries: LedgerEntries, origin: np.datetime64) -> Ints:
    """Return the entries of an origin that the score is of, and those that teach the correction.

    The former are cut to the ages of the score, the latter at their own age, which is no less.
    """
    age = entries.observed_age
    is_scored = entries.at_observed_ages(SCORED_AGES)
    is_teaching = entries.at_own_age & (age >= min(SCORED_AGES))
    return np.flatnonzero((is_scored | is_teaching) & (entries.origin == origin))


def long_table(names: Sequence[str], values: Floats) -> pd.DataFrame:
    """Return curves (N, A) as the library takes them, a row a known value."""
    row, age = np.nonzero(np.isfinite(values))
    return pd.DataFrame({"unique_id": np.array(names)[row], "ds": age, "y": values[row, age]})


def static_numbers(curves: Curves, rows: Ints) -> pd.DataFrame:
    """Return log users, and a column a value of each attribute that has few of them."""
    log_users = np.log(np.maximum(curves.users[rows], 1.0))
    spread = log_users.std() or 1.0
    frame = pd.DataFrame({"users": (log_users - log_users.mean()) / spread})
    for name in curves.hierarchy:
        attribute = pd.Series(curves.attributes[name][rows])
        if attribute.nunique() <= MAX_CATEGORIES:
            frame = frame.join(pd.get_dummies(attribute, prefix=name, dtype=float))
    return frame


def run_library(python: Path, folder: Path) -> None:
    """Let the library forecast the tasks of a folder, unless it did so before.

    Raises ValueError when it fails.
    """
    costs_file, log_file = folder / "costs.json", folder / "peer.log"
    if not costs_file.exists() and not run_logged([python, PEER, folder], log_file):
        raise ValueError(f"expected forecasts of {folder}, got none: see {log_file}")
    costs = json.loads(costs_file.read_text())
    texts = [f"{name} {cost['seconds']:.0f} s" for name, cost in costs.items()]
    log.info("%s: fitted in %s", folder.name, ", ".join(texts))


def comparison_entrants(board: Leaderboard, records: Sequence[BacktestRecord]) -> Iterator[Entrant]:
    """Yield the models of a backtest, as they stand on its board."""
    facts = board.model_facts.set_index("model")
    for record in records:
        row = facts.loc[record.name]
        cost = FitCost(row["seconds"], row["parameters"])
        yield Entrant(record, bool(row["baseline"]), cost)


class _LibraryAnswers(NamedTuple):
    """Forecasts of the library, a row each with `row` of the entry and `node`, and fit costs."""

    forecasts: pd.DataFrame
    costs: list[dict[str, Any]]


def _read_answers(out: Path, entries: LedgerEntries) -> _LibraryAnswers:
    """Read what the library forecast at the nodes for the days of some entries, and its costs."""
    folders = [task_folder(out, origin) for origin in np.unique(entries.origin)]
    tables = [pd.read_parquet(folder / "forecasts.parquet") for folder in folders]
    forecasts = pd.concat(tables)
    forecasts = forecasts[forecasts["ds"].isin(NODES)]
    forecasts["row"] = forecasts["unique_id"].str[1:].astype(int)
    forecasts["node"] = np.searchsorted(NODE_AGES, forecasts["ds"])
    costs = [json.loads((folder / "costs.json").read_text()) for folder in folders]
    return _LibraryAnswers(forecasts, costs)


def library_entrants(
    out: Path,
    reference: BacktestRecord,
    settings: Mapping[str, Any],
    history: History,
    switches: StageSwitches,
) -> Iterator[Entrant]:
    """Yield the library's networks on the tasks they were asked for, corrected like a baseline."""
    entries = reference.entries
    forecasts, costs = _read_answers(out, entries)
    for name in settings:
        network_forecasts = forecasts[forecasts["setting"] == name]
        mean = np.full_like(entries.pattern, np.nan)  # (E, J)
        mean[network_forecasts["row"], network_forecasts["node"]] = network_forecasts["y"]
        rising = np.fmax.accumulate(np.fmax(mean, entries.observed_value[:, None]), axis=1)
        mean = np.where(np.isfinite(mean) & entries.has_forecast, rising, np.nan)

        unblended = replace(switches, blend=False)
        corrected_entries = correct_by_past(entries, mean, history, unblended)
        record = replace(reference, name=name, entries=corrected_entries)
        cost = _average_cost([FitCost(**day_costs[name]) for day_costs in costs])
        yield Entrant(record, is_baseline=True, fit_cost=cost)


def _average_cost(costs: Sequence[FitCost]) -> FitCost:
    """Return the mean cost of fits."""
    seconds = float(np.mean([cost.seconds for cost in costs]))
    parameters = float(np.mean([cost.parameters for cost in costs]))
    return FitCost(seconds, parameters)


def correct_by_past(
    entries: LedgerEntries, mean: Floats, history: History, switches: StageSwitches
) -> LedgerEntries:
    """Correct and calibrate entries of which a network forecast the mean (E, J), by its past.

    Those that it did not forecast, whole, are blank, and teach nothing.
    """
    is_complete = (np.isfinite(mean) == entries.has_forecast).all(axis=1)
    rows = np.flatnonzero(is_complete)
    raw_bands = dict.fromkeys(STAGES, Band(*([mean[rows]] * len(QUANTITIES))))
    raw_entries = replace(entries.take(rows), bands=raw_bands)
    corrected = WalkForward([raw_entries], history, switches).run()

    def among_all(values: Floats) -> Floats:
        """Return values of the forecast entries as values of all (E, J), NaN of the others."""
        scattered = np.full_like(mean, np.nan)
        scattered[rows] = values
        return scattered

    bands = {stage: band.map(among_all) for stage, band in corrected.bands.items()}
    is_borrowed = np.ones_like(entries.is_borrowed)
    is_borrowed[rows] = corrected.is_borrowed
    return replace(entries, bands=bands, is_borrowed=is_borrowed)
