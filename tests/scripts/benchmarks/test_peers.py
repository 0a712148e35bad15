"""The data that another library is given, and how its forecasts stand on the board."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories.cohorts import weekly_history
from factories.configs import PATTERN
from factories.models import make_forecaster
from peers import library_entrants, scored_and_teaching_rows, task_folder, write_tasks

from ltvnet.backtesting.leaderboard import Entrant, Leaderboard
from ltvnet.backtesting.ledger import LedgerEntries
from ltvnet.backtesting.replay import forecast_entries
from ltvnet.backtesting.scores import BacktestRecord, build_record
from ltvnet.correction.walk_forward import StageSwitches
from ltvnet.data.curves import NODES, History

ORIGINS = [np.datetime64("2023-09-07"), np.datetime64("2023-12-07")]
SETTINGS = {"net": {"model": "MLP", "arguments": {"input_size": 8}}}
D60 = NODES.index(60)
NOTHING = StageSwitches(blend=False, correction=False, intervals=False)


@pytest.fixture(scope="module")
def past() -> History:
    return weekly_history(70)


def replayed(past: History, origins: Sequence[np.datetime64]) -> BacktestRecord:
    parts = []
    for origin in origins:
        curves = past.as_of(origin)
        parts.append(forecast_entries(make_forecaster(PATTERN).fit(curves), curves, [7, 30]))
    return build_record("pattern", LedgerEntries.concatenate(parts), past)


@pytest.fixture(scope="module")
def found(past: History) -> BacktestRecord:
    return replayed(past, ORIGINS)


def answer(past: History, found: BacktestRecord, out: Path, factor: float) -> None:
    """A library that says so many times what came true, at every age."""
    entries, came = found.entries, past.actuals(past.last_day)
    for origin in np.unique(entries.origin):
        folder = task_folder(out, origin)
        write_tasks(folder, past.as_of(origin), entries, SETTINGS)
        said = []
        for name in pd.read_parquet(folder / "tasks.parquet")["unique_id"].unique():
            row = int(name[1:])
            values = came.loc[entries.keys[entries.cohort_index[row]]].to_numpy(dtype=float)
            ages = np.arange(entries.observed_age[row] + 1, 361)
            value = entries.observed_value[row] + factor * (
                values[ages] - entries.observed_value[row]
            )
            said.append(pd.DataFrame({"unique_id": name, "ds": ages, "y": value}))
        pd.concat(said).assign(setting="net").to_parquet(folder / "forecasts.parquet")
        (folder / "costs.json").write_text(json.dumps({"net": {"seconds": 2.0, "parameters": 9}}))


def test_nothing_later_than_the_origin_is_given(
    past: History, found: BacktestRecord, tmp_path: Path
) -> None:
    curves = past.as_of(ORIGINS[0])
    write_tasks(tmp_path, curves, found.entries, SETTINGS)
    known, tasks = (pd.read_parquet(tmp_path / f"{n}.parquet") for n in ("known", "tasks"))
    begun = curves.start[known["unique_id"].str[1:].astype(int)]
    ends = begun + np.timedelta64(6, "D") + known["ds"].to_numpy().astype("timedelta64[D]")
    assert ends.max() == ORIGINS[0]  # the last day of a weekly cohort plus the age
    last = tasks.groupby("unique_id")["ds"].max()
    entries = found.entries
    rows = last.index.str[1:].astype(int)
    assert set(entries.origin[rows]) == {ORIGINS[0]}
    np.testing.assert_array_equal(last, entries.observed_age[rows])
    cut = last[entries.natural_age[rows] > entries.observed_age[rows]]
    assert set(cut) == {7, 30} and len(cut) == 4  # two apps at each
    own = (curves.observed_age >= 7) & (curves.observed_age < 360)
    assert len(last) - len(cut) == own.sum() > 20  # those that teach the correction
    at_end = tasks.groupby("unique_id")["y"].last()
    np.testing.assert_array_equal(at_end, entries.observed_value[rows])
    statics = pd.read_parquet(tmp_path / "statics.parquet").set_index("unique_id")
    assert set(statics) == {"users", "Apps_a", "Apps_b"} and statics.index.is_unique
    apps = np.where(statics.loc[last.index, "Apps_a"] == 1, "a", "b")
    np.testing.assert_array_equal(apps, entries.attributes["Apps"][rows])


def test_forecasts_come_back_to_their_cohorts(
    past: History, found: BacktestRecord, tmp_path: Path
) -> None:
    """All growth is told half as much again: so is the error, of growth over the value."""
    answer(past, found, tmp_path, 1.5)
    entrants = list(library_entrants(tmp_path, found, SETTINGS, past, NOTHING))
    entries = entrants[0].record.entries
    rows = np.concatenate([scored_and_teaching_rows(found.entries, origin) for origin in ORIGINS])
    mean = entries.bands["final"].mean
    grown = found.actual - found.entries.observed_value[:, None]
    np.testing.assert_allclose(
        (mean - found.entries.observed_value[:, None])[rows],
        1.5 * grown[rows],
        rtol=1e-9,
        atol=1e-12,
    )
    assert np.isnan(np.delete(mean, rows, axis=0)).all() and len(rows) < len(mean)
    table = Leaderboard.from_entrants(
        [Entrant(found, is_baseline=False, fit_cost=None), *entrants], [7, 30]
    ).ranking
    assert table.loc["net", ["fit_seconds", "parameters"]].tolist() == [2.0, 9.0]
    assert table.loc["net", "baseline"] and np.isnan(table.loc["net", "coverage"])


def test_networks_are_corrected_and_calibrated_like_baselines(tmp_path: Path) -> None:
    """Growth told half as much again on every day is taken back in part, after it came true."""
    past = weekly_history(90)
    found = replayed(past, np.datetime64("2023-06-05") + 28 * np.arange(10))
    answer(past, found, tmp_path, 1.5)
    learning = StageSwitches(blend=True, correction=True, intervals=True)
    (net,) = library_entrants(tmp_path, found, SETTINGS, past, learning)
    entries = net.record.entries
    last = scored_and_teaching_rows(found.entries, entries.origin.max())
    raw, final = entries.bands["raw"], entries.bands["final"]
    rows = last[np.isfinite(raw.mean[last, D60])]
    start = entries.observed_value[rows]
    said, told = ((band.mean[rows, D60] - start).sum() for band in (raw, final))
    true = said / 1.5
    assert true < told < (said + true) / 2
    np.testing.assert_array_equal(entries.bands["blended"].mean, raw.mean)
    assert np.isfinite(final.p90[rows, D60]).mean() > 0.5


def test_days_that_are_not_asked_for_are_not_read(
    past: History, found: BacktestRecord, tmp_path: Path
) -> None:
    """Of an earlier run with another day only the folder is left."""
    answer(past, found, tmp_path, 1.5)
    later = replayed(past, ORIGINS[1:])
    answer(past, later, tmp_path, 1.1)
    (net,) = library_entrants(tmp_path, later, SETTINGS, past, NOTHING)
    rows, start = (
        scored_and_teaching_rows(later.entries, ORIGINS[1]),
        later.entries.observed_value[:, None],
    )
    told = net.record.entries.bands["final"].mean - start
    np.testing.assert_allclose(told[rows], (1.1 * (later.actual - start))[rows], atol=1e-12)


@pytest.mark.parametrize("changed", ["settings", "data", "origin", "tasks"])
def test_other_inputs_are_asked_again(
    past: History, found: BacktestRecord, tmp_path: Path, changed: str
) -> None:
    """Forecasts are kept as long as everything that they depend on is."""
    curves, entries, settings = past.as_of(ORIGINS[0]), found.entries, SETTINGS
    costs = tmp_path / "costs.json"
    for kept in (False, True):
        write_tasks(tmp_path, curves, entries, settings)
        assert costs.exists() == kept
        costs.write_text("{}")
    if changed == "settings":
        settings = {"other": {}}
    elif changed == "data":
        curves = replace(curves, values=curves.values * 1.5)
    elif changed == "origin":
        curves = past.as_of(ORIGINS[1])
    else:
        entries = entries.take(np.arange(1, len(entries)))  # the same tasks by other numbers
    write_tasks(tmp_path, curves, entries, settings)
    assert not costs.exists()
