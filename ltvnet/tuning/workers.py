"""Workers: processes, on any number of machines, that try the trials of one study.

A worker shows by a heartbeat that it is still at its trial, so that the trial of a killed process
is taken up by another. Nothing is shared but the storage of the study.
"""

import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from multiprocessing import get_context
from threading import Event, Thread

import optuna
from optuna.exceptions import TrialPruned, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from ltvnet.backtesting.replay import end_with_parent
from ltvnet.tuning.search_space import Value
from ltvnet.tuning.study import (
    ATTEMPT,
    SLOT,
    StudySettings,
    attempt_number,
    first_line,
    latest_attempts,
    make_pruner,
    make_sampler,
    open_storage,
    open_study,
    planned_values,
)
from ltvnet.tuning.trials import SweepTask, TrialFolder

log = logging.getLogger(__name__)

MAX_MISSED_BEATS = 6
"""Heartbeats without a change after which a trial is taken for lost."""


@dataclass
class HeartbeatMonitor:
    """Finds trials that nobody works on any more: their beat has not changed for long.

    `patience` in seconds; `last_beats` holds, by the number of a trial, its last beat and when it
    was first seen, by the clock of this process: the clocks of machines may differ.
    """

    patience: float
    last_beats: dict[int, tuple[object, float]] = field(default_factory=dict)

    def lost_trials(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Return the running trials that are lost."""
        now = time.monotonic()
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        for trial in running:
            beat = trial.user_attrs.get("beat")
            last = self.last_beats.get(trial.number)
            if last is None or last[0] != beat:
                self.last_beats[trial.number] = (beat, now)
        return [
            trial for trial in running if now - self.last_beats[trial.number][1] > self.patience
        ]


@contextmanager
def heartbeat(storage: BaseStorage, trial_id: int, every: float) -> Iterator[None]:
    """Show others every so many seconds that a trial is worked on."""
    is_done = Event()

    def beat() -> None:
        count = 0
        while not is_done.is_set():
            count += 1
            try:
                storage.set_trial_user_attr(trial_id, "beat", count)
            except (UpdateFinishedTrialError, KeyError):
                return
            except Exception as error:  # such as a database that restarts: the next beat may do
                log.warning("a heartbeat was not written: %s", first_line(error))
            is_done.wait(every)

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_done.set()
        thread.join()


@dataclass
class Worker:
    """A process that works on a study until its slots are filled.

    No trial begins after `deadline`, in seconds of `time.monotonic`.
    """

    task: SweepTask
    settings: StudySettings
    storage: BaseStorage
    deadline: float
    monitor: HeartbeatMonitor = field(init=False)

    def __post_init__(self) -> None:
        """Begin to watch the other workers."""
        self.monitor = HeartbeatMonitor(MAX_MISSED_BEATS * self.settings.heartbeat)

    def run(self) -> None:
        """Try one slot after the other; wait for those of others, in case they are lost."""
        slots = len(planned_values(self.task, self.settings))
        while time.monotonic() < self.deadline:
            trials = latest_attempts(self.load_study().get_trials(deepcopy=False))[:slots]
            for trial in self.monitor.lost_trials(trials):
                self.requeue(trial, "the process that worked on it ended")

            claimed = next(filter(self.claim, trials), None)
            if claimed is not None:
                self.run_trial(claimed.number, claimed._trial_id)
            elif any(not trial.state.is_finished() for trial in trials):
                time.sleep(min(self.settings.heartbeat, 1.0))
            else:
                return

    def load_study(self, number: int = 0) -> Study:
        """Load the study with the sampler and pruner of a trial: their seed is its number."""
        return optuna.load_study(
            study_name=self.settings.study,
            storage=self.storage,
            sampler=make_sampler(self.settings, self.task.context.seed + number),
            pruner=make_pruner(self.settings, len(self.task.origins)),
        )

    def claim(self, trial: FrozenTrial) -> bool:
        """Take a trial that waits. Returns False where another was quicker."""
        if trial.state != TrialState.WAITING:
            return False
        try:
            return self.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False

    def run_trial(self, number: int, trial_id: int) -> None:
        """Work on a trial that was claimed; an error is recorded and logged, and stops nothing."""
        study = self.load_study(number)
        begun = time.monotonic()
        try:
            with heartbeat(self.storage, trial_id, self.settings.heartbeat):
                self._try_and_record(study, trial_id)
        except UpdateFinishedTrialError:
            log.warning("trial %d was taken for lost and is tried again by another", number)
            return
        log.info(trial_summary(study.get_trials(deepcopy=False), number, time.monotonic() - begun))

    def _try_and_record(self, study: Study, trial_id: int) -> None:
        """Try the values of a trial, and tell the study how it ended.

        Raises UpdateFinishedTrialError where another process took the trial for lost.
        """
        number = self.storage.get_trial(trial_id).number
        try:
            objectives, state = self._try_values(Trial(study, trial_id))
        except KeyboardInterrupt:
            self.requeue(self.storage.get_trial(trial_id), "interrupted", counted=False)
            raise
        except UpdateFinishedTrialError:
            raise
        except ValueError as error:  # the same values would be refused again
            self.storage.set_trial_user_attr(trial_id, "error", first_line(error))
            objectives, state = None, TrialState.FAIL
        except Exception as error:
            log.exception("trial %d", number)
            self.requeue(self.storage.get_trial(trial_id), f"{type(error).__name__}: {error}")
            return

        try:
            study.tell(number, objectives, state)
        except ValueError as error:  # told already
            raise UpdateFinishedTrialError(str(error)) from error

    def _try_values(self, trial: Trial) -> tuple[list[float] | None, TrialState]:
        """Score the values that a trial chooses. Returns its objectives and how it ended."""
        trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
        values = self.task.space.suggest(trial, self.task.config)
        folder = self.task.folder / "trials" / f"{trial.number:04}"
        config = self.task.trial_config(values)

        with TrialFolder(folder, config, values) as trial_folder:
            try:
                outcome = self.task.score(values, self._reporter(trial, trial_folder))
            except TrialPruned:
                return None, TrialState.PRUNED
            trial_folder.set_outcome(outcome)

        for name, value in {**outcome.bias, "allowed": outcome.allowed}.items():
            trial.set_user_attr(name, value)
        trial.set_user_attr("seconds", outcome.seconds)
        trial.set_user_attr("score", outcome.score)
        objectives = [float(getattr(outcome, name)) for name in self.settings.objectives]
        if not all(map(isfinite, objectives)):
            raise ValueError(f"expected finite objectives, got {objectives}")
        return objectives, TrialState.COMPLETE

    def _reporter(self, trial: Trial, folder: TrialFolder) -> Callable[[int, float], None]:
        """Make a function that takes the score after each day, and raises to prune the trial.

        The default is never pruned, nor a trial that is done, nor any with two objectives.
        """
        has_one_objective = len(self.settings.objectives) == 1
        is_default = trial.user_attrs[SLOT] == 0

        def report(day: int, score: float) -> None:
            folder.log_score(day, score)
            if not has_one_objective:
                return
            trial.report(score, day)
            is_last_day = day >= len(self.task.origins)
            if not is_default and not is_last_day and trial.should_prune():
                raise TrialPruned

        return report

    def requeue(self, trial: FrozenTrial, reason: str, *, counted: bool = True) -> None:
        """Give up a trial, and its slot to another with the same values, if there is a try left.

        The new one is written first: from then on it has the slot, whoever ends when. A trial that
        is not `counted` takes no try.
        """
        study = self.load_study()
        tries = trial.user_attrs.get("tries", 0) + counted
        latest_numbers = {
            latest.number for latest in latest_attempts(study.get_trials(deepcopy=False))
        }
        if tries <= self.settings.retries and trial.number in latest_numbers:
            values = trial.params or trial.system_attrs.get("fixed_params", {})
            attributes = {
                SLOT: trial.user_attrs[SLOT],
                ATTEMPT: attempt_number(trial) + 1,
                "tries": tries,
            }
            study.enqueue_trial(values, user_attrs=attributes)

        try:
            self.storage.set_trial_user_attr(trial._trial_id, "error", reason)
            study.tell(trial.number, state=TrialState.FAIL)
        except (UpdateFinishedTrialError, ValueError):
            return  # another gave it up, or it is finished after all
        log.warning("trial %d failed: %s", trial.number, reason)


def trial_summary(trials: Sequence[FrozenTrial], number: int, seconds: float) -> str:
    """Say in a line how a trial ended, and which of its values differ from the default's."""
    latest = latest_attempts(trials)
    finished = sum(trial.state.is_finished() for trial in latest)
    trial = next(trial for trial in trials if trial.number == number)

    defaults = (other.params for other in latest if other.user_attrs[SLOT] == 0)
    default = next(defaults, {})
    different = {key: value for key, value in trial.params.items() if default.get(key) != value}
    values = ", ".join(
        f"{key.split('.')[-1]}={_format_value(value)}" for key, value in different.items()
    )

    if trial.state == TrialState.PRUNED:
        result = f"pruned after {trial.last_step} days"
    elif trial.state == TrialState.FAIL:
        result = f"failed: {trial.user_attrs.get('error')}"
    else:
        result = f"score {trial.user_attrs.get('score', float('nan')):.2%}"
    return (
        f"{finished} of {len(latest)}: trial {number} {result} "
        f"({seconds:.0f} s; {values or 'default'})"
    )


def _format_value(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def run_study(task: SweepTask, settings: StudySettings, storage: BaseStorage) -> Study:
    """Fill the slots of a study, by this process or by several that open its storage too.

    Raises ValueError when slots are left though there was no timeout.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = open_study(task, settings, storage)
    if settings.workers == 1:
        Worker(task, settings, storage, time.monotonic() + settings.timeout_seconds).run()
    else:
        _run_processes(task, settings)

    slots = len(planned_values(task, settings))
    trials = latest_attempts(study.get_trials(deepcopy=False))[:slots]
    left = sum(not trial.state.is_finished() for trial in trials)
    if left:
        message = f"{left} of {len(trials)} trials are left: the same command goes on"
        if settings.timeout is None:
            raise ValueError(f"expected workers until the end, but they ended early; {message}")
        log.warning(message)
    return study


def _run_processes(task: SweepTask, settings: StudySettings) -> None:
    """Let several processes work on a study until all of them have ended."""
    os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive")
    context = get_context("spawn")  # a fork would copy the threads of torch
    processes = [
        context.Process(target=_run_worker, args=(task, settings)) for _ in range(settings.workers)
    ]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join()
    except KeyboardInterrupt:  # the workers have it too, and give up their trials
        for process in processes:
            process.join(10)
            process.terminate()
        raise

    failures = [process.exitcode for process in processes if process.exitcode]
    if failures:
        log.warning(
            "%d of %d workers ended early, with %s", len(failures), len(processes), failures
        )


def _run_worker(task: SweepTask, settings: StudySettings) -> None:
    """Open the storage and work on the study, in a process of its own."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    Thread(target=end_with_parent, daemon=True).start()
    deadline = time.monotonic() + settings.timeout_seconds
    with open_storage(settings.storage) as storage:
        try:
            Worker(task, settings, storage, deadline).run()
        except KeyboardInterrupt:
            sys.exit(130)
