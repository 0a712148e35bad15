"""One HTML page that says how far a forecast can be trusted: no network, no scripts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from ltvnet.backtesting.leaderboard import Leaderboard
from ltvnet.backtesting.scores import BacktestRecord
from ltvnet.correction.stages import LearnedStages
from ltvnet.forecasting.explanation import Explanation
from ltvnet.forecasting.forecast import Forecast
from ltvnet.reports import figures, html, model_page_sections
from ltvnet.reports.findings import (
    Headline,
    Judgement,
    choose_headline,
    headline_sentence,
    judgements,
    verdict,
)
from ltvnet.reports.html import paragraph, svg_figure

PLAIN_NOTES = {
    "refit=each": "fitted anew for every day",
    "window=expanding": "each fit saw all history before its day",
    "warm=True": "fits started from an earlier one",
}
"""Notes on how it was done in the words of a config, and in plain ones."""

EpochLosses = Mapping[str, Sequence[float]]
"""Losses by epoch of one net: `training`, `validation`."""


@dataclass(frozen=True)
class ReportContent:
    """All that a page is made of.

    `records` past forecasts of each model beside what came true, the first is the one that the
    page is about; `ages` observed ages that were scored exactly; `stages` what was learned by the
    end; `losses` by epoch of each net that was trained, by its name; `forecast` the newest, at
    NODES (None in backtests); `notes` how it was done; `leaderboard` of several models (None: of
    one); `explanation` the forecast taken apart (None: it is not); `model_names` of the models
    that it weighs.
    """

    title: str
    records: Sequence[BacktestRecord]
    ages: Sequence[int]
    stages: LearnedStages | None
    losses: Mapping[str, EpochLosses]
    forecast: Forecast | None
    notes: Sequence[str]
    leaderboard: Leaderboard | None = None
    explanation: Explanation | None = None
    model_names: Sequence[str] = ("model",)

    @property
    def headline(self) -> Headline | None:
        """The forecasts to speak of first; None: nothing has matured."""
        return choose_headline(self.records[0], self.ages) if self.records else None

    @property
    def judgements(self) -> list[Judgement]:
        """Judgements that the verdict rests on; empty: nothing has matured."""
        return judgements(self.records[0], self.headline) if self.records else []


def write_model_page(path: Path, content: ReportContent) -> None:
    """Write the page, whole or not at all."""
    svg = {name: svg_figure(name, figure) for name, figure in page_figures(content).items()}
    board, forecast, explanation = content.leaderboard, content.forecast, content.explanation
    build = model_page_sections
    sections = {
        "How far off were past forecasts?": build.score_section(content.records, content.ages),
        "Which model is the closest?": build.leaderboard_section(board) if board else "",
        "Which days were forecast too high or too low?": svg.get("accuracy by day"),
        "How does the error grow with the horizon?": svg.get("error by horizon"),
        "How did training go?": "".join(svg.get(name, "") for name in _losses_by_figure(content)),
        "Can the intervals be trusted?": _with_note(
            svg.get("coverage"), build.interval_note(content.stages)
        ),
        "What is corrected?": build.correction_section(
            content.stages, content.records, content.model_names
        ),
        "What is forecast?": build.payback_section(forecast) if forecast else "",
        "Why is a forecast high or low?": (
            build.explanation_section(explanation) if explanation else ""
        ),
        "Where was it most wrong?": svg.get("worst cohorts"),
        "Notes": "".join(paragraph(_plain_note(note)) for note in content.notes),
        "How to read this page": _GLOSSARY,
    }
    html.write_html_page(path, content.title, _verdict_html(content), sections)


def _with_note(figure: str | None, note: str) -> str | None:
    """Return a figure with a note below it; None where there is no figure."""
    return None if figure is None else figure + note


def page_figures(content: ReportContent) -> Mapping[str, Figure]:
    """Return the figures of a page by name, those that there are data for."""
    drawn: dict[str, Figure | None] = {}
    headline = content.headline
    if headline is not None:
        record = content.records[0]
        drawn["accuracy by day"] = figures.accuracy_by_day(record)
        drawn["error by horizon"] = figures.error_by_horizon(content.records, content.ages)
        drawn["coverage"] = figures.coverage_by_horizon(record)
        drawn["worst cohorts"] = figures.worst_cohorts(record, headline)
    for name, losses in _losses_by_figure(content).items():
        drawn[name] = figures.error_by_epoch(losses)
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _losses_by_figure(content: ReportContent) -> Mapping[str, EpochLosses]:
    """Return the losses of each net by the name of their figure.

    Out of several models, those of a net are called by its name.
    """
    if len(content.model_names) == 1:
        return dict(zip(["error by epoch"], content.losses.values(), strict=False))
    return {
        f"error by epoch of {net}": {f"{net} {kind}": values for kind, values in losses.items()}
        for net, losses in content.losses.items()
    }


def _verdict_html(content: ReportContent) -> str:
    """Return the top of the page: the headline sentence, the verdict and what it rests on."""
    lead = paragraph(headline_sentence(content.headline), "lead")
    basis = content.judgements
    color, text = verdict(basis)
    items = "".join(f'<li class="{each.color}">{escape(each.text)}</li>' for each in basis)
    body = f"<strong>{text}</strong><ul>{items}</ul>"
    return f'{lead}<div class="verdict {color}">{body}</div>'


def _plain_note(note: str) -> str:
    """Return a note in plain words with the raw ones behind them, where it has any."""
    return f"{PLAIN_NOTES[note]} ({note})" if note in PLAIN_NOTES else note


_GLOSSARY = """<dl><dt>cohort, D180</dt><dd>Users acquired together, and their revenue per user
180 days after acquisition.</dd><dt>error (WAPE)</dt><dd>How far off a single cohort is on average,
in per cent of its revenue; large cohorts count more.</dd><dt>bias</dt><dd>How far off the sum over
all cohorts is; above 0 forecasts were too high.</dd><dt>80 % interval</dt><dd>The range that should
hold the outcomes of four cohorts in five.</dd><dt>pattern</dt><dd>How similar cohorts grew before:
the yardstick that a model has to beat.</dd><dt>best possible, noise floor</dt><dd>The error that is
left to chance: who knew all but the future purchases would still make it.</dd></dl>"""
