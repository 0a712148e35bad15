"""Search for better values of a config: see configs/sweep.yaml and configs/space/."""

import logging
from pathlib import Path

from launch import command_line, data_source, launch, model_spec, plain, run_context, section
from omegaconf import DictConfig

log = logging.getLogger("sweep")

SWEEP_KEYS = ("sweep", "space", "out", "as_of", "title", "debug")
"""Keys of the command line that training the best again does not repeat."""


def main(config: DictConfig) -> None:
    """Read, try values on the past, test the best on later days, write."""
    from ltvnet.correction.walk_forward import ValidationConfig
    from ltvnet.forecasting.typed_config import check_value, settings_from
    from ltvnet.operations.tune import TuneOptions, tune
    from ltvnet.reports.sweep_report import sweep_finding
    from ltvnet.tuning.study import StudySettings

    values = plain(config, resolve=True)
    study = section(config, "sweep")
    held_out = study.pop("held_out", None)
    check_value(held_out, int, "held_out", "sweep.")
    check_value(config.title, str, "title")
    model_spec(config)  # refuses what no trial could run with, as the next line does
    ValidationConfig.from_config(section(config, "validation"))
    options = TuneOptions(
        title=config.title,
        as_of=config.as_of,
        config=values,
        space=values["space"],
        settings=settings_from(StudySettings, study, "sweep"),
        held_out=held_out,
        words=command_line("sweep").words_without(*SWEEP_KEYS),
    )
    out = Path(config.out)
    result = tune(data_source(config), run_context(config, None), options, out)
    log.info("%s\nwrote %s: best.yaml, report.html, trials.csv", sweep_finding(result), out)


if __name__ == "__main__":
    launch(main, "sweep")
