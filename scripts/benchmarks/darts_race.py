"""Fits of darts against the clock: python darts_race.py FOLDER.

Runs where that library is installed and knows nothing of ltvnet. Reads `settings.json` (name ->
model, arguments and the number of windows to see) and `known.parquet` (unique_id, ds the age, y);
writes `costs.json` (name -> seconds, windows, parameters).
"""

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from darts import TimeSeries, models

QUIET = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "logger": False,
}


def main(folder: Path) -> None:
    """Fit each setting once."""
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    settings = json.loads((folder / "settings.json").read_text())
    curves = pd.read_parquet(folder / "known.parquet")
    costs = {name: time_fit(setting, curves) for name, setting in settings.items()}
    (folder / "costs.json").write_text(json.dumps(costs))


def time_fit(setting: Any, curves: pd.DataFrame) -> dict[str, float]:  # noqa: ANN401
    """Fit once; return its seconds, windows seen and parameters.

    The library pads nothing: a window needs the whole horizon, and series that end before it are
    left out. Those that are left stand in the list as often as makes an epoch a share of the
    windows, as an epoch has a price of its own.
    """
    arguments = setting["arguments"]
    shortest = arguments["input_chunk_length"] + arguments["output_chunk_length"]
    values = [curve.to_numpy(np.float32) for _, curve in curves.groupby("unique_id")["y"]]
    series = [TimeSeries.from_values(curve) for curve in values if len(curve) >= shortest]
    window_count = sum(len(curve) - shortest + 1 for curve in series)
    windows_an_epoch = setting["windows"] / arguments["n_epochs"]
    repeats = max(1, round(windows_an_epoch / window_count))

    model = getattr(models, setting["model"])(**arguments, pl_trainer_kwargs=QUIET)
    start = time.perf_counter()
    model.fit(series * repeats)
    return {
        "seconds": time.perf_counter() - start,
        "windows": window_count * repeats * arguments["n_epochs"],
        "parameters": sum(weight.numel() for weight in model.model.parameters()),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
