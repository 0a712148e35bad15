"""Stages of a day: off, on the way to a bundle, by segment, and ranges that hold their mean."""

import json
from dataclasses import replace

import numpy as np
from factories.cohorts import curve, history
from factories.matured import INTERVALS, random_band, stack_quantiles
from factories.walks import DAY, assert_same_stages
from hypothesis import given, settings
from hypothesis import strategies as st

from ltvnet.correction.blend import Blend
from ltvnet.correction.corrected import Corrected
from ltvnet.correction.correction import Correction
from ltvnet.correction.intervals import Intervals, NodeForecasts
from ltvnet.correction.stages import LearnedStages, deepest_known_segment
from ltvnet.correction.walk_forward import WalkForward
from ltvnet.data.curves import NODE_AGES, Curves
from ltvnet.forecasting.forecast import AGE_BUCKETS
from ltvnet.forecasting.interpolation import interval_growth, rescale_growth


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_stages_that_are_off_change_no_bit(seed: int) -> None:
    band, observed, value = random_band(np.random.default_rng(seed), 8)
    grown = interval_growth(band.mean, observed, value)
    mixed = Blend.equal().apply(grown[None], grown[::-1], observed)
    fixed = Correction.neutral().apply(mixed, observed, np.zeros(8, dtype=np.int64))
    unchanged = rescale_growth(rescale_growth(band, mixed, observed, value), fixed, observed, value)
    np.testing.assert_array_equal(unchanged.mean, band.mean)
    np.testing.assert_array_equal(stack_quantiles(unchanged), stack_quantiles(band))


def test_stages_travel_as_json_and_arrays(corrected_ladder: Corrected) -> None:
    for stages in (corrected_ladder.stages, LearnedStages.neutral()):
        values, arrays = stages.state()
        assert_same_stages(LearnedStages.from_state(json.loads(json.dumps(values)), arrays), stages)


def test_entries_and_cohorts_find_the_same_segments(
    corrected_ladder: Corrected, drifting_curves: Curves, replayed_walk: WalkForward
) -> None:
    segments = corrected_ladder.stages.correction.segments
    last_entries = replayed_walk.entries.take(replayed_walk.entries.origin == DAY)
    rows = drifting_curves.index.get_indexer(last_entries.keys)[last_entries.cohort_index]
    segment = deepest_known_segment(segments, last_entries)
    assert segment.tolist() == deepest_known_segment(segments, drifting_curves)[rows].tolist()
    assert set(segment) == {1, 2}


def random_stages(rng: np.random.Generator) -> LearnedStages:
    """Stages that move every increment, with widths of which some are on one side of the mean."""
    buckets = len(AGE_BUCKETS)
    neutral = LearnedStages.neutral()
    correction = replace(
        neutral.correction,
        factor=rng.gamma(1.0, 1.0, (buckets, 1, INTERVALS)),
        is_on=np.ones(buckets, dtype=bool),
    )
    width = rng.normal(0.2, 0.5, (2, buckets, 1, INTERVALS + 1))
    width[:, :, :, -1] = np.nan  # nothing has matured to D360
    is_borrowed = np.zeros((buckets, INTERVALS + 1), dtype=bool)
    noise = rng.gamma(1.0, 1.0, buckets)
    intervals = Intervals(neutral.intervals.segments, width[0], width[1], is_borrowed, noise)
    return LearnedStages(Blend(rng.random((buckets, 1))), correction, intervals, neutral.totals)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_the_mean_lies_in_the_range_of_every_stage(seed: int) -> None:
    """A range is widened only where its mean would lie outside, so it covers no less."""
    rng = np.random.default_rng(seed)
    rows = 8
    raw, observed_age, observed_value = random_band(rng, rows)
    pattern, _, _ = random_band(rng, rows)
    forecasts = NodeForecasts(
        observed_age, observed_value, np.full(rows, 9.0), pattern.mean, raw.widen_to_mean()
    )
    cohort_rows = [
        ("2024-01-01", "2024-01-01", {"Apps": str(i)}, 9.0, curve(3)) for i in range(rows)
    ]
    cohorts = history(cohort_rows).as_of("2024-02-01")
    stages = random_stages(rng)
    model_growth = interval_growth(raw.mean, observed_age, observed_value)[None]
    bands, _ = stages.apply(forecasts, model_growth, cohorts, np.full(rows, 300))

    for stage, band in bands.items():
        is_known = np.isfinite(band.p10)
        assert (band.p10 <= band.mean)[is_known].all(), stage
        assert (band.mean <= band.p90)[is_known].all(), stage

    corrected = replace(forecasts, band=bands["corrected"])
    calibrated, _ = stages.intervals.apply(corrected, np.zeros(rows, dtype=np.int64))
    final = bands["final"]
    is_known = np.isfinite(final.p10)
    assert (final.p10 <= final.p50)[is_known].all() and (final.p50 <= final.p90)[is_known].all()
    is_within_reach = NODE_AGES <= 300
    np.testing.assert_array_equal(final.mean, calibrated.mean)
    for bound, moved in (("p10", np.minimum), ("p90", np.maximum)):
        cells = getattr(calibrated, bound)[:, is_within_reach]
        widened = moved(cells, final.mean[:, is_within_reach])
        np.testing.assert_array_equal(getattr(final, bound)[:, is_within_reach], widened)
    assert np.isnan(final.p90[:, ~is_within_reach]).all()
