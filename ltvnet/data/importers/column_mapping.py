"""Which columns of an exported table play which role: told by the user, or by a preset."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ltvnet.data.columns import DATE, END, ROLES, START
from ltvnet.data.curves import MAX_AGE
from ltvnet.data.importers.headings import (
    OWN_AGE,
    UNIT_BEHIND,
    check_long_columns,
    choose_series,
    compile_age,
    compose_letters,
    normal_name,
    parse_age,
    says_per_user,
)
from ltvnet.data.importers.table_format import (
    LAYOUT_CONVENTIONS,
    DatePeriod,
    Day,
    Kind,
    Per,
    Preset,
    TableFormat,
    Values,
    Zeros,
    load_presets,
)

AGE = "age"
VALUE = "value"

COLUMNS_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class ColumnMapping:
    """Columns of one file by the role that they play, and the conventions of their numbers.

    - `preset` by which they were understood, "" for ltvnet's own columns; `kind` wide or long.
    - `column_of` role -> column; `attributes` new name -> column of those that have another name.
    - `ages` column -> series ("" for the curve) and age, of a wide table; `values_of` columns whose
      sum is the value, of a long one.
    - `values`, `per`, `unit`, `day`, `zeros`, `age_offset`: see TableFormat.
    - `lag_days` until revenue is final; `drop`, `version`, `ignore`, `currency`: see Preset.
    - `is_per_told` whether a name, a preset or the user says what the values are per.
    - `period` that a date without an end begins; None: it is a day.
    """

    preset: str
    kind: Kind
    column_of: Mapping[str, str]
    ages: Mapping[str, tuple[str, int]]
    values_of: tuple[str, ...] = ()
    values: Values = "cumulative"
    per: Per = "user"
    unit: float = 1.0
    day: Day = "calendar"
    zeros: Zeros = "data"
    age_offset: int = 0
    lag_days: int = 0
    drop: tuple[tuple[str, str], ...] = ()
    version: str | None = None
    ignore: tuple[str, ...] = ()
    currency: str | None = None
    is_per_told: bool = True
    period: DatePeriod | None = None

    @property
    def adds_rows(self) -> bool:
        """Whether rows of one cohort and age are parts that add up, as platforms export them."""
        return self.preset != "long"

    @property
    def is_own_layout(self) -> bool:
        """Whether the columns are ltvnet's own, so that nothing has to be understood."""
        return not self.preset

    @property
    def extra_lag_days(self) -> int:
        """Days after which revenue of a day is complete, because of how the platform counts."""
        return self.lag_days + (1 if self.day == "rolling24h" else 0)

    def describe(self, columns: Sequence[str]) -> str:
        """Describe in a line how a table was read."""
        ages = sorted(age for series, age in self.ages.values() if not series)
        parts = [f"read as {self.preset}", "rolling 24 h" if self.day == "rolling24h" else ""]
        if ages:
            first = next(name for name, key in self.ages.items() if key == ("", ages[-1]))
            parts.append(f"D{ages[-1]} = {first}")
        else:
            parts.append(f"age = {self.column_of[AGE]}, value = {' + '.join(self.values_of)}")
        parts.append(f"{self.values} {'money of cohorts' if self.per == 'cohort' else 'per user'}")
        parts.append("" if self.unit == 1 else f"amounts x {self.unit:g}")
        parts.append("0 after revenue is unknown" if self.zeros == "missing" else "")
        renamed = [f"{role} = {name}" for role, name in self.column_of.items() if role != name]
        renamed = [text for text in renamed if not text.startswith((f"{AGE} ", f"{VALUE} "))]
        unused = [name for name in columns if name and name not in self.used_columns]
        parts += [*renamed, f"{len(columns)} columns, {len(unused)} without a role"]
        return ", ".join(part for part in parts if part)

    @property
    def used_columns(self) -> set[str]:
        """Columns that play a role."""
        others = {self.version, self.currency} - {None}
        return {*self.column_of.values(), *self.ages, *self.values_of, *others}  # type: ignore[arg-type]


@dataclass(frozen=True)
class ColumnMapper:
    """Maps the columns of files by what the user said: `table_format`, `columns` role -> column.

    `reserved` names of attributes that the user speaks of: their columns keep their names.
    """

    table_format: TableFormat
    columns: Mapping[str, str]
    reserved: frozenset[str]

    def map(self, path: Path, names: Sequence[str]) -> ColumnMapping:
        """Map the columns of a file.

        Raises ValueError, which names the file, where no layout fits them, or several do.
        """
        refuse_repeated_names(path, names)
        self._check_named_columns(path, names)
        preset = self._choose_preset(path, names)
        mapping = self._map_by_preset(path, names, preset)
        return self._with_conventions(mapping)

    def _check_named_columns(self, path: Path, names: Sequence[str]) -> None:
        """Raise ValueError for a column that the user named and the file lacks, or named twice."""
        named = list(self.columns.values())
        if twice := [name for name in named if named.count(name) > 1]:
            roles = " and ".join(role for role, name in self.columns.items() if name == twice[0])
            raise ValueError(
                f"{path}: data.columns names {twice[0]} as {roles}; it can be only one"
            )
        if missing := [name for name in self.columns.values() if name not in names]:
            shown = list(names[:COLUMNS_SHOWN])
            raise ValueError(f"{path}: data.columns names {missing}, but the table has {shown} ...")

    def _choose_preset(self, path: Path, names: Sequence[str]) -> Preset | None:
        """Choose the preset that the user named, or the one that the header fits.

        None for ltvnet's own columns. Ages that the user describes are of no platform, but of a
        wide table, and a column of ages that the user names is of a long one.
        """
        wanted = self.table_format.preset
        if wanted == "none":
            return None
        if wanted != "auto":
            return next(preset for preset in load_presets() if preset.name == wanted)

        own = self._own_names(names)
        has_dates = DATE in own or {START, END} <= own
        own_ages = [match for name in names if (match := OWN_AGE.fullmatch(name)) and not match[1]]
        if has_dates and own_ages and not self.table_format.age:
            return None
        presets = load_presets()
        if self.table_format.age:
            kind: Kind = "long" if self.table_format.age in names else "wide"
            generic = next(preset for preset in presets if preset.name == kind)
            if kind == "wide":
                return generic
            presets = tuple(preset for preset in presets if preset.kind == kind)
            if not any(self._fits(preset, names) for preset in presets):
                return generic  # which says what is missing
        specific = [one for one in presets if not one.is_generic and self._fits(one, names)]
        if not specific:
            specific = [one for one in presets if one.is_generic and self._fits(one, names)]
        if not specific:
            return None
        most = max(len(preset.match) for preset in specific)
        best = [preset for preset in specific if len(preset.match) == most]
        if len(best) > 1:
            words = " or ".join(preset.name for preset in best)
            raise ValueError(
                f"{path}: its columns are those of {words}; set data.format.preset={best[0].name} "
                "or the other"
            )
        return best[0]

    def _own_names(self, names: Sequence[str]) -> set[str]:
        """Names of columns, and the roles that the user gave to some."""
        return {*names, *self.columns}

    def _fits(self, preset: Preset, names: Sequence[str]) -> bool:
        """Return whether a file has the columns of a preset."""
        present = {normal_name(name) for name in names}
        expected = [preset.with_spellings(alternatives) for alternatives in preset.match]
        roles = [spellings for spellings in expected if not _has_any(present, spellings)]
        told = {
            normal_name(spelling)
            for role in self._told_roles(names)
            for spelling in preset.columns.get(role, ())
        }
        if any(not _has_any(told, spellings) for spellings in roles):
            return False
        if preset.kind == "wide":
            return bool(self._find_ages(preset, names))
        has_age = bool(self._column_of(AGE, preset, names))
        return has_age and bool(self._value_columns(preset, names))

    def _told_roles(self, names: Sequence[str]) -> list[str]:
        """List the roles whose column the user named."""
        return [*self.columns, *([AGE] if self.table_format.age in names else [])]

    def _column_of(self, role: str, preset: Preset, names: Sequence[str]) -> str | None:
        """Find the column that plays a role: told, of the role's own name, or of a spelling."""
        if role in self.columns:
            return self.columns[role]
        if role == AGE and self.table_format.age in names:
            return self.table_format.age
        if role in names:
            return role
        taken = {*self.columns.values(), *self.reserved}
        name_of = {normal_name(name): name for name in reversed(names) if name not in taken}
        for spelling in preset.columns.get(role, ()):
            if normal_name(spelling) in name_of:
                return name_of[normal_name(spelling)]
        without_unit = {UNIT_BEHIND.sub("", name): column for name, column in name_of.items()}
        spellings = map(normal_name, preset.columns.get(role, ()))
        return next((without_unit[name] for name in spellings if name in without_unit), None)

    def _value_columns(self, preset: Preset, names: Sequence[str]) -> tuple[str, ...]:
        """Find the columns whose sum is the value of a long table."""
        if VALUE in self.columns or not preset.add:
            column = self._column_of(VALUE, preset, names)
            return () if column is None else (column,)
        name_of = {normal_name(name): name for name in names}
        spellings = [normal_name(name) for name in preset.add]
        return tuple(name_of[name] for name in spellings if name in name_of)

    def _find_ages(self, preset: Preset, names: Sequence[str]) -> dict[str, tuple[str, int]]:
        """Find the columns of ages of a wide table: of the first pattern that it has any of.

        Raises ValueError for a pattern of the user that is none, or whose ages are no numbers.
        """
        given = self.table_format.age
        if given in names:
            return {}  # the one column of ages of a long table
        patterns = (compile_age(given),) if given else map(compile_age, preset.age)
        for pattern in patterns:
            matches = {
                name: pattern.fullmatch(compose_letters(name))
                or (None if given else pattern.fullmatch(normal_name(name)))
                for name in names
            }
            ages = {name: match for name, match in matches.items() if match and match["age"]}
            if ages:
                return choose_series(ages, is_given=bool(given))
        return {}

    def _map_by_preset(
        self, path: Path, names: Sequence[str], preset: Preset | None
    ) -> ColumnMapping:
        """Map columns by a preset; None stands for ltvnet's own columns and spellings of `wide`."""
        generic = next(one for one in load_presets() if one.name == "wide")
        spellings = preset or generic
        roles = dict.fromkeys([*ROLES, *generic.columns, *spellings.columns, *self.columns])
        found: dict[str, str] = {}
        for role in roles:
            if role in (AGE, VALUE):
                continue
            column = self._column_of(role, spellings, names)
            if column is not None and column not in found.values():
                found[role] = column
        found = _without_doubled_dates(found, self.columns)
        if START in found and END not in found and self.table_format.period is None:
            raise ValueError(
                f"{path}: expected a column {DATE}, or {START} and {END}, got {found[START]} "
                "alone; say by data.format.period=day, week or month which period begins there"
            )

        if preset is None:
            ages = {
                name: (match[1] or "", parse_age(name, match[2]))
                for name in names
                if (match := OWN_AGE.fullmatch(name))
            }
            return ColumnMapping(preset="", kind="wide", column_of=found, ages=ages)

        values_of: tuple[str, ...] = ()
        ages = {}
        if preset.kind == "wide":
            ages = self._find_ages(preset, names)
        else:
            values_of = self._value_columns(preset, names)
            age_column = self._column_of(AGE, preset, names)
            if age_column is None or not values_of:
                missing = AGE if age_column is None else VALUE
                raise ValueError(
                    f"{path}: expected a column of the {missing}, as {preset.name} has it, got "
                    f"none among {_first_names(names)}; name it by "
                    f"{say_columns({missing: 'COLUMN'})}"
                )
            check_long_columns(path, age_column, values_of)
            found[AGE] = age_column
        if preset.kind == "wide" and not ages:
            pattern = self.table_format.age or preset.age[0]
            raise ValueError(
                f"{path}: expected columns of ages such as {pattern}, got none among "
                f"{_first_names(names)}; give their names by data.format.age, such as "
                r"'LTV D(?P<age>\d+)'"
            )
        return self._with_preset(preset, names, found, ages, values_of)

    def _with_preset(
        self,
        preset: Preset,
        names: Sequence[str],
        found: Mapping[str, str],
        ages: Mapping[str, tuple[str, int]],
        values_of: tuple[str, ...],
    ) -> ColumnMapping:
        """Put columns and the conventions of a preset together."""
        currencies = [name for name in preset.currency if name in names]
        return ColumnMapping(
            preset=preset.name,
            kind=preset.kind,
            column_of=found,
            ages=ages,
            values_of=values_of,
            values=preset.values,
            per=preset.per or "user",
            is_per_told=preset.per is not None,
            unit=preset.unit,
            day=preset.day,
            zeros=preset.zeros,
            age_offset=preset.age_offset,
            lag_days=preset.lag_days,
            drop=tuple((column, value) for column, value in preset.drop if column in names),
            version=preset.version if preset.version in names else None,
            ignore=tuple(name for name in preset.ignore if name in names),
            currency=currencies[0] if currencies else None,
        )

    def _with_conventions(self, mapping: ColumnMapping) -> ColumnMapping:
        """Let the user's word stand above that of the preset; shift ages by their offset."""
        told = {
            name: getattr(self.table_format, name)
            for name in LAYOUT_CONVENTIONS
            if name != "age" and getattr(self.table_format, name) is not None
        }
        if mapping.preset == "long" and any(map(says_per_user, mapping.values_of)):
            mapping = replace(mapping, per="user")
        mapping = replace(mapping, **told)
        offset = mapping.age_offset
        shifted = {name: (series, age + offset) for name, (series, age) in mapping.ages.items()}
        ages = {name: key for name, key in shifted.items() if 0 <= key[1] <= MAX_AGE or not offset}
        names = [*ages, *mapping.values_of]
        is_per_told = mapping.is_per_told or "per" in told or any(map(says_per_user, names))
        period = self.table_format.period or _period_by_name(mapping.column_of)
        return replace(mapping, ages=ages, is_per_told=is_per_told, period=period)


def _period_by_name(column_of: Mapping[str, str]) -> DatePeriod | None:
    """Return the period that a column of dates is named after; None where it is not."""
    name = compose_letters(column_of.get(DATE, column_of.get(START, ""))).casefold()
    if END in column_of:
        return None
    if re.search(r"week|woche|semaine|주차|주간", name):
        return "week"
    return "month" if re.search(r"month|monat|mois|\bmes\b|월별", name) else None


def refuse_repeated_names(path: Path, names: Sequence[str]) -> None:
    """Raise ValueError for a name that several columns have; columns without one are left out."""
    repeated = [name for name, count in Counter(filter(None, names)).items() if count > 1]
    if repeated:
        raise ValueError(
            f"{path}: keep one of {names.count(repeated[0])} columns {repeated[0]}, or rename them"
        )


def say_columns(columns: Mapping[str, str]) -> str:
    """Return role -> column as it can be typed: all at once, as there are none to change.

    >>> say_columns({"Date": "day of install", "Spend": "Kosten (€)"})
    '\'data.columns={Date: day of install, Spend: "Kosten (€)"}\''
    """
    quoted = {
        role: column if re.fullmatch(r"[A-Za-z0-9_ .\-]+", column) else f'"{column}"'
        for role, column in columns.items()
    }
    listed = ", ".join(f"{role}: {column}" for role, column in quoted.items())
    return f"'data.columns={{{listed}}}'"


def _first_names(names: Sequence[str]) -> str:
    """List the names of the first columns."""
    listed = ", ".join(names[:COLUMNS_SHOWN])
    return listed + (" ..." if len(names) > COLUMNS_SHOWN else "")


def _has_any(present: set[str], spellings: Iterable[str]) -> bool:
    """Return whether any spelling of a name is present."""
    return any(normal_name(spelling) in present for spelling in spellings)


def _without_doubled_dates(found: Mapping[str, str], told: Mapping[str, str]) -> dict[str, str]:
    """Keep one way to say the dates: first and last day, where both are there, else one column."""
    both = {START, END} <= set(found)
    unneeded = {DATE} if both and DATE not in told else {START, END}
    if DATE not in found and not both:
        unneeded = {END}
    return {role: column for role, column in found.items() if role not in unneeded}
