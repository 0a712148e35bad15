"""Networks of neuralforecast on the tasks in a folder: python neuralforecast_peer.py FOLDER.

Runs where that library is installed and knows nothing of ltvnet. Reads `settings.json`, and of
the day of the forecast `known.parquet` (unique_id, ds the age, y revenue per user up to it),
`tasks.parquet` (the same, prefixes) and `statics.parquet` (unique_id, numbers); writes
`forecasts.parquet` (setting, unique_id, ds, y) and `costs.json`.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from neuralforecast import NeuralForecast, models

LAST = 360


def main(folder: Path) -> None:
    """Fit each setting on what is known and forecast the tasks."""
    torch.set_num_threads(1)
    settings = json.loads((folder / "settings.json").read_text())
    known, tasks, statics = (
        pd.read_parquet(folder / f"{name}.parquet") for name in ("known", "tasks", "statics")
    )
    said, costs = [], {}
    for name, setting in settings.items():
        begun = time.perf_counter()
        fitted, network = fit(setting, known, statics)
        costs[name] = {
            "seconds": time.perf_counter() - begun,
            "parameters": sum(p.numel() for p in network.parameters()),
        }
        said.append(forecast(fitted, tasks, statics).assign(setting=name))
    pd.concat(said).to_parquet(folder / "forecasts.parquet", index=False)
    (folder / "costs.json").write_text(json.dumps(costs))


def fit(setting: Any, known: pd.DataFrame, statics: pd.DataFrame) -> tuple[Any, Any]:  # noqa: ANN401
    """A fitted library object, and its network."""
    arguments = {"h": LAST + 1 - setting["arguments"]["input_size"]} | setting["arguments"]
    arguments["stat_exog_list"] = [name for name in statics if name != "unique_id"]
    quiet = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False}
    network = getattr(models, setting["model"])(**arguments, **quiet, accelerator="cpu")
    fitted = NeuralForecast(models=[network], freq=1)
    length = known.groupby("unique_id")["y"].transform("size")
    known = known[length > setting["arguments"]["input_size"]]  # shorter ones have no target
    fitted.fit(df=known, static_df=statics_of(statics, known))
    return fitted, fitted.models[0]


def forecast(
    fitted: Any,  # noqa: ANN401 the library has no types
    tasks: pd.DataFrame,
    statics: pd.DataFrame,
) -> pd.DataFrame:
    """Revenue per user of each task by age, as the network sees it."""
    said = fitted.predict(df=tasks, static_df=statics_of(statics, tasks)).reset_index()
    (name,) = set(said) - {"index", "unique_id", "ds"}
    said = said.rename(columns={name: "y"})
    return said.loc[said["ds"] <= LAST, ["unique_id", "ds", "y"]]


def statics_of(statics: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """The statics of the series in a frame."""
    return statics[statics["unique_id"].isin(frame["unique_id"])]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
