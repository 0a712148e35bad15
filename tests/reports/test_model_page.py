"""The page says what past forecasts were, in words and numbers that can be derived."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cohorts import curve, history
from test_figures import (
    DAYS,
    forecast_from_truth,
    past_record,
    single_forecast,
    twenty_weeks,
    with_intervals,
)

from ltvnet.backtesting.scores import BacktestRecord
from ltvnet.correction.blend import Blend
from ltvnet.correction.correction import Correction
from ltvnet.correction.stages import LearnedStages
from ltvnet.data.curves import NODES
from ltvnet.data.segments import Segments
from ltvnet.forecasting.forecast import Forecast
from ltvnet.reports import findings, model_page
from ltvnet.reports.findings import FEW_OUTCOMES, NO_REVENUE, headline_sentence, verdict
from ltvnet.reports.model_page import ReportContent
from ltvnet.reports.model_page_sections import AGE_BUCKET_LABELS

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


def page_content(*records: BacktestRecord, forecast: Forecast | None = None) -> ReportContent:
    losses = {"net": {"training": [3.0, 2.0], "validation": [3.5, 2.5]}}
    notes = ["cut by date, not by vintage"]
    return ReportContent(
        "net, as of <day>", records, (7, 30), LearnedStages.neutral(), losses, forecast, notes
    )


def write_and_read(content: ReportContent, folder: Path) -> str:
    model_page.write_model_page(folder / "report.html", content)
    return (folder / "report.html").read_text()


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes long to draw."""
    monkeypatch.setattr(model_page, "page_figures", lambda content: {})


def rows(html: str, heading: str) -> list[list[str]]:
    """The cells of the tables of a section."""
    section = html.split(f"<h2>{heading}</h2>")[1].split("</section>")[0]
    return [re.findall("<td>(.*?)</td>", row) for row in section.split("<tr>") if "<td>" in row]


def test_the_sentence_says_how_far_off_and_in_which_direction() -> None:
    assert headline_sentence(page_content(past_record()).headline) == (
        "In the past, a forecast of D180 made on day 7 was off by 10 % for a single cohort and "
        "3.3 % too high over all cohorts together; the pattern alone was off by 30 %. The 80 % "
        "interval held 50 % of outcomes (8 cohorts, forecast on 4 days)."
    )


def test_the_sentence_of_the_pattern_compares_it_with_nothing() -> None:
    same = with_intervals(past_record([(1.3, 1.3)] * 4), float("nan"), float("nan"))
    assert headline_sentence(page_content(same).headline) == (
        "In the past, a forecast of D180 made on day 7 was off by 30 % for a single cohort and "
        "30 % too high over all cohorts together (8 cohorts, forecast on 4 days)."
    )


def test_errors_that_look_alike_are_told_apart() -> None:
    said = headline_sentence(
        page_content(past_record([(1.301, 1.301)] * 4, pattern=1.304)).headline
    )
    assert "off by 30.1 % for a single cohort" in said
    assert "the pattern alone was off by 30.4 %." in said


def test_the_sentence_takes_the_longest_horizon_that_has_matured() -> None:
    said = headline_sentence(page_content(past_record(until="2023-05-30")).headline)
    assert said.startswith("In the past, a forecast of D90 made on day 7 was off by 10 %")
    assert said.endswith("(4 cohorts, forecast on 2 days; no later horizon has matured yet).")
    own = headline_sentence(replace(page_content(past_record()), ages=()).headline)
    assert "a forecast of D180 made on days 7-13 was off by 10 %" in own


def test_nothing_matured_is_said() -> None:
    nothing = page_content(past_record(until=str(DAYS[0])))
    for content in (nothing, page_content()):
        assert headline_sentence(content.headline).startswith(
            "Nothing forecast in the past has come true yet"
        )
        assert verdict(content.judgements) == ("grey", "It cannot be judged yet.")


def test_the_verdict_is_that_of_the_gravest_light() -> None:
    many = past_record([(1.01, 0.99)] * 4)
    honest = page_content(with_intervals(many, 0.5, 2.0))
    colors = [light.color for light in honest.judgements]
    # better than the pattern, no bias, small errors, but 8 cohorts only and intervals too wide
    assert colors == ["green", "green", "green", "amber", "amber"]
    assert verdict(honest.judgements) == ("amber", "Use it with care.")
    words = " ".join(light.text for light in honest.judgements)
    assert "Better than the historical pattern: over all ages its error was 97 % smaller" in words
    assert "rests on 8 cohorts forecast on 4 days only" in words
    assert "held 100 % of outcomes: it is too wide" in words
    worse = page_content(past_record([(1.5, 1.5)] * 4))
    assert verdict(worse.judgements) == ("red", "Do not rely on it.")
    words = " ".join(light.text for light in worse.judgements)
    assert "Worse than the historical pattern: over all ages its error was 67 % larger" in words
    assert "50 % too high, more than chance explains" in words
    assert "off by 50 %: judge several together" in words


def ten_days_content() -> ReportContent:
    """Ten days of forecasts of two campaigns, four of the 20 cohorts beyond their interval."""
    days = [DAYS[0] + np.timedelta64(7 * i, "D") for i in range(10)]
    factors = [(0.94, 0.94) if i in {3, 6} else (1.01, 0.99) for i in range(10)]
    return page_content(past_record(factors, days=days))


@pytest.mark.parametrize(
    ("days", "color", "words"),
    [
        (1, "amber", ["All of this rests on 20 cohorts forecast on 1 day only."]),
        (4, "amber", ["All of this rests on 20 cohorts forecast on 4 days only."]),
        (5, "green", []),
        (10, "green", []),
    ],
)
def test_trust_needs_five_days(days: int, color: str, words: Sequence[str]) -> None:
    content = ten_days_content()
    assert content.headline is not None and content.headline.cells.origin_count == 10
    fewer = content.headline._replace(cells=replace(content.headline.cells, origin_count=days))
    lights = findings.judgements(content.records[0], fewer)
    assert [light.text for light in lights if light.color != "green"] == words
    assert verdict(lights).color == color and FEW_OUTCOMES["days"] == 5


def test_few_cohorts_are_said() -> None:
    content = page_content(
        past_record([(1.01, 0.99)] * 5, days=[*DAYS, DAYS[3] + np.timedelta64(7, "D")])
    )
    words = "All of this rests on 10 cohorts only, forecast on 5 days."
    assert ("amber", words) in content.judgements


def test_one_is_singular() -> None:
    content = page_content(single_forecast())
    assert headline_sentence(content.headline).endswith("(1 cohort, forecast on 1 day).")
    assert ("amber", "All of this rests on 1 cohort forecast on 1 day only.") in content.judgements


@pytest.mark.parametrize("factor", [0.0, 1.0])
def test_no_revenue_is_said(factor: float, tmp_path: Path) -> None:
    """Whether or not some was forecast."""
    found = past_record([(factor, factor)] * 4, pattern=factor)
    content = page_content(replace(found, actual=0 * found.actual))
    assert content.judgements == [("grey", "There was no revenue to score on.")]
    assert verdict(content.judgements) == ("grey", "It cannot be judged yet.")
    said = "In the past, a forecast of D180 made on day 7 cannot be scored: no revenue came "
    assert headline_sentence(content.headline) == f"{said}(8 cohorts, forecast on 4 days)."
    html = write_and_read(content, tmp_path)
    assert f"<h3>{NO_REVENUE}</h3>" in html
    assert {row[3] for row in rows(html, HEADINGS[0])} == {"–"}
    assert "accuracy by day" not in model_page.page_figures(content)


def test_a_pattern_without_error_is_not_compared() -> None:
    light = page_content(past_record([(1.01, 1.01)] * 4, pattern=1.0)).judgements[0]
    words = "Not compared with the historical pattern: no revenue came, or the pattern made no"
    assert light == ("grey", f"{words} error.")


def test_one_week_tells_nothing_from_chance() -> None:
    light = page_content(past_record([(1.2, 1.2)])).judgements[1]
    assert light == ("amber", "Over all cohorts together 20 % too high, which may be chance.")


def test_a_model_that_chance_may_have_helped_is_not_told_apart() -> None:
    near = page_content(past_record([(1.1, 1.1), (1.4, 1.4), (1.2, 1.2), (1.45, 1.45)]))
    assert near.judgements[0].text.startswith("Not told apart from the pattern: over all ages")
    same = page_content(past_record([(1.3, 1.3)] * 4))
    assert same.judgements[0].text.startswith("As far off as the historical pattern")


def test_all_sections_are_there_and_need_nothing_else(tmp_path: Path) -> None:
    known = twenty_weeks()
    forecast = forecast_from_truth(known, DAYS[3], (1.1, 0.9), 1.3)
    html = write_and_read(page_content(past_record(), forecast=forecast), tmp_path)
    assert re.findall("<h2>(.*?)</h2>", html) == HEADINGS
    assert html.count("<svg") == html.count("</svg>") == 5
    assert "http" not in html and "<script" not in html and "@import" not in html
    assert set(re.findall('(?:src|href)="(#|data:)?', html)) == {"#", "data:"}
    assert "<h1>net, as of &lt;day&gt;</h1>" in html
    assert "cut by date, not by vintage" in html
    assert headline_sentence(page_content(past_record()).headline) in html
    again = tmp_path / "again"
    again.mkdir()
    assert write_and_read(page_content(past_record(), forecast=forecast), again) == html


@pytest.mark.parametrize("records", [(), (past_record(until=str(DAYS[0])),)])
def test_a_page_of_nothing_matured(records: Sequence[BacktestRecord], tmp_path: Path) -> None:
    content = replace(page_content(*records), stages=None, losses={}, notes=[])
    html = write_and_read(content, tmp_path)
    left_out = {"How did training go?", "What is forecast?", "Notes"}
    assert re.findall("<h2>(.*?)</h2>", html) == [h for h in HEADINGS if h not in left_out]
    assert "It cannot be judged yet." in html and "<svg" not in html
    assert html.count("There is nothing to show yet.") == 6


@pytest.mark.usefixtures("no_figures")
def test_notes_are_plain_words(tmp_path: Path) -> None:
    notes = ["12 past days", "window=expanding", "refit=each", "warm=True", "refit=every_<2>"]
    html = write_and_read(replace(page_content(), notes=notes), tmp_path)
    section = html.split("<h2>Notes</h2>")[1].split("</section>")[0]
    assert re.findall("<p.*?>(.*?)</p>", section) == [
        "12 past days",
        "each fit saw all history before its day (window=expanding)",
        "fitted anew for every day (refit=each)",
        "fits started from an earlier one (warm=True)",
        "refit=every_&lt;2&gt;",
    ]


def test_no_intervals_are_said(tmp_path: Path) -> None:
    content = page_content(with_intervals(past_record(), float("nan"), float("nan")))
    html = write_and_read(content, tmp_path)
    assert "There are no intervals" in html
    assert set(model_page.page_figures(content)) == {
        "accuracy by day",
        "error by horizon",
        "error by epoch",
        "worst cohorts",
    }
    assert [row[-1] for row in rows(html, HEADINGS[0])] == ["–"] * 5


@pytest.mark.usefixtures("no_figures")
def test_scores_stand_beside_those_of_the_pattern(tmp_path: Path) -> None:
    other = replace(past_record([(1.2, 1.2)] * 4), name="other")
    same = replace(past_record([(1.3, 1.3)] * 4), name="same")
    html = write_and_read(page_content(past_record(), other, same), tmp_path)
    found = rows(html, HEADINGS[0])
    errors = ["10.0 %", "20.0 %", "30.0 %", "–"]
    assert found[0] == ["D7", "D30", "8", *errors, "+3.3 %", "+30 %", "50 %"]
    assert [row[:2] for row in found[-1:]] == [["D7", "D360"]]
    assert "net was closer than the pattern in 5 of 5 cases, worse in 0" in html
    first = rows(write_and_read(page_content(same), tmp_path), HEADINGS[0])[0]
    assert first == ["D7", "D30", "8", "30.0 %", "–", "+30 %", "0.0 %"]


@pytest.mark.parametrize("name", ["<script>1</script> $a & b$", "캠페인"])
def test_names_of_campaigns_are_text(name: str, tmp_path: Path) -> None:
    known = twenty_weeks((name, "b"))
    forecast = forecast_from_truth(known, DAYS[3], (1.1, 0.9), 1.3)
    html = write_and_read(page_content(past_record(names=(name, "b")), forecast=forecast), tmp_path)
    assert "<script" not in html
    assert name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in html


def corrected_stages(on: Sequence[int], weight: float = 1.0) -> LearnedStages:
    """Corrections of growth by 0.8 after D30, in some buckets, and a blend."""
    nothing = Correction.neutral()
    factor, count = nothing.factor.copy(), nothing.increment_count.copy()
    factor[:, :, NODES.index(30) :] = 0.8
    count[:, :, NODES.index(21) :] = 40
    which = np.isin(np.arange(8), on)
    segments = Segments.from_keys((), [()])
    fix = Correction(segments, factor, count, which, np.full(8, 100.0))
    return replace(LearnedStages.neutral(), blend=Blend(np.full((8, 1), weight)), correction=fix)


@pytest.mark.usefixtures("no_figures")
def test_nothing_to_correct_is_one_line(tmp_path: Path) -> None:
    html = write_and_read(page_content(past_record()), tmp_path)
    assert rows(html, "What is corrected?") == []
    assert "No persistent error was found at any age, so nothing is corrected." in html


@pytest.mark.usefixtures("no_figures")
def test_corrections_say_factor_rows_and_errors(tmp_path: Path) -> None:
    found = past_record()
    entries, mean = found.entries, found.entries.bands["final"].mean
    value = entries.observed_value[:, None]
    bands = {
        stage: replace(entries.bands["final"], mean=value + factor * (found.actual - value))
        for stage, factor in (("blended", 1.25), ("corrected", 1.1))
    }
    assert mean.shape == found.actual.shape
    walked = replace(found, entries=replace(entries, bands={**entries.bands, **bands}))
    html = write_and_read(replace(page_content(walked), stages=corrected_stages([2])), tmp_path)
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


@pytest.mark.usefixtures("no_figures")
def test_a_blend_without_correction_is_shown(tmp_path: Path) -> None:
    html = write_and_read(
        replace(page_content(past_record()), stages=corrected_stages([], weight=0.75)), tmp_path
    )
    assert rows(html, "What is corrected?") == [
        [age, "75 %", "off", "–"] for age in AGE_BUCKET_LABELS
    ]
    days = ", ".join(AGE_BUCKET_LABELS)
    blended = f"Forecasts of cohorts {days} days old are blended with the pattern"
    assert blended in html
    corrected = replace(page_content(), stages=corrected_stages([2]))
    assert len(rows(write_and_read(corrected, tmp_path), "What is corrected?")) == 8


@pytest.mark.usefixtures("no_figures")
def test_models_have_a_column_of_weights_each(tmp_path: Path) -> None:
    """Shown where they are other than equal, though they sum to 1."""
    weight = Blend.equal(3).weight
    content = replace(
        page_content(past_record()),
        stages=LearnedStages.neutral(3),
        model_names=("lstm", "<tide>", "trees"),
    )
    html = write_and_read(content, tmp_path)
    assert rows(html, "What is corrected?") == []
    assert "so nothing is corrected. The forecast is the mean of lstm, &lt;tide&gt;, trees." in html
    weight[2], weight[3] = [0.75, 0.25, 0.0], [0.0, 0.5, 0.0]
    html = write_and_read(
        replace(content, stages=replace(LearnedStages.neutral(3), blend=Blend(weight))), tmp_path
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
    content = replace(page_content(), losses=losses, model_names=("lstm", "tide", "trees"))
    assert list(model_page.page_figures(content)) == [
        "error by epoch of lstm",
        "error by epoch of tide",
    ]
    html = write_and_read(content, tmp_path)
    section = html.split("<h2>How did training go?</h2>")[1].split("</section>")[0]
    assert section.count("<svg") == 2
    titles = [figure.get_suptitle() for figure in model_page.page_figures(content).values()]
    assert titles == [
        "The lstm validation error was lowest at epoch 2 of 2",
        "The tide validation error was lowest at epoch 1 of 1",
    ]


@pytest.mark.usefixtures("no_figures")
def test_the_roll_up_sums_what_was_earned_and_forecast(tmp_path: Path) -> None:
    known = twenty_weeks()
    spend = np.where(known.attributes["Campaign"] == "a", 400.0, np.nan)
    forecast = forecast_from_truth(replace(known, spend=spend), DAYS[0], (1.1, 0.9), 1.3)
    html = write_and_read(
        page_content(forecast=replace(forecast, last_supported_age=120)), tmp_path
    )
    first, second, total = rows(html, "What is forecast?")
    # at D0 D7 D14 D21 D28, five cohorts a campaign
    so_far = 200 * sum((1.0 + k) ** 0.5 for k in (0, 7, 14, 21, 28))
    later = {h: 200 * 5 * 1.1 * (1.0 + h) ** 0.5 for h in (180, 360)}
    money = [f"{value:,.0f}" for value in (so_far, *later.values())]
    roas = [f"{100 * value / 2000:.0f} %" for value in later.values()]
    assert first == ["a", "1,000", "2,000", *money, *roas]
    assert second[:3] == ["b", "500", "–"] and second[-2:] == ["–", "–"]
    assert total[:3] == ["all cohorts", "1,500", "2,000"] and total[-2:] == roas
    assert "1 of 1 is forecast to earn back its spend by D360" in html
    assert "Few cohorts have got beyond D120" in html


@pytest.mark.usefixtures("no_figures")
def test_the_roll_up_shows_the_largest(tmp_path: Path) -> None:
    names = [f"c{i:02d}" for i in range(20)]
    cells = [
        ("2023-01-02", "2023-01-08", {"Campaign": name}, 100.0 + i, curve(360))
        for i, name in enumerate(names)
    ]
    forecast = forecast_from_truth(history(cells), np.datetime64("2023-01-15"), [1.0] * 20, 1.0)
    html = write_and_read(page_content(forecast=forecast), tmp_path)
    assert [row[0] for row in rows(html, "What is forecast?")] == [*names[:4:-1], "all cohorts"]
    assert "Shown are the 15 largest of 20." in html
    share = 119 / sum(100 + i for i in range(20))
    assert f"c19 is the largest, with {100 * share:.1f} % of the revenue by D360" in html


def test_data_without_attributes_have_a_total(tmp_path: Path) -> None:
    known = twenty_weeks()
    forecast = forecast_from_truth(known, DAYS[0], (1.1, 1.1), 1.3)
    one = known.attributes["Campaign"] == "a"
    bare = replace(
        known.as_of(DAYS[0]).take(one[: len(forecast.curves)]), attributes={}, hierarchy=()
    )
    rows_of = np.flatnonzero(one[: len(forecast.curves)])
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
    found = past_record()
    own = found.entries.attributes["Campaign"] == "a"
    entries = found.entries.take(own)
    kept = entries.keys.droplevel("Campaign")
    alone = replace(
        found, entries=replace(entries, keys=kept, hierarchy=()), actual=found.actual[own]
    )
    assert isinstance(kept, pd.MultiIndex)
    html = write_and_read(page_content(alone, forecast=plain), tmp_path)
    assert [row[0] for row in rows(html, "What is forecast?")] == ["all cohorts"]
    assert "of revenue by D360, of which" in html
    assert html.count("<svg") == 5
    assert headline_sentence(page_content(alone).headline).startswith(
        "In the past, a forecast of D180 made on day 7 was off by 10 % for a single cohort"
    )
