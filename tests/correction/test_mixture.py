"""Several models together: `model=best`, whose weights are learned walking forward."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import HARDWARE, corrected_model, forecaster, identity_of, past_replay, run_context
from test_corrected import DAY, DAYS, drifting
from test_forecaster import PATTERN
from test_leaks import BENKTANDER, CHAIN_LADDER, LEARNING, LSTM, MIXTURE, corrected

from ltvnet.backtesting.ledger import STAGES, Ledger, LedgerEntries
from ltvnet.backtesting.model_identity import model_identity
from ltvnet.backtesting.origins import ReplayPlan
from ltvnet.correction.corrected import Corrected
from ltvnet.correction.walk_forward import WalkForward, mean_band, replay_and_correct
from ltvnet.data.curves import NODES, History
from ltvnet.forecasting.forecast import AGE_BUCKETS, QUANTITIES, Band
from ltvnet.forecasting.model_spec import ModelSpec

PLAN = ReplayPlan(window="expanding", refit="each", ages=[7], warm=True, workers=1)


@pytest.fixture(scope="module")
def past() -> History:
    return drifting(0.3)


def model_of(base: Mapping[str, Any], past: History, **changes: object) -> Corrected:
    return corrected_model(corrected(base, 13, 2, **changes)).fit(past, DAY)


def test_raw_is_the_mean_of_the_models(past: History) -> None:
    curves = past.as_of(DAY)
    mixed = model_of(MIXTURE, past).predict(curves, range(361)).raw
    alone = [
        forecaster(base).fit(curves).predict(curves, range(361)).raw
        for base in MIXTURE["bases"].values()
    ]
    np.testing.assert_allclose(mixed.mean, (alone[0].mean + alone[1].mean) / 2, rtol=1e-12)
    assert (np.nan_to_num(alone[0].mean) != np.nan_to_num(alone[1].mean)).any()


def test_a_model_twice_is_the_model(past: History) -> None:
    twice = {"name": "best", "bases": {"one": CHAIN_LADDER, "again": CHAIN_LADDER}}
    curves = past.as_of(DAY)
    two, one = (model_of(base, past).predict(curves) for base in (twice, CHAIN_LADDER))
    for quantity in QUANTITIES:
        cells = getattr(two.final, quantity), getattr(one.final, quantity)
        np.testing.assert_allclose(*cells, rtol=1e-9)


def test_one_model_is_no_mixture() -> None:
    alone = {"name": "best", "bases": {"one": CHAIN_LADDER}}
    with pytest.raises(ValueError, match="expected at least two bases, got one"):
        corrected_model(corrected(alone, 13, 2))


def test_more_models_than_there_are_weights_for_are_refused() -> None:
    many = {"name": "best", "bases": {f"{m}": CHAIN_LADDER for m in range(9)}}
    with pytest.raises(ValueError, match="expected at most 8 bases, got 9"):
        corrected_model(corrected(many, 13, 2))
    few = {"name": "best", "bases": {f"{m}": CHAIN_LADDER for m in range(8)}}
    assert len(ModelSpec.from_config(few).models) == 8


@pytest.mark.parametrize("other", [CHAIN_LADDER, BENKTANDER | {"pattern": CHAIN_LADDER}])
def test_models_on_other_patterns_are_refused(other: Mapping[str, Any]) -> None:
    """Of them `pattern`, `reason` and `reach` could be those of one only."""
    unlike = ", ".join(key for key in PATTERN if PATTERN[key] != CHAIN_LADDER[key])
    said = f"on the same pattern, got that of other unlike that of lstm in {unlike}"
    with pytest.raises(ValueError, match=said):
        ModelSpec.from_config({"name": "best", "bases": {"lstm": LSTM, "other": other}})
    trees = {"name": "boosting", "pattern": PATTERN}
    same = {"lstm": LSTM, "trees": trees, "pattern": PATTERN, "more": {"name": "none"}}
    spec = ModelSpec.from_config({"name": "best", "bases": same})
    assert {name: one.as_config() for name, one in spec.models.items()} == same


def test_models_of_other_rows_are_no_mixture(past: History, tmp_path: Path) -> None:
    good = replay_and_correct(
        past_replay(PATTERN, past, DAYS, PLAN, Ledger(tmp_path)), LEARNING
    ).entries
    WalkForward([good, good.take(np.arange(len(good)))], past, LEARNING)
    with pytest.raises(AssertionError):
        WalkForward([good, good.take(np.arange(len(good))[::-1])], past, LEARNING)
    with pytest.raises(AssertionError):
        WalkForward([good, replace(good, keys=good.keys[::-1])], past, LEARNING)


def test_models_keep_their_names(past: History) -> None:
    model = model_of(MIXTURE, past)
    again = Corrected.from_state(*model.state())
    assert model.base_names == again.base_names == ["one", "other"]
    assert again.state()[0] == model.state()[0]
    alone = model_of(PATTERN, past)
    assert alone.base_names == Corrected.from_state(*alone.state()).base_names == ["pattern"]


def test_models_keep_their_past_in_the_ledger(past: History, tmp_path: Path) -> None:
    """What a model said alone is found, not made again; the mixture has its own forecasts."""
    ledger = Ledger(tmp_path)
    replay_and_correct(past_replay(PATTERN, past, DAYS, PLAN, ledger), LEARNING)
    name = identity_of(PATTERN, past, PLAN, DAYS[0])
    before = [ledger.path(name, day).stat().st_mtime_ns for day in DAYS]
    costs = sorted(path.stat().st_mtime_ns for path in tmp_path.rglob(f"_costs/{name}/*.json"))
    walk = replay_and_correct(past_replay(MIXTURE, past, DAYS, PLAN, ledger), LEARNING)
    again = sorted(path.stat().st_mtime_ns for path in tmp_path.rglob(f"_costs/{name}/*.json"))
    assert costs == again and len(costs) == len(before)
    own = identity_of(MIXTURE, past, PLAN, DAYS[0])
    kept = ledger.read(own, DAYS, past.hierarchy)
    np.testing.assert_array_equal(kept.bands["final"].mean, walk.entries.bands["final"].mean)


def test_where_a_model_runs_is_no_part_of_a_mixtures_name(past: History) -> None:
    moved = replace(run_context(folder=Path("there")), hardware=replace(HARDWARE, threads=9))
    there = model_identity(ModelSpec.from_config(MIXTURE), moved, past, PLAN, DAYS[0])
    assert there == identity_of(MIXTURE, past, PLAN, DAYS[0])
    other = {"name": "best", "bases": MIXTURE["bases"] | {"one": BENKTANDER}}
    assert identity_of(other, past, PLAN, DAYS[0]) != identity_of(MIXTURE, past, PLAN, DAYS[0])


def test_a_model_that_errs_loses_its_weight(past: History, tmp_path: Path) -> None:
    """Walking forward: the last weights are other than the first, which are equal."""
    days = list(np.arange(DAYS[0], DAYS[-1] + 1, 28))
    good = replay_and_correct(
        past_replay(CHAIN_LADDER, past, days, PLAN, Ledger(tmp_path)), LEARNING
    ).entries
    walk = WalkForward([good, grown_by(3.0, good)], past, LEARNING)
    walk.run()
    first, *_, last = (
        walk.stages_by_origin[day].blend.weight for day in sorted(walk.stages_by_origin)
    )
    assert (first == 0.5).all()
    assert (last[1:, 1] <= 0.5).all() and (last[:, 1] < 0.5).any()
    assert last.shape == (len(AGE_BUCKETS), 2) and (last.sum(axis=1) <= 1).all()


def grown_by(times: float, entries: LedgerEntries) -> LedgerEntries:
    value = entries.observed_value[:, None]
    raw = entries.bands["raw"]
    cells = (value + times * (getattr(raw, quantity) - value) for quantity in QUANTITIES)
    return replace(entries, bands=dict.fromkeys(STAGES, Band(*cells)))


def test_the_mean_of_one_band_is_itself() -> None:
    band = Band(*(np.random.default_rng(0).random((4, 3, len(NODES)))))
    assert mean_band([band]) is band
    np.testing.assert_array_equal(mean_band([band, band]).p90, band.p90)
