"""Replay the past with several models, score them on the same days: see configs/backtest.yaml."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.utils import instantiate
from launch import launch, model_configs
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from ltvnet.reports.run_report import Backtest

log = logging.getLogger("backtest")


def main(config: DictConfig) -> None:
    """Read, replay the past with each model, score."""
    found = replayed(config)
    found.write(Path(config.out))
    log.info("%s\nwrote %s: report.html, leaderboard.md, scores.csv", found.as_text(), config.out)


def replayed(config: DictConfig) -> "Backtest":
    """Replay the past with each model."""
    from ltvnet.backtesting.origins import Plan, calendar
    from ltvnet.correction.walk_forward import Learning
    from ltvnet.reports.run_report import Backtest

    models = model_configs(config)
    plan = Plan(**{name: config[name] for name in ("window", "refit", "ages", "warm", "workers")})
    source = instantiate(config.data)
    history = source.history()
    days = calendar(history, **OmegaConf.to_container(config.origins))
    learning, ledger = Learning(**config.learning), Path(config.ledger)
    return Backtest.of(models, history, days, plan, learning, ledger, source)


if __name__ == "__main__":
    launch(main, "backtest")
