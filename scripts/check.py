"""Say what is in a cohort table, or a folder of them, and what is odd: see configs/check.yaml."""

import logging
from pathlib import Path

from command_line.next_lines import command, data_words
from launch import data_source, launch, plain
from omegaconf import DictConfig

log = logging.getLogger("check")


def main(config: DictConfig) -> None:
    """Read, look, tell; nothing is written."""
    from ltvnet.operations.check_data import check_data
    from ltvnet.reports.data_summary import describe_overview

    bundle_folder = None if config.bundle is None else Path(config.bundle)
    overview = check_data(data_source(config), bundle_folder)
    log.info("%s", describe_overview(overview))

    words = data_words(plain(config.data, resolve=True))
    if any(finding.severity == "refusal" for finding in overview.findings):
        log.info("next: mend what is marked REFUSAL; train.py and predict.py refuse it")
    elif bundle_folder is not None:
        options = [word for word in words if word != "data=files"]
        log.info("next: %s", command("predict", f"bundle={bundle_folder}", *options, "out=."))
    else:
        log.info("next: %s", command("train", "model=best", *words))


if __name__ == "__main__":
    launch(main, "check")
