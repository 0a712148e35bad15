"""A page stands alone, says what it was given, and takes nothing in it for markup."""

from html.parser import HTMLParser
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from ltvnet.reports import html
from ltvnet.reports.html import html_table, paragraph, svg_figure

RISKY = """<b>"5" & 'six'</b>"""
EMPTY = {"meta", "br", "path", "use"}


class Checked(HTMLParser):
    """Refuses tags that are not closed, and collects the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img", "iframe", "b")
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        return

    def handle_endtag(self, tag: str) -> None:
        if tag not in EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def text_of(html: str) -> str:
    parser = Checked()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser.text


def test_texts_are_no_markup() -> None:
    assert text_of(paragraph(RISKY)) == RISKY
    assert paragraph("a", "lead") == '<p class="lead">a</p>'
    assert text_of(html_table(RISKY, [RISKY], [[RISKY], ["x"]])) == 3 * RISKY + "x"


def test_a_table_has_a_row_each() -> None:
    assert html_table("found", ["a", "b"], [["1", "2"], ["3", "4"]]) == (
        "<h3>found</h3><table><tr><th>a</th><th>b</th></tr>"
        "<tr><td>1</td><td>2</td></tr><tr><td>3</td><td>4</td></tr></table>"
    )


def test_sections_are_told_apart_by_what_they_have(tmp_path: Path) -> None:
    """Empty ones are left out, unknown ones say so."""
    path = tmp_path / "page.html"
    html.write_html_page(
        path, RISKY, paragraph("top"), {"One": paragraph("1"), "Two": "", "Three": None}
    )
    page = path.read_text()
    text = text_of(page)
    assert text.count(RISKY) == 2  # in the title and in the heading
    assert "Two" not in text
    assert text.index("top") < text.index("One") < text.index("Three")
    assert text.rstrip().endswith("Three" + "There is nothing to show yet.")
    assert "http" not in page and list(tmp_path.iterdir()) == [path]


@rc_context(html.FIGURE_STYLE)
def figure(words: str) -> Figure:
    drawing = Figure()
    drawing.suptitle(words)
    drawing.add_subplot().plot([1, 2])
    return drawing


def test_a_figure_is_words_and_lines_without_addresses() -> None:
    """Also words that would be mathematics, or of which matplotlib has no letters."""
    title = "costs $5$ in \N{CJK UNIFIED IDEOGRAPH-6F22}"
    html = svg_figure(RISKY, figure(title))
    assert title in text_of(html)
    assert "http" not in html and "<metadata" not in html
    assert html.startswith('<figure role="img" aria-label="&lt;b&gt;')
    assert '><svg viewBox="0 0 ' in html and html.endswith("</svg>\n</figure>")


def test_a_figure_is_the_same_each_time() -> None:
    """So that reports can be compared."""
    assert svg_figure("a", figure("x")) == svg_figure("a", figure("x"))
