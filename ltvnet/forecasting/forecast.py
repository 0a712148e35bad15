"""A forecast: mean and quantiles of cohorts at ages, how far to trust them, and their parts.

Shapes: N cohorts, H ages asked for, J nodes, R sums over cohorts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import EllipsisType
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ltvnet.data.arrays import Bools, Floats, Ints, Strings
from ltvnet.data.curves import MAX_AGE, Curves, validate_ages

QUANTITIES = ("mean", "p10", "p50", "p90")
"""Fields of a band, in the order of its columns in tables."""

AxisIndex = int | slice | EllipsisType | None | NDArray[np.integer[Any]] | Bools
CellIndex = AxisIndex | tuple[AxisIndex, ...]
"""What selects cells of an array, on one axis or on several."""

AGE_BUCKETS = (0, 3, 7, 14, 30, 60, 90, 180)
"""Observed ages are told apart in [0, 3) [3, 7) ... [180, 360)."""

AGE_BUCKET_LABELS = tuple(f"{low}-{high - 1}" for low, high in pairwise((*AGE_BUCKETS, MAX_AGE)))
"""Buckets of observed age in days, such as 7-13, in the order of AGE_BUCKETS."""

YOUNG = 3
"""Forecasts from fewer observed ages than this are marked `young`."""


@dataclass(frozen=True)
class Band:
    """Mean and quantiles of cumulative revenue per user, each (N, H), NaN at ages observed.

    In what is issued p10 <= mean <= p90; p50 may lie on either side of the mean.
    """

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

    def widen_to_mean(self) -> "Band":
        """Return the band with p10 not above and p90 not below the mean; NaN stays NaN.

        The mean of a skewed revenue may lie beyond a quantile. Who reads a range beside a
        forecast expects the forecast in it, and a wider range holds no fewer outcomes.
        """
        p10 = self.p10 if self.p10 is self.mean else np.minimum(self.p10, self.mean)
        p90 = self.p90 if self.p90 is self.mean else np.maximum(self.p90, self.mean)
        return Band(self.mean, p10, self.p50, p90)

    def take(self, cells: CellIndex) -> "Band":
        """Select cells of the mean and of each quantile, by any index of NumPy's: `array[cells]`.

        Slices give views, arrays give copies.
        """
        return self.map(lambda values: values[cells])


class PortfolioSpread(Protocol):
    """Uncertainty of sums over cohorts."""

    @property
    def is_borrowed(self) -> Bools:
        """Return which NODES (J,) took the uncertainty of others."""
        ...

    def half_width(self, grown: Floats, squared: Floats) -> Floats:
        """Return half the width (R, J) of the 80 % interval of sums at NODES.

        `grown` (R, J) sum of users x forecast growth, `squared` (R, J) sum of its squares; NaN
        where it is not known.
        """
        ...


@dataclass(frozen=True)
class Forecast:
    """Forecasts of cohorts at ages; cells at ages not later than the observed age are NaN.

    `curves` the cohorts as they were known; `ages` (H,) increasing; `pattern` (N, H) the
    historical pattern; `raw` as the model issued it; `final` corrected and calibrated, the same
    object as `raw` where nothing was corrected; `reason` (N,) one word a row;
    `last_supported_age` the last age that the data of the fit support: later cells are
    extrapolated, held flat by most models, and no table shows them as forecasts.
    `is_calibrated` says whether `final` has intervals that were checked on the past, `is_borrowed`
    (N, H) which of them are those of another horizon (None: not known), `portfolio_spread` the
    uncertainty of sums over cohorts (None: not known).
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
        """Return the forecast at some of its ages. Raises ValueError for an age it lacks."""
        if np.array_equal(ages, self.ages):
            return self
        if missing := sorted(set(ages) - set(self.ages.tolist())):
            raise ValueError(f"expected ages that were forecast, got also {missing}")

        column = np.searchsorted(self.ages, validate_ages(ages))
        first, last = int(column[0]), int(column[-1])
        is_range = last - first == len(column) - 1
        columns = slice(first, last + 1) if is_range else column  # a slice is a view, not a copy
        cells = (slice(None), columns)

        raw = self.raw.take(cells)
        return replace(
            self,
            ages=self.ages[columns],
            pattern=self.pattern[cells],
            raw=raw,
            final=raw if self.final is self.raw else self.final.take(cells),
            is_borrowed=None if self.is_borrowed is None else self.is_borrowed[cells],
        )

    @property
    def is_within_reach(self) -> Bools:
        """Return which ages (H,) the data support: beyond them nothing is printed as a forecast."""
        is_within: Bools = self.ages <= self.last_supported_age
        return is_within

    @property
    def is_extrapolated(self) -> Bools:
        """Return which cells (N, H) are forecast at ages beyond those that the data support."""
        return self.is_ahead & ~self.is_within_reach

    @property
    def is_ahead(self) -> Bools:
        """Return which cells (N, H) are forecast: later than an observed age of at least 0."""
        k = self.curves.observed_age[:, None]
        return (k >= 0) & (self.ages > k)


class ForecastParts(NamedTuple):
    """The mean of cohorts at an age, (N,) each, as one thing more about them is known.

    `segment_names`; `typical_of_segment` the mean of a typical cohort of the segment, were all
    dates alike; `with_own_revenue` with what the cohort earned so far; `with_own_dates` on its own
    dates; `with_own_growth` with what else a model reads from its observed days, whatever its
    attributes, or where it `is_undivided` all that the model adds.
    """

    segment_names: Strings
    typical_of_segment: Floats
    with_own_revenue: Floats
    with_own_dates: Floats
    with_own_growth: Floats
    is_undivided: bool = False


def observed_or_forecast(curves: Curves, age: int, forecast: Floats) -> Floats:
    """Return values (N,) at an age: as observed where it has come, as `forecast` (N,) elsewhere."""
    values: Floats = np.where(curves.observed_age >= age, curves.values[:, age], forecast)
    return values


def forecast_reasons(
    curves: Curves, has_new_category: Bools, last_supported_age: int, *, no_signal: bool
) -> Strings:
    """Return one word (N,) on how far to trust each row's forecast: the gravest that applies.

    `has_new_category` (N,) of rows, `no_signal` where history holds no revenue at all,
    `last_supported_age` the last that the data support. A row is `extrapolated` where it has
    reached that age: nothing is said of it. Of other rows single ages may be, see
    `Forecast.is_extrapolated`.
    """
    k = curves.observed_age
    cases = {
        "no_complete_age": k < 0,
        "complete": k >= MAX_AGE,
        "no_signal": np.full(len(k), no_signal),
        "extrapolated": k >= last_supported_age,
        "zero_revenue_so_far": curves.observed_value <= 0,
        "unseen_category": has_new_category,
        "young": k < YOUNG,
    }
    return np.select(list(cases.values()), list(cases), "ok").astype(object)


def age_bucket(age: Ints) -> Ints:
    """Return the index in AGE_BUCKETS of observed ages; 0 for those without a complete age."""
    index = np.searchsorted(np.array(AGE_BUCKETS), age, side="right") - 1
    return np.maximum(index, 0)
