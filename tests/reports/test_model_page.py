"""The page says what past forecasts were, in words and numbers that can be derived."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories.cohorts import curve, history
from factories.neural import make_neural
from factories.records import SUNDAYS, forecast_off_by, past_record, two_campaigns, with_intervals
from factories.stories import make_story

from ltvnet.backtesting.scores import BacktestRecord
from ltvnet.correction.blend import Blend
from ltvnet.correction.correction import Correction
from ltvnet.correction.stages import LearnedStages
from ltvnet.data.curves import NODES, Curves
from ltvnet.data.segments import Segments
from ltvnet.forecasting.explanation import explain
from ltvnet.forecasting.forecast import AGE_BUCKET_LABELS, Forecast
from ltvnet.reports import model_page
from ltvnet.reports.findings import NO_REVENUE, headline_sentence, verdict
from ltvnet.reports.model_page import ReportContent

HEADINGS = [
    "How far off were past forecasts?",
    "Which days were forecast too high or too low?",
    "How does the error grow with the horizon?",
    "How did training go?",
    "Can the intervals be trusted?",
    "What is corrected?",
    "What is forecast?",
    "Where was it most wrong?",
    "Notes",
    "How to read this page",
]


def write_page(explain_forecast: ReportContent, folder: Path) -> str:
    model_page.write_model_page(folder / "report.html", explain_forecast)
    return (folder / "report.html").read_text()


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes long to draw."""
    monkeypatch.setattr(model_page, "page_figures", lambda explain_forecast: {})


def rows(html: str, heading: str) -> list[list[str]]:
    """The cells of the tables of a section."""
    section = html.split(f"<h2>{heading}</h2>")[1].split("</section>")[0]
    return [re.findall("<td>(.*?)</td>", row) for row in section.split("<tr>") if "<td>" in row]


@pytest.mark.parametrize("factor", [0.0, 1.0])
def test_no_revenue_is_said(factor: float, tmp_path: Path) -> None:
    """Whether or not some was forecast."""
    record = past_record([(factor, factor)] * 4, pattern=factor)
    story_told = make_story(replace(record, actual=0 * record.actual))
    assert story_told.judgements == [("grey", "There was no revenue to score on.")]
    assert verdict(story_told.judgements) == ("grey", "It cannot be judged yet.")
    begin = "In the past, a forecast of D180 made on day 7 cannot be scored: no revenue came "
    assert headline_sentence(story_told.headline) == f"{begin}(8 cohorts, forecast on 4 days)."
    html = write_page(story_told, tmp_path)
    assert f"<h3>{NO_REVENUE}</h3>" in html
    assert {row[3] for row in rows(html, HEADINGS[0])} == {"–"}
    assert "accuracy by day" not in model_page.page_figures(story_told)


def test_all_sections_are_there_and_need_nothing_else(tmp_path: Path) -> None:
    history = two_campaigns()
    forecast = forecast_off_by(history, SUNDAYS[3], (1.1, 0.9), 1.3)
    html = write_page(make_story(past_record(), forecast=forecast), tmp_path)
    assert re.findall("<h2>(.*?)</h2>", html) == HEADINGS
    assert html.count("<svg") == html.count("</svg>") == 5
    assert "http" not in html and "<script" not in html and "@import" not in html
    assert set(re.findall('(?:src|href)="(#|data:)?', html)) == {"#", "data:"}
    assert "<h1>net, as of &lt;day&gt;</h1>" in html
    assert "cut by date, not by vintage" in html
    assert headline_sentence(make_story(past_record()).headline) in html
    again = tmp_path / "again"
    again.mkdir()
    assert write_page(make_story(past_record(), forecast=forecast), again) == html


@pytest.mark.parametrize("records", [(), (past_record(until=str(SUNDAYS[0])),)])
def test_a_page_of_nothing_matured(records: Sequence[BacktestRecord], tmp_path: Path) -> None:
    empty_story = replace(make_story(*records), stages=None, losses={}, notes=[])
    html = write_page(empty_story, tmp_path)
    left_out = {"How did training go?", "What is forecast?", "Notes"}
    assert re.findall("<h2>(.*?)</h2>", html) == [h for h in HEADINGS if h not in left_out]
    assert "It cannot be judged yet." in html and "<svg" not in html
    assert html.count("There is nothing to show yet.") == 6


@pytest.mark.usefixtures("no_figures")
def test_notes_are_plain_words(tmp_path: Path) -> None:
    notes = ["12 past days", "window=expanding", "refit=each", "warm=True", "refit=every_<2>"]
    html = write_page(replace(make_story(), notes=notes), tmp_path)
    section = html.split("<h2>Notes</h2>")[1].split("</section>")[0]
    assert re.findall("<p.*?>(.*?)</p>", section) == [
        "12 past days",
        "each fit saw all history before its day (window=expanding)",
        "fitted anew for every day (refit=each)",
        "fits started from an earlier one (warm=True)",
        "refit=every_&lt;2&gt;",
    ]


def test_no_intervals_are_said(tmp_path: Path) -> None:
    without_intervals = make_story(with_intervals(past_record(), float("nan"), float("nan")))
    html = write_page(without_intervals, tmp_path)
    assert "There are no intervals" in html
    assert set(model_page.page_figures(without_intervals)) == {
        "accuracy by day",
        "error by horizon",
        "error by epoch",
        "worst cohorts",
    }
    assert [row[-1] for row in rows(html, HEADINGS[0])] == ["–"] * 5


@pytest.mark.usefixtures("no_figures")
def test_scores_stand_beside_those_of_the_pattern(tmp_path: Path) -> None:
    other_record = replace(past_record([(1.2, 1.2)] * 4), name="other")
    pattern_record = replace(past_record([(1.3, 1.3)] * 4), name="same")
    html = write_page(make_story(past_record(), other_record, pattern_record), tmp_path)
    cells = rows(html, HEADINGS[0])
    errors = ["10.0 %", "20.0 %", "30.0 %"]
    assert cells[0] == ["D7", "D30", "8", *errors, "+3.3 %", "+30 %", "50 %"]
    assert [row[:2] for row in cells[-1:]] == [["D7", "D360"]]
    assert "net was closer than the pattern in 5 of 5 cases, worse in 0" in html
    first = rows(write_page(make_story(pattern_record), tmp_path), HEADINGS[0])[0]
    assert first == ["D7", "D30", "8", "30.0 %", "+30 %", "0.0 %"]
    assert "best possible</th>" not in html  # nobody knows it of real data


@pytest.mark.parametrize("name", ["<script>1</script> $a & b$", "캠페인"])
def test_names_of_campaigns_are_text(name: str, tmp_path: Path) -> None:
    history = two_campaigns((name, "b"))
    forecast = forecast_off_by(history, SUNDAYS[3], (1.1, 0.9), 1.3)
    html = write_page(make_story(past_record(names=(name, "b")), forecast=forecast), tmp_path)
    assert "<script" not in html
    assert name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in html


def stages_correcting(on: Sequence[int], weight: float = 1.0) -> LearnedStages:
    """Corrections of growth by 0.8 after D30, in some buckets, and a blend."""
    nothing = Correction.neutral()
    factor, count = nothing.factor.copy(), nothing.increment_count.copy()
    factor[:, :, NODES.index(30) :] = 0.8
    count[:, :, NODES.index(21) :] = 40
    is_on = np.isin(np.arange(8), on)
    segments = Segments.from_keys((), [()])
    fix = Correction(segments, factor, count, is_on, np.full(8, 100.0))
    return replace(LearnedStages.neutral(), blend=Blend(np.full((8, 1), weight)), correction=fix)


@pytest.mark.usefixtures("no_figures")
def test_nothing_to_correct_is_one_line(tmp_path: Path) -> None:
    html = write_page(make_story(past_record()), tmp_path)
    assert rows(html, "What is corrected?") == []
    assert "No persistent error was found at any age, so nothing is corrected." in html


@pytest.mark.usefixtures("no_figures")
def test_corrections_say_factor_rows_and_errors(tmp_path: Path) -> None:
    record = past_record()
    entries, mean = record.entries, record.entries.bands["final"].mean
    value = entries.observed_value[:, None]
    bands = {
        stage: replace(entries.bands["final"], mean=value + factor * (record.actual - value))
        for stage, factor in (("blended", 1.25), ("corrected", 1.1))
    }
    assert mean.shape == record.actual.shape
    walked = replace(record, entries=replace(entries, bands={**entries.bands, **bands}))
    html = write_page(replace(make_story(walked), stages=stages_correcting([2])), tmp_path)
    table = rows(html, "What is corrected?")
    assert table[1:4] == [
        ["3-6", "100 %", "off", "–"],
        ["7-13", "100 %", "on", "100"],
        ["14-29", "100 %", "off", "–"],
    ]
    growth = table[8:]  # the factor of D21 to D30 is 1 and left out
    assert [row[1] for row in growth][::8] == ["D30 to D45", "D300 to D360"]
    errors = ["+25 %", "+10 %", "25 %", "10 %"]
    assert growth[0] == ["7-13", "D30 to D45", "0.800", "0.80 to 0.80", "40", *errors]
    assert "Forecasts of cohorts 7-13 days old are corrected" in html

    # Of a correction that was not on in the past nobody can say what it would have done.
    untouched = replace(
        entries,
        bands={**entries.bands, "blended": bands["corrected"]} | {"corrected": bands["corrected"]},
    )
    new = replace(make_story(replace(record, entries=untouched)), stages=stages_correcting([2]))
    html = write_page(new, tmp_path)
    assert rows(html, "What is corrected?")[8][5:] == ["+10 %", "–", "10 %", "–"]
    assert "–: this one was not on yet, it is new." in html


@pytest.mark.usefixtures("no_figures")
def test_a_blend_without_correction_is_shown(tmp_path: Path) -> None:
    html = write_page(
        replace(make_story(past_record()), stages=stages_correcting([], weight=0.75)), tmp_path
    )
    assert rows(html, "What is corrected?") == [
        [age, "75 %", "off", "–"] for age in AGE_BUCKET_LABELS
    ]
    ages = ", ".join(AGE_BUCKET_LABELS)
    assert f"cohorts {ages} days old are blended with the pattern" in html
    corrected = replace(make_story(), stages=stages_correcting([2]))
    assert len(rows(write_page(corrected, tmp_path), "What is corrected?")) == 8


@pytest.mark.usefixtures("no_figures")
def test_models_have_a_column_of_weights_each(tmp_path: Path) -> None:
    """Shown where they are other than equal, though they sum to 1."""
    weight = Blend.equal(3).weight
    three_models = replace(
        make_story(past_record()),
        stages=LearnedStages.neutral(3),
        model_names=("lstm", "<tide>", "trees"),
    )
    html = write_page(three_models, tmp_path)
    assert rows(html, "What is corrected?") == []
    assert "so nothing is corrected. The forecast is the mean of lstm, &lt;tide&gt;, trees." in html
    weight[2], weight[3] = [0.75, 0.25, 0.0], [0.0, 0.5, 0.0]
    html = write_page(
        replace(three_models, stages=replace(LearnedStages.neutral(3), blend=Blend(weight))),
        tmp_path,
    )
    assert rows(html, "What is corrected?")[1:4] == [
        ["3-6", "33 %", "33 %", "33 %", "0 %", "off", "–"],
        ["7-13", "75 %", "25 %", "0 %", "0 %", "off", "–"],
        ["14-29", "0 %", "50 %", "0 %", "50 %", "off", "–"],
    ]
    heads = [f"<th>weight of {x}</th>" for x in ("lstm", "&lt;tide&gt;", "trees", "the pattern")]
    assert (
        "<h3>Forecasts of cohorts 7-13, 14-29 days old weigh the models</h3>" in html
        and "".join(heads) in html
    )


def test_each_net_has_a_figure_of_its_training(tmp_path: Path) -> None:
    losses = {"lstm": {"validation": [3.0, 2.0]}, "tide": {"training": [1.0], "validation": [2.0]}}
    two_nets = replace(make_story(), losses=losses, model_names=("lstm", "tide", "trees"))
    assert list(model_page.page_figures(two_nets)) == [
        "error by epoch of lstm",
        "error by epoch of tide",
    ]
    html = write_page(two_nets, tmp_path)
    section = html.split("<h2>How did training go?</h2>")[1].split("</section>")[0]
    assert section.count("<svg") == 2
    titles = [figure.get_suptitle() for figure in model_page.page_figures(two_nets).values()]
    assert titles == [
        "The lstm validation error was lowest at epoch 2 of 2",
        "The tide validation error was lowest at epoch 1 of 1",
    ]


@pytest.mark.usefixtures("no_figures")
def test_spend_is_held_against_what_was_earned_and_is_forecast(tmp_path: Path) -> None:
    history = two_campaigns()
    spend = np.where(history.attributes["Campaign"] == "a", 400.0, np.nan)
    forecast = forecast_off_by(replace(history, spend=spend), SUNDAYS[0], (1.1, 0.9), 1.3)
    html = write_page(make_story(forecast=forecast), tmp_path)
    first, second, total = rows(html, "What is forecast?")
    # at D0 D7 D14 D21 D28, five cohorts a campaign
    so_far = 200 * sum((1.0 + k) ** 0.5 for k in (0, 7, 14, 21, 28))
    revenue = [so_far, *(200 * 5 * 1.1 * (1.0 + h) ** 0.5 for h in (180, 360))]
    cells = [cell for x in revenue for cell in (f"{x:,.0f}", f"{100 * x / 2000:.0f} %")]
    assert first == ["a", "1,000", "2,000", *cells]
    assert second[:3] == ["b", "500", "–"] and second[4] == second[-1] == "–"
    assert total[:3] == ["all cohorts", "1,500", "2,000"] and total[-1] == first[-1]
    assert "1 of 1 is forecast to earn back its spend by D360" in html
    assert "Every column sums the same 10 cohorts: those younger than D180" in html


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("reach", "columns", "finding"),
    [
        (
            120,
            ["revenue by D90", "ROAS D90", "ROAS D180", "ROAS D360"],
            "1 of 1 is forecast to earn back its spend by D90, as far as the data reach",
        ),
        (
            20,
            ["ROAS D180", "ROAS D360"],
            "Fewer than 5 cohorts have got beyond D20: nobody can say yet who earns back the spend",
        ),
    ],
)
def test_nothing_is_said_of_ages_that_the_data_do_not_reach(
    reach: int, columns: Sequence[str], finding: str, tmp_path: Path
) -> None:
    history = two_campaigns()
    spend = np.where(history.attributes["Campaign"] == "a", 400.0, np.nan)
    forecast = forecast_off_by(replace(history, spend=spend), SUNDAYS[0], (1.1, 0.9), 1.3)
    html = write_page(make_story(forecast=replace(forecast, last_supported_age=reach)), tmp_path)
    section = html.split("<h2>What is forecast?</h2>")[1].split("</section>")[0]
    assert re.findall("<th>(.*?)</th>", section)[5:] == columns
    assert {cell for row in rows(html, "What is forecast?") for cell in row[-2:]} == {"–"}
    assert f"<h3>{finding}</h3>" in section
    assert f"Fewer than 5 cohorts have got beyond D{reach}, so nothing can be said" in section


@pytest.mark.usefixtures("no_figures")
def test_cohorts_without_a_complete_day_support_nothing(tmp_path: Path) -> None:
    forecast = forecast_off_by(two_campaigns(), SUNDAYS[0], (1.1, 0.9), 1.3)
    html = write_page(make_story(forecast=replace(forecast, last_supported_age=-1)), tmp_path)
    assert "Fewer than 5 cohorts have a complete day, so nothing can be said" in html
    assert "D-1" not in html


@pytest.mark.usefixtures("no_figures")
def test_when_all_is_observed_nothing_is_left_to_forecast(tmp_path: Path) -> None:
    history = two_campaigns()
    forecast = forecast_off_by(history, np.datetime64("2024-12-29"), (1.1, 0.9), 1.3)
    html = write_page(make_story(forecast=forecast), tmp_path)
    assert "Every cohort with a complete day is D360 old: nothing is left to forecast." in html


@pytest.mark.usefixtures("no_figures")
def test_the_roll_up_shows_the_largest(tmp_path: Path) -> None:
    names = [f"c{i:02d}" for i in range(20)]
    cells = [
        ("2023-01-02", "2023-01-08", {"Campaign": name}, 100.0 + i, curve(360))
        for i, name in enumerate(names)
    ]
    forecast = forecast_off_by(history(cells), np.datetime64("2023-01-15"), [1.0] * 20, 1.0)
    html = write_page(make_story(forecast=forecast), tmp_path)
    assert [row[0] for row in rows(html, "What is forecast?")] == [*names[:4:-1], "all cohorts"]
    assert "Shown are the 15 largest of 20." in html
    share = 119 / sum(100 + i for i in range(20))
    assert f"c19 is the largest, with {100 * share:.1f} % of the revenue by D360" in html


def test_data_without_attributes_have_a_total(tmp_path: Path) -> None:
    history = two_campaigns()
    forecast = forecast_off_by(history, SUNDAYS[0], (1.1, 1.1), 1.3)
    is_a = history.attributes["Campaign"] == "a"
    bare = replace(
        history.as_of(SUNDAYS[0]).take(is_a[: len(forecast.curves)]), attributes={}, hierarchy=()
    )
    rows_of = np.flatnonzero(is_a[: len(forecast.curves)])
    cells = {
        name: replace(
            getattr(forecast, name),
            **{q: getattr(forecast.raw, q)[rows_of] for q in ("mean", "p10", "p50", "p90")},
        )
        for name in ("raw", "final")
    }
    plain = Forecast(
        bare,
        forecast.ages,
        forecast.pattern[rows_of],
        **cells,
        reason=forecast.reason[rows_of],
        last_supported_age=360,
    )
    record = past_record()
    entries_of_a = record.entries.attributes["Campaign"] == "a"
    entries = record.entries.take(entries_of_a)
    keys = entries.keys.droplevel("Campaign")
    alone = replace(
        record,
        entries=replace(entries, keys=keys, hierarchy=()),
        actual=record.actual[entries_of_a],
    )
    assert isinstance(keys, pd.MultiIndex)
    html = write_page(make_story(alone, forecast=plain), tmp_path)
    assert [row[0] for row in rows(html, "What is forecast?")] == ["all cohorts"]
    assert "of revenue by D360, of which" in html
    assert html.count("<svg") == 5
    assert headline_sentence(make_story(alone).headline).startswith(
        "In the past, a forecast of D180 made on day 7 was off by 10 % for a single cohort"
    )


def test_the_page_explains_those_furthest_from_usual(
    curves: Curves, no_figures: None, tmp_path: Path
) -> None:
    model = make_neural().fit(curves)
    explanation = explain(model, model.predict(curves, NODES))
    ahead = np.where(curves.observed_age < 360, curves.users, 0.0)
    revenue_apart = np.nan_to_num(ahead * np.abs(explanation.forecast - explanation.segment_mean))
    first = int(np.argmax(revenue_apart))
    content = ReportContent("net", [], (7,), None, {}, None, [], explanation=explanation)
    model_page.write_model_page(tmp_path / "report.html", content)
    html = (tmp_path / "report.html").read_text()
    section = html.split("<h2>Why is a forecast high or low?</h2>")[1].split("</section>")[0]
    assert "The 6 cohorts whose forecasts are the furthest from usual, in revenue" in section
    assert section.count("<dd>D360 of ") == 6
    sentence_of_first = explanation.sentences([first])[0]
    assert sentence_of_first == explanation.sentences()[first]
    cohort_name = (
        f"{curves.start[first]} {curves.attributes['Apps'][first]}: {curves.users[first]:,.0f}"
    )
    assert f"<dt>{cohort_name} users, observed to D{curves.observed_age[first]}</dt>" in section
    cells = re.findall("<td>(.*?)</td>", section)[:8]
    amounts = [float(cell.replace("\N{MINUS SIGN}", "-")) for cell in cells[1:]]
    assert sum(amounts[:-1]) == pytest.approx(amounts[-1], abs=0.04)  # each rounded to 0.01
    assert amounts[-1] == pytest.approx(explanation.forecast[first], abs=0.005)
    assert section.index(sentence_of_first) == min(
        section.index(sentence_told)
        for sentence_told in explanation.sentences()
        if sentence_told and sentence_told in section
    )
    model_page.write_model_page(tmp_path / "report.html", replace(content, explanation=None))
    assert "high or low" not in (tmp_path / "report.html").read_text()
