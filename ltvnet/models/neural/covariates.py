"""What a net sees beside the curve: spend, further series, the calendar; any may be unknown.

Amounts are ratios to those of the training cohorts, so that their units cancel; what is unknown
is 0, and a mask beside it says so.

Shapes: N cohorts, A ages, J nodes, F features a node, P scalars, C calendar features, H those
that change from node to node.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ltvnet.data.arrays import Days, Floats
from ltvnet.data.curves import AGES, NODES, Curves

log = logging.getLogger(__name__)

TWO_YEARS, YEAR = 730, 365.25  # days
DAY = np.timedelta64(1, "D")

SEASON = 2
"""The first calendar features: sine and cosine of the place in the year."""

WEEKEND = 2 / 7
"""Share of weekend days in a week."""

DAMPING = 0.1
"""Added to ratios before their log is taken, so that a zero has one: it is data."""

MIN_SPREAD, MAX_SPREADS = 0.01, 5.0
"""Least spread of log ratios that they are divided by, and how many spreads a net sees at most."""


@dataclass(frozen=True, kw_only=True)
class CovariateConfig:
    """What nets are to see beside the curve, where the data have it.

    `min_category` cohorts that a value of an attribute needs for a category of its own; `spend`
    per user; `series` further ones; `calendar` the place in the year and weekends, where history
    covers two years; `holidays` the attribute whose values are countries by ISO 3166 code (None:
    no holidays). Raises ValueError for other values.
    """

    min_category: int
    spend: bool
    series: bool
    calendar: bool
    holidays: str | None

    def __post_init__(self) -> None:
        """Check."""
        if self.min_category < 1:
            raise ValueError(f"expected min_category >= 1, got {self.min_category}")
        if self.holidays is not None and not self.calendar:
            raise ValueError("covariates.holidays needs covariates.calendar=true, got false")


@dataclass(frozen=True)
class SeriesScaling:
    """A series in the training cohorts: `mean` (A,), weighted by users, NaN where it has none.

    `spread` root mean square of the log of a cohort's ratio to it.
    """

    mean: Floats
    spread: float

    @classmethod
    def fit(cls, cells: Floats, users: Floats) -> Self:
        """Measure a series (N, A) of cohorts with so many users (N,)."""
        known = np.isfinite(cells)
        weight = np.where(known, users[:, None], 0.0)
        total = weight.sum(axis=0)
        mean = np.full(AGES, np.nan)
        np.divide((weight * np.where(known, cells, 0.0)).sum(axis=0), total, mean, where=total > 0)
        mean[~(mean > 0)] = np.nan
        ratio = _log_ratio(cells, mean)
        found = ratio[np.isfinite(ratio)]
        spread = float(np.sqrt(np.mean(found**2))) if len(found) else 0.0
        return cls(mean, max(spread, MIN_SPREAD))

    @classmethod
    def empty(cls) -> Self:
        """That of a series of which nothing is known."""
        return cls(np.full(AGES, np.nan), 1.0)

    def features(self, cells: Floats) -> Floats:
        """Log ratio to the mean at the last age known by each node, and a mask: (N, J, 2)."""
        ratio = _log_ratio(cells, self.mean)  # (N, A)
        place = np.where(np.isfinite(ratio), np.arange(AGES), -1)
        last = np.maximum.accumulate(place, axis=1)[:, NODES]  # (N, J)
        value = np.take_along_axis(ratio, np.maximum(last, 0), axis=1) / self.spread
        value = np.where(last >= 0, value.clip(-MAX_SPREADS, MAX_SPREADS), 0.0)
        return np.stack((value, last >= 0), axis=-1)


@dataclass(frozen=True)
class CalendarFeatures:
    """Which features of the calendar a net sees beside the place in the year.

    `weekend` the share of weekend days, known of cohorts of at most two days; `holidays` the
    attribute that names the country. Raises ValueError where the package `holidays` is wanted and
    missing.
    """

    weekend: bool
    holidays: str | None

    def __post_init__(self) -> None:
        """Check."""
        if self.holidays is not None and find_spec("holidays") is None:
            raise ValueError(
                "covariates.holidays needs the package holidays: pip install 'ltvnet[holidays]'"
            )

    @classmethod
    def from_curves(cls, curves: Curves, holidays: str | None) -> Self | None:
        """What the calendar can tell of these cohorts; None where history is below two years.

        Raises ValueError where `holidays` is not an attribute.
        """
        if holidays is not None and holidays not in curves.attributes:
            names = ", ".join(curves.attributes)
            raise ValueError(f"expected covariates.holidays out of {names}, got {holidays!r}")
        if curves.origin - curves.start.min() < TWO_YEARS * DAY:
            return None
        almanac = cls(bool(_short(curves).any()), holidays)
        if holidays is None or almanac.features(curves)[:, :, -1].any():
            return almanac
        log.warning("no value of %s is a country by ISO code: no holidays are used", holidays)
        return cls(almanac.weekend, None)

    @property
    def feature_count(self) -> int:
        """Number C of features."""
        return SEASON + self.weekend + (self.holidays is not None)

    def features(self, curves: Curves) -> Floats:
        """At the day on which a cohort reaches each node, and since the node before: (N, J, C).

        Sine and cosine of the place in the year, share of weekend days above that of a week, and
        share of holidays.
        """
        dates = curves.end[:, None] + np.array(NODES)  # (N, J)
        before = np.concatenate((dates[:, :1] - DAY, dates[:, :-1]), axis=1)
        angle = 2 * np.pi * (dates - dates.astype("datetime64[Y]")) / (YEAR * DAY)
        columns = [np.sin(angle), np.cos(angle)]
        if self.weekend:
            working = np.busday_count(before + DAY, dates + DAY) / ((dates - before) / DAY)
            columns.append(np.where(_short(curves)[:, None], 1.0 - working - WEEKEND, 0.0))
        if self.holidays is not None:
            columns.append(_holidays(curves, self.holidays, before, dates))
        return np.stack(columns, axis=-1)


class CovariateArrays(NamedTuple):
    """What is known beside the curves of cohorts.

    `nodes` (N, J, F) what is known at each node, `ahead` (N, J, H) what the calendar says of nodes
    to come, `fixed` (N, P) what does not change with age.
    """

    at_nodes: Floats
    future_calendar: Floats
    static: Floats


@dataclass(frozen=True)
class CovariateScaling:
    """What stood beside the training cohorts; what they lacked is no input.

    `spend` per user of a median cohort that cost anything; `series` by name, in order; `almanac`
    where the calendar is used.
    """

    median_spend: float | None
    series: Mapping[str, SeriesScaling]
    calendar: CalendarFeatures | None

    @classmethod
    def fit(cls, curves: Curves, chosen: CovariateConfig) -> Self:
        """Measure as of the origin of `curves`, each with a complete age, what is chosen."""
        paid = _each(curves)
        paid = paid[paid > 0]
        names = sorted(curves.series) if chosen.series else []
        series = {name: SeriesScaling.fit(curves.series[name], curves.users) for name in names}
        return cls(
            median_spend=float(np.median(paid)) if chosen.spend and len(paid) else None,
            series={n: known for n, known in series.items() if np.isfinite(known.mean).any()},
            calendar=CalendarFeatures.from_curves(curves, chosen.holidays)
            if chosen.calendar
            else None,
        )

    def align_to(self, other: Self) -> Self:
        """The same with the inputs of another, whose net is trained on: what is lacking is masked.

        Its almanac is the other's.
        """
        spend = None if other.median_spend is None else (self.median_spend or 0.0)
        series = {name: self.series.get(name, SeriesScaling.empty()) for name in other.series}
        return type(self)(spend, series, other.calendar)

    @property
    def node_feature_count(self) -> int:
        """Number F of features a node."""
        return 2 * len(self.series) + (self.calendar.feature_count if self.calendar else 0)

    @property
    def scalar_count(self) -> int:
        """Number of scalars, with those of nodes to come: P + J x H."""
        calendar = (
            SEASON + len(NODES) * (self.calendar.feature_count - SEASON) if self.calendar else 0
        )
        return 2 * (self.median_spend is not None) + calendar

    def covariate_arrays(self, curves: Curves) -> CovariateArrays:
        """What is known beside cohorts. At a node as of its age, at which series are cut.

        The season of any node is that of the first, turned by a fixed angle: it is not repeated.
        """
        ahead, unknown = (np.zeros((len(curves), len(NODES), width)) for width in (0, 2))
        nodes = [
            known.features(curves.series[name]) if name in curves.series else unknown
            for name, known in self.series.items()
        ]
        fixed = []
        if self.median_spend is not None:
            ratio = _log_ratio(_each(curves), np.array(self.median_spend or np.nan))
            fixed.append(np.stack((np.nan_to_num(ratio), np.isfinite(ratio)), axis=1))
        if self.calendar is not None:
            calendar = self.calendar.features(curves)
            nodes.append(calendar)
            fixed.append(calendar[:, 0, :SEASON])
            ahead = calendar[:, :, SEASON:]
        empty = np.zeros((len(curves), 0))
        return CovariateArrays(
            np.concatenate((ahead[:, :, :0], *nodes), axis=2),
            ahead,
            np.concatenate((empty, *fixed), axis=1),
        )

    def state(self) -> tuple[dict[str, Any], dict[str, Floats]]:
        """JSON values and arrays."""
        values = {
            "spend": self.median_spend,
            "spreads": {name: known.spread for name, known in self.series.items()},
            "almanac": None if self.calendar is None else asdict(self.calendar),
        }
        return values, {name: known.mean for name, known in self.series.items()}

    @classmethod
    def from_state(cls, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The context that `state()` described."""
        series = {
            name: SeriesScaling(arrays[name], spread) for name, spread in values["spreads"].items()
        }
        almanac = None if values["almanac"] is None else CalendarFeatures(**values["almanac"])
        return cls(values["spend"], series, almanac)


def _log_ratio(seen: Floats, usual: Floats) -> Floats:
    """Log of what was seen over what is usual, damped: 0 where they agree, NaN where unknown."""
    ratio: Floats = np.log((np.maximum(seen / usual, 0.0) + DAMPING) / (1.0 + DAMPING))
    return ratio


def _each(curves: Curves) -> Floats:
    """Spend per user (N,), NaN where unknown."""
    each = np.full(len(curves), np.nan)
    np.divide(curves.spend, curves.users, each, where=curves.users > 0)
    return each


def _short(curves: Curves) -> NDArray[np.bool_]:
    """Cohorts acquired within two days: a weekend is one for all of their users."""
    short: NDArray[np.bool_] = curves.end - curves.start <= DAY
    return short


def _holidays(curves: Curves, attribute: str, before: Days, dates: Days) -> Floats:
    """Share of holidays among the days after `before` up to `dates`, (N, J) each; 0 if unknown."""
    share = np.zeros(dates.shape)
    ends = np.unique(curves.end.astype("datetime64[Y]")).astype(int) + 1970
    years = sorted({*ends, *(ends + 1)})  # the last node is less than a year away
    countries = curves.attributes.get(attribute, np.full(len(curves), "", dtype=object))
    for country in set(countries):
        off = np.array([day for year in years for day in _days_off(country, year)], dates.dtype)
        rows = countries == country
        passed = (np.searchsorted(off, days[rows], side="right") for days in (dates, before))
        share[rows] = np.subtract(*passed) / ((dates - before)[rows] / DAY)
    return share


@lru_cache(maxsize=4096)
def _days_off(country: str, year: int) -> tuple[np.datetime64, ...]:
    """The holidays of a country in a year, in order; none for a country that is not known."""
    import holidays  # optional, and slow to import

    try:
        found = holidays.country_holidays(country, years=year)
    except NotImplementedError:
        return ()
    return tuple(np.datetime64(date, "D") for date in sorted(found) if date.year == year)
