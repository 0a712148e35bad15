"""Past forecasts with known errors."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from factories.cohorts import curve, history
from ltvnet.backtesting.ledger import STAGES, LedgerEntries
from ltvnet.backtesting.scores import BacktestRecord, build_record
from ltvnet.data.arrays import Floats
from ltvnet.data.curves import NODES, History
from ltvnet.forecasting.forecast import Band, Forecast

SUNDAYS = [np.datetime64("2023-02-05") + np.timedelta64(28, "D") * i for i in range(4)]
"""Sundays: cohorts of the weeks before stand at D0, D7, D14 ..."""


CAMPAIGNS = ("a", "b")


def two_campaigns(names: Sequence[str] = CAMPAIGNS) -> History:
    """Twenty weekly cohorts of two campaigns, the first with twice the users."""
    weeks = [np.datetime64("2023-01-02") + np.timedelta64(7, "D") * i for i in range(20)]
    rows = [
        (str(week), str(week + 6), {"Campaign": name}, users, curve(360))
        for week in weeks
        for name, users in zip(names, (200.0, 100.0), strict=True)
    ]
    return history(rows, hierarchy=("Campaign",))


def forecast_off_by(
    history: History, day: np.datetime64, factors: Sequence[float], pattern: float
) -> Forecast:
    """Forecasts of what comes true times a factor of each campaign, the pattern's times another."""
    curves = history.as_of(day)
    actual = history.as_of("2029-12-31").values[: len(curves), list(NODES)]
    codes = np.unique(curves.attributes["Campaign"], return_inverse=True)[1]
    mean = actual * np.array(factors)[codes][:, None]
    band = Band(mean, 0.88 * mean, mean, 1.05 * mean)
    reasons = np.full(len(curves), "ok", dtype=object)
    return Forecast(curves, np.array(NODES), pattern * actual, band, band, reasons, 360)


def past_record(
    factors: Sequence[Sequence[float]] = ((1.1, 0.9),) * 4,
    pattern: float = 1.3,
    until: str = "2029-12-31",
    names: Sequence[str] = CAMPAIGNS,
    days: Sequence[np.datetime64] = SUNDAYS,
) -> BacktestRecord:
    """Forecasts of D180 from D7 off by 10 % a cohort and 3.3 % too high, the pattern by 30 %."""
    history = two_campaigns(names)
    entries_by_day = [
        LedgerEntries.from_forecast(
            forecast_off_by(history, day, day_factors, pattern), history.as_of(day).observed_age
        )
        for day, day_factors in zip(days, factors, strict=False)
    ]
    return build_record("net", LedgerEntries.concatenate(entries_by_day), history.until(until))


def single_forecast_record() -> BacktestRecord:
    """A single forecast of a single cohort at D7."""
    first_day = past_record([(1.1, 0.9)])
    rows = first_day.entries.attributes["Campaign"] == "a"
    entries = first_day.entries.take(rows)
    return replace(first_day, entries=entries, actual=first_day.actual[rows])


def with_intervals(
    record: BacktestRecord, p10: Floats | float, p90: Floats | float
) -> BacktestRecord:
    """A model with other intervals, in multiples of its mean."""
    mean = record.entries.bands["final"].mean
    band = Band(mean, mean * p10, mean, mean * p90)
    entries = replace(record.entries, bands=dict.fromkeys(STAGES, band))
    return replace(record, entries=entries)
