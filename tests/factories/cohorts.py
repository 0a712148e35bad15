"""Small histories of cohorts."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from ltvnet.data.arrays import Floats, Strings
from ltvnet.data.curves import AGES, Curves, History, parse_day

Row = tuple[str, str, Mapping[str, str], float, Floats]
"""The first and last day of a cohort, its attributes, users and values (A,)."""


def curve(last: int, level: float = 1.0, power: float = 0.5) -> Floats:
    """A cumulative curve level * (1 + a) ** power, observed to age `last`: (A,)."""
    ages = np.arange(AGES)
    return np.where(ages <= last, level * (1.0 + ages) ** power, np.nan)


def history(
    rows: Sequence[Row],
    snapshots: Sequence[str] | None = None,
    hierarchy: tuple[str, ...] = (),
    lag_days: int = 0,
    series: Mapping[str, Floats] | None = None,
    spend: Floats | None = None,
) -> History:
    """A history of some cohorts, by default with one snapshot far in the future."""
    names = list(rows[0][2]) if rows else []

    def text(name: str) -> Strings:
        return np.array([row[2][name] for row in rows], dtype=object)

    dates = snapshots or ["2030-01-01"] * len(rows)
    return History(
        start=np.array([parse_day(row[0]) for row in rows], dtype="datetime64[D]"),
        end=np.array([parse_day(row[1]) for row in rows], dtype="datetime64[D]"),
        attributes={name: text(name) for name in names},
        users=np.array([row[3] for row in rows], dtype=float),
        spend=np.full(len(rows), np.nan) if spend is None else spend,
        values=np.array([row[4] for row in rows]).reshape(len(rows), AGES),
        hierarchy=hierarchy,
        lag_days=lag_days,
        snapshot=np.array([parse_day(date) for date in dates], dtype="datetime64[D]"),
        series={} if series is None else series,
    )


def weekly_history(
    weeks: int,
    segments: Sequence[str] = ("a", "b"),
    seed: int = 0,
    noise: float = 0.1,
    first: str = "2023-01-02",
    *,
    covariates: bool = False,
) -> History:
    """Weekly cohorts of each app with levels, shapes and noise of their own, complete to D360.

    `covariates`: with spend, unknown of some, and a series `retention` that has gaps.
    """
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for week in range(weeks):
        start = parse_day(first) + 7 * week
        for number, name in enumerate(segments):
            growth = np.diff(curve(360, 1.0 + number, 0.3 + 0.1 * number), prepend=0.0)
            chance = rng.gamma(1 / noise**2, noise**2, AGES) * rng.gamma(25, 1 / 25)
            users = float(rng.integers(50, 500))
            values = np.cumsum(growth * chance)
            rows.append((str(start), str(start + 6), {"Apps": name}, users, values))
    if not covariates:
        return history(rows, hierarchy=("Apps",))

    spend = np.where(rng.random(len(rows)) < 0.9, rng.gamma(4.0, 100.0, len(rows)), np.nan)
    retention = rng.gamma(50.0, 0.01, (len(rows), 1)) / (1.0 + np.arange(AGES)) ** 0.4
    retention = np.where(rng.random(retention.shape) < 0.8, retention, np.nan)
    return history(rows, hierarchy=("Apps",), series={"retention": retention}, spend=spend)


def identical_weekly_history(weeks: int = 70) -> History:
    """Weekly cohorts of one curve: the pattern is exact."""
    days = [np.datetime64("2023-01-02") + 7 * week for week in range(weeks)]
    return history([(str(day), str(day + 6), {}, 10.0, curve(360)) for day in days])


def drifting_history(rate: float, seed: int = 0, weeks: int = 78, apps: str = "ab") -> History:
    """Weekly cohorts, alike in every app, whose growth after D7 falls by `rate` a year.

    Levels, growth after D7 and each day's revenue are drawn.
    """
    rng = np.random.default_rng(seed)
    step = np.diff(curve(360), prepend=0.0)
    rows: list[Row] = []
    for week, app in product(range(weeks), apps):
        revenue = step * rng.gamma(16, 1 / 16, AGES) * rng.gamma(44, 1 / 44)
        revenue[8:] *= rng.gamma(100, 1 / 100) * np.exp(-rate * week / 52)
        start = np.datetime64("2023-01-02") + 7 * week
        users = float(rng.integers(50, 500))
        rows.append((str(start), str(start + 6), {"Apps": app}, users, np.cumsum(revenue)))
    return history(rows, hierarchy=("Apps",))


def with_complete_age(curves: Curves) -> Curves:
    """The cohorts that have a complete age: those that a model learns from."""
    return curves.take(curves.observed_age >= 0)
