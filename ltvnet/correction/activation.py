"""When blend and correction act: only where their gain on past forecasts is significant.

A trial is a forecast as a stage would have issued it. It has to be better over weeks of acquisition
and over origins, in each bucket of observed age by itself.

Shapes: E entries, I intervals, B buckets of observed age, T trials, L labels of weeks or origins.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from ltvnet.correction.matured_forecasts import MaturedForecasts
from ltvnet.data.arrays import Bools, Floats, Ints
from ltvnet.forecasting.forecast import AGE_BUCKETS, age_bucket

MIN_WEEKS = 8
"""Acquisition weeks that must have matured before a stage can be told from chance."""

STAGE_CONFIDENCE = 0.93
"""Confidence (one-sided, Student's t) that a stage was better, over weeks and over origins."""


def best_trial_by_bucket(past: MaturedForecasts, trials: Sequence[Floats]) -> Ints:
    """Find the trial that forecast best, by bucket: (B,) positions, -1 where none can be told.

    `trials` (E, I) each, as they would have been issued: each is judged as a forecast of the mean
    against `past.forecast_growth`.
    """
    return clearest_gain_by_bucket(past, np.stack([past.gain(trial) for trial in trials]))


def clearest_gain_by_bucket(past: MaturedForecasts, gain: Floats) -> Ints:
    """Position of the largest significant gain out of (T, E), by bucket: (B,), -1 for none."""
    bucket = age_bucket(past.observed_age)
    gain_by_week = _sum_by_bucket_and_label(gain, bucket, past.week_index)
    gain_by_origin = _sum_by_bucket_and_label(gain, bucket, past.origin_index)

    week_count = (gain_by_week != 0).sum(axis=2)  # (T, B)
    origin_count = np.broadcast_to(past.independent_origins, week_count.shape)
    is_clear = (week_count >= MIN_WEEKS) & _is_mean_positive(gain_by_week, week_count)
    is_clear &= _is_mean_positive(gain_by_origin, origin_count)

    total = np.where(is_clear, gain_by_week.sum(axis=2), -np.inf)
    return np.where(is_clear.any(axis=0), total.argmax(axis=0), -1).astype(np.int64)


def _sum_by_bucket_and_label(gain: Floats, bucket: Ints, label: Ints) -> Floats:
    """Sums of gains (T, E) over bucket and label: (T, B, L)."""
    label_count = int(label.max(initial=0)) + 1
    group = bucket * label_count + label
    sums = np.zeros((len(gain), len(AGE_BUCKETS) * label_count))
    for trial_sums, trial_gain in zip(sums, gain, strict=True):
        trial_sums += np.bincount(group, trial_gain, minlength=len(trial_sums))
    return sums.reshape(len(gain), len(AGE_BUCKETS), label_count)


def _is_mean_positive(sums: Floats, independent_sums: NDArray[Any]) -> Bools:
    """Whether sums (T, B, L), where not 0, have a mean above 0: a t-test, (T, B).

    `independent_sums` (T, B) that they are worth, of which it takes 2.
    """
    count = np.maximum((sums != 0).sum(axis=2), 2)
    mean = sums.sum(axis=2) / count
    variance = np.maximum((sums**2).sum(axis=2) / count - mean**2, 0.0) * count / (count - 1)

    sample_size = np.clip(independent_sums, 2.0, count)
    critical_value = stdtrit(sample_size - 1, STAGE_CONFIDENCE)
    threshold = critical_value * np.sqrt(variance / sample_size)
    is_positive: Bools = (independent_sums >= 2) & (mean > threshold)
    return is_positive
