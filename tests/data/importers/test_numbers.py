"""Numbers of any dialect: the value that was written, or a refusal, never another value."""

from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltvnet.data.importers.number_texts import DecimalSign
from ltvnet.data.importers.numbers import NumberEvidence, NumberFormat, looks_numeric


def parse(decimal: DecimalSign, *texts: str | None) -> list[float]:
    """The numbers of cells of which each is readable."""
    values, is_unreadable = NumberFormat(decimal).parse(pa.array(texts, pa.string()))
    assert not is_unreadable.any(), [texts[row] for row in np.flatnonzero(is_unreadable)]
    return values.tolist()


def unreadable_texts(decimal: DecimalSign, texts: Sequence[str]) -> list[str]:
    values, is_unreadable = NumberFormat(decimal).parse(pa.array(texts))
    assert np.isnan(values[is_unreadable]).all()
    return [text for text, is_marked in zip(texts, is_unreadable, strict=True) if is_marked]


def evidence_of(*texts: str, where: str = "a.csv, column day_3") -> NumberEvidence:
    evidence = NumberEvidence()
    evidence.add(pa.array(texts), where)
    return evidence


POINT = {
    "0.1": 0.1,
    "5.": 5,
    ".5": 0.5,
    "+5": 5,
    "1e5": 1e5,
    "1.5E-05": 1.5e-5,
    "1,204": 1204,
    "1,234,567.89": 1234567.89,
    "1'234.5": 1234.5,
    "1’234.5": 1234.5,
    "1 234.5": 1234.5,
    "1\u00a0234.5": 1234.5,
    "1\u202f234\u202f567": 1234567,
    "1,23,456.78": 123456.78,
    "$3": 3,
    "$ 3.50": 3.5,
    "-$3": -3,
    "$-3": -3,
    "US$3": 3,
    "3 USD": 3,
    "usd 3": 3,
    "$3 USD": 3,
    "₩1,234": 1234,
    "￦1,234": 1234,
    "1,234원": 1234,
    "￥1,234": 1234,
    "1,234円": 1234,
    "12元": 12,
    "₹1,23,456": 123456,
    "R$ 5": 5,
    "Rs. 5": 5,
    "CHF 1'234.50": 1234.5,
    "12.3%": 0.123,
    "12.3 %": 0.123,
    "%35": 0.35,
    "(1,234)": -1234,
    "($1,234.50)": -1234.5,
    "$(5)": -5,
    "(5%)": -0.05,
    "1,234-": -1234,
    "−5": -5,
    "１，２３４．５": 1234.5,
    "\ufeff7": 7,
    " 7 ": 7,
}
COMMA = {
    "12,50": 12.5,
    "0,1": 0.1,
    "5,": 5,
    "1.204": 1204,
    "1.234.567,89": 1234567.89,
    "1 234,5": 1234.5,
    "1'234,5": 1234.5,
    "1.234,50 €": 1234.5,
    "€ 1.234,50": 1234.5,
    "1 234,50 kr": 1234.5,
    "kr. 1.234,50": 1234.5,
    "1.234,50 kr.": 1234.5,
    "1.234,50 zł": 1234.5,
    "R$ 1.234,50": 1234.5,
    "1.234,50 EUR": 1234.5,
    "12,3 %": 0.123,
    "1,5E-05": 1.5e-5,
    "-1.234,5": -1234.5,
    "(0,061)": -0.061,
    "1204": 1204,
}
MISSING = ["", " ", "-", "–", "—", "−"]
MISSING += ["N/A", "NA", "n/a", "null", "NULL", "None", "nan", "NaN", "(blank)"]
UNREADABLE = [
    "#DIV/0!", "#REF!", "#N/A", "#VALUE!", "inf", "-inf", "Infinity", "1e400", "Total", "1.2.3",
    "--5", "(-5)", "-(5", "(5", "5)", "-5-", "1e5%", "$5%", "$5 €", "5 users", "12.05.2024",
    "2024-01-05", "2025-01-06 00:00:00", "$ -", ".", ",", "%", "$", "1_000", "0x10", "1 5", "10²",
    "12 34", "1,2,3", "1,,234", "1e", "e5", "½", "①", "nan(5)", "1,234'567", "5 %%", "-",
][:-1]  # fmt: skip


@pytest.mark.parametrize(("text", "number"), POINT.items())
def test_numbers_with_a_decimal_point(text: str, number: float) -> None:
    assert parse("point", text) == [number]


@pytest.mark.parametrize(("text", "number"), COMMA.items())
def test_numbers_with_a_decimal_comma(text: str, number: float) -> None:
    assert parse("comma", text) == [number]


def test_cells_may_be_of_any_dialect_side_by_side() -> None:
    """A cell is the same number beside others, in any order, as alone."""
    assert parse("point", *POINT) == list(POINT.values())
    assert parse("comma", *COMMA, *reversed(COMMA)) == [*COMMA.values(), *reversed(COMMA.values())]


@pytest.mark.parametrize("decimal", ["point", "comma"])
def test_missing_cells_are_empty(decimal: DecimalSign) -> None:
    assert np.isnan(parse(decimal, None, *MISSING)).all()
    assert np.isnan(parse(decimal, None)).all()
    assert parse(decimal) == []


@pytest.mark.parametrize("decimal", ["point", "comma"])
def test_what_is_no_number_is_unreadable(decimal: DecimalSign) -> None:
    assert unreadable_texts(decimal, UNREADABLE) == UNREADABLE
    assert unreadable_texts(decimal, ["7", *UNREADABLE, "-"]) == UNREADABLE
    for text in UNREADABLE:
        assert unreadable_texts(decimal, [text]) == [text]


@pytest.mark.parametrize(
    ("decimal", "text"),
    [
        ("point", "12,50"),
        ("point", "1.234,5"),
        ("point", "1.234.567"),
        ("point", "0,123"),
        ("point", "1234,567"),
        ("comma", "1.5"),
        ("comma", "1,234.5"),
        ("comma", "1,234,567"),
        ("comma", "0.123"),
        ("comma", "1.23.456"),
        ("comma", "1,23,456"),
    ],
)
def test_the_other_decimal_sign_is_unreadable(decimal: DecimalSign, text: str) -> None:
    assert unreadable_texts(decimal, [text, "1"]) == [text]


def test_chunks_and_types_of_text_change_nothing() -> None:
    texts = ["0.1", None, "1,204", "x", "", "7"]
    whole, _ = NumberFormat("point").parse(pa.array(texts))
    for cells in (
        pa.chunked_array([texts[:2], texts[2:2], texts[2:]], pa.string()),
        pa.array(["?", *texts]).slice(1),
        pa.array(texts, pa.large_string()),
        pa.array(texts).dictionary_encode(),
    ):
        values, is_unreadable = NumberFormat("point").parse(cells)
        np.testing.assert_array_equal(values, whole)
        assert is_unreadable.tolist() == [False, False, False, True, False, False]


def test_a_cell_that_is_not_plain_stands_anywhere_in_a_long_column() -> None:
    texts = [f"{number}.25" for number in range(200_000)]
    texts[70_000] = "1,234.5"
    texts[150_000] = "Total"
    values, is_unreadable = NumberFormat("point").parse(pa.array(texts))
    assert values[[69_999, 70_000, 70_001]].tolist() == [69999.25, 1234.5, 70001.25]
    assert np.flatnonzero(is_unreadable).tolist() == [150_000]


@pytest.mark.parametrize(
    ("texts", "decimal"),
    [
        (["0.061"], "point"),
        (["1.234", "12.5"], "point"),
        (["1,204", "0.061"], "point"),
        (["1,204", "12.50"], "point"),
        (["1,234.5"], "point"),
        (["1,234,567"], "point"),
        (["1,23,456"], "point"),
        (["$1.5"], "point"),
        (["₩1,234"], "point"),
        (["1,234원"], "point"),
        (["12,50"], "comma"),
        (["1.204", "12,50"], "comma"),
        (["1.234,5"], "comma"),
        (["1.234.567"], "comma"),
        (["12,5 %"], "comma"),
        (["1.204", "-", "0,061"], "comma"),
        (["1", "23", "1 234", "1'234"], "point"),
        ([], "point"),
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t", None])
def test_one_cell_decides_for_all(
    texts: list[str], decimal: DecimalSign, separator: str | None
) -> None:
    assert evidence_of(*texts).decide(separator) == NumberFormat(decimal)
    assert evidence_of(*reversed(texts)).decide(separator) == NumberFormat(decimal)

    by_block = NumberEvidence()
    for text in texts:
        by_block.add(pa.array([text]), "b.csv")
    assert by_block.decide(separator) == NumberFormat(decimal)


@pytest.mark.parametrize(
    ("text", "point", "comma"),
    [("1.234", "1.234", "1234"), ("1,204", "1204", "1.204"), ("$-2.500", "-2.5", "-2500")],
)
def test_two_readings_are_refused(text: str, point: str, comma: str) -> None:
    evidence = evidence_of("7", text, "-", text)
    with pytest.raises(ValueError) as caught:
        evidence.decide(";")
    assert str(caught.value) == (
        f"'{text}' in a.csv, column day_3 can be {point} or {comma}, and no other cell tells "
        f"which; set data.format.decimal=point for {point}, or data.format.decimal=comma for "
        f"{comma}"
    )
    for decimal in ("point", "comma"):
        assert evidence.decide(";", decimal) == NumberFormat(decimal)


def test_a_dot_is_the_decimal_sign_between_commas() -> None:
    assert evidence_of("1.234").decide(",") == NumberFormat("point")
    assert evidence_of("1.234", "1,204").decide(",") == NumberFormat("point")
    assert evidence_of("1.234", "12,50").decide(",") == NumberFormat("comma")
    with pytest.raises(ValueError, match="can be 1204 or 1.204"):
        evidence_of("1,204").decide(",")


@pytest.mark.parametrize(
    ("with_point", "with_comma"),
    [("1.5", "1,5"), ("1,234.5", "0,061"), ("7.25", "1.234.567"), ("$1.5", "12,5 €")],
)
def test_contradictions_are_refused_with_both_cells(with_point: str, with_comma: str) -> None:
    evidence = NumberEvidence()
    evidence.add(pa.array(["7", with_comma]), "a.csv, column Spend")
    evidence.add(pa.array([with_point]), "b.csv, column day_0")
    evidence.currencies.clear()
    with pytest.raises(ValueError) as caught:
        evidence.decide(",")
    assert f"{with_point!r} in b.csv, column day_0 has a decimal point" in str(caught.value)
    assert f"{with_comma!r} in a.csv, column Spend a decimal comma" in str(caught.value)


def test_what_stands_beside_the_numbers_is_counted() -> None:
    evidence = evidence_of("$1.5", "$2.5", "3 USD", "35.5%", "N/A", "N/A", " - ", "–", "", "nan")
    assert evidence.currencies == {"$": 2, "USD": 1}
    assert evidence.missing_marks == {"N/A": 2, "-": 1, "–": 1, "nan": 1}
    assert evidence.percents == 1
    assert evidence.decide(";") == NumberFormat("point")


@pytest.mark.parametrize(
    "texts",
    [["$1.5", "1.5 USD"], ["¥15", "15円"], ["¥15", "15元"], ["kr 5", "5 SEK"], ["€1", "2EUR"]],
)
def test_signs_and_codes_of_one_currency_go_together(texts: list[str]) -> None:
    evidence = evidence_of(*texts)
    assert evidence.decide(None) == NumberFormat("point")
    assert len(evidence.currencies) == 2


@pytest.mark.parametrize(
    "texts", [["$1.5", "1.5 €"], ["円15", "15元"], ["$5", "5 USD", "5 CAD"], ["5 EUR", "CHF 5"]]
)
def test_two_currencies_are_refused(texts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"one currency, got .+ in 1 cells, .+ in 1 cells"):
        evidence_of(*texts).decide(None)


def test_the_sign_is_settled_by_the_first_cell_that_decides() -> None:
    evidence = evidence_of("1.234")
    assert evidence.decided_sign is None
    evidence.add(pa.array(["0.061"]), "b.csv")
    assert evidence.decided_sign == "point"


def test_texts_that_stand_where_numbers_do() -> None:
    numeric = [*POINT, *COMMA, *MISSING, "#DIV/0!", "#N/A", "inf", "-Infinity"]
    assert looks_numeric(numeric).all()
    texts = ["KR", "campaign_7", "2024-01-05", "1.2.3", "7 days", "US", "iOS 17", "D7", "EUR", "#1"]
    assert not looks_numeric(texts).any()


AMOUNTS = st.one_of(
    [st.decimals(-bound, bound, allow_nan=False, places=4) for bound in (10, 10_000, 10_000_000)]
)


def group_digits(digits: str, mark: str) -> str:
    head = len(digits) % 3
    groups = [digits[:head]] * bool(head)
    groups += [digits[place : place + 3] for place in range(head, len(digits), 3)]
    return mark.join(groups)


@st.composite
def dialects(draw: st.DrawFn) -> tuple[list[str], list[float]]:
    """Amounts written in one dialect, and the doubles nearest to them."""
    decimal = draw(st.sampled_from(".,"))
    groups = [mark for mark in ["", ",", ".", "'", " ", "\u00a0", "\u202f"] if mark != decimal]
    group = draw(st.sampled_from(groups))
    places = draw(st.integers(0, 4))
    minus = draw(st.sampled_from(["-{}", "−{}", "({})", "{}-"]))
    units = ["{}", "${}", "{} €", "{} kr", "{}%", "CHF {}"]
    if decimal == ".":
        units.append("₩{}")  # has no cents: a comma in it parts thousands
    unit = draw(st.sampled_from(units))

    texts, values = [], []
    for amount in draw(st.lists(AMOUNTS, min_size=1, max_size=6)):
        rounded = round(amount, places)
        whole, _, fraction = f"{abs(rounded):f}".partition(".")
        text = group_digits(whole, group) + (decimal + fraction if fraction else "")
        text = unit.format(text)
        texts.append(minus.format(text) if rounded < 0 else text)
        values.append(float(rounded / 100 if "%" in unit else rounded))
    return texts, values


@given(dialects(), st.sampled_from([";", "\t", None]))
def test_numbers_come_back_or_are_refused(
    written: tuple[list[str], list[float]], separator: str | None
) -> None:
    """Reading a dialect gives the numbers that were written, or asks."""
    texts, values = written
    try:
        number_format = evidence_of(*texts).decide(separator)
    except ValueError as error:
        assert "no other cell tells which" in str(error)
        return
    got, is_unreadable = number_format.parse(pa.array(texts))
    assert not is_unreadable.any()
    assert got.tolist() == values


@given(st.lists(st.text("0123456789.,'-+() $€%eE№a", max_size=8), max_size=5))
def test_any_text_is_read_alike_alone_and_together(texts: list[str]) -> None:
    """Neither the neighbours of a cell nor the block that it stands in change what it is."""
    for decimal in ("point", "comma"):
        number_format = NumberFormat(decimal)
        together, is_unreadable = number_format.parse(pa.array(texts, pa.string()))
        for row, text in enumerate(texts):
            value, mark = number_format.parse(pa.array([text]))
            np.testing.assert_array_equal(value, together[[row]])
            assert mark == is_unreadable[row]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_plain_number_is_the_nearest_double(number: float) -> None:
    assert parse("point", repr(number)) == [number]
    assert parse("point", f"{Decimal(repr(number)):f}") == [number]
    assert parse("comma", repr(number).replace(".", ",")) == [number]
