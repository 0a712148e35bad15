"""Small histories to test with."""

from collections.abc import Mapping, Sequence

import numpy as np

from ltvnet.data.arrays import Floats, Strings
from ltvnet.data.curves import AGES, History, parse_day

Row = tuple[str, str, Mapping[str, str], float, Floats]


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
    """A history of rows (start, end, attributes, users, values), one snapshot far in the future."""
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


def weekly(
    weeks: int,
    segments: Sequence[str] = ("a", "b"),
    seed: int = 0,
    noise: float = 0.1,
    first: str = "2023-01-02",
    *,
    beside: bool = False,
) -> History:
    """Weekly cohorts of each app with levels, shapes and noise of their own, complete to D360.

    `beside`: with spend, unknown of some, and a series `retention` that has gaps.
    """
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for week in range(weeks):
        start = parse_day(first) + 7 * week
        for number, name in enumerate(segments):
            growth = np.diff(curve(360, 1.0 + number, 0.3 + 0.1 * number), prepend=0.0)
            drawn = rng.gamma(1 / noise**2, noise**2, AGES) * rng.gamma(25, 1 / 25)
            users = float(rng.integers(50, 500))
            values = np.cumsum(growth * drawn)
            rows.append((str(start), str(start + 6), {"Apps": name}, users, values))
    if not beside:
        return history(rows, hierarchy=("Apps",))
    spend = np.where(rng.random(len(rows)) < 0.9, rng.gamma(4.0, 100.0, len(rows)), np.nan)
    kept = rng.gamma(50.0, 0.01, (len(rows), 1)) / (1.0 + np.arange(AGES)) ** 0.4
    kept = np.where(rng.random(kept.shape) < 0.8, kept, np.nan)
    return history(rows, hierarchy=("Apps",), series={"retention": kept}, spend=spend)
