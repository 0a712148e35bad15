"""Say what is in a cohort table, or a folder of them, and what is odd: see configs/check.yaml."""

import logging
import sys
from pathlib import Path

from command_line.next_lines import command, data_words
from launch import data_source, launch, plain
from omegaconf import DictConfig

log = logging.getLogger("check")

REFUSED = 4
"""Exit code where the data hold what train.py and predict.py refuse."""


def main(config: DictConfig) -> None:
    """Read, look, tell; nothing is written but a mapping, where one is to be saved."""
    from ltvnet.forecasting.typed_config import check_value
    from ltvnet.operations.check_data import check_data
    from ltvnet.operations.save_mapping import save_mapping
    from ltvnet.reports.data_summary import describe_overview

    check_value(config.bundle, str | None, "bundle")
    bundle_folder = None if config.bundle is None else Path(config.bundle)
    source = data_source(config)
    overview = check_data(source, bundle_folder)
    log.info("%s", describe_overview(overview))
    if config.save is not None:
        log.info("saved: %s, which data=%s reads", save_mapping(config.save, source), config.save)

    words = data_words(plain(config.data, resolve=True))
    if any(finding.severity == "refusal" for finding in overview.findings):
        log.info("next: mend what is marked REFUSAL; train.py and predict.py refuse it")
        sys.exit(REFUSED)
    if bundle_folder is not None:
        options = [word for word in words if word != "data=files"]
        log.info("next: %s", command("predict", f"bundle={bundle_folder}", *options, "out=."))
    else:
        log.info("next: %s", command("train", "model=best", *words))


if __name__ == "__main__":
    launch(main, "check")
