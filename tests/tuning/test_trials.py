"""A trial is scored as a model would be that was trained as of the sweep's day, and knows no more.

Days of the sweep here: 2023-08-31, 2023-11-30 and 2024-02-29, 13 weeks apart before 2024-05-30.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories.cohorts import curve, drifting_history, history, weekly_history
from factories.configs import BENKTANDER, CHAIN_LADDER, PATTERN
from factories.models import identity_of, make_corrected, make_replay, make_run_context
from factories.sweeps import SWEEP_CONFIG, SWEEP_DATE, SWEEP_SPACE, SWEEP_VALIDATION
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ltvnet.backtesting import scores
from ltvnet.backtesting.ledger import STAGES, Ledger
from ltvnet.backtesting.origins import ReplayPlan
from ltvnet.backtesting.replay import Replay, forecast_entries
from ltvnet.backtesting.scores import BacktestRecord
from ltvnet.correction.walk_forward import StageSwitches, WalkForward
from ltvnet.data.curves import Curves, History
from ltvnet.forecasting.forecast import Band
from ltvnet.models.pattern.pattern import Pattern
from ltvnet.tuning import trials
from ltvnet.tuning.trials import (
    HeldOutGain,
    SweepTask,
    TrialFolder,
    TrialOutcome,
    bias_by_horizon,
    split_test_days,
)

DAYS = ["2023-08-31", "2023-11-30", "2024-02-29"]


CHANGED: Mapping[str, Any] = {"model.half_life": 60.0, "model.min_cohorts": 3}


MIXTURE: Mapping[str, Any] = {
    "name": "best",
    "bases": {"one": BENKTANDER | {"pattern": CHAIN_LADDER}, "other": CHAIN_LADDER},
}


@pytest.fixture(scope="module")
def past() -> History:
    return weekly_history(78)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The days of all fits of the pattern."""
    fit_days: list[str] = []
    fit = Pattern.fit

    def fit_and_note(self: Pattern, curves: Curves) -> Pattern:
        fit_days.append(str(curves.origin))
        return fit(self, curves)

    monkeypatch.setattr(Pattern, "fit", fit_and_note)
    return fit_days


def task(
    past: History,
    folder: Path,
    model: Mapping[str, Any] = CHAIN_LADDER,
    space: Mapping[str, Any] = SWEEP_SPACE,
    **validation: object,
) -> SweepTask:
    config = {**SWEEP_CONFIG, "model": model, "validation": {**SWEEP_VALIDATION, **validation}}
    return SweepTask.from_config(config, make_run_context(), space, past, SWEEP_DATE, folder)


def score_and_reports(
    of: SweepTask, values: Mapping[str, Any]
) -> tuple[TrialOutcome, list[tuple[int, float]]]:
    """Outcome of a trial, and the scores that it told on the way."""
    heard: list[tuple[int, float]] = []
    return of.score(values, lambda day, score: heard.append((day, score))), heard


def record_as_trained(
    past: History,
    model: Mapping[str, Any],
    date: object = SWEEP_DATE,
    **changes: Any,  # noqa: ANN401
) -> BacktestRecord:
    """The past of a model that is trained as of a day."""
    validation = {**SWEEP_VALIDATION, **changes}
    config = {"base": model, "ledger": None, **validation}
    fitted = make_corrected(config).fit(past, date)
    assert fitted.past_entries is not None
    return scores.build_record("", fitted.past_entries, past.until(date))


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (CHAIN_LADDER, {}),
        (CHAIN_LADDER, CHANGED),
        (MIXTURE, {"model.bases.one.half_life": 90.0}),
    ],
    ids=["default", "changed", "mixture"],
)
def test_a_trial_is_scored_as_it_would_be_trained(
    past: History, tmp_path: Path, model: Mapping[str, Any], values: Mapping[str, Any]
) -> None:
    space = {"model": {"bases": {"one": {"half_life": [None, 90.0]}}}}
    sweep_task = task(past, tmp_path, model, space if model is MIXTURE else SWEEP_SPACE)
    assert list(map(str, sweep_task.origins)) == DAYS
    outcome, reports = score_and_reports(sweep_task, values)
    trained = record_as_trained(past, sweep_task.trial_config(values)["model"])
    assert outcome.score == scores.mean_wape(trained)
    assert outcome.bias == bias_by_horizon(trained, "final") and set(outcome.bias) == {"bias_d180"}
    assert outcome.seconds > 0
    assert [day for day, _ in reports] == [1, 2, 3]
    assert reports[-1][1] == scores.mean_wape(trained, "raw")


def test_a_trial_is_scored_as_its_past_corrects_it(tmp_path: Path) -> None:
    """Growth after D7 falls by 30 % a year: eight days are enough to learn from."""
    past = drifting_history(0.3)
    sweep_task = task(past, tmp_path, origins=8, every_weeks=4)
    outcome, reports = score_and_reports(sweep_task, {})
    trained = record_as_trained(past, CHAIN_LADDER, origins=8, every_weeks=4)
    assert (
        outcome.score
        == scores.mean_wape(trained)
        != reports[-1][1]
        == scores.mean_wape(trained, "raw")
    )
    assert outcome.bias == bias_by_horizon(trained, "final")


def test_a_trial_tells_the_score_of_the_days_so_far(past: History, tmp_path: Path) -> None:
    """Each is that of a trial on fewer days, judged by what had come true by the same date."""
    _, reports = score_and_reports(task(past, tmp_path / "all"), {})
    for count, score_so_far in reports:
        days = [np.datetime64(day) for day in DAYS[:count]]
        ledger, plan = Ledger(tmp_path / str(count)), ReplayPlan(**SWEEP_VALIDATION["plan"])
        list(make_replay(CHAIN_LADDER, past, days, plan, ledger).run())
        name = identity_of(CHAIN_LADDER, past, plan, days[0])
        entries = ledger.read(name, days, past.hierarchy)
        assert score_so_far == scores.mean_wape(
            scores.build_record("", entries, past.until(SWEEP_DATE)), "raw"
        )
    assert len(reports) == len(DAYS) == len({score for _, score in reports})


def test_days_are_told_as_they_are_done_and_a_trial_can_be_stopped(
    past: History, tmp_path: Path, fits: list[str]
) -> None:
    """Folds that were made by then are not made again."""
    sweep_task, reports = task(past, tmp_path), []

    def second(day: int, score: float) -> None:
        reports.append((day, list(fits)))
        if day == 2:
            raise InterruptedError(score)

    with pytest.raises(InterruptedError):
        sweep_task.score({}, second)
    assert reports == [(1, DAYS[:1]), (2, DAYS[:2])]
    name = identity_of(
        CHAIN_LADDER,
        sweep_task.history,
        ReplayPlan(**SWEEP_VALIDATION["plan"]),
        sweep_task.origins[0],
    )
    ledger = Ledger(tmp_path / "ledger")
    assert [ledger.has(name, day) for day in sweep_task.origins] == [True, True, False]
    fits.clear()
    _, reports_again = score_and_reports(sweep_task, {})
    assert [day for day, _ in reports_again] == [1, 2, 3] and fits == DAYS[2:]


def test_the_same_values_are_not_fitted_again(
    past: History, tmp_path: Path, fits: list[str]
) -> None:
    """And tell the same on the way; nor is a model that only learns otherwise from its past."""
    sweep_task = task(
        past, tmp_path, space={"validation": {"learning": {"correction": [True, False]}}}
    )
    first = score_and_reports(sweep_task, {})
    assert fits == DAYS
    assert score_and_reports(sweep_task, {}) == first and fits == DAYS
    other_outcome, other_reports = score_and_reports(
        sweep_task, {"validation.learning.correction": False}
    )
    assert other_reports == first[1] and fits == DAYS
    plain = record_as_trained(
        past, CHAIN_LADDER, learning={**SWEEP_VALIDATION["learning"], "correction": False}
    )
    assert other_outcome.score == scores.mean_wape(plain)


def test_days_that_are_done_in_another_order_are_told_in_theirs(
    past: History, tmp_path: Path, fits: list[str]
) -> None:
    """As by several workers, or when a file is gone."""
    sweep_task = task(past, tmp_path)
    first = score_and_reports(sweep_task, {})
    name = identity_of(
        CHAIN_LADDER,
        sweep_task.history,
        ReplayPlan(**SWEEP_VALIDATION["plan"]),
        sweep_task.origins[0],
    )
    Ledger(tmp_path / "ledger").path(name, sweep_task.origins[0]).unlink()
    fits.clear()
    assert score_and_reports(sweep_task, {})[1] == first[1] and fits == DAYS[:1]


def test_models_of_a_mixture_are_told_together(past: History, tmp_path: Path) -> None:
    """The first day is told when both models have it, before any other day is begun."""
    space = {"model": {"bases": {"other": {"half_life": [None, 90.0]}}}}
    sweep_task, days_done = task(past, tmp_path, MIXTURE, space), []

    def first(day: int, _: float) -> None:
        days_done.extend(sorted(path.parent.name for path in tmp_path.rglob("*.parquet")))
        raise InterruptedError(day)

    with pytest.raises(InterruptedError, match="1"):
        sweep_task.score({}, first)
    assert days_done == [f"origin={DAYS[0]}"] * 2


def spoil_future(past: History) -> History:
    """Other numbers in all that was not known on DATE, of users too, and another snapshot."""
    later = past.end[:, None] + np.arange(361) * np.timedelta64(1, "D") > SWEEP_DATE
    early, late = past.until(SWEEP_DATE), replace(past, values=np.where(later, 1e6, past.values))
    ended = late.end <= SWEEP_DATE
    late = replace(late, users=np.where(ended, late.users, 1e6))
    columns = {
        name: np.concatenate([getattr(early, name), getattr(late, name)])
        for name in ("start", "end", "users", "spend", "values")
    }
    names = {
        name: np.concatenate([early.attributes[name], late.attributes[name]])
        for name in past.attributes
    }
    columns["values"][len(early) :] *= 3  # a snapshot of after the day has other numbers throughout
    snapshot = np.concatenate([early.snapshot, late.snapshot])
    return replace(past, **columns, attributes=names, snapshot=snapshot)


def test_a_sweep_sees_nothing_after_its_date(past: History, tmp_path: Path) -> None:
    """Garbage there moves no bit of a score, a bias, a name in the ledger or a day."""
    clean_task, spoiled_task = task(past, tmp_path / "a"), task(spoil_future(past), tmp_path / "b")
    assert (
        clean_task.origins == spoiled_task.origins
        and clean_task.fingerprints == spoiled_task.fingerprints
    )
    assert clean_task.history.last_day == spoiled_task.history.last_day == SWEEP_DATE
    for values in ({}, CHANGED):
        (outcome, reports), (spoiled_outcome, spoiled_reports) = (
            score_and_reports(clean_task, values),
            score_and_reports(spoiled_task, values),
        )
        assert reports == spoiled_reports
        assert replace(outcome, seconds=0.0) == replace(spoiled_outcome, seconds=0.0)


def test_what_was_known_by_the_date_counts(past: History, tmp_path: Path) -> None:
    """The garbage of the test before, a day too early."""
    was_known = past.end <= SWEEP_DATE - 14
    values = np.where(was_known[:, None], past.values, 3 * past.values)
    moved = replace(past, values=values)
    clean_task, moved_task = task(past, tmp_path / "a"), task(moved, tmp_path / "b")
    assert clean_task.fingerprints != moved_task.fingerprints


def test_days_are_counted_from_the_last_snapshot(past: History, tmp_path: Path) -> None:
    """As train.py does: 40 days after the last export nothing more is known."""
    last = np.datetime64("2024-04-20")
    until = past.until(last)
    sweep_task = SweepTask.from_config(
        SWEEP_CONFIG, make_run_context(), SWEEP_SPACE, until, SWEEP_DATE, tmp_path
    )
    assert list(map(str, sweep_task.origins)) == ["2023-07-22", "2023-10-21", "2024-01-20"]
    assert score_and_reports(sweep_task, {})[0].score == scores.mean_wape(
        record_as_trained(until, CHAIN_LADDER)
    )


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            {"data": {"lag_days": [0, 1]}},
            "expected space.model.KEY or space.validation.KEY, got space.data: trials are compared",
        ),
        ({"seed": [0, 1]}, "got space.seed: trials are compared on the same data, days and seed"),
        (
            {"validation": {"origins": [2, 3]}},
            "expected trials on the same days and ages, got space.validation.origins",
        ),
        ({"validation": {"every_weeks": [13, 4]}}, "same days and ages, got space.validation.ever"),
        ({"validation": {"plan": {"ages": [[7], [7, 30]]}}}, "got space.validation.plan.ages"),
        ({"validation": {"plan": {"workers": [1, 2]}}}, "got space.validation.plan.workers"),
        ({"model": {"half_lif": [1, 2]}}, "got model.half_lif; the nearest is model.half_life"),
        ({}, "expected space.KEY=... with ranges or choices"),
    ],
)
def test_spaces_of_a_task_are_checked(
    past: History, tmp_path: Path, space: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        task(past, tmp_path, space=space)


def test_the_ages_of_the_score_are_needed(past: History, tmp_path: Path) -> None:
    plan = {**SWEEP_CONFIG["validation"]["plan"], "ages": [7, 60]}
    config = {**SWEEP_CONFIG, "validation": {**SWEEP_CONFIG["validation"], "plan": plan}}
    message = (
        r"expected validation.plan.ages with 7 and 30, at which trials are scored, got \[7, 60\]"
    )
    with pytest.raises(ValueError, match=message):
        SweepTask.from_config(config, make_run_context(), SWEEP_SPACE, past, SWEEP_DATE, tmp_path)


def test_how_a_model_is_replayed_may_be_searched(past: History, tmp_path: Path) -> None:
    space = {"validation": {"plan": {"window": ["expanding", "sliding:26w"]}}}
    sweep_task = task(past, tmp_path, space=space)
    windows = [
        score_and_reports(sweep_task, v)[0].score
        for v in ({}, {"validation.plan.window": "sliding:26w"})
    ]
    assert windows[0] != windows[1]


def test_days_to_score_on_are_needed(past: History, tmp_path: Path) -> None:
    begins = "the history begins on 2023-01-08"
    with pytest.raises(ValueError, match=f"before 2024-05-30, got none with .*origins=0: {begins}"):
        task(past, tmp_path, origins=0)
    early = np.datetime64("2023-02-20")
    with pytest.raises(ValueError, match=f"before 2023-02-20, got none with .*origins=3: {begins}"):
        SweepTask.from_config(SWEEP_CONFIG, make_run_context(), SWEEP_SPACE, past, early, tmp_path)


def test_forecasts_that_have_matured_are_needed(tmp_path: Path) -> None:
    """Two weeks after the day that is replayed no cohort of 7 days has reached D90."""
    short = weekly_history(20)
    date = np.datetime64("2023-05-01")
    config = {**SWEEP_CONFIG, "validation": {**SWEEP_VALIDATION, "origins": 1, "every_weeks": 2}}
    heard: list[int] = []
    with pytest.raises(ValueError, match="have matured by 2023-05-01, got none: a longer history"):
        SweepTask.from_config(config, make_run_context(), SWEEP_SPACE, short, date, tmp_path).score(
            {}, lambda day, _: heard.append(day)
        )
    assert heard == []


def test_values_that_a_model_refuses_are_told(past: History, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected half_life"):
        score_and_reports(task(past, tmp_path), {"model.half_life": -1.0})


def test_parts_tell_what_a_study_was_begun_with(past: History, tmp_path: Path) -> None:
    """Folders, workers and seeds of samplers are not among them."""
    first = task(past, tmp_path)

    def parts_that_differ(**changes: Any) -> set[str]:  # noqa: ANN401
        other_parts = task(**{"past": past, "folder": tmp_path / "other"} | changes).fingerprints
        return {name for name in other_parts if other_parts[name] != first.fingerprints[name]}

    assert (
        parts_that_differ()
        == set()
        == parts_that_differ(plan={**SWEEP_VALIDATION["plan"], "workers": 2})
    )
    data_part = "data, model or days"
    assert parts_that_differ(past=weekly_history(78, seed=1)) == {data_part}
    assert parts_that_differ(model=CHAIN_LADDER | {"tail": "inverse_power"}) == {data_part}
    assert parts_that_differ(origins=2) == {data_part} == parts_that_differ(every_weeks=12)
    assert parts_that_differ(learning={**SWEEP_VALIDATION["learning"], "blend": False}) == {
        "validation"
    }
    assert parts_that_differ(plan={**SWEEP_VALIDATION["plan"], "window": "sliding:52w"}) == {
        data_part,
        "validation",
    }
    half_life: Mapping[str, Any] = SWEEP_SPACE["model"]["half_life"]
    for model in (
        {"half_life": half_life},
        {"half_life": [None, 60.0], "min_cohorts": {"low": 2, "high": 9}},
        {"half_life": half_life, "min_cohorts": {"low": 2, "high": 8}},
        {"half_life": half_life, "min_cohorts": {"low": 2, "high": 9, "log": True}},
        {
            "half_life": half_life,
            "min_cohorts": {"low": 2, "high": 9, "when": {"model.tail": "flat"}},
        },
    ):
        assert parts_that_differ(space={"model": model}) == {"space"}, model


def identical_cohorts(weeks: int = 70) -> History:
    """Weekly cohorts of one curve."""
    days = [np.datetime64("2023-01-02") + 7 * week for week in range(weeks)]
    return history([(str(d), str(d + 6), {}, 10.0, curve(360)) for d in days])


def record_off_by(factor: float) -> BacktestRecord:
    """A model whose forecasts are `factor` of what came true, and a pattern that is exact."""
    past, origin = identical_cohorts(), "2024-02-29"
    entries = forecast_entries(
        Pattern(**{k: v for k, v in PATTERN.items() if k != "name"}).fit(past.as_of(origin)),
        past.as_of(origin),
        [7, 30],
    )
    truth = entries.look_up_actuals(past.as_of("2026-01-01"))
    band = Band(*[factor * truth] * 4)
    off_entries = replace(entries, pattern=truth, bands=dict.fromkeys(STAGES, band))
    return scores.build_record("", off_entries, past)


def test_biases_are_those_of_sums() -> None:
    record = record_off_by(1.25)
    assert bias_by_horizon(record, "final") == pytest.approx({"bias_d180": 0.25, "bias_d360": 0.25})
    assert bias_by_horizon(record, "pattern") == {"bias_d180": 0.0, "bias_d360": 0.0}
    later = np.where(np.arange(record.actual.shape[1]) == record.actual.shape[1] - 1, np.nan, 1.0)
    unknown = replace(record, actual=record.actual * later)
    assert bias_by_horizon(unknown, "final") == pytest.approx({"bias_d180": 0.25})
    assert bias_by_horizon(replace(record, actual=record.actual * np.nan), "final") == {}
    assert bias_by_horizon(replace(record, actual=record.actual * 0.0), "final") == {}


def test_cohorts_of_other_ages_are_not_among_the_biases() -> None:
    record = record_off_by(1.25)
    e = record.entries
    cut = np.isin(e.observed_age, (7, 30)) & (e.natural_age < e.observed_age + 7)
    assert 0 < cut.sum() < len(cut)
    band = Band(*[np.where(cut[:, None], e.bands["raw"].mean, 9e9)] * 4)
    wrong = replace(record, entries=replace(e, bands=dict.fromkeys(STAGES, band)))
    assert bias_by_horizon(wrong, "final") == bias_by_horizon(record, "final")


@pytest.mark.parametrize(
    ("own", "pattern", "allowed"),
    [
        (0.019, 0.0, True),
        (-0.019, 0.0, True),
        (0.021, 0.0, False),
        (0.045, -0.04, True),
        (-0.055, -0.04, False),
    ],
)
def test_a_bias_is_allowed_by_that_of_the_pattern(
    past: History,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own: float,
    pattern: float,
    allowed: bool,  # noqa: FBT001
) -> None:
    """Two hundredths, or one more than the pattern's."""
    stages = {"final": own, "pattern": pattern}
    monkeypatch.setattr(
        trials, "bias_by_horizon", lambda _, stage: {"bias_d180": 0.001, "bias_d360": stages[stage]}
    )
    outcome, _ = score_and_reports(task(past, tmp_path, origins=1), {})
    assert outcome.allowed is allowed
    assert outcome.bias == {"bias_d180": 0.001, "bias_d360": own}


def test_seconds_are_unknown_where_the_ledger_does_not_say(past: History, tmp_path: Path) -> None:
    sweep_task = task(past, tmp_path, origins=1)
    first, _ = score_and_reports(sweep_task, {})
    for path in (tmp_path / "ledger" / "_costs").rglob("*.json"):
        path.unlink()
    again, _ = score_and_reports(sweep_task, {})
    assert np.isnan(again.seconds) and again.score == first.score


def history_and_config(weeks: int = 70, **changes: Any) -> tuple[History, dict[str, Any]]:  # noqa: ANN401
    """Cohorts until 2024-05-05, known for long after; days 4 weeks apart."""
    return identical_cohorts(weeks), {
        "validation": {**SWEEP_VALIDATION, "every_weeks": 4, **changes}
    }


def test_the_newest_days_are_held_out() -> None:
    past, config = history_and_config()
    date, days = split_test_days(past, config, None, 2)
    assert (str(date), list(map(str, days))) == ("2024-04-07", ["2024-04-07", "2024-05-05"])
    date, days = split_test_days(past, config, None, 1)
    assert (str(date), list(map(str, days))) == ("2024-05-05", ["2024-05-05"])
    date, days = split_test_days(past, config, None, 0)
    assert (str(date), days) == ("2024-05-05", [])


def test_no_more_days_are_held_out_than_there_are() -> None:
    past, config = history_and_config()
    all_days = split_test_days(past, config, None, 10**6)[1]
    for count in (len(all_days), len(all_days) + 1, 2 * len(all_days) - 1):
        date, days = split_test_days(past, config, None, count)
        assert days == all_days and date == all_days[0]


def test_days_from_a_date_are_held_out() -> None:
    """It is the first of them; the newest whose D90 has matured is the last that may be."""
    past, config = history_and_config()
    date, days = split_test_days(past, config, "2024-02-11", 2)
    assert (str(date), list(map(str, days))) == ("2024-02-11", ["2024-02-11", "2024-03-10"])
    assert list(map(str, split_test_days(past, config, "2024-04-08", 2)[1])) == ["2024-04-08"]
    assert split_test_days(past, config, "2024-05-06", 2) == (np.datetime64("2024-05-06"), [])
    assert split_test_days(past, config, "2024-02-11", 0)[1] == []


def test_a_count_of_days_is_not_negative() -> None:
    with pytest.raises(ValueError, match="expected sweep.held_out >= 0, got -1"):
        split_test_days(*history_and_config(), None, -1)


LATER = [SWEEP_DATE, SWEEP_DATE + 91]


def test_a_gain_is_measured_on_days_that_were_not_seen(
    past: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of five days that are replayed, each score is that of the last two."""
    sweep_task, replayed, walked = task(past, tmp_path), [], trials.replay_and_correct

    def walk_and_note(replay: Replay, learning: StageSwitches) -> WalkForward:
        replayed.append(replay.origins)
        return walked(replay, learning)

    monkeypatch.setattr(trials, "replay_and_correct", walk_and_note)
    gain = HeldOutGain.measure(sweep_task, CHANGED, past, LATER)
    assert gain is not None and gain.days == LATER
    assert replayed == [[*sweep_task.origins, *LATER]] * 2  # also those that corrections learn from
    for score, values in ((gain.default, {}), (gain.best, CHANGED)):
        model = sweep_task.trial_config(values)["model"]
        replay = sweep_task.replay(
            sweep_task.trial_config(values), [*sweep_task.origins, *LATER], past
        )
        own = replace(replay, ledger=Ledger(tmp_path / "own"))
        record = trials.replay_config(sweep_task.trial_config(values), own)
        assert model["half_life"] == values.get("model.half_life")
        rows = np.flatnonzero(record.entries.origin >= SWEEP_DATE)
        unseen = replace(record, entries=record.entries.take(rows), actual=record.actual[rows])
        assert score == pytest.approx(scores.mean_wape(unseen), rel=1e-12)
    assert gain.saved == pytest.approx(1 - gain.best / gain.default) != 0.0
    assert gain.low <= gain.saved <= gain.high


def test_a_gain_over_itself_is_nothing(past: History, tmp_path: Path) -> None:
    gain = HeldOutGain.measure(task(past, tmp_path), {}, past, LATER[:1])
    assert gain is not None
    assert (gain.saved, gain.low, gain.high) == (0.0, 0.0, 0.0) and gain.best == gain.default


def test_a_gain_is_unknown_where_nothing_has_matured(past: History, tmp_path: Path) -> None:
    assert (
        HeldOutGain.measure(
            task(past, tmp_path), CHANGED, past.until(SWEEP_DATE + 20), [SWEEP_DATE]
        )
        is None
    )


VALUES: Mapping[str, Any] = {"a.rate": 0.5, "a.units": [1, 2], "a.trend": True, "a.none": None}


def read_events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


@pytest.fixture
def finished_run(tmp_path: Path) -> Path:
    config = {
        "model": {"date": SWEEP_DATE},
        "sweep": {"storage": "postgresql://me:secret@host/db"},
    }
    with TrialFolder(tmp_path / "0003", config, VALUES) as run:
        run.log_score(1, 0.25)
        run.log_score(3, 0.5)
        run.set_outcome(TrialOutcome(0.375, {"bias_d180": -0.01}, allowed=True, seconds=2.0))
    return tmp_path / "0003"


def test_a_run_keeps_its_config_without_the_address_of_the_study(finished_run: Path) -> None:
    assert OmegaConf.load(finished_run / ".hydra" / "config.yaml") == {
        "model": {"date": str(SWEEP_DATE)}
    }
    files = [path.read_bytes() for path in finished_run.rglob("*") if path.is_file()]
    assert len(files) >= 3 and not any(b"secret" in text for text in files)


def test_a_run_writes_what_it_found(finished_run: Path) -> None:
    written = json.loads((finished_run / "metrics.json").read_text())
    assert written == {"score": 0.375, "bias_d180": -0.01, "seconds": 2.0, "days": 3}


def test_a_run_is_seen_in_tensorboard(finished_run: Path) -> None:
    """The score by days, and among the hyperparameters the values; without a folder more."""
    event_log = read_events(finished_run)
    steps = [(event.step, event.value) for event in event_log.Scalars("sweep/score")]
    assert [(step, value) for step, value in steps if step] == [(1, 0.25), (3, 0.5)]
    last = {tag: event_log.Scalars(tag)[-1].value for tag in event_log.Tags()["scalars"]}
    assert last["sweep/days"] == 3 and last["sweep/seconds"] == 2.0
    assert last["sweep/bias_d180"] == pytest.approx(-0.01)
    plugin = event_log.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    for text in (b"a.rate", b"[1, 2]", b"None", b"a.trend"):
        assert text in plugin
    assert [path.name for path in finished_run.iterdir() if path.is_dir()] == [".hydra"]


@pytest.mark.parametrize("days", [[], [(1, 0.25), (2, 0.125)]])
def test_a_run_that_is_cut_off_writes_how_far_it_came(
    tmp_path: Path, days: Sequence[tuple[int, float]]
) -> None:
    with pytest.raises(InterruptedError), TrialFolder(tmp_path, SWEEP_CONFIG, VALUES) as run:
        for day, score in days:
            run.log_score(day, score)
        raise InterruptedError
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"days": len(days)}
    event_log = read_events(tmp_path)
    assert event_log.Scalars("sweep/days")[-1].value == len(days)
    score_events = event_log.Scalars("sweep/score") if days else []
    assert [(event.step, event.value) for event in score_events] == list(days)


def test_unknown_seconds_are_left_out(tmp_path: Path) -> None:
    with TrialFolder(tmp_path, SWEEP_CONFIG, {}) as run:
        run.set_outcome(TrialOutcome(0.5, {}, allowed=True, seconds=float("nan")))
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"score": 0.5, "days": 0}
