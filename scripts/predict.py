"""Forecast cohorts with a trained bundle: see configs/predict.yaml."""

import logging
import time
from pathlib import Path

from hydra.utils import instantiate
from launch import launch, plain
from omegaconf import DictConfig

log = logging.getLogger("predict")


def main(config: DictConfig) -> None:
    """Read, forecast, write."""
    import torch

    from ltvnet.prediction import batch, bundle, spark

    torch.set_num_threads(config.threads)
    loaded = bundle.load(config.bundle).to(config.device)
    source, folder = instantiate(config.data), Path(config.out)
    began, names = time.perf_counter(), ("wide", "ages", "by", "ledger", "explain", "part")
    tables = batch.Tables(**{name: plain(config)[name] for name in names})
    if spark.chosen(config.engine, config.as_of, config.device):
        cluster = spark.Cluster(**plain(config.spark))
        reasons = spark.predict(config.bundle, source, tables, config.rows, cluster, folder)
    elif config.as_of is None and hasattr(source, "curves"):
        reasons = batch.predict(loaded, lambda: source.curves(config.rows), folder, tables)
    else:
        history = source.history()
        curves = history.as_of(config.as_of or getattr(source, "origin", history.last_day))
        reasons = batch.predict(loaded, lambda: [curves], folder, tables)
    counts = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    took = f"{reasons.total():,} cohorts in {time.perf_counter() - began:.2f} s"
    log.info("%s: %s\n%s\nwrote %s", took, counts, batch.learned(loaded), folder)


if __name__ == "__main__":
    launch(main, "predict")
