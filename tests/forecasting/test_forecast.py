"""A forecast is read at some of its ages; a band maps and takes all of its quantities alike."""

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
