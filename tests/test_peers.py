"""What another library is given, and how its forecasts stand on the board."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cohorts import weekly
from test_neural import PATTERN

from ltvnet.backtest import issue
from ltvnet.curves import History
from ltvnet.forecasting import create
from ltvnet.leaderboard import Entrant, Leaderboard
from ltvnet.ledger import Entries
from ltvnet.scores import Record, record

SCRIPTS = Path(__file__).parent.parent / "scripts"
sys.path[:0] = [str(SCRIPTS), str(SCRIPTS / "benchmarks")]
from peers import others, write  # noqa: E402 the scripts' folder must be on the path

ORIGINS = [np.datetime64("2023-09-07"), np.datetime64("2023-12-07")]
SETTINGS = {"net": {"model": "MLP", "arguments": {"input_size": 8}}}


@pytest.fixture(scope="module")
def past() -> History:
    return weekly(70)


@pytest.fixture(scope="module")
def found(past: History) -> Record:
    parts = []
    for origin in ORIGINS:
        curves = past.as_of(origin)
        parts.append(issue(create(PATTERN).fit(curves), curves, [7, 30]))
    return record("pattern", Entries.joined(parts), past)


def test_nothing_later_than_the_origin_is_given(
    past: History, found: Record, tmp_path: Path
) -> None:
    curves = past.as_of(ORIGINS[0])
    write(tmp_path, curves, found.entries, SETTINGS)
    known, tasks = (pd.read_parquet(tmp_path / f"{n}.parquet") for n in ("known", "tasks"))
    begun = curves.start[known["unique_id"].str[1:].astype(int)]
    ends = begun + np.timedelta64(6, "D") + known["ds"].to_numpy().astype("timedelta64[D]")
    assert ends.max() == ORIGINS[0]  # the last day of a weekly cohort plus the age
    last = tasks.groupby("unique_id")["ds"].max()
    entries = found.entries
    rows = last.index.str[1:].astype(int)
    assert set(entries.origin[rows]) == {ORIGINS[0]}
    np.testing.assert_array_equal(last, entries.observed[rows])
    assert set(last) == {7, 30} and len(last) == 4  # two apps at each
    at_end = tasks.groupby("unique_id")["y"].last()
    np.testing.assert_array_equal(at_end, entries.value[rows])
    statics = pd.read_parquet(tmp_path / "statics.parquet").set_index("unique_id")
    assert set(statics) == {"users", "Apps_a", "Apps_b"} and statics.index.is_unique
    apps = np.where(statics.loc[last.index, "Apps_a"] == 1, "a", "b")
    np.testing.assert_array_equal(apps, entries.attributes["Apps"][rows])


def test_forecasts_come_back_to_their_cohorts(past: History, found: Record, tmp_path: Path) -> None:
    """A library that says 1.2 times what came true, at every age."""
    for origin in ORIGINS:
        folder = tmp_path / "tasks" / str(origin)
        write(folder, past.as_of(origin), found.entries, SETTINGS)
        tasks = pd.read_parquet(folder / "tasks.parquet")["unique_id"].unique()
        entries = found.entries
        said = []
        for task in tasks:
            key = entries.keys[entries.cohort[int(task[1:])]]
            values = past.actuals(past.last_day).loc[key].to_numpy(dtype=float)
            k = int(entries.observed[int(task[1:])])
            ages = np.arange(k + 1, 361)
            said.append(pd.DataFrame({"unique_id": task, "ds": ages, "y": 1.2 * values[ages]}))
        pd.concat(said).assign(setting="net").to_parquet(folder / "forecasts.parquet")
        (folder / "costs.json").write_text(json.dumps({"net": {"seconds": 2.0, "parameters": 9}}))
    entrants = [Entrant(found, baseline=False, cost=None), *others(tmp_path, found, SETTINGS)]
    table = Leaderboard.of(entrants, [7, 30]).table
    assert table.loc["net", ["score", "bias_d180"]].tolist() == pytest.approx([0.2, 0.2])
    assert table.loc["net", ["fit_seconds", "parameters"]].tolist() == [2.0, 9.0]
    assert np.isnan(table.loc["net", "coverage"])


def test_other_settings_are_asked_again(past: History, found: Record, tmp_path: Path) -> None:
    for settings, kept in ((SETTINGS, False), (SETTINGS, True), ({"other": {}}, False)):
        write(tmp_path, past.as_of(ORIGINS[0]), found.entries, settings)
        assert (tmp_path / "costs.json").exists() == kept
        (tmp_path / "costs.json").write_text("{}")
