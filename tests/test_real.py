"""The main job on real data: from the file as published to a forecast of every cohort."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories.configs import compose_config
from factories.models import make_forecaster
from hydra.utils import instantiate
from omegaconf import OmegaConf

from ltvnet import metrics
from ltvnet.data.arrays import Floats
from ltvnet.data.cohort_tables import Files
from ltvnet.data.curves import NODES, Curves, History
from ltvnet.forecasting.forecaster import Forecaster
from ltvnet.prediction import bundle
from ltvnet.prediction.batch import OutputOptions, predict

DATA = Path(os.environ.get("LTVNET_DATA", "nowhere"))
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="LTVNET_DATA names no folder of data")


def model(name: str, *overrides: str) -> Forecaster:
    config = compose_config("train", f"model={name}", *overrides).model
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return make_forecaster({str(key): value for key, value in values.items()})


@pytest.fixture(scope="module")
def retail() -> History:
    history: History = instantiate(compose_config("train", "data=online_retail").data).history()
    return history


@pytest.mark.parametrize("name", ["pattern", "lstm"])
def test_every_cohort_of_online_retail_has_a_forecast_or_a_reason(
    name: str, retail: History, tmp_path: Path
) -> None:
    curves = retail.as_of("2011-03-31")
    forecaster = model(name).fit(curves)
    bundle.save(tmp_path / "bundle", "neural" if name == "lstm" else name, forecaster, curves, {})
    loaded = bundle.load(tmp_path / "bundle")
    tables = OutputOptions(wide="csv", ages=NODES[1:], by=None)
    reasons = predict(loaded, lambda: [curves], tmp_path, tables)
    table = pd.read_csv(tmp_path / "Files_Predictions" / "LTV_predictions_2011_03_31.csv")
    assert len(table) == len(curves) == reasons.total() == 56
    # 57 weeks had begun, one of them without a new customer; 5 had ended by 2010-04-05
    assert reasons["no_complete_age"] == 1 and reasons["complete"] == 5
    assert set(reasons) <= {"ok", "young", "extrapolated", "complete", "no_complete_age"}
    forecast = table["observed_age"] >= 0
    days = table.loc[forecast].filter(like="P_D").to_numpy()
    assert np.isfinite(days).all() and (np.diff(days, axis=1) >= -1e-6).all()
    assert table.loc[~forecast].filter(like="P_D").isna().all(axis=None)


@pytest.fixture(scope="module")
def portfolio() -> History:
    return Files(path=DATA / "portfolio" / "curves.parquet", snapshot="2024-12-31").history()


def test_the_pattern_beats_the_chain_ladder_and_the_oracle_both(portfolio: History) -> None:
    expected = Files(path=DATA / "portfolio" / "expected.parquet", snapshot="2024-12-31").history()
    truth = expected.as_of("2024-12-31").values
    scores: dict[str, list[float]] = {}
    for origin in ("2023-04-05", "2023-07-05", "2023-10-04"):
        curves = portfolio.as_of(origin)
        actual = portfolio.actuals("2024-12-31").reindex(curves.index)[list(NODES)].to_numpy()
        lam = pd.DataFrame(truth, index=expected.as_of("2024-12-31").index).reindex(curves.index)
        for name in ("pattern", "chain_ladder"):
            forecaster = model(name).fit(curves)
            score_by_age = [score_at(forecaster, curves, actual, age) for age in (7, 30)]
            scores.setdefault(name, []).append(float(np.mean(score_by_age)))
        oracle = [score_of_oracle(lam.to_numpy(), curves, actual, age) for age in (7, 30)]
        scores.setdefault("oracle", []).append(float(np.mean(oracle)))
    means = {name: np.mean(score_by_age) for name, score_by_age in scores.items()}
    assert means["oracle"] < 0.5 * means["pattern"]
    assert means["pattern"] < 0.75 * means["chain_ladder"]


def near(curves: Curves, age: int) -> np.ndarray:
    return (curves.observed_age >= age) & (curves.observed_age < age + 7)


def wapes(issued: Floats, actual: Floats, rows: np.ndarray, users: Floats) -> float:
    columns = [NODES.index(horizon) for horizon in (90, 180, 360)]
    return float(
        np.mean([metrics.wape(actual[rows, j], issued[:, j], users[rows]) for j in columns])
    )


def score_at(make_forecaster: Forecaster, curves: Curves, actual: Floats, age: int) -> float:
    rows = near(curves, age)
    forecast = make_forecaster.predict(curves.take(rows).cut(age))
    return wapes(forecast.final.mean, actual, rows, curves.users)


def score_of_oracle(lam: Floats, curves: Curves, actual: Floats, age: int) -> float:
    rows = near(curves, age)
    growth = lam[rows][:, list(NODES)] - lam[rows][:, [age]]
    return wapes(curves.values[rows, age][:, None] + growth, actual, rows, curves.users)


def test_cdnow_by_day_is_at_its_noise_floor() -> None:
    """Published: chain ladder D7 to D360, each day left out in turn, 8.5 % MAPE; floor 8.6 %."""
    config = compose_config("train", "data=cdnow").data
    curves = instantiate(config).history().as_of("1998-06-30")
    assert len(curves) == 84 and (curves.observed_age == 360).all()
    ladder = model("chain_ladder").fit(curves)
    expected = ladder.fitted_pattern.leave_one_out_curves(curves)  # type: ignore[attr-defined]
    forecast = (expected.cohort_level * expected.beta[:, [360]])[
        :, 7
    ]  # y(7) / beta(7), without the day
    np.testing.assert_allclose(forecast, curves.values[:, 7] / expected.beta[:, 7])
    actual = curves.values[:, 360]
    weight = 1 / actual  # so that a WAPE is a mean of percentage errors
    assert metrics.wape(actual, forecast, weight) == pytest.approx(0.085, abs=0.002)

    orders = pd.read_parquet(DATA / "cdnow" / "orders.parquet")
    acquired = orders.groupby("customer_id")["date"].transform("min")
    age = (pd.to_datetime(orders["date"]) - pd.to_datetime(acquired)).dt.days
    customers = pd.Index(orders["customer_id"].unique())
    y7, y360 = (
        orders[age <= days].groupby("customer_id")["amount"].sum().reindex(customers, fill_value=0)
        for days in (7, 360)
    )
    error = (y360 - y7 * y360.sum() / y7.sum()).std() / np.sqrt(curves.users)
    assert metrics.noise_floor(actual, error, weight) == pytest.approx(0.086, abs=0.003)
