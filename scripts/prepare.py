"""Make a cohort table of purchases, with its standard errors: see configs/prepare.yaml."""

import logging
from pathlib import Path

from hydra.utils import instantiate
from launch import launch
from omegaconf import DictConfig

log = logging.getLogger("prepare")


def main(config: DictConfig) -> None:
    """Read purchases, write cohorts."""
    from ltvnet.operations.prepare_cohorts import prepare_cohorts

    out = Path(config.out)
    prepare_cohorts(instantiate(config.data), out)
    log.info("%s: cohorts.csv, and standard_errors.csv of the same curves", out)


if __name__ == "__main__":
    launch(main, "prepare")
