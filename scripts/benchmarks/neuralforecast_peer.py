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

LAST_AGE = 360

QUIET = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False}


def main(folder: Path) -> None:
    """Fit each setting on what is known and forecast the tasks."""
    torch.set_num_threads(1)
    settings = json.loads((folder / "settings.json").read_text())
    curves = pd.read_parquet(folder / "known.parquet")
    tasks = pd.read_parquet(folder / "tasks.parquet")
    statics = pd.read_parquet(folder / "statics.parquet")

    forecasts, costs = [], {}
    for name, setting in settings.items():
        start = time.perf_counter()
        fitted, network = fit_network(setting, curves, statics)
        costs[name] = {
            "seconds": time.perf_counter() - start,
            "parameters": sum(weight.numel() for weight in network.parameters()),
        }
        forecasts.append(forecast_tasks(fitted, tasks, statics).assign(setting=name))
    pd.concat(forecasts).to_parquet(folder / "forecasts.parquet", index=False)
    (folder / "costs.json").write_text(json.dumps(costs))


def fit_network(
    setting: Any,  # noqa: ANN401
    curves: pd.DataFrame,
    statics: pd.DataFrame,
) -> tuple[Any, Any]:
    """Return a fitted library object, and its network."""
    input_size = setting["arguments"]["input_size"]
    arguments = {"h": LAST_AGE + 1 - input_size} | setting["arguments"]
    arguments["stat_exog_list"] = [name for name in statics if name != "unique_id"]
    network = getattr(models, setting["model"])(**arguments, **QUIET, accelerator="cpu")
    library = NeuralForecast(models=[network], freq=1)

    length = curves.groupby("unique_id")["y"].transform("size")
    long_curves = curves[length > input_size]  # shorter ones have no target
    library.fit(df=long_curves, static_df=statics_of(statics, long_curves))
    return library, library.models[0]


def forecast_tasks(
    fitted: Any,  # noqa: ANN401 the library has no types
    tasks: pd.DataFrame,
    statics: pd.DataFrame,
) -> pd.DataFrame:
    """Return revenue per user of each task by age, as the network sees it."""
    forecast = fitted.predict(df=tasks, static_df=statics_of(statics, tasks)).reset_index()
    (network_name,) = set(forecast) - {"index", "unique_id", "ds"}
    forecast = forecast.rename(columns={network_name: "y"})
    return forecast.loc[forecast["ds"] <= LAST_AGE, ["unique_id", "ds", "y"]]


def statics_of(statics: pd.DataFrame, series: pd.DataFrame) -> pd.DataFrame:
    """Return the statics of the series in a frame."""
    return statics[statics["unique_id"].isin(series["unique_id"])]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
