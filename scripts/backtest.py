"""Replay the past with several models, score them on the same days: see configs/backtest.yaml."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from launch import data_source, launch, model_specs, plain, run_context
from omegaconf import DictConfig

if TYPE_CHECKING:
    from ltvnet.operations.compare_models import ModelComparison

log = logging.getLogger("backtest")

PLAN_KEYS = ("window", "refit", "ages", "warm", "workers")
"""Keys of configs/backtest.yaml that are those of a ReplayPlan."""


def main(config: DictConfig) -> None:
    """Read, replay the past with each model, score."""
    comparison = compare(config)
    comparison.write(Path(config.out))
    text = comparison.as_text()
    log.info("%s\nwrote %s: report.html, leaderboard.md, scores.csv", text, config.out)


def compare(config: DictConfig) -> "ModelComparison":
    """Replay the past with each model."""
    from ltvnet.backtesting.origins import OriginsConfig, ReplayPlan
    from ltvnet.correction.walk_forward import StageSwitches
    from ltvnet.forecasting.typed_config import check_value, settings_from
    from ltvnet.operations.compare_models import CompareOptions, compare_models

    specs, values = model_specs(config), plain(config)
    check_value(config.ledger, str, "ledger")
    options = CompareOptions(
        origins=settings_from(OriginsConfig, values.get("origins"), "origins"),
        plan=settings_from(ReplayPlan, {key: values[key] for key in PLAN_KEYS}, ""),
        stages=settings_from(StageSwitches, values.get("learning"), "learning"),
        ledger=Path(config.ledger),
    )
    return compare_models(data_source(config), specs, run_context(config, None), options)


if __name__ == "__main__":
    launch(main, "backtest")
