"""How good past forecasts were, in numbers and plain words: what figures and the page rest on.

Shapes: E entries, C cells of one group and horizon.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ltvnet import metrics
from ltvnet.backtesting.scores import (
    HORIZONS,
    Cells,
    Record,
    against_pattern,
    alone,
    bias,
    covered,
    groups,
    wape,
)
from ltvnet.data.arrays import Bools
from ltvnet.reports.wording import counted, direction, percent

HEADLINE = 180  # the horizon to speak of, or the longest before it that has matured
LARGE = 0.25  # error of a single cohort from which a reader is warned
FEW = {"cohorts": 20, "days": 5}  # with fewer outcomes a reader is warned
NOTHING = "There was no revenue to score on"


class Headline(NamedTuple):
    """What the report speaks of first: forecasts (E,) from an observed age, at one horizon."""

    label: str
    rows: Bools
    horizon: int
    cells: Cells


def headline(record: Record, ages: Sequence[int]) -> Headline | None:
    """The forecasts to speak of first: D180 from day 7 where it has matured; None: nothing has."""
    found = dict(groups(record.entries, ages))
    asked = [str(age) for age in sorted(ages, key=lambda age: (age != 7, age))]
    for label in [*asked, "7-13", "all"]:
        for horizon in [h for h in HORIZONS[::-1] if h <= HEADLINE]:
            if len(cells := record.cells("final", found[label], horizon)):
                return Headline(label, found[label], horizon, cells)
    return None


class Light(NamedTuple):
    """A judgement: `color` green, amber, red or grey, and its words."""

    color: str
    words: str


def sentence(found: Headline | None) -> str:
    """The plain sentence on top: how far off forecasts were, and in which direction."""
    if found is None:
        return "Nothing forecast in the past has come true yet: nobody can say how far off this is."
    c, label = found.cells, found.label
    made = "at any age" if label == "all" else f"on day{'s' * ('-' in label)} {label}"
    later = "" if found.horizon == HEADLINE else "; no later horizon has matured yet"
    rests = f"({counted(len(c), 'cohort')}, forecast on {counted(c.origins, 'day')}{later})."
    said = f"In the past, a forecast of D{found.horizon} made {made} "
    error, other = wape(c), wape(alone(c))
    if not np.isfinite(error):
        return f"{said}cannot be scored: no revenue came {rests}"
    apart = not np.allclose(c.band.mean, c.pattern)
    exact = apart and percent(error) == percent(other)
    said += "was off by "
    said += f"{percent(error, exact=exact)} for a single cohort and {direction(bias(c))} over all "
    said += "cohorts together"
    if apart:
        said += f"; the pattern alone was off by {percent(other, exact=exact)}"
    if np.isfinite(share := covered(c)[0]):
        said += f". The 80 % interval held {percent(share)} of outcomes"
    return f"{said} {rests}"


def verdict(lights: Sequence[Light]) -> Light:
    """Whether to trust the forecast, in a few words: those of the gravest light."""
    words = {"red": "Do not rely on it.", "amber": "Use it with care."}
    words |= {"grey": "It cannot be judged yet.", "green": "Trust it."}
    colors = {light.color for light in lights} or {"grey"}
    return next(Light(color, said) for color, said in words.items() if color in colors)


def lights(record: Record, found: Headline | None) -> list[Light]:
    """What the verdict rests on: the pattern, bias, single cohorts and intervals."""
    if found is None:
        return []
    c = found.cells
    if not np.isfinite(wape(c)):
        return [Light("grey", f"{NOTHING}.")]
    return [_against(record), _leaning(c), _single(c), *_rests(c), _honest(c)]


def _against(record: Record) -> Light:
    """The model against the pattern, over all that has matured."""
    versus = against_pattern(record, "final")
    if not np.isfinite([versus.difference, versus.relative]).all():
        said = "no revenue came, or the pattern made no error"
        return Light("grey", f"Not compared with the historical pattern: {said}.")
    if abs(versus.relative) < 0.005:
        return Light("green", "As far off as the historical pattern, within 0.5 % of its error.")
    less = "smaller" if versus.relative < 0 else "larger"
    said = f"over all ages its error was {percent(versus.relative)} {less} than the pattern's"
    if versus.better:
        return Light("green", f"Better than the historical pattern: {said}.")
    if versus.worse:
        return Light("red", f"Worse than the historical pattern: {said}. Use the pattern.")
    return Light("amber", f"Not told apart from the pattern: {said}, which may be chance.")


def _leaning(c: Cells) -> Light:
    """Whether the sum over cohorts was off by more than chance."""
    size, off = np.abs(c.actual), bias(c)
    each = np.divide(c.band.mean - c.actual, size, out=np.full(len(c), np.nan), where=size > 0)
    chance = 2 * metrics.clustered_error(each, c.users * size, c.week)
    said = f"Over all cohorts together {direction(off)}"
    if abs(off) > 0.02 and abs(off) > chance:
        return Light("red" if abs(off) > 0.1 else "amber", f"{said}, more than chance explains.")
    said += ", which may be chance" if abs(off) > 0.02 else ""
    return Light("amber" if not abs(off) <= 0.05 else "green", f"{said}.")


def _single(c: Cells) -> Light:
    """How far off one cohort was."""
    said = f"A single cohort was off by {percent(wape(c))}"
    if wape(c) < LARGE:
        return Light("green", f"{said}.")
    return Light("amber", f"{said}: judge several together.")


def _rests(c: Cells) -> list[Light]:
    """A warning where all rests on little."""
    cohorts, days = counted(len(c), "cohort"), counted(c.origins, "day")
    said = f"All of this rests on {cohorts}"
    if c.origins < FEW["days"]:
        return [Light("amber", f"{said} forecast on {days} only.")]
    few = Light("amber", f"{said} only, forecast on {days}.")
    return [few] if len(c) < FEW["cohorts"] else []


def _honest(c: Cells) -> Light:
    """Whether the 80 % interval held what it promises."""
    share, error = covered(c)
    if not np.isfinite(share):
        return Light("amber", "There are no intervals: too little had matured to check them.")
    said = f"The 80 % interval held {percent(share)} of outcomes"
    if abs(share - 0.8) <= max(0.05, 2 * error):
        return Light("green", f"{said}, as close to 80 % as chance allows.")
    return Light("amber", f"{said}: it is too {'narrow' if share < 0.8 else 'wide'}.")
