"""Tasks of a sweep whose scores are known; worker processes import them from here."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

from factories.cohorts import weekly_history
from factories.models import make_run_context
from factories.sweeps import SWEEP_SETTINGS
from ltvnet.tuning import study, workers
from ltvnet.tuning.search_space import SearchSpace, Value
from ltvnet.tuning.study import StudySettings
from ltvnet.tuning.trials import SweepTask, TrialOutcome

QUICK_CONFIG = {"model": {"x": 0.5, "y": 3, "kind": "a"}, "validation": {}, "seed": 0}


QUICK_SPACE = {
    "model": {"x": {"low": 0.0, "high": 1.0}, "y": {"low": 1, "high": 5}, "kind": ["a", "b"]},
}


@dataclass(frozen=True)
class QuickTask(SweepTask):
    """A task whose score is known, and which notes who works on what."""

    nap: float = 0.0

    @property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of all that a study of the task depends on."""
        return {"task": "quick"}

    def score(
        self, values: Mapping[str, Value], told: Callable[[int, float], None]
    ) -> TrialOutcome:
        with (self.folder / "begun").open("a") as file:
            file.write(f"{os.getpid()} {values['model.x']}\n")
        score = (values["model.x"] - 0.3) ** 2 + 0.01 * values["model.y"]
        for day in range(1, 4):
            time.sleep(self.nap)
            told(day, score)
        return TrialOutcome(score, {}, allowed=True, seconds=0.1 * values["model.y"])


@dataclass(frozen=True)
class FailingTask(QuickTask):
    """A task that refuses some values, or breaks on them."""

    error: type[Exception] = ValueError

    def score(
        self, values: Mapping[str, Value], told: Callable[[int, float], None]
    ) -> TrialOutcome:
        if values["model.kind"] == "b":
            raise self.error("kind b does not work")
        return super().score(values, told)


@dataclass(frozen=True)
class InterruptedTask(QuickTask):
    """A task whose user presses ctrl-C."""

    def score(
        self, values: Mapping[str, Value], told: Callable[[int, float], None]
    ) -> TrialOutcome:
        raise KeyboardInterrupt


@dataclass(frozen=True)
class DeadlyTask(QuickTask):
    """A task that takes its process with it."""

    def score(
        self, values: Mapping[str, Value], told: Callable[[int, float], None]
    ) -> TrialOutcome:
        os._exit(3)


def quick_task(folder: Path, kind: type[QuickTask] = QuickTask, **more: Any) -> QuickTask:  # noqa: ANN401
    """A task of three days, in a folder."""
    history = weekly_history(8)
    days = list(np.arange("2024-01-01", "2024-01-04", dtype="datetime64[D]"))
    return kind(
        QUICK_CONFIG,
        make_run_context(),
        SearchSpace.parse(QUICK_SPACE, QUICK_CONFIG),
        history,
        days[-1],
        days,
        folder,
        **more,
    )


def quick_settings(file: Path | None = None, **changes: Any) -> StudySettings:  # noqa: ANN401
    """Settings of a short search, in memory or in a file, with some of them changed."""
    storage = f"sqlite:///{file}" if file else "memory"
    short = {"study": "s", "trials": 6, "startup": 3, "points": 2, "heartbeat": 0.5, "retries": 1}
    return StudySettings(
        **SWEEP_SETTINGS | short | {"storage": storage, "pruner": "none"} | changes
    )


def trials_begun(folder: Path) -> list[list[str]]:
    """The process and the value of x of each trial, as they began."""
    path = folder / "begun"
    if not path.exists():
        return []
    return [row.split() for row in path.read_text().splitlines()]


def finish_study(task: SweepTask, settings: StudySettings) -> list[FrozenTrial]:
    """All trials of a study once it has been worked on."""
    with study.open_storage(settings.storage) as storage:
        return workers.run_study(task, settings, storage).trials
