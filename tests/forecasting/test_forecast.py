"""A forecast is read at some of its ages; a band maps and takes all of its quantities alike."""

from dataclasses import replace

import numpy as np
import pytest
from factories.forecasts import linear_forecast

from ltvnet.forecasting.forecast import AGE_BUCKET_LABELS, AGE_BUCKETS, QUANTITIES, Band, age_bucket


def test_a_band_maps_each_quantity() -> None:
    doubled = Band(*(np.full((2, 3), value) for value in (1.0, 2.0, 3.0, 4.0))).map(lambda x: 2 * x)
    assert [getattr(doubled, name)[0, 0] for name in QUANTITIES] == [2.0, 4.0, 6.0, 8.0]


def test_a_band_takes_the_same_cells_of_each_quantity() -> None:
    values = np.arange(6.0).reshape(2, 3)
    band = Band(values, values + 10, values + 20, values + 30)
    corner = band.take((np.array([1]), slice(1, 3)))
    np.testing.assert_array_equal(corner.mean, [[4, 5]])
    np.testing.assert_array_equal(corner.p90, [[34, 35]])
    np.testing.assert_array_equal(band.take(np.array([False, True])).p10, [[13, 14, 15]])
    assert band.take(slice(0, 1)).mean.base is values.base  # a view


def test_a_band_of_a_mean_alone_holds_one_array() -> None:
    mean = np.ones((2, 3))
    band = Band.from_mean(mean)
    assert all(getattr(band, name) is mean for name in QUANTITIES)


def test_a_forecast_at_some_of_its_ages() -> None:
    at_two_ages = linear_forecast().at([30, 90])
    assert at_two_ages.ages.tolist() == [30, 90]
    assert at_two_ages.final.p90.shape == (4, 2)
    np.testing.assert_array_equal(at_two_ages.raw.mean, linear_forecast((30, 90)).raw.mean)

    with pytest.raises(ValueError, match=r"ages that were forecast, got also \[0\]"):
        linear_forecast().at([0, 30])


def test_every_age_is_within_the_label_of_its_bucket() -> None:
    assert len(AGE_BUCKET_LABELS) == len(AGE_BUCKETS)
    for bucket, label in enumerate(AGE_BUCKET_LABELS):
        first, last = map(int, label.split("-"))
        assert age_bucket(np.array([first, last])).tolist() == [bucket, bucket]
    assert AGE_BUCKET_LABELS[-1] == "180-359"


def test_a_band_is_widened_to_its_mean_and_no_further() -> None:
    mean = np.array([[1.0, 5.0, 3.0, 3.0]])
    low = np.array([[2.0, 2.0, 2.0, np.nan]])
    high = np.array([[4.0, 4.0, 4.0, np.nan]])
    band = Band(mean, low, low, high).widen_to_mean()
    np.testing.assert_array_equal(band.p10, [[1, 2, 2, np.nan]])
    np.testing.assert_array_equal(band.p90, [[4, 5, 4, np.nan]])
    assert band.p50 is low and band.mean is mean
    assert Band.from_mean(mean).widen_to_mean().p90 is mean  # as one array


def test_rows_are_taken_of_all_that_a_forecast_has() -> None:
    made = replace(linear_forecast((30, 360)), is_borrowed=np.ones((4, 2), dtype=bool))
    rows = np.array([1, 3])
    some = made.take(rows)
    assert some.curves.index.equals(made.curves.index[rows])
    assert some.reason.tolist() == ["ok", "no_complete_age"]
    np.testing.assert_array_equal(some.final.p90, made.final.p90[rows])
    np.testing.assert_array_equal(some.pattern, made.pattern[rows])
    assert some.is_borrowed is not None and some.is_borrowed.shape == (2, 2)


def test_ages_beyond_what_data_support_are_told_cell_by_cell() -> None:
    made = replace(linear_forecast((30, 90, 360)), last_supported_age=90)
    assert made.is_within_reach.tolist() == [True, True, False]
    assert made.is_extrapolated.sum(axis=0).tolist() == [0, 0, 2]
    reasons = made.cell_reasons()
    words = reasons.values[reasons.codes].tolist()
    assert words == ["ok", "ok", "extrapolated", "young", "young", "extrapolated"]


def test_a_forecast_is_shown_in_a_line_and_as_a_frame() -> None:
    made = replace(linear_forecast((30, 360)), last_supported_age=90)
    assert repr(made) == "Forecast(4 cohorts, 2 ages D30..D360, as of 2025-02-10, supported to D90)"
    unknown = replace(made, last_supported_age=-1)
    assert repr(unknown).endswith("supported at no age)")

    frame = made.to_frame()
    assert frame["Campaign"].tolist() == ["x, 1", "x, 1", "y", "y"]
    assert frame["age"].tolist() == [30, 360] * 2
    assert frame["observed_age"].tolist() == [11, 11, 2, 2]
    np.testing.assert_allclose(frame["mean"], [5.0, np.nan, 6.0, np.nan], rtol=1e-6)
    np.testing.assert_allclose(frame["roas"], [5.0 * 10 / 5, np.nan, np.nan, np.nan], rtol=1e-6)
    assert frame["raw_mean"].notna().all()
