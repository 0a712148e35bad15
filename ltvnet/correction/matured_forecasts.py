"""Past forecasts beside what came true of them, which is what every stage learns from.

Shapes: E entries, I intervals, B buckets of observed age.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import xlogy

from ltvnet.data.arrays import Bools, Floats, Ints
from ltvnet.data.curves import NODE_AGES
from ltvnet.data.segments import Segments
from ltvnet.forecasting.forecast import AGE_BUCKETS, age_bucket

MIN_GROWTH_RATIO = 1e-9
"""A trial that forecasts no growth is judged as if it were this much of the forecast's."""


@dataclass(frozen=True)
class MaturedForecasts:
    """Forecasts as they were issued beside what had come true by a day.

    `segment` (E,) the deepest segment, `observed_age` (E,), `users` (E,), `week_index` (E,) number
    of the acquisition week, `origin_index` (E,) number of the origin and `days_ago` (E,) since
    then; `forecast_growth` and `actual_growth` (E, I) increments in revenue per user, the latter
    NaN where the interval had not ended.
    """

    segments: Segments
    segment: Ints
    observed_age: Ints
    users: Floats
    week_index: Ints
    origin_index: Ints
    days_ago: Floats
    forecast_growth: Floats
    actual_growth: Floats

    @property
    def has_matured(self) -> Bools:
        """Whether each increment (E, I) had come true and was ahead of the observed age."""
        is_ahead = NODE_AGES[1:] > self.observed_age[:, None]
        return is_ahead & np.isfinite(self.actual_growth)

    @property
    def growth_weight(self) -> Floats:
        """Weight of each increment (E, I): users x step in log age, 0 where not matured."""
        interval_start = np.maximum(NODE_AGES[:-1], self.observed_age[:, None])
        log_age_step = np.log1p(NODE_AGES[1:]) - np.log1p(interval_start)
        return np.where(self.has_matured, self.users[:, None] * log_age_step, 0.0)

    def cumulate(self, growth: Floats) -> Floats:
        """Sum growth (E, I) over the intervals that have come true: (E, I)."""
        return np.cumsum(np.where(self.has_matured, growth, 0.0), axis=1)

    @property
    def independent_origins(self) -> Floats:
        """How many origins without overlap the past is worth, by bucket: (B,).

        Origins closer than the days ahead share a part of what happened.
        """
        weight = self.growth_weight
        weighted_days_ahead = weight * (NODE_AGES[1:] - self.observed_age[:, None])
        has_weight = weight.any(axis=1)

        origins = np.zeros(len(AGE_BUCKETS))
        bucket_of_entry = age_bucket(self.observed_age)
        for bucket in np.unique(bucket_of_entry[has_weight]):
            rows = has_weight & (bucket_of_entry == bucket)
            mean_days_ahead = weighted_days_ahead[rows].sum() / weight[rows].sum()
            origin_count = len(np.unique(self.origin_index[rows]))
            days_between = np.ptp(self.days_ago[rows])
            origins[bucket] = min(origin_count, 1.0 + days_between / mean_days_ahead)
        return origins

    def loss(self, forecast_growth: Floats) -> Floats:
        """Error of forecast growth (E, I): (E,), in currency.

        Users x absolute error of the growth so far x step in log age, summed over the ages that
        have come true.
        """
        error = np.abs(self.cumulate(forecast_growth - self.actual_growth))
        return np.asarray((self.growth_weight * error).sum(axis=1))

    def gain(self, trial_growth: Floats) -> Floats:
        """How much more likely a trial (E, I) made the growth so far: (E,), in currency.

        Difference of over-dispersed-Poisson deviances, which the mean minimizes: an absolute
        error would be cut by forecasting the median, and prefer whatever is lower.
        """
        mean = self.cumulate(self.forecast_growth)
        trial_mean = self.cumulate(trial_growth)
        actual = np.maximum(self.cumulate(self.actual_growth), 0.0)

        has_grown = mean > 0
        ratio = np.divide(trial_mean, mean, out=np.ones_like(mean), where=has_grown)
        ratio = np.maximum(ratio, MIN_GROWTH_RATIO)
        deviance = np.where(has_grown, mean - trial_mean + xlogy(actual, ratio), 0.0)
        return np.asarray((self.growth_weight * deviance).sum(axis=1))
