"""The identity of a model is the hash of all that its forecasts depend on."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories.cohorts import weekly_history
from factories.configs import BENKTANDER, MIXTURE, PATTERN
from factories.forecasters import FLAT
from factories.models import identity_of, make_run_context
from factories.replays import ORIGINS, replay_plan

from ltvnet.backtesting.model_identity import FORECAST_VERSION, model_identity
from ltvnet.data.curves import History
from ltvnet.forecasting.model_spec import ModelSpec
from ltvnet.forecasting.run_context import RunContext

pytestmark = pytest.mark.usefixtures("registered_flat_forecasters")


class Sealed(Mapping[str, int]):
    """A mapping that is no dict, as OmegaConf's are."""

    def __init__(self, units: int) -> None:
        self.units = units

    def __getitem__(self, key: str) -> int:
        return self.units

    def __iter__(self) -> Iterator[str]:
        return iter(["units"])

    def __len__(self) -> int:
        return 1


def test_an_identity_is_of_all_that_forecasts_depend_on(portfolio: History) -> None:
    def name_of(
        config: Mapping[str, Any] = FLAT,
        history: History = portfolio,
        first: np.datetime64 = ORIGINS[0],
        context: RunContext = make_run_context(),  # noqa: B008 it is immutable
        **plan: object,
    ) -> str:
        spec = ModelSpec.from_config(config)
        return model_identity(spec, context, history, replay_plan(**plan), first)

    name = name_of()
    assert re.fullmatch("flat-[0-9a-f]{12}", name)
    in_a_folder = make_run_context(folder=Path("f"))
    equal_names = {
        name_of(context=in_a_folder),
        name_of(context=make_run_context(threads=9)),
        name_of(workers=5, ages=()),
        name_of(json.loads(json.dumps(FLAT)), replace(portfolio)),
    }
    assert equal_names == {name}

    other_names = [
        name_of(context=make_run_context(precision="bf16-mixed")),
        name_of(context=make_run_context(seed=1)),
        name_of(FLAT | {"value": 1.0}),
        name_of(FLAT | {"net": Sealed(units=1)}),
        name_of(FLAT | {"net": Sealed(units=2)}),
        name_of(window="sliding:52w"),
        name_of(refit="frozen"),
        name_of(ages=[7]),
        name_of(warm=True),
        name_of(first=ORIGINS[1]),
        name_of(history=replace(portfolio, hierarchy=())),
        name_of(history=replace(portfolio, spend=portfolio.users)),
        name_of(history=replace(portfolio, users=portfolio.users + 1)),
        name_of(history=replace(portfolio, values=portfolio.values * 2)),
        name_of(history=replace(portfolio, snapshot=portfolio.snapshot + 1)),
        name_of(history=replace(portfolio, lag_days=1)),
    ]
    assert len({name, *other_names}) == len(other_names) + 1


def test_an_identity_is_of_the_code_that_forecasts(
    portfolio: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = identity_of(FLAT, portfolio, replay_plan(), ORIGINS[0])
    monkeypatch.setattr("ltvnet.backtesting.model_identity.FORECAST_VERSION", FORECAST_VERSION + 1)
    assert identity_of(FLAT, portfolio, replay_plan(), ORIGINS[0]) != name


def test_where_a_model_runs_is_no_part_of_a_mixtures_name(portfolio: History) -> None:
    mixture = ModelSpec.from_config(MIXTURE)
    elsewhere = make_run_context(folder=Path("there"), threads=9)
    name = identity_of(MIXTURE, portfolio, replay_plan(), ORIGINS[0])
    assert model_identity(mixture, elsewhere, portfolio, replay_plan(), ORIGINS[0]) == name

    other = MIXTURE | {"bases": MIXTURE["bases"] | {"one": BENKTANDER}}
    assert identity_of(other, portfolio, replay_plan(), ORIGINS[0]) != name


def test_an_identity_tells_series_apart() -> None:
    history = weekly_history(20, covariates=True)
    retention = history.series["retention"]
    names = {
        identity_of(PATTERN, replace(history, series=series), replay_plan(), ORIGINS[0])
        for series in ({}, {"retention": retention}, {"retention": 2 * retention})
    }
    assert len(names) == 3
