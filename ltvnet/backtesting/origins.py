"""Which past days are replayed, and which data a fit is given on each of them.

An origin is a past day on which a forecast is made from what was known by its end.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ltvnet.data.arrays import ONE_DAY
from ltvnet.data.curves import MAX_AGE, Curves, History, parse_day, validate_ages
from ltvnet.forecasting.typed_config import check_day

ONE_WEEK = np.timedelta64(7, "D")

_MIN_WEEKS_OF_HISTORY = 8
"""Weeks after the first acquisitions before which nothing is replayed."""


def evenly_spaced_origins(first: object, last: object, every_days: int) -> Sequence[np.datetime64]:
    """Fold origins from `first` to `last` (both included) at equal steps.

    Raises ValueError when the step is not positive or the order is reversed.
    """
    first_day = parse_day(first)
    last_day = parse_day(last)
    if every_days < 1 or last_day < first_day:
        raise ValueError(
            f"expected first <= last and a step of days, got {first} {last} {every_days}"
        )
    return list(np.arange(first_day, last_day + ONE_DAY, every_days))


@dataclass(frozen=True, kw_only=True)
class ReplayPlan:
    """How past days are replayed.

    `window` "expanding" or "sliding:52w": the cohorts that a fit sees, all or those that began in
    so many weeks before it; `refit` "each", "every_K" or "frozen": whether each fold fits anew,
    every K-th, or none but the first; `ages` at which cohorts are scored besides their own,
    prefixes cut; `warm` whether fits start from one cold fit, the earliest that learned anything;
    `workers` processes. Raises ValueError for other words and numbers.
    """

    window: Annotated[str, "expanding or sliding:52w"]
    refit: Annotated[str, "each, every_K or frozen"]
    ages: Annotated[Sequence[int], "[] or whole days such as [7,30]"]
    warm: bool
    workers: int

    def __post_init__(self) -> None:
        """Check the words and numbers."""
        _ = self.window_weeks
        _ = self.folds_per_fit
        if not isinstance(self.ages, Sequence) or not all(map(_is_whole_number, self.ages)):
            raise ValueError(f"expected ages=[] or whole days such as [7,30], got {self.ages!r}")
        if len(self.ages):
            validate_ages(self.ages)
        if not isinstance(self.warm, bool):
            raise ValueError(f"expected warm=true or false, got {self.warm!r}")  # noqa: TRY004
        if not _is_whole_number(self.workers) or self.workers < 1:
            raise ValueError(f"expected workers, a whole number >= 1, got {self.workers!r}")

    @property
    def window_weeks(self) -> int | None:
        """Weeks of history that a fit sees; None: all."""
        if self.window == "expanding":
            return None
        match = re.fullmatch("sliding:([1-9][0-9]*)w", str(self.window))
        if match is None:
            raise ValueError(f"expected window=expanding or sliding:52w, got {self.window!r}")
        return int(match[1])

    @property
    def folds_per_fit(self) -> int | None:
        """Folds from one fit to the next; None: the first fit is kept."""
        if self.refit == "each":
            return 1
        if self.refit == "frozen":
            return None
        match = re.fullmatch("every_([1-9][0-9]*)", str(self.refit))
        if match is None:
            raise ValueError(f"expected refit=each, every_K or frozen, got {self.refit!r}")
        return int(match[1])

    def fit_days(self, origins: Sequence[np.datetime64]) -> list[np.datetime64]:
        """Day of the fit that forecasts each origin."""
        step = self.folds_per_fit or len(origins)
        return [origins[i - i % step] for i in range(len(origins))]

    def select_training_curves(self, curves: Curves) -> Curves:
        """Select the curves that a fit on the day of `curves` sees: those within the window."""
        if self.window_weeks is None:
            return curves
        return curves.take(curves.start > curves.origin - self.window_weeks * ONE_WEEK)


def past_origins(
    history: History, last: np.datetime64, every_weeks: int, count: int
) -> list[np.datetime64]:
    """At most `count` origins before `last`, `every_weeks` apart, that have enough to learn from.

    The first has seen at least a quarter of the history and 8 weeks; each has something left to
    forecast.
    """
    earliest = _earliest_origin(history, last)
    step = every_weeks * ONE_WEEK
    candidates = [last - step * i for i in range(count, 0, -1)]
    return [
        origin
        for origin in candidates
        if origin >= earliest and has_anything_to_forecast(history.as_of(origin))
    ]


@dataclass(frozen=True, kw_only=True)
class OriginsConfig:
    """Days that are to be replayed: `dates`, or those from `first` to `last`, `every` "4w"."""

    every: Annotated[str, "4w or other weeks"]
    first: object = None
    last: object = None
    dates: Sequence[object] | None = None

    def __post_init__(self) -> None:
        """Check the days."""
        check_day(self.first, "origins.first")
        check_day(self.last, "origins.last")
        if isinstance(self.dates, list | tuple):
            for date in self.dates:
                check_day(date, "origins.dates")


def choose_origins(history: History, config: OriginsConfig) -> list[np.datetime64]:
    """Choose the days to replay: the dates, or from the last back to the first in equal steps.

    `last` None: the end of the last acquisition, or the newest day whose D90 has matured if that
    is earlier; `first` None: a quarter of the history has passed by then, and 8 weeks. Raises
    ValueError for another step, for dates that are no list, and when no day is left.
    """
    dates = config.dates
    if dates is not None:
        if isinstance(dates, str) or not isinstance(dates, Sequence) or not dates:
            raise ValueError(
                f"expected origins.dates as a list such as [2024-01-01,2024-02-01], got {dates!r}"
            )
        return sorted(parse_day(date) for date in dates)

    match = re.fullmatch("([1-9][0-9]*)w", str(config.every))
    if match is None:
        raise ValueError(f"expected origins.every in weeks, such as 4w, got {config.every!r}")

    newest = min(history.end.max(), history.last_day - np.timedelta64(90, "D"))
    latest = newest if config.last is None else parse_day(config.last)
    if config.first is None:
        earliest = _earliest_origin(history, latest)
    else:
        earliest = parse_day(config.first)
    days_backwards = np.arange(latest, earliest - ONE_DAY, -int(match[1]) * ONE_WEEK)
    if not len(days_backwards):
        raise ValueError(
            f"expected days to replay from {earliest} to {latest}, got none: the history begins "
            f"on {history.end.min()}; set origins.first and origins.last, or origins.dates"
        )
    return [np.datetime64(date, "D") for date in days_backwards[::-1]]


def has_anything_to_forecast(curves: Curves) -> bool:
    """Return whether any cohort has a complete age to forecast from, and later ages ahead."""
    return bool(((curves.observed_age >= 0) & (curves.observed_age < MAX_AGE)).any())


def _earliest_origin(history: History, last: np.datetime64) -> np.datetime64:
    """First day by which a quarter of the history up to `last` has passed, and 8 weeks."""
    first_end = history.end.min()
    earliest: np.datetime64 = first_end + max(
        (last - first_end) / 4, _MIN_WEEKS_OF_HISTORY * ONE_WEEK
    )
    return earliest


def _is_whole_number(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
