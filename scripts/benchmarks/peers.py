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
from typing import Any

import numpy as np
import pandas as pd
from backtest import compare
from hydra import compose
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ltvnet.backtesting.leaderboard import Entrant, Leaderboard
from ltvnet.backtesting.ledger import STAGES, LedgerEntries
from ltvnet.backtesting.replay import FitCost
from ltvnet.backtesting.scores import SCORED_AGES, BacktestRecord
from ltvnet.correction.walk_forward import StageSwitches, WalkForward
from ltvnet.data.arrays import Floats, Ints
from ltvnet.data.curves import NODES, Curves, History
from ltvnet.forecasting.forecast import QUANTITIES, Band
from ltvnet.reports.leaderboard_tables import as_markdown, write_markdown

log = logging.getLogger("benchmark")

PEER = Path(__file__).resolve().parent / "neuralforecast_peer.py"
INPUTS = ("known", "tasks", "statics")


def peers(config: DictConfig) -> str:
    """The leaderboard of each data set and seed, the library's networks among the models."""
    chosen, texts = config.peers, []
    python = library_python(chosen, Path(config.out))
    settings: Any = OmegaConf.to_container(chosen.settings, resolve=True)
    for data, seeds in chosen.data.items():
        for seed in seeds:
            out = Path(config.out) / f"{data}_{seed}"
            job = compose("backtest", [f"data={data}", f"seed={seed}", *chosen.overrides])
            job.out, job.models = str(out), chosen.models
            OmegaConf.resolve(job)
            found, history = compare(job), instantiate(job.data).history()
            reference, learning = found.records[0], StageSwitches(**job.learning)
            for origin in np.unique(reference.entries.origin):
                folder = task(out, origin)
                write(folder, history.as_of(origin), reference.entries, settings)
                run(python, folder)
            theirs = others(out, reference, settings, history, learning)
            board = Leaderboard.from_entrants(
                [*entrants(found.board, found.records), *theirs], found.ages
            )
            board.write(out)
            write_markdown(board, out)
            texts.append(f"{data}, seed {seed}:\n\n{as_markdown(board)}")
    return "\n".join(texts)


def library_python(chosen: DictConfig, out: Path) -> Path:
    """The Python of an environment with the library, which is made where it is missing."""
    folder = Path(chosen.environment or out / "environment").resolve()
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        log.info("installing %s into %s", ", ".join(chosen.requirements), folder)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *chosen.requirements], check=True)
        (folder / "installed").touch()
    return python


def task(out: Path, origin: np.datetime64) -> Path:
    """The folder of what is asked of the library on a day."""
    return out / "tasks" / str(origin)


def write(
    folder: Path, curves: Curves, entries: LedgerEntries, settings: Mapping[str, Any]
) -> None:
    """Write what is known at an origin, and the prefixes to go on from.

    Forecasts that are there are kept if they are of exactly these.
    """
    rows = asked(entries, curves.origin)
    place = curves.index.get_indexer(entries.keys)[entries.cohort_index[rows]]
    values = curves.values[place]  # (T, A)
    values = np.where(
        np.arange(values.shape[1]) <= entries.observed_age[rows, None], values, np.nan
    )
    known = np.flatnonzero(curves.observed_age >= 0)
    names, tasks = [f"c{row}" for row in known], [f"t{row}" for row in rows]
    numbers = statics(curves, known)
    frames = {
        "known": long_table(names, curves.values[known]),
        "tasks": long_table(tasks, values),
        "statics": pd.concat(
            [numbers.assign(unique_id=names),
             numbers.iloc[np.searchsorted(known, place)].assign(unique_id=tasks)]
        ),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    (folder / "settings.json").write_text(json.dumps(settings, sort_keys=True))
    digest = stamp(folder, curves.origin)
    if not (path := folder / "stamp").exists() or path.read_text() != digest:
        (folder / "costs.json").unlink(missing_ok=True)  # it goes with forecasts of something else
        path.write_text(digest)


def stamp(folder: Path, origin: np.datetime64) -> str:
    """SHA-256 of all that the forecasts in a folder depend on, the origin among it."""
    inputs = [folder / name for name in ("settings.json", *(f"{n}.parquet" for n in INPUTS))]
    digest = hashlib.sha256(str(origin).encode())
    for path in (*inputs, PEER):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def asked(entries: LedgerEntries, origin: np.datetime64) -> Ints:
    """The entries of an origin that the score is of, and those that teach the correction.

    The former are cut to the ages of the score, the latter at their own age, which is no less.
    """
    cut = np.isin(entries.observed_age, SCORED_AGES) & (
        entries.natural_age < entries.observed_age + 7
    )
    own = (entries.natural_age == entries.observed_age) & (entries.observed_age >= min(SCORED_AGES))
    return np.flatnonzero((cut | own) & (entries.origin == origin))


def long_table(names: Sequence[str], values: Floats) -> pd.DataFrame:
    """Curves (N, A) as the library takes them, a row a known value."""
    row, age = np.nonzero(np.isfinite(values))
    return pd.DataFrame({"unique_id": np.array(names)[row], "ds": age, "y": values[row, age]})


def statics(curves: Curves, rows: Ints) -> pd.DataFrame:
    """Log users and a column a value of each attribute that has at most twelve."""
    users = np.log(np.maximum(curves.users[rows], 1.0))
    frame = pd.DataFrame({"users": (users - users.mean()) / (users.std() or 1.0)})
    for name in curves.hierarchy:
        column = pd.Series(curves.attributes[name][rows])
        if column.nunique() <= 12:
            dummies = pd.get_dummies(column, prefix=name, dtype=float)
            frame = frame.join(dummies)
    return frame


def run(python: Path, folder: Path) -> None:
    """Let the library forecast the tasks of a folder, unless it did so before."""
    if not (folder / "costs.json").exists():
        with (folder / "peer.log").open("w") as file:
            command = [python, PEER, folder]
            done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            raise ValueError(f"expected forecasts of {folder}, got none: see {file.name}")
    costs = json.loads((folder / "costs.json").read_text())
    told = ", ".join(f"{name} {cost['seconds']:.0f} s" for name, cost in costs.items())
    log.info("%s: fitted in %s", folder.name, told)


def entrants(board: Leaderboard, records: Sequence[BacktestRecord]) -> Iterator[Entrant]:
    """The models of a backtest, as they stand on its board."""
    models = board.model_facts.set_index("model")
    for record in records:
        row = models.loc[record.name]
        yield Entrant(record, bool(row["baseline"]), FitCost(row["seconds"], row["parameters"]))


def others(
    out: Path,
    reference: BacktestRecord,
    settings: Mapping[str, Any],
    history: History,
    learning: StageSwitches,
) -> Iterator[Entrant]:
    """The library's networks on the tasks that they were asked for, corrected like a baseline."""
    entries = reference.entries
    folders = [task(out, origin) for origin in np.unique(entries.origin)]
    said = pd.concat([pd.read_parquet(folder / "forecasts.parquet") for folder in folders])
    said = said[said["ds"].isin(NODES)]
    said["row"] = said["unique_id"].str[1:].astype(int)
    said["node"] = np.searchsorted(np.array(NODES), said["ds"])
    costs = [json.loads((folder / "costs.json").read_text()) for folder in folders]
    for name in settings:
        part = said[said["setting"] == name]
        mean = np.full_like(entries.pattern, np.nan)
        mean[part["row"], part["node"]] = part["y"]
        rising = np.fmax.accumulate(np.fmax(mean, entries.observed_value[:, None]), axis=1)
        mean = np.where(np.isfinite(mean) & entries.has_forecast, rising, np.nan)
        took = [FitCost(**cost[name]) for cost in costs]
        cost = FitCost(*(float(np.mean([getattr(c, key) for c in took])) for key in vars(took[0])))
        walked = corrected(entries, mean, history, replace(learning, blend=False))
        yield Entrant(
            replace(reference, name=name, entries=walked), is_baseline=True, fit_cost=cost
        )


def corrected(
    entries: LedgerEntries, mean: Floats, history: History, learning: StageSwitches
) -> LedgerEntries:
    """Entries of which a network forecast the mean (E, J), corrected and calibrated by its past.

    Those that it did not forecast, whole, are blank, and teach nothing.
    """
    told = np.flatnonzero((np.isfinite(mean) == entries.has_forecast).all(axis=1))
    raw = dict.fromkeys(STAGES, Band(*([mean[told]] * len(QUANTITIES))))
    walked = WalkForward([replace(entries.take(told), bands=raw)], history, learning).run()

    def placed(cells: Floats) -> Floats:
        whole = np.full_like(mean, np.nan)
        whole[told] = cells
        return whole

    bands = {
        stage: Band(*(placed(getattr(band, name)) for name in QUANTITIES))
        for stage, band in walked.bands.items()
    }
    borrowed = np.ones_like(entries.is_borrowed)
    borrowed[told] = walked.is_borrowed
    return replace(entries, bands=bands, is_borrowed=borrowed)
