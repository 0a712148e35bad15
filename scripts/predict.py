"""Forecast cohorts with a trained bundle: see configs/predict.yaml."""

import logging
from pathlib import Path

from launch import data_source, launch, plain, section
from omegaconf import DictConfig

log = logging.getLogger("predict")


def main(config: DictConfig) -> None:
    """Read, forecast, write."""
    from ltvnet.forecasting.typed_config import settings_from
    from ltvnet.operations.forecast_batch import ForecastOptions, forecast_batch
    from ltvnet.prediction.batch import OutputOptions
    from ltvnet.prediction.spark import SparkCluster

    cluster = None
    if config.engine == "spark":
        cluster = settings_from(SparkCluster, section(config, "spark"), "spark")
    values = plain(config)
    names = ("wide", "ages", "by", "ledger", "explain", "part", "scale")
    options = ForecastOptions(
        as_of=config.as_of,
        rows=config.rows,
        threads=config.threads,
        device=config.device,
        engine=config.engine,
        cluster=cluster,
        tables=OutputOptions(**{name: values[name] for name in names}),
    )
    out = Path(config.out)
    summary = forecast_batch(Path(config.bundle), data_source(config), options, out)
    log.info("%s\nwrote %s", summary.as_text(), out)


if __name__ == "__main__":
    launch(main, "predict")
