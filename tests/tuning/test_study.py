"""A study has a place for each trial, is searched as it is set, and belongs to one task."""

import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from factories.cohorts import weekly_history
from factories.models import make_run_context
from factories.sweeps import SWEEP_CONFIG, SWEEP_DATE, SWEEP_SPACE
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import HyperbandPruner, NopPruner
from optuna.samplers import CmaEsSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from ltvnet.storage import mask_passwords
from ltvnet.tuning import trials
from ltvnet.tuning.study import (
    ATTEMPT,
    SLOT,
    MedianOfDayPruner,
    StudySettings,
    finished_trials,
    first_line,
    key_importances,
    latest_attempts,
    make_pruner,
    make_sampler,
    open_storage,
    open_study,
    planned_values,
)
from ltvnet.tuning.trials import SweepTask

SWEEP: Mapping[str, Any] = {
    "study": "one",
    "storage": "memory",
    "trials": 5,
    "workers": 1,
    "timeout": None,
    "sampler": "tpe",
    "startup": 10,
    "points": 3,
    "pruner": "median",
    "warmup": 1,
    "objectives": ["score"],
    "heartbeat": 10,
    "retries": 2,
}


def sweep(**changes: object) -> StudySettings:
    return StudySettings(**SWEEP | changes)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> SweepTask:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return SweepTask.from_config(
        SWEEP_CONFIG,
        make_run_context(),
        SWEEP_SPACE,
        weekly_history(78),
        SWEEP_DATE,
        tmp_path_factory.mktemp("sweep"),
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": "gp"}, "expected sweep.sampler out of tpe, random, grid, cmaes, got gp"),
        ({"pruner": None}, "expected sweep.pruner out of median, hyperband, none, got None"),
        (
            {"sampler": "cmaes", "objectives": ["score", "seconds"]},
            "expected sweep.objectives=[score] for sweep.sampler=cmaes",
        ),
        ({"trials": 0}, "expected sweep.trials, a whole number >= 1, got 0"),
        ({"trials": 2.5}, "expected sweep.trials, a whole number >= 1, got 2.5"),
        ({"workers": True}, "expected sweep.workers, a whole number >= 1, got True"),
        ({"startup": 1}, "expected sweep.startup, a whole number >= 2, got 1"),
        ({"points": 1}, "expected sweep.points, a whole number >= 2, got 1"),
        ({"warmup": -1}, "expected sweep.warmup, a whole number >= 0, got -1"),
        ({"retries": "2"}, "expected sweep.retries, a whole number >= 0, got 2"),
        ({"objectives": []}, "expected sweep.objectives=[score] or [score,seconds], got []"),
        ({"objectives": ["seconds"]}, "[score] or [score,seconds], got ['seconds']"),
        ({"objectives": "score"}, "[score] or [score,seconds], got score"),
        ({"heartbeat": 0}, "expected sweep.heartbeat above 0, got 0"),
        ({"heartbeat": "10s"}, "expected sweep.heartbeat above 0, got 10s"),
        ({"heartbeat": float("nan")}, "expected sweep.heartbeat above 0, got nan"),
        (
            {"workers": 2},
            "expected sweep.storage as an address for several workers, such as "
            "sqlite:///sweep.db, got memory: it belongs to one process",
        ),
        ({"timeout": "1d"}, "expected sweep.timeout such as 90s, 30m or 1h, got 1d"),
        ({"timeout": "1.2.3"}, "expected sweep.timeout such as 90s, 30m or 1h, got 1.2.3"),
        ({"timeout": "-5"}, "expected sweep.timeout such as 90s, 30m or 1h, got -5"),
        ({"timeout": ""}, "expected sweep.timeout such as 90s, 30m or 1h, got "),
    ],
)
def test_settings_are_checked(changes: Mapping[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        sweep(**changes)


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [(None, np.inf), ("90s", 90), (90, 90), ("1.5m", 90), ("2h", 7200), (0, 0), (0.5, 0.5)],
)
def test_timeouts_have_units(timeout: object, seconds: float) -> None:
    assert sweep(timeout=timeout).timeout_seconds == seconds


def test_storages_open(tmp_path: Path) -> None:
    """Files in folders that are made for them."""
    with open_storage("memory") as storage:
        assert isinstance(storage, InMemoryStorage)
    for kind, name in (("sqlite", "a/b.db"), ("journal", "c/d.log")):
        with open_storage(f"{kind}:///{tmp_path}/{name}") as storage:
            optuna.create_study(study_name="s", storage=storage)
        assert (tmp_path / name).is_file()
        with open_storage(f"{kind}:///{tmp_path}/{name}") as storage:
            assert [study.study_name for study in storage.get_all_studies()] == ["s"]
            assert isinstance(storage, JournalStorage) == (kind == "journal")


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
@pytest.mark.parametrize(
    "folder",
    ["a %20 b", "100%", "what?", "what?x=1&y", "a#b", "{a}", "a+b", "한글", "[MKT]", "a:b@c"],
)
def test_a_folder_may_have_any_name(kind: str, folder: str, tmp_path: Path) -> None:
    """What follows sqlite:/// is a path, and not a part of an address with syntax of its own."""
    for path in (tmp_path / folder / "study.db", tmp_path / f"{folder}.db"):
        for _ in range(2):
            with open_storage(f"{kind}:///{path}") as storage:
                optuna.create_study(study_name="s", storage=storage, load_if_exists=True)
        assert path.is_file()
    assert {path.name for path in tmp_path.iterdir()} == {folder, f"{folder}.db"}


EXPECTED = "expected sweep.storage=memory, sqlite:///FILE, journal:///FILE or a PostgreSQL address"


def test_one_of_two_claims_a_trial_in_sqlite(
    task: SweepTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both would read that it waits if the first to read did not lock what it read."""
    address = f"sqlite:///{tmp_path / 'study.db'}"
    slow = RDBStorage.check_trial_is_updatable

    def check(self: RDBStorage, trial: int, state: TrialState) -> None:
        time.sleep(0.2)  # between reading the state and writing it
        slow(self, trial, state)

    monkeypatch.setattr(RDBStorage, "check_trial_is_updatable", check)

    def try_to_claim(storage: BaseStorage) -> bool:
        try:
            return storage.set_trial_state_values(key, TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False

    with (
        open_storage(address) as first,
        open_storage(address) as second,
        ThreadPoolExecutor(2) as pool,
    ):
        study = open_study(task, sweep(storage=address), first)
        key = study.get_trials(deepcopy=False)[0]._trial_id
        assert sorted(pool.map(try_to_claim, (first, second))) == [False, True]


@pytest.mark.parametrize(
    "address",
    [
        "nonsense",
        "disk://somewhere",
        "journal://somewhere",
        "sqlite:///{file}/study.db",
        "journal:///{file}/study.log",
        "postgresql+psycopg://me:secret@127.0.0.1:1/db",
        "postgresql+psycopg://me:sec/ret@127.0.0.1:1/db",
        "postgresql+psycopg://127.0.0.1:1/db?user=me&password=secret",
    ],
)
def test_addresses_that_do_not_open_are_told_without_the_password(
    tmp_path: Path, address: str
) -> None:
    (tmp_path / "file").touch()
    address = address.format(file=tmp_path / "file")
    with pytest.raises(ValueError, match=f"{EXPECTED} that can be opened, got ") as error:
        with open_storage(address):
            pass
    assert "sec" not in str(error.value) and "ret" not in str(error.value).replace("retr", "")
    assert mask_passwords(address) in str(error.value)


def test_the_first_line_of_an_error_is_told() -> None:
    assert first_line(ValueError("\n at ://me:pw@host\nmore")) == "at ://me:***@host"
    assert first_line(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_the_default_is_tried_first(task: SweepTask) -> None:
    """The others are chosen when they begin."""
    default = {"model.half_life": None, "model.min_cohorts": 5}
    assert planned_values(task, sweep(trials=4)) == [default, {}, {}, {}]
    assert planned_values(task, sweep(trials=1, sampler="random")) == [default]


def test_a_grid_is_tried_in_an_order_of_its_own(
    task: SweepTask, caplog: pytest.LogCaptureFixture
) -> None:
    """3 half-lives, and 2, 6 and 9 or 2, 5 and 9 cohorts: of 5 the default is one of the points."""
    grid = sweep(sampler="grid", trials=99)
    all_points = planned_values(task, grid)
    assert all_points[0] == task.space.default_values(task.config)
    assert task.space.dimensions[1].grid_values(3) == [2, 6, 9] and len(all_points) == 1 + 3 * 3
    assert sorted(map(repr, all_points[1:])) == sorted(map(repr, task.space.grid(task.config, 3)))
    assert all_points[1:] != task.space.grid(task.config, 3)
    eight = planned_values(task, sweep(sampler="grid", trials=99, points=8))
    assert len(eight) == 3 * 8 == len({repr(values) for values in eight})
    with caplog.at_level("INFO"):
        for count in range(1, 10):  # more trials are the same ones and others
            assert planned_values(task, sweep(sampler="grid", trials=count)) == all_points[:count]
            assert caplog.messages[-1] == f"the grid has 10 points, of which {count} are tried"
        assert planned_values(task, sweep(sampler="grid", trials=10)) == all_points
        assert len(caplog.messages) == 9
    seeded = replace(task, context=make_run_context(seed=1))
    assert planned_values(seeded, grid) != all_points


def waiting(study: Study) -> list[dict[str, Any]]:
    return [trial.system_attrs["fixed_params"] for trial in study.get_trials()]


def test_a_study_has_a_place_for_each_trial(task: SweepTask) -> None:
    """More trials add places; fewer, or the same again, add none and take none away."""
    storage, three_trials = InMemoryStorage(), sweep(sampler="grid", trials=3)
    study = open_study(task, three_trials, storage)
    planned_of_all = planned_values(task, sweep(sampler="grid", trials=7))
    assert waiting(study) == planned_of_all[:3]
    assert [t.user_attrs[SLOT] for t in study.get_trials()] == [0, 1, 2]
    assert waiting(open_study(task, three_trials, storage)) == planned_of_all[:3]
    more = open_study(task, replace(three_trials, trials=7), storage)
    assert waiting(more) == planned_of_all
    assert [t.user_attrs[SLOT] for t in more.get_trials()] == list(range(7))
    assert len(open_study(task, replace(three_trials, trials=2), storage).trials) == 7


def test_lists_wait_as_text(task: SweepTask, tmp_path: Path) -> None:
    config = {**SWEEP_CONFIG, "model": SWEEP_CONFIG["model"] | {"units": [16, 8]}}
    listed = SweepTask.from_config(
        config,
        make_run_context(),
        {"model": {"units": [[16, 8], [4]]}},
        task.history,
        SWEEP_DATE,
        tmp_path,
    )
    study = open_study(listed, sweep(trials=1), InMemoryStorage())
    assert waiting(study) == [{"model.units": "[16, 8]"}]


def test_a_study_of_another_task_is_refused(task: SweepTask) -> None:
    """Name and address of the study are told, not the password."""
    storage = InMemoryStorage()
    settings = sweep(storage="postgresql://me:secret@host/db")
    open_study(task, settings, storage)
    model = {**SWEEP_CONFIG, "model": SWEEP_CONFIG["model"] | {"tail": "inverse_power"}}
    learning = {
        **SWEEP_CONFIG["validation"],
        "learning": {**SWEEP_CONFIG["validation"]["learning"]},
    }
    learning["learning"]["blend"] = False
    other_tasks = {
        "data, model or days": replace(task, config=model),
        "validation": replace(task, config={**SWEEP_CONFIG, "validation": learning}),
        "space": replace(task, space=replace(task.space, dimensions=task.space.dimensions[:1])),
        "validation and another space": replace(
            task,
            config={**SWEEP_CONFIG, "validation": learning},
            space=replace(task.space, dimensions=task.space.dimensions[:1]),
        ),
    }
    for difference, other_task in other_tasks.items():
        message = (
            "the study one in postgresql://me:***@host/db was begun with another "
            f"{difference}: set sweep.study=NAME for a study of its own"
        )
        with pytest.raises(ValueError, match=re.escape(message)):
            open_study(other_task, settings, storage)
        assert (
            open_study(other_task, replace(settings, study=difference), storage).study_name
            == difference
        )


def test_a_study_keeps_its_objectives(task: SweepTask) -> None:
    storage = InMemoryStorage()
    open_study(task, sweep(), storage)
    message = "the study one was begun with 1 objectives, got score, seconds: set sweep.study=NAME"
    with pytest.raises(ValueError, match=message):
        open_study(task, sweep(objectives=["score", "seconds"]), storage)


def frozen(number: int, state: TrialState, **more: Any) -> FrozenTrial:  # noqa: ANN401
    value = 0.5 if state == TrialState.COMPLETE else None
    trial = create_trial(state=state, value=value, **more)
    trial.number = number
    return trial


def trial_at_place(number: int, place: int | None, again: int = 0) -> FrozenTrial:
    attributes = {} if place is None else {SLOT: place} | ({ATTEMPT: again} if again else {})
    return frozen(number, TrialState.RUNNING, user_attrs=attributes)


OVER, BUSY = TrialState.FAIL, TrialState.RUNNING


def test_a_trial_that_was_tried_again_leaves_its_place() -> None:
    """Two watchers gave up 0: 3 has its place, 4 none; then 3 was given up for 5."""
    trials = [trial_at_place(0, 0), trial_at_place(1, 1), trial_at_place(2, 2)]
    assert [t.number for t in latest_attempts(trials)] == [0, 1, 2]
    trials += [trial_at_place(3, 0, 1), trial_at_place(4, 0, 1)]
    assert [t.number for t in latest_attempts(trials)] == [3, 1, 2]
    trials += [
        trial_at_place(5, 0, 2),
        trial_at_place(6, 3),
        trial_at_place(7, None),
    ]  # the last was put there by hand
    assert [t.number for t in latest_attempts(trials)] == [5, 1, 2, 6]
    assert latest_attempts([]) == []


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 3)), max_size=12),
)
def test_there_is_one_trial_at_each_place(
    wanted: int, machines: int, lost: Sequence[tuple[int, int]]
) -> None:
    """However many machines began the study, or gave up a trial, at once: the first one counts."""
    places_begun = [lost_place for lost_place in range(wanted) for _ in range(machines)]
    trials = [trial_at_place(number, lost_place) for number, lost_place in enumerate(places_begun)]
    first_ones = [places_begun.index(lost_place) for lost_place in range(wanted)]
    turns = [0] * wanted
    for lost_number, watchers in lost:
        lost_place, first = lost_number % wanted, len(trials)
        turns[lost_place] += 1
        trials += [
            trial_at_place(first + i, lost_place, turns[lost_place]) for i in range(watchers)
        ]
        first_ones[lost_place] = first
    assert [trial.number for trial in latest_attempts(trials[::-1])] == first_ones


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tpe", TPESampler),
        ("random", RandomSampler),
        ("grid", RandomSampler),
        ("cmaes", CmaEsSampler),
    ],
)
def test_samplers_choose_alike_with_a_seed(task: SweepTask, name: str, kind: type) -> None:
    """Also once they have learned; values are of the space."""
    assert type(make_sampler(sweep(sampler=name), 0)) is kind

    def suggest_five(seed: int) -> list[dict[str, Any]]:
        study = optuna.create_study(sampler=make_sampler(sweep(sampler=name, startup=2), seed))
        suggestions = []
        for _ in range(5):
            trial = study.ask()
            suggestions.append(values := task.space.suggest(trial, task.config))
            study.tell(trial, values["model.min_cohorts"])
        return suggestions

    first = suggest_five(0)
    assert first == suggest_five(0) != suggest_five(1)
    for dimension in task.space.dimensions:
        assert all(dimension.contains(values[dimension.key]) for values in first)


def test_pruners_are_those_that_were_asked_for() -> None:
    for name in ("median", "hyperband", "none"):
        assert isinstance(
            make_pruner(sweep(pruner=name, objectives=["score", "seconds"]), 6), NopPruner
        )
    assert isinstance(make_pruner(sweep(pruner="none"), 6), NopPruner)
    median = make_pruner(sweep(startup=7, warmup=2), 6)
    assert isinstance(median, MedianOfDayPruner) and (median.startup, median.warmup) == (3, 2)
    assert isinstance(make_pruner(sweep(pruner="hyperband"), 6), HyperbandPruner)


@pytest.mark.parametrize(("warmup", "days"), [(1, 6), (0, 1), (5, 3)])
def test_hyperband_takes_any_number_of_days(warmup: int, days: int) -> None:
    study = optuna.create_study(pruner=make_pruner(sweep(pruner="hyperband", warmup=warmup), days))
    for score in range(6):
        trial = study.ask()
        for day in range(1, days + 1):
            trial.report(score, day)
            stopped = trial.should_prune()
            assert isinstance(stopped, bool) and (day > warmup or not stopped)
        study.tell(trial, score)


def prunes(known: Sequence[Sequence[float]], own: Sequence[float], **changes: int) -> bool:
    """Whether a trial is stopped beside finished ones of these scores by day."""
    study = optuna.create_study(pruner=MedianOfDayPruner(**{"startup": 2, "warmup": 1} | changes))
    for days in known:
        study.add_trial(
            frozen(0, TrialState.COMPLETE, intermediate_values=dict(enumerate(days, 1)))
        )
    trial = study.ask()
    for day, score in enumerate(own, 1):
        trial.report(score, day)
    return trial.should_prune()


def test_trials_above_the_median_of_the_day_are_stopped() -> None:
    """On day 2 the median of 3 and 5 is 4; day 1 was better, and others say more later."""
    scores = [[1.0, 3.0, 9.0], [1.0, 5.0, 9.0]]
    assert prunes(scores, [0.1, 4.01])
    assert not prunes(scores, [0.1, 4.0]) and not prunes(scores, [9.9, 3.0])
    assert not prunes(scores, [9.9])  # a day on which none is stopped
    assert prunes(scores, [9.9], warmup=0)
    assert not prunes(scores, [9.9, 9.9], warmup=2)
    assert not prunes(scores, [])


def test_some_trials_have_to_be_finished_on_the_day() -> None:
    scores = [[1.0, 1.0], [1.0, 1.0], [1.0]]
    assert prunes(scores, [1.0, 2.0]) and not prunes(scores, [1.0, 2.0], startup=3)
    assert not prunes([], [1.0, 2.0], startup=2)


def test_trials_that_are_not_finished_are_no_measure() -> None:
    study = optuna.create_study(pruner=MedianOfDayPruner(startup=1, warmup=0))
    study.add_trial(frozen(0, TrialState.PRUNED, intermediate_values={1: 0.1}))
    trial = study.ask()
    trial.report(9.0, 1)
    assert not trial.should_prune()


def add_trial(study: Study, values: Mapping[str, float], score: float) -> None:
    distributions = {name: FloatDistribution(0.0, 1.0) for name in values}
    goals = {"value": score} if len(study.directions) == 1 else {"values": [score, 1.0]}
    study.add_trial(create_trial(params=dict(values), distributions=distributions, **goals))


@pytest.mark.parametrize("directions", [["minimize"], ["minimize", "minimize"]])
def test_importances_are_of_keys_that_matter(directions: Sequence[Any]) -> None:
    """Shares of 1; none can be told of one trial."""
    study, rng = optuna.create_study(directions=directions), np.random.default_rng(0)
    assert key_importances(study) == {}
    for count, (a, b) in enumerate(rng.random((60, 2))):
        add_trial(study, {"model.a": a, "model.b": b}, a)
        if not count:
            assert key_importances(study) == {}
    shares = key_importances(study)
    assert list(shares) == ["model.a", "model.b"] and sum(shares.values()) == pytest.approx(1.0)
    assert shares["model.a"] > 0.8


def test_importances_of_nothing_in_common_are_empty() -> None:
    study = optuna.create_study()
    for score, key in enumerate("abcd"):
        add_trial(study, {key: 0.5}, score)
    assert key_importances(study) == {}


def test_what_is_finished_is_told_in_order(task: SweepTask) -> None:
    """A place each: one of all days, one pruned, one refused, one lost that another took up."""
    begun = datetime(2024, 1, 1)
    over = {"datetime_start": begun, "datetime_complete": begun + timedelta(seconds=90)}
    complete_attributes = {
        "score": 0.25,
        "bias_d180": 0.01,
        "allowed": True,
        "seconds": 2.0,
        SLOT: 0,
    }
    lost = {"error": "the process ended", "beat": 3, SLOT: 3}
    study = optuna.create_study()
    own_values = {"model.half_life": None, "model.min_cohorts": 5}
    with_params = study.ask(fixed_distributions=None)
    assert task.space.suggest(with_params, task.config).keys() == own_values.keys()
    frozen_trials = [
        create_trial(
            value=0.25, user_attrs=complete_attributes, intermediate_values={2: 0.5, 3: 0.375}
        ),
        create_trial(
            state=TrialState.PRUNED, intermediate_values={1: 0.5, 2: 0.75}, user_attrs={SLOT: 1}
        ),
        create_trial(state=TrialState.FAIL, user_attrs=lost),
        create_trial(state=TrialState.FAIL, user_attrs={"error": "expected a word", SLOT: 2}),
        create_trial(state=TrialState.WAITING, user_attrs={SLOT: 4}),
        create_trial(state=TrialState.FAIL, user_attrs={SLOT: 3, ATTEMPT: 1, "error": "again"}),
    ]
    for trial in frozen_trials:
        if trial.state.is_finished():
            trial.datetime_start, trial.datetime_complete = over.values()
        study.add_trial(trial)
    trials_told = finished_trials(study, task)
    assert [(t.number, t.state) for t in trials_told] == [
        (1, trials.COMPLETE),
        (2, trials.PRUNED),
        (4, trials.FAILED),
        (6, trials.FAILED),
    ]
    first, pruned, refused, again = trials_told
    assert first == trials.FinishedTrial(
        number=1,
        state=trials.COMPLETE,
        values={},
        default=True,
        score=0.25,
        bias={"bias_d180": 0.01},
        allowed=True,
        seconds=2.0,
        took=90.0,
        days=3,
        error="",
    )
    assert (pruned.score, pruned.days, pruned.allowed, pruned.default) == (0.75, 2, False, False)
    assert np.isnan(pruned.seconds) and np.isnan(refused.score)
    assert (refused.error, refused.days, again.error) == ("expected a word", 0, "again")


def test_values_of_finished_trials_are_those_of_a_config(task: SweepTask, tmp_path: Path) -> None:
    config = {**SWEEP_CONFIG, "model": SWEEP_CONFIG["model"] | {"units": [16, 8]}}
    space = {"model": {"units": [[16, 8], [4]], "half_life": [None, 90]}}
    listed = SweepTask.from_config(
        config, make_run_context(), space, task.history, SWEEP_DATE, tmp_path
    )
    study = optuna.create_study(directions=["minimize", "minimize"])
    values = {"model.units": "[4]", "model.half_life": None}
    study.enqueue_trial(values, user_attrs={SLOT: 0})
    trial = study.ask()
    assert listed.space.suggest(trial, config) == {"model.units": [4], "model.half_life": None}
    study.tell(trial, [0.5, 1.0])
    (trial_told,) = finished_trials(study, listed)
    assert trial_told.values == {"model.units": [4], "model.half_life": None}
    assert trial_told.days == len(listed.origins) == 3  # nothing is reported of two objectives


def test_a_sampler_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ltvnet.tuning.study.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"expected the package cmaes .* 'ltvnet\[sweep\]'"):
        sweep(sampler="cmaes")


def test_a_grid_of_other_points_is_another_study(task: SweepTask) -> None:
    storage = InMemoryStorage()
    open_study(task, sweep(sampler="grid", points=3), storage)
    with pytest.raises(ValueError, match="was begun with another grid: set sweep.study=NAME"):
        open_study(task, sweep(sampler="grid", points=4), storage)
