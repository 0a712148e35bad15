"""Payback: sums over young cohorts, as far as the data support, from numbers of a few cohorts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltvnet.data.arrays import Bools, Floats
from ltvnet.data.curves import AGES, HORIZONS, NODES, Curves
from ltvnet.forecasting.forecast import Band, Forecast
from ltvnet.forecasting.payback import ALL_COHORTS, Payback, sum_payback

ORIGIN = np.datetime64("2025-06-01")


@dataclass(frozen=True)
class Spread:
    """Half of the interval is half as wide as the growth of a sum; D360 is borrowed."""

    is_borrowed: Bools

    def half_width(self, grown: Floats, squared: Floats) -> Floats:
        return grown / 2


def forecast(
    observed_ages: Sequence[int],
    names: Sequence[str] | None = None,
    spend: float | Sequence[float] = np.nan,
    reach: int = 360,
) -> Forecast:
    """Cohorts of 10 users, the oldest first: 1 a user was observed, 3 a user are forecast."""
    k = np.array(observed_ages)
    values = np.where(np.arange(AGES) <= k[:, None], 1.0, np.nan)
    attributes = {} if names is None else {"Campaign": np.array(names, dtype=object)}
    curves = Curves(
        start=ORIGIN - k - 6,
        end=ORIGIN - k,
        attributes=attributes,
        users=np.where(k >= 0, 10.0, np.nan),
        spend=np.where(k >= 0, np.broadcast_to(spend, k.shape), np.nan),
        values=values,
        hierarchy=tuple(attributes),
        lag_days=0,
        origin=ORIGIN,
    )
    is_ahead = (k[:, None] >= 0) & (np.array(NODES) > k[:, None])
    band = Band.from_mean(np.where(is_ahead, 3.0, np.nan))
    reason = np.full(len(k), "ok", dtype=object)
    spread = Spread(np.array(NODES) == 360)
    return Forecast(
        curves, np.array(NODES), band.mean, band, band, reason, reach, portfolio_spread=spread
    )


def known_payback(forecast: Forecast) -> Payback:
    payback = sum_payback(forecast)
    assert payback is not None
    return payback


def test_all_columns_are_of_the_cohorts_that_are_younger_than_the_first_horizon() -> None:
    """The cohort of D200 has more than its D180 would show, and is left out everywhere."""
    payback = known_payback(forecast([200, 100, 10, 9, -1], ["a", "a", "b", "b", "b"], spend=15.0))
    assert payback.horizons == (180, 360)
    assert (payback.cohort_count, payback.older_count) == (3, 1)
    assert payback.first_day == ORIGIN - 106
    assert payback.attribute == "Campaign"
    assert payback.sums.index.tolist() == ["b", "a", ALL_COHORTS]
    assert payback.sums["users"].tolist() == [20, 10, 30]
    assert payback.sums["spend"].tolist() == [30, 15, 45]
    assert payback.sums["revenue"].tolist() == [20, 10, 30]
    np.testing.assert_allclose(payback.sums["roas"], 2 / 3)
    for horizon in (180, 360):
        frame = payback.by_horizon[horizon]
        assert frame["revenue"].tolist() == [60, 30, 90]
        np.testing.assert_allclose(frame["roas"], 2.0)
        # Each of the 10 users is to grow by 2, so the interval is 10 to either side.
        assert frame["revenue_p10"].tolist() == [40, 20, 60]
        assert frame["revenue_p90"].tolist() == [80, 40, 120]
        np.testing.assert_allclose(frame["roas_p10"], 4 / 3)
        np.testing.assert_allclose(frame["roas_p90"], 8 / 3)
        assert frame["is_borrowed"].tolist() == [horizon == 360] * 3


def test_return_is_that_of_cohorts_with_spend() -> None:
    """Of b only one cohort has spend, 60 for what is to be 30; of c none has any."""
    payback = known_payback(
        forecast([40, 30, 20, 10], ["a", "b", "b", "c"], spend=[30.0, 60.0, np.nan, 0.0])
    )
    frame = payback.by_horizon[360]
    assert frame["revenue"].to_dict() == {"b": 60, "a": 30, "c": 30, ALL_COHORTS: 120}
    assert payback.known_roas.to_dict() == {"b": 0.5, "a": 1.0}
    assert payback.earning_back_count == 1  # all of the spend is enough
    assert payback.safely_earning_back_count == 0
    assert frame["roas"][ALL_COHORTS] == (30 + 30) / 90
    assert payback.largest_share == 0.5


@pytest.mark.parametrize(
    ("reach", "horizons", "forecast_horizons"),
    [
        (360, (180, 360), [180, 360]),
        (359, (180, 360), [180]),
        (180, (180, 360), [180]),
        (179, (90, 180, 360), [90]),
        (49, (30, 180, 360), [30]),
        (29, (180, 360), []),
    ],
)
def test_nothing_is_summed_beyond_what_the_data_support(
    reach: int, horizons: Sequence[int], forecast_horizons: Sequence[int]
) -> None:
    payback = known_payback(forecast([8, 7], ["a", "b"], spend=20.0, reach=reach))
    assert payback.horizons == horizons
    assert list(payback.by_horizon) == forecast_horizons
    assert payback.last_horizon == max(forecast_horizons, default=None)
    assert payback.earning_back_count == (2 if forecast_horizons else 0)


def test_horizons_that_all_cohorts_have_behind_them_are_left_out() -> None:
    payback = known_payback(forecast([300, 200], ["a", "b"]))
    assert payback.horizons == (360,)
    assert payback.sums["revenue"].tolist() == [10, 10, 20]
    assert sum_payback(forecast([360, 360], ["a", "b"])) is None
    assert sum_payback(forecast([-1], ["a"])) is None


def test_data_without_attributes_have_a_total_only() -> None:
    payback = known_payback(forecast([10]))
    assert payback.attribute == "" and payback.sums.index.tolist() == [ALL_COHORTS]
    assert payback.known_roas.empty and payback.safely_earning_back_count == 0


@given(
    ages=st.lists(st.integers(-1, 360), min_size=1, max_size=8),
    names=st.lists(st.sampled_from(["a", "b", ALL_COHORTS, ""]), min_size=8, max_size=8),
    spend=st.lists(st.sampled_from([np.nan, 0.0, 25.0]), min_size=8, max_size=8),
    reach=st.integers(-1, 360),
)
def test_rows_add_up_and_revenue_never_falls_from_column_to_column(
    ages: list[int], names: list[str], spend: list[float], reach: int
) -> None:
    """Whatever the cohorts, and values that are called as the total is."""
    ages = sorted(set(ages), reverse=True)  # two cohorts of a day would be one
    payback = sum_payback(forecast(ages, names[: len(ages)], spend[: len(ages)], reach))
    if payback is None:
        assert all(age < 0 or age == 360 for age in ages)
        return
    columns = [payback.sums["revenue"], *(f["revenue"] for f in payback.by_horizon.values())]
    for column in columns:
        assert column.iloc[:-1].sum() == pytest.approx(column.iloc[-1])
        assert column.index.tolist() == payback.sums.index.tolist()
    for earlier, later in zip(columns, columns[1:], strict=False):
        assert (earlier.to_numpy() <= later.to_numpy()).all()
    assert all(h <= reach and h in HORIZONS for h in payback.by_horizon)
