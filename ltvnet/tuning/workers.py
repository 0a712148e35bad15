"""Sweeps: the trials of one study, worked on by any number of processes and machines.

Who works on a trial shows by its beat, so that what a killed process left is taken up by another.
Nothing is shared but the storage of the study.
"""

import logging
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
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
    """Tells which trials nobody works on any more: those whose beat has not changed for long.

    By the clock of who watches, so that the clocks of machines may differ.
    """

    patience: float
    seen: dict[int, tuple[object, float]] = field(default_factory=dict)

    def lost_trials(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Those of the running trials that are lost."""
        now = time.monotonic()
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        for trial in running:
            beat = trial.user_attrs.get("beat")
            if trial.number not in self.seen or self.seen[trial.number][0] != beat:
                self.seen[trial.number] = beat, now
        return [trial for trial in running if now - self.seen[trial.number][1] > self.patience]


@contextmanager
def heartbeat(storage: BaseStorage, trial: int, every: float) -> Iterator[None]:
    """Show others that a trial is worked on."""
    done = Event()

    def beat() -> None:
        count = 0
        while not done.is_set():
            count += 1
            try:
                storage.set_trial_user_attr(trial, "beat", count)
            except (UpdateFinishedTrialError, KeyError):
                return
            except Exception as error:  # such as a database that restarts: the next beat may do
                log.warning("a heartbeat was not written: %s", first_line(error))
            done.wait(every)

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@dataclass
class Worker:
    """One process that works on a study until its places are filled."""

    task: SweepTask
    settings: StudySettings
    storage: BaseStorage
    deadline: float
    monitor: HeartbeatMonitor = field(init=False)

    def __post_init__(self) -> None:
        """Begin to watch the others."""
        self.monitor = HeartbeatMonitor(MAX_MISSED_BEATS * self.settings.heartbeat)

    def run(self) -> None:
        """Try one place after the other; wait for those of others, in case they are lost."""
        wanted = len(planned_values(self.task, self.settings))
        while time.monotonic() < self.deadline:
            found = latest_attempts(self.load_study().get_trials(deepcopy=False))[:wanted]
            for trial in self.monitor.lost_trials(found):
                self.requeue(trial, "the process that worked on it ended")
            if claimed := next(filter(self._claims, found), None):
                self.run_trial(claimed.number, claimed._trial_id)
            elif any(not trial.state.is_finished() for trial in found):
                time.sleep(min(self.settings.heartbeat, 1.0))
            else:
                return

    def load_study(self, number: int = 0) -> Study:
        """The study with the sampler and pruner of a trial: its choices depend on its number."""
        return optuna.load_study(
            study_name=self.settings.study,
            storage=self.storage,
            sampler=make_sampler(self.settings, self.task.context.seed + number),
            pruner=make_pruner(self.settings, len(self.task.origins)),
        )

    def _claims(self, trial: FrozenTrial) -> bool:
        """Take a trial that waits, unless another was quicker."""
        if trial.state != TrialState.WAITING:
            return False
        try:
            return self.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False

    def run_trial(self, number: int, key: int) -> None:
        """Work on a trial that was claimed; an error is recorded and told, and stops nothing."""
        study, begun = self.load_study(number), time.monotonic()
        try:
            with heartbeat(self.storage, key, self.settings.heartbeat):
                self._worked_on(study, key)
        except UpdateFinishedTrialError:
            log.warning("trial %d was taken for lost and is tried again by another", number)
            return
        log.info(trial_summary(study.get_trials(deepcopy=False), number, time.monotonic() - begun))

    def _worked_on(self, study: Study, key: int) -> None:
        """Try the values of a trial, and say what came of it."""
        number = self.storage.get_trial(key).number
        try:
            values, state = self._tried(Trial(study, key))
        except KeyboardInterrupt:
            self.requeue(self.storage.get_trial(key), "interrupted", counted=False)
            raise
        except UpdateFinishedTrialError:
            raise
        except ValueError as error:  # the same values would be refused again
            self.storage.set_trial_user_attr(key, "error", first_line(error))
            values, state = None, TrialState.FAIL
        except Exception as error:
            log.exception("trial %d", number)
            self.requeue(self.storage.get_trial(key), f"{type(error).__name__}: {error}")
            return
        try:
            study.tell(number, values, state)
        except ValueError as error:  # told already
            raise UpdateFinishedTrialError(str(error)) from error

    def _tried(self, trial: Trial) -> tuple[list[float] | None, TrialState]:
        trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
        values = self.task.space.suggest(trial, self.task.config)
        single, first = len(self.settings.objectives) == 1, trial.user_attrs[SLOT] == 0
        folder = self.task.folder / "trials" / f"{trial.number:04}"

        def heard(day: int, score: float) -> None:
            run.log_score(day, score)
            if single:
                trial.report(score, day)
                if not first and day < len(self.task.origins) and trial.should_prune():
                    raise TrialPruned

        with TrialFolder(folder, self.task.trial_config(values), values) as run:
            try:
                outcome = self.task.score(values, heard)
            except TrialPruned:
                return None, TrialState.PRUNED
            run.set_outcome(outcome)
        for name, value in {**outcome.bias, "allowed": outcome.allowed}.items():
            trial.set_user_attr(name, value)
        trial.set_user_attr("seconds", outcome.seconds)
        trial.set_user_attr("score", outcome.score)
        goals = [float(getattr(outcome, name)) for name in self.settings.objectives]
        if not all(map(isfinite, goals)):
            raise ValueError(f"expected finite objectives, got {goals}")
        return goals, TrialState.COMPLETE

    def requeue(self, trial: FrozenTrial, why: str, *, counted: bool = True) -> None:
        """Give up a trial, and its place to another with the same values, if there is a try left.

        The new one is written first: from then on it has the place, whoever ends when. What was
        not `counted` takes no try.
        """
        tries = trial.user_attrs.get("tries", 0) + counted
        study = self.load_study()
        held = {holder.number for holder in latest_attempts(study.get_trials(deepcopy=False))}
        if tries <= self.settings.retries and trial.number in held:
            values = trial.params or trial.system_attrs.get("fixed_params", {})
            study.enqueue_trial(
                values,
                user_attrs={
                    SLOT: trial.user_attrs[SLOT],
                    ATTEMPT: attempt_number(trial) + 1,
                    "tries": tries,
                },
            )
        try:
            self.storage.set_trial_user_attr(trial._trial_id, "error", why)
            study.tell(trial.number, state=TrialState.FAIL)
        except (UpdateFinishedTrialError, ValueError):
            return  # another gave it up, or it is finished after all
        log.warning("trial %d failed: %s", trial.number, why)


def trial_summary(trials: Sequence[FrozenTrial], number: int, seconds: float) -> str:
    """A line about a trial that was finished."""
    counted = latest_attempts(trials)
    done = sum(trial.state.is_finished() for trial in counted)
    trial = next(trial for trial in trials if trial.number == number)
    usual = next((t.params for t in counted if t.user_attrs[SLOT] == 0), {})
    other = {key: value for key, value in trial.params.items() if usual.get(key) != value}
    values = ", ".join(f"{key.split('.')[-1]}={_short(x)}" for key, x in other.items())
    what = {
        TrialState.PRUNED: f"pruned after {trial.last_step} days",
        TrialState.FAIL: f"failed: {trial.user_attrs.get('error')}",
    }.get(trial.state, f"score {trial.user_attrs.get('score', float('nan')):.2%}")
    return (
        f"{done} of {len(counted)}: trial {number} {what} ({seconds:.0f} s; {values or 'default'})"
    )


def _short(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def run_study(task: SweepTask, settings: StudySettings, storage: BaseStorage) -> Study:
    """Fill the places of a study, by this process or by several that open its storage too.

    Raises ValueError when places are left though there was no timeout.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = open_study(task, settings, storage)
    if settings.workers == 1:
        Worker(task, settings, storage, time.monotonic() + settings.timeout_seconds).run()
    else:
        _crowd(task, settings)
    wanted = latest_attempts(study.get_trials(deepcopy=False))[
        : len(planned_values(task, settings))
    ]
    if left := sum(not trial.state.is_finished() for trial in wanted):
        said = f"{left} of {len(wanted)} trials are left: the same command goes on"
        if settings.timeout is None:
            raise ValueError(f"expected workers until the end, but they ended early; {said}")
        log.warning(said)
    return study


def _crowd(task: SweepTask, settings: StudySettings) -> None:
    """Let several processes work on a study until all of them have ended."""
    os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive")
    context = get_context("spawn")  # a fork would copy the threads of torch
    crowd = [context.Process(target=_work, args=(task, settings)) for _ in range(settings.workers)]
    for worker in crowd:
        worker.start()
    try:
        for worker in crowd:
            worker.join()
    except KeyboardInterrupt:  # the workers have it too, and give up their trials
        for worker in crowd:
            worker.join(10)
            worker.terminate()
        raise
    if ended := [worker.exitcode for worker in crowd if worker.exitcode]:
        log.warning("%d of %d workers ended early, with %s", len(ended), len(crowd), ended)


def _work(task: SweepTask, settings: StudySettings) -> None:
    """What a process of its own does."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    Thread(target=end_with_parent, daemon=True).start()
    deadline = time.monotonic() + settings.timeout_seconds
    with open_storage(settings.storage) as storage:
        try:
            Worker(task, settings, storage, deadline).run()
        except KeyboardInterrupt:
            sys.exit(130)
