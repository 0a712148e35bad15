"""Studies: where the trials of a sweep are kept, what chooses their values and what stops them.

A study holds as many places as trials are wanted. Each is a trial that waits, is worked on, or is
finished; one that was tried again leaves its place to its successor.
"""

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, event

from ltvnet.storage import mask_passwords
from ltvnet.tuning.search_space import Value, encode_choice
from ltvnet.tuning.trials import COMPLETE, FAILED, PRUNED, FinishedTrial, SweepTask

log = logging.getLogger(__name__)

SAMPLERS = ("tpe", "random", "grid", "cmaes")
PRUNERS = ("median", "hyperband", "none")
OBJECTIVES = ("score", "seconds")
IN_MEMORY = "memory"

SLOT, ATTEMPT, TASK = "place", "turn", "task"
"""Attributes: of a trial its place in the study and which try there it is, and of a study."""


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """How a study is searched.

    `study` its name in `storage` (memory, or the address of SQLite, PostgreSQL or a journal file);
    `trials` in all, by `workers` processes; no trial begins after `timeout`. `sampler` chooses
    values, at random in the first `startup` trials; `points` of a range in a grid. `pruner` stops
    bad trials, once `startup` / 2 of them have finished and after `warmup` days. `objectives`:
    score, or score and seconds of a fit. A worker shows that it is alive every `heartbeat`
    seconds; lost trials are tried again `retries` times. Raises ValueError for what is none of
    these.
    """

    study: str
    storage: str
    trials: int
    workers: int
    timeout: str | None
    sampler: str
    startup: int
    points: int
    pruner: str
    warmup: int
    objectives: Sequence[str]
    heartbeat: float
    retries: int

    def __post_init__(self) -> None:
        """Check words and numbers."""
        _ = self.timeout_seconds
        words = {"sampler": SAMPLERS, "pruner": PRUNERS}
        for name, known in words.items():
            if getattr(self, name) not in known:
                given = getattr(self, name)
                raise ValueError(f"expected sweep.{name} out of {', '.join(known)}, got {given}")
        least = {"trials": 1, "workers": 1, "startup": 2, "points": 2, "warmup": 0, "retries": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise ValueError(f"expected sweep.{name}, a whole number >= {low}, got {value}")
        if list(self.objectives or []) not in ([OBJECTIVES[0]], list(OBJECTIVES)):
            raise ValueError(
                f"expected sweep.objectives=[score] or [score,seconds], got {self.objectives}"
            )
        if not isinstance(self.heartbeat, int | float) or not self.heartbeat > 0:
            raise ValueError(f"expected sweep.heartbeat above 0, got {self.heartbeat}")
        if self.sampler == "cmaes" and len(self.objectives) > 1:
            raise ValueError("expected sweep.objectives=[score] for sweep.sampler=cmaes")
        if self.sampler == "cmaes" and find_spec("cmaes") is None:
            raise ValueError(
                "expected the package cmaes for sweep.sampler=cmaes: pip install 'ltvnet[sweep]'"
            )
        if self.storage == IN_MEMORY and self.workers > 1:
            raise ValueError(
                "expected sweep.storage as an address for several workers, such as "
                "sqlite:///sweep.db, got memory: it belongs to one process"
            )

    @property
    def timeout_seconds(self) -> float:
        """Seconds after which no trial begins."""
        if self.timeout is None:
            return float("inf")
        if not (found := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh]?)", str(self.timeout))):
            raise ValueError(f"expected sweep.timeout such as 90s, 30m or 1h, got {self.timeout}")
        return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


@contextmanager
def open_storage(address: str) -> Iterator[BaseStorage]:
    """The storage at an address, with one cache for all that a process does with it.

    Raises ValueError for one that does not open.
    """
    if address == IN_MEMORY:
        yield InMemoryStorage()
        return
    kind, _, path = address.partition("://")
    try:
        found = _connected(address, kind, path)
    except Exception as error:  # of many libraries; the message says which
        raise ValueError(
            f"expected sweep.storage=memory, sqlite:///FILE, journal:///FILE or a PostgreSQL "
            f"address that can be opened, got {mask_passwords(address)}: {first_line(error)}"
        ) from error
    try:
        yield get_storage(found)
    finally:
        if isinstance(found, RDBStorage):
            found.remove_session()
            found.engine.dispose()


def _connected(address: str, kind: str, path: str) -> RDBStorage | JournalStorage:
    if kind in ("sqlite", "journal") and path.startswith("/"):
        Path(path[1:]).parent.mkdir(parents=True, exist_ok=True)
    if kind == "journal" and path.startswith("/"):
        return JournalStorage(JournalFileBackend(path[1:]))
    if kind == "sqlite":
        return _one_by_one(RDBStorage(address, engine_kwargs={"connect_args": {"timeout": 60}}))
    return RDBStorage(address, engine_kwargs={"pool_pre_ping": True})


def _one_by_one(storage: RDBStorage) -> RDBStorage:
    """Let a transaction in SQLite lock the file before it reads, not before it writes.

    Otherwise two workers that read that a trial waits would both claim it: SQLite has no locks of
    rows, which Optuna asks for.
    """

    @event.listens_for(storage.engine, "connect")
    def unmanaged(connection: Any, _: object) -> None:  # noqa: ANN401 of a driver
        connection.isolation_level = None  # the driver would begin with the first write

    @event.listens_for(storage.engine, "begin")
    def lock(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    storage.engine.dispose()  # connections from before
    return storage


def first_line(error: BaseException) -> str:
    """What an error says first, or else its kind."""
    return mask_passwords(str(error).strip().partition("\n")[0]) or type(error).__name__


def open_study(task: SweepTask, settings: StudySettings, storage: BaseStorage) -> Study:
    """The study in a storage, new or to be continued, with a place for each trial that is wanted.

    Raises ValueError for a study of another task.
    """
    goals: list[Literal["minimize", "maximize"]] = ["minimize"] * len(settings.objectives)
    parts = task.fingerprints | (
        {"grid": str(settings.points)} if settings.sampler == "grid" else {}
    )
    try:
        study = optuna.create_study(
            study_name=settings.study, storage=storage, directions=goals, load_if_exists=False
        )
        study.set_user_attr(TASK, parts)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(settings.objectives))
    except DuplicatedStudyError:
        study = optuna.load_study(study_name=settings.study, storage=storage)
    begun = study.user_attrs.get(TASK, parts)
    if other := [name for name in parts if begun.get(name) != parts[name]]:
        raise ValueError(
            f"the study {settings.study} in {mask_passwords(settings.storage)} was begun with another "
            f"{' and another '.join(other)}: set sweep.study=NAME for a study of its own"
        )
    if len(study.directions) != len(goals):
        raise ValueError(
            f"the study {settings.study} was begun with {len(study.directions)} objectives, got "
            f"{', '.join(settings.objectives)}: set sweep.study=NAME for a study of its own"
        )
    taken = {trial.user_attrs[SLOT] for trial in latest_attempts(study.trials)}
    for place, values in enumerate(planned_values(task, settings)):
        if place not in taken:
            known = {key: encode_choice(value) for key, value in values.items()}
            study.enqueue_trial(known, user_attrs={SLOT: place})
    return study


def planned_values(task: SweepTask, settings: StudySettings) -> list[dict[str, Value]]:
    """The values of each place that are known beforehand: the default's, and those of a grid."""
    default = task.space.default_values(task.config)
    if settings.sampler != "grid":
        return [default, *({} for _ in range(settings.trials - 1))]
    grid = [values for values in task.space.grid(task.config, settings.points) if values != default]
    order = np.random.default_rng(task.context.seed).permutation(len(grid))
    if len(grid) >= settings.trials:
        log.info("the grid has %d points, of which %d are tried", len(grid) + 1, settings.trials)
    return [default, *(grid[i] for i in order[: settings.trials - 1])]


def latest_attempts(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trial at each place: of its last turn, and the first where several began one at once."""
    held: dict[int, FrozenTrial] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        place = trial.user_attrs.get(SLOT)
        if place is not None and (
            place not in held or attempt_number(trial) > attempt_number(held[place])
        ):
            held[place] = trial
    return [held[place] for place in sorted(held)]


def attempt_number(trial: FrozenTrial) -> int:
    """How many trials had the place before."""
    return int(trial.user_attrs.get(ATTEMPT, 0))


def make_sampler(settings: StudySettings, seed: int) -> BaseSampler:
    """What chooses the values of a trial."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if settings.sampler == "tpe":
            return TPESampler(
                n_startup_trials=settings.startup,
                multivariate=True,
                group=True,  # of what is only asked for under a condition
                constant_liar=True,  # of trials that others work on
                seed=seed,
            )
        if settings.sampler == "cmaes":
            return CmaEsSampler(
                n_startup_trials=settings.startup, warn_independent_sampling=False, seed=seed
            )
    return RandomSampler(seed=seed)


class MedianOfDayPruner(BasePruner):
    """Stops a trial that is worse than the median of finished ones after as many days.

    Optuna's own median pruner takes the best of a trial's days, but the first days, which have
    matured most, are not as hard as the last.
    """

    def __init__(self, *, startup: int, warmup: int) -> None:
        """Trials that have to be finished, and days that no trial is stopped in."""
        self.startup, self.warmup = startup, warmup

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether to stop a trial after its last day."""
        day = trial.last_step
        if day is None or day <= self.warmup:
            return False
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        others = [t.intermediate_values[day] for t in finished if day in t.intermediate_values]
        if len(others) < self.startup:
            return False
        return bool(trial.intermediate_values[day] > np.median(others))


def make_pruner(settings: StudySettings, days: int) -> BasePruner:
    """What stops bad trials; days are counted from 1."""
    if settings.pruner == "none" or len(settings.objectives) > 1:
        return NopPruner()
    if settings.pruner == "hyperband":
        return HyperbandPruner(min_resource=settings.warmup + 1, max_resource=days)
    return MedianOfDayPruner(startup=settings.startup // 2, warmup=settings.warmup)


def finished_trials(study: Study, task: SweepTask) -> list[FinishedTrial]:
    """The finished trials of a study, a place each, in the order they began."""
    states = {TrialState.COMPLETE: COMPLETE, TrialState.PRUNED: PRUNED}
    found = sorted(latest_attempts(study.get_trials()), key=lambda trial: trial.number)
    return [
        FinishedTrial(
            number=trial.number,
            state=states.get(trial.state, FAILED),
            values=task.space.decode(trial.params),
            default=trial.user_attrs[SLOT] == 0,
            score=trial.user_attrs.get("score", _last_heard(trial)),
            bias={k: v for k, v in trial.user_attrs.items() if k.startswith("bias_")},
            allowed=trial.user_attrs.get("allowed", False),
            seconds=trial.user_attrs.get("seconds", np.nan),
            took=trial.duration.total_seconds() if trial.duration else np.nan,
            days=len(task.origins) if trial.state == TrialState.COMPLETE else trial.last_step or 0,
            error=trial.user_attrs.get("error", ""),
        )
        for trial in found
        if trial.state.is_finished()
    ]


def _last_heard(trial: FrozenTrial) -> float:
    return float("nan") if trial.last_step is None else trial.intermediate_values[trial.last_step]


def key_importances(study: Study) -> dict[str, float]:
    """How much each key mattered for which trials were the best; empty where nobody can tell."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of experiments, and of keys that never changed
        found = optuna.importance.get_param_importances(
            study,
            evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
            target=None if len(study.directions) == 1 else lambda trial: trial.values[0],
            normalize=False,  # else keys that say nothing would share what there is
        )
    total = sum(found.values())
    return {key: value / total for key, value in found.items()} if total > 0 else {}
