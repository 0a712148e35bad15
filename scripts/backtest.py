"""Replay the past with several models, score them on the same days: see configs/backtest.yaml."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from launch import data_source, launch, model_specs, plain, run_context
from omegaconf import DictConfig

if TYPE_CHECKING:
    from ltvnet.operations.compare_models import ModelComparison

log = logging.getLogger("backtest")


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
    from ltvnet.operations.compare_models import CompareOptions, compare_models

    specs, values = model_specs(config), plain(config)
    plan_keys = ("window", "refit", "ages", "warm", "workers")
    options = CompareOptions(
        origins=OriginsConfig(**values["origins"]),
        plan=ReplayPlan(**{key: values[key] for key in plan_keys}),
        stages=StageSwitches(**values["learning"]),
        ledger=Path(config.ledger),
    )
    return compare_models(data_source(config), specs, run_context(config, None), options)


if __name__ == "__main__":
    launch(main, "backtest")
