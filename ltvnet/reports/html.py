"""HTML of the reports: one page that stands alone, without network and scripts."""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.figure import Figure

from ltvnet.storage import atomic_write

FIGURE_STYLE: Any = {
    "text.parse_math": False,  # a campaign may have dollars in its name
    "svg.fonttype": "none",
    "svg.hashsalt": "ltvnet",
    "font.size": 9,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e4e7ea",
}
"""Settings of matplotlib that all figures of the reports share."""


def write_html_page(path: Path, title: str, top: str, sections: Mapping[str, str | None]) -> None:
    """Write a page, whole or not at all: `top` below the title, then sections by their heading.

    Empty sections are left out; of those that are None the page says that there is nothing yet.
    """
    nothing_yet = paragraph("There is nothing to show yet.")
    shown_sections = []
    for heading, section_html in sections.items():
        if section_html == "":
            continue
        content = nothing_yet if section_html is None else section_html
        shown_sections.append(f"<section><h2>{heading}</h2>{content}</section>")

    body = "\n".join(shown_sections)
    page = _PAGE.format(body=body, title=escape(title), style=_STYLE, top=top)
    with atomic_write(path) as temporary_path:
        temporary_path.write_text(page, encoding="utf-8")


def paragraph(text: str, css_class: str = "") -> str:
    """Return a paragraph of a style class of the page, its text escaped."""
    return f'<p class="{css_class}">{escape(text)}</p>'


def html_table(finding: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table under the finding that it shows, all texts escaped."""
    head_html = _table_row("th", head)
    body_html = "".join(_table_row("td", row) for row in rows)
    return f"<h3>{escape(finding)}</h3><table>{head_html}{body_html}</table>"


def _table_row(tag: Literal["th", "td"], cells: Sequence[str]) -> str:
    """Return a row of cells in a tag."""
    cells_html = "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)
    return f"<tr>{cells_html}</tr>"


def svg_figure(name: str, figure: Figure) -> str:
    """Return a figure as the page holds it: SVG without addresses, `name` for screen readers."""
    buffer = io.StringIO()
    with rc_context(FIGURE_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # browsers have more fonts than matplotlib
        figure.savefig(buffer, format="svg")

    text = buffer.getvalue()
    svg = text[text.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'<svg .*?viewBox="(.*?)".*?>', r'<svg viewBox="\1">', svg, count=1, flags=re.DOTALL
    )
    return f'<figure role="img" aria-label="{escape(name)}">{svg}</figure>'


_STYLE = """:root { color-scheme: light } * { box-sizing: border-box }
body { font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: #1f2933;
  background: #f5f6f8; margin: 0 } main { max-width: 1080px; margin: 0 auto; padding: 24px }
header, section { background: #fff; overflow-x: auto; border: 1px solid #e1e5ea; border-radius: 8px;
  padding: 18px 26px; margin: 0 0 18px } h1, h2 { font-size: 15px; color: #52606d; margin: 0 0 8px }
h3 { font-size: 16px; margin: 12px 0 6px } .lead { font-size: 20px; line-height: 1.4 }
.verdict { border-left: 6px solid; border-radius: 4px; padding: 10px 16px; background: #f5f6f8 }
.verdict strong { font-size: 18px } ul { list-style: none; margin: 6px 0 0; padding: 0 }
li::before { content: "\\25CF"; margin-right: 8px; color: #1a7f4b } .green { border-color: #1a7f4b }
.grey { border-color: #9aa5b1 } .amber { border-color: #b7791f } .red { border-color: #b42318 }
li.amber::before { color: #b7791f } li.red::before { color: #b42318 } dt { font-weight: 600 }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant: tabular-nums }
th, td { text-align: right; padding: 4px 8px; border-bottom: 1px solid #e9ecef }
th { color: #52606d; vertical-align: bottom } th:first-child, td:first-child { text-align: left }
td { white-space: nowrap } svg { width: 100%; display: block } figure, dd, p { margin: 6px 0 12px }
@media (max-width: 700px) { main { padding: 8px } header, section { padding: 12px }
  .lead { font-size: 17px } svg { min-width: 640px } td { padding: 4px 6px } }
@page { size: A4 landscape; margin: 12mm }
@media print { body { background: #fff; font-size: 12px } main { padding: 0; max-width: none }
  header, section { border: 0; padding: 6px 0; overflow: visible } table { font-size: 10.5px }
  td { white-space: normal } th, td { padding: 2px 5px } tr, header, figure { break-inside: avoid }
  svg { min-width: 0 } h2, h3 { break-after: avoid } * { print-color-adjust: exact } }"""

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>
<body><main><header><h1>{title}</h1>{top}</header>
{body}</main></body></html>
"""
