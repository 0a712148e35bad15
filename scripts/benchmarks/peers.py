"""Networks of neuralforecast on the folds of a backtest, on the same leaderboard.

A cohort is a series by days since acquisition, its value the revenue per user so far; the library
learns from every window of the curves known at the origin, and goes on from prefixes cut to the
ages of the score. It runs in an environment of its own and is given nothing later than the origin.

Shapes: E entries, J nodes, N cohorts, T tasks, A ages.
"""

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
from backtest import replayed
from hydra import compose
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ltvnet.backtest import Cost
from ltvnet.curves import NODES, Curves, Floats, Ints
from ltvnet.forecasting import Band
from ltvnet.leaderboard import Entrant, Leaderboard
from ltvnet.ledger import STAGES, Entries
from ltvnet.scores import SCORED_AGES, Record

log = logging.getLogger("benchmark")

HERE = Path(__file__).resolve().parent


def peers(config: DictConfig) -> str:
    """The leaderboard of each data set and seed, the library's networks among the models."""
    chosen, texts = config.peers, []
    python = environment(chosen, Path(config.out))
    settings: Any = OmegaConf.to_container(chosen.settings, resolve=True)
    for data, seeds in chosen.data.items():
        for seed in seeds:
            out = Path(config.out) / f"{data}_{seed}"
            job = compose("backtest", [f"data={data}", f"seed={seed}", *chosen.overrides])
            job.out, job.models = str(out), chosen.models
            OmegaConf.resolve(job)
            found, history = replayed(job), instantiate(job.data).history()
            entries = found.records[0].entries
            for origin in np.unique(entries.origin):
                folder = out / "tasks" / str(origin)
                write(folder, history.as_of(origin), entries, settings)
                run(python, folder)
            board = Leaderboard.of(
                [*entrants(found.board, found.records), *others(out, found.records[0], settings)],
                found.ages,
            )
            board.write(out)
            texts.append(f"{data}, seed {seed}:\n\n{board.as_markdown()}")
    return "\n".join(texts)


def environment(chosen: DictConfig, out: Path) -> Path:
    """The Python of an environment with the library, which is made where it is missing."""
    folder = Path(chosen.environment or out / "environment").resolve()
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        log.info("installing %s into %s", ", ".join(chosen.requirements), folder)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *chosen.requirements], check=True)
        (folder / "installed").touch()
    return python


def write(folder: Path, curves: Curves, entries: Entries, settings: Mapping[str, Any]) -> None:
    """Write what is known at an origin, and the prefixes to go on from."""
    rows = asked(entries, curves.origin)
    place = curves.index.get_indexer(entries.keys)[entries.cohort[rows]]
    values = curves.values[place]  # (T, A)
    values = np.where(np.arange(values.shape[1]) <= entries.observed[rows, None], values, np.nan)
    known = np.flatnonzero(curves.observed_age >= 0)
    names, tasks = [f"c{row}" for row in known], [f"t{row}" for row in rows]
    numbers = statics(curves, known)
    frames = {
        "known": long(names, curves.values[known]),
        "tasks": long(tasks, values),
        "statics": pd.concat(
            [numbers.assign(unique_id=names),
             numbers.iloc[np.searchsorted(known, place)].assign(unique_id=tasks)]
        ),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    text = json.dumps(settings, sort_keys=True)
    if not (path := folder / "settings.json").exists() or path.read_text() != text:
        (folder / "costs.json").unlink(missing_ok=True)  # forecasts of other settings
        path.write_text(text)


def asked(entries: Entries, origin: np.datetime64) -> Ints:
    """The entries of an origin that the score is of: cut to its ages."""
    cut = np.isin(entries.observed, SCORED_AGES) & (entries.natural < entries.observed + 7)
    return np.flatnonzero(cut & (entries.origin == origin))


def long(names: Sequence[str], values: Floats) -> pd.DataFrame:
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
            command = [python, HERE / "neuralforecast_peer.py", folder]
            done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            raise ValueError(f"expected forecasts of {folder}, got none: see {file.name}")
    costs = json.loads((folder / "costs.json").read_text())
    told = ", ".join(f"{name} {cost['seconds']:.0f} s" for name, cost in costs.items())
    log.info("%s: fitted in %s", folder.name, told)


def entrants(board: Leaderboard, records: Sequence[Record]) -> Iterator[Entrant]:
    """The models of a backtest, as they stand on its board."""
    models = board.models.set_index("model")
    for record in records:
        row = models.loc[record.name]
        yield Entrant(record, bool(row["baseline"]), Cost(row["seconds"], row["parameters"]))


def others(out: Path, reference: Record, settings: Mapping[str, Any]) -> Iterator[Entrant]:
    """The library's networks, on the tasks that they were asked for."""
    folders = sorted((out / "tasks").iterdir())
    said = pd.concat([pd.read_parquet(folder / "forecasts.parquet") for folder in folders])
    said = said[said["ds"].isin(NODES)]
    said["row"] = said["unique_id"].str[1:].astype(int)
    said["node"] = np.searchsorted(np.array(NODES), said["ds"])
    costs = [json.loads((folder / "costs.json").read_text()) for folder in folders]
    entries = reference.entries
    for name in settings:
        part = said[said["setting"] == name]
        mean = np.full_like(entries.pattern, np.nan)
        mean[part["row"], part["node"]] = part["y"]
        rising = np.fmax.accumulate(np.fmax(mean, entries.value[:, None]), axis=1)
        mean = np.where(np.isfinite(mean) & entries.issued, rising, np.nan)
        unknown = np.full_like(mean, np.nan)
        bands = dict.fromkeys(STAGES, Band(mean, unknown, mean, unknown))
        took = [Cost(**cost[name]) for cost in costs]
        cost = Cost(*(float(np.mean([getattr(c, key) for c in took])) for key in vars(took[0])))
        record = replace(reference, name=name, entries=replace(entries, bands=bands))
        yield Entrant(record, baseline=True, cost=cost)
