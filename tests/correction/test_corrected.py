"""The past walked forward: each day learns from what had come true by it, and from nothing else."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cohorts import curve, history
from factories import corrected_model, forecaster, past_replay
from test_leaks import CHAIN_LADDER, LEARNING, LSTM, assert_same, corrected

from ltvnet.backtesting.ledger import STAGES, Ledger, LedgerEntries
from ltvnet.backtesting.origins import ReplayPlan
from ltvnet.correction.corrected import Corrected
from ltvnet.correction.correction import CORRECTION_KAPPAS, HALF_LIFE_DAYS
from ltvnet.correction.intervals import CalibrationSample, Intervals
from ltvnet.correction.stages import LearnedStages, deepest_known_segment, forecasts_at_stage
from ltvnet.correction.walk_forward import StageSwitches, WalkForward, replay_and_correct
from ltvnet.data.arrays import Floats
from ltvnet.data.curves import AGES, NODES, Curves, History
from ltvnet.forecasting.forecast import QUANTITIES, Band, age_bucket
from ltvnet.forecasting.interpolation import interval_growth
from ltvnet.models.pattern.pattern import Pattern, shared_interpolation_pattern
from ltvnet.prediction import bundle

DAY, LATE = np.datetime64("2024-05-30"), np.datetime64("2024-12-29")
DAYS = list(np.arange(DAY - 28 * 8, DAY + 1, 28))
CONFIG = corrected(CHAIN_LADDER, 4, 8)
GRID = np.array(NODES)


def drifting(rate: float, seed: int = 0, weeks: int = 78, apps: str = "ab") -> History:
    """Weekly cohorts, alike in every app, whose growth after D7 falls by `rate` a year.

    Levels, growth after D7 and each day's revenue are drawn.
    """
    rng = np.random.default_rng(seed)
    step = np.diff(curve(360), prepend=0.0)
    rows = []
    for week, app in product(range(weeks), apps):
        grown = step * rng.gamma(16, 1 / 16, AGES) * rng.gamma(44, 1 / 44)
        grown[8:] *= rng.gamma(100, 1 / 100) * np.exp(-rate * week / 52)
        start = np.datetime64("2023-01-02") + 7 * week
        users = float(rng.integers(50, 500))
        rows.append((str(start), str(start + 6), {"Apps": app}, users, np.cumsum(grown)))
    return history(rows, hierarchy=("Apps",))


@pytest.fixture(scope="module")
def past() -> History:
    return drifting(0.3)


@pytest.fixture(scope="module")
def model(past: History) -> Corrected:
    return fitted(past)


@pytest.fixture(scope="module")
def curves(past: History) -> Curves:
    return past.as_of(DAY)


def fitted(past: History, date: object = DAY, **changes: object) -> Corrected:
    return corrected_model(CONFIG | changes).fit(past, date)


def plan(**changes: object) -> ReplayPlan:
    return ReplayPlan(**CONFIG["plan"] | changes)


def walk(past: History, folder: Path, days: Sequence[np.datetime64] = DAYS) -> WalkForward:
    return replay_and_correct(
        past_replay(CHAIN_LADDER, past, days, plan(), Ledger(folder)), LEARNING
    )


@pytest.fixture(scope="module")
def whole(past: History, tmp_path_factory: pytest.TempPathFactory) -> WalkForward:
    return walk(past, tmp_path_factory.mktemp("ledger"))


@pytest.fixture(scope="module")
def erring(past: History, whole: WalkForward) -> WalkForward:
    """The same past forecast by a model that multiplies growth by chance: blended, then corrected.

    So every stage differs from the one before it.
    """
    entries, rng = whole.entries, np.random.default_rng(0)
    value = entries.observed_value[:, None]
    times = 1.2 * rng.lognormal(0.0, 0.8, (len(value), 1))
    cells = (getattr(entries.bands["raw"], quantity) for quantity in QUANTITIES)
    wrong = Band(*(value + times * (values - value) for values in cells))
    made = WalkForward([replace(entries, bands=dict.fromkeys(STAGES, wrong))], past, LEARNING)
    made.run()
    return made


def bits(bands: Mapping[str, Band]) -> Floats:
    """All stages and quantities: (stages, Q, E, J)."""
    return np.stack([np.stack([getattr(bands[s], q) for q in QUANTITIES]) for s in STAGES])


def assert_alike(one: LearnedStages, other: LearnedStages) -> None:
    (values, arrays), (others, tables) = one.state(), other.state()
    assert values == others and list(arrays) == list(tables)
    for name in arrays:
        np.testing.assert_array_equal(arrays[name], tables[name])


@pytest.mark.parametrize("base", [CHAIN_LADDER, LSTM], ids=["chain_ladder", "lstm"])
def test_without_a_past_the_model_stays_bit_for_bit(
    base: dict[str, Any], past: History, curves: Curves
) -> None:
    model = fitted(past, base=base, origins=0)
    assert model.past_entries is None and not model.stages.has_intervals
    for ages in (NODES, range(AGES)):
        ours = model.predict(curves, ages)
        theirs = forecaster(base).fit(curves).predict(curves, ages)
        np.testing.assert_array_equal(ours.final.mean, theirs.final.mean)
        np.testing.assert_array_equal(ours.final.p50, theirs.final.p50)
        assert np.isnan(ours.final.p10).all() and np.isnan(ours.final.p90).all()
        assert not ours.is_calibrated


def test_counts_and_models_are_checked(past: History, tmp_path: Path) -> None:
    for changes in ({"every_weeks": 0}, {"origins": -1}):
        with pytest.raises(ValueError, match="expected every_weeks >= 1 and origins >= 0, got "):
            corrected_model(CONFIG | changes)
    for origins in (0, 3):
        with pytest.raises(ValueError, match="a model that learns from curves, got 'corrected'"):
            fitted(past, base=CONFIG, origins=origins)
    with pytest.raises(ValueError, match="expected at least one origin, got none"):
        walk(past, tmp_path, [])


def test_a_day_knows_what_had_come_true_by_it(
    past: History, whole: WalkForward, tmp_path: Path
) -> None:
    """Both passes on the history as it stood at a day forecast the same until that day."""
    last = DAYS[7]
    then = walk(past.until(last), tmp_path, DAYS[:8])
    early = whole.entries.take(whole.entries.origin <= last)
    np.testing.assert_array_equal(bits(then.entries.bands), bits(early.bands))
    np.testing.assert_array_equal(then.entries.is_borrowed, early.is_borrowed)
    assert_alike(then.learn_stages(last)[0], whole.learn_stages(last)[0])
    changed = then.entries.bands["corrected"].mean != then.entries.bands["raw"].mean
    assert changed[then.entries.has_forecast].any()  # there was something to learn


def came_true(entries: LedgerEntries, past: History) -> Floats:
    """Values (E, J) that had come true by DAY, of forecasts that may teach: cell by cell."""
    keys, actual = list(past.index), np.full((len(entries), len(NODES)), np.nan)
    for e, j in product(range(len(entries)), range(len(NODES))):
        row, k = keys.index(entries.keys[entries.cohort_index[e]]), entries.observed_age[e]
        ended = k < NODES[j] <= entries.last_supported_age[e] and past.end[row] + NODES[j] <= DAY
        if ended and entries.natural_age[e] == k and entries.origin[e] < DAY:
            actual[e, j] = past.values[row, NODES[j]]
    return actual


def by_hand(entries: LedgerEntries, actual: Floats, kappa: float) -> tuple[Floats, Floats]:
    """Factors (B, I) of everything as of DAY, and the rows behind them, cell by cell."""
    sums = np.zeros((8, len(NODES) - 1, 3))
    volumes: dict[tuple[int, int], list[float]] = {}
    mean, value = entries.bands["blended"].mean, entries.observed_value
    for e, j in product(range(len(entries)), range(len(NODES) - 1)):
        if np.isnan(actual[e, j + 1]):
            continue
        weight = 0.5 ** (float((DAY - entries.origin[e]).astype(int)) / HALF_LIFE_DAYS)
        b = int(age_bucket(entries.observed_age[[e]])[0])
        first = NODES[j] <= entries.observed_age[e]
        expected = entries.users[e] * (mean[e, j + 1] - (value[e] if first else mean[e, j]))
        grown = entries.users[e] * (actual[e, j + 1] - (value[e] if first else actual[e, j]))
        sums[b, j] += weight * grown, weight * expected, 1
        volumes.setdefault((b, j), []).append(expected)
    constant = np.zeros(sums.shape[:2])
    for place, seen in volumes.items():
        constant[place] = kappa * np.median([volume for volume in seen if volume > 0])
    with np.errstate(invalid="ignore"):
        factor = (sums[..., 0] + constant) / (sums[..., 1] + constant)
    return np.where(sums[..., 2] > 0, factor, 1.0), sums[..., 2]


@pytest.mark.parametrize("name", ["whole", "erring"])
def test_what_a_day_learns_by_hand(
    name: str, past: History, request: pytest.FixtureRequest
) -> None:
    """Correction of what was blended, and intervals of what was corrected, as they stood then."""
    made: WalkForward = request.getfixturevalue(name)
    stages, corrections = made.learn_stages(DAY)
    actual = came_true(made.entries, past)
    for kappa, learned in zip(CORRECTION_KAPPAS, corrections, strict=True):
        factor, rows = by_hand(made.entries, actual, kappa)
        np.testing.assert_allclose(learned.factor[:, 0], factor, rtol=1e-9)
        np.testing.assert_array_equal(learned.increment_count[:, 0], rows)
    fixed = stages.correction
    assert fixed.is_on[2:7].sum() >= 2
    assert (stages.blend.weight < 1).any() == (name == "erring")
    for b, kappa in enumerate(fixed.kappa):
        same = corrections[CORRECTION_KAPPAS.index(kappa)]
        np.testing.assert_array_equal(fixed.factor[b], same.factor[b])
    entries, segments = made.entries, stages.intervals.segments
    segment = deepest_known_segment(segments, entries)
    of = (entries.cohort_index, entries.origin, segment)
    intervals = Intervals.fit(
        CalibrationSample(forecasts_at_stage(entries, "corrected"), actual, *of), segments
    )
    np.testing.assert_allclose(stages.intervals.lower, intervals.lower, rtol=1e-12)
    np.testing.assert_allclose(stages.intervals.upper, intervals.upper, rtol=1e-12)


def test_a_day_applies_what_it_learned(whole: WalkForward) -> None:
    stages, _ = whole.learn_stages(DAY)
    now = whole.entries.take(whole.entries.origin == DAY)
    which, segment = (
        age_bucket(now.observed_age),
        deepest_known_segment(stages.correction.segments, now),
    )
    factor = stages.correction.factor[which, segment]
    factor = np.where(stages.correction.is_on[which][:, None], factor, 1.0)
    raw, fixed = (
        interval_growth(now.bands[stage].mean, now.observed_age, now.observed_value)
        for stage in ("raw", "corrected")
    )
    np.testing.assert_allclose(fixed, raw * factor, rtol=1e-9, atol=1e-12)
    assert (fixed < raw).any()


@pytest.mark.parametrize("window", ["expanding", "sliding:40w"])
def test_a_fit_forecasts_what_a_replay_of_its_day_says(
    past: History, curves: Curves, window: str, tmp_path: Path
) -> None:
    chosen = plan(window=window)
    replayed = replay_and_correct(
        past_replay(CHAIN_LADDER, past, DAYS, chosen, Ledger(tmp_path)), LEARNING
    ).entries
    now = replayed.take((replayed.origin == DAY) & (replayed.natural_age == replayed.observed_age))
    model = fitted(past, plan=CONFIG["plan"] | {"window": window})
    made = model.predict(curves)
    rows = curves.index.get_indexer(now.keys)[now.cohort_index]
    assert len(rows) > 100
    for quantity in QUANTITIES:
        ours, theirs = getattr(made.final, quantity)[rows], getattr(now.bands["final"], quantity)
        np.testing.assert_array_equal(np.where(now.has_forecast, ours, np.nan), theirs)
    assert made.is_borrowed is not None
    np.testing.assert_array_equal(
        made.is_borrowed[rows] & now.has_forecast, now.is_borrowed & now.has_forecast
    )
    assert (made.is_borrowed[rows] & now.has_forecast).any()


def test_cut_prefixes_teach_nothing(past: History, whole: WalkForward) -> None:
    cut = whole.entries.natural_age != whole.entries.observed_age
    assert cut.sum() >= 10
    raw = whole.entries.bands["raw"]
    wrong = Band(*(np.where(cut[:, None], 9e9, getattr(raw, q)) for q in QUANTITIES))
    other = WalkForward(
        [replace(whole.entries, bands=dict.fromkeys(STAGES, wrong))], past, LEARNING
    )
    other.run()
    assert_alike(other.learn_stages(DAY)[0], whole.learn_stages(DAY)[0])


def test_only_what_may_be_learned_is(past: History, whole: WalkForward) -> None:
    def learned(**chosen: bool) -> LearnedStages:
        learning = StageSwitches(
            **{"blend": False, "correction": False, "intervals": False} | chosen
        )
        other = WalkForward([whole.entries], past, learning)
        other.run()
        return other.learn_stages(DAY)[0]

    assert_alike(learned(), LearnedStages.neutral())
    intervals = learned(intervals=True)
    assert intervals.has_intervals and not intervals.correction.is_on.any()
    fixed = learned(correction=True)
    assert fixed.correction.is_on.any() and not fixed.has_intervals
    assert np.isnan(fixed.totals.common).all()


def test_the_ledger_holds_every_stage(past: History, whole: WalkForward, tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    model = fitted(past, ledger=str(folder))
    name = next(folder.glob("*/*.parquet")).stem
    kept = Ledger(folder).read(name, DAYS[:-1], past.hierarchy)
    assert model.past_entries is not None
    early = whole.entries.take(whole.entries.origin < DAY)
    for entries in (kept, model.past_entries):
        np.testing.assert_array_equal(bits(entries.bands), bits(early.bands))
        np.testing.assert_array_equal(
            entries.is_borrowed & entries.has_forecast, early.is_borrowed & early.has_forecast
        )
    raw, blended, fixed, final = (kept.bands[stage] for stage in STAGES)
    assert (fixed.mean != blended.mean)[kept.has_forecast].any()
    assert (final.p90 > fixed.p90).any() and np.isfinite(raw.p90[kept.has_forecast]).all()


def test_a_second_fit_reuses_the_past(
    past: History, model: Corrected, curves: Curves, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    days, fit = [], Pattern.fit

    def counted(self: Pattern, curves: Curves) -> Pattern:
        days.append(curves.origin)
        return fit(self, curves)

    monkeypatch.setattr(Pattern, "fit", counted)
    once, again = (fitted(past, ledger=str(tmp_path)) for _ in range(2))
    assert days == [*DAYS, DAY]
    assert_same(once.predict(curves), again.predict(curves))
    assert_same(once.predict(curves), model.predict(curves))
    days.clear()
    fitted(past.until(DAY), ledger=str(tmp_path), learning=asdict(LEARNING) | {"blend": False})
    assert days == [DAY]


def test_stages_travel_as_json_and_arrays(model: Corrected) -> None:
    for stages in (model.stages, LearnedStages.neutral()):
        values, arrays = stages.state()
        assert_alike(LearnedStages.from_state(json.loads(json.dumps(values)), arrays), stages)


def test_a_bundle_forecasts_the_same_bits(model: Corrected, curves: Curves, tmp_path: Path) -> None:
    bundle.save(tmp_path / "bundle", "corrected", model, curves, {})
    loaded = bundle.load(tmp_path / "bundle").forecaster
    for ages in (NODES, [30, 100, 200]):
        assert_same(model.predict(curves, ages), loaded.predict(curves, ages))
    assert "2023-0" not in (tmp_path / "bundle" / "state.json").read_text()  # no cohort


def test_before_fit_there_is_nothing_to_predict_with(curves: Curves) -> None:
    with pytest.raises(ValueError, match=re.escape("call fit(history, date)")):
        corrected_model(CONFIG).predict(curves)


def test_a_restored_forecaster_fits_no_more(
    past: History, model: Corrected, curves: Curves, tmp_path: Path
) -> None:
    bundle.save(tmp_path / "bundle", "corrected", model, curves, {})
    restored = bundle.load(tmp_path / "bundle").forecaster
    assert isinstance(restored, Corrected)
    with pytest.raises(ValueError, match="restored predicts, and fits no more: make a new one"):
        restored.fit(past, DAY)


def test_entries_and_cohorts_find_the_same_segments(
    model: Corrected, curves: Curves, whole: WalkForward
) -> None:
    segments = model.stages.correction.segments
    now = whole.entries.take(whole.entries.origin == DAY)
    place = curves.index.get_indexer(now.keys)[now.cohort_index]
    assert (
        deepest_known_segment(segments, now).tolist()
        == deepest_known_segment(segments, curves)[place].tolist()
    )
    assert set(deepest_known_segment(segments, now)) == {1, 2}


def test_ages_asked_for_do_not_move_a_forecast(model: Corrected, curves: Curves) -> None:
    every = model.predict(curves, range(AGES))
    assert_same(every.at(NODES), model.predict(curves))
    assert_same(every.at([8, 100, 360]), model.predict(curves, [8, 100, 360]))
    k, value = curves.observed_age[:, None], curves.observed_value[:, None]
    for band, quantity in product((every.raw, every.final), QUANTITIES):
        cells = getattr(band, quantity)
        filled = np.where(every.ages <= k, value, cells)
        assert not (np.diff(filled, axis=1) < -1e-12).any()
    moved = (every.final.mean - value) / (every.raw.mean - value)
    row = int(np.flatnonzero(curves.observed_age == 18)[0])
    np.testing.assert_allclose(moved[row, 19:22], moved[row, 21], rtol=1e-9)
    assert moved[row, 21] < 1


def test_every_day_follows_from_nodes_and_the_pattern(model: Corrected, curves: Curves) -> None:
    """The mean of each day is that of a forecast of every day, raw and corrected."""
    pattern = shared_interpolation_pattern([model])
    assert pattern is not None
    every = model.predict(curves, range(AGES))
    nodes, observed = every.at(NODES), every.ages <= curves.observed_age[:, None]
    assert not np.array_equal(nodes.raw.mean, nodes.final.mean, equal_nan=True)
    days = pattern.interpolation_shape(curves).daily_means(
        curves, [nodes.raw.mean, nodes.final.mean]
    )
    for made, band in zip(days, (every.raw, every.final), strict=True):
        expected = np.where(observed, curves.values, band.mean)
        np.testing.assert_allclose(made.T, expected, rtol=1e-6)


def test_models_follow_one_pattern_or_none(past: History, curves: Curves) -> None:
    known = past.as_of(DAY)
    one, same = (forecaster(CHAIN_LADDER).fit(known) for _ in range(2))
    other = forecaster(CHAIN_LADDER | {"half_life": 50.0}).fit(known)
    alone = forecaster({"name": "power_law", "pattern": CHAIN_LADDER})
    assert shared_interpolation_pattern([one, same]) is one.interpolation_pattern()
    assert shared_interpolation_pattern([one, other]) is None
    assert shared_interpolation_pattern([alone]) is None


def bias(model: Corrected, past: History, horizon: int) -> tuple[float, float]:
    """Of raw and final sums of cohorts at D7 to D59, over what came true of them."""
    now, later = past.as_of(LATE), past.as_of("2030-01-01")
    forecast = model.predict(now, [horizon])
    rows = (now.observed_age >= 7) & (now.observed_age < 60)
    came = later.values[later.index.get_indexer(now.index[rows]), horizon]
    users = now.users[rows]
    made = [users @ band.mean[rows, 0] for band in (forecast.raw, forecast.final)]
    raw, final = (float(total / (users @ came) - 1) for total in made)
    return raw, final


def test_a_bias_that_persists_is_found_and_reduced() -> None:
    past = drifting(0.3, seed=5, weeks=104, apps="abcdef")
    model = fitted(past, LATE, origins=9)
    assert model.stages.correction.is_on[2:].all()
    for horizon in (60, 120, 180):
        raw, final = bias(model, past, horizon)
        assert raw > 0.04
        assert abs(final) < 0.65 * raw


def test_nothing_is_corrected_where_nothing_persists() -> None:
    on = [fitted(drifting(0.0, seed)).stages.correction.is_on for seed in range(2)]
    assert np.mean(on) < 0.1


def test_money_in_another_unit_changes_no_decision(
    past: History, model: Corrected, curves: Curves
) -> None:
    dear = replace(past, values=past.values * 1024)
    other = fitted(dear)
    assert other.stages.correction.is_on.tolist() == model.stages.correction.is_on.tolist()
    assert other.stages.correction.kappa.tolist() == model.stages.correction.kappa.tolist()
    ours, theirs = model.predict(curves, range(AGES)), other.predict(dear.as_of(DAY), range(AGES))
    for quantity in QUANTITIES:
        one, scaled = (getattr(made.final, quantity) for made in (ours, theirs))
        np.testing.assert_allclose(scaled, 1024 * one, rtol=1e-6)
    assert np.isfinite(ours.final.p10[ours.is_ahead]).mean() > 0.5
