"""Search for better values of a config and test the best: what `scripts/sweep.py` does."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ltvnet.data.source import DataSource
from ltvnet.forecasting.model_spec import Config
from ltvnet.forecasting.run_context import RunContext
from ltvnet.forecasting.typed_config import check_day
from ltvnet.reports.sweep_report import write_sweep_report
from ltvnet.tuning import study, workers
from ltvnet.tuning.sweep_result import SweepResult
from ltvnet.tuning.trials import HeldOutGain, SweepTask, split_test_days

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """The space of a sweep, the settings of its study, and the days that test its winner.

    `title` of the model in reports; `as_of` the day that the sweep may not pass (None: the first
    of the newest days, which are held out); `config` with `model` and `validation`, `space` of
    what may change in it; `settings` of the study; `held_out` newest days on which the best is
    tested; `words` of the command line that train the same model again.
    """

    title: str
    as_of: str | None
    config: Config
    space: Config
    settings: study.StudySettings
    held_out: int
    words: Sequence[str]

    def __post_init__(self) -> None:
        """Check the day."""
        check_day(self.as_of, "as_of")


def tune(source: DataSource, context: RunContext, options: TuneOptions, out: Path) -> SweepResult:
    """Try values on the past, test the best on later days, write what was found to `out`.

    Continues a study that was stopped. Raises ValueError for a space or settings out of their
    range, and where no trial finished.
    """
    history = source.history()
    date, days = split_test_days(history, options.config, options.as_of, options.held_out)
    task = SweepTask.from_config(options.config, context, options.space, history, date, out)
    log.info("%d days before %s, %d held out", len(task.origins), date, len(days))

    settings = options.settings
    with study.open_storage(settings.storage) as storage:
        searched = workers.run_study(task, settings, storage)
        trials = study.finished_trials(searched, task)
        importances = study.key_importances(searched)
    pareto = len(settings.objectives) > 1
    result = SweepResult(options.title, task, trials, importances, pareto, options.words)

    if days and not result.best_trial.default:
        log.info("testing trial %d on %s", result.best_trial.number, ", ".join(map(str, days)))
        result = replace(
            result, gain=HeldOutGain.measure(task, result.best_trial.values, history, days)
        )
    write_sweep_report(result, out)
    return result
