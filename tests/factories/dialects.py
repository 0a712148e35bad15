"""How people write numbers, dates and names: the texts of one dialect."""

import datetime
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Day = datetime.date

_SWAP = str.maketrans(",.", ".,")
_FULL_WIDTH = str.maketrans("0123456789", "０１２３４５６７８９")

_GERMAN = ("Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September",
           "Oktober", "November", "Dezember")  # fmt: skip
_FRENCH = ("janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre",
           "octobre", "novembre", "décembre")  # fmt: skip
_FIRST_SERIAL = datetime.date(1899, 12, 30)


@dataclass(frozen=True, kw_only=True)
class NumberDialect:
    """How numbers are written.

    `decimal` sign, `thousands` mark between groups of three digits, `currency` of money before or
    behind the digits, `blank` between them, `missing` what stands where nothing is known.
    """

    decimal: Literal[".", ","] = "."
    thousands: str = ""
    currency: str = ""
    is_before: bool = True
    blank: str = ""
    missing: str = ""

    def count(self, number: float) -> str:
        """Write a number of users."""
        return self.decimal_text(number, 0)

    def money(self, number: float | None, digits: int) -> str:
        """Write an amount with so many digits behind the decimal sign; None is unknown."""
        if number is None:
            return self.missing
        text = self.decimal_text(number, digits)
        if not self.currency:
            return text
        parts = (self.currency, text) if self.is_before else (text, self.currency)
        return self.blank.join(parts)

    def percent(self, share: float) -> str:
        """Write a share with a digit behind the decimal sign."""
        return self.decimal_text(100 * share, 1) + self.blank + "%"

    def decimal_text(self, number: float, digits: int) -> str:
        """Write a number without a unit."""
        text = f"{number:,.{digits}f}".replace(",", "\0").replace(".", self.decimal)
        return text.replace("\0", self.thousands)


def _weekday(day: Day) -> str:
    return day.strftime("%A")


DAY_SPELLINGS: Mapping[str, Callable[[Day], str]] = {
    "2025-01-06": lambda day: day.isoformat(),
    "2025-1-6": lambda day: f"{day.year}-{day.month}-{day.day}",
    "2025/01/06": lambda day: day.strftime("%Y/%m/%d"),
    "2025.01.06": lambda day: day.strftime("%Y.%m.%d"),
    "20250106": lambda day: day.strftime("%Y%m%d"),
    "20250106.0": lambda day: day.strftime("%Y%m%d.0"),
    "２０２５-０１-０６": lambda day: day.isoformat().translate(_FULL_WIDTH),
    "2025-01-06 00:00:00": lambda day: f"{day} 00:00:00",
    "2025-01-06T00:00:00.000Z": lambda day: f"{day}T00:00:00.000Z",
    "2025-01-06T00:30:00+09:00": lambda day: f"{day}T00:30:00+09:00",
    "2025년 1월 6일": lambda day: f"{day.year}년 {day.month}월 {day.day}일",
    "2025. 1. 6.": lambda day: f"{day.year}. {day.month}. {day.day}.",
    "2025年1月6日": lambda day: f"{day.year}年{day.month}月{day.day}日",
    "Jan 6, 2025": lambda day: f"{day:%b} {day.day}, {day.year}",
    "January 6 2025": lambda day: f"{day:%B} {day.day} {day.year}",
    "6 Jan 2025": lambda day: f"{day.day} {day:%b} {day.year}",
    "06-Jan-2025": lambda day: day.strftime("%d-%b-%Y"),
    "6-Jan-25": lambda day: f"{day.day}-{day:%b-%y}",
    "2025-Jan-06": lambda day: day.strftime("%Y-%b-%d"),
    "Monday, January 6, 2025": lambda day: f"{_weekday(day)}, {day:%B} {day.day}, {day.year}",
    "6. Januar 2025": lambda day: f"{day.day}. {_GERMAN[day.month - 1]} {day.year}",
    "6 janvier 2025": lambda day: f"{day.day} {_FRENCH[day.month - 1]} {day.year}",
    "06.01.2025": lambda day: day.strftime("%d.%m.%Y"),
    "6.1.2025": lambda day: f"{day.day}.{day.month}.{day.year}",
    "06/01/2025": lambda day: day.strftime("%d/%m/%Y"),
    "06-01-2025": lambda day: day.strftime("%d-%m-%Y"),
    "06.01.25": lambda day: day.strftime("%d.%m.%y"),
    "06/01/25": lambda day: day.strftime("%d/%m/%y"),
    "01/06/2025": lambda day: day.strftime("%m/%d/%Y"),
    "1/6/2025 1:30 PM": lambda day: f"{day.month}/{day.day}/{day.year} 1:30 PM",
    "01/06/25": lambda day: day.strftime("%m/%d/%y"),
    "25/01/06": lambda day: day.strftime("%y/%m/%d"),
    "25.01.06": lambda day: day.strftime("%y.%m.%d"),
    "45663": lambda day: str((day - _FIRST_SERIAL).days),
}
"""Ways to write a day, by how the sixth of January 2025 is written."""

DATE_ORDERS = {"06.01.2025": "dmy", "6.1.2025": "dmy", "06/01/2025": "dmy", "06-01-2025": "dmy",
               "06.01.25": "dmy", "06/01/25": "dmy", "6-Jan-25": "dmy", "01/06/2025": "mdy",
               "1/6/2025 1:30 PM": "mdy", "01/06/25": "mdy", "25/01/06": "ymd",
               "25.01.06": "ymd"}  # fmt: skip
"""Order of day, month and year of spellings that may be another day in another order."""

BETWEEN_DAYS = ("~", " ~ ", " - ", " – ", " to ")
"""Signs between the first and the last day of a range."""

WEEK_SPELLINGS: Mapping[str, Callable[[Day], str]] = {
    "2025-W02": lambda day: "{0.year}-W{0.week:02d}".format(day.isocalendar()),
    "2025W2": lambda day: "{0.year}W{0.week}".format(day.isocalendar()),
}
"""Ways to write the ISO week that begins on a Monday."""

MONTH_SPELLINGS: Mapping[str, Callable[[Day], str]] = {
    "2025-01": lambda day: day.strftime("%Y-%m"),
    "01/2025": lambda day: day.strftime("%m/%Y"),
    "Jan 2025": lambda day: day.strftime("%b %Y"),
    "2025년 1월": lambda day: f"{day.year}년 {day.month}월",
}
"""Ways to write a month."""

NAME_CASES: Mapping[str, Callable[[str], str]] = {
    "as it is": str,
    "capitals": str.upper,
    "small": str.lower,
    "blanks": lambda name: name.replace("_", " ").title(),
    "underscores": lambda name: name.replace(" ", "_"),
    "padded": lambda name: f" {name} ",
    "decomposed": lambda name: unicodedata.normalize("NFD", name),
}
"""Ways to write the name of a column, in letters of either case."""

AGE_PATTERNS: Mapping[str, str] = {
    "day_{}": "",
    "day_{:03d}": "",
    "Day {}": "",
    "D{}": "",
    "d{}": "",
    "{}일차": "",
    "ltv_day_{}": "user",
    "LTV D{}": "user",
    "ARPU Day {}": "user",
    "Revenue D{}": "?",
    "cumulative_revenue_d{}": "?",
    "매출 D{}": "?",
}
"""Names of columns of ages, and whether they are money per user: "" where nothing says so, "?"
where it may be either."""
