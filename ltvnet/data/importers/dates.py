"""Columns of text to days, with one convention for all texts of all files.

`DateEvidence` looks at the texts of all files and decides in which order day, month and year
stand, or says why it cannot; `DateReading` parses with it.

Shapes: N texts.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

import numpy as np

from ltvnet.data.arrays import Bools, Days
from ltvnet.data.importers.date_texts import (
    DATE_CONVENTIONS,
    DateConvention,
    DaySpan,
    read_date,
    read_serial,
)
from ltvnet.data.importers.number_texts import CellExample, is_missing_mark

_PLACEHOLDERS = np.array(["1970-01-01", "2099-12-31"], dtype="datetime64[D]")
_EARLIEST = np.datetime64("1990-01-01", "D")
_LATEST = np.datetime64("2100-12-31", "D")

_TIME_FORMATS = ("", " %H:%M:%S", "T%H:%M:%S", "T%H:%M:%SZ", " %H:%M", "T%H:%M", " %H:%M:%S.%f",
                 "T%H:%M:%S.%f", "T%H:%M:%S.%fZ", " %H:%M:%S UTC")  # fmt: skip
"""Times that may stand behind any day."""

_DAY_FORMATS: dict[DateConvention, tuple[str, ...]] = {
    "ymd": ("%y-%m-%d", "%y/%m/%d", "%y.%m.%d"),
    "dmy": ("%d.%m.%y", "%d/%m/%y", "%d-%m-%y", "%d.%m.%Y", "%d/%m/%Y", "%d-%m-%Y"),
    "mdy": ("%m/%d/%y", "%m-%d-%y", "%m.%d.%y", "%m/%d/%Y", "%m-%d-%Y", "%m.%d.%Y"),
}
_YEAR_FIRST_FORMATS = ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d")


@dataclass(frozen=True)
class DateReading:
    """How the dates of a data set are read.

    `forms` the ways of writing that were seen, the most frequent first; `strptimes` and
    `time_formats` the formats of days and of times behind them that strptime can read;
    `has_serials`: numbers of five digits are days as spreadsheets number them.
    """

    convention: DateConvention
    forms: tuple[str, ...] = ()
    strptimes: tuple[str, ...] = ()
    time_formats: tuple[str, ...] = ()
    has_serials: bool = False

    def parse(self, texts: Sequence[str]) -> tuple[Days, Days]:
        """Parse texts: first and last day (N,) of each, NaT where it is no date.

        A time behind the day is left out: the day is the one that is written, whatever its zone.
        """
        first_days: list[date | None] = []
        last_days: list[date | None] = []
        for text in texts:
            first, last = self._parse_text(text)
            first_days.append(first)
            last_days.append(last)
        start = np.array(first_days, dtype="datetime64[D]")
        end = np.array(last_days, dtype="datetime64[D]")
        return start, end

    def _parse_text(self, text: str) -> tuple[date | None, date | None]:
        """Parse one text: first and last day."""
        serial = read_serial(text) if self.has_serials else None
        if serial:
            return serial, serial
        span = read_date(text).get(self.convention)
        return (span.first, span.last) if span else (None, None)

    def describe(self) -> str:
        """Say in words how dates are read, as in "day.month.year"."""
        if self.forms:
            return " or ".join(self.forms[:3])
        if self.has_serials:
            return "days as spreadsheets number them"
        words = {"ymd": "year, month, day", "dmy": "day, month, year", "mdy": "month, day, year"}
        return words[self.convention]


class _Spelling(NamedTuple):
    """A way of writing: in words, and the formats of day and time for strptime."""

    form: str
    strptime: str | None
    time_format: str | None


@dataclass
class _ShortYears:
    """Dates whose year has two digits and comes last, unless their numbers speak against it.

    Where a year comes first, the last number has a wider range than the first.
    """

    example: CellExample | None = None
    first_numbers: set[int] = field(default_factory=set)
    last_numbers: set[int] = field(default_factory=set)
    year_may_come_first: bool = True

    def add(self, example: CellExample, spans: Mapping[DateConvention, DaySpan]) -> None:
        """Note a date."""
        year_first = spans.get("ymd")
        year_last = spans.get("dmy") or spans.get("mdy")
        if year_first is None:
            self.year_may_come_first = False
        elif year_last is None or year_first.form != year_last.form:
            if year_last is None or year_first[:2] != year_last[:2]:
                self.example = self.example or example
            self.first_numbers.add(year_first.first.year)
            self.last_numbers.add(year_first.first.day)

    def seem_to_come_first(self) -> bool:
        """Return whether the numbers look as if the year came first."""
        if not self.first_numbers or not self.year_may_come_first:
            return False
        first_range = max(self.first_numbers) - min(self.first_numbers)
        last_range = max(self.last_numbers) - min(self.last_numbers)
        return last_range > first_range


@dataclass
class DateEvidence:
    """Texts that tell how the dates of all files are written, collected file by file.

    `day_first` and `month_first` the first text that is a date in that order only, `ambiguous` the
    first that is another day in either; `spellings` counts ways of writing by convention;
    `serials` counts numbers that may be days as spreadsheets number them, `dates` all others.
    """

    day_first: CellExample | None = None
    month_first: CellExample | None = None
    ambiguous: CellExample | None = None
    short_years: _ShortYears = field(default_factory=_ShortYears)
    dates: int = 0
    serials: int = 0
    spellings: dict[DateConvention, Counter[_Spelling]] = field(
        default_factory=lambda: {convention: Counter() for convention in DATE_CONVENTIONS}
    )

    def add(self, texts: Iterable[str], where: str) -> None:
        """Look at texts that stand at `where`, as in "a.csv, column Date"; distinct ones will do.

        Texts that are no dates are left to the reading, which marks them.
        """
        for text in texts:
            spans = {} if is_missing_mark(text) else read_date(text)
            if not spans:
                self.serials += read_serial(text) is not None
                continue
            self.dates += 1
            for convention, span in spans.items():
                spelling = _Spelling(span.form, span.strptime, span.time_format)
                self.spellings[convention][spelling] += 1
            self._note_order(CellExample(text, where), spans)

    def decide(self, convention: DateConvention | None = None) -> DateReading:
        """Decide how all dates are read; `convention` is the one that the user gave, if any.

        Years of two digits come last, unless "ymd" is given. Raises ValueError where texts
        contradict each other, and where different days can be meant and no text tells which.
        """
        convention = convention or self._find_convention()
        spellings = [spelling for spelling, _ in self.spellings[convention].most_common()]
        return DateReading(
            convention,
            forms=tuple(dict.fromkeys(spelling.form for spelling in spellings)),
            strptimes=_distinct_formats(spelling.strptime for spelling in spellings),
            time_formats=_distinct_formats(spelling.time_format for spelling in spellings),
            has_serials=bool(self.serials) and not self.dates,
        )

    def _note_order(self, example: CellExample, spans: Mapping[DateConvention, DaySpan]) -> None:
        """Note what a date tells of the order of day, month and year."""
        self.short_years.add(example, spans)
        day_first, month_first = spans.get("dmy"), spans.get("mdy")
        if day_first and month_first:
            if day_first[:2] != month_first[:2]:
                self.ambiguous = self.ambiguous or example
        elif day_first:
            self.day_first = self.day_first or example
        elif month_first:
            self.month_first = self.month_first or example

    def _find_convention(self) -> DateConvention:
        """Find the convention under which all texts are read."""
        if self.short_years.example and self.short_years.seem_to_come_first():
            raise ValueError(_ask_which_day(self.short_years.example, ("ymd", "dmy", "mdy")))
        if self.day_first and self.month_first:
            raise ValueError(
                f"expected one order of day and month in all files, but {self.day_first} has the "
                f"day first and {self.month_first} the month first; correct them, or set "
                "data.format.dates=dmy or mdy, and all of the other kind are listed"
            )
        if self.day_first:
            return "dmy"
        if self.month_first:
            return "mdy"
        if self.ambiguous:
            raise ValueError(_ask_which_day(self.ambiguous, ("dmy", "mdy")))
        has_year_last = self.short_years.example or not self.short_years.year_may_come_first
        return "dmy" if has_year_last else "ymd"


def _ask_which_day(example: CellExample, conventions: Sequence[DateConvention]) -> str:
    """Write the message that asks which of several days a text means."""
    spans = read_date(example.text)
    convention_of_days: dict[tuple[date, ...], DateConvention] = {}
    for convention in conventions:
        if convention in spans:
            days = tuple(dict.fromkeys(spans[convention][:2]))
            convention_of_days.setdefault(days, convention)
    readings = " or ".join(
        f"{'~'.join(map(str, days))} (data.format.dates={convention})"
        for days, convention in convention_of_days.items()
    )
    return f"{example} can be {readings}, and no other date tells which; set one of them"


def _distinct_formats(formats: Iterable[str | None]) -> tuple[str, ...]:
    """Return the formats that there are, each once, in their order."""
    return tuple(dict.fromkeys(text for text in formats if text is not None))


def strptime_formats(reading: DateReading) -> list[str]:
    """List the formats with which strptime of DuckDB reads the days that a reading was made of.

    Each with every time that was seen or is common behind it; empty where no text was a single day
    that strptime can read. Formats with a year of two digits come first, as "%Y" takes two digits
    as well. Offsets from UTC other than zero are not among the times: cut them off before.
    """
    day_formats = reading.strptimes
    if not reading.forms:
        day_formats = (*_DAY_FORMATS[reading.convention], *_YEAR_FIRST_FORMATS)
    short_years_first = sorted(day_formats, key=lambda text: "%y" not in text)
    times = _distinct_formats([*reading.time_formats, *_TIME_FORMATS])
    return [day_format + time for day_format in short_years_first for time in times]


def placeholder_dates(days: Days) -> Bools:
    """Mark days (N,) that stand for an unknown one, such as 1900-01-01, or outside 1990 to 2100."""
    is_outside = (days < _EARLIEST) | (days > _LATEST)
    mask: Bools = is_outside | np.isin(days, _PLACEHOLDERS)
    return mask


_STRICT_DAY = re.compile(
    r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[T ]00:00(?::00(?:\.0+)?)?)?"
    r"|[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}"
    r"|[0-9]{8}"
)


def parse_strict_day(day: object) -> np.datetime64:
    """Return the day that a text, date, datetime or datetime64 means without a doubt.

    Texts have year, month and day in this order: 2025-02-10, 2025/02/10 or 20250210. Raises
    ValueError for others, and says how the day is written.
    """
    text = str(day).strip()
    if isinstance(day, date) and text != "NaT":
        return np.datetime64(date(day.year, day.month, day.day), "D")
    if isinstance(day, np.datetime64) and len(text) >= len("2025-02-10"):
        whole_day: np.datetime64 = day.astype("datetime64[D]")
        return whole_day

    spans = list(read_date(text).values())
    if spans and _STRICT_DAY.fullmatch(text):
        return np.datetime64(spans[0].first, "D")

    days = sorted({span.first.isoformat() for span in spans if span.first == span.last})
    remedy = f"; write it as {' or '.join(days)}" if days else ""
    if re.fullmatch("[0-9]{4}", text) or (spans and not days):
        remedy = "; write one day of it"
    raise ValueError(f"expected a date such as 2025-02-10, got {day!r}{remedy}")
