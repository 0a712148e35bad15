"""How a table of cohorts is written: what the user says of it, and what presets say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

from omegaconf import OmegaConf

from ltvnet.storage import configs_folder

Kind = Literal["wide", "long"]
Values = Literal["cumulative", "increment"]
Per = Literal["user", "cohort"]
Day = Literal["calendar", "rolling24h"]
Zeros = Literal["data", "missing"]
Decimal = Literal["point", "comma"]
Dates = Literal["ymd", "dmy", "mdy"]
DatePeriod = Literal["day", "week", "month"]

WORDS: Mapping[str, tuple[str, ...]] = {
    "values": get_args(Values),
    "per": get_args(Per),
    "day": get_args(Day),
    "zeros": get_args(Zeros),
    "decimal": get_args(Decimal),
    "dates": get_args(Dates),
    "period": get_args(DatePeriod),
}

LAYOUT_CONVENTIONS = ("age", "age_offset", "values", "per", "unit", "day", "zeros")
"""Keys by which a preset describes a layout, and a user may say otherwise."""


@dataclass(frozen=True, kw_only=True)
class TableFormat:
    """A user's word on how tables are written; None where the reader is to see for itself.

    - `preset`: a name of configs/data/import, "auto" to recognise one by the header, or "none" for
      ltvnet's own columns.
    - `age`: a pattern of the columns of ages with a group (?P<age>...), or the column of ages of a
      long table; `age_offset` is added to what it says, -1 where the first day is called 1.
    - `values`: cumulative, or the increment of each day; `per` user or cohort; `unit` that amounts
      are multiplied by, such as 0.01 of cents.
    - `day`: calendar, or rolling24h where day 0 is each user's first 24 hours, so that an age is
      complete a day later; `zeros`: data, or missing where unknown cells are exported as 0.
    - `period` that a date without an end begins: a day, a week, a month.
    - `decimal` sign of numbers, order of `dates`, `separator` of cells, `encoding`, and the `sheet`
      of a workbook.

    Raises ValueError for a word that is none of these.
    """

    preset: str = "auto"
    age: str | None = None
    age_offset: int | None = None
    values: Values | None = None
    per: Per | None = None
    unit: float | None = None
    day: Day | None = None
    zeros: Zeros | None = None
    period: DatePeriod | None = None
    decimal: Decimal | None = None
    dates: Dates | None = None
    separator: str | None = None
    encoding: str | None = None
    sheet: str | None = None

    def __post_init__(self) -> None:
        """Check words and names."""
        for name, words in WORDS.items():
            word = getattr(self, name)
            if word is not None and word not in words:
                raise ValueError(f"expected data.format.{name}={' or '.join(words)}, got {word!r}")
        presets = ["auto", "none", *preset_names()]
        if self.preset not in presets:
            raise ValueError(
                f"expected data.format.preset out of {', '.join(presets)}, got {self.preset!r}"
            )
        if self.unit is not None and not (isinstance(self.unit, int | float) and self.unit > 0):
            raise ValueError(f"expected data.format.unit above 0, got {self.unit!r}")

    @property
    def says_nothing(self) -> bool:
        """Whether everything is left to the reader."""
        return self == TableFormat()


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A layout that platforms export: see configs/data/import.

    `match` names of columns that must all be there, each as a list of spellings; `columns` role ->
    its spellings, the preferred one first; `age` patterns, of which the first counts that a file
    has; `add` columns whose sum is the value; `ignore` columns that are no attributes; `drop`
    column -> value of rows that are left out; `version` the column whose newest row counts;
    `currency` spellings of the column of currencies; `lag_days` until revenue is final; `per` user
    or cohort, None where a name or the numbers must tell.
    """

    name: str
    kind: Kind
    match: tuple[tuple[str, ...], ...]
    columns: Mapping[str, tuple[str, ...]]
    age: tuple[str, ...] = ()
    age_offset: int = 0
    values: Values = "cumulative"
    per: Per | None = None
    unit: float = 1.0
    day: Day = "calendar"
    zeros: Zeros = "data"
    add: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    drop: tuple[tuple[str, str], ...] = ()
    version: str | None = None
    currency: tuple[str, ...] = ()
    lag_days: int = 0

    @classmethod
    def from_config(cls, name: str, config: Mapping[str, Any]) -> "Preset":
        """Make a preset of its YAML. Raises ValueError for a key that is none."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(config) - known):
            raise ValueError(f"configs/data/import/{name}.yaml: unknown keys {unknown}")
        values = dict(config)
        for key in ("age", "add", "ignore", "currency"):
            values[key] = _as_tuple(config.get(key))
        values["match"] = tuple(_as_tuple(names) for names in config["match"])
        values["columns"] = {
            role: _as_tuple(names) for role, names in (config.get("columns") or {}).items()
        }
        values["drop"] = tuple(
            (column, str(value))
            for condition in config.get("drop") or ()
            for column, value in condition.items()
        )
        return cls(name=name, **values)

    def with_spellings(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return names, and all spellings of those that are roles of a generic layout."""
        more = [self.columns.get(name, ()) if self.is_generic else () for name in names]
        return tuple(dict.fromkeys([*names, *chain.from_iterable(more)]))

    @property
    def is_generic(self) -> bool:
        """Whether it stands for tables of anybody, and not of one platform."""
        return self.name in ("wide", "long")


def _as_tuple(value: object) -> tuple[str, ...]:
    """Return a text, or a list of them, as a tuple; None as an empty one."""
    if value is None:
        return ()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(map(str, value))
    return (str(value),)


def preset_names() -> list[str]:
    """List the presets of tables of cohorts."""
    return [preset.name for preset in load_presets()]


@cache
def load_presets() -> tuple[Preset, ...]:
    """Read the presets of tables of cohorts, by name."""
    configs = read_preset_configs().items()
    return tuple(
        Preset.from_config(name, config)
        for name, config in configs
        if config["kind"] in get_args(Kind)
    )


@cache
def read_preset_configs() -> dict[str, dict[str, Any]]:
    """Read all of configs/data/import, by name; `kind` says of which kind of tables each is."""
    paths = sorted((configs_folder() / "data" / "import").glob("*.yaml"))
    return {path.stem: _read_yaml(path) for path in paths}


def _read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file as plain values."""
    values: Any = OmegaConf.to_container(OmegaConf.load(path))
    return values  # type: ignore[no-any-return]
