"""The past walked forward: each day learns from what had come true by it, and from nothing else."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from factories.configs import ALL_STAGES, PATTERN
from factories.models import make_replay
from factories.walks import DAY, DAYS, DRIFTING_PLAN, assert_same_stages, stack_bands, walk_days

from ltvnet.backtesting.ledger import STAGES, Ledger, LedgerEntries
from ltvnet.correction.correction import CORRECTION_KAPPAS, HALF_LIFE_DAYS
from ltvnet.correction.intervals import CalibrationSample, Intervals
from ltvnet.correction.stages import LearnedStages, deepest_known_segment, forecasts_at_stage
from ltvnet.correction.walk_forward import StageSwitches, WalkForward, mean_band, replay_and_correct
from ltvnet.data.arrays import Floats
from ltvnet.data.curves import NODES, History
from ltvnet.forecasting.forecast import AGE_BUCKETS, QUANTITIES, Band, age_bucket
from ltvnet.forecasting.interpolation import interval_growth


def multiply_growth(times: Floats | float, entries: LedgerEntries) -> LedgerEntries:
    """Raw forecasts of more growth, which every stage leaves as it is."""
    value = entries.observed_value[:, None]
    raw = entries.bands["raw"]
    cells = (value + times * (getattr(raw, quantity) - value) for quantity in QUANTITIES)
    return replace(entries, bands=dict.fromkeys(STAGES, Band(*cells)))


@pytest.fixture(scope="module")
def erring_walk(drifting_past: History, replayed_walk: WalkForward) -> WalkForward:
    """A walk of forecasts whose growth chance has multiplied: each stage differs from the last."""
    entries = replayed_walk.entries
    times = 1.2 * np.random.default_rng(0).lognormal(0.0, 0.8, (len(entries), 1))
    walk = WalkForward([multiply_growth(times, entries)], drifting_past, ALL_STAGES)
    walk.run()
    return walk


def test_a_day_knows_what_had_come_true_by_it(
    drifting_past: History, replayed_walk: WalkForward, tmp_path: Path
) -> None:
    """Both passes on the history as it stood at a day forecast the same until that day."""
    last = DAYS[7]
    walk_then = walk_days(drifting_past.until(last), tmp_path, DAYS[:8])
    early = replayed_walk.entries.take(replayed_walk.entries.origin <= last)
    np.testing.assert_array_equal(stack_bands(walk_then.entries.bands), stack_bands(early.bands))
    np.testing.assert_array_equal(walk_then.entries.is_borrowed, early.is_borrowed)
    assert_same_stages(walk_then.learn_stages(last)[0], replayed_walk.learn_stages(last)[0])
    changed = walk_then.entries.bands["corrected"].mean != walk_then.entries.bands["raw"].mean
    assert changed[walk_then.entries.has_forecast].any()  # there was something to learn


def matured_values(entries: LedgerEntries, past: History) -> Floats:
    """Values (E, J) that had come true by DAY, of forecasts that may teach: cell by cell."""
    keys = list(past.index)
    actual = np.full((len(entries), len(NODES)), np.nan)
    for e, j in product(range(len(entries)), range(len(NODES))):
        row, k = keys.index(entries.keys[entries.cohort_index[e]]), entries.observed_age[e]
        ended = k < NODES[j] <= entries.last_supported_age[e] and past.end[row] + NODES[j] <= DAY
        if ended and entries.natural_age[e] == k and entries.origin[e] < DAY:
            actual[e, j] = past.values[row, NODES[j]]
    return actual


def factors_by_hand(entries: LedgerEntries, actual: Floats, kappa: float) -> tuple[Floats, Floats]:
    """Factors (B, I) of everything as of DAY, and the rows behind them, cell by cell."""
    sums = np.zeros((8, len(NODES) - 1, 3))
    volumes: dict[tuple[int, int], list[float]] = {}
    mean, value = entries.bands["blended"].mean, entries.observed_value
    for e, j in product(range(len(entries)), range(len(NODES) - 1)):
        if np.isnan(actual[e, j + 1]):
            continue
        weight = 0.5 ** (float((DAY - entries.origin[e]).astype(int)) / HALF_LIFE_DAYS)
        b = int(age_bucket(entries.observed_age[[e]])[0])
        is_first = NODES[j] <= entries.observed_age[e]
        forecast_before = value[e] if is_first else mean[e, j]
        actual_before = value[e] if is_first else actual[e, j]
        expected = entries.users[e] * (mean[e, j + 1] - forecast_before)
        growth = entries.users[e] * (actual[e, j + 1] - actual_before)
        sums[b, j] += weight * growth, weight * expected, 1
        volumes.setdefault((b, j), []).append(expected)

    constant = np.zeros(sums.shape[:2])
    for cell, cell_volumes in volumes.items():
        constant[cell] = kappa * np.median([volume for volume in cell_volumes if volume > 0])
    with np.errstate(invalid="ignore"):
        factor = (sums[..., 0] + constant) / (sums[..., 1] + constant)
    return np.where(sums[..., 2] > 0, factor, 1.0), sums[..., 2]


@pytest.mark.parametrize("name", ["replayed_walk", "erring_walk"])
def test_what_a_day_learns_by_hand(
    name: str, drifting_past: History, request: pytest.FixtureRequest
) -> None:
    """Correction of what was blended, and intervals of what was corrected, as they stood then."""
    walk: WalkForward = request.getfixturevalue(name)
    stages, corrections = walk.learn_stages(DAY)
    actual = matured_values(walk.entries, drifting_past)
    for kappa, learned in zip(CORRECTION_KAPPAS, corrections, strict=True):
        factor, rows = factors_by_hand(walk.entries, actual, kappa)
        np.testing.assert_allclose(learned.factor[:, 0], factor, rtol=1e-9)
        np.testing.assert_array_equal(learned.increment_count[:, 0], rows)
    fixed = stages.correction
    assert fixed.is_on[2:7].sum() >= 2
    assert (stages.blend.weight < 1).any() == (name == "erring_walk")
    for b, kappa in enumerate(fixed.kappa):
        kappa_correction = corrections[CORRECTION_KAPPAS.index(kappa)]
        np.testing.assert_array_equal(fixed.factor[b], kappa_correction.factor[b])
    entries, segments = walk.entries, stages.intervals.segments
    segment = deepest_known_segment(segments, entries)
    of = (entries.cohort_index, entries.origin, segment)
    intervals = Intervals.fit(
        CalibrationSample(forecasts_at_stage(entries, "corrected"), actual, *of), segments
    )
    np.testing.assert_allclose(stages.intervals.lower, intervals.lower, rtol=1e-12)
    np.testing.assert_allclose(stages.intervals.upper, intervals.upper, rtol=1e-12)


def test_a_day_applies_what_it_learned(replayed_walk: WalkForward) -> None:
    stages, _ = replayed_walk.learn_stages(DAY)
    last_entries = replayed_walk.entries.take(replayed_walk.entries.origin == DAY)
    bucket = age_bucket(last_entries.observed_age)
    segment = deepest_known_segment(stages.correction.segments, last_entries)
    factor = stages.correction.factor[bucket, segment]
    factor = np.where(stages.correction.is_on[bucket][:, None], factor, 1.0)
    raw, fixed = (
        interval_growth(
            last_entries.bands[stage].mean, last_entries.observed_age, last_entries.observed_value
        )
        for stage in ("raw", "corrected")
    )
    np.testing.assert_allclose(fixed, raw * factor, rtol=1e-9, atol=1e-12)
    assert (fixed < raw).any()


def test_cut_prefixes_teach_nothing(drifting_past: History, replayed_walk: WalkForward) -> None:
    cut = replayed_walk.entries.natural_age != replayed_walk.entries.observed_age
    assert cut.sum() >= 10
    raw = replayed_walk.entries.bands["raw"]
    wrong = Band(*(np.where(cut[:, None], 9e9, getattr(raw, q)) for q in QUANTITIES))
    spoiled = replace(replayed_walk.entries, bands=dict.fromkeys(STAGES, wrong))
    spoiled_walk = WalkForward([spoiled], drifting_past, ALL_STAGES)
    spoiled_walk.run()
    assert_same_stages(spoiled_walk.learn_stages(DAY)[0], replayed_walk.learn_stages(DAY)[0])


def test_only_what_may_be_learned_is(drifting_past: History, replayed_walk: WalkForward) -> None:
    def stages_with(**learned: bool) -> LearnedStages:
        learning = StageSwitches(
            **{"blend": False, "correction": False, "intervals": False} | learned
        )
        other_walk = WalkForward([replayed_walk.entries], drifting_past, learning)
        other_walk.run()
        return other_walk.learn_stages(DAY)[0]

    assert_same_stages(stages_with(), LearnedStages.neutral())
    intervals = stages_with(intervals=True)
    assert intervals.has_intervals and not intervals.correction.is_on.any()
    fixed = stages_with(correction=True)
    assert fixed.correction.is_on.any() and not fixed.has_intervals
    assert np.isnan(fixed.totals.common).all()


def test_models_of_other_rows_are_no_mixture(drifting_past: History, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    good = replay_and_correct(
        make_replay(PATTERN, drifting_past, DAYS, DRIFTING_PLAN, ledger), ALL_STAGES
    ).entries
    WalkForward([good, good.take(np.arange(len(good)))], drifting_past, ALL_STAGES)
    with pytest.raises(AssertionError):
        WalkForward([good, good.take(np.arange(len(good))[::-1])], drifting_past, ALL_STAGES)
    with pytest.raises(AssertionError):
        WalkForward([good, replace(good, keys=good.keys[::-1])], drifting_past, ALL_STAGES)


def test_a_model_that_errs_loses_its_weight(drifting_past: History, tmp_path: Path) -> None:
    """Walking forward: the last weights are other than the first, which are equal."""
    days = list(np.arange(DAYS[0], DAYS[-1] + 1, 28))
    good = walk_days(drifting_past, tmp_path, days).entries
    walk = WalkForward([good, multiply_growth(3.0, good)], drifting_past, ALL_STAGES)
    walk.run()
    first, *_, last = (
        walk.stages_by_origin[day].blend.weight for day in sorted(walk.stages_by_origin)
    )
    assert (first == 0.5).all()
    assert (last[1:, 1] <= 0.5).all() and (last[:, 1] < 0.5).any()
    assert last.shape == (len(AGE_BUCKETS), 2) and (last.sum(axis=1) <= 1).all()


def test_the_mean_of_one_band_is_itself() -> None:
    band = Band(*(np.random.default_rng(0).random((4, 3, len(NODES)))))
    assert mean_band([band]) is band
    np.testing.assert_array_equal(mean_band([band, band]).p90, band.p90)
