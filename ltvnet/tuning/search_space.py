"""Search spaces: which values of a config a sweep may try, and the keys they are known by.

A space mirrors the config that it searches: where the config has a value, the space has a range
`{low: 0.001, high: 0.02, log: true}`, whole numbers `{low: 1, high: 4, step: 1}`, or a list of
choices. `when: {other.key: [values]}` beside a range, or beside `choices:`, makes it conditional.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from itertools import product
from math import prod
from typing import Any, Protocol, Self

import numpy as np

from ltvnet.forecasting.model_spec import Config

Value = Any
"""A value of a config: a number, a text, true, false, null, or a list of these."""

RANGE_KEYS = {"low", "high", "step", "log", "when"}
CHOICE_KEYS = {"choices", "when"}

MAX_GRID_POINTS = 100_000
"""Most points of a grid: of more, those that are tried say little about the rest."""


class ValueSuggester(Protocol):
    """Something that chooses values, such as a trial of Optuna."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Choose a number of a range."""
        ...

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """Choose a whole number of a range."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:  # noqa: ANN401
        """Choose one of several values."""
        ...


# Names of the two classes below and of their fields are data: a study holds a hash of their repr.


@dataclass(frozen=True, kw_only=True)
class Choices:
    """One of several values. Raises ValueError for fewer than two, or for a value twice."""

    key: str
    values: tuple[Value, ...]
    when: Mapping[str, Sequence[Value]]

    def __post_init__(self) -> None:
        """Check the values; a study could not tell 1 from true."""
        encoded = list(map(encode_choice, self.values))
        is_repeated = (value in encoded[:index] for index, value in enumerate(encoded))
        if len(encoded) < 2 or any(is_repeated):
            raise ValueError(
                f"expected space.{self.key} with two or more different choices, got "
                f"{list(self.values)}"
            )

    def suggest(self, trial: ValueSuggester) -> Value:
        """Let a trial choose a value."""
        encoded = list(map(encode_choice, self.values))
        return self.decode(trial.suggest_categorical(self.key, encoded))

    def decode(self, value: Value) -> Value:
        """Return the choice that a study holds as text; other values as they are."""
        matches = (choice for choice in self.values if encode_choice(choice) == value)
        return next(matches, value)

    def contains(self, value: Value) -> bool:
        """Return whether a value is one of the choices; 1 is not true."""
        return any(
            choice == value
            and _is_finite_number(choice) == _is_finite_number(value)
            and isinstance(choice, bool) == isinstance(value, bool)
            for choice in self.values
        )

    def grid_values(self, count: int) -> list[Value]:
        """Return the values of a grid: all, whatever `count`."""
        return list(self.values)

    def __str__(self) -> str:
        """List the choices for a message."""
        return f"one of {', '.join(map(_as_text, self.values))}"


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Whole where both are; in multiples of `step` from `low`, or on a logarithmic scale. Raises
    ValueError for bounds that are no numbers or in the wrong order, for a step that is not
    positive or on a logarithmic scale, and for a logarithm of what is not above 0.
    """

    key: str
    low: float
    high: float
    step: float | None
    log: bool
    when: Mapping[str, Sequence[Value]]

    def __post_init__(self) -> None:
        """Check the bounds."""
        name = f"space.{self.key}"
        has_numbers = _is_finite_number(self.low) and _is_finite_number(self.high)
        if not has_numbers or not self.low < self.high:
            raise ValueError(f"expected numbers {name}.low < high, got {self.low} and {self.high}")
        if not isinstance(self.log, bool) or (
            self.log and (self.low <= 0 or self.step is not None)
        ):
            raise ValueError(f"expected {name} with log=true and low > 0 and without step")
        if self.step is not None and not (_is_finite_number(self.step) and self.step > 0):
            raise ValueError(f"expected {name}.step above 0, got {self.step}")

    def decode(self, value: Value) -> Value:
        """Return the value: numbers are held as they are."""
        return value

    @property
    def is_integer(self) -> bool:
        """Whether the numbers of the range are whole."""
        bounds = (self.low, self.high, 1 if self.step is None else self.step)
        return all(isinstance(bound, int) for bound in bounds)

    @property
    def largest(self) -> float:
        """The largest number of the range: `high`, or the last step below it."""
        return self.high if self.step is None else self.grid_values(0)[-1]

    def suggest(self, trial: ValueSuggester) -> Value:
        """Let a trial choose a value."""
        if self.is_integer:
            low = int(self.low)
            high = int(self.largest)
            step = int(self.step or 1)
            return trial.suggest_int(self.key, low, high, step=step, log=self.log)
        return trial.suggest_float(self.key, self.low, self.largest, step=self.step, log=self.log)

    def contains(self, value: Value) -> bool:
        """Return whether a value is a number of the range, on its steps."""
        if not _is_finite_number(value) or not self.low <= value <= self.high:
            return False
        step = self.step
        if step is None and self.is_integer:
            step = 1
        if step is None:
            return True

        part_of_step = (value - self.low) / step % 1
        return bool(np.isclose(part_of_step, [0, 1]).any())

    def grid_values(self, count: int) -> list[Value]:
        """Return the values of a grid: every step, or `count` numbers, both bounds among them."""
        if self.step is not None:
            return self._steps()

        space = np.geomspace if self.log else np.linspace
        numbers = space(self.low, self.high, count)
        numbers[[0, -1]] = self.low, self.high  # exactly
        if self.is_integer:
            return sorted({round(number) for number in numbers})
        return list(numbers.tolist())

    def _steps(self) -> list[Value]:
        """All multiples of `step` from `low`, as decimals make them: 0.3, not 3 * 0.1."""
        low, high, step = (Decimal(str(number)) for number in (self.low, self.high, self.step))
        count = int((high - low) // step) + 1
        number_type = int if self.is_integer else float
        return [number_type(low + index * step) for index in range(count)]

    def __str__(self) -> str:
        """Give the bounds for a message."""
        bounds = f"{self.low} to {self.high}"
        return f"{bounds} in steps of {self.step}" if self.step else bounds


Dimension = Range | Choices


@dataclass(frozen=True)
class SearchSpace:
    """Ranges and choices of a sweep: `dimensions` in an order in which each condition can be
    checked, after those that it depends on.
    """

    dimensions: tuple[Dimension, ...]

    @classmethod
    def parse(cls, space: Config, config: Config) -> Self:
        """Read the space that is written as `space`, of values of a `config`.

        Raises ValueError for an empty space, for keys that the config does not have and for
        values that it could not take; each range has to hold the config's own value, which is the
        first to be tried.
        """
        if not isinstance(space, Mapping):
            raise ValueError(  # noqa: TRY004 the user wrote it
                f"expected space as keys of the config with ranges or choices, got {space!r}"
            )
        parsed = list(_parse_dimensions(space, config, ""))
        dimensions = tuple(_order_by_conditions(parsed))
        if not dimensions:
            raise ValueError(
                "expected space.KEY=... with ranges or choices of keys of the config, such as "
                "+space.model.training.rate={low: 0.001, high: 0.01, log: true}, got none"
            )

        for dimension in dimensions:
            key = dimension.key
            default = config_value(config, key)
            if not dimension.contains(default):
                raise ValueError(
                    f"expected space.{key} to hold {_as_text(default)}, the value of {key}, which "
                    f"is tried first; got {dimension}: widen it, or set {key} to a value within"
                )
        return cls(dimensions)

    def __len__(self) -> int:
        """Count the dimensions."""
        return len(self.dimensions)

    def default_values(self, config: Config) -> dict[str, Value]:
        """Return the config's own values of the keys that are searched.

        Keys whose condition they do not meet are left out.
        """
        return self._choose(lambda dimension: config_value(config, dimension.key), config)

    def suggest(self, trial: ValueSuggester, config: Config) -> dict[str, Value]:
        """Let a trial choose values; keys whose condition is not met are left out."""
        return self._choose(lambda dimension: dimension.suggest(trial), config)

    def decode(self, params: Mapping[str, Value]) -> dict[str, Value]:
        """Return the parameters that a study holds as values of a config."""
        return {
            dimension.key: dimension.decode(params[dimension.key])
            for dimension in self.dimensions
            if dimension.key in params
        }

    def grid(self, config: Config, points: int) -> list[dict[str, Value]]:
        """Return all combinations, with `points` numbers of each range without steps; each once.

        Raises ValueError for more than MAX_GRID_POINTS.
        """
        axes = [dimension.grid_values(points) for dimension in self.dimensions]
        count = prod(map(len, axes))
        if count > MAX_GRID_POINTS:
            raise ValueError(
                f"expected a grid of at most {MAX_GRID_POINTS:,} points, got {count:,}: search "
                "fewer keys, with fewer sweep.points or larger steps, or set sweep.sampler=tpe"
            )

        keys = [dimension.key for dimension in self.dimensions]
        combinations: dict[str, dict[str, Value]] = {}
        for values in product(*axes):
            value_by_key = dict(zip(keys, values, strict=True))
            chosen = self._choose(_look_up(value_by_key), config)
            combinations.setdefault(repr(chosen), chosen)
        return list(combinations.values())

    def _choose(self, choose: Callable[[Dimension], Value], config: Config) -> dict[str, Value]:
        """Choose a value of each dimension whose condition is met by the values before it."""
        chosen: dict[str, Value] = {}
        for dimension in self.dimensions:
            is_met = True
            for key, allowed in dimension.when.items():
                value = chosen[key] if key in chosen else config_value(config, key)
                is_met = is_met and value in allowed
            if is_met:
                chosen[dimension.key] = choose(dimension)
        return chosen


def _look_up(value_by_key: Mapping[str, Value]) -> Callable[[Dimension], Value]:
    return lambda dimension: value_by_key[dimension.key]


def encode_choice(value: Value) -> Value:
    """Return a value as a study can hold it: lists as text."""
    return json.dumps(value) if isinstance(value, list | tuple) else value


def config_value(config: Config, key: str) -> Value:
    """Look up the value of a config at a key with dots. Raises ValueError where there is none."""
    names = key.split(".")
    node: Any = config
    for depth, name in enumerate(names, start=1):
        if not isinstance(node, Mapping) or name not in node:
            message = f"expected a key of the config, got {'.'.join(names[:depth])}"
            nearest = get_close_matches(key, list(_leaf_keys(config)), 1, 0.0)
            if nearest:
                message += f"; the nearest is {nearest[0]}"
            raise ValueError(message)
        node = node[name]
    return node


def replace_config_values(config: Config, values: Mapping[str, Value]) -> dict[str, Any]:
    """Copy a config with other values at keys with dots."""
    replaced = dict(config)
    for key, value in values.items():
        name, _, rest = key.partition(".")
        replaced[name] = replace_config_values(replaced[name], {rest: value}) if rest else value
    return replaced


def _leaf_keys(config: Config, prefix: str = "") -> Iterator[str]:
    """Yield the keys with dots of all values that are no mappings."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _leaf_keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _parse_dimensions(
    space: Any,  # noqa: ANN401 what the user wrote
    config: Config,
    key: str,
) -> Iterator[Dimension]:
    """Yield the ranges and choices in a space, or in the part of it that is written at a key."""
    if isinstance(space, Mapping) and not {"low", "high", "choices"} & set(space):
        for name, inner in space.items():
            yield from _parse_dimensions(inner, config, f"{key}.{name}" if key else str(name))
        return
    value = config_value(config, key)
    if isinstance(value, Mapping):
        raise ValueError(  # noqa: TRY004 the user wrote it
            f"expected space.KEY of a value, got {key}, which holds {', '.join(value)}"
        )
    yield _parse_dimension(space, config, key)


def _parse_dimension(space: Any, config: Config, key: str) -> Dimension:  # noqa: ANN401 what the user wrote
    if not isinstance(space, Mapping):
        return Choices(key=key, values=_parse_choices(space, key), when={})

    allowed_keys = CHOICE_KEYS if "choices" in space else RANGE_KEYS
    unknown_keys = sorted(set(space) - allowed_keys)
    if unknown_keys:
        raise ValueError(
            f"expected space.{key} with {', '.join(sorted(allowed_keys))}, got "
            f"{', '.join(unknown_keys)}"
        )

    when = _parse_conditions(space.get("when", {}), config, key)
    if "choices" in space:
        return Choices(key=key, values=_parse_choices(space["choices"], key), when=when)
    return Range(
        key=key,
        low=space.get("low"),  # type: ignore[arg-type]  # the range checks what the user wrote
        high=space.get("high"),  # type: ignore[arg-type]
        step=space.get("step"),
        log=space.get("log", False),
        when=when,
    )


def _parse_choices(values: Any, key: str) -> tuple[Value, ...]:  # noqa: ANN401 what the user wrote
    if not isinstance(values, list | tuple):
        raise ValueError(  # noqa: TRY004 the user wrote it
            f"expected space.{key} as {{low: ..., high: ...}} or a list of choices, got {values!r}"
        )
    return tuple(values)


def _parse_conditions(
    when: Any,  # noqa: ANN401 what the user wrote
    config: Config,
    key: str,
) -> dict[str, tuple[Value, ...]]:
    """Read the values of other keys under which a key is searched."""
    if not isinstance(when, Mapping):
        raise ValueError(  # noqa: TRY004 the user wrote it
            f"expected space.{key}.when as {{other.key: [values]}}, got {when!r}"
        )
    for other_key in when:
        config_value(config, other_key)  # refuses one that the config does not have
    return {
        other_key: tuple(values) if isinstance(values, list | tuple) else (values,)
        for other_key, values in when.items()
    }


def _order_by_conditions(dimensions: list[Dimension]) -> Iterator[Dimension]:
    """Yield those first that others depend on. Raises ValueError where they form a circle."""
    waiting = {dimension.key: dimension for dimension in dimensions}
    while waiting:
        free = [
            dimension for dimension in waiting.values() if not set(dimension.when) & set(waiting)
        ]
        if not free:
            raise ValueError(
                f"expected conditions in one direction, got {' and '.join(waiting)} under each "
                "other"
            )
        for dimension in free:
            yield waiting.pop(dimension.key)


def _as_text(value: Value) -> str:
    return value if isinstance(value, str) else json.dumps(value)  # null and true, as in YAML


def _is_finite_number(value: Value) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < sys.float_info.max  # larger whole numbers are no floats
