"""Dates as people write them: one text, and the days that it means under each convention."""

import re
import unicodedata
from calendar import monthrange
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

from ltvnet.data.importers.number_texts import plain_text

DateConvention = Literal["ymd", "dmy", "mdy"]

DATE_CONVENTIONS: tuple[DateConvention, ...] = get_args(DateConvention)


class DaySpan(NamedTuple):
    """Days that a text means under one convention, the last included.

    `form` says in words how they are written. `strptime` is the format of the day and `time_format`
    of the time behind it; each is None where strptime cannot read it: weeks without a day, months,
    ranges, names of months that are not English, offsets from UTC.
    """

    first: date
    last: date
    form: str
    strptime: str | None = None
    time_format: str | None = None


_MONTH_NAMES = (
    "jan january januar janner janvier enero ene gennaio janeiro",
    "feb february februar fevrier fev fevr febrero febbraio fevereiro",
    "mar march marz maerz mars marzo marco mrz",
    "apr april avril avr abril abr aprile",
    "may mai mayo maggio maio",
    "jun june juni juin junio giugno junho",
    "jul july juli juillet juil julio luglio julho",
    "aug august aout agosto ago",
    "sep september sept septembre septiembre setiembre settembre setembro",
    "oct october okt oktober octobre octubre ottobre outubro",
    "nov november novembre noviembre novembro",
    "dec december dez dezember decembre diciembre dic dicembre dezembro",
)
"""Names of each month without accents, the English ones first."""

_MONTH_OF_NAME = {
    name: month for month, names in enumerate(_MONTH_NAMES, 1) for name in names.split()
}
_SHORT_NAMES = {names.split()[0] for names in _MONTH_NAMES}
_FULL_NAMES = {names.split()[1] for names in _MONTH_NAMES} | {"may"}
_SHORT_WEEKDAYS = {"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
_FULL_WEEKDAYS = {"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}

_WORD = r"[^\W\d_]+"
_WEEKDAY_PART = rf"(?:(?P<weekday>{_WORD})\.?,? )?"
_DAY_PART = r"(?P<d>[0-9]{1,2})"
_MONTH_PART = r"(?P<m>[0-9]{1,2})"
_NAME_PART = rf"(?P<name>{_WORD})\.?"
_YEAR_PART = r"(?P<Y>[0-9]{4})"

_DAY_PATTERNS = [
    re.compile(pattern)
    for pattern in (
        rf"{_YEAR_PART}(?P<sep>[-/.]) ?{_MONTH_PART}(?P=sep) ?{_DAY_PART}\.?",
        rf"{_YEAR_PART}(?P<m>[0-9]{{2}})(?P<d>[0-9]{{2}})(?:\.0)?",
        rf"{_YEAR_PART} ?[년年] ?{_MONTH_PART} ?[월月] ?{_DAY_PART} ?[일日]",
        rf"{_YEAR_PART}[-/ ]{_NAME_PART}[-/ ]{_DAY_PART}",
        rf"{_WEEKDAY_PART}{_DAY_PART}(?:st|nd|rd|th|er|\.)?(?: de)?[-/ ]? ?{_NAME_PART}"
        rf"(?: del?)?,?[-/ ]{_YEAR_PART}",
        rf"{_WEEKDAY_PART}{_NAME_PART}[-/ ]{_DAY_PART}(?:st|nd|rd|th)?(?:, ?|[-/ ]){_YEAR_PART}",
    )
]
"""Days of which every part can be told."""

_NUMERIC_DAY = re.compile(
    r"(?P<a>[0-9]{1,2})(?P<sep>[-/.]) ?(?P<b>[0-9]{1,2})(?P=sep) ?(?P<c>[0-9]{4}|[0-9]{2})\.?"
)
_NAMED_DAY = re.compile(rf"(?P<a>[0-9]{{1,2}})[-/. ] ?{_NAME_PART}[-/ ]'?(?P<c>[0-9]{{2}})")

_WEEK = re.compile(r"(?P<G>[0-9]{4})[- ]?[Ww](?P<V>[0-9]{1,2})(?:-?(?P<u>[1-7]))?")

_MONTH_PATTERNS = [
    re.compile(pattern)
    for pattern in (
        rf"{_YEAR_PART}[-/]{_MONTH_PART}",
        rf"{_MONTH_PART}[-/]{_YEAR_PART}",
        rf"{_YEAR_PART} ?[년年] ?{_MONTH_PART} ?[월月]",
        rf"{_NAME_PART}(?: de)?(?:, ?|[-/ ]){_YEAR_PART}",
        rf"{_YEAR_PART}[-/ ]{_NAME_PART}",
    )
]

_HALVES = "오전|오후|上午|下午|午前|午後"
_TIME = re.compile(
    rf"(?P<day>.+?)(?:T|,? )(?P<half>(?:{_HALVES}) ?)?"
    r"(?P<H>[0-9]{1,2}):(?P<M>[0-5][0-9])(?::(?P<S>[0-5][0-9])(?:\.(?P<f>[0-9]{1,9}))?)?"
    r"(?: ?(?P<p>[AaPp][Mm]))?(?P<zone> ?(?:[A-Z]{3,4}|Z|[-+][0-9]{2}(?::?[0-9]{2})?))?"
)
_UTC = re.compile(r" ?(?:Z|UTC|GMT|\+00(?::?00)?)")

TIME_BEHIND_DAY = rf"(T|,? )(({_HALVES}) ?)?[0-9]{{1,2}}:[0-9]{{2}}.*$"
"""Pattern of the time behind a single day, which SQL may cut off to have fewer distinct texts."""

_BETWEEN = [
    re.compile(pattern)
    for pattern in (r" ?[~～〜] ?", r" (?:to|until|bis|au) ", r" ?[–—] ?", r" - ", r"-", r"/")
]
"""Signs between the first and the last day of a range."""

_PART_WORDS = {
    "Y": "year", "y": "year", "m": "month", "d": "day", "name": "month name",
    "weekday": "weekday", "G": "year", "V": "week", "u": "weekday",
}  # fmt: skip


@lru_cache(maxsize=1 << 16)
def read_date(text: str) -> Mapping[DateConvention, DaySpan]:
    """Read a day, a week, a month or a range of them: the days that it means by convention.

    Conventions under which the text is no date are left out; years of two digits are in 1969 to
    2068, and come first only in "ymd".

    >>> {convention: str(span.first) for convention, span in read_date("12/05/2024").items()}
    {'dmy': '2024-05-12', 'mdy': '2024-12-05'}
    >>> read_date("2025-W02")["ymd"][:3]
    (datetime.date(2025, 1, 6), datetime.date(2025, 1, 12), 'year-Wweek')
    """
    plain = " ".join(plain_text(text).split())
    if spans := _read_span(plain):
        return spans
    for between in _BETWEEN:
        sides = between.split(plain)
        if len(sides) == 2:
            first, last = map(_read_span, sides)
            if common := [convention for convention in first if convention in last]:
                return {
                    convention: DaySpan(
                        first[convention].first,
                        last[convention].last,
                        f"{first[convention].form} ~ {last[convention].form}",
                    )
                    for convention in common
                }
    return {}


def read_serial(text: str) -> date | None:
    """Read the number of a day in spreadsheets, 20000 to 80000; None for other texts.

    >>> read_serial("45663"), read_serial("45663.5"), read_serial("100")
    (datetime.date(2025, 1, 6), datetime.date(2025, 1, 6), None)
    """
    match = re.fullmatch(r"([2-7][0-9]{4}|80000)(?:\.[0-9]+)?", plain_text(text))
    return date(1899, 12, 30) + timedelta(days=int(match[1])) if match else None


def _read_span(text: str) -> dict[DateConvention, DaySpan]:
    """Read a day with or without a time, a week or a month."""
    time_format: str | None = ""
    if ":" in text and (match := _TIME.fullmatch(text)):
        hour = int(match["H"])
        if hour > 23 or (match["p"] and not 1 <= hour <= 12):
            return {}
        text = match["day"]
        time_format = _time_format(match)

    spans = _read_day(text)
    if spans or time_format != "":
        return {key: span._replace(time_format=time_format) for key, span in spans.items()}
    week_or_month = _read_week(text) or _read_month(text)
    return dict.fromkeys(DATE_CONVENTIONS, week_or_month) if week_or_month else {}


def _read_day(text: str) -> dict[DateConvention, DaySpan]:
    """Read a day without a time."""
    for pattern in _DAY_PATTERNS:
        match = pattern.fullmatch(text)
        if match and (span := _match_day(match, {})):
            return dict.fromkeys(DATE_CONVENTIONS, span)

    roles: dict[DateConvention, str] = {"ymd": "ymd", "dmy": "dmy", "mdy": "mdy"}
    match = _NUMERIC_DAY.fullmatch(text)
    if match and len(match["c"]) == 4:
        roles = {"dmy": "dmY", "mdy": "mdY"}
    elif not match and (match := _NAMED_DAY.fullmatch(text)):
        roles = {"ymd": "y?d", "dmy": "d?y", "mdy": "d?y"}
    if not match:
        return {}
    spans = {
        convention: _match_day(match, dict(zip("abc", letters, strict=True)))
        for convention, letters in roles.items()
    }
    return {convention: span for convention, span in spans.items() if span}


def _match_day(match: re.Match[str], role_of_group: Mapping[str, str]) -> DaySpan | None:
    """Make a day of the parts of a text: groups are named by what they are, or given a role."""
    parts = {
        role_of_group.get(group, group): group
        for group, value in match.groupdict().items()
        if value is not None and group != "sep"
    }
    text_of = {role: match[group] for role, group in parts.items()}
    year = int(text_of["Y"]) if "Y" in text_of else _full_year(int(text_of["y"]))
    month = _month_number(text_of["name"]) if "name" in text_of else int(text_of["m"])
    with suppress(ValueError):
        day = date(year, month, int(text_of["d"]))
        words = {group: _PART_WORDS[role] for role, group in parts.items()}
        directives = {group: _directive(role, match[group]) for role, group in parts.items()}
        return DaySpan(day, day, _replace_groups(match, words), _strptime(match, directives))
    return None


def _read_week(text: str) -> DaySpan | None:
    """Read an ISO week, or a day of one."""
    match = _WEEK.fullmatch(text)
    if not match:
        return None
    with suppress(ValueError):
        year, week = int(match["G"]), int(match["V"])
        first = date.fromisocalendar(year, week, int(match["u"] or 1))
        last = date.fromisocalendar(year, week, int(match["u"] or 7))
        groups = [group for group, value in match.groupdict().items() if value is not None]
        form = _replace_groups(match, {group: _PART_WORDS[group] for group in groups})
        return DaySpan(first, last, form)
    return None


def _read_month(text: str) -> DaySpan | None:
    """Read a month."""
    for pattern in _MONTH_PATTERNS:
        if match := pattern.fullmatch(text):
            parts = match.groupdict()
            month = _month_number(parts["name"]) if "name" in parts else int(parts["m"])
            with suppress(ValueError):
                first = date(int(parts["Y"]), month, 1)
                last = first.replace(day=monthrange(first.year, first.month)[1])
                form = _replace_groups(match, {group: _PART_WORDS[group] for group in parts})
                return DaySpan(first, last, form)
    return None


def _full_year(year: int) -> int:
    """Return the year that two digits stand for, as strptime has it."""
    return 1900 + year if year >= 69 else 2000 + year


def _month_number(name: str) -> int:
    """Return the number of a month by its name, 0 for another word."""
    letters = unicodedata.normalize("NFD", name.casefold())
    without_accents = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return _MONTH_OF_NAME.get(without_accents, 0)


def _directive(role: str, text: str) -> str | None:
    """Return the directive of strptime for a part of a date; None where it has none."""
    word = text.casefold()
    if role == "name":
        return "%b" if word in _SHORT_NAMES else "%B" if word in _FULL_NAMES else None
    if role == "weekday":
        return "%a" if word in _SHORT_WEEKDAYS else "%A" if word in _FULL_WEEKDAYS else None
    return f"%{role}"


def _strptime(match: re.Match[str], directives: Mapping[str, str | None]) -> str | None:
    """Write the format of a text for strptime; None where a part has no directive."""
    known = {group: directive for group, directive in directives.items() if directive}
    return _replace_groups(match, known) if len(known) == len(directives) else None


def _time_format(match: re.Match[str]) -> str | None:
    """Write the format of the time behind a day for strptime; None where it cannot be read."""
    is_utc = not match["zone"] or _UTC.fullmatch(match["zone"])
    if match["half"] or not is_utc or len(match["f"] or "") > 6:
        return None
    directives = {"H": "%I" if match["p"] else "%H", "M": "%M", "S": "%S", "f": "%f", "p": "%p"}
    present = {group: directives[group] for group in directives if match[group] is not None}
    return _replace_groups(match, {"day": "", **present})


def _replace_groups(match: re.Match[str], replacements: Mapping[str, str]) -> str:
    """Write a matched text with other texts in place of some of its groups."""
    text = match[0]
    for group in sorted(replacements, key=match.start, reverse=True):
        text = text[: match.start(group)] + replacements[group] + text[match.end(group) :]
    return text
