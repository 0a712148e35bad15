"""Sections of a config become frozen dataclasses: the edge where YAML is read.

Each value is held against the annotation of its argument, so that a wrong one is told by its key
before anything is computed with it.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from ltvnet.data.curves import parse_day

SettingsT = TypeVar("SettingsT")

MISSING_VALUE = "???"
"""Text that stands in a config for a value that has to be given."""

LARGEST_WHOLE_NUMBER = 2**63 - 1
"""Larger ones do not fit into the arrays that are made of them."""

_TYPE_WORDS: Mapping[object, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    NoneType: "null",
}

_PLURAL_WORDS: Mapping[object, str] = {int: "whole numbers", float: "numbers", str: "texts"}


class SettingError(ValueError):
    """A value of a config that is not as its key expects.

    `place` of the section, "" or such as "model.training."; `template` of the message, in which
    {place} stands for it, and {section} for it without the last dot.
    """

    def __init__(self, place: str, template: str) -> None:
        """Keep both, so that the place can be told from further above."""
        super().__init__(place, template)
        self.place = place
        self.template = template

    def __str__(self) -> str:
        """The message."""
        section = self.place.removesuffix(".")
        return self.template.replace("{place}", self.place).replace("{section}", section)

    def at_key(self, path: str) -> "SettingError":
        """Return the error of a section that stands below a path, such as "model"."""
        return SettingError(f"{path}.{self.place}", self.template)


def settings_from(cls: type[SettingsT], section: Any, path: str) -> SettingsT:  # noqa: ANN401 as YAML has it
    """Make a dataclass of the section of a config at `path`, such as "trainer"; "" is the top.

    Raises ValueError for a section that is none, for keys that it lacks or has too many, for values
    of another type than annotated, or what the dataclass itself refuses.
    """
    check_arguments(cls, section, path)
    return cls(**section)


def check_arguments(
    target: Callable[..., object],
    section: Any,  # noqa: ANN401 as YAML has it
    path: str,
    supplied: Sequence[str] = (),
) -> None:
    """Raise SettingError unless the section of a config at `path` has the arguments of a callable.

    `supplied` names arguments that do not come from the config. Keys that begin with _ are Hydra's.
    """
    place = f"{path}." if path else ""
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(target, eval_str=True).parameters.items()
        if name not in supplied
    }
    keys = f"expected {{place}}KEY with KEY out of {', '.join(parameters)}"
    if not isinstance(section, Mapping):
        raise SettingError(place, f"{keys}, got {{section}}={section}")

    given = {key: value for key, value in section.items() if not str(key).startswith("_")}
    if unknown := [str(key) for key in given if key not in parameters]:
        raise SettingError(place, f"{keys}, got {{place}}{min(unknown)}")
    for name, parameter in parameters.items():
        if name in given:
            check_value(given[name], parameter.annotation, name, place)
        elif parameter.default is inspect.Parameter.empty:
            raise SettingError(place, f"{keys}, got none of {{place}}{name}")


def check_value(
    value: Any,  # noqa: ANN401 as YAML has it
    annotation: Any,  # noqa: ANN401 a type, or what typing makes of several
    name: str,
    place: str = "",
) -> None:
    """Raise SettingError unless the value at the key `name` of a place is as annotated.

    Values of a dictionary are checked by their own keys, and those of a nested dataclass by its
    annotations. A text in Annotated[type, "such as 7"] is what is told of the type.
    """
    if isinstance(value, str) and value == MISSING_VALUE:
        raise SettingError(place, f"expected {_expectation(annotation, name)}, got none")

    nested = _nested_annotation(annotation)
    if isinstance(value, Mapping) and is_dataclass(nested):
        check_arguments(nested, value, f"{place}{name}")  # type: ignore[arg-type]  # a class
    elif isinstance(value, Mapping) and get_origin(nested) is not None:
        for key, item in value.items():
            check_value(item, get_args(nested)[1], str(key), f"{place}{name}.")
    elif not _fits(value, annotation):
        raise SettingError(place, f"expected {_expectation(annotation, name)}, got {value!r}")


def check_day(value: object, name: str) -> None:
    """Raise SettingError for what is no day at the key `name`; None is none, and no error."""
    if value is None:
        return
    try:
        if isinstance(value, bool | int | float):
            raise ValueError  # noqa: TRY301, TRY004 a year alone is no day
        parse_day(value)
    except ValueError as error:
        expected = f"expected {{place}}{name}=DAY such as 2025-02-10"
        raise SettingError("", f"{expected}, got {value!r}") from error


def _nested_annotation(annotation: Any) -> Any:  # noqa: ANN401
    """Return what an annotation says of a dictionary: a dataclass, Mapping[..], or nothing."""
    for option in _options(annotation):
        if is_dataclass(option) or get_origin(option) in (dict, Mapping):
            return option
    return None


def _options(annotation: Any) -> Sequence[Any]:  # noqa: ANN401
    """Return the types of a union, or the one that an annotation is."""
    if get_origin(annotation) is Annotated:
        return _options(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [option for part in get_args(annotation) for option in _options(part)]
    return [annotation]


def _fits(value: Any, annotation: Any) -> bool:  # noqa: ANN401
    """Return whether a value is of an annotated type."""
    return any(_fits_one(value, option) for option in _options(annotation))


def _fits_one(value: Any, option: Any) -> bool:  # noqa: ANN401
    """Return whether a value is of a type that is no union."""
    origin = get_origin(option)
    if origin is Literal:
        return any(value == word and type(value) is type(word) for word in get_args(option))
    if origin in (list, tuple, Sequence):
        items = get_args(option)[0] if get_args(option) else Any
        is_list = isinstance(value, Sequence) and not isinstance(value, str)
        return is_list and all(_fits(item, items) for item in value)
    if origin in (dict, Mapping) or option in (dict, Mapping):
        return isinstance(value, Mapping)
    if option in (int, float):
        return _is_number(value, whole=option is int)
    if option is Path:
        return isinstance(value, str | Path)
    if option is Any:
        return True
    return not isinstance(option, type) or isinstance(value, option)


def _is_number(value: object, *, whole: bool) -> bool:
    """Return whether a value is a finite number, and not too large for an array."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if isinstance(value, float):
        return not whole and math.isfinite(value)
    return abs(value) <= LARGEST_WHOLE_NUMBER


def _expectation(annotation: Any, name: str) -> str:  # noqa: ANN401
    """Say what a key expects, as in "{place}epochs, a whole number"."""
    if get_origin(annotation) is Annotated:
        described = [text for text in annotation.__metadata__ if isinstance(text, str)]
        return f"{{place}}{name}={described[0]}"
    if get_origin(annotation) is Literal:
        return f"{{place}}{name} out of {', '.join(map(str, get_args(annotation)))}"
    return f"{{place}}{name}, {' or '.join(map(_words_for, _options(annotation)))}"


def _words_for(option: Any) -> str:  # noqa: ANN401
    """Say in words what a type is."""
    if get_origin(option) is Literal:
        return " or ".join(map(str, get_args(option)))
    if get_origin(option) in (list, tuple, Sequence):
        (items, *_) = _options(get_args(option)[0])
        return f"a list of {_PLURAL_WORDS.get(items, 'values')}"
    if get_origin(option) in (dict, Mapping) or is_dataclass(option):
        return "a dictionary {key: value}"
    return _TYPE_WORDS.get(option, "a value")
