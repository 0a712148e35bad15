"""Stages of a day: off, on the way to a bundle, and by segment."""

import json

import numpy as np
from factories.matured import random_band, stack_quantiles
from factories.walks import DAY, assert_same_stages
from hypothesis import given, settings
from hypothesis import strategies as st

from ltvnet.correction.blend import Blend
from ltvnet.correction.corrected import Corrected
from ltvnet.correction.correction import Correction
from ltvnet.correction.stages import LearnedStages, deepest_known_segment
from ltvnet.correction.walk_forward import WalkForward
from ltvnet.data.curves import Curves
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
