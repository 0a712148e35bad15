"""A space holds what it suggests, a grid its bounds and the default; what is wrong is said."""

import copy
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import RandomSampler, TPESampler

from ltvnet.tuning.search_space import (
    Choices,
    Range,
    SearchSpace,
    config_value,
    encode_choice,
    replace_config_values,
)

CONFIG: Mapping[str, Any] = {
    "model": {
        "name": "net",
        "rate": 0.01,
        "epochs": 6,
        "trend": True,
        "half_life": None,
        "net": {"units": [16, 8], "dropout": 0.1, "kind": "lstm"},
    },
    "validation": {"window": "expanding"},
}


def space(model: Mapping[str, Any]) -> SearchSpace:
    return SearchSpace.parse({"model": model}, CONFIG)


def make_range(**bounds: float | bool | None) -> Range:
    free: dict[str, Any] = {"key": "x", "step": None, "log": False, "when": {}}
    return Range(**free | bounds)


def make_choices(values: Sequence[object]) -> Choices:
    return Choices(key="x", values=tuple(values), when={})


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@st.composite
def ranges(draw: st.DrawFn) -> Range:
    """Of whole numbers or others, with steps (of quarters or tenths) or without, or of logs."""
    log = draw(st.booleans())
    if draw(st.booleans()):
        low = draw(st.integers(1 if log else -20, 30))
        high = low + draw(st.integers(1, 40))
        step = None if log else draw(st.none() | st.integers(1, 7))
        return make_range(low=low, high=high, step=step, log=log)
    unit = draw(st.sampled_from([0.1, 0.25, 0.003]))
    first = draw(st.integers(1 if log else -20, 30))
    low, high = round(unit * first, 6), round(unit * (first + draw(st.integers(1, 40))), 6)
    steps = st.integers(1, 7).map(lambda count: round(unit * count, 6))
    return make_range(low=low, high=high, step=None if log else draw(st.none() | steps), log=log)


@settings(max_examples=80, deadline=None)
@given(ranges(), st.integers(2, 7), st.integers(0, 99))
def test_a_range_holds_what_it_suggests_and_its_grid(one: Range, points: int, seed: int) -> None:
    grid = one.grid_values(points)
    assert all(map(one.contains, grid)) and grid == sorted(set(grid))
    assert grid[0] == one.low and grid[-1] == one.largest <= one.high
    assert one.high - one.largest < (one.step or 1e-12)
    assert one.is_integer == all(isinstance(value, int) for value in grid)
    study = optuna.create_study(sampler=RandomSampler(seed=seed))
    for value in [None, *grid]:  # one at random, and those that are told what to use
        study.enqueue_trial({} if value is None else {"x": value})
        suggestion = one.suggest(
            study.ask()
        )  # warns, which is an error here, of what is out of range
        assert one.contains(suggestion) and (value is None or suggestion == pytest.approx(value))


def test_grids_have_the_bounds_exactly_and_each_number_once() -> None:
    """Four numbers from 0.001 to 1 by logs are a factor of 10 apart; those of 1 to 2 are two."""
    grid = make_range(low=0.001, high=1.0, log=True).grid_values(4)
    assert (grid[0], grid[-1]) == (0.001, 1.0)
    np.testing.assert_allclose(grid, [0.001, 0.01, 0.1, 1.0], rtol=1e-12)
    assert (grid := make_range(low=0.3, high=0.7, log=True).grid_values(3))[::2] == [0.3, 0.7]
    assert grid[1] == pytest.approx(0.21**0.5)
    assert make_range(low=1, high=2).grid_values(5) == [1, 2]
    assert make_range(low=1, high=9).grid_values(3) == [1, 5, 9]
    assert make_range(low=0.0, high=1.0).grid_values(3) == [0.0, 0.5, 1.0]


def test_steps_begin_at_the_lower_bound() -> None:
    assert make_range(low=1, high=6, step=2).grid_values(99) == [1, 3, 5]
    assert make_range(low=0.0, high=0.3, step=0.1).grid_values(2) == [0.0, 0.1, 0.2, 0.3]
    steps = [value for value in range(9) if make_range(low=1, high=6, step=2).contains(value)]
    assert steps == [1, 3, 5]


@pytest.mark.parametrize("value", [True, "1", None, [1], float("nan"), float("inf"), 0, 4, 1.5])
def test_other_values_are_not_of_a_range(value: object) -> None:
    assert not make_range(low=1, high=3).contains(value) and make_range(low=1, high=3).contains(2)
    assert make_range(low=1.0, high=3.0).contains(1.5)


def test_one_is_not_true() -> None:
    numbers, booleans = make_choices([1, 2]), make_choices([True, False])
    assert numbers.contains(1) and numbers.contains(1.0) and not numbers.contains(value=True)
    assert booleans.contains(value=True) and not booleans.contains(1)
    nothing = make_choices([None, "a"])
    assert nothing.contains(None) and not nothing.contains(value=False)
    lists = make_choices([[1, 2], [3]])
    assert lists.contains([1, 2]) and not lists.contains([2, 1])


VALUES = st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(VALUES | st.lists(st.integers(0, 3), max_size=3), min_size=2, max_size=6).filter(
        lambda values: all(x not in values[:i] for i, x in enumerate(values))
    ),
    st.integers(0, 99),
)
def test_a_study_gives_choices_back_as_they_are(values: list[Any], seed: int) -> None:
    """Lists too, which it knows as text."""
    choices = make_choices(values)
    study = optuna.create_study(sampler=RandomSampler(seed=seed))
    for value in choices.grid_values(1):
        study.enqueue_trial({"x": encode_choice(value)})
        trial = study.ask()
        assert choices.suggest(trial) == value == choices.decode(trial.params["x"])
        assert type(choices.decode(trial.params["x"])) is type(value)
    assert choices.contains(choices.suggest(study.ask()))
    assert choices.grid_values(1) == values


CONDITIONAL = {
    "net": {
        "kind": ["lstm", "mlp"],
        "units": {"choices": [[16, 8], [32, 16]], "when": {"model.net.kind": ["lstm"]}},
        "dropout": {"low": 0.0, "high": 0.2, "step": 0.1, "when": {"model.net.kind": "mlp"}},
    },
    "rate": {"low": 0.001, "high": 0.1, "log": True, "when": {"model.half_life": [None]}},
}


def test_conditions_say_what_is_searched() -> None:
    """2 units of an lstm, 3 dropouts of an mlp, each with 2 rates: 10 points, not 2 x 2 x 3 x 2."""
    conditional = space(CONDITIONAL)
    default = {"model.net.kind": "lstm", "model.rate": 0.01, "model.net.units": [16, 8]}
    assert conditional.default_values(CONFIG) == default and len(conditional) == 4
    grid = conditional.grid(CONFIG, 2)
    assert len(grid) == 10
    for values in grid:
        searched_key = "units" if values["model.net.kind"] == "lstm" else "dropout"
        assert set(values) == {"model.net.kind", "model.rate", f"model.net.{searched_key}"}
    other_config = replace_config_values(CONFIG, {"model.half_life": 90, "model.net.kind": "mlp"})
    assert conditional.default_values(other_config) == {
        "model.net.kind": "mlp",
        "model.net.dropout": 0.1,
    }


def test_what_others_depend_on_is_chosen_first() -> None:
    conditional = space(
        {
            "epochs": {"low": 1, "high": 9, "when": {"model.trend": [True]}},
            "rate": {"low": 0.001, "high": 0.1, "when": {"model.epochs": [5, 6, 7]}},
            "trend": [True, False],
        }
    )
    assert [dimension.key for dimension in conditional.dimensions] == [
        "model.trend",
        "model.epochs",
        "model.rate",
    ]
    study = optuna.create_study(sampler=TPESampler(seed=0))
    for _ in range(40):
        values = conditional.suggest(study.ask(), CONFIG)
        epochs = values.get("model.epochs", CONFIG["model"]["epochs"])
        assert ("model.epochs" in values) == values["model.trend"]
        assert ("model.rate" in values) == (epochs in (5, 6, 7))
        for dimension in conditional.dimensions:
            assert dimension.key not in values or dimension.contains(values[dimension.key])
        assert all(values[key] is not None for key in values)


def test_values_of_a_study_are_those_of_a_config() -> None:
    conditional = space(CONDITIONAL)
    study = optuna.create_study()
    study.enqueue_trial({"model.net.kind": "lstm", "model.net.units": "[32, 16]"})
    trial = study.ask()
    values = conditional.suggest(trial, CONFIG)
    assert values["model.net.units"] == [32, 16]
    assert conditional.decode(trial.params) == values
    assert conditional.decode({"model.rate": 0.5, "model.gone": 1}) == {"model.rate": 0.5}


def test_large_grids_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 5 rates and 20 numbers of epochs there are 100 points, of 6 rates 120."""
    monkeypatch.setattr("ltvnet.tuning.search_space.MAX_GRID_POINTS", 100)
    large_space = space(
        {"rate": {"low": 0.0, "high": 1.0}, "epochs": {"low": 1, "high": 20, "step": 1}}
    )
    assert len(large_space.grid(CONFIG, 5)) == 100
    with pytest.raises(ValueError, match="a grid of at most 100 points, got 120: search fewer key"):
        large_space.grid(CONFIG, 6)


def test_changed_leaves_the_given_config() -> None:
    copy_before = copy.deepcopy(CONFIG)
    changed_config = replace_config_values(
        CONFIG, {"model.net.dropout": 0.4, "model.net.units": [1], "model.rate": None}
    )
    assert CONFIG == copy_before
    assert changed_config["model"] == {
        **copy_before["model"],
        "rate": None,
        "net": {"units": [1], "dropout": 0.4, "kind": "lstm"},
    }
    assert changed_config["validation"] is CONFIG["validation"]
    assert replace_config_values(CONFIG, {}) == copy_before


def test_selected_goes_by_dots() -> None:
    assert config_value(CONFIG, "model.net.dropout") == 0.1
    assert config_value(CONFIG, "model.half_life") is None
    with pytest.raises(ValueError, match=r"expected a key of the config, got a$"):
        config_value({}, "a.b")


def test_messages_tell_ranges_and_choices() -> None:
    assert str(make_range(low=1, high=6, step=2)) == "1 to 6 in steps of 2"
    assert str(make_range(low=0.1, high=2.0)) == "0.1 to 2.0"
    assert str(make_choices([None, [1, 2], "a"])) == "one of null, [1, 2], a"


def test_a_range_that_ends_between_steps_warns_nobody() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        suggestions = {make_range(low=1, high=6, step=2).suggest(optuna.create_study().ask())
                 for _ in range(20)}  # fmt: skip
    assert suggestions <= {1, 3, 5}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({}, "expected space.KEY=... with ranges or choices of keys of the config, such as"),
        ({"rat": [1, 2]}, "expected a key of the config, got model.rat; the nearest is model.rate"),
        (
            {"net": {"dropuot": {"low": 0.0, "high": 1.0}}},
            "expected a key of the config, got model.net.dropuot; the nearest is model.net.dropout",
        ),
        ({"rate": {"choice": [1, 2]}}, "expected a key of the config, got model.rate.choice; the"),
        ({"net": [1, 2]}, "expected space.KEY of a value, got model.net, which holds units, dropo"),
        (
            {"rate": {"low": 0.1, "high": 1.0}},
            "expected space.model.rate to hold 0.01, the value of model.rate, which is tried first;"
            " got 0.1 to 1.0: widen it, or set model.rate to a value within",
        ),
        ({"trend": [1, 0]}, "expected space.model.trend to hold true, the value of model.trend"),
        ({"epochs": {"low": 1, "high": 9, "step": 2}}, "to hold 6, the value of model.epochs"),
        (
            {"rate": {"low": 0.0, "high": 1.0, "min": 3}},
            "expected space.model.rate with high, log, low, step, when, got min",
        ),
        (
            {"rate": {"choices": [1, 2], "low": 0.0}},
            "expected space.model.rate with choices, when, got low",
        ),
        ({"rate": 0.02}, "expected space.model.rate as {low: ..., high: ...} or a list of choices"),
        ({"rate": {"choices": "ab"}}, "or a list of choices, got 'ab'"),
        ({"rate": [0.01]}, "expected space.model.rate with two or more different choices, got [0"),
        ({"rate": [0.01, 0.01]}, "with two or more different choices, got [0.01, 0.01]"),
        ({"epochs": [6, 1, True]}, "with two or more different choices, got [6, 1, True]"),
        ({"rate": {"low": 0.0}}, "expected numbers space.model.rate.low < high, got 0.0 and None"),
        ({"rate": {"low": 2, "high": 1}}, "expected numbers space.model.rate.low < high, got 2 an"),
        ({"rate": {"low": False, "high": 1}}, "expected numbers space.model.rate.low < high, got"),
        ({"rate": {"low": "a", "high": 1}}, "expected numbers space.model.rate.low < high, got a"),
        (
            {"rate": {"low": 0, "high": 1, "log": True}},
            "expected space.model.rate with log=true and low > 0 and without step",
        ),
        ({"rate": {"low": 1, "high": 2, "log": True, "step": 1}}, "low > 0 and without step"),
        ({"rate": {"low": 1, "high": 2, "log": "yes"}}, "expected space.model.rate with log=true"),
        (
            {"rate": {"low": 1, "high": 2, "step": 0}},
            "expected space.model.rate.step above 0, got 0",
        ),
        ({"rate": {"low": 1, "high": 2, "step": "1"}}, "expected space.model.rate.step above 0"),
        (
            {"rate": {"low": 0.0, "high": 1.0, "when": "model.trend"}},
            "expected space.model.rate.when as {other.key: [values]}, got 'model.trend'",
        ),
        (
            {"rate": {"low": 0.0, "high": 1.0, "when": {"model.trnd": [True]}}},
            "expected a key of the config, got model.trnd; the nearest is model.trend",
        ),
        (
            {
                "rate": {"low": 0.0, "high": 1.0, "when": {"model.epochs": [6]}},
                "epochs": {"low": 1, "high": 9, "when": {"model.rate": [0.01]}},
            },
            "expected conditions in one direction, got model.rate and model.epochs under each othe",
        ),
        ({"trend": {"choices": [True, False], "when": {"model.trend": True}}}, "in one direction"),
    ],
)
def test_spaces_are_checked(model: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        space(model)
