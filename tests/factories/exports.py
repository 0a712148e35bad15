"""Cohorts as attribution platforms export them, written so that reading can be exact to the bit.

Users are powers of two and money is a multiple of a quarter: totals, their sums and totals divided
by users have no rounding error in binary, whatever a platform does to them.
Shapes: N cohorts, A ages, E exported ages.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from factories.simulations import BASE, ONE, PLAIN
from ltvnet.data.arrays import Floats
from ltvnet.data.curves import AGES, Curves, History

EXPORT_DAY = "2022-10-30"
"""Day of the exports: the first cohorts are 300 days old, the last ones six."""

ALL_AGES = tuple(range(AGES))
APPSFLYER_AGES = tuple(range(181))
MASTER_AGES = (1, 3, 7, 14, 30, 60, 90)
SINGULAR_PERIODS = (1, 3, 7, 14, 30, 60, 90, 180)  # the last age is a day less
MAX_AGES = (0, 1, 2, 3, 4, 5, 6, 7, 10, 14, 18, 21, 24, 27, 30, 45)
"""Ages, or periods in days, that the platforms export."""

WEEKS_BETWEEN_COHORTS = 3

SIMULATED = replace(
    PLAIN,
    hierarchy=["Apps", "Source", "Campaign", "Country", "OS"],
    timeline=replace(PLAIN.timeline, weeks=43),
    effects=replace(
        PLAIN.effects,
        base=BASE | {"users": 1500.0},
        owners={
            "Apps": {"com.studio.puzzle": ONE},
            "Source": {"google": ONE, "organic": ONE | {"users": 3.0, "price": 0.6}},
        },
        markets={"Country": {"US": ONE, "NA": ONE}, "OS": {"android": ONE, "ios": ONE}},
    ),
)
"""Two campaigns in two markets each, of which the second is organic."""

Table = dict[str, list[str]]
"""Cells of an export as text, by column."""


def quarters(money: Floats) -> Floats:
    """Round money to multiples of a quarter."""
    return np.round(money * 4) / 4


def exact_cohorts(
    attributes: Sequence[str], lag_days: int = 0, *, weekly: bool = False, date: str = EXPORT_DAY
) -> Curves:
    """Simulated cohorts as of a day, of one acquisition day or week each, with exact numbers.

    `attributes` that they have. Spend of organic cohorts is unknown.
    """
    whole = SIMULATED.history()
    keys = whole.index.to_frame(index=False)
    week = (whole.start - whole.start.min()).astype(int) // 7
    is_wanted = ~keys.duplicated(["start", *attributes]) & (week % WEEKS_BETWEEN_COHORTS == 0)
    rows = np.flatnonzero(is_wanted)

    users: Floats = np.exp2(np.round(np.log2(whole.users[rows])))
    growth = np.diff(whole.values[rows], prepend=0.0)
    revenue = quarters(users[:, None] * growth).cumsum(axis=1)
    is_organic = whole.attributes["Source"][rows] == "organic"
    history = History(
        start=whole.start[rows],
        end=whole.end[rows] if weekly else whole.start[rows],
        attributes={name: whole.attributes[name][rows] for name in attributes},
        users=users,
        spend=np.where(is_organic, np.nan, quarters(whole.spend[rows])),
        values=revenue / users[:, None],
        hierarchy=tuple(name for name in SIMULATED.hierarchy if name in attributes),
        lag_days=lag_days,
        snapshot=np.full(len(rows), whole.last_day),
    )
    return history.as_of(date)


def number_text(number: float) -> str:
    """A number to its last digit without an exponent, "" where it is unknown."""
    return "" if np.isnan(number) else np.format_float_positional(number, trim="-")


def number_texts(numbers: Iterable[float]) -> list[str]:
    """Numbers to their last digit."""
    return [number_text(number) for number in numbers]


def revenue_totals(curves: Curves) -> Floats:
    """Cumulative revenue of each cohort as a whole: (N, A)."""
    totals: Floats = curves.values * curves.users[:, None]
    return totals


def revenue_by_day(curves: Curves) -> Floats:
    """Revenue of each cohort as a whole on the day of each age: (N, A)."""
    return np.diff(revenue_totals(curves), prepend=0.0)


def age_columns(pattern: str, cells: Floats, ages: Iterable[int], offset: int = 0) -> Table:
    """Cells (N, A) at some ages, in columns named by a pattern such as "day_{}"."""
    return {pattern.format(age + offset): number_texts(cells[:, age]) for age in ages}


def first_days(curves: Curves) -> list[str]:
    """The first acquisition day of each cohort."""
    return [str(day) for day in curves.start]


def attribute_columns(curves: Curves, **columns: str) -> Table:
    """Text of attributes under the names that a platform gives them."""
    return {
        column: [str(text) for text in curves.attributes[name]] for name, column in columns.items()
    }


def constant(curves: Curves, text: str) -> list[str]:
    """A column with one text in all rows."""
    return [text] * len(curves)


# --- Wide layouts: a row a cohort, a column an age. ---


def appsflyer_cohort(curves: Curves, *, on_day: bool = False, per_user: bool = False) -> Table:
    """AppsFlyer's Cohort API: the same names whether revenue is cumulative or of each day."""
    money = revenue_by_day(curves) if on_day else revenue_totals(curves)
    if per_user:
        money = money / curves.users[:, None]
    return {
        "date": first_days(curves),
        **attribute_columns(curves, Source="pid", Campaign="c", Country="geo"),
        "users": number_texts(curves.users),
        "cost": number_texts(curves.spend),
        "ecpi": number_texts(curves.spend / curves.users),
        **age_columns("revenue_sum_day_{}", money, APPSFLYER_AGES),
    }


def appsflyer_master(curves: Curves, *, readable: bool = False) -> Table:
    """AppsFlyer's Master API: revenue per user, at some ages from day 1 on."""
    names = {"Source": "pid", "Campaign": "c", "Country": "geo", "Apps": "app_id"}
    day, installs, cost, ecpi = "install_time", "installs", "cost", "average_ecpi"
    revenue, retention = "cohort_day_{}_total_revenue_per_user", "retention_day_{}"
    if readable:
        names = {"Source": "Media Source", "Campaign": "Campaign", "Country": "GEO"}
        names |= {"Apps": "App ID"}
        day, installs, cost, ecpi = "Install Time", "Installs", "Cost", "Average eCPI"
        revenue, retention = "Cohort Day {} - Total Revenue Per User", "Retention Day {}"
    kept = np.where(np.isnan(curves.values), np.nan, 0.25)
    return {
        day: first_days(curves),
        **attribute_columns(curves, **names),
        installs: number_texts(curves.users),
        cost: number_texts(curves.spend),
        ecpi: number_texts(curves.spend / curves.users),
        **age_columns(revenue, curves.values, MASTER_AGES),
        **age_columns(retention, kept, MASTER_AGES),
    }


def adjust(curves: Curves, *, mature: bool = False) -> Table:
    """Adjust's Report Service: money of the cohort; day 0 is each user's first 24 hours.

    `mature`: cells of cohorts too young for them are zero, as with cohort_maturity=mature.
    """
    totals = revenue_totals(curves)
    purchases = quarters(totals / 2)
    if mature:
        totals, purchases = np.nan_to_num(totals), np.nan_to_num(purchases)
    return {
        "day": first_days(curves),
        **attribute_columns(curves, Apps="app"),
        "app_token": constant(curves, "abc123def456"),
        **attribute_columns(curves, OS="os_name", Source="network", Campaign="campaign"),
        **attribute_columns(curves, Country="country_code"),
        "currency_code": constant(curves, "USD"),
        "installs": number_texts(curves.users),
        "network_cost": number_texts(curves.spend),
        **age_columns("all_revenue_total_d{}", totals, range(121)),
        **age_columns("revenue_total_d{}", purchases, range(121)),
        **age_columns("ad_revenue_total_d{}", totals - purchases, range(121)),
        **age_columns("paying_users_d{}", np.ones_like(totals), (0, 7)),
    }


def singular(curves: Curves) -> Table:
    """Singular: the first 7 days are `revenue_7d`; `actual` is whatever there is to date."""
    totals = revenue_totals(curves)
    to_date = np.nanmax(totals, axis=1, initial=0.0)
    ages = [period - 1 for period in SINGULAR_PERIODS]
    return {
        "start_date": first_days(curves),
        "end_date": [str(day) for day in curves.end],
        **attribute_columns(curves, Apps="app", Source="source", OS="os"),
        **attribute_columns(curves, Country="country_field", Campaign="adn_campaign_name"),
        "custom_installs": number_texts(curves.users),
        "adn_installs": number_texts(curves.users - 1),
        "adn_cost": number_texts(curves.spend),
        **age_columns("revenue_{}d", totals, ages, offset=1),
        "revenue_actual": number_texts(to_date),
    }


def applovin_max(curves: Curves) -> Table:
    """AppLovin MAX: money within x days of the install, of advertising, purchases and in all."""
    totals = revenue_totals(curves)
    purchases = quarters(totals / 4)
    return {
        "day": first_days(curves),
        "application": constant(curves, "Puzzle"),
        **attribute_columns(curves, Apps="package_name", OS="platform", Country="country"),
        "installs": number_texts(curves.users),
        **age_columns("pub_revenue_{}", totals, MAX_AGES),
        **age_columns("rpi_{}", curves.values, MAX_AGES),
        **age_columns("ads_pub_revenue_{}", totals - purchases, MAX_AGES),
        **age_columns("iap_pub_revenue_{}", purchases, MAX_AGES),
    }


def wide(curves: Curves, pattern: str = "ltv_day_{}", ages: Sequence[int] = ALL_AGES) -> Table:
    """A table of someone's own: revenue per user, the names of a pattern, weeks as ranges."""
    return {
        "Date": [f"{start}~{end}" for start, end in zip(curves.start, curves.end, strict=True)],
        **{name: list(text) for name, text in curves.attributes.items()},
        "Users": number_texts(curves.users),
        "Spend": number_texts(curves.spend),
        **age_columns(pattern, curves.values, ages),
    }


# --- Long layouts: a row a cohort and age. ---


def known_cells(curves: Curves) -> tuple[list[int], list[int]]:
    """Cohort and age of every known cell, cohort by cohort."""
    cohort, age = np.nonzero(np.isfinite(curves.values))
    return cohort.tolist(), age.tolist()


def repeat(column: Sequence[str], rows: Iterable[int]) -> list[str]:
    """Cells of a column for chosen rows."""
    return [column[row] for row in rows]


def long(curves: Curves, *, increments: bool = False) -> Table:
    """A long table of someone's own: a row a cohort and age, revenue of the cohort as a whole."""
    cohort, age = known_cells(curves)
    money = revenue_by_day(curves) if increments else revenue_totals(curves)
    by_cohort = {
        "cohort_start": first_days(curves),
        "cohort_end": [str(day) for day in curves.end],
        **{name: list(text) for name, text in curves.attributes.items()},
        "users": number_texts(curves.users),
        "spend": number_texts(curves.spend),
    }
    return {
        **{name: repeat(column, cohort) for name, column in by_cohort.items()},
        "age": [str(number) for number in age],
        "revenue": number_texts(money[cohort, age]),
    }


def appsflyer_locker(curves: Curves, *, users: bool = True) -> Table:
    """AppsFlyer's Data Locker, versioned: a row an event and day, older versions among them.

    Days without an event have no row. `users`: cohort sizes were joined, as `installs`.
    """
    cohort, age = known_cells(curves)
    money = revenue_by_day(curves)[cohort, age]
    first_part = quarters(money / 2)

    rows: list[tuple[int, int, str, float, int]] = []
    for row, day, whole, part in zip(cohort, age, money, first_part, strict=True):
        if day < 2:
            rows.append((row, day, "af_session", 0.0, 1))
            rows.append((row, day, "af_purchase", part, 1))  # restated since
        if day < 2 or whole:
            rows.append((row, day, "af_session", 0.0, 2))
            rows.append((row, day, "af_purchase", part, 2))
            rows.append((row, day, "af_ad_revenue", whole - part, 2))

    of = [row for row, *_ in rows]
    days = [int(day) for _, day, *_ in rows]
    names = {"Apps": "app_id", "Source": "media_source", "Campaign": "campaign", "Country": "geo"}
    by_cohort = attribute_columns(curves, **names)
    if users:
        by_cohort["installs"] = number_texts(curves.users)
    return {
        "conversion_type": ["install"] * len(rows),
        "conversion_date": repeat(first_days(curves), of),
        "event_date": [str(curves.start[row] + day) for row, day in zip(of, days, strict=True)],
        "days_post_attribution": [str(day) for day in days],
        "event_name": [name for _, _, name, *_ in rows],
        **{name: repeat(column, of) for name, column in by_cohort.items()},
        "unique_users": ["7"] * len(rows),
        "event_count": ["9"] * len(rows),
        "revenue_usd": number_texts(revenue for *_, revenue, _ in rows),
        "version": [str(version) for *_, version in rows],
    }


def tenjin(curves: Curves) -> Table:
    """Tenjin: revenue of purchases and advertising on each day since the install."""
    cohort, age = known_cells(curves)
    money = revenue_by_day(curves)[cohort, age]
    purchases = quarters(money / 2)
    names = {"Apps": "app_id", "Source": "ad_network", "Campaign": "campaign"}
    by_cohort = {
        "install_date": first_days(curves),
        **attribute_columns(curves, **names, Country="country", OS="platform"),
        "tracked_installs": number_texts(curves.users),
        "reported_spend": number_texts(curves.spend),
    }
    event_days = [str(curves.start[row] + day) for row, day in zip(cohort, age, strict=True)]
    return {
        **{name: repeat(column, cohort) for name, column in by_cohort.items()},
        "days_since_install": [str(number) for number in age],
        "event_date": event_days,
        "daily_active_users": ["11"] * len(age),
        "iap_revenue": number_texts(purchases),
        "publisher_ad_revenue": number_texts(money - purchases),
    }


@dataclass(frozen=True)
class Layout:
    """An exported layout and what of the cohorts is in it.

    `preset` by which it is to be recognised; `table` writes it; `attributes` that it has; `ages`
    at which it has values; `lag_days` until a day is complete in it; `weekly` cohorts, or daily;
    whether it has a column of spend and one of users.
    """

    preset: str
    table: Callable[[Curves], Table]
    attributes: tuple[str, ...]
    ages: tuple[int, ...]
    lag_days: int = 0
    weekly: bool = False
    has_spend: bool = True
    has_users: bool = True

    def cohorts(self, date: str = EXPORT_DAY) -> Curves:
        """The cohorts to write."""
        return exact_cohorts(self.attributes, self.lag_days, weekly=self.weekly, date=date)

    def write(self, folder: Path, date: str = EXPORT_DAY, name: str = "export") -> Path:
        """Write the cohorts as exported on a day, in a file that has it in its name."""
        path = folder / f"{name}_{date}.csv"
        write_table(self.table(self.cohorts(date)), path)
        return path


def write_table(table: Table, path: Path) -> None:
    """Write cells as CSV in UTF-8 with commas."""
    pd.DataFrame(table).to_csv(path, index=False)


_SOURCES = ("Source", "Campaign", "Country")
_APPS = ("Apps", *_SOURCES)
_ALL = (*_APPS, "OS")

LAYOUTS: dict[str, Layout] = {
    "appsflyer_cohort": Layout("appsflyer_cohort", appsflyer_cohort, _SOURCES, APPSFLYER_AGES),
    "appsflyer_master": Layout(
        "appsflyer_master", appsflyer_master, _APPS, MASTER_AGES, lag_days=2
    ),
    "appsflyer_master_readable": Layout(
        "appsflyer_master",
        lambda curves: appsflyer_master(curves, readable=True),
        _APPS,
        MASTER_AGES,
        lag_days=2,
    ),
    "appsflyer_locker": Layout(
        "appsflyer_locker", appsflyer_locker, _APPS, ALL_AGES, has_spend=False
    ),
    "adjust": Layout("adjust", adjust, _ALL, tuple(range(121)), lag_days=1),
    "adjust_mature": Layout(
        "adjust", lambda curves: adjust(curves, mature=True), _ALL, tuple(range(121)), lag_days=1
    ),
    "singular": Layout(
        "singular", singular, _ALL, tuple(period - 1 for period in SINGULAR_PERIODS), weekly=True
    ),
    "tenjin": Layout("tenjin", tenjin, _ALL, ALL_AGES),
    "applovin_max": Layout(
        "applovin_max", applovin_max, ("Apps", "OS", "Country"), MAX_AGES, has_spend=False
    ),
    "long": Layout("long", long, _ALL, ALL_AGES, weekly=True),
    "wide": Layout("wide", wide, _ALL, ALL_AGES, weekly=True),
}
"""Every layout by its name."""
