"""Numbers are worded alike in every report."""

import pytest

from ltvnet.reports import wording

UNKNOWN_NUMBER = float("nan")


@pytest.mark.parametrize(
    ("share", "exact", "words"),
    [
        (0.172, False, "17 %"),
        (0.172, True, "17.2 %"),
        (-0.0301, False, "3.0 %"),
        (0.0996, False, "10 %"),
        (float("nan"), False, "–"),
    ],
)
def test_shares_are_written_for_reading(share: float, exact: bool, words: str) -> None:  # noqa: FBT001
    assert wording.percent(share, exact=exact) == words


def test_a_direction_is_said() -> None:
    assert wording.bias_in_words(0.25) == "25 % too high"
    assert wording.bias_in_words(-0.021) == "2.1 % too low"
    assert wording.bias_in_words(0.0004) == "neither too high nor too low"


@pytest.mark.parametrize("nothing", [0.0, -0.0, 0.0001, -0.0001])
def test_what_rounds_to_zero_has_no_sign_in_any_report(nothing: float) -> None:
    shares = (0.25, -0.021, nothing)
    assert [wording.signed_percent(x) for x in shares] == ["+25 %", "−2.1 %", "0.0 %"]
    assert [wording.exact_signed_percent(x) for x in shares] == ["+25.0 %", "−2.1 %", "0.0 %"]
    assert [wording.terminal_signed_percent(x, 0) for x in shares] == ["+25%", "-2%", "0%"]
    assert [wording.fixed_signed_percent(x, 1) for x in shares] == ["+25.0 %", "-2.1 %", "0.0 %"]


def test_percentages_of_a_terminal_are_short() -> None:
    assert wording.terminal_percent(0.1234) == "12.3%"
    assert wording.terminal_signed_percent(0.1234, 0) == "+12%"
    assert wording.fixed_percent(0.2, 2) == "20.00 %"
    assert wording.fixed_signed_percent(-0.1, 1) == "-10.0 %"


def test_counts_have_separators_and_nouns() -> None:
    assert wording.count(1200) == "1,200"
    assert wording.count_with_noun(1200, "day") == "1,200 days"
    assert wording.count_with_noun(1, "day") == "1 day"


def test_money_has_cents_below_a_hundred() -> None:
    assert [wording.amount(x) for x in (1234.5, 12.345, 3.0)] == ["1,234", "12.35", "3"]
    assert [wording.signed_amount(x) for x in (12.5, -3.0, 0.001)] == ["+12.50", "−3", "0"]


def test_what_nobody_knows_is_a_dash() -> None:
    functions = (
        wording.percent,
        wording.signed_percent,
        wording.exact_signed_percent,
        wording.ratio,
        wording.count,
        wording.seconds,
        wording.amount,
    )
    assert {function(UNKNOWN_NUMBER) for function in functions} == {wording.UNKNOWN}
