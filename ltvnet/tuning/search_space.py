"""Search spaces: which values of a config a sweep may try, and what it calls them.

A space mirrors the config that it searches: where the config has a value, the space has a range
`{low: 0.001, high: 0.02, log: true}`, whole numbers `{low: 1, high: 4, step: 1}`, or a list of
choices. `when: {other.key: [values]}` beside a range, or beside `choices:`, makes it conditional.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from itertools import product
from math import prod
from typing import Any, Protocol, Self

import numpy as np

Value = Any
"""A value of a config: a number, a text, true, false, null, or a list of these."""

RANGE_KEYS = {"low", "high", "step", "log", "when"}
CHOICE_KEYS = {"choices", "when"}

MAX_GRID_POINTS = 100_000
"""Points of a grid: of more, those that are tried say little about the rest."""


class ValueSuggester(Protocol):
    """What chooses values: a trial of Optuna."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number of a range."""
        ...

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """A whole number of a range."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:  # noqa: ANN401
        """One of some choices."""
        ...


@dataclass(frozen=True, kw_only=True)
class Choices:
    """One of several values. Raises ValueError for fewer than two, or for a value twice."""

    key: str
    values: tuple[Value, ...]
    when: Mapping[str, Sequence[Value]]

    def __post_init__(self) -> None:
        """Check the values; a study could not tell 1 from true."""
        known = list(map(encode_choice, self.values))
        if len(known) < 2 or any(one in known[:i] for i, one in enumerate(known)):
            raise ValueError(
                f"expected space.{self.key} with two or more different choices, got "
                f"{list(self.values)}"
            )

    def suggest(self, trial: ValueSuggester) -> Value:
        """What a trial is to use."""
        return self.decode(
            trial.suggest_categorical(self.key, list(map(encode_choice, self.values)))
        )

    def decode(self, value: Value) -> Value:
        """The value that a study knows by its text, or as it is."""
        return next((one for one in self.values if encode_choice(one) == value), value)

    def contains(self, value: Value) -> bool:
        """Whether a value is one of the choices; 1 is not true."""
        alike = [one for one in self.values if _number(one) == _number(value)]
        return any(
            one == value and isinstance(one, bool) == isinstance(value, bool) for one in alike
        )

    def grid_values(self, count: int) -> list[Value]:
        """The values of a grid: all, whatever `count`."""
        return list(self.values)

    def __str__(self) -> str:
        """As messages tell it."""
        return f"one of {', '.join(map(_told, self.values))}"


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
        name, log = f"space.{self.key}", self.log
        if not _number(self.low) or not _number(self.high) or not self.low < self.high:
            raise ValueError(f"expected numbers {name}.low < high, got {self.low} and {self.high}")
        if not isinstance(log, bool) or (log and (self.low <= 0 or self.step is not None)):
            raise ValueError(f"expected {name} with log=true and low > 0 and without step")
        if self.step is not None and not (_number(self.step) and self.step > 0):
            raise ValueError(f"expected {name}.step above 0, got {self.step}")

    def decode(self, value: Value) -> Value:
        """Numbers are themselves."""
        return value

    @property
    def is_integer(self) -> bool:
        """Whether its numbers are whole."""
        bounds = (self.low, self.high, 1 if self.step is None else self.step)
        return all(isinstance(bound, int) for bound in bounds)

    @property
    def largest(self) -> float:
        """The largest of its numbers: `high`, or the last step below it."""
        return self.high if self.step is None else self.grid_values(0)[-1]

    def suggest(self, trial: ValueSuggester) -> Value:
        """What a trial is to use."""
        if self.is_integer:
            low, high, step = int(self.low), int(self.largest), int(self.step or 1)
            return trial.suggest_int(self.key, low, high, step=step, log=self.log)
        return trial.suggest_float(self.key, self.low, self.largest, step=self.step, log=self.log)

    def contains(self, value: Value) -> bool:
        """Whether a value is a number of the range, on its steps."""
        if not _number(value) or not self.low <= value <= self.high:
            return False
        step = self.step or (1 if self.is_integer else None)
        return step is None or bool(np.isclose((value - self.low) / step % 1, [0, 1]).any())

    def grid_values(self, count: int) -> list[Value]:
        """The values of a grid: every step, or `count` numbers with the bounds among them."""
        if self.step is not None:
            low, high, step = (Decimal(str(x)) for x in (self.low, self.high, self.step))
            steps = [low + i * step for i in range(int((high - low) // step) + 1)]
            return [int(x) if self.is_integer else float(x) for x in steps]  # 0.3, not 3 * 0.1
        space = np.geomspace if self.log else np.linspace
        found = space(self.low, self.high, count)
        found[[0, -1]] = self.low, self.high  # exactly
        return sorted({round(x) for x in found}) if self.is_integer else found.tolist()

    def __str__(self) -> str:
        """As messages tell it."""
        return f"{self.low} to {self.high}" + (f" in steps of {self.step}" if self.step else "")


Dimension = Range | Choices


@dataclass(frozen=True)
class SearchSpace:
    """What a sweep searches: `dimensions` by their key, those that others depend on first."""

    dimensions: tuple[Dimension, ...]

    @classmethod
    def parse(cls, space: Mapping[str, Any], config: Mapping[str, Any]) -> Self:
        """The space that is written as `space`, of a `config`.

        Raises ValueError for an empty space, for keys that the config does not have and for
        values that it could not take; each range has to hold the config's own value, which is the
        first to be tried.
        """
        found = tuple(_sorted(list(_dimensions(space, config, ""))))
        if not found:
            raise ValueError(
                "expected space.KEY=... with ranges or choices of keys of the config, such as "
                "+space.model.training.rate={low: 0.001, high: 0.01, log: true}, got none"
            )
        for one in found:
            value = config_value(config, one.key)
            if not one.contains(value):
                raise ValueError(
                    f"expected space.{one.key} to hold {_told(value)}, the value of {one.key}, "
                    f"which is tried first; got {one}: widen it, or set {one.key} to a value within"
                )
        return cls(found)

    def __len__(self) -> int:
        """How many dimensions."""
        return len(self.dimensions)

    def default_values(self, config: Mapping[str, Any]) -> dict[str, Value]:
        """The config's own values of what is searched, those that count under each other."""
        return self._chosen(lambda one: config_value(config, one.key), config)

    def suggest(self, trial: ValueSuggester, config: Mapping[str, Any]) -> dict[str, Value]:
        """The values that a trial is to use; what no condition asks for is left out."""
        return self._chosen(lambda one: one.suggest(trial), config)

    def decode(self, params: Mapping[str, Value]) -> dict[str, Value]:
        """Values as a config has them, of those that a study has."""
        return {one.key: one.decode(params[one.key]) for one in self.dimensions
                if one.key in params}  # fmt: skip

    def grid(self, config: Mapping[str, Any], points: int) -> list[dict[str, Value]]:
        """All combinations, with `points` numbers of each range without steps; each once.

        Raises ValueError for more than MOST_POINTS.
        """
        axes = [one.grid_values(points) for one in self.dimensions]
        if (count := prod(map(len, axes))) > MAX_GRID_POINTS:
            raise ValueError(
                f"expected a grid of at most {MAX_GRID_POINTS:,} points, got {count:,}: search fewer "
                "keys, with fewer sweep.points or larger steps, or set sweep.sampler=tpe"
            )
        found: dict[str, dict[str, Value]] = {}
        for values in product(*axes):
            by_key = dict(zip((one.key for one in self.dimensions), values, strict=True))
            chosen = self._chosen(lambda one, of=by_key: of[one.key], config)
            found.setdefault(repr(chosen), chosen)
        return list(found.values())

    def _chosen(self, value: Any, config: Mapping[str, Any]) -> dict[str, Value]:  # noqa: ANN401
        chosen: dict[str, Value] = {}
        for one in self.dimensions:
            known = {
                key: chosen[key] if key in chosen else config_value(config, key) for key in one.when
            }
            if all(known[key] in values for key, values in one.when.items()):
                chosen[one.key] = value(one)
        return chosen


def encode_choice(value: Value) -> Value:
    """A value as a study can hold it: lists as text."""
    return json.dumps(value) if isinstance(value, list | tuple) else value


def config_value(config: Mapping[str, Any], key: str) -> Value:
    """The value of a config at a key with dots. Raises ValueError where there is none."""
    place: Any = config
    for done, name in enumerate(names := key.split(".")):
        if not isinstance(place, Mapping) or name not in place:
            known = list(_keys(config))
            near = get_close_matches(key, known, 1, 0.0)
            shown = ".".join(names[: done + 1])
            raise ValueError(
                f"expected a key of the config, got {shown}; the nearest is {near[0]}"
                if near
                else f"expected a key of the config, got {shown}"
            )
        place = place[name]
    return place


def replace_config_values(config: Mapping[str, Any], values: Mapping[str, Value]) -> dict[str, Any]:
    """A config with other values at keys with dots; the given one stays as it is."""
    made = dict(config)
    for key, value in values.items():
        name, _, rest = key.partition(".")
        made[name] = replace_config_values(made[name], {rest: value}) if rest else value
    return made


def _keys(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _dimensions(space: Any, config: Mapping[str, Any], key: str) -> Iterator[Dimension]:  # noqa: ANN401
    if isinstance(space, Mapping) and not {"low", "high", "choices"} & set(space):
        for name, inner in space.items():
            yield from _dimensions(inner, config, f"{key}.{name}" if key else str(name))
        return
    value = config_value(config, key)
    if isinstance(value, Mapping):
        raise ValueError(  # noqa: TRY004 the user wrote it
            f"expected space.KEY of a value, got {key}, which holds {', '.join(value)}"
        )
    if not isinstance(space, Mapping):
        yield Choices(key=key, values=_listed(space, key), when={})
        return
    known = CHOICE_KEYS if "choices" in space else RANGE_KEYS
    if unknown := sorted(set(space) - known):
        raise ValueError(
            f"expected space.{key} with {', '.join(sorted(known))}, got {', '.join(unknown)}"
        )
    when = _conditions(space.get("when", {}), config, key)
    if "choices" in space:
        yield Choices(key=key, values=_listed(space["choices"], key), when=when)
        return
    low, high = space.get("low"), space.get("high")
    step, log = space.get("step"), space.get("log", False)
    yield Range(key=key, low=low, high=high, step=step, log=log, when=when)  # type: ignore[arg-type]


def _listed(values: Any, key: str) -> tuple[Value, ...]:  # noqa: ANN401 what the user wrote
    if not isinstance(values, list | tuple):
        raise ValueError(  # noqa: TRY004 the user wrote it
            f"expected space.{key} as {{low: ..., high: ...}} or a list of choices, got {values!r}"
        )
    return tuple(values)


def _conditions(
    when: Any,  # noqa: ANN401 what the user wrote
    config: Mapping[str, Any],
    key: str,
) -> dict[str, tuple[Value, ...]]:
    if not isinstance(when, Mapping):
        raise ValueError(  # noqa: TRY004 the user wrote it
            f"expected space.{key}.when as {{other.key: [values]}}, got {when!r}"
        )
    for other in when:
        _ = config_value(config, other)
    return {o: tuple(v) if isinstance(v, list | tuple) else (v,) for o, v in when.items()}


def _sorted(dimensions: list[Dimension]) -> Iterator[Dimension]:
    """Those that others depend on first. Raises ValueError where they depend on each other."""
    waiting = {one.key: one for one in dimensions}
    while waiting:
        free = [one for one in waiting.values() if not set(one.when) & set(waiting)]
        if not free:
            raise ValueError(
                f"expected conditions in one direction, got {' and '.join(waiting)} under each "
                "other"
            )
        for one in free:
            yield waiting.pop(one.key)


def _told(value: Value) -> str:
    return value if isinstance(value, str) else json.dumps(value)  # null and true, as in YAML


def _number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
