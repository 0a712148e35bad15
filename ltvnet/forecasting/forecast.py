"""A forecast: mean and quantiles of cohorts at ages, how far to trust them, and their parts.

Shapes: N cohorts, H ages asked for, J nodes, R sums over cohorts, C cells that are forecast.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import EllipsisType
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltvnet.data.arrays import Bools, Categorical, Floats, Ints, Strings, factorize
from ltvnet.data.columns import END, START
from ltvnet.data.curves import MAX_AGE, Curves, validate_ages
from ltvnet.data.output_columns import attribute_column

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


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        """Summary in a line: cohorts, ages, the day, and how far the data reach."""
        ages = f"{len(self.ages)} ages D{self.ages[0]}..D{self.ages[-1]}"
        reach = f"supported to D{self.last_supported_age}"
        if self.last_supported_age < 0:
            reach = "supported at no age"
        return (
            f"Forecast({len(self.curves):,} cohorts, {ages}, as of {self.curves.origin}, {reach})"
        )

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

    def take(self, rows: Ints) -> "Forecast":
        """Select cohorts by increasing row numbers."""
        raw = self.raw.take(rows)
        return replace(
            self,
            curves=self.curves.take(rows),
            pattern=self.pattern[rows],
            raw=raw,
            final=raw if self.final is self.raw else self.final.take(rows),
            reason=self.reason[rows],
            is_borrowed=None if self.is_borrowed is None else self.is_borrowed[rows],
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

    @property
    def return_on_spend(self) -> Floats:
        """Return final means (N, H) over spend per user; NaN where none was spent, or unknown."""
        return return_on_spend(self.curves, self.final.mean)

    def cell_reasons(self) -> Categorical:
        """Return the reason of each cell that is forecast, in the order of rows, then ages: (C,).

        That of the row, but `extrapolated` at ages beyond those that the data support.
        """
        row, column = np.nonzero(self.is_ahead)
        codes, words = factorize(np.append(self.reason, "extrapolated"))
        extrapolated = codes[-1]
        is_extrapolated = ~self.is_within_reach[column]
        return Categorical(np.where(is_extrapolated, extrapolated, codes[row]), words)

    def long_columns(self) -> dict[str, NDArray[Any] | Categorical]:
        """Return columns (C,) of the long table, a row for each cell that is forecast, by name.

        The key, with attributes named by `attribute_column`; users, spend, origin, observed age
        and value, age; `pattern`, `raw_mean` and raw quantiles, final `mean` and quantiles, `roas`
        (mean over spend per user); whether p10 and p90 are `uncalibrated`; the reason. All that
        is final is blank at ages beyond those that the data support: pattern and raw values say
        what was held flat there. Money is in float32, text as codes.
        """
        curves = self.curves
        row, column = np.nonzero(self.is_ahead)
        is_within_reach = self.is_within_reach[column]

        def known_cells(values: Floats) -> NDArray[np.float32]:
            cells = values[row, column].astype(np.float32)
            cells[~is_within_reach] = np.nan
            return cells

        is_uncalibrated = np.ones_like(self.is_ahead)
        if self.is_borrowed is not None:
            is_uncalibrated = self.is_borrowed | np.isnan(self.final.p90)

        columns: dict[str, NDArray[Any] | Categorical] = {
            START: curves.start[row],
            END: curves.end[row],
        }
        for name in curves.attributes:
            codes, values = curves.attribute_codes[name]
            columns[attribute_column(name)] = Categorical(codes[row], values)
        columns |= {
            "users": curves.users[row],
            "spend": curves.spend[row],
            "origin": np.full(len(row), curves.origin),
            "observed_age": curves.observed_age[row],
            "observed_value": curves.observed_value[row],
            "age": self.ages[column],
            "pattern": self.pattern[row, column].astype(np.float32),
        }
        for name in QUANTITIES:
            columns[f"raw_{name}"] = getattr(self.raw, name)[row, column].astype(np.float32)
        for name in QUANTITIES:
            columns[name] = known_cells(getattr(self.final, name))
        columns["roas"] = known_cells(self.return_on_spend)
        columns["uncalibrated"] = is_uncalibrated[row, column] | ~is_within_reach
        columns["reason"] = self.cell_reasons()
        return columns

    def to_frame(self) -> pd.DataFrame:
        """Build the long table as `forecasts.parquet` has it, a row for each cell that is forecast.

        See `long_columns`; the column `bundle` is missing, as no bundle is known.
        """
        columns: dict[str, NDArray[Any]] = {}
        for name, cells in self.long_columns().items():
            if isinstance(cells, Categorical):
                columns[name] = cells.values.astype(object)[cells.codes]
            else:
                columns[name] = cells
        return pd.DataFrame(columns)


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


def return_on_spend(curves: Curves, values: NDArray[np.floating[Any]]) -> Floats:
    """Return values per user (N, H) over spend per user; NaN where none was spent, or unknown."""
    has_spend = np.isfinite(curves.spend) & (curves.spend > 0)
    spend = np.where(has_spend, curves.spend, np.nan)
    ratio: Floats = values * (curves.users / spend)[:, None]
    return ratio


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
