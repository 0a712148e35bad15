"""Forecast cohorts with a trained bundle: see configs/predict.yaml."""

import logging
import time
from pathlib import Path

from hydra.utils import instantiate
from launch import launch
from omegaconf import DictConfig

log = logging.getLogger("predict")


def main(config: DictConfig) -> None:
    """Read, forecast, write."""
    import torch

    from ltvnet import batch, bundle
    from ltvnet.curves import day

    torch.set_num_threads(config.threads)
    loaded = bundle.load(config.bundle)
    source, folder, began = instantiate(config.data), Path(config.out), time.perf_counter()
    ledger = config.ledger and Path(config.ledger)
    tables = batch.Tables(config.wide, list(config.ages), config.by, ledger, config.explain)
    if config.as_of is None and hasattr(source, "curves"):
        reasons = batch.predict(loaded, lambda: source.curves(config.rows), folder, tables)
    else:
        history = source.history()
        curves = history.as_of(day(config.as_of or getattr(source, "origin", history.last_day)))
        reasons = batch.predict(loaded, lambda: [curves], folder, tables)
    counts = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    seconds = time.perf_counter() - began
    log.info("%s cohorts in %.1f s: %s", f"{reasons.total():,}", seconds, counts)
    log.info(batch.learned(loaded))
    log.info("wrote %s: Files_Predictions*/, forecasts.parquet, *.csv", folder)


if __name__ == "__main__":
    launch(main, "predict")
