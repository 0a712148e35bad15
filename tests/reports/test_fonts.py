"""Letters that the usual font lacks are drawn by another one, or spelt, and one line says so."""

import io
import logging
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont

from ltvnet.reports import fonts
from ltvnet.reports.fonts import make_legible, spell

SCRIPT_G = "\N{SCRIPT SMALL G}"
"""A letter that STIX has, which comes with matplotlib, and the usual font has not."""


def figure_of(title: str) -> Figure:
    figure = Figure()
    figure.add_subplot().set_title(title)
    return figure


def draw(figure: Figure) -> None:
    """Draw a figure as a picture: a letter without a font would be a warning, which fails."""
    figure.savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize(
    ("title", "drawn"),
    [
        ("campaign_01", "campaign_01"),
        ("겨울 캠페인 42", "gyeoul kaempein 42"),
        ("カタ", "kata"),
        ("中 \N{FIRE}", "4e2d fire"),
        ("é ß Ж €", "é ß Ж €"),
        ("two\nlines \U000f0000", "two\nlines u+f0000"),
    ],
)
def test_letters_without_a_font_are_spelt(
    title: str, drawn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fonts, "installed_wide_fonts", lambda: [])
    figure = figure_of(title)
    with caplog.at_level(logging.WARNING):
        make_legible([figure, figure_of(title)])
    draw(figure)
    assert figure.axes[0].get_title() == drawn
    assert len(caplog.messages) == (title != drawn)  # for all figures together
    assert all("apt install fonts-nanum" in message for message in caplog.messages)


def test_a_font_that_has_the_letters_draws_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stix = ("STIXGeneral", findfont(FontProperties(family="STIXGeneral")))
    monkeypatch.setattr(fonts, "installed_wide_fonts", lambda: [stix])
    figure = figure_of(f"a{SCRIPT_G}")
    make_legible([figure])
    draw(figure)
    assert figure.axes[0].get_title() == f"a{SCRIPT_G}" and not caplog.messages

    mixed = figure_of(f"울{SCRIPT_G}")
    make_legible([mixed])
    draw(mixed)
    assert mixed.axes[0].get_title() == f"ul{SCRIPT_G}" and len(caplog.messages) == 1


def test_fonts_of_this_machine_are_listed_in_order() -> None:
    names: Sequence[str] = [family for family, _ in fonts.installed_wide_fonts()]
    assert names == [family for family in fonts.WIDE_FONTS if family in names]


@given(st.text(max_size=12))
def test_spelling_leaves_other_letters_alone(text: str) -> None:
    assert spell(text, "") == text
    assert spell(text, text).isascii()
    assert spell(f"{text}x", text.replace("x", "")).endswith("x")
