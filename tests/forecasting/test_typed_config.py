"""A section of a config becomes a dataclass, or one message."""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from ltvnet.backtesting.origins import OriginsConfig
from ltvnet.forecasting.typed_config import (
    SettingError,
    check_arguments,
    check_day,
    check_value,
    settings_from,
)


def test_a_section_becomes_a_dataclass() -> None:
    made = settings_from(OriginsConfig, {"every": "4w", "last": "2024-01-01"}, "origins")
    assert made == OriginsConfig(every="4w", last="2024-01-01")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (None, "expected origins.KEY with KEY out of every, first, .*got origins=None"),
        ({"every": "4w", "evry": 1}, "out of every, .*got origins.evry"),
        ({"first": None}, "got none of origins.every"),
    ],
)
def test_what_is_wrong_with_a_section_is_told(section: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings_from(OriginsConfig, section, "origins")


@pytest.mark.parametrize(
    ("annotation", "right", "wrong", "words"),
    [
        (int, [0, -3], [True, 1.0, "1", None, 10**30], "a whole number"),
        (float, [0, 1.5], [True, "1", float("nan"), float("inf")], "a number"),
        (bool, [True, False], [0, 1, "true", None], "true or false"),
        (str, ["", "a"], [1, None, ["a"]], "a text"),
        (str | None, ["a", None], [1, []], "a text or null"),
        (str | Path, ["a", Path("a")], [1], "a text or a path"),
        (int | Literal["auto"], [1, "auto"], ["abc", True], "a whole number or auto"),
        (Sequence[int], [[], [1, 2], (1,)], ["12", [1, "a"], [True], None, {}], "whole numbers"),
        (Sequence[str] | None, [None, ["a"]], ["a", [1], {"a": 1}], "a list of texts or null"),
        (list[float], [[1, 2.5]], [["a"], 1], "a list of numbers"),
        (Mapping[str, Any], [{}, {"a": []}], [[], "a", None], "a dictionary"),
        (object, [1, "a", None, []], [], ""),
        (Any, [1, "a", None, []], [], ""),
        (Annotated[str, "7d or 4w"], ["7d"], [7, None], "=7d or 4w"),
        (Literal["a", "b"], ["a"], ["c", 1, None, ["a"]], " out of a, b"),
    ],
)
def test_values_are_held_against_annotations(
    annotation: object, right: list[object], wrong: list[object], words: str
) -> None:
    for value in right:
        check_value(value, annotation, "key")
    for value in wrong:
        with pytest.raises(SettingError, match=f"^expected key.*{words}.*, got "):
            check_value(value, annotation, "key")


def test_a_value_that_has_to_be_given_is_asked_for() -> None:
    with pytest.raises(ValueError, match="^expected data.path, a text, got none$"):
        check_value("???", str, "path", "data.")


@dataclass(frozen=True, kw_only=True)
class Inner:
    count: int
    shares: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner
    word: Literal["a", "b"] = "a"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"inner": {"count": 1, "shares": {"x": "y"}}}, "x.inner.shares.x, a number, got 'y'"),
        ({"inner": {"count": "1", "shares": {}}}, "expected x.inner.count, a whole number"),
        ({"inner": {"count": 1}}, "got none of x.inner.shares"),
        ({"inner": 3}, "expected x.inner, a dictionary {key: value}, got 3"),
        (
            {"inner": {"count": 1, "shares": {}}, "word": "c"},
            "expected x.word out of a, b, got 'c'",
        ),
    ],
)
def test_nested_sections_are_told_by_their_whole_key(
    section: Mapping[str, object], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        check_arguments(Outer, section, "x")


def test_an_error_can_be_told_from_further_above_and_sent_to_another_process() -> None:
    with pytest.raises(SettingError) as caught:
        check_arguments(Inner, {"count": "many", "shares": {}}, "training")
    error = caught.value.at_key("model")
    assert str(error) == "expected model.training.count, a whole number, got 'many'"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_day_is_told_by_its_key() -> None:
    check_day(None, "as_of")
    check_day("2025-02-10", "as_of")
    for value in ("tomorrow", 20250210, True, [], ""):
        with pytest.raises(SettingError, match="expected as_of=DAY such as 2025-02-10, got"):
            check_day(value, "as_of")
