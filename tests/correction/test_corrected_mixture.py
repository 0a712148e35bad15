"""Several models together: `model=best`, whose weights are learned walking forward."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from factories.configs import (
    ALL_STAGES,
    CHAIN_LADDER,
    MIXTURE,
    PATTERN,
    corrected_config,
)
from factories.models import identity_of, make_corrected, make_forecaster, make_replay
from factories.walks import DAY, DAYS, DRIFTING_PLAN

from ltvnet.backtesting.ledger import Ledger
from ltvnet.correction.corrected import Corrected
from ltvnet.correction.walk_forward import replay_and_correct
from ltvnet.data.curves import History
from ltvnet.forecasting.forecast import QUANTITIES


def fit_with_past(base: Mapping[str, Any], past: History) -> Corrected:
    """A model that has learned from two past days, a quarter apart."""
    return make_corrected(corrected_config(base, 13, 2)).fit(past, DAY)


def test_raw_is_the_mean_of_the_models(drifting_past: History) -> None:
    curves = drifting_past.as_of(DAY)
    mixed = fit_with_past(MIXTURE, drifting_past).predict(curves, range(361)).raw
    alone = [
        make_forecaster(base).fit(curves).predict(curves, range(361)).raw
        for base in MIXTURE["bases"].values()
    ]
    np.testing.assert_allclose(mixed.mean, (alone[0].mean + alone[1].mean) / 2, rtol=1e-12)
    assert (np.nan_to_num(alone[0].mean) != np.nan_to_num(alone[1].mean)).any()


def test_a_model_twice_is_the_model(drifting_past: History) -> None:
    twice = {"name": "best", "bases": {"one": CHAIN_LADDER, "again": CHAIN_LADDER}}
    curves = drifting_past.as_of(DAY)
    two, alone = (
        fit_with_past(base, drifting_past).predict(curves) for base in (twice, CHAIN_LADDER)
    )
    for quantity in QUANTITIES:
        cells = getattr(two.final, quantity), getattr(alone.final, quantity)
        np.testing.assert_allclose(*cells, rtol=1e-9)


def test_models_keep_their_names(drifting_past: History) -> None:
    model = fit_with_past(MIXTURE, drifting_past)
    again = Corrected.from_state(*model.state())
    assert model.base_names == again.base_names == ["one", "other"]
    assert again.state()[0] == model.state()[0]
    alone = fit_with_past(PATTERN, drifting_past)
    assert alone.base_names == Corrected.from_state(*alone.state()).base_names == ["pattern"]


def test_models_keep_their_past_in_the_ledger(drifting_past: History, tmp_path: Path) -> None:
    """Forecasts of a model alone are found and not made again; the mixture has its own."""
    ledger = Ledger(tmp_path)
    replay_and_correct(make_replay(PATTERN, drifting_past, DAYS, DRIFTING_PLAN, ledger), ALL_STAGES)
    name = identity_of(PATTERN, drifting_past, DRIFTING_PLAN, DAYS[0])
    written_at = [ledger.path(name, day).stat().st_mtime_ns for day in DAYS]
    costs = sorted(path.stat().st_mtime_ns for path in tmp_path.rglob(f"_costs/{name}/*.json"))
    walk = replay_and_correct(
        make_replay(MIXTURE, drifting_past, DAYS, DRIFTING_PLAN, ledger), ALL_STAGES
    )
    again = sorted(path.stat().st_mtime_ns for path in tmp_path.rglob(f"_costs/{name}/*.json"))
    assert costs == again and len(costs) == len(written_at)
    mixture_name = identity_of(MIXTURE, drifting_past, DRIFTING_PLAN, DAYS[0])
    mixture_entries = ledger.read(mixture_name, DAYS, drifting_past.hierarchy)
    np.testing.assert_array_equal(
        mixture_entries.bands["final"].mean, walk.entries.bands["final"].mean
    )
