"""Headings: what they say of ages, of money and of the days that they count.

Letters are composed and their case makes no difference.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path

OWN_AGE = re.compile(r"(?:(.+)_)?day_(\d+)")
"""Name of a column of the curve, or of a further series at an age, in ltvnet's own tables."""

MONEY_WORDS = re.compile(r"rev|ltv|lifetime|sales|umsatz|arpu|amount|money|매출|수익|收入")
"""Words in the names of columns of ages that hold revenue."""

BARE_AGE = re.compile(r"(?:day|d|tag|jour|d[ií]a)?[ _-]?N|N(?:일차|일)", re.IGNORECASE)
"""Names of columns of ages, N, that say no more than the age."""

RATIO_WORDS = re.compile(
    r"roas|(?<![a-z])roi(?![a-z])|(?<![a-z])return(?![a-z])|수익률|회수율|rendite"
)
"""Words in the names of columns that are revenue for spend, and so no revenue."""

_MONTH_OR_WEEK = "m|mo|months?|monate?|mois|mes(?:es)?|w|wk|weeks?|wochen?|semaines?|semanas?"
LONG_PERIOD_BEFORE = re.compile(rf"(?:.*[^a-z])?(?:{_MONTH_OR_WEEK}|월|주)[\s_-]*")
LONG_PERIOD_AFTER = re.compile(rf"[\s_-]*(?:(?:{_MONTH_OR_WEEK})(?![a-z/])|개월|월차|주차|월|주).*")
"""What stands before or after the number of an age that is of months or weeks, not days."""

DAY_BEFORE = re.compile(r"(?:.*[^a-z])?(?:day|d|tag|jour|d[ií]a)[\s_-]*")

LONG_PERIOD_WORDS = re.compile(
    r"(?<![a-z])(?:months?|weeks?|monate?|wochen?|mois|semaines?|mes(?:es)?)(?![a-z])|개월|월차|주차"
)
"""Words in the name of a column of ages that are months or weeks."""

PER_USER_WORDS = re.compile(r"ltv|lifetime|arpu|per[ _-]?(?:user|install)|인당|유저당")
"""Words in the names of columns of ages that are money per user."""

UNIT_BEHIND = re.compile(r"_?[(\[](?:[€$£¥₩원]|[a-z]{3}|won|euro)[)\]]$")
"""What a name says of the currency of a column, as in Spend (USD)."""

_BEYOND_ALL_AGES = 10**9


def normal_name(name: str) -> str:
    """Write a name so that case, forms of Unicode, and blanks or underscores do not matter.

    >>> normal_name(" Media Source") == normal_name("media_source")
    True
    """
    return re.sub(r"[\s_\-]+", "_", compose_letters(name).strip().casefold())


def compose_letters(name: str) -> str:
    """Write a name with composed letters: macOS takes Korean syllables and accents apart."""
    return unicodedata.normalize("NFC", name)


def names_money(name: str) -> bool:
    """Return whether the name of a column says that it is revenue."""
    return bool(MONEY_WORDS.search(compose_letters(name).casefold()))


def says_per_user(name: str) -> bool:
    """Return whether the name of a column of ages says that it is money per user."""
    return bool(PER_USER_WORDS.search(compose_letters(name).casefold()))


def compile_age(text: str) -> re.Pattern[str]:
    """Return the pattern of columns of ages. Raises ValueError where it is none."""
    expected = (
        r"expected data.format.age, a pattern such as 'LTV D(?P<age>\d+)' or a column of ages"
    )
    try:
        pattern = re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"{expected}, got {text!r}: {error}") from error
    if "age" not in pattern.groupindex:
        raise ValueError(f"{expected}, got {text!r}, which has no group (?P<age>...)")
    return pattern


def choose_series(
    matches: Mapping[str, "re.Match[str]"], *, is_given: bool
) -> dict[str, tuple[str, int]]:
    """Choose the columns of the curve among those whose names hold an age.

    Names that differ in the age alone are a series. Raises ValueError where it is not plain which
    series is the revenue, where two columns of it are of one age, and for an age that is no number.
    """
    series_of: dict[tuple[str, str], dict[str, int]] = {}
    for name, match in matches.items():
        begin, end = match.span("age")
        template = (match.string[:begin], match.string[end:])
        series_of.setdefault(template, {})[name] = parse_age(name, match["age"])

    candidates = list(series_of)
    if not is_given:
        money = [one for one in candidates if names_money("N".join(one))]
        candidates = money or [one for one in candidates if BARE_AGE.fullmatch("N".join(one))]
    if len(candidates) != 1:
        likely = candidates or list(series_of)
        listed = " and ".join("N".join(one) for one in likely[:4])
        raise ValueError(
            f"columns {listed} may be the revenue by age (N); say which is by "
            f"data.format.age, such as '{age_pattern(*likely[0])}'"
        )
    _refuse_other_series(next(iter(series_of[candidates[0]])), *candidates[0])
    ages = series_of[candidates[0]]
    columns_by_age: dict[int, list[str]] = {}
    for name, age in ages.items():
        columns_by_age.setdefault(age, []).append(name)
    if doubled := [columns for columns in columns_by_age.values() if len(columns) > 1]:
        raise ValueError(f"keep one of the columns {' and '.join(doubled[0])}: they are of one age")
    return {name: ("", age) for name, age in ages.items()}


def age_pattern(before: str, after: str) -> str:
    """Return the pattern of names that have an age between two texts."""
    return rf"{_escape(before)}(?P<age>\d+){_escape(after)}"


def _escape(text: str) -> str:
    """Escape what means more than itself in a pattern; blanks stay as they are."""
    return re.sub(r"([^\w\s-])", r"\\\1", text)


def names_ratio(name: str) -> bool:
    """Return whether the name of a column says that it is the return on spend."""
    return bool(RATIO_WORDS.search(compose_letters(name).casefold()))


def counts_long_periods(before: str, after: str) -> bool:
    """Return whether a number between two texts counts months or weeks.

    >>> counts_long_periods("LTV M", ""), counts_long_periods("", "개월")
    (True, True)
    >>> counts_long_periods("D", "")
    False
    """
    text_before = compose_letters(before).casefold()
    if DAY_BEFORE.fullmatch(text_before):
        return False
    is_before = LONG_PERIOD_BEFORE.fullmatch(text_before)
    return bool(is_before or LONG_PERIOD_AFTER.fullmatch(compose_letters(after).casefold()))


def _refuse_other_series(name: str, before: str, after: str) -> None:
    """Raise ValueError where ages between two texts are of no revenue, or are no days."""
    if names_ratio(f"{before} {after}"):
        raise ValueError(refuse_ratio(name))
    if counts_long_periods(before, after):
        raise ValueError(refuse_long_periods(name))


def check_long_columns(path: Path, age_column: str, values_of: Iterable[str]) -> None:
    """Raise ValueError where a long table has no revenue, or ages that are no days."""
    if ratio := next(filter(names_ratio, values_of), None):
        raise ValueError(f"{path}: {refuse_ratio(ratio)}")
    if LONG_PERIOD_WORDS.search(compose_letters(age_column).casefold()):
        raise ValueError(f"{path}: {refuse_long_periods(age_column)}")


def refuse_ratio(name: str) -> str:
    """Say that a column holds the return on spend, and the way out."""
    return (
        f"expected revenue by age, got ratios in {name}: revenue = ratio x spend; export revenue, "
        "or multiply them"
    )


def refuse_long_periods(name: str) -> str:
    """Say that a column is of an age in months or weeks, and the way out."""
    return (
        f"expected ages in days, got {name}, which looks like months or weeks; export columns by "
        "day since acquisition, or name the columns by their last day, such as 'day_30'"
    )


def parse_age(name: str, text: str) -> int:
    """Return the days that a name holds as its age; numbers beyond all ages stand for one of them.

    Raises ValueError where the pattern of the user found something else.
    """
    if not text.isdecimal():
        raise ValueError(
            f"expected data.format.age with a whole number in its group (?P<age>...), got {text!r} "
            f"in column {name}"
        )
    return min(int(text), _BEYOND_ALL_AGES)
