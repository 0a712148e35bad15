"""What a forecast is, what a forecaster does, and which forecasters there are.

Shapes: N cohorts, H ages asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ltvnet.data.arrays import Bools, Floats, Ints, Strings
from ltvnet.data.curves import MAX_AGE, Curves, validate_ages

QUANTITIES = ("mean", "p10", "p50", "p90")

AxisIndex = int | slice | EllipsisType | None | NDArray[np.integer[Any]] | Bools
CellIndex = AxisIndex | tuple[AxisIndex, ...]
"""What selects cells of an array, on one axis or on several."""

AGE_BUCKETS = (0, 3, 7, 14, 30, 60, 90, 180)
"""Observed ages are told apart in [0, 3) [3, 7) ... [180, 360)."""

YOUNG = 3
"""Forecasts from fewer observed ages than this are marked `young`."""


@dataclass(frozen=True)
class Band:
    """Mean and quantiles of cumulative revenue per user, each (N, H), NaN at ages observed."""

    mean: Floats
    p10: Floats
    p50: Floats
    p90: Floats

    @classmethod
    def from_mean(cls, mean: Floats) -> Self:
        """Make a band whose quantiles all equal its mean, as one array."""
        return cls(mean, mean, mean, mean)

    def map(self, function: Callable[[Floats], Floats]) -> "Band":
        """Apply a function to the mean and to each quantile."""
        return Band(*(function(getattr(self, quantity)) for quantity in QUANTITIES))

    def take(self, cells: CellIndex) -> "Band":
        """Select cells of the mean and of each quantile, by any index of NumPy's: `array[cells]`.

        Slices give views, arrays give copies.
        """
        return self.map(lambda values: values[cells])


class PortfolioSpread(Protocol):
    """How uncertain sums over cohorts are."""

    @property
    def borrowed(self) -> Bools:
        """Which NODES (J,) took the uncertainty of others."""
        ...

    def half_width(self, grown: Floats, squared: Floats) -> Floats:
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
    last_supported_age: int
    is_calibrated: bool = False
    is_borrowed: Bools | None = None
    portfolio_spread: PortfolioSpread | None = None

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
        found = np.searchsorted(self.ages, validate_ages(ages))
        together = found[-1] - found[0] == len(found) - 1
        place = slice(found[0], found[-1] + 1) if together else found  # a view, not a copy

        cells = (slice(None), place)
        raw = self.raw.take(cells)
        final = raw if self.final is self.raw else self.final.take(cells)
        pattern = self.pattern[:, place]
        borrowed = None if self.is_borrowed is None else self.is_borrowed[:, place]
        return replace(
            self,
            ages=self.ages[place],
            pattern=pattern,
            raw=raw,
            final=final,
            is_borrowed=borrowed,
        )

    @property
    def is_extrapolated(self) -> Bools:
        """Which cells (N, H) lie beyond the ages that the data support."""
        return self.is_ahead & (self.ages > self.last_supported_age)

    @property
    def is_ahead(self) -> Bools:
        """Which cells (N, H) are forecast: later than an observed age that is at least 0."""
        k = self.curves.observed_age[:, None]
        return (k >= 0) & (self.ages > k)


class ForecastParts(NamedTuple):
    """What the mean of cohorts at an age is made of: (N,) each, as one thing more is known.

    `names` of the segments; `segment` of a typical cohort of the segment, were all dates alike;
    `level` with what the cohort earned so far; `pattern` on its own dates; `shape` with what else
    a model reads from its observed days, whatever its attributes, or where it is `whole` all that
    the model says.
    """

    segment_names: Strings
    typical_of_segment: Floats
    with_own_revenue: Floats
    with_own_dates: Floats
    with_own_growth: Floats
    is_undivided: bool = False


def observed_or_forecast(curves: Curves, age: int, ahead: Floats) -> Floats:
    """Values (N,) at an age: observed where it has come, as forecast `ahead` (N,) elsewhere."""
    cells: Floats = np.where(curves.observed_age >= age, curves.values[:, age], ahead)
    return cells


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


def age_bucket(age: Ints) -> Ints:
    """Which of BUCKETS an observed age is in; those without a complete age in the first."""
    return np.maximum(np.searchsorted(np.array(AGE_BUCKETS), age, side="right") - 1, 0)
