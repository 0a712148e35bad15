"""A trend in how cohorts grow is found, has_trend from chance, and shrunk by how sure it is."""

from dataclasses import replace

import numpy as np
import pytest
from factories.cohorts import curve, history, weekly_history

from ltvnet.data.arrays import Ints
from ltvnet.data.curves import AGES, Curves
from ltvnet.models.pattern.calendar_effects import Calendar
from ltvnet.models.pattern.date_effects import MIN_TREND_YEARS, DateEffects, Trend

DAY = "2024-12-29"


def curves_with_trend(rate: float, weeks: int = 100, noise: float = 0.05) -> Curves:
    """Weekly cohorts alike to D7, whose later growth changes by `rate` a year of acquisition."""
    rng = np.random.default_rng(0)
    rows = []
    for week in range(weeks):
        start = np.datetime64("2023-01-02") + 7 * week
        later = np.exp(rate * 7 * week / 365.25) * rng.gamma(1 / noise**2, noise**2)
        gain = np.diff(curve(360), prepend=0.0) * np.where(np.arange(AGES) > 7, later, 1.0)
        rows.append((str(start), str(start + 6), {}, 100.0, np.cumsum(gain)))
    return history(rows).as_of(DAY)


def one_segment(curves: Curves) -> Ints:
    return np.zeros(len(curves), dtype=np.int64)


@pytest.mark.parametrize("rate", [-0.3, 0.2])
def test_a_trend_is_found(rate: float) -> None:
    curves = curves_with_trend(rate)
    fitted = Trend.fit(curves, one_segment(curves)).rate
    assert fitted == pytest.approx(rate, abs=0.06)


def test_chance_is_no_trend() -> None:
    """Of ten histories without a trend, none shows more than a few percent a year."""
    for seed in range(10):
        curves = weekly_history(100, seed=seed).as_of(DAY)
        segment = np.unique(curves.attributes["Apps"], return_inverse=True)[1]
        assert abs(Trend.fit(curves, segment).rate) < 0.06


def test_less_than_a_year_tells_no_trend() -> None:
    curves = curves_with_trend(-0.3)
    year = int(np.ceil(MIN_TREND_YEARS * 365.25 / 7))
    for weeks, has_trend in ((year, False), (year + 1, True)):
        recent = curves.take(np.arange(weeks))
        assert (Trend.fit(recent, one_segment(recent)).rate != 0) == has_trend


def test_segments_that_come_and_go_widen_the_error() -> None:
    """Campaigns of other growth that follow each other look like a trend, but are few."""
    curves = curves_with_trend(-0.3, noise=0.01)
    many = Trend.fit(curves, one_segment(curves)).rate
    few = Trend.fit(curves, np.arange(len(curves)) // 34).rate
    assert many < few <= 0


def test_money_in_another_unit_is_the_same_trend() -> None:
    curves = curves_with_trend(0.2)
    dear = replace(curves, values=1024 * curves.values)
    assert Trend.fit(dear, one_segment(dear)) == Trend.fit(curves, one_segment(curves))


def test_a_multiplier_by_hand() -> None:
    """A year before the reference growth was 1 / 0.8 of what it is; further back is no further."""
    rows = [
        (f"{year}-01-01", f"{year}-01-01", {}, 1.0, curve(360)) for year in (2019, 2020, 2023, 2024)
    ]
    curves = history(rows).as_of(DAY)
    trend = Trend(np.datetime64("2024-01-01"), float(np.log(0.8)))
    multiplier = trend.multipliers(curves)
    np.testing.assert_array_equal(multiplier[:, :8], 1.0)
    assert multiplier[:, 8].tolist() == pytest.approx(
        [0.8**-2, 0.8**-2, 0.8 ** -(365 / 365.25), 1.0]
    )


def test_without_a_trend_later_growth_is_alike() -> None:
    curves = curves_with_trend(-0.3, noise=0.01)
    dates = DateEffects(Calendar.neutral(curves.origin), Trend(curves.origin, -0.3))
    undated = dates.remove_from(curves)
    is_old = undated.observed_age >= 60
    growth = undated.values[is_old, 60] / undated.values[is_old, 7]
    assert growth.std() < 0.02 * growth.mean()


def test_dates_that_are_not_wanted_are_alike() -> None:
    curves = curves_with_trend(-0.3)
    dates = DateEffects.fit(curves, one_segment(curves), calendar=False, trend=False)
    assert dates.is_neutral and dates.remove_from(curves) is curves
    both = DateEffects.fit(curves, one_segment(curves), calendar=True, trend=True)
    assert not both.is_neutral
