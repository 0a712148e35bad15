"""Covariates of a net beside the curve: spend, further series, the calendar; any may be unknown.

Amounts are ratios to those of the training cohorts, so that their units cancel; what is unknown
is 0, and a mask beside it says so.

Shapes: N cohorts, A ages, J nodes, F features a node, P numbers that do not change with age,
C calendar features, H those of them that change from node to node.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple, Self

import numpy as np

from ltvnet.data.arrays import ONE_DAY, Bools, Days, Floats
from ltvnet.data.curves import AGES, NODE_AGES, NODES, Curves
from ltvnet.forecasting.forecaster import StateArrays, StateValues

log = logging.getLogger(__name__)

TWO_YEARS = 730  # days
YEAR = 365.25  # days

SEASON_FEATURES = 2
"""Number of the first calendar features: sine and cosine of the position in the year."""

WEEKEND = 2 / 7
"""Share of weekend days in a week."""

DAMPING = 0.1
"""Added to ratios before their log is taken, so that a zero has one: it is data."""

MIN_SPREAD, MAX_SPREADS = 0.01, 5.0
"""Least spread of log ratios that they are divided by, and how many spreads a net sees at most."""


@dataclass(frozen=True, kw_only=True)
class CovariateConfig:
    """Choice of what nets see beside the curve, where the data have it.

    `min_category` cohorts that a value of an attribute needs for a category of its own; `spend`
    per user; `series` further ones; `calendar` the position in the year and weekends, where history
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
        is_known = np.isfinite(cells)
        weight = np.where(is_known, users[:, None], 0.0)
        total_weight = weight.sum(axis=0)
        total = (weight * np.where(is_known, cells, 0.0)).sum(axis=0)
        mean = np.full(AGES, np.nan)
        np.divide(total, total_weight, mean, where=total_weight > 0)
        mean[~(mean > 0)] = np.nan

        log_ratio = _damped_log_ratio(cells, mean)
        known_ratios = log_ratio[np.isfinite(log_ratio)]
        spread = float(np.sqrt(np.mean(known_ratios**2))) if len(known_ratios) else 0.0
        return cls(mean, max(spread, MIN_SPREAD))

    @classmethod
    def empty(cls) -> Self:
        """Scaling of a series with no known value."""
        return cls(np.full(AGES, np.nan), 1.0)

    def features(self, cells: Floats) -> Floats:
        """Log ratio to the mean at the last age known by each node, and a mask: (N, J, 2)."""
        log_ratio = _damped_log_ratio(cells, self.mean)  # (N, A)
        known_age = np.where(np.isfinite(log_ratio), np.arange(AGES), -1)
        last_known = np.maximum.accumulate(known_age, axis=1)[:, NODES]  # (N, J)
        is_known = last_known >= 0

        value = np.take_along_axis(log_ratio, np.maximum(last_known, 0), axis=1) / self.spread
        value = np.where(is_known, value.clip(-MAX_SPREADS, MAX_SPREADS), 0.0)
        return np.stack((value, is_known), axis=-1)


@dataclass(frozen=True)
class CalendarFeatures:
    """Features of the calendar that a net sees beside the position in the year.

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
        """Choose features that differ between cohorts; None where history is below two years.

        Raises ValueError where `holidays` is not an attribute.
        """
        if holidays is not None and holidays not in curves.attributes:
            names = ", ".join(curves.attributes)
            raise ValueError(f"expected covariates.holidays out of {names}, got {holidays!r}")
        if curves.origin - curves.start.min() < TWO_YEARS * ONE_DAY:
            return None

        has_short_cohorts = bool(_lasts_two_days(curves).any())
        calendar = cls(has_short_cohorts, holidays)
        if holidays is None or calendar.features(curves)[:, :, -1].any():
            return calendar
        log.warning("no value of %s is a country by ISO code: no holidays are used", holidays)
        return cls(has_short_cohorts, None)

    @property
    def feature_count(self) -> int:
        """Number C of features."""
        return SEASON_FEATURES + self.weekend + (self.holidays is not None)

    def features(self, curves: Curves) -> Floats:
        """At the day on which a cohort reaches each node, and since the node before: (N, J, C).

        Sine and cosine of the position in the year, share of weekend days above that of a week, and
        share of holidays.
        """
        dates = curves.end[:, None] + NODE_AGES  # (N, J)
        previous_dates = np.concatenate((dates[:, :1] - ONE_DAY, dates[:, :-1]), axis=1)
        angle = 2 * np.pi * (dates - dates.astype("datetime64[Y]")) / (YEAR * ONE_DAY)
        columns = [np.sin(angle), np.cos(angle)]

        if self.weekend:
            working_days = np.busday_count(previous_dates + ONE_DAY, dates + ONE_DAY)
            working_share = working_days / ((dates - previous_dates) / ONE_DAY)
            weekend_excess = 1.0 - working_share - WEEKEND
            columns.append(np.where(_lasts_two_days(curves)[:, None], weekend_excess, 0.0))
        if self.holidays is not None:
            columns.append(_holiday_share(curves, self.holidays, previous_dates, dates))
        return np.stack(columns, axis=-1)


class CovariateArrays(NamedTuple):
    """Covariates of cohorts.

    `at_nodes` (N, J, F) known at each node, `future_calendar` (N, J, H) what the calendar says of
    nodes to come, `static` (N, P) what does not change with age.
    """

    at_nodes: Floats
    future_calendar: Floats
    static: Floats


@dataclass(frozen=True)
class CovariateScaling:
    """Covariates of the training cohorts, and what they are divided by; others are no input.

    `median_spend` per user of cohorts that cost anything; `series` by name, in order; `calendar`
    where it is used.
    """

    median_spend: float | None
    series: Mapping[str, SeriesScaling]
    calendar: CalendarFeatures | None

    @classmethod
    def fit(cls, curves: Curves, config: CovariateConfig) -> Self:
        """Measure the covariates of `config` as of the origin of `curves`.

        Each cohort has a complete age.
        """
        median_spend = None
        spend_per_user = _spend_per_user(curves)
        spend_per_user = spend_per_user[spend_per_user > 0]
        if config.spend and len(spend_per_user):
            median_spend = float(np.median(spend_per_user))

        series = {}
        for name in sorted(curves.series) if config.series else []:
            scaling = SeriesScaling.fit(curves.series[name], curves.users)
            if np.isfinite(scaling.mean).any():
                series[name] = scaling

        calendar = None
        if config.calendar:
            calendar = CalendarFeatures.from_curves(curves, config.holidays)
        return cls(median_spend, series, calendar)

    def align_to(self, other: Self) -> Self:
        """Take over the inputs of another, whose net is trained on: what is lacking is masked.

        The calendar is the other's.
        """
        median_spend = None if other.median_spend is None else (self.median_spend or 0.0)
        series = {name: self.series.get(name, SeriesScaling.empty()) for name in other.series}
        return type(self)(median_spend, series, other.calendar)

    @property
    def node_feature_count(self) -> int:
        """Number F of features a node."""
        calendar_count = 0 if self.calendar is None else self.calendar.feature_count
        return 2 * len(self.series) + calendar_count

    @property
    def scalar_count(self) -> int:
        """Number of scalars, with those of nodes to come: P + J x H."""
        spend_count = 0 if self.median_spend is None else 2
        if self.calendar is None:
            return spend_count
        future_count = len(NODES) * (self.calendar.feature_count - SEASON_FEATURES)
        return spend_count + SEASON_FEATURES + future_count

    def covariate_arrays(self, curves: Curves) -> CovariateArrays:
        """Covariates of cohorts. At a node as of its age, at which series are cut.

        The season of any node is that of the first, turned by a fixed angle: it is not repeated.
        """
        cohort_count = len(curves)
        # arrays without columns first, so that there is always something to join
        node_columns = [np.zeros((cohort_count, len(NODES), 0))]
        static_columns = [np.zeros((cohort_count, 0))]
        future_calendar = np.zeros((cohort_count, len(NODES), 0))

        for name, scaling in self.series.items():
            if name in curves.series:
                node_columns.append(scaling.features(curves.series[name]))
            else:
                node_columns.append(np.zeros((cohort_count, len(NODES), 2)))

        if self.median_spend is not None:
            usual_spend = np.array(self.median_spend or np.nan)  # 0 where it was never known
            log_ratio = _damped_log_ratio(_spend_per_user(curves), usual_spend)
            columns = (np.nan_to_num(log_ratio), np.isfinite(log_ratio))
            static_columns.append(np.stack(columns, axis=1))

        if self.calendar is not None:
            calendar = self.calendar.features(curves)  # (N, J, C)
            node_columns.append(calendar)
            static_columns.append(calendar[:, 0, :SEASON_FEATURES])
            future_calendar = calendar[:, :, SEASON_FEATURES:]
        return CovariateArrays(
            at_nodes=np.concatenate(node_columns, axis=2),
            future_calendar=future_calendar,
            static=np.concatenate(static_columns, axis=1),
        )

    def state(self) -> tuple[dict[str, Any], dict[str, Floats]]:
        """JSON values and arrays."""
        values = {
            "spend": self.median_spend,
            "spreads": {name: scaling.spread for name, scaling in self.series.items()},
            "almanac": None if self.calendar is None else asdict(self.calendar),
        }
        return values, {name: scaling.mean for name, scaling in self.series.items()}

    @classmethod
    def from_state(cls, values: StateValues, arrays: StateArrays) -> Self:
        """Restore the scaling that `state()` described."""
        series = {
            name: SeriesScaling(arrays[name], spread) for name, spread in values["spreads"].items()
        }
        calendar = None if values["almanac"] is None else CalendarFeatures(**values["almanac"])
        return cls(values["spend"], series, calendar)


def _damped_log_ratio(actual: Floats, usual: Floats) -> Floats:
    """Log of an amount over what is usual, damped: 0 where they agree, NaN where unknown."""
    ratio = np.maximum(actual / usual, 0.0)
    log_ratio: Floats = np.log((ratio + DAMPING) / (1.0 + DAMPING))
    return log_ratio


def _spend_per_user(curves: Curves) -> Floats:
    """Spend per user (N,), NaN where unknown."""
    spend_per_user = np.full(len(curves), np.nan)
    np.divide(curves.spend, curves.users, spend_per_user, where=curves.users > 0)
    return spend_per_user


def _lasts_two_days(curves: Curves) -> Bools:
    """Cohorts (N,) acquired within two days: a weekend is one for all of their users."""
    is_short: Bools = curves.end - curves.start <= ONE_DAY
    return is_short


def _holiday_share(curves: Curves, attribute: str, previous_dates: Days, dates: Days) -> Floats:
    """Share of holidays among the days after `previous_dates` up to `dates`, (N, J) each.

    0 where a country is not known.
    """
    share = np.zeros(dates.shape)
    end_years = np.unique(curves.end.astype("datetime64[Y]")).astype(int) + 1970
    years = sorted({*end_years, *(end_years + 1)})  # the last node is less than a year away
    countries = curves.attributes.get(attribute, np.full(len(curves), "", dtype=object))

    for country in set(countries):
        holidays = [day for year in years for day in _country_holidays(country, year)]
        holiday_dates = np.array(holidays, dates.dtype)
        rows = countries == country
        holidays_by_date = np.searchsorted(holiday_dates, dates[rows], side="right")
        holidays_before = np.searchsorted(holiday_dates, previous_dates[rows], side="right")
        day_count = (dates - previous_dates)[rows] / ONE_DAY
        share[rows] = np.subtract(holidays_by_date, holidays_before) / day_count
    return share


@lru_cache(maxsize=4096)
def _country_holidays(country: str, year: int) -> tuple[np.datetime64, ...]:
    """The holidays of a country in a year, in order; none for a country that is not known."""
    import holidays  # optional, and slow to import

    try:
        days_off = holidays.country_holidays(country, years=year)
    except NotImplementedError:
        return ()
    return tuple(np.datetime64(day, "D") for day in sorted(days_off) if day.year == year)
