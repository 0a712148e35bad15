"""Roll-up: sums over cohorts and their intervals, from numbers of three cohorts."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltvnet.data.arrays import Bools, Floats
from ltvnet.data.curves import AGES, NODES, Curves
from ltvnet.forecasting.forecast import Band, Forecast
from ltvnet.forecasting.rollup import Rollup, first_attribute

ORIGIN = np.datetime64("2025-06-01")


@dataclass(frozen=True)
class Spread:
    """Half of the interval is as wide as the growth of a sum."""

    is_borrowed: Bools

    def half_width(self, grown: Floats, squared: Floats) -> Floats:
        return grown


def forecast(names: tuple[str, ...] = ("Source", "Campaign"), reach: int = 360) -> Forecast:
    """Cohorts observed to D200, to D10 and not at all: 1 a user observed, 3 a user forecast."""
    observed_age = np.array([200, 10, -1])
    end = ORIGIN - observed_age
    values = np.where(np.arange(AGES) <= observed_age[:, None], 1.0, np.nan)
    attributes = {
        "Campaign": np.array(["a", "b", "b"], dtype=object),
        "Source": np.array(["s", "s", "s"], dtype=object),
    }
    curves = Curves(
        start=end,
        end=end,
        attributes={name: attributes[name] for name in names},
        users=np.array([10.0, 20.0, np.nan]),
        spend=np.array([40.0, np.nan, np.nan]),
        values=values,
        hierarchy=names,
        lag_days=0,
        origin=ORIGIN,
    )
    is_ahead = (observed_age[:, None] >= 0) & (np.array(NODES) > observed_age[:, None])
    band = Band.from_mean(np.where(is_ahead, 3.0, np.nan))
    reason = np.array(["ok", "ok", "no_complete_age"], dtype=object)
    spread = Spread(np.zeros(len(NODES), dtype=bool))
    return Forecast(
        curves, np.array(NODES), band.mean, band, band, reason, reach, portfolio_spread=spread
    )


def test_pieces_add_up_and_the_total_is_last() -> None:
    rollup = Rollup.from_forecast(forecast(), None)
    table = rollup.add(rollup.table).with_total()
    at_d360 = table[table["age"] == 360]
    assert at_d360["level"].tolist() == ["Campaign", "Campaign", "TOTAL"]
    assert at_d360["cohorts"].tolist() == [2, 2, 4]
    assert at_d360["cohorts_left_out"].tolist() == [0, 2, 2]
    assert at_d360["forecast_revenue"].tolist() == [60, 120, 180]
    assert at_d360["observed_revenue"].tolist() == [20, 40, 60]


@pytest.mark.parametrize("reach", [360, 300])
def test_an_interval_is_blank_beyond_what_the_data_support(reach: int) -> None:
    """Growth of a is 20, of b is 40: P10 is revenue less growth, P90 is revenue and growth."""
    table = Rollup.from_forecast(forecast(reach=reach), None).with_total()
    at_d360 = table[table["age"] == 360]
    known = np.array([1.0 if reach == 360 else np.nan] * 3)
    np.testing.assert_array_equal(at_d360["p10"], known * [10, 20, 30])
    np.testing.assert_array_equal(at_d360["p90"], known * [50, 100, 150])
    assert at_d360["uncalibrated"].tolist() == [reach != 360] * 3


def test_the_attribute_is_the_first_there_is() -> None:
    curves = forecast(("Source",)).curves
    assert first_attribute(curves, ("Campaign", "Source")) == "Source"
    assert first_attribute(curves, ("Campaign",)) == ""
    with pytest.raises(ValueError, match="expected to sum by one of Source, got 'Campaign'"):
        Rollup.from_forecast(forecast(("Source",)), "Campaign")


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_the_forecast_of_a_sum_lies_in_its_range(seed: int) -> None:
    """Also where growth is nothing but rounding: sums of observed and of forecast round apart."""
    rng = np.random.default_rng(seed)
    base = forecast()
    values = base.curves.values * rng.gamma(1.0, 1.0, 3)[:, None]
    curves = replace(base.curves, values=values, users=np.append(rng.gamma(1.0, 9.0, 2), np.nan))
    growth = rng.choice([0.0, 1e-16, 1.0], (3, 1)) * np.ones(len(NODES))
    mean = np.where(base.is_ahead, curves.observed_value[:, None] * (1 + growth), np.nan)
    band = Band.from_mean(mean)
    made = replace(base, curves=curves, pattern=mean, raw=band, final=band)
    table = Rollup.from_forecast(made, None).with_total()
    is_known = table["p10"].notna()
    assert is_known.any()
    assert (table["p10"] <= table["forecast_revenue"])[is_known].all()
    assert (table["forecast_revenue"] <= table["p90"])[is_known].all()
