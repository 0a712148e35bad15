"""Fits of neuralforecast against the clock: python neuralforecast_race.py FOLDER.

Runs where that library is installed and knows nothing of ltvnet. Reads `settings.json` (name ->
model, arguments and the number of windows to see) and `known.parquet` (unique_id, ds the age, y);
writes `costs.json` (name -> seconds, windows, parameters).
"""

import json
import logging
import math
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from neuralforecast import NeuralForecast, models

QUIET = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False}


def main(folder: Path) -> None:
    """Fit each setting once."""
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    settings = json.loads((folder / "settings.json").read_text())
    curves = pd.read_parquet(folder / "known.parquet")
    costs = {name: time_fit(setting, curves) for name, setting in settings.items()}
    (folder / "costs.json").write_text(json.dumps(costs))


def time_fit(setting: Any, curves: pd.DataFrame) -> dict[str, float]:  # noqa: ANN401
    """Fit once; return seconds, windows seen and parameters; no cohort is too short to teach."""
    arguments = setting["arguments"]
    length = curves.groupby("unique_id")["y"].transform("size")
    long_curves = curves[length > arguments["input_size"]]
    steps = math.ceil(setting["windows"] / arguments["windows_batch_size"])

    model_class = getattr(models, setting["model"])
    network = model_class(**arguments, **QUIET, max_steps=steps, accelerator="cpu")
    library = NeuralForecast(models=[network], freq=1)
    start = time.perf_counter()
    library.fit(df=long_curves)
    return {
        "seconds": time.perf_counter() - start,
        "windows": steps * arguments["windows_batch_size"],
        "parameters": sum(weight.numel() for weight in library.models[0].parameters()),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
