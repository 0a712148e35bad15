"""A finished sweep: which of its trials is the best, and what that saves.

Shapes: T trials.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ltvnet.data.arrays import Floats
from ltvnet.tuning.trials import COMPLETE, PRUNED, FinishedTrial, HeldOutGain, SweepTask


@dataclass(frozen=True)
class SweepCourse:
    """Scores of trials in the order they began, which the best is chosen from.

    `numbers` and `scores` (T,) of the trials, `pruned_numbers` of those stopped early.
    """

    numbers: Sequence[int]
    scores: Floats
    pruned_numbers: Sequence[int]

    @property
    def best_so_far(self) -> Floats:
        """The lowest score up to each trial: (T,)."""
        lowest: Floats = np.minimum.accumulate(self.scores)
        return lowest


@dataclass(frozen=True)
class SweepResult:
    """A finished sweep: its `task` and `trials` (T,), `importances` by key, `gain` of the best.

    `title` names the model; `pareto` whether seconds counted too; `overrides` of the command line
    that made the config, repeated to train the best; `gain` on days that the sweep did not see
    (None: not tested). Raises ValueError when no trial finished.
    """

    title: str
    task: SweepTask
    trials: Sequence[FinishedTrial]
    importances: Mapping[str, float]
    pareto: bool
    overrides: Sequence[str]
    gain: HeldOutGain | None = None

    def __post_init__(self) -> None:
        """Check that a trial finished."""
        if not self.finished_trials:
            errors = [trial.error for trial in self.trials if trial.error]
            reason = f": {errors[0]}" if errors else ""
            raise ValueError(f"expected a finished trial, got none of {len(self.trials)}{reason}")

    @property
    def finished_trials(self) -> list[FinishedTrial]:
        """Trials of all days, the best first."""
        finished = [trial for trial in self.trials if trial.state == COMPLETE]
        return sorted(finished, key=lambda trial: trial.score)

    @property
    def default_trial(self) -> FinishedTrial | None:
        """The trial of the config as it was; None when it failed."""
        return next((trial for trial in self.finished_trials if trial.default), None)

    @property
    def best_trial(self) -> FinishedTrial:
        """The lowest score without a bias that is not allowed; the default may have one."""
        finished = self.finished_trials
        allowed = [trial for trial in finished if trial.allowed or trial.default]
        return allowed[0] if allowed else finished[0]

    @property
    def pareto_front(self) -> list[FinishedTrial]:
        """Trials that no other beats in score or seconds without losing in the other."""
        front: list[FinishedTrial] = []
        for trial in sorted(self.finished_trials, key=lambda trial: (trial.score, trial.seconds)):
            if not front or trial.seconds < front[-1].seconds:
                front.append(trial)
        return front

    @property
    def course(self) -> SweepCourse:
        """Scores of the trials that may be the best; of the best alone where none may be."""
        candidates = [
            trial
            for trial in self.trials
            if trial.state == COMPLETE and (trial.allowed or trial.default)
        ]
        if not candidates:
            candidates = [self.best_trial]
        return SweepCourse(
            numbers=[trial.number for trial in candidates],
            scores=np.array([trial.score for trial in candidates]),
            pruned_numbers=[trial.number for trial in self.trials if trial.state == PRUNED],
        )

    @property
    def error_saved(self) -> float | None:
        """Share of the default's score that the best trial saves; None when the default failed."""
        default = self.default_trial
        return None if default is None else 1 - self.best_trial.score / default.score

    def trial_table(self) -> pd.DataFrame:
        """Return all trials, a row each; keys and biases are columns of their own."""
        rows = []
        for trial in self.trials:
            row = {**vars(trial), **trial.bias, **trial.values}
            for nested in ("values", "bias", "default"):
                row.pop(nested)
            rows.append(row)
        return pd.DataFrame(rows)
