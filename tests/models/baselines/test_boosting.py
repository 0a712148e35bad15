"""Boosted trees: what they are taught, that they learn it, and that they travel as text."""

import logging
import subprocess
import sys

import numpy as np
import pytest
from factories.cohorts import Row, history, weekly_history
from factories.configs import BOOSTING, arguments_of

from ltvnet.data.arrays import Floats
from ltvnet.data.curves import AGES, NODES, Curves
from ltvnet.metrics import wape
from ltvnet.models.baselines.boosting import (
    SMEARING_LIMITS,
    Boosting,
    TreeInputs,
    TreeScaling,
    TreeTasks,
    smearing_factors,
    task_weights,
    training_tasks,
)

DAY = "2024-10-01"


def make_boosting(seed: int = 0, **changes: object) -> Boosting:
    return Boosting(**arguments_of(BOOSTING) | changes, seed=seed)


@pytest.fixture(scope="module")
def curves() -> Curves:
    return weekly_history(60, noise=0.4).as_of(DAY)


def two_kinds(cohorts: int) -> Curves:
    """Daily cohorts that earn half of their D7 value by D1 and then double, or all and stand."""
    rng = np.random.default_rng(0)
    ages, first = np.log1p(np.arange(AGES)), np.datetime64("2023-01-01")
    rows: list[Row] = []
    for n in range(cohorts):
        early, final = ((0.5, 4.0), (0.95, 1.1))[rng.integers(2)]
        curve = np.interp(ages, np.log1p([0, 1, 7, 360]), [early / 2, early, 1.0, final])
        day = str(first + n)
        rows.append((day, day, {"Apps": "a"}, 200.0, rng.uniform(1, 3) * curve))
    return history(rows, hierarchy=("Apps",)).as_of(first + cohorts + 400)


@pytest.mark.parametrize("target", ["ratio", "departure"])
def test_trees_learn_what_the_pattern_cannot_see(target: str) -> None:
    """Who starts slowly grows long: the level at D7 says nothing of it, the slope all."""
    curves = two_kinds(120)
    young = curves.cut(7)
    fitted = make_boosting(target=target, rounds=60).fit(curves)
    forecast = fitted.predict(young)
    actual, users = curves.values[:, -1], curves.users
    error = wape(actual, forecast.raw.mean[:, -1], users)
    pattern_error = wape(actual, forecast.pattern[:, -1], users)
    assert pattern_error > 0.3 and error < 0.4 * pattern_error


def test_tasks_by_hand() -> None:
    """A cohort at D14 taught at D3, D6, D9 and D13, of nodes that it has reached."""
    cohort = history([("2024-01-01", "2024-01-01", {}, 4.0, np.ones(AGES))]).as_of("2024-01-15")
    tasks = training_tasks(cohort, 360, 0)
    pairs = [
        (age, NODES[node]) for age, node in zip(tasks.observed_age, tasks.node_index, strict=True)
    ]
    reached = {3: (4, 5, 6, 7, 10, 14), 6: (7, 10, 14), 9: (10, 14), 13: (14,)}
    assert pairs == [(age, node) for age, nodes in reached.items() for node in nodes]
    assert len(training_tasks(cohort, 10, 0).observed_age) == 5 + 2 + 1
    expected = np.log([15 / 11, 15 / 14]) * 2.0
    np.testing.assert_allclose(task_weights(tasks, cohort.users)[[-2, -1]], expected, rtol=1e-12)


def test_no_more_cohorts_than_can_be_taught(
    curves: Curves, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ltvnet.models.baselines.boosting.MAX_TRAINING_COHORTS", 10)
    drawn = {seed: set(training_tasks(curves, 360, seed).cohort_index) for seed in (0, 1)}
    assert len(drawn[0]) == len(drawn[1]) == 10 and drawn[0] != drawn[1]


@pytest.mark.parametrize("target", ["ratio", "departure"])
def test_answers_stand_for_the_growth_that_they_were_taught(curves: Curves, target: str) -> None:
    pattern = make_boosting().fit(curves).pattern.fitted_pattern
    scaling = TreeScaling.from_curves(curves, pattern.segment_curves.median_revenue_d7)
    table = TreeInputs(curves, pattern.leave_one_out_curves(curves), scaling)
    tasks = training_tasks(curves, 360, 0)
    actual = table.value(tasks, tasks.horizon) - table.value(tasks, tasks.observed_age)
    growth = table.growth(tasks, target, table.targets(tasks, target))
    np.testing.assert_allclose(growth, actual, rtol=1e-9, atol=1e-12)


def test_smearing_by_hand() -> None:
    """Users 1 and 3 grew by 4 and 2 where 2 and 2 was told: 10 / 8, of 2 cohorts: 2 / 42 of it."""
    node = np.array([8, 8, 9])
    tasks = TreeTasks(np.array([0, 1, 0]), np.array([7, 7, 7]), node)
    users, forecast = np.array([1.0, 3.0]), np.array([2.0, 2.0, 1.0])
    factor = smearing_factors(tasks, users, np.array([4.0, 2.0, 100.0]), forecast)
    assert factor[8] == pytest.approx(1 + 0.25 * 2 / 42)
    assert factor[9] == pytest.approx(1 + (SMEARING_LIMITS[1] - 1) / 41)
    assert (factor[:8] == 1).all() and (factor[10:] == 1).all()


def test_between_nodes_growth_has_the_shape_of_the_pattern(curves: Curves) -> None:
    """z is constant: growth over the pattern's is the same from one node to the next."""
    young = curves.cut(8)
    fitted = make_boosting(target="departure").fit(curves)
    daily, nodes = fitted.predict(young, range(AGES)), fitted.predict(young)
    np.testing.assert_array_equal(daily.at(NODES).raw.mean, nodes.raw.mean)
    steps = [
        np.diff(np.where(daily.is_ahead, cells, young.observed_value[:, None]), axis=1)
        for cells in (daily.raw.mean, daily.pattern)
    ]
    for begin, end in ((8, 10), (14, 21), (45, 60), (180, 240)):
        forecast_growth, pattern_growth = (step[:, begin:end] for step in steps)
        expected = forecast_growth.sum(axis=1, keepdims=True) / pattern_growth.sum(
            axis=1, keepdims=True
        )
        np.testing.assert_allclose(
            forecast_growth, expected * pattern_growth, rtol=1e-6, atol=1e-12
        )
        assert np.abs(np.log(expected)).max() > 0.01  # other than the pattern


def test_some_ages_are_forecast_as_all_are(curves: Curves) -> None:
    fitted, ages = make_boosting(target="departure").fit(curves), [9, 33, 90, 359]
    at_ages, daily = (
        fitted.predict(curves.cut(8), asked_ages).raw for asked_ages in (ages, range(AGES))
    )
    np.testing.assert_array_equal(at_ages.mean, daily.mean[:, ages])


def test_rare_and_unknown_values_share_a_category() -> None:
    rows = [
        ("2024-01-01", f"2024-01-{n + 1:02}", {"Apps": a}, 5.0, np.ones(AGES))
        for n, a in enumerate("zzzzzaaaaay")
    ]
    scaling = TreeScaling.from_curves(history(rows).as_of("2024-02-01"), 1.0)
    assert scaling.categories == {"Apps": ["a", "z"]}
    other_rows = [("2024-01-01", "2024-01-01", {"Apps": a}, 5.0, np.ones(AGES)) for a in "anyz"]
    codes = scaling.category_codes(history(other_rows).as_of("2024-02-01"))
    assert codes.tolist() == [[1, 0, 0, 2]]
    nameless = history([("2024-01-01", "2024-01-01", {}, 5.0, np.ones(AGES))]).as_of("2024-02-01")
    assert scaling.category_codes(nameless).tolist() == [[0]]


def departures(fitted: Boosting, curves: Curves) -> Floats:
    forecast = fitted.predict(curves)
    grown = forecast.raw.mean - curves.observed_value[:, None]
    return (grown / (forecast.pattern - curves.observed_value[:, None]))[forecast.is_ahead]


def test_few_matured_cohorts_keep_departures_small(curves: Curves) -> None:
    fitted = make_boosting(target="departure").fit(curves)
    matured = (curves.observed_age >= 30).sum()
    assert fitted.confidence == matured / (matured + 40)
    fitted.smear = np.ones(len(NODES))
    young = curves.cut(7)
    confident = departures(fitted, young)
    fitted.confidence = 0.0
    np.testing.assert_allclose(departures(fitted, young), 1.0, rtol=1e-6)
    assert np.abs(np.log(confident)).max() > 0.02
    assert make_boosting().fit(curves).confidence == 1.0


@pytest.mark.parametrize(("weeks", "said"), [(14, "28 cohorts, 18 of"), (60, "no revenue by D7")])
def test_too_little_data_leave_the_pattern(
    weeks: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    curves = weekly_history(60).as_of(np.datetime64("2023-01-08") + 7 * (weeks - 1))
    if weeks == 60:
        curves = history(
            [("2023-01-02", "2023-01-02", {"Apps": str(n)}, 5.0, np.zeros(AGES)) for n in range(40)]
        ).as_of("2023-06-01")
    with caplog.at_level(logging.WARNING):
        fitted = make_boosting().fit(curves)
    forecast = fitted.predict(curves)
    np.testing.assert_array_equal(forecast.raw.mean, forecast.pattern)
    assert said in caplog.text and caplog.text.count("the pattern forecasts alone") == 1
    assert "trees" not in fitted.state()[1]


def test_the_same_seed_grows_the_same_trees(curves: Curves) -> None:
    trees, again, other_trees = (
        make_boosting(seed=s).fit(curves).state()[1]["trees"] for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(trees, again)
    assert trees.tobytes() != other_trees.tobytes()


def test_trees_travel_as_text(curves: Curves) -> None:
    trees = make_boosting().fit(curves).state()[1]["trees"]
    assert trees.dtype == np.uint8 and trees.tobytes().decode().startswith("tree\nversion=")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target": "level"}, "expected target out of ratio, departure, got 'level'"),
        ({"rounds": 0}, "expected rounds >= 1, leaves >= 2 and min_rows >= 1, got 0, 4 and 20"),
        ({"rate": 0}, r"expected rate within \(0, 1\], got 0"),
    ],
)
def test_arguments_are_checked(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_boosting(**changes)


def test_importing_it_leaves_lightgbm_out() -> None:
    code = "import sys, ltvnet.models.baselines.boosting; print('lightgbm' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
