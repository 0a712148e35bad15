"""Findings are logged by their severity, and refusals stop."""

import logging

import pytest

from ltvnet.data.findings import (
    Finding,
    format_factor,
    format_list,
    format_word,
    list_names,
    quote_option,
    report_findings,
)


def test_notes_and_warnings_are_logged_and_refusals_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    findings = [
        Finding("note", "spend", "3 cohorts have none"),
        Finding("warning", "level", "x3", "convert it"),
        Finding("refusal", "dates", "1900", "correct them"),
        Finding("refusal", "scale", "x1,350", "set data.scale=any"),
    ]
    with caplog.at_level(logging.INFO), pytest.raises(ValueError, match="1900") as error:
        report_findings(findings)
    assert str(error.value) == "dates: 1900; correct them\nscale: x1,350; set data.scale=any"
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "spend: 3 cohorts have none"),
        ("WARNING", "level: x3; convert it"),
    ]


def test_lists_name_a_few() -> None:
    assert list_names(["a"]) == "a"
    assert list_names("abc") == "a, b, c"
    assert list_names(range(1003)) == "0, 1, 2 and 1,000 more"


@pytest.mark.parametrize(
    ("factor", "text"),
    [(1350.4, "x1,350"), (1 / 1350, "x1/1,350"), (2.54, "x2.5"), (1.0, "x1"), (0.0, "x0")],
)
def test_factors_are_worded(factor: float, text: str) -> None:
    assert format_factor(factor) == text


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("alpha_2024", "alpha_2024"),
        ("x, y", '"x, y"'),
        ("null", '"null"'),
        ("2024", '"2024"'),
        ("봄", '"봄"'),
        ('a"b', '"a\\"b"'),
        ("", '""'),
    ],
)
def test_words_are_quoted_where_they_are_not_plain(text: str, word: str) -> None:
    assert format_word(text) == word


def test_options_can_be_pasted() -> None:
    assert format_list(["Apps", "ROAS D7"]) == '[Apps,"ROAS D7"]'
    assert quote_option("data.hierarchy", "[Apps]") == "'data.hierarchy=[Apps]'"
    assert quote_option("data.renamed", "{a: it's}") == "'data.renamed={a: it'\\''s}'"
