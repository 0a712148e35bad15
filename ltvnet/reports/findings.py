"""How good past forecasts were, in numbers and plain words: what figures and the page rest on.

Shapes: E entries, C cells of one group and horizon.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ltvnet import metrics
from ltvnet.backtesting.scores import (
    HORIZONS,
    BacktestRecord,
    ScoreCells,
    as_pattern_forecast,
    bias_of_cells,
    compare_stage_with_pattern,
    coverage_with_error,
    group_by_observed_age,
    wape_of_cells,
)
from ltvnet.data.arrays import Bools
from ltvnet.reports.wording import bias_in_words, count_with_noun, percent

HEADLINE_HORIZON = 180  # the horizon to speak of, or the longest before it that has matured
LARGE_SINGLE_ERROR = 0.25  # error of a single cohort from which a reader is warned
FEW_OUTCOMES = {"cohorts": 20, "days": 5}  # with fewer outcomes a reader is warned
NO_REVENUE = "There was no revenue to score on"


class Headline(NamedTuple):
    """What the report speaks of first: forecasts (E,) from an observed age, at one horizon."""

    age_label: str
    entry_mask: Bools
    horizon: int
    cells: ScoreCells


def choose_headline(record: BacktestRecord, ages: Sequence[int]) -> Headline | None:
    """The forecasts to speak of first: D180 from day 7 where it has matured; None: nothing has."""
    found = dict(group_by_observed_age(record.entries, ages))
    asked = [str(age) for age in sorted(ages, key=lambda age: (age != 7, age))]
    for label in [*asked, "7-13", "all"]:
        for horizon in [h for h in HORIZONS[::-1] if h <= HEADLINE_HORIZON]:
            if len(cells := record.select_cells("final", found[label], horizon)):
                return Headline(label, found[label], horizon, cells)
    return None


class Judgement(NamedTuple):
    """A judgement: `color` green, amber, red or grey, and its words."""

    color: str
    text: str


def headline_sentence(found: Headline | None) -> str:
    """The plain sentence on top: how far off forecasts were, and in which direction."""
    if found is None:
        return "Nothing forecast in the past has come true yet: nobody can say how far off this is."
    c, label = found.cells, found.age_label
    made = "at any age" if label == "all" else f"on day{'s' * ('-' in label)} {label}"
    later = "" if found.horizon == HEADLINE_HORIZON else "; no later horizon has matured yet"
    rests = f"({count_with_noun(len(c), 'cohort')}, forecast on {count_with_noun(c.origin_count, 'day')}{later})."
    said = f"In the past, a forecast of D{found.horizon} made {made} "
    error, other = wape_of_cells(c), wape_of_cells(as_pattern_forecast(c))
    if not np.isfinite(error):
        return f"{said}cannot be scored: no revenue came {rests}"
    apart = not np.allclose(c.band.mean, c.pattern)
    exact = apart and percent(error) == percent(other)
    said += "was off by "
    said += f"{percent(error, exact=exact)} for a single cohort and {bias_in_words(bias_of_cells(c))} over all "
    said += "cohorts together"
    if apart:
        said += f"; the pattern alone was off by {percent(other, exact=exact)}"
    if np.isfinite(share := coverage_with_error(c)[0]):
        said += f". The 80 % interval held {percent(share)} of outcomes"
    return f"{said} {rests}"


def verdict(lights: Sequence[Judgement]) -> Judgement:
    """Whether to trust the forecast, in a few words: those of the gravest light."""
    words = {"red": "Do not rely on it.", "amber": "Use it with care."}
    words |= {"grey": "It cannot be judged yet.", "green": "Trust it."}
    colors = {light.color for light in lights} or {"grey"}
    return next(Judgement(color, said) for color, said in words.items() if color in colors)


def judgements(record: BacktestRecord, found: Headline | None) -> list[Judgement]:
    """What the verdict rests on: the pattern, bias, single cohorts and intervals."""
    if found is None:
        return []
    c = found.cells
    if not np.isfinite(wape_of_cells(c)):
        return [Judgement("grey", f"{NO_REVENUE}.")]
    return [_against(record), _leaning(c), _single(c), *_rests(c), _honest(c)]


def _against(record: BacktestRecord) -> Judgement:
    """The model against the pattern, over all that has matured."""
    versus = compare_stage_with_pattern(record, "final")
    if not np.isfinite([versus.difference, versus.relative_difference]).all():
        said = "no revenue came, or the pattern made no error"
        return Judgement("grey", f"Not compared with the historical pattern: {said}.")
    if abs(versus.relative_difference) < 0.005:
        return Judgement(
            "green", "As far off as the historical pattern, within 0.5 % of its error."
        )
    less = "smaller" if versus.relative_difference < 0 else "larger"
    said = f"over all ages its error was {percent(versus.relative_difference)} {less} than the pattern's"
    if versus.is_better:
        return Judgement("green", f"Better than the historical pattern: {said}.")
    if versus.is_worse:
        return Judgement("red", f"Worse than the historical pattern: {said}. Use the pattern.")
    return Judgement("amber", f"Not told apart from the pattern: {said}, which may be chance.")


def _leaning(c: ScoreCells) -> Judgement:
    """Whether the sum over cohorts was off by more than chance."""
    size, off = np.abs(c.actual), bias_of_cells(c)
    each = np.divide(c.band.mean - c.actual, size, out=np.full(len(c), np.nan), where=size > 0)
    chance = 2 * metrics.clustered_standard_error(each, c.users * size, c.acquisition_week)
    said = f"Over all cohorts together {bias_in_words(off)}"
    if abs(off) > 0.02 and abs(off) > chance:
        return Judgement(
            "red" if abs(off) > 0.1 else "amber", f"{said}, more than chance explains."
        )
    said += ", which may be chance" if abs(off) > 0.02 else ""
    return Judgement("amber" if not abs(off) <= 0.05 else "green", f"{said}.")


def _single(c: ScoreCells) -> Judgement:
    """How far off one cohort was."""
    said = f"A single cohort was off by {percent(wape_of_cells(c))}"
    if wape_of_cells(c) < LARGE_SINGLE_ERROR:
        return Judgement("green", f"{said}.")
    return Judgement("amber", f"{said}: judge several together.")


def _rests(c: ScoreCells) -> list[Judgement]:
    """A warning where all rests on little."""
    cohorts, days = count_with_noun(len(c), "cohort"), count_with_noun(c.origin_count, "day")
    said = f"All of this rests on {cohorts}"
    if c.origin_count < FEW_OUTCOMES["days"]:
        return [Judgement("amber", f"{said} forecast on {days} only.")]
    few = Judgement("amber", f"{said} only, forecast on {days}.")
    return [few] if len(c) < FEW_OUTCOMES["cohorts"] else []


def _honest(c: ScoreCells) -> Judgement:
    """Whether the 80 % interval held what it promises."""
    share, error = coverage_with_error(c)
    if not np.isfinite(share):
        return Judgement("amber", "There are no intervals: too little had matured to check them.")
    said = f"The 80 % interval held {percent(share)} of outcomes"
    if abs(share - 0.8) <= max(0.05, 2 * error):
        return Judgement("green", f"{said}, as close to 80 % as chance allows.")
    return Judgement("amber", f"{said}: it is too {'narrow' if share < 0.8 else 'wide'}.")
