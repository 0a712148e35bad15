"""Make a cohort table of purchases, with its standard errors: see configs/prepare.yaml."""

import logging
from pathlib import Path

from command_line.next_lines import command, data_word
from launch import data_source, launch
from omegaconf import DictConfig

log = logging.getLogger("prepare")


def main(config: DictConfig) -> None:
    """Read purchases, write cohorts, say how to train on them."""
    from ltvnet.operations.prepare_cohorts import prepare_cohorts

    prepared = prepare_cohorts(data_source(config), Path(config.out))
    log.info(
        "%s, and standard errors of its curves: %s", prepared.cohorts, prepared.standard_errors
    )
    words = [data_word(key, value) for key, value in prepared.training_choices().items()]
    log.info("next: %s", command("train", "model=best", "data=files", *words))


if __name__ == "__main__":
    launch(main, "prepare")
