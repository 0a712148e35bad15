"""Findings about past forecasts in plain words: the sentence on top of a page, and the verdict.

The numbers come from `backtesting`; here they are only put into words and judged.

Shapes: E entries, C cells of one group and horizon.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np

from ltvnet.backtesting.error_analysis import bias_standard_error, check_intervals
from ltvnet.backtesting.scores import (
    BacktestRecord,
    ScoreCells,
    as_pattern_forecast,
    bias_of_cells,
    compare_stage_with_pattern,
    coverage_of_cells,
    group_by_observed_age,
    is_pattern_forecast,
    wape_of_cells,
)
from ltvnet.data.arrays import Bools
from ltvnet.data.curves import HORIZONS
from ltvnet.reports.wording import bias_in_words, count_with_noun, percent

HEADLINE_HORIZON = 180
"""The horizon to speak of, or the longest before it that has matured."""

LARGE_SINGLE_ERROR = 0.25
"""Error of a single cohort from which a reader is warned."""

FEW_OUTCOMES = {"cohorts": 20, "days": 5}
"""With fewer outcomes a reader is warned."""

NO_REVENUE = "There was no revenue to score on"

Color = Literal["green", "amber", "red", "grey"]


class Headline(NamedTuple):
    """The forecasts that a report speaks of first: from an observed age, at one horizon.

    `age_label` the observed age, "7", or bucket, "7-13"; `entry_mask` (E,) the entries of that
    age; `cells` those of them that have matured at `horizon`.
    """

    age_label: str
    entry_mask: Bools
    horizon: int
    cells: ScoreCells


def choose_headline(record: BacktestRecord, ages: Sequence[int]) -> Headline | None:
    """Choose the forecasts to speak of: D180 from day 7 where it matured; None: nothing has."""
    entries_by_age = dict(group_by_observed_age(record.entries, ages))
    day_7_first = sorted(ages, key=lambda age: (age != 7, age))
    age_labels = [*(str(age) for age in day_7_first), "7-13", "all"]
    horizons = [horizon for horizon in HORIZONS[::-1] if horizon <= HEADLINE_HORIZON]

    for label in age_labels:
        for horizon in horizons:
            cells = record.select_cells("final", entries_by_age[label], horizon)
            if len(cells):
                return Headline(label, entries_by_age[label], horizon, cells)
    return None


class Judgement(NamedTuple):
    """A judgement of past forecasts: its traffic light, and its words."""

    color: Color
    text: str


def headline_sentence(headline: Headline | None) -> str:
    """Return the plain sentence on top: how far off forecasts were, and in which direction."""
    if headline is None:
        return "Nothing forecast in the past has come true yet: nobody can say how far off this is."
    cells = headline.cells
    subject = f"In the past, a forecast of D{headline.horizon} made {_when_made(headline)}"
    basis = _basis(headline)
    error = wape_of_cells(cells)
    if not np.isfinite(error):
        return f"{subject} cannot be scored: no revenue came {basis}"

    pattern_error = wape_of_cells(as_pattern_forecast(cells))
    differs_from_pattern = not np.allclose(cells.band.mean, cells.pattern)
    # A decimal more where the rounded errors of model and pattern would look alike.
    exact = differs_from_pattern and percent(error) == percent(pattern_error)
    sentence = (
        f"{subject} was off by {percent(error, exact=exact)} for a single cohort and "
        f"{bias_in_words(bias_of_cells(cells))} over all cohorts together"
    )
    if differs_from_pattern:
        sentence += f"; the pattern alone was off by {percent(pattern_error, exact=exact)}"
    coverage = coverage_of_cells(cells)
    if coverage.is_known:
        sentence += f". The 80 % interval held {percent(coverage.share)} of outcomes"
    return f"{sentence} {basis}"


def _when_made(headline: Headline) -> str:
    """Say from which observed ages the headline's forecasts were made."""
    label = headline.age_label
    if label == "all":
        return "at any age"
    is_range = "-" in label
    return f"on days {label}" if is_range else f"on day {label}"


def _basis(headline: Headline) -> str:
    """Say in brackets on how many outcomes the headline rests."""
    cohorts = count_with_noun(len(headline.cells), "cohort")
    days = count_with_noun(headline.cells.origin_count, "day")
    caveat = ""
    if headline.horizon != HEADLINE_HORIZON:
        caveat = "; no later horizon has matured yet"
    return f"({cohorts}, forecast on {days}{caveat})."


@dataclass(frozen=True)
class Verdict:
    """Whether to trust a model: `text` in a few words with their `color`, and what speaks for it.

    `reason` the judgement against the pattern, where it is red ("": it is not); `sentence` how far
    off forecasts were.
    """

    color: Color
    text: str
    reason: str
    sentence: str

    @classmethod
    def from_record(cls, record: BacktestRecord | None, ages: Sequence[int]) -> Self:
        """Judge past forecasts of a model; None: nothing was forecast in the past."""
        headline = choose_headline(record, ages) if record is not None else None
        basis = judgements(record, headline) if record is not None else []
        color, text = verdict(basis)
        against_pattern = basis[:1]
        reason = "".join(each.text for each in against_pattern if each.color == "red")
        return cls(color, text, reason, headline_sentence(headline))

    @classmethod
    def from_entry(cls, entry: object) -> Self | None:
        """Read the verdict that `as_entry` made for a manifest; None where it is none."""
        if not isinstance(entry, Mapping) or entry.get("color") not in get_args(Color):
            return None
        words = (str(entry.get(name, "")) for name in ("text", "reason", "sentence"))
        return cls(entry["color"], *words)

    def as_entry(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        return asdict(self)

    def as_text(self) -> str:
        """The verdict for a terminal, in a paragraph."""
        return " ".join(words for words in (self.text, self.reason, self.sentence) if words)


def verdict(judgements: Sequence[Judgement]) -> Judgement:
    """Say whether to trust the forecast, in a few words: those of the gravest judgement."""
    texts_by_gravity: dict[Color, str] = {
        "red": "Do not rely on it.",
        "amber": "Use it with care.",
        "grey": "It cannot be judged yet.",
        "green": "Trust it.",
    }
    colors = {judgement.color for judgement in judgements} or {"grey"}
    return next(
        Judgement(color, text) for color, text in texts_by_gravity.items() if color in colors
    )


def judgements(record: BacktestRecord, headline: Headline | None) -> list[Judgement]:
    """Judge past forecasts: against the pattern, by bias, single cohorts, basis and intervals.

    Empty where nothing has matured.
    """
    if headline is None:
        return []
    cells = headline.cells
    if not np.isfinite(wape_of_cells(cells)):
        return [Judgement("grey", f"{NO_REVENUE}.")]
    return [
        _judge_against_pattern(record),
        _judge_bias(cells),
        _judge_single_cohort(cells),
        *_judge_sample_size(cells),
        _judge_coverage(record, headline),
    ]


def _judge_against_pattern(record: BacktestRecord) -> Judgement:
    """Judge the model against the pattern, over all that has matured."""
    if is_pattern_forecast(record):
        return Judgement("green", "The forecast is the historical pattern itself.")
    versus = compare_stage_with_pattern(record, "final")
    if not np.isfinite([versus.difference, versus.relative_difference]).all():
        reason = "no revenue came, or the pattern made no error"
        return Judgement("grey", f"Not compared with the historical pattern: {reason}.")
    if abs(versus.relative_difference) < 0.005:
        text = (
            "Over all ages and horizons as far off as the historical pattern, within 0.5 % of its "
            "error."
        )
        return Judgement("green", text)

    comparative = "smaller" if versus.relative_difference < 0 else "larger"
    size = percent(versus.relative_difference)
    errors = f"over all ages its error was {size} {comparative} than the pattern's"
    if versus.is_better:
        return Judgement("green", f"Better than the historical pattern: {errors}.")
    if versus.is_worse:
        text = f"Worse than the historical pattern: {errors}. Use the pattern."
        return Judgement("red", text)
    return Judgement("amber", f"Not told apart from the pattern: {errors}, which may be chance.")


def _judge_bias(cells: ScoreCells) -> Judgement:
    """Judge whether the sum over cohorts was off by more than chance."""
    bias = bias_of_cells(cells)
    chance = 2 * bias_standard_error(cells)
    text = f"Over all cohorts together {bias_in_words(bias)}"
    if abs(bias) > 0.02 and abs(bias) > chance:
        color: Color = "red" if abs(bias) > 0.1 else "amber"
        return Judgement(color, f"{text}, more than chance explains.")

    if abs(bias) > 0.02:
        text += ", which may be chance"
    is_small = abs(bias) <= 0.05  # False of a bias that is unknown
    return Judgement("green" if is_small else "amber", f"{text}.")


def _judge_single_cohort(cells: ScoreCells) -> Judgement:
    """Judge how far off one cohort was."""
    error = wape_of_cells(cells)
    text = f"A single cohort was off by {percent(error)}"
    if error < LARGE_SINGLE_ERROR:
        return Judgement("green", f"{text}.")
    return Judgement("amber", f"{text}: judge several together.")


def _judge_sample_size(cells: ScoreCells) -> list[Judgement]:
    """Warn where all rests on few days or few cohorts; empty where it does not."""
    cohorts = count_with_noun(len(cells), "cohort")
    days = count_with_noun(cells.origin_count, "day")
    text = f"All of this rests on {cohorts}"
    if cells.origin_count < FEW_OUTCOMES["days"]:
        return [Judgement("amber", f"{text} forecast on {days} only.")]
    if len(cells) < FEW_OUTCOMES["cohorts"]:
        return [Judgement("amber", f"{text} only, forecast on {days}.")]
    return []


def _judge_coverage(record: BacktestRecord, headline: Headline) -> Judgement:
    """Judge whether the 80 % interval held what it promises: the headline's, or else all others."""
    coverage = coverage_of_cells(headline.cells)
    if not coverage.is_known:
        return Judgement("amber", _describe_other_intervals(record, headline))

    text = f"The 80 % interval held {percent(coverage.share)} of outcomes"
    if coverage.deviation <= max(0.05, coverage.two_standard_errors):
        return Judgement("green", f"{text}, as close to 80 % as chance allows.")
    fault = "narrow" if coverage.is_too_narrow else "wide"
    return Judgement("amber", f"{text}: it is too {fault}.")


def _describe_other_intervals(record: BacktestRecord, headline: Headline) -> str:
    """Say why the headline's forecasts have no interval, and how those that there are held."""
    check = check_intervals(record)
    if check is None:
        return "There are no intervals: too little had matured to check them."

    made = f"D{headline.horizon} made {_when_made(headline)}"
    shares = [coverage.share for coverage in check.coverage.values()]
    held = percent(min(shares))
    if percent(max(shares)) != held:
        held = f"{held} to {percent(max(shares))}"
    return (
        f"No interval of {made} has been checked yet, as too little had matured; those of other "
        f"ages held {held} of outcomes."
    )
