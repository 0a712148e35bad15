"""Forecast cohorts with a trained bundle: see configs/predict.yaml."""

import logging
from pathlib import Path

from launch import data_source, launch, plain, section
from omegaconf import DictConfig

TABLE_KEYS = ("wide", "ages", "by", "ledger", "explain", "part", "scale")
"""Keys of configs/predict.yaml that are those of OutputOptions."""

SETTING_KEYS = ("as_of", "rows", "threads", "device", "engine")
"""Keys of configs/predict.yaml that are those of ForecastOptions."""

log = logging.getLogger("predict")


def main(config: DictConfig) -> None:
    """Read, forecast, write."""
    from ltvnet.forecasting.typed_config import check_value, settings_from
    from ltvnet.operations.forecast_batch import ForecastOptions, forecast_batch
    from ltvnet.prediction.batch import OutputOptions
    from ltvnet.prediction.spark import SparkCluster

    values = plain(config, resolve=True)
    cluster = settings_from(SparkCluster, section(config, "spark", resolve=True), "spark")
    tables = {key: values[key] for key in TABLE_KEYS}
    settings = {key: values[key] for key in SETTING_KEYS}
    settings |= {
        "cluster": cluster if config.engine == "spark" else None,
        "tables": settings_from(OutputOptions, tables, ""),
    }
    options = settings_from(ForecastOptions, settings, "")
    check_value(values["bundle"], str, "bundle")
    out = Path(config.out)
    summary = forecast_batch(Path(config.bundle), data_source(config), options, out)
    log.info("%s\nwrote %s", summary.as_text(), out)


if __name__ == "__main__":
    launch(main, "predict")
