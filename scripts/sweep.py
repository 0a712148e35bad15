"""Search for better values of a config: see configs/sweep.yaml and configs/space/."""

import logging
from dataclasses import replace
from pathlib import Path

from hydra.utils import instantiate
from launch import launch, plain, repeated
from omegaconf import DictConfig

log = logging.getLogger("sweep")

OWN = ("sweep", "space", "out", "as_of", "title", "debug")  # keys that are not of the model's run


def main(config: DictConfig) -> None:
    """Read, try values on the past, test the best on later days, write."""
    from ltvnet.reports.sweep_report import Search
    from ltvnet.tuning import study, workers
    from ltvnet.tuning.trials import Gain, Task, held_out

    values, history = plain(config), instantiate(config.data).history()
    count, out = values["sweep"].pop("held_out"), Path(config.out)
    date, days = held_out(history, values, config.as_of, count)
    task = Task.of(values, values["space"], history, date, out)
    log.info("%d days before %s, %d held out", len(task.days), date, len(days))
    settings, words = study.Settings(**values["sweep"]), repeated(*OWN)
    with study.opened(settings.storage) as storage:
        done = workers.search(task, settings, storage)
        trials, mattered = study.finished(done, task), study.importances(done)
    found = Search(config.title, task, trials, mattered, len(settings.objectives) > 1, words)
    if days and not found.best.default:
        log.info("testing trial %d on %s", found.best.number, ", ".join(map(str, days)))
        found = replace(found, gain=Gain.of(task, found.best.values, history, days))
    found.write(out)
    log.info("%s\nwrote %s: best.yaml, report.html, trials.csv", found.finding(), out)


if __name__ == "__main__":
    launch(main, "sweep")
