"""Numbers as people write them: one text taken apart, and its value under either decimal sign."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

DecimalSign = Literal["point", "comma"]

MISSING_MARKS = frozenset(
    ["", "-", "--", "–", "—", "n/a", "na", "<na>", "null", "none", "nan", "nat", "(blank)"]
)
"""Texts, in small letters, that say that nothing is known."""

_NOT_FINITE = re.compile(r"[-+]?inf(inity)?", re.IGNORECASE)
_SPREADSHEET_ERROR = re.compile(r"#[A-Z]+(/[A-Z0])?[!?]?")

_DOLLARS = ("USD", "CAD", "AUD", "NZD", "SGD", "HKD", "TWD", "MXN", "ARS", "CLP", "COP")

_CURRENCIES: dict[str, tuple[str, ...]] = {
    "$": _DOLLARS,
    "US$": ("USD",),
    "C$": ("CAD",),
    "CA$": ("CAD",),
    "A$": ("AUD",),
    "AU$": ("AUD",),
    "NZ$": ("NZD",),
    "S$": ("SGD",),
    "HK$": ("HKD",),
    "NT$": ("TWD",),
    "MX$": ("MXN",),
    "R$": ("BRL",),
    "€": ("EUR",),
    "£": ("GBP",),
    "¥": ("JPY", "CNY"),
    "円": ("JPY",),
    "元": ("CNY",),
    "₩": ("KRW",),
    "원": ("KRW",),
    "\\": ("KRW", "JPY"),  # what the won and the yen are in cp949 and Shift-JIS
    "₹": ("INR",),
    "Rs": ("INR", "PKR", "LKR", "NPR"),
    "Rs.": ("INR", "PKR", "LKR", "NPR"),
    "₽": ("RUB",),
    "руб": ("RUB",),
    "руб.": ("RUB",),
    "₺": ("TRY",),
    "TL": ("TRY",),
    "₫": ("VND",),
    "đ": ("VND",),
    "฿": ("THB",),
    "₱": ("PHP",),
    "₪": ("ILS",),
    "₴": ("UAH",),
    "₦": ("NGN",),
    "Rp": ("IDR",),
    "RM": ("MYR",),
    "kr": ("SEK", "NOK", "DKK", "ISK"),
    "kr.": ("SEK", "NOK", "DKK", "ISK"),
    "zł": ("PLN",),
    "Kč": ("CZK",),
    "Ft": ("HUF",),
    "lei": ("RON",),
    "Fr.": ("CHF",),
    "SFr.": ("CHF",),
}
"""Signs of currencies, and the codes of the currencies that they may stand for."""

_CURRENCY_CODES = frozenset(
    [code for codes in _CURRENCIES.values() for code in codes]
    + "AED BGN EGP KES KWD MAD PEN QAR RMB SAR UYU ZAR".split()
)

_WITHOUT_MINOR_UNIT = frozenset(["KRW", "JPY", "VND"])
"""Currencies that have no cents: a comma before three digits parts thousands."""

_FULL_WIDTH = {ord("０") + digit: str(digit) for digit in range(10)}
_SAME_SIGNS = dict(zip(map(ord, "．，％＄￥￦￡（）－＋−’‘´"), ".,%$¥₩£()-+-'''", strict=True))
_SPACES = dict.fromkeys([0x09, 0xA0, 0x2007, 0x2009, 0x202F, 0x3000], " ")
_INVISIBLE = dict.fromkeys(
    [0xFEFF, 0x200B, 0x200E, 0x200F, 0x061C, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
)
_PLAIN_SIGNS = {**_FULL_WIDTH, **_SAME_SIGNS, **_SPACES, **_INVISIBLE}

_CELL = re.compile(
    r"(?P<before>(?:[^0-9.,]|(?<=[^\W\d_])\.)*?)"
    r"(?P<body>(?:[0-9][0-9.,' ]*[0-9.,]|[0-9]|[.,][0-9]+)(?:[eE][-+]?[0-9]+)?)"
    r"(?P<after>[^0-9,]*)"
)
_AFFIX = re.compile(r"(?P<marks>[-+() ]*)(?P<word>[^-+() ]*)(?P<more_marks>[-+() ]*)")

_NEGATIVE_MARKS = {("-", ""), ("", "-"), ("(", ")")}
_SIGN_MARKS = {("", ""), ("+", ""), *_NEGATIVE_MARKS}
"""Signs before and after the digits that a number may have."""

_WITH_POINT = re.compile(
    r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"  # plain
    r"|[1-9][0-9]{0,2}(?P<mark>[,' ])[0-9]{3}(?:(?P=mark)[0-9]{3})*(?:\.[0-9]*)?"  # thousands
)
_INDIAN = re.compile(r"[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}(?:\.[0-9]*)?")
_SWAP = str.maketrans(".,", ",.")


class CellExample(NamedTuple):
    """A cell that shows something: its text, and where it stands."""

    text: str
    where: str

    def __str__(self) -> str:
        """Quote the text and say where it stands."""
        return f"{self.text!r} in {self.where}"


@dataclass(frozen=True)
class NumberText:
    """A number's text taken apart.

    `body` its digits with the signs between them, `is_negative`, `is_percent`, and `currency`: the
    sign or code as it stands there, "" where there is none.
    """

    body: str
    is_negative: bool = False
    is_percent: bool = False
    currency: str = ""

    def value(self, decimal: DecimalSign) -> float | None:
        """Return the number under a decimal sign, percent divided by 100; None where it is none."""
        body = self.body if decimal == "point" else self.body.translate(_SWAP)
        is_indian = decimal == "point" and _INDIAN.fullmatch(body)
        if not _WITH_POINT.fullmatch(body) and not is_indian:
            return None

        has_exponent = "e" in body.lower()
        if has_exponent and (self.is_percent or self.currency):
            return None
        digits = body.replace(",", "").replace("'", "").replace(" ", "")
        number = float(digits + "e-2") if self.is_percent else float(digits)
        if number == float("inf"):
            return None
        return -number if self.is_negative else number

    def readings(self) -> dict[DecimalSign, float]:
        """Return the values under each decimal sign under which it is a number.

        A currency without cents leaves one reading to digits that a comma parts in thousands.
        """
        signs: tuple[DecimalSign, ...] = ("point", "comma")
        values = {sign: self.value(sign) for sign in signs}
        has_cents = not _WITHOUT_MINOR_UNIT.issuperset(currency_codes(self.currency) or ("",))
        if not has_cents and values["point"] is not None and "," in self.body:
            values["comma"] = None
        return {sign: value for sign, value in values.items() if value is not None}


def plain_text(text: str) -> str:
    """Write a text with plain digits, signs and spaces, without invisible marks and outer blanks.

    >>> plain_text("\\u2212１\\u202f２３４，５ ")
    '-1 234,5'
    """
    return text.translate(_PLAIN_SIGNS).strip()


def is_missing_mark(text: str) -> bool:
    """Return whether a text says that nothing is known, such as "", "-" or "N/A"."""
    return plain_text(text).casefold() in MISSING_MARKS


def is_number_fault(text: str) -> bool:
    """Return whether a text stands where a computation of a number failed: "#DIV/0!", "inf"."""
    plain = plain_text(text)
    return bool(_NOT_FINITE.fullmatch(plain) or _SPREADSHEET_ERROR.fullmatch(plain))


def currency_codes(currency: str) -> tuple[str, ...]:
    """Return the codes of the currencies that a sign or a code may stand for; () for no currency.

    >>> currency_codes("¥"), currency_codes("eur"), currency_codes("users")
    (('JPY', 'CNY'), ('EUR',), ())
    """
    if currency in _CURRENCIES:
        return _CURRENCIES[currency]
    code = currency.upper()
    if code not in _CURRENCY_CODES:
        return ()
    return ("CNY",) if code == "RMB" else (code,)


@lru_cache(maxsize=1 << 16)
def take_apart(text: str) -> NumberText | None:
    """Take a text apart as a number under any decimal sign; None where it is none.

    >>> take_apart("($1,234.50)")
    NumberText(body='1,234.50', is_negative=True, is_percent=False, currency='$')
    >>> take_apart("12,5 %")
    NumberText(body='12,5', is_negative=False, is_percent=True, currency='')
    """
    match = _CELL.fullmatch(plain_text(text))
    if not match:
        return None
    before = _AFFIX.fullmatch(match["before"])
    after = _AFFIX.fullmatch(match["after"])
    if not before or not after:
        return None

    marks_before = (before["marks"] + before["more_marks"]).replace(" ", "")
    marks_after = (after["marks"] + after["more_marks"]).replace(" ", "")
    if (marks_before, marks_after) not in _SIGN_MARKS:
        return None

    words = [word for word in (before["word"], after["word"]) if word]
    currencies = [word for word in words if currency_codes(word)]
    percents = words.count("%")
    has_one_unit = not (percents and currencies) and percents < 2
    if len(currencies) + percents < len(words) or not has_one_unit:
        return None
    if len(currencies) == 2 and not common_currencies(currencies):
        return None

    number = NumberText(
        body=match["body"],
        is_negative=(marks_before, marks_after) in _NEGATIVE_MARKS,
        is_percent=bool(percents),
        currency=min(currencies, key=lambda word: len(currency_codes(word)), default=""),
    )
    return number if number.readings() else None


def common_currencies(words: list[str]) -> set[str]:
    """Return the codes of the currencies that all of the signs and codes may stand for.

    >>> common_currencies(["$", "USD"]), common_currencies(["$", "€"])
    ({'USD'}, set())
    """
    return set.intersection(*(set(currency_codes(word)) for word in words))
