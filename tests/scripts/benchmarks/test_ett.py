"""The check of TiDE on ETTh1: windows as published, ridge in closed form, an unchanged net."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from ett import ENDS, Learner, Series, Split, report, ridge
from omegaconf import DictConfig, OmegaConf

from ltvnet.models.neural.nets.tide import TiDE

DATA = Path(os.environ.get("LTVNET_DATA", "nowhere"))


def config(path: Path) -> DictConfig:
    layers = {"hidden": 4, "encoder": 1, "decoder": 1, "projection_hidden": 2, "projection": 2}
    return OmegaConf.create(
        {
            "seed": 0,
            "ett": {
                "path": str(path),
                "horizons": [96],
                "lookback": 24,
                "penalties": [1e-6, 1.0],
                "layers": layers | {"decoded": 2, "temporal_hidden": 2},
                "dropout": 0.1,
                "norm": True,
                "training": {
                    "epochs": 2,
                    "batch_size": 64,
                    "rate": 0.02,
                    "weight_decay": 0.01,
                    "share": 0.05,
                },
            },
        }
    )


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two channels of daily waves, one of them with noise, and rows after the test months."""
    hours = np.arange(ENDS["test"] + 100)
    wave = np.sin(2 * np.pi * hours / 24)
    noise = np.random.default_rng(0).normal(0, 0.1, len(hours))
    dates = pd.date_range("2016-07-01", periods=len(hours), freq="h")
    path = tmp_path_factory.mktemp("ett") / "series.csv.gz"
    table = pd.DataFrame({"date": dates, "a": 3 + 2 * wave, "b": wave + noise})
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def series(file: Path) -> Series:
    return Series.read(file)


def test_scaling_knows_the_training_months_only(file: Path, tmp_path: Path) -> None:
    table = pd.read_csv(file)
    table.loc[ENDS["train"] :, ["a", "b"]] = 1e6
    table.to_csv(tmp_path / "later.csv", index=False)
    train = slice(0, ENDS["train"])
    once, later = Series.read(file), Series.read(tmp_path / "later.csv")
    np.testing.assert_allclose(once.values[train], later.values[train], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(once.values[train].mean(0), 0.0, atol=1e-9)
    np.testing.assert_allclose(once.values[train].std(0), 1.0)


@pytest.mark.parametrize(("horizon", "count"), [(96, 2785), (720, 2161)])
def test_all_windows_of_the_test_months_are_cut(series: Series, horizon: int, count: int) -> None:
    """2880 hours hold 2880 - H + 1 horizons; the lookback reaches across the border."""
    split = Split(720, horizon)
    past, future = split.windows(series.values[:, 0], "test")
    assert past.shape == (count, 720) and future.shape == (count, horizon)
    np.testing.assert_array_equal(past[0], series.values[11520 - 720 : 11520, 0])
    np.testing.assert_array_equal(future[-1], series.values[14400 - horizon : 14400, 0])
    assert split.first_hours("train")[0] == 720
    assert split.first_hours("train")[-1] + horizon == 8640


def test_ridge_solves_what_is_linear(series: Series) -> None:
    """A daily wave follows from its last day exactly; noise of one channel stays."""
    wave = Series(series.values[:, :1], series.calendar)
    assert ridge(wave, Split(24, 96), [1e-9, 1e3])[0] < 1e-6
    mse, mae = ridge(series, Split(48, 96), [1e-6])
    noise = 0.1**2 / (0.5 + 0.1**2)  # of the deviation of a wave with noise, of one channel of two
    assert noise / 2 < mse < 0.75 * noise and 0 < mae < np.sqrt(mse)


def test_the_net_is_that_of_ltvnet_and_starts_at_the_mean_of_the_lookback(
    file: Path, series: Series
) -> None:
    chosen = config(file).ett
    learner = Learner(series=series, split=Split(24, 96), config=chosen, seed=0)
    assert type(learner.net) is TiDE
    tasks = learner.tasks("validation", every=500)
    forecast, actual = learner.forecast(tasks)
    for row, (hour, channel) in enumerate(tasks.tolist()):
        mean = series.values[hour - 24 : hour, channel].mean()
        np.testing.assert_allclose(forecast[row].detach(), mean, atol=1e-5)
        expected = series.values[hour : hour + 96, channel]
        np.testing.assert_allclose(actual[row], expected, rtol=1e-5, atol=1e-6)
    before = learner.errors("validation", every=100)[0]
    learner.fit()
    assert learner.errors("validation", every=100)[0] < 0.7 * before


def test_the_table_has_both_and_the_published_figures(file: Path) -> None:
    once = report(config(file))
    head, rule, row, _, notes = once.splitlines()
    assert head.count("|") == rule.count("|") == row.count("|") == 9
    assert row.startswith("| 96 |") and "| 0.375 | 0.398 |" in row
    assert "5% of the training windows" in notes


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="LTVNET_DATA names no folder of data")
def test_ridge_on_etth1_is_as_good_as_the_published_net() -> None:
    torch.set_num_threads(1)
    series = Series.read(DATA / "ett" / "ETTh1.csv.gz")
    mse, mae = ridge(series, Split(720, 96), [0.01, 0.03, 0.1, 0.3])
    assert mse == pytest.approx(0.372, abs=0.003) and mae == pytest.approx(0.396, abs=0.003)
