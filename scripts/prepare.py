"""Make a cohort table of purchases, with its standard errors: see configs/prepare.yaml."""

import logging
from pathlib import Path

from launch import data_source, launch
from omegaconf import DictConfig

log = logging.getLogger("prepare")


def main(config: DictConfig) -> None:
    """Read purchases, write cohorts."""
    from ltvnet.operations.prepare_cohorts import prepare_cohorts

    out = Path(config.out)
    prepare_cohorts(data_source(config), out)
    log.info("%s: cohorts.csv, and standard_errors.csv of the same curves", out)


if __name__ == "__main__":
    launch(main, "prepare")
