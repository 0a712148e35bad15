"""Studies: where the trials of a sweep are kept, what chooses their values and what stops them.

A study holds as many slots as trials are wanted. In each slot is a trial that waits, is worked on,
or is finished. One that is tried again leaves its slot to its successor, the next attempt.
"""

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL, Connection, event

from ltvnet.storage import mask_passwords
from ltvnet.tuning.search_space import Value, encode_choice
from ltvnet.tuning.trials import (
    COMPLETE,
    FAILED,
    PRUNED,
    EndState,
    FinishedTrial,
    SweepTask,
)

log = logging.getLogger(__name__)

SAMPLERS = ("tpe", "random", "grid", "cmaes")
PRUNERS = ("median", "hyperband", "none")
IN_MEMORY = "memory"

Sampler = Literal["tpe", "random", "grid", "cmaes"]
Pruner = Literal["median", "hyperband", "none"]

SLOT = "place"
"""Attribute of a trial: the slot of the study that it is in."""

ATTEMPT = "turn"
"""Attribute of a trial: how many trials had its slot before."""

TASK = "task"
"""Attribute of a study: hashes by name of what the scores of its trials depend on."""

_LOWEST = {"trials": 1, "workers": 1, "startup": 2, "points": 2, "warmup": 0, "retries": 0}
_SECONDS_IN_UNIT = {"": 1, "s": 1, "m": 60, "h": 3600}


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
    timeout: Annotated[str | float | None, "90s, 30m, 1h or null"]
    sampler: Sampler
    startup: int
    points: int
    pruner: Pruner
    warmup: int
    objectives: Annotated[Sequence[str], "[score] or [score,seconds]"]
    heartbeat: float
    retries: int

    def __post_init__(self) -> None:
        """Check words and numbers."""
        _ = self.timeout_seconds  # refuses what is no time
        self._check_words()
        self._check_numbers()
        self._check_combinations()

    def _check_words(self) -> None:
        allowed_words = {"sampler": SAMPLERS, "pruner": PRUNERS}
        for name, allowed in allowed_words.items():
            word = getattr(self, name)
            if word not in allowed:
                raise ValueError(f"expected sweep.{name} out of {', '.join(allowed)}, got {word}")

    def _check_numbers(self) -> None:
        for name, lowest in _LOWEST.items():
            number = getattr(self, name)
            is_whole = isinstance(number, int) and not isinstance(number, bool)
            if not is_whole or number < lowest:
                raise ValueError(f"expected sweep.{name}, a whole number >= {lowest}, got {number}")

    def _check_combinations(self) -> None:
        """Raise the message of the first rule that is broken."""
        objectives = list(self.objectives or [])
        has_heartbeat = isinstance(self.heartbeat, int | float) and self.heartbeat > 0
        is_cmaes = self.sampler == "cmaes"
        faults = [
            (
                objectives not in (["score"], ["score", "seconds"]),
                f"expected sweep.objectives=[score] or [score,seconds], got {self.objectives}",
            ),
            (not has_heartbeat, f"expected sweep.heartbeat above 0, got {self.heartbeat}"),
            (
                is_cmaes and len(objectives) > 1,
                "expected sweep.objectives=[score] for sweep.sampler=cmaes",
            ),
            (
                is_cmaes and find_spec("cmaes") is None,
                "expected the package cmaes for sweep.sampler=cmaes: pip install 'ltvnet[sweep]'",
            ),
            (
                self.storage == IN_MEMORY and self.workers > 1,
                "expected sweep.storage as an address for several workers, such as "
                "sqlite:///sweep.db, got memory: it belongs to one process",
            ),
        ]

        for is_broken, message in faults:
            if is_broken:
                raise ValueError(message)

    @property
    def timeout_seconds(self) -> float:
        """Seconds after which no trial begins; infinite without a `timeout`."""
        if self.timeout is None:
            return float("inf")
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh]?)", str(self.timeout))
        if match is None:
            raise ValueError(f"expected sweep.timeout such as 90s, 30m or 1h, got {self.timeout}")
        return float(match[1]) * _SECONDS_IN_UNIT[match[2]]


@contextmanager
def open_storage(address: str) -> Iterator[BaseStorage]:
    """Open the storage at an address, with one cache for all that a process does with it.

    Raises ValueError for one that does not open.
    """
    if address == IN_MEMORY:
        yield InMemoryStorage()
        return
    try:
        storage = _connect(address)
    except Exception as error:  # of many libraries; the message says which
        raise ValueError(
            f"expected sweep.storage=memory, sqlite:///FILE, journal:///FILE or a PostgreSQL "
            f"address that can be opened, got {mask_passwords(address)}: {first_line(error)}"
        ) from error

    try:
        yield get_storage(storage)
    finally:
        if isinstance(storage, RDBStorage):
            storage.remove_session()
            storage.engine.dispose()


def _connect(address: str) -> RDBStorage | JournalStorage:
    """Connect to a database or a journal file; folders of files are made."""
    kind, _, path = address.partition("://")
    is_file = path.startswith("/")
    if kind in ("sqlite", "journal") and is_file:
        Path(path[1:]).parent.mkdir(parents=True, exist_ok=True)

    if kind == "journal" and is_file:
        return JournalStorage(JournalFileBackend(path[1:]))
    if kind == "sqlite":
        if is_file and not path.startswith("/file:"):  # which is an address of SQLite's own
            # what follows is a file as its folder has it: %, ? and # are no syntax
            address = URL.create("sqlite", database=path[1:]).render_as_string()
        wait_for_lock = {"connect_args": {"timeout": 60}}
        return _lock_before_reading(RDBStorage(address, engine_kwargs=wait_for_lock))
    return RDBStorage(address, engine_kwargs={"pool_pre_ping": True})


def _lock_before_reading(storage: RDBStorage) -> RDBStorage:
    """Let a transaction in SQLite lock the file before it reads, not before it writes.

    Otherwise two workers that read that a trial waits would both claim it: SQLite has no locks of
    rows, which Optuna asks for.
    """

    @event.listens_for(storage.engine, "connect")
    def leave_transactions_to_us(connection: Any, _: object) -> None:  # noqa: ANN401 of a driver
        connection.isolation_level = None  # the driver would begin with the first write

    @event.listens_for(storage.engine, "begin")
    def lock(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    storage.engine.dispose()  # connections from before
    return storage


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message without passwords, or else the error's kind."""
    return mask_passwords(str(error).strip().partition("\n")[0]) or type(error).__name__


def open_study(task: SweepTask, settings: StudySettings, storage: BaseStorage) -> Study:
    """Open the study in a storage, new or to be continued, with a slot for each wanted trial.

    Raises ValueError for a study of another task.
    """
    fingerprints = task.fingerprints
    if settings.sampler == "grid":
        fingerprints = fingerprints | {"grid": str(settings.points)}
    study = _create_or_load(settings, storage, fingerprints)
    _refuse_other_task(study, settings, fingerprints)

    filled_slots = {trial.user_attrs[SLOT] for trial in latest_attempts(study.trials)}
    for slot, values in enumerate(planned_values(task, settings)):
        if slot not in filled_slots:
            encoded = {key: encode_choice(value) for key, value in values.items()}
            study.enqueue_trial(encoded, user_attrs={SLOT: slot})
    return study


def _create_or_load(
    settings: StudySettings, storage: BaseStorage, fingerprints: dict[str, str]
) -> Study:
    directions: list[Literal["minimize", "maximize"]] = ["minimize"] * len(settings.objectives)
    try:
        study = optuna.create_study(
            study_name=settings.study, storage=storage, directions=directions, load_if_exists=False
        )
    except DuplicatedStudyError:
        return optuna.load_study(study_name=settings.study, storage=storage)

    study.set_user_attr(TASK, fingerprints)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(settings.objectives))
    return study


def _refuse_other_task(study: Study, settings: StudySettings, fingerprints: dict[str, str]) -> None:
    """Raise ValueError for a study that was begun with another task or other objectives."""
    begun_with = study.user_attrs.get(TASK, fingerprints)
    changed_names = [name for name in fingerprints if begun_with.get(name) != fingerprints[name]]
    if changed_names:
        raise ValueError(
            f"the study {settings.study} in {mask_passwords(settings.storage)} was begun with "
            f"another {' and another '.join(changed_names)}: set sweep.study=NAME for a study of "
            "its own"
        )

    if len(study.directions) != len(settings.objectives):
        raise ValueError(
            f"the study {settings.study} was begun with {len(study.directions)} objectives, got "
            f"{', '.join(settings.objectives)}: set sweep.study=NAME for a study of its own"
        )


def planned_values(task: SweepTask, settings: StudySettings) -> list[dict[str, Value]]:
    """Values of each slot that are known beforehand: the default's, and those of a grid."""
    default = task.space.default_values(task.config)
    if settings.sampler != "grid":
        free_slots: list[dict[str, Value]] = [{} for _ in range(settings.trials - 1)]
        return [default, *free_slots]

    all_points = task.space.grid(task.config, settings.points)
    points = [values for values in all_points if values != default]
    order = np.random.default_rng(task.context.seed).permutation(len(points))
    if len(points) >= settings.trials:
        log.info("the grid has %d points, of which %d are tried", len(points) + 1, settings.trials)
    return [default, *(points[index] for index in order[: settings.trials - 1])]


def latest_attempts(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trial in each slot: of the last attempt, and the first of several at the same one."""
    by_slot: dict[int, FrozenTrial] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        slot = trial.user_attrs.get(SLOT)
        if slot is None:
            continue
        if slot not in by_slot or attempt_number(trial) > attempt_number(by_slot[slot]):
            by_slot[slot] = trial
    return [by_slot[slot] for slot in sorted(by_slot)]


def attempt_number(trial: FrozenTrial) -> int:
    """Number of trials that had the slot before."""
    return int(trial.user_attrs.get(ATTEMPT, 0))


def make_sampler(settings: StudySettings, seed: int) -> BaseSampler:
    """Make what chooses the values of a trial; a grid is planned, so its slots need none."""
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
    """Pruner of trials that are worse than the median of finished ones after as many days.

    Optuna's own median pruner takes the best of a trial's days, but the first days, which have
    matured most, are not as hard as the last.
    """

    def __init__(self, *, startup: int, warmup: int) -> None:
        """Wait for `startup` finished trials, and for `warmup` days of each trial."""
        self.startup = startup
        self.warmup = warmup

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether to stop a trial after its last day."""
        day = trial.last_step
        if day is None or day <= self.warmup:
            return False

        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        other_scores = [
            other.intermediate_values[day] for other in finished if day in other.intermediate_values
        ]
        if len(other_scores) < self.startup:
            return False
        return bool(trial.intermediate_values[day] > np.median(other_scores))


def make_pruner(settings: StudySettings, days: int) -> BasePruner:
    """Make what stops bad trials; days are counted from 1."""
    if settings.pruner == "none" or len(settings.objectives) > 1:
        return NopPruner()
    if settings.pruner == "hyperband":
        return HyperbandPruner(min_resource=settings.warmup + 1, max_resource=days)
    return MedianOfDayPruner(startup=settings.startup // 2, warmup=settings.warmup)


def finished_trials(study: Study, task: SweepTask) -> list[FinishedTrial]:
    """The finished trials of a study, one a slot, in the order they began."""
    trials = sorted(latest_attempts(study.get_trials()), key=lambda trial: trial.number)
    return [_finished_trial(trial, task) for trial in trials if trial.state.is_finished()]


def _finished_trial(trial: FrozenTrial, task: SweepTask) -> FinishedTrial:
    states: dict[TrialState, EndState] = {
        TrialState.COMPLETE: COMPLETE,
        TrialState.PRUNED: PRUNED,
    }
    attributes = trial.user_attrs
    is_complete = trial.state == TrialState.COMPLETE
    return FinishedTrial(
        number=trial.number,
        state=states.get(trial.state, FAILED),
        values=task.space.decode(trial.params),
        default=attributes[SLOT] == 0,
        score=attributes.get("score", _last_reported_score(trial)),
        bias={name: value for name, value in attributes.items() if name.startswith("bias_")},
        allowed=attributes.get("allowed", False),
        seconds=attributes.get("seconds", np.nan),
        took=trial.duration.total_seconds() if trial.duration else np.nan,
        days=len(task.origins) if is_complete else trial.last_step or 0,
        error=attributes.get("error", ""),
    )


def _last_reported_score(trial: FrozenTrial) -> float:
    if trial.last_step is None:
        return float("nan")
    return trial.intermediate_values[trial.last_step]


def key_importances(study: Study) -> dict[str, float]:
    """How much each key mattered for which trials were the best: shares that add up to 1.

    Empty where nobody can tell.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of experiments, and of keys that never changed
        importances = optuna.importance.get_param_importances(
            study,
            evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
            target=None if len(study.directions) == 1 else lambda trial: trial.values[0],
            normalize=False,  # else keys that say nothing would share what there is
        )

    total = sum(importances.values())
    if not total > 0:
        return {}
    return {key: value / total for key, value in importances.items()}
