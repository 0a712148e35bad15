"""Letters in pictures: a font for Hangul, kana and Chinese characters, or their sound in Latin.

A page needs none of this: its figures are text, and browsers have fonts for all letters.
"""

import logging
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, findSystemFonts, fontManager, get_font
from matplotlib.text import Text

log = logging.getLogger(__name__)

WIDE_FONTS = (
    "Noto Sans CJK KR",
    "Noto Sans KR",
    "NanumGothic",
    "NanumBarunGothic",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
    "AppleGothic",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Yu Gothic",
    "Hiragino Sans",
    "Microsoft YaHei",
    "PingFang SC",
    "WenQuanYi Zen Hei",
    "Arial Unicode MS",
)
"""Fonts with Hangul, kana or Chinese characters, those of Korean first."""

FONT_FILES = ("notosanscjk", "notosanskr", "nanum", "malgun", "applesdgothic", "applegothic")
"""Beginnings of the files of such fonts: matplotlib does not notice what was installed lately."""

SHOWN_LETTERS = 8
"""Letters without a font that are named in a warning, at most."""


def make_legible(figures: Iterable[Figure]) -> None:
    """Give texts of figures fonts that have their letters; spell letters that no font has.

    Says in one line of the log which letters these were, and what helps.
    """
    letters_without_font: dict[str, None] = {}  # a set in order
    for figure in figures:
        for text in figure.findobj(Text):
            assert isinstance(text, Text)
            letters_without_font |= dict.fromkeys(_make_text_legible(text))

    if letters_without_font:
        shown = "".join(list(letters_without_font)[:SHOWN_LETTERS])
        log.warning(
            "no installed font has letters such as %s: TensorBoard's pictures spell them in Latin. "
            "Noto Sans CJK or Nanum Gothic has them (Debian: apt install fonts-nanum); report.html "
            "needs no font",
            shown,
        )


def _make_text_legible(text: Text) -> list[str]:
    """Give a text the fonts that it needs. Returns the letters that no font has."""
    letters = {*_letters_of(findfont(text.get_fontproperties())), "\n"}
    missing = [letter for letter in text.get_text() if letter not in letters]
    if not missing:
        return []

    families: list[str] = []
    for family, path in installed_wide_fonts():
        letters = _letters_of(path)
        if not letters.isdisjoint(missing):
            families.append(family)
            missing = [letter for letter in missing if letter not in letters]
    if families:
        usual_families: Sequence[str] = text.get_fontfamily()
        text.set_fontfamily([*usual_families, *families])
    if missing:
        text.set_text(spell(text.get_text(), missing))
    return missing


@cache
def _letters_of(font_path: str) -> set[str]:
    """Return the letters that a font file has."""
    return {chr(code) for code in get_font(font_path).get_charmap()}


@cache
def installed_wide_fonts() -> Sequence[tuple[str, str]]:
    """Return family and file of those of WIDE_FONTS that are installed, in their order."""
    known_files = {font.fname for font in fontManager.ttflist}
    for path in findSystemFonts():
        if Path(path).name.lower().startswith(FONT_FILES) and path not in known_files:
            fontManager.addfont(path)

    installed = {font.name for font in fontManager.ttflist}
    return [
        (family, findfont(FontProperties(family=family)))
        for family in WIDE_FONTS
        if family in installed
    ]


def spell(text: str, letters: Iterable[str]) -> str:
    """Return a text with some letters replaced by the last word of their Unicode name.

    >>> spell("겨울 42", "겨울")
    'gyeoul 42'
    """
    sounds = {}
    for letter in letters:
        name = unicodedata.name(letter, f"U+{ord(letter):X}")
        sounds[letter] = name.replace("-", " ").split()[-1].lower()
    return "".join(sounds.get(letter, letter) for letter in text)
