"""Exports of known cohorts in a dialect of any kind, and what reading them must give.

An `AnyExport` says how a table is written; small choices, such as which spelling a column has, are
drawn from its seed. Numbers in it are known by their printed digits.
"""

import csv
import datetime
import gzip
import io
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from factories.dialects import (
    AGE_PATTERNS,
    DATE_ORDERS,
    DAY_SPELLINGS,
    MONTH_SPELLINGS,
    NAME_CASES,
    WEEK_SPELLINGS,
    Day,
    NumberDialect,
)
from factories.workbooks import Cell, write_workbook
from ltvnet.data.importers.table_format import load_presets

ONE_DAY = datetime.timedelta(days=1)

WORDS = {
    "utf-8": ["spring", "Köln, große", "봄 이벤트", "活动一", "Total", "0012", "NA", "a;b|c",
              'say "hi"'],
    "cp949": ["봄 이벤트", "여름 광고", "서울", "전체 매출", "spring", "0012"],
    "gbk": ["活动一", "春节促销", "国家 用户", "spring", "0012"],
    "cp1252": ["Köln", "Größe", "été", "Año nuevo", "spring", "0012"],
}  # fmt: skip
"""Texts of attributes that an encoding can write."""

ROLES = ("Apps", "Source", "Campaign", "Country", "OS")


@dataclass(frozen=True, kw_only=True)
class KnownCohort:
    """A cohort: its days, attributes, users, spend, and the printed amount at each known age."""

    first: Day
    last: Day
    attributes: Mapping[str, str]
    users: int
    spend: float | None
    printed: Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class ReadCohort:
    """What reading must give of a cohort: `values` per user by age."""

    users: float
    spend: float | None
    values: Mapping[int, float]


Key = tuple[Day, Day, tuple[str, ...]]
"""First and last day of a cohort, and its attributes by name."""


@dataclass(frozen=True, kw_only=True)
class AnyExport:
    """How known cohorts are written.

    `span` of a cohort, and `date_form`: a text of its own for the span, a range of two days in one
    column, two columns, or the first day alone, with the period told or in the column's name.
    `told` are options of data.format beside those without which nobody could read the table;
    `hides_increments`: it is not told that amounts are increments, where they show it.
    """

    seed: int
    cohorts: int
    layout: Literal["wide", "long"]
    container: Literal["csv", "csv.gz", "tsv", "xlsx"] = "csv"
    encoding: str = "utf-8"
    separator: str = ","
    line_ends: Sequence[str] = ("\n",)
    quote_all: bool = False
    numbers: NumberDialect = NumberDialect()
    digits: int = 2
    level: float = 10.0
    span: Literal["day", "week", "month", "range"] = "week"
    date_form: Literal["text", "range", "columns", "told", "named"] = "range"
    day_spelling: str = "2025-01-06"
    between: str = "~"
    name_case: str = "as it is"
    age_pattern: str = "day_{}"
    ages: Sequence[int] = tuple(range(10))
    values: Literal["cumulative", "increment"] = "cumulative"
    per: Literal["user", "cohort"] = "user"
    attributes: Sequence[str] = ("Campaign",)
    has_users: bool = True
    has_spend: bool = True
    extras: Sequence[str] = ()
    totals: Literal["", "short", "long"] = ""
    titles: Sequence[str] = ()
    empty_rows: int = 0
    repeated_headers: int = 0
    told: frozenset[str] = frozenset()
    hides_increments: bool = False
    days_old: int = 30
    is_typed: bool = False
    has_text_last: bool = False

    @cached_property
    def origin(self) -> Day:
        """The day of the export."""
        return max(cohort.last for cohort in self._undated) + self.days_old * ONE_DAY

    # --- Cohorts ---

    @cached_property
    def _undated(self) -> list[KnownCohort]:
        """Cohorts without amounts."""
        rng = random.Random(self.seed)
        base = datetime.date(2021, 1, 1) + rng.randrange(1400) * ONE_DAY
        words = WORDS[self.encoding if self.encoding in WORDS else "utf-8"]
        cohorts: dict[Key, KnownCohort] = {}
        for _ in range(self.cohorts):
            first = base + rng.randrange(120) * ONE_DAY
            first, last = self._span_days(first, rng)
            attributes = {name: rng.choice(words) for name in self.attributes}
            if "team" in self.extras:
                attributes["Team"] = rng.choice(["red", "blue"])
            users = int(10 ** rng.uniform(0.5, 5))
            spend = None if rng.random() < 0.2 else self._rounded(users * rng.random() * self.level)
            key = (first, last, tuple(attributes.values()))
            cohorts[key] = KnownCohort(
                first=first, last=last, attributes=attributes,
                users=users, spend=spend if self.has_spend else None, printed={},
            )  # fmt: skip
        return list(cohorts.values())

    def _span_days(self, first: Day, rng: random.Random) -> tuple[Day, Day]:
        if self.span == "day":
            return first, first
        if self.span == "month":
            first = first.replace(day=1)
            return first, (first + 31 * ONE_DAY).replace(day=1) - ONE_DAY
        if self.span == "week":
            first -= first.weekday() * ONE_DAY
            return first, first + 6 * ONE_DAY
        return first, first + rng.randrange(1, 40) * ONE_DAY

    def _rounded(self, money: float) -> float:
        return round(money, self.digits)

    def known_cohorts(self, origin: Day | None = None) -> list[KnownCohort]:
        """Cohorts that had ended by a day, with their amounts as known on it."""
        origin = origin or self.origin
        rng = random.Random(self.seed + 1)
        known = []
        for cohort in self._undated:
            noise = [rng.random() for _ in range(362)]
            age = (origin - cohort.last).days
            if age >= 0:
                known.append(replace(cohort, printed=self._amounts(cohort, noise, age)))
        return known

    def _amounts(
        self, cohort: KnownCohort, noise: Sequence[float], last_age: int
    ) -> dict[int, float]:
        """Amounts to print at the exported ages; each depends on its age alone."""
        level = self.level * (0.5 + noise[361])
        if self.per == "cohort":
            level *= cohort.users
        growth = [(0 if draw < 0.3 else draw) * level / (1 + age) for age, draw in enumerate(noise)]
        if self.values == "increment":
            return {age: self._rounded(growth[age]) for age in self.ages if age <= last_age}
        total = 0.0
        sums = []
        for amount in growth:
            total += amount
            sums.append(self._rounded(total))
        return {age: sums[age] for age in self.ages if age <= last_age}

    def expected(self, origin: Day | None = None) -> dict[Key, ReadCohort]:
        """What reading must give, by key: attributes are sorted by name."""
        expected = {}
        for cohort in self.known_cohorts(origin):
            if self.layout == "long" and not cohort.printed:
                continue
            total = 0.0
            values = {}
            for age, amount in cohort.printed.items():
                total = total + amount if self.values == "increment" else amount
                is_total = self.per == "cohort" and self.has_users
                values[age] = total / cohort.users if is_total else total
            texts = tuple(text for _, text in sorted(cohort.attributes.items()))
            key = (cohort.first, cohort.last, texts)
            expected[key] = ReadCohort(
                users=cohort.users if self.has_users else 1.0, spend=cohort.spend, values=values
            )
        return expected

    # --- Options ---

    @property
    def options(self) -> dict[str, Any]:
        """Options of data.format that the reader is told."""
        needed: dict[str, Any] = {}
        if DATE_ORDERS.get(self.day_spelling) == "ymd":
            needed["dates"] = "ymd"
        meaning = AGE_PATTERNS[self.age_pattern]
        if self.layout == "long":
            meaning = "user" if self.per == "user" else "?"
        if self.values == "increment" and not (self.hides_increments and self.shows_fall):
            needed["values"] = "increment"
        if self.per != (meaning or "user"):
            needed["per"] = self.per
        if meaning == "?" and "per" not in self.told:
            needed.pop("per", None)
        is_rarely_told = self.cohorts < 12 or self.seed % 4  # by the numbers
        if self.layout == "long" and self.per == "cohort" and is_rarely_told:
            needed["per"] = self.per
        if self.date_form == "told" and self.span in ("week", "month"):
            needed["period"] = self.span
        further = {
            "per": self.per,
            "decimal": "comma" if self.numbers.decimal == "," else "point",
            "dates": DATE_ORDERS.get(self.day_spelling),
            "encoding": self.written_encoding,
            "separator": self.separator,
        }
        if self.container == "xlsx":
            further |= {"encoding": None, "separator": None}
        return needed | {key: further[key] for key in sorted(self.told) if further[key]}

    @property
    def must_be_refused(self) -> bool:
        """Whether it is read as what it is not, which it shows."""
        return self.values == "increment" and "values" not in self.options

    @property
    def shows_fall(self) -> bool:
        """Whether the amounts of a cohort fall by more than rounding does."""
        return any(
            later < 0.99 * before
            for cohort in self.known_cohorts()
            for before, later in pairwise(cohort.printed.values())
        )

    # --- Text ---

    def date_columns(self, cohort: KnownCohort) -> list[str]:
        """Write the days of a cohort, in one cell or two."""
        write = DAY_SPELLINGS[self.day_spelling]
        if self.date_form == "columns":
            return [write(cohort.first), write(cohort.last)]
        if self.date_form == "text" and self.span == "week":
            return [WEEK_SPELLINGS[sorted(WEEK_SPELLINGS)[self.seed % 2]](cohort.first)]
        if self.date_form == "text" and self.span == "month":
            spelling = sorted(MONTH_SPELLINGS)[self.seed % len(MONTH_SPELLINGS)]
            return [MONTH_SPELLINGS[spelling](cohort.first)]
        if self.span == "day" or self.date_form in ("told", "named"):
            return [write(cohort.first)]
        return [write(cohort.first) + self.between + write(cohort.last)]

    @cached_property
    def names(self) -> dict[str, str]:
        """Name of the column of each role in the file."""
        rng = random.Random(self.seed + 2)
        preset = next(preset for preset in load_presets() if preset.name == self.layout)
        spellings = {role: [role, *preset.columns[role]] for role in preset.columns}
        spellings["Date"] = [
            name for name in spellings["Date"] if name.casefold() not in ("week", "month")
        ]
        if self.date_form == "named":
            spellings["Date"] = {"week": ["week", "Week"], "month": ["month", "Month"]}[self.span]
        if self.layout == "long":
            values = {
                "user": ["ltv", "LTV"],
                "cohort": ["revenue", "total_revenue", "매출", "value"],
            }
            spellings["value"] = values[self.per]
        change = NAME_CASES[self.name_case]
        names = {role: change(rng.choice(texts)) for role, texts in spellings.items()}
        if self._is_own_layout:
            names |= {"Date": "Date", "cohort_start": "cohort_start", "cohort_end": "cohort_end"}
        return names

    @property
    def _is_own_layout(self) -> bool:
        return self.layout == "wide" and self.seed % 5 == 0 and self.date_form != "named"

    @property
    def _key_names(self) -> list[str]:
        dates = ["cohort_start", "cohort_end"] if self.date_form == "columns" else ["Date"]
        return [self.names[role] for role in dates]

    def table(self, origin: Day | None = None) -> tuple[list[str], list[list[str]]]:
        """Header and rows as text."""
        cohorts = self.known_cohorts(origin)
        columns: dict[str, list[str]] = {}
        dates = [self.date_columns(cohort) for cohort in cohorts]
        for position, name in enumerate(self._key_names):
            columns[name] = [cells[position] for cells in dates]
        for role in self.attributes:
            columns[self.names[role]] = [cohort.attributes[role] for cohort in cohorts]
        if "team" in self.extras:
            columns["Team"] = [cohort.attributes["Team"] for cohort in cohorts]
        if self.has_users:
            columns[self.names["Users"]] = [self.numbers.count(cohort.users) for cohort in cohorts]
        if self.has_spend:
            spend = [self.numbers.money(cohort.spend, self.digits) for cohort in cohorts]
            columns[self.names["Spend"]] = spend
        columns |= self._extra_columns(cohorts)
        order = list(columns)
        random.Random(self.seed + 3).shuffle(order)
        columns = {name: columns[name] for name in order}
        return (
            self._wide(columns, cohorts) if self.layout == "wide" else self._long(columns, cohorts)
        )

    def _extra_columns(self, cohorts: Sequence[KnownCohort]) -> dict[str, list[str]]:
        rng = random.Random(self.seed + 4)
        columns = {}
        if "budget" in self.extras:
            columns["Budget"] = [self.numbers.money(rng.randrange(9999), 0) for _ in cohorts]
        if "retention" in self.extras:
            columns["Retention D1"] = [self.numbers.percent(rng.random()) for _ in cohorts]
        if "unnamed" in self.extras:
            columns[""] = [""] * len(cohorts)
        return columns

    def _wide(
        self, columns: dict[str, list[str]], cohorts: Sequence[KnownCohort]
    ) -> tuple[list[str], list[list[str]]]:
        for age in self.ages:
            name = NAME_CASES[self.name_case](self.age_pattern.format(age))
            if self._is_own_layout and self.age_pattern.startswith("day_"):
                name = self.age_pattern.format(age)
            amounts = [cohort.printed.get(age) for cohort in cohorts]
            columns[name] = [self.numbers.money(amount, self.digits) for amount in amounts]
        if self.has_text_last:
            columns["Team"] = columns.pop("Team")
        return list(columns), [list(row) for row in zip(*columns.values(), strict=True)]

    def _long(
        self, columns: dict[str, list[str]], cohorts: Sequence[KnownCohort]
    ) -> tuple[list[str], list[list[str]]]:
        """Rows without a change are left out at random, but for a cohort's last one.

        The oldest cohort has a row of each age.
        """
        rng = random.Random(self.seed + 5)
        rows = []
        oldest = max((len(cohort.printed) for cohort in cohorts), default=0)
        for cohort, cells in zip(cohorts, zip(*columns.values(), strict=True), strict=True):
            before = 0.0
            for age, amount in cohort.printed.items():
                is_change = amount != (before if self.values == "cumulative" else 0.0)
                before = amount
                is_needed = age == max(cohort.printed) or len(cohort.printed) == oldest
                if is_change or is_needed or rng.random() < 0.5:
                    text = self.numbers.money(amount, self.digits)
                    rows.append([*cells, str(age), text])
        rng.shuffle(rows)
        return [*columns, self.names["age"], self.names["value"]], rows

    # --- Files ---

    @property
    def written_encoding(self) -> str:
        """Encoding of the file: UTF-8 where the dialect's own cannot write all of it."""
        try:
            text = "".join(cell for line in self.lines() for cell in line)
            (text + self.numbers.missing).encode(self.encoding)
        except UnicodeEncodeError:
            return "utf-8"
        return self.encoding

    def lines(self, origin: Day | None = None) -> Iterator[list[str]]:
        """All lines: titles, header, rows, and what stands between them."""
        rng = random.Random(self.seed + 6)
        header, rows = self.table(origin)
        for _ in range(self.empty_rows):
            rows.insert(rng.randrange(len(rows) + 1), rng.choice([[], [""] * len(header)]))
        for _ in range(self.repeated_headers if rows else 0):
            rows.insert(rng.randrange(1, len(rows) + 1), header)
        yield from ([title] for title in self.titles)
        yield header
        yield from rows
        if self.totals == "short":
            yield ["Total", "1"]
        elif self.totals == "long":
            yield ["Total", *([""] * (len(header) - 2)), self.numbers.money(12345.0, self.digits)]

    def write(self, folder: Path, origin: Day | None = None) -> Path:
        """Write the export of a day."""
        origin = origin or self.origin
        path = folder / f"export_{origin}.{self.container}"
        if self.container == "xlsx":
            write_workbook(
                path, {"LTV": [list(map(self._cell, row)) for row in self.lines(origin)]}
            )
            return path
        text = self._csv_text(origin).encode(self.written_encoding)
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
        return path

    def _cell(self, text: str) -> Cell:
        """Return a cell of a sheet: numbers and days typed, where they are plain."""
        is_plain = self.numbers.decimal == "." and not self.numbers.thousands
        if not (self.is_typed and is_plain) or text in WORDS["utf-8"]:
            return text
        try:
            return _iso_day(text) if "-" in text[1:] else _finite(text)
        except ValueError:
            return text

    def _csv_text(self, origin: Day) -> str:
        rng = random.Random(self.seed + 7)
        lines = []
        for cells in self.lines(origin):
            line = io.StringIO(newline="")
            quoting = csv.QUOTE_ALL if self.quote_all else csv.QUOTE_MINIMAL
            end = rng.choice(self.line_ends)
            csv.writer(
                line, delimiter=self.separator, quoting=quoting, lineterminator=end
            ).writerow(cells)
            lines.append(line.getvalue())
        return "".join(lines)


def _iso_day(text: str) -> Day:
    """The day in a text such as 2025-01-06. Raises ValueError where it is none."""
    return datetime.datetime.strptime(text, "%Y-%m-%d").date()


def _finite(text: str) -> float:
    """The number in a text. Raises ValueError where it is none."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"expected a number, got {text}")
    return number
