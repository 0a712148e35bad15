"""A corrected forecaster: without a past, with one, from a ledger, from a bundle."""

from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories.cohorts import drifting_history
from factories.configs import ALL_STAGES, CHAIN_LADDER, LSTM
from factories.forecasts import assert_same_forecasts
from factories.models import make_corrected, make_forecaster, make_replay
from factories.walks import (
    DAY,
    DAYS,
    DRIFTING_CONFIG,
    DRIFTING_PLAN,
    LATE,
    fit_corrected,
    stack_bands,
    walk_days,
)

from ltvnet.backtesting.ledger import STAGES, Ledger
from ltvnet.correction.corrected import Corrected
from ltvnet.correction.walk_forward import WalkForward, replay_and_correct
from ltvnet.data.curves import AGES, NODES, Curves, History
from ltvnet.forecasting.forecast import QUANTITIES
from ltvnet.models.pattern.pattern import Pattern, shared_interpolation_pattern
from ltvnet.prediction import bundle


@pytest.mark.parametrize("base", [CHAIN_LADDER, LSTM], ids=["chain_ladder", "lstm"])
def test_without_a_past_the_model_stays_bit_for_bit(
    base: dict[str, Any], drifting_past: History, drifting_curves: Curves
) -> None:
    model = fit_corrected(drifting_past, base=base, origins=0)
    assert model.past_entries is None and not model.stages.has_intervals
    for ages in (NODES, range(AGES)):
        corrected = model.predict(drifting_curves, ages)
        uncorrected = make_forecaster(base).fit(drifting_curves).predict(drifting_curves, ages)
        np.testing.assert_array_equal(corrected.final.mean, uncorrected.final.mean)
        np.testing.assert_array_equal(corrected.final.p50, uncorrected.final.p50)
        assert np.isnan(corrected.final.p10).all() and np.isnan(corrected.final.p90).all()
        assert not corrected.is_calibrated


def test_counts_and_models_are_checked(drifting_past: History, tmp_path: Path) -> None:
    for changes in ({"every_weeks": 0}, {"origins": -1}):
        with pytest.raises(ValueError, match="expected every_weeks >= 1 and origins >= 0, got "):
            make_corrected(DRIFTING_CONFIG | changes)
    for origins in (0, 3):
        with pytest.raises(ValueError, match="a model that learns from curves, got 'corrected'"):
            fit_corrected(drifting_past, base=DRIFTING_CONFIG, origins=origins)
    with pytest.raises(ValueError, match="expected at least one origin, got none"):
        walk_days(drifting_past, tmp_path, [])


@pytest.mark.parametrize("window", ["expanding", "sliding:40w"])
def test_a_fit_forecasts_what_a_replay_of_its_day_says(
    drifting_past: History, drifting_curves: Curves, window: str, tmp_path: Path
) -> None:
    window_plan = replace(DRIFTING_PLAN, window=window)
    ledger = Ledger(tmp_path)
    walk = replay_and_correct(
        make_replay(CHAIN_LADDER, drifting_past, DAYS, window_plan, ledger), ALL_STAGES
    )
    replayed = walk.entries
    is_natural = replayed.natural_age == replayed.observed_age
    last_entries = replayed.take((replayed.origin == DAY) & is_natural)
    model = fit_corrected(drifting_past, plan=DRIFTING_CONFIG["plan"] | {"window": window})
    forecast = model.predict(drifting_curves)
    rows = drifting_curves.index.get_indexer(last_entries.keys)[last_entries.cohort_index]
    assert len(rows) > 100
    for quantity in QUANTITIES:
        forecast_cells = getattr(forecast.final, quantity)[rows]
        forecast_cells = np.where(last_entries.has_forecast, forecast_cells, np.nan)
        replayed_cells = getattr(last_entries.bands["final"], quantity)
        np.testing.assert_array_equal(forecast_cells, replayed_cells)
    assert forecast.is_borrowed is not None
    is_borrowed = forecast.is_borrowed[rows] & last_entries.has_forecast
    np.testing.assert_array_equal(is_borrowed, last_entries.is_borrowed & last_entries.has_forecast)
    assert is_borrowed.any()


def test_the_ledger_holds_every_stage(
    drifting_past: History, replayed_walk: WalkForward, tmp_path: Path
) -> None:
    folder = tmp_path / "ledger"
    model = fit_corrected(drifting_past, ledger=str(folder))
    name = next(folder.glob("*/*.parquet")).stem
    read_back = Ledger(folder).read(name, DAYS[:-1], drifting_past.hierarchy)
    assert model.past_entries is not None
    early = replayed_walk.entries.take(replayed_walk.entries.origin < DAY)
    for entries in (read_back, model.past_entries):
        np.testing.assert_array_equal(stack_bands(entries.bands), stack_bands(early.bands))
        np.testing.assert_array_equal(
            entries.is_borrowed & entries.has_forecast, early.is_borrowed & early.has_forecast
        )
    raw, blended, fixed, final = (read_back.bands[stage] for stage in STAGES)
    assert (fixed.mean != blended.mean)[read_back.has_forecast].any()
    assert (final.p90 > fixed.p90).any() and np.isfinite(raw.p90[read_back.has_forecast]).all()


def test_a_second_fit_reuses_the_past(
    drifting_past: History, corrected_ladder: Corrected, drifting_curves: Curves, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    days, fit = [], Pattern.fit

    def fit_and_count(self: Pattern, curves: Curves) -> Pattern:
        days.append(curves.origin)
        return fit(self, curves)

    monkeypatch.setattr(Pattern, "fit", fit_and_count)
    once, again = (fit_corrected(drifting_past, ledger=str(tmp_path)) for _ in range(2))
    assert days == [*DAYS, DAY]
    assert_same_forecasts(once.predict(drifting_curves), again.predict(drifting_curves))
    assert_same_forecasts(once.predict(drifting_curves), corrected_ladder.predict(drifting_curves))
    days.clear()
    fit_corrected(
        drifting_past.until(DAY),
        ledger=str(tmp_path),
        learning=asdict(ALL_STAGES) | {"blend": False},
    )
    assert days == [DAY]


def test_a_bundle_forecasts_the_same_bits(
    corrected_ladder: Corrected, drifting_curves: Curves, tmp_path: Path
) -> None:
    bundle.save(tmp_path / "bundle", "corrected", corrected_ladder, drifting_curves, {})
    loaded = bundle.load(tmp_path / "bundle").forecaster
    for ages in (NODES, [30, 100, 200]):
        assert_same_forecasts(
            corrected_ladder.predict(drifting_curves, ages), loaded.predict(drifting_curves, ages)
        )
    assert "2023-0" not in (tmp_path / "bundle" / "state.json").read_text()  # no cohort


def test_ages_asked_for_do_not_move_a_forecast(
    corrected_ladder: Corrected, drifting_curves: Curves
) -> None:
    daily = corrected_ladder.predict(drifting_curves, range(AGES))
    assert_same_forecasts(daily.at(NODES), corrected_ladder.predict(drifting_curves))
    assert_same_forecasts(
        daily.at([8, 100, 360]), corrected_ladder.predict(drifting_curves, [8, 100, 360])
    )
    k, value = drifting_curves.observed_age[:, None], drifting_curves.observed_value[:, None]
    for band, quantity in product((daily.raw, daily.final), QUANTITIES):
        cells = getattr(band, quantity)
        filled = np.where(daily.ages <= k, value, cells)
        assert not (np.diff(filled, axis=1) < -1e-12).any()
    moved = (daily.final.mean - value) / (daily.raw.mean - value)
    row = int(np.flatnonzero(drifting_curves.observed_age == 18)[0])
    np.testing.assert_allclose(moved[row, 19:22], moved[row, 21], rtol=1e-9)
    assert moved[row, 21] < 1


def test_every_day_follows_from_nodes_and_the_pattern(
    corrected_ladder: Corrected, drifting_curves: Curves
) -> None:
    """The mean of each day is that of a forecast of every day, raw and corrected."""
    pattern = shared_interpolation_pattern([corrected_ladder])
    assert pattern is not None
    daily = corrected_ladder.predict(drifting_curves, range(AGES))
    nodes, observed = daily.at(NODES), daily.ages <= drifting_curves.observed_age[:, None]
    assert not np.array_equal(nodes.raw.mean, nodes.final.mean, equal_nan=True)
    days = pattern.interpolation_shape(drifting_curves).daily_means(
        drifting_curves, [nodes.raw.mean, nodes.final.mean]
    )
    for daily_mean, band in zip(days, (daily.raw, daily.final), strict=True):
        expected = np.where(observed, drifting_curves.values, band.mean)
        np.testing.assert_allclose(daily_mean.T, expected, rtol=1e-6)


def test_models_follow_one_pattern_or_none(drifting_curves: Curves) -> None:
    pattern, equal_pattern = (make_forecaster(CHAIN_LADDER).fit(drifting_curves) for _ in range(2))
    other_pattern = make_forecaster(CHAIN_LADDER | {"half_life": 50.0}).fit(drifting_curves)
    alone = make_forecaster({"name": "power_law", "pattern": CHAIN_LADDER})
    assert shared_interpolation_pattern([pattern, equal_pattern]) is pattern.interpolation_pattern()
    assert shared_interpolation_pattern([pattern, other_pattern]) is None
    assert shared_interpolation_pattern([alone]) is None


def raw_and_final_bias(model: Corrected, past: History, horizon: int) -> tuple[float, float]:
    """The bias of raw and final sums of cohorts at D7 to D59, as a share of what came true."""
    curves_then = past.as_of(LATE)
    later = past.as_of("2030-01-01")
    forecast = model.predict(curves_then, [horizon])
    rows = (curves_then.observed_age >= 7) & (curves_then.observed_age < 60)
    actual = later.values[later.index.get_indexer(curves_then.index[rows]), horizon]
    users = curves_then.users[rows]
    revenues = [users @ band.mean[rows, 0] for band in (forecast.raw, forecast.final)]
    raw, final = (float(total / (users @ actual) - 1) for total in revenues)
    return raw, final


def test_a_bias_that_persists_is_found_and_reduced() -> None:
    past = drifting_history(0.3, seed=5, weeks=104, apps="abcdef")
    model = fit_corrected(past, LATE, origins=9)
    assert model.stages.correction.is_on[2:].all()
    for horizon in (60, 120, 180):
        raw, final = raw_and_final_bias(model, past, horizon)
        assert raw > 0.04
        assert abs(final) < 0.65 * raw


def test_nothing_is_corrected_where_nothing_persists() -> None:
    on = [fit_corrected(drifting_history(0.0, seed)).stages.correction.is_on for seed in range(2)]
    assert np.mean(on) < 0.1


def test_money_in_another_unit_changes_no_decision(
    drifting_past: History, corrected_ladder: Corrected, drifting_curves: Curves
) -> None:
    dear = replace(drifting_past, values=drifting_past.values * 1024)
    dear_model = fit_corrected(dear)
    assert (
        dear_model.stages.correction.is_on.tolist()
        == corrected_ladder.stages.correction.is_on.tolist()
    )
    assert (
        dear_model.stages.correction.kappa.tolist()
        == corrected_ladder.stages.correction.kappa.tolist()
    )
    forecast = corrected_ladder.predict(drifting_curves, range(AGES))
    dear_forecast = dear_model.predict(dear.as_of(DAY), range(AGES))
    for quantity in QUANTITIES:
        cells, scaled = (getattr(either.final, quantity) for either in (forecast, dear_forecast))
        np.testing.assert_allclose(scaled, 1024 * cells, rtol=1e-6)
    assert np.isfinite(forecast.final.p10[forecast.is_ahead]).mean() > 0.5


def test_before_fit_there_is_nothing_to_predict_with_or_to_save(drifting_curves: Curves) -> None:
    model = make_corrected(DRIFTING_CONFIG)
    with pytest.raises(ValueError, match=r"fitted to predict with: call fit\(history, date\)"):
        model.predict(drifting_curves)
    with pytest.raises(ValueError, match=r"fitted to describe: call fit\(history, date\)"):
        model.state()


def test_a_restored_forecaster_fits_no_more(
    corrected_ladder: Corrected, drifting_past: History, drifting_curves: Curves, tmp_path: Path
) -> None:
    bundle.save(tmp_path / "bundle", "corrected", corrected_ladder, drifting_curves, {})
    restored = bundle.load(tmp_path / "bundle").forecaster
    assert isinstance(restored, Corrected)
    with pytest.raises(ValueError, match="restored predicts, and fits no more: make a new one"):
        restored.fit(drifting_past, DAY)
