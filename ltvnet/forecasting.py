"""What a forecast is, what a forecaster does, and which forecasters there are.

Shapes: N cohorts, H ages asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltvnet.curves import AGES, MAX_AGE, NODES, Bools, Curves, Floats, Ints, Strings

State = tuple[dict[str, Any], dict[str, NDArray[Any]]]
"""What a fitted forecaster is made of: JSON values, and arrays by name."""

QUANTITIES = ("mean", "p10", "p50", "p90")

BUCKETS = (0, 3, 7, 14, 30, 60, 90, 180)
"""Observed ages are told apart in [0, 3) [3, 7) ... [180, 360)."""

YOUNG = 3
"""Forecasts from fewer observed ages than this are marked `young`."""

MIN_COHORTS, MIN_MATURED, MATURE_AGE = 30, 2, 30
"""Below so many cohorts, or so many observed to MATURE_AGE, the pattern stands alone."""

CAUTION = 40
"""Number of matured cohorts at which what is learned beside the pattern is halved."""

DAYS_TOGETHER = 2048
"""Cohorts whose means at every day are made together."""


@dataclass(frozen=True)
class Band:
    """Mean and quantiles of cumulative revenue per user, each (N, H), NaN at ages observed."""

    mean: Floats
    p10: Floats
    p50: Floats
    p90: Floats


class Spread(Protocol):
    """How uncertain sums over cohorts are."""

    @property
    def borrowed(self) -> Bools:
        """Which NODES (J,) took the uncertainty of others."""
        ...

    def spread(self, grown: Floats, squared: Floats) -> Floats:
        """Half the width (R, J) of the 80 % interval of sums at NODES.

        `grown` (R, J) sum of users x forecast growth, `squared` (R, J) sum of its squares; NaN
        where it is not known.
        """
        ...


@dataclass(frozen=True)
class Forecast:
    """Forecasts of cohorts at ages; cells at ages not later than the observed age are NaN.

    `curves` the cohorts as they were known; `ages` (H,) increasing; `pattern` (N, H) the
    historical pattern; `raw` as the model issued it; `final` corrected and calibrated, the same
    object as `raw` where nothing was corrected; `reason` (N,) one word a row; `reach` the last
    age that the data support: later cells are extrapolated. `calibrated` says whether `final`
    has intervals that were checked on the past, `borrowed` (N, H) which of them are those of
    another horizon, `totals` how uncertain sums over cohorts are (None: not known).
    """

    curves: Curves
    ages: NDArray[np.int64]
    pattern: Floats
    raw: Band
    final: Band
    reason: Strings
    reach: int
    calibrated: bool = False
    borrowed: Bools | None = None
    totals: Spread | None = None

    def __post_init__(self) -> None:
        """Check shapes."""
        shape = (len(self.curves), len(self.ages))
        for band in (self.raw, self.final):
            for array in (self.pattern, band.mean, band.p10, band.p50, band.p90):
                assert array.shape == shape, (array.shape, shape)
        assert self.reason.shape == shape[:1]

    def at(self, ages: Sequence[int]) -> "Forecast":
        """The same forecast at some of its ages. Raises ValueError for an age it lacks."""
        if np.array_equal(ages, self.ages):
            return self
        if missing := sorted(set(ages) - set(self.ages.tolist())):
            raise ValueError(f"expected ages that were forecast, got also {missing}")
        found = np.searchsorted(self.ages, checked_ages(ages))
        together = found[-1] - found[0] == len(found) - 1
        place = slice(found[0], found[-1] + 1) if together else found  # a view, not a copy

        def chosen(band: Band) -> Band:
            return Band(*(cells[:, place] for cells in (band.mean, band.p10, band.p50, band.p90)))

        raw = chosen(self.raw)
        final = raw if self.final is self.raw else chosen(self.final)
        pattern = self.pattern[:, place]
        borrowed = None if self.borrowed is None else self.borrowed[:, place]
        return replace(
            self,
            ages=self.ages[place],
            pattern=pattern,
            raw=raw,
            final=final,
            borrowed=borrowed,
        )

    @property
    def extrapolated(self) -> Bools:
        """Which cells (N, H) lie beyond the ages that the data support."""
        return self.open & (self.ages > self.reach)

    @property
    def open(self) -> Bools:
        """Which cells (N, H) are forecast: later than an observed age that is at least 0."""
        k = self.curves.observed_age[:, None]
        return (k >= 0) & (self.ages > k)


class Parts(NamedTuple):
    """What the mean of cohorts at an age is made of: (N,) each, as one thing more is known.

    `names` of the segments; `segment` of a typical cohort of the segment, were all dates alike;
    `level` with what the cohort earned so far; `pattern` on its own dates; `shape` with what else
    a model reads from its observed days, whatever its attributes, or where it is `whole` all that
    the model says.
    """

    names: Strings
    segment: Floats
    level: Floats
    pattern: Floats
    shape: Floats
    whole: bool = False


@dataclass(frozen=True)
class Course:
    """How means go from node to node: they grow as `shape` (P, A) does.

    `which` (N,) of the shapes each cohort has.
    """

    shape: Floats
    which: Ints

    def days(self, curves: Curves, means: Sequence[Floats]) -> list[NDArray[np.float32]]:
        """Means at every age (A, N) of cohorts whose `means` (N, J) at NODES are known.

        At ages observed they are what was observed. Where the shape does not grow, theirs is that
        of log age.
        """
        made = [np.empty((AGES, len(curves)), np.float32) for _ in means]
        shape = np.ascontiguousarray(self.shape.T)
        for first in range(0, len(curves), DAYS_TOGETHER):
            rows = slice(first, first + DAYS_TOGETHER)
            known = curves.values[rows], curves.observed_age[rows]
            own = [mean[rows] for mean in means]
            _fill([cells[:, rows] for cells in made], shape, self.which[rows], known, own)
        return made


def _fill(
    made: Sequence[NDArray[np.float32]],
    shape: Floats,
    which: Ints,
    known: tuple[Floats, Ints],
    means: Sequence[Floats],
) -> None:
    """Means at every age, `made` (A, N), as `Course.days` has them, of a block of cohorts.

    `shape` (A, P), `which` (N,) of them, values (N, A) that are `known` up to ages (N,), and
    `means` (N, J) at NODES.
    """
    values, k = known
    now = np.maximum(k, 0)
    value = np.where(k < 0, np.nan, values[np.arange(len(k)), now])
    for j, (begin, end) in enumerate(pairwise(NODES)):
        if (k >= end).all():
            continue
        part = _gained(shape, which, np.maximum(begin, now), range(begin + 1, end + 1))  # (H, N)
        whole = part[-1].copy()
        for mean, cells in zip(means, made, strict=True):
            left, right = np.where(begin > k, mean[:, j], value), mean[:, j + 1]
            each = np.divide(right - left, whole, where=whole > 0, out=np.zeros_like(whole))
            days = part * each
            days += left
            np.minimum(days, right, out=cells[begin + 1 : end + 1])  # rounding may end above a node
            cells[end] = right
    seen = int(now.max()) + 1
    observed = np.arange(seen)[:, None] <= k
    for cells in made:
        np.copyto(cells[:seen], values[:, :seen].T, where=observed, casting="same_kind")
        cells[0, k < 0] = np.nan


def _gained(shape: Floats, which: Ints, low: Ints, ages: range) -> Floats:
    """What shapes (A, P) gain from ages `low` (N,) to each of `ages`: (H, N), or log age does."""
    part = shape[ages.start : ages.stop].take(which, axis=1)
    part -= shape[low, which]
    flat = np.flatnonzero(part[-1] <= 0)
    if len(flat):
        part[:, flat] = np.log1p(ages)[:, None] - np.log1p(low[flat])
    return part


def filled(curves: Curves, age: int, ahead: Floats) -> Floats:
    """Values (N,) at an age: observed where it has come, as forecast `ahead` (N,) elsewhere."""
    cells: Floats = np.where(curves.observed_age >= age, curves.values[:, age], ahead)
    return cells


@runtime_checkable
class Predictor(Protocol):
    """Anything that was fitted, forecasts curves and can be written to a bundle."""

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each row of `curves` at `ages`; a row's forecast depends on no other row."""
        ...

    def state(self) -> State:
        """The fitted forecaster as data."""
        ...

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The forecaster that `state()` described."""
        ...


@runtime_checkable
class Forecaster(Predictor, Protocol):
    """A predictor that learns from curves as of an origin."""

    def fit(self, curves: Curves) -> Self:
        """Learn from what was known at the origin of `curves`."""
        ...


REGISTRY: Mapping[str, str] = {
    "pattern": "ltvnet.pattern:Pattern",
    "neural": "ltvnet.neural:Neural",
    "corrected": "ltvnet.corrected:Corrected",
    "mack": "ltvnet.baselines.mack:Mack",
    "benktander": "ltvnet.baselines.benktander:Benktander",
    "growth_curve": "ltvnet.baselines.growth_curve:GrowthCurve",
    "loglinear": "ltvnet.baselines.loglinear:LogLinear",
    "power_law": "ltvnet.baselines.power_law:PowerLaw",
    "neighbours": "ltvnet.baselines.neighbours:Neighbours",
    "boosting": "ltvnet.baselines.boosting:Boosting",
    "growth_lstm": "ltvnet.baselines.growth_lstm:GrowthLSTM",
}


def resolve(name: str) -> type[Predictor]:
    """The class of a registered forecaster. Raises ValueError for a name that is not registered."""
    if name not in REGISTRY:
        raise ValueError(f"expected a forecaster out of {', '.join(REGISTRY)}, got {name!r}")
    module, _, attribute = REGISTRY[name].partition(":")
    cls: type[Predictor] = getattr(import_module(module), attribute)
    return cls


def create(config: Mapping[str, Any]) -> Forecaster:
    """A forecaster from its config: `name` in the registry, and the arguments of its class.

    Raises ValueError for a name that is not registered, and for "corrected", which is made of a
    forecaster and its past.
    """
    arguments = dict(config)
    cls = resolve(arguments.pop("name"))
    if not issubclass(cls, Forecaster) or config["name"] == "corrected":
        raise ValueError(f"expected a model that learns from curves, got {config['name']!r}")
    forecaster: Forecaster = cls(**arguments)
    return forecaster


def below(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def nested(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays with names that begin with `prefix`, which `below` takes off again."""
    return {prefix + name: array for name, array in arrays.items()}


def matured(curves: Curves) -> int:
    """Number of cohorts observed to MATURE_AGE."""
    return int((curves.observed_age >= MATURE_AGE).sum())


def confidence(curves: Curves) -> float:
    """Factor in 0..1 of a departure from the pattern that was learned from these curves."""
    count = matured(curves)
    return count / (count + CAUTION)


def too_little(curves: Curves, unit: float) -> str:
    """What these curves lack for a departure to be learned from them; "" if they lack nothing.

    `unit` revenue (currency) of a median cohort to D7.
    """
    if len(curves) < MIN_COHORTS or matured(curves) < MIN_MATURED:
        return f"{len(curves)} cohorts, {matured(curves)} of them observed to D{MATURE_AGE}"
    return "" if unit > 0 else "no revenue by D7"


def categories(curves: Curves, least: int) -> dict[str, list[str]]:
    """The values of each attribute that at least so many cohorts have, both in order."""
    counts = {name: pd.Series(text).value_counts() for name, text in curves.attributes.items()}
    return {name: sorted(count.index[count >= least]) for name, count in sorted(counts.items())}


def unseen(curves: Curves, vocabulary: Mapping[str, Sequence[str]]) -> Bools:
    """Which cohorts (N,) have an attribute value that training never saw."""
    rows = np.zeros(len(curves), dtype=bool)
    for name, values in vocabulary.items():
        if name in curves.words:
            codes, words = curves.words[name]
            known = set(values)
            rows |= np.array([word not in known for word in words], dtype=bool)[codes]
        else:
            rows[:] = True
    return rows


def reasons(curves: Curves, new: Bools, reach: int, *, no_signal: bool) -> Strings:
    """The word that says how far to trust each row's forecast: (N,), the gravest that applies.

    `new` (N,) rows with an unseen category, `no_signal` whether history holds no revenue at all,
    `reach` the last age that the data support.
    """
    k, value = curves.observed_age, curves.observed_value
    cases = [
        (k < 0, "no_complete_age"),
        (k >= MAX_AGE, "complete"),
        (np.full(len(k), no_signal), "no_signal"),
        (value <= 0, "zero_revenue_so_far"),
        (new, "unseen_category"),
        (k < YOUNG, "young"),
        (np.full(len(k), reach < MAX_AGE), "extrapolated"),
    ]
    words = [word for _, word in cases]
    return np.select([rows for rows, _ in cases], words, "ok").astype(object)


def bucket(age: Ints) -> Ints:
    """Which of BUCKETS an observed age is in; those without a complete age in the first."""
    return np.maximum(np.searchsorted(np.array(BUCKETS), age, side="right") - 1, 0)


def checked_ages(ages: Sequence[int]) -> NDArray[np.int64]:
    """Ages as an array. Raises ValueError unless they increase within 0..360."""
    array = np.asarray(ages, dtype=np.int64)
    if not len(array) or (np.diff(array) <= 0).any() or array[0] < 0 or array[-1] > MAX_AGE:
        raise ValueError(f"expected increasing ages within 0..{MAX_AGE}, got {list(ages)}")
    return array
