"""The headline, the lights and the verdict of a model's past."""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from factories.records import SUNDAYS, past_record, single_forecast_record, with_intervals
from factories.stories import make_story

from ltvnet.reports import findings, wording
from ltvnet.reports.findings import (
    FEW_OUTCOMES,
    Headline,
    Verdict,
    headline_sentence,
    verdict,
)
from ltvnet.reports.model_page import ReportContent


def test_the_headline_is_the_longest_horizon_up_to_half_a_year_from_day_7() -> None:
    headline = findings.choose_headline(past_record(), (7, 30))
    assert isinstance(headline, Headline)
    assert (headline.age_label, headline.horizon, len(headline.cells)) == ("7", 180, 8)
    early = findings.choose_headline(past_record(until="2023-05-30"), (7, 30))
    assert early is not None and (early.age_label, early.horizon) == ("7", 90)
    assert findings.choose_headline(past_record(until=str(SUNDAYS[0])), (7, 30)) is None
    natural_headline = findings.choose_headline(past_record(), ())
    assert natural_headline is not None and (
        natural_headline.age_label,
        natural_headline.horizon,
    ) == (
        "7-13",
        180,
    )


def test_the_sentence_says_how_far_off_and_in_which_direction() -> None:
    assert headline_sentence(make_story(past_record()).headline) == (
        "In the past, a forecast of D180 made on day 7 was off by 10 % for a single cohort and "
        "3.3 % too high over all cohorts together; the pattern alone was off by 30 %. The 80 % "
        "interval held 50 % of outcomes (8 cohorts, forecast on 4 days)."
    )


def test_the_sentence_of_the_pattern_compares_it_with_nothing() -> None:
    pattern_record = with_intervals(past_record([(1.3, 1.3)] * 4), float("nan"), float("nan"))
    assert headline_sentence(make_story(pattern_record).headline) == (
        "In the past, a forecast of D180 made on day 7 was off by 30 % for a single cohort and "
        "30 % too high over all cohorts together (8 cohorts, forecast on 4 days)."
    )


def test_errors_that_look_alike_are_told_apart() -> None:
    text = headline_sentence(make_story(past_record([(1.301, 1.301)] * 4, pattern=1.304)).headline)
    assert "off by 30.1 % for a single cohort" in text
    assert "the pattern alone was off by 30.4 %." in text


def test_the_sentence_takes_the_longest_horizon_that_has_matured() -> None:
    text = headline_sentence(make_story(past_record(until="2023-05-30")).headline)
    assert text.startswith("In the past, a forecast of D90 made on day 7 was off by 10 %")
    assert text.endswith("(4 cohorts, forecast on 2 days; no later horizon has matured yet).")
    natural_text = headline_sentence(replace(make_story(past_record()), ages=()).headline)
    assert "a forecast of D180 made on days 7-13 was off by 10 %" in natural_text


def test_nothing_matured_is_said() -> None:
    nothing = make_story(past_record(until=str(SUNDAYS[0])))
    for empty_story in (nothing, make_story()):
        assert headline_sentence(empty_story.headline).startswith(
            "Nothing forecast in the past has come true yet"
        )
        assert verdict(empty_story.judgements) == ("grey", "It cannot be judged yet.")


def test_the_verdict_is_that_of_the_gravest_light() -> None:
    many = past_record([(1.01, 0.99)] * 4)
    honest = make_story(with_intervals(many, 0.5, 2.0))
    colors = [light.color for light in honest.judgements]
    # better than the pattern, no bias, small errors, but 8 cohorts only and intervals too wide
    assert colors == ["green", "green", "green", "amber", "amber"]
    assert verdict(honest.judgements) == ("amber", "Use it with care.")
    all_words = " ".join(light.text for light in honest.judgements)
    assert (
        "Better than the historical pattern: over all ages its error was 97 % smaller" in all_words
    )
    assert "rests on 8 cohorts forecast on 4 days only" in all_words
    assert "held 100 % of outcomes: it is too wide" in all_words
    worse = make_story(past_record([(1.5, 1.5)] * 4))
    assert verdict(worse.judgements) == ("red", "Do not rely on it.")
    all_words = " ".join(light.text for light in worse.judgements)
    assert "Worse than the historical pattern: over all ages its error was 67 % larger" in all_words
    assert "50 % too high, more than chance explains" in all_words
    assert "off by 50 %: judge several together" in all_words


def trustworthy_story() -> ReportContent:
    """Ten days of forecasts of two campaigns, four of the 20 cohorts beyond their interval."""
    days = [SUNDAYS[0] + np.timedelta64(7 * i, "D") for i in range(10)]
    factors = [(0.94, 0.94) if i in {3, 6} else (1.01, 0.99) for i in range(10)]
    return make_story(past_record(factors, days=days))


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
    ten_days = trustworthy_story()
    assert ten_days.headline is not None and ten_days.headline.cells.origin_count == 10
    fewer = ten_days.headline._replace(cells=replace(ten_days.headline.cells, origin_count=days))
    lights = findings.judgements(ten_days.records[0], fewer)
    assert [light.text for light in lights if light.color != "green"] == words
    assert verdict(lights).color == color and FEW_OUTCOMES["days"] == 5


def test_few_cohorts_are_said() -> None:
    five_days = make_story(
        past_record([(1.01, 0.99)] * 5, days=[*SUNDAYS, SUNDAYS[3] + np.timedelta64(7, "D")])
    )
    expected = "All of this rests on 10 cohorts only, forecast on 5 days."
    assert ("amber", expected) in five_days.judgements


def test_one_is_singular() -> None:
    single_story = make_story(single_forecast_record())
    assert headline_sentence(single_story.headline).endswith("(1 cohort, forecast on 1 day).")
    assert (
        "amber",
        "All of this rests on 1 cohort forecast on 1 day only.",
    ) in single_story.judgements
    assert wording.count_with_noun(1200, "day") == "1,200 days"


def test_a_pattern_without_error_is_not_compared() -> None:
    light = make_story(past_record([(1.01, 1.01)] * 4, pattern=1.0)).judgements[0]
    begin = "Not compared with the historical pattern: no revenue came, or the pattern made no"
    assert light == ("grey", f"{begin} error.")


def test_one_week_tells_nothing_from_chance() -> None:
    light = make_story(past_record([(1.2, 1.2)])).judgements[1]
    assert light == ("amber", "Over all cohorts together 20 % too high, which may be chance.")


def test_a_model_that_chance_may_have_helped_is_not_told_apart() -> None:
    near = make_story(past_record([(1.1, 1.1), (1.4, 1.4), (1.2, 1.2), (1.45, 1.45)]))
    assert near.judgements[0].text.startswith("Not told apart from the pattern: over all ages")
    pattern_story = make_story(past_record([(1.3, 1.3)] * 4))
    assert pattern_story.judgements[0].text == "The forecast is the historical pattern itself."
    alike = make_story(past_record([(1.3001, 1.3001)] * 4))
    assert alike.judgements[0].text.startswith("Over all ages and horizons as far off as the hist")


def test_intervals_of_other_ages_are_not_denied() -> None:
    """Cohorts 7 days old have no interval at D180, while those of later horizons were checked."""
    record = past_record()
    headline = findings.choose_headline(record, (7, 30))
    assert headline is not None
    p10 = np.full(record.actual.shape, 0.88)
    p10[headline.entry_mask] = np.nan
    judgement = make_story(with_intervals(record, p10, 1.05)).judgements[-1]
    assert judgement.text == (
        "No interval of D180 made on day 7 has been checked yet, as too little had matured; those "
        "of other ages held 50 % of outcomes."
    )
    none = make_story(with_intervals(record, np.nan, np.nan)).judgements[-1]
    assert none.text == "There are no intervals: too little had matured to check them."


@pytest.mark.parametrize("factor", [0.99, 1.5])
def test_a_verdict_is_kept_in_a_manifest(factor: float) -> None:
    judged = Verdict.from_record(past_record([(factor, factor)] * 4), (7, 30))
    assert Verdict.from_entry(json.loads(json.dumps(judged.as_entry()))) == judged
    assert judged.as_text().startswith(judged.text)
    assert judged.as_text().endswith("(8 cohorts, forecast on 4 days).")
    assert ("Worse than the historical pattern" in judged.as_text()) == (factor == 1.5)
    for no_verdict in (None, "Trust it.", {"color": "blue"}, {}):
        assert Verdict.from_entry(no_verdict) is None


def test_without_a_past_the_verdict_says_so() -> None:
    assert Verdict.from_record(None, (7, 30)).as_text() == (
        "It cannot be judged yet. Nothing forecast in the past has come true yet: nobody can say "
        "how far off this is."
    )
