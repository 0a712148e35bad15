"""One HTML page that says how far a forecast can be trusted: no network, no scripts.

Shapes: N cohorts, E past forecasts, I intervals between nodes, B buckets of observed age.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise, product
from pathlib import Path
from textwrap import shorten

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ltvnet import metrics
from ltvnet.backtesting.leaderboard import Leaderboard
from ltvnet.backtesting.scores import (
    HORIZONS,
    BacktestRecord,
    as_pattern_forecast,
    bias_of_cells,
    cells_at_age,
    coverage_with_error,
    irreducible_wape,
    is_pattern_forecast,
    wape_of_cells,
)
from ltvnet.correction.stages import LearnedStages
from ltvnet.data.curves import MAX_AGE, NODES
from ltvnet.forecasting.explanation import TERMS, Explanation
from ltvnet.forecasting.forecast import AGE_BUCKETS, Forecast, age_bucket
from ltvnet.forecasting.interpolation import interval_growth
from ltvnet.reports import figures as draw
from ltvnet.reports import html, leaderboard_tables
from ltvnet.reports.findings import (
    NO_REVENUE,
    Headline,
    Judgement,
    choose_headline,
    headline_sentence,
    judgements,
    verdict,
)
from ltvnet.reports.html import html_table, paragraph, svg_figure
from ltvnet.reports.leaderboard_tables import LEADERBOARD_LEGEND
from ltvnet.reports.wording import count_with_noun, percent

ROLLUP_ROWS = 15  # rows of the roll-up
EXPLAINED_COHORTS = 6  # cohorts whose forecast is explained
PLAIN_NOTES = {
    "refit=each": "fitted anew for every day",
    "window=expanding": "each fit saw all history before its day",
    "warm=True": "fits started from an earlier one",
}
AGE_BUCKET_LABELS = [f"{low}-{high - 1}" for low, high in pairwise((*AGE_BUCKETS, MAX_AGE))]


@dataclass(frozen=True)
class ReportContent:
    """What a page tells.

    `records` past forecasts of each model beside what came true, the first is the one that the
    page is about; `ages` observed ages that were scored exactly; `stages` what was learned by the
    end; `losses` by epoch of each net that was trained, by its name; `forecast` the newest, at
    NODES (None in backtests); `notes` how it was done; `board` of several models (None: of one);
    `explained` the forecast taken apart (None: it is not); `names` of the models that it weighs.
    """

    title: str
    records: Sequence[BacktestRecord]
    ages: Sequence[int]
    stages: LearnedStages | None
    losses: Mapping[str, Mapping[str, Sequence[float]]]
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
        """What the verdict rests on."""
        return judgements(self.records[0], self.headline) if self.records else []


def write_model_page(path: Path, story: ReportContent) -> None:
    """Write the page, whole or not at all."""
    drawn = {name: svg_figure(name, figure) for name, figure in page_figures(story).items()}
    sections = {
        "How far off were past forecasts?": _scores(story),
        "Which model is the closest?": _leaderboard(story.leaderboard)
        if story.leaderboard is not None
        else "",
        "Which days were forecast too high or too low?": drawn.get("accuracy by day"),
        "How does the error grow with the horizon?": drawn.get("error by horizon"),
        "How did training go?": "".join(drawn.get(name, "") for name in _epochs(story)),
        "Can the intervals be trusted?": drawn.get("coverage"),
        "What is corrected?": _corrections(story),
        "What is forecast?": _rollup(story.forecast) if story.forecast is not None else "",
        "Why is a forecast high or low?": _explained(story.explanation)
        if story.explanation
        else "",
        "Where was it most wrong?": drawn.get("worst cohorts"),
        "Notes": "".join(paragraph(_note(note)) for note in story.notes),
        "How to read this page": _GLOSSARY,
    }
    html.write_html_page(path, story.title, _top(story), sections)


def page_figures(story: ReportContent) -> Mapping[str, Figure]:
    """The figures of a page by name, those that there are data for."""
    made: dict[str, Figure | None] = {}
    if (found := story.headline) is not None:
        record = story.records[0]
        made = {
            "accuracy by day": draw.accuracy_by_day(record),
            "error by horizon": draw.error_by_horizon(story.records, story.ages),
            "coverage": draw.coverage_by_horizon(record),
            "worst cohorts": draw.worst_cohorts(record, found),
        }
    made |= {name: draw.error_by_epoch(losses) for name, losses in _epochs(story).items()}
    return {name: figure for name, figure in made.items() if figure is not None}


def _epochs(story: ReportContent) -> Mapping[str, Mapping[str, Sequence[float]]]:
    """The losses of each net by the name of their figure; out of several models, under its own."""
    if len(story.model_names) == 1:
        return dict(zip(["error by epoch"], story.losses.values(), strict=False))
    return {
        f"error by epoch of {net}": {f"{net} {part}": values for part, values in losses.items()}
        for net, losses in story.losses.items()
    }


def _top(story: ReportContent) -> str:
    light = verdict(found := story.judgements)
    checks = "".join(f'<li class="{x.color}">{escape(x.text)}</li>' for x in found)
    words = f"<strong>{light.text}</strong><ul>{checks}</ul>"
    lead = paragraph(headline_sentence(story.headline), "lead")
    return f'{lead}<div class="verdict {light.color}">{words}</div>'


def _note(note: str) -> str:
    """How it was done, in plain words with the raw ones behind them where it has any."""
    return f"{PLAIN_NOTES[note]} ({note})" if note in PLAIN_NOTES else note


def _scores(story: ReportContent) -> str | None:
    """Error, bias and coverage by observed age and horizon, models beside the pattern."""
    shown = [record for record in story.records if not is_pattern_forecast(record)]
    first, rows, gaps = story.records[:1], [], []
    for age, horizon in product(story.ages if first else (), HORIZONS):
        if not len(c := cells_at_age(first[0], "final", age, horizon)):
            continue
        each = [
            *(cells_at_age(record, "final", age, horizon) for record in shown),
            as_pattern_forecast(c),
        ]
        gaps.append(wape_of_cells(each[0]) - wape_of_cells(as_pattern_forecast(c)))
        errors = [
            percent(error, exact=True) for error in (*map(wape_of_cells, each), irreducible_wape(c))
        ]
        signed = [
            _signed(bias_of_cells(x))
            for x in ((c, as_pattern_forecast(c))[is_pattern_forecast(first[0]) :])
        ]
        held = percent(coverage_with_error(c)[0])
        rows.append([f"D{age}", f"D{horizon}", f"{len(c):,}", *errors, *signed, held])
    if not rows:
        return None
    names = [*(record.name for record in shown), "pattern alone"]
    less, more = (sum(sign * gap > 1e-9 for gap in gaps) for sign in (-1, 1))
    cases = count_with_noun(len(rows), "case")
    said = f"{names[0]} was closer than the pattern in {less} of {cases}, worse in {more}"
    biased = [names[0], names[-1]]
    if is_pattern_forecast(first[0]):
        said, biased = "How far off the pattern alone was", names[-1:]
    if not np.isfinite(gaps).any():
        said = NO_REVENUE
    head = ["made on", "horizon", "cohorts", *(f"error: {name}" for name in names)]
    head += ["best possible", *(f"bias: {name}" for name in biased), "80 % interval held"]
    return html_table(said, head, rows)


def _signed(share: float) -> str:
    sign = "" if not np.isfinite(share) else "+" if share > 0 else "\N{MINUS SIGN}"
    return sign + percent(share)


def _leaderboard(board: Leaderboard) -> str:
    """Models by score, and their errors by observed age and horizon."""
    summary = leaderboard_tables.summary_table(board)
    tables = [
        (leaderboard_tables.state_finding(board), *summary),
        *leaderboard_tables.error_tables(board),
    ]
    return "".join(html_table(*one) for one in tables) + paragraph(LEADERBOARD_LEGEND)


def _corrections(story: ReportContent) -> str | None:
    """What is blended and corrected, by observed age and, where it is on, by interval."""
    if (stages := story.stages) is None:
        return None
    fix, blend, several = stages.correction, stages.blend, len(story.model_names) > 1
    if not fix.is_on.any() and not blend.is_on.any():
        said = "No persistent error was found at any age, so nothing is corrected."
        return paragraph(
            said + f" The forecast is the mean of {', '.join(story.model_names)}." * several
        )
    on = np.flatnonzero(fix.is_on)
    days = ", ".join(AGE_BUCKET_LABELS[b] for b in (on if len(on) else np.flatnonzero(blend.is_on)))
    how = "weigh the models" if several else "are blended with the pattern"
    said = f"Forecasts of cohorts {days} days old {'are corrected' if len(on) else how}"
    weights, head = blend.weight, ["weight of the model, the rest is the pattern's"]
    if several:
        weights = np.column_stack((weights, blend.pattern_weight))
        head = [f"weight of {name}" for name in (*story.model_names, "the pattern")]
    rows = []
    for b, age in enumerate(AGE_BUCKET_LABELS):
        state = ["on", f"{fix.kappa[b]:.0f}"] if fix.is_on[b] else ["off", percent(float("nan"))]
        rows.append([age, *(f"{100 * weight:.0f} %" for weight in weights[b]), *state])
    head += ["correction", "kappa: as many typical rows go half of the way"]
    text = html_table(said, ["days observed", *head], rows)
    cells = [row for b in on if story.records for row in _cells(story, int(b))]
    if cells:
        head = ["days observed", "growth", "factor", "by segment", "rows behind it"]
        head += ["bias before", "bias after", "error before", "error after"]
        text += html_table("Growth between two days is multiplied by the factor", head, cells)
        text += paragraph(
            "Factors within 0.5 % of 1 are left out. Errors are those of past growth."
        )
    return text


def _cells(story: ReportContent, b: int) -> list[list[str]]:
    """The correction of a bucket by interval, with the error of growth before and after."""
    assert story.stages is not None
    fix, rows = story.stages.correction, []
    for i in np.flatnonzero(fix.increment_count[b, 0]):
        seen = fix.factor[b, fix.increment_count[b, :, i] > 0, i]
        if np.abs(seen - 1).max() < 0.005:
            continue
        parts = [_growth(story, b, int(i), stage) for stage in ("blended", "corrected")]
        row = [
            AGE_BUCKET_LABELS[b],
            f"D{NODES[i]} to D{NODES[i + 1]}",
            f"{fix.factor[b, 0, i]:.3f}",
        ]
        row += [f"{seen.min():.2f} to {seen.max():.2f}", f"{fix.increment_count[b, 0, i]:,}"]
        rows.append([*row, *(_signed(off) for off, _ in parts), *(percent(e) for _, e in parts)])
    return rows


def _growth(story: ReportContent, b: int, i: int, stage: str) -> tuple[float, float]:
    """Bias and WAPE of growth in an interval, as a stage left it; of a bucket."""
    record = story.records[0]
    entries = record.entries
    rows = (entries.natural_age == entries.observed_age) & (age_bucket(entries.observed_age) == b)
    rows &= record.is_scorable[:, i + 1]
    entries, actual = entries.take(rows), record.actual[rows]
    grown = interval_growth(
        entries.bands[stage].mean, entries.observed_age, entries.observed_value
    )[:, i]
    came = interval_growth(actual, entries.observed_age, entries.observed_value)[:, i]
    return metrics.bias(came, grown, entries.users), metrics.wape(came, grown, entries.users)


def _rollup(forecast: Forecast) -> str:
    """Users, spend, revenue and what is forecast of it, by campaign and in total."""
    by, sums = _sums(forecast)
    shown = pd.concat([sums[:-1][:ROLLUP_ROWS], sums[-1:]])
    rows = [
        [str(name), *map(_amount, row[:5]), *(percent(share) for share in row[5:])]
        for name, row in zip(shown.index, shown.to_numpy().tolist(), strict=True)
    ]
    known, d360 = sums["roas 360"][:-1].dropna(), sums["360"]
    back = int((known >= 1).sum())
    each = "is forecast to earn back its" if back == 1 else "are forecast to earn back their"
    said = f"{back} of {len(known)} {each} spend by D360"
    if known.empty:
        share = float(d360.iloc[0] / d360.iloc[-1])
        said = f"{rows[0][0]} is the largest, with {percent(share)} of the revenue by D360"
    if len(rows) == 1:
        said = f"{_amount(d360.iloc[-1])} of revenue by D360, of which {rows[0][3]} has come"
    note = f"As of {forecast.curves.origin}, in the currency of the data. Cohorts that are older "
    note += "than 180 days count in the column D180 with what they had earned by then. "
    if len(sums) > ROLLUP_ROWS + 1:
        note += f"Shown are the {ROLLUP_ROWS} largest of {len(sums) - 1}. "
    if forecast.last_supported_age < MAX_AGE:
        note += f"Few cohorts have got beyond D{forecast.last_supported_age}: take what lies there as rough."
    head = [by, "users", "spend", "revenue so far", "revenue by D180", "revenue by D360"]
    return html_table(said, [*head, "ROAS D180", "ROAS D360"], rows) + paragraph(note)


def _sums(forecast: Forecast) -> tuple[str, pd.DataFrame]:
    """The attribute that is summed by, and sums in the order of revenue, the last row of all."""
    curves, k = forecast.curves, forecast.curves.observed_age
    attributes = curves.attributes
    by = next((name for name in ("Campaign", "Source", *attributes) if name in attributes), "")
    names = attributes[by] if by else np.full(len(curves), None)
    revenue = {
        str(h): curves.users
        * np.where(k >= h, curves.values[:, h], forecast.final.mean[:, NODES.index(h)])
        for h in (180, 360)
    }
    paid = np.isfinite(curves.spend) & (curves.spend > 0)
    columns = {"users": curves.users, "spend": curves.spend}
    columns |= {"so far": curves.users * curves.observed_value, **revenue}
    columns |= {f"roas {h}": np.where(paid, revenue[h], np.nan) for h in revenue}
    frame = pd.DataFrame(columns)[k >= 0]
    sums = frame.groupby(names[k >= 0]).sum(min_count=1).sort_values("360", ascending=False)
    sums = pd.concat([sums, frame.sum(min_count=1).to_frame("all cohorts").T])
    for h in revenue:
        sums[f"roas {h}"] /= sums["spend"]
    return by, sums


def _explained(told: Explanation) -> str:
    """The cohorts whose forecast is the furthest from their segment's, by revenue: why."""
    curves, apart = told.curves, np.abs(told.forecast - told.segment_mean) * told.curves.users
    ahead = (curves.observed_age < told.horizon) & (apart > 0)
    at = np.flatnonzero(ahead)[np.argsort(-apart[ahead], kind="stable")][:EXPLAINED_COHORTS]
    if not len(at):
        return ""
    rows, lines = [], []
    for row, words in zip(at, told.sentences(at), strict=True):
        name = " ".join(text[row] for text in curves.attributes.values())
        name = f"{curves.start[row]} {name}".strip()
        usual, forecast = map(_amount, (told.segment_mean[row], told.forecast[row]))
        short = shorten(name, 48, placeholder=" ...")
        rows.append([short, usual, *map(_more, told.terms[row]), forecast])
        who = f"{name}: {curves.users[row]:,.0f} users, observed to D{curves.observed_age[row]}"
        lines.append(f"<dt>{escape(who)}</dt><dd>{escape(str(words))}</dd>")
    ones = "cohort whose forecast is" if len(at) == 1 else f"{len(at)} cohorts whose forecasts are"
    head = ["cohort", "its segment", *TERMS, f"D{told.horizon}"]
    note = "Revenue per user, which adds up from the left to the right."
    text = html_table(f"The {ones} the furthest from usual, in revenue", head, rows)
    return f"{text}{paragraph(note)}<dl>{''.join(lines)}</dl>"


def _amount(value: float) -> str:
    whole_number = abs(value) >= 100 or value == round(value, 0)
    return f"{value:,.0f}" if whole_number else f"{value:,.2f}".replace("nan", percent(value))


def _more(amount: float) -> str:
    """An amount to be added, 0 where it cannot be seen."""
    size = _amount(abs(amount))
    sign = "" if not size.strip("0.") else "+" if amount > 0 else "\N{MINUS SIGN}"
    return sign + size if sign else "0"


_GLOSSARY = """<dl><dt>cohort, D180</dt><dd>Users acquired together, and their revenue per user
180 days after acquisition.</dd><dt>error (WAPE)</dt><dd>How far off a single cohort is on average,
in per cent of its revenue; large cohorts count more.</dd><dt>bias</dt><dd>How far off the sum over
all cohorts is; above 0 forecasts were too high.</dd><dt>80 % interval</dt><dd>The range that should
hold the outcomes of four cohorts in five.</dd><dt>pattern</dt><dd>How similar cohorts grew before:
the yardstick that a model has to beat.</dd><dt>best possible, noise floor</dt><dd>The error that is
left to chance: who knew all but the future purchases would still make it.</dd></dl>"""
