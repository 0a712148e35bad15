"""Models on one board, in derivable numbers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import leaderboard_job
import numpy as np
import pandas as pd
import pytest
from cohorts import weekly
from composing import CONFIGS, composed
from factories import forecaster
from hydra import initialize_config_dir
from omegaconf import OmegaConf
from test_forecaster import PATTERN

from ltvnet.backtesting.leaderboard import (
    Entrant,
    Leaderboard,
    is_baseline,
    restrict_to_common_cells,
)
from ltvnet.backtesting.ledger import STAGES, LedgerEntries
from ltvnet.backtesting.replay import FitCost, forecast_entries
from ltvnet.backtesting.scores import BacktestRecord, build_record, mean_wape
from ltvnet.forecasting.forecast import Band
from ltvnet.forecasting.model_spec import ModelSpec
from ltvnet.reports.leaderboard_tables import as_markdown, state_finding, write_markdown

AGES = (3, 7, 30, 45)


@pytest.fixture(scope="module")
def past() -> BacktestRecord:
    """Forecasts of three days, of two apps."""
    data = weekly(70)
    origins = [np.datetime64("2023-09-07") + 91 * i for i in range(3)]
    parts = []
    for origin in origins:
        curves = data.as_of(origin)
        parts.append(forecast_entries(forecaster(PATTERN).fit(curves), curves, AGES))
    return build_record("pattern", LedgerEntries.concatenate(parts), data)


def times(past: BacktestRecord, name: str, factor: float, band: float = 1.6) -> BacktestRecord:
    """A model that says so many times what came true, and the oracle that says 1.1 times that."""
    mean = past.actual * factor
    bands = dict.fromkeys(STAGES, Band(mean, mean / band, mean, mean * band))
    entries = replace(past.entries, bands=bands)
    return replace(past, name=name, entries=entries, oracle_forecast=past.actual * 1.1)


def board(past: BacktestRecord, own: float = 1.2, other: float = 1.5) -> Leaderboard:
    """Errors of 20 % (ours), 40 % (chain ladder, too low) and 50 % (another baseline)."""
    entrants = [
        Entrant(times(past, "other", other), is_baseline=True, fit_cost=None),
        Entrant(times(past, "chain_ladder", 0.6), is_baseline=True, fit_cost=FitCost(2.0, 30)),
        Entrant(times(past, "net", own), is_baseline=False, fit_cost=FitCost(0.5, 1000)),
    ]
    return Leaderboard.from_entrants(entrants, AGES)


def test_every_column_of_known_errors(past: BacktestRecord) -> None:
    table = board(past).ranking
    assert list(table.index) == ["net", "chain_ladder", "other"]  # the best first
    np.testing.assert_allclose(table["score"], [0.2, 0.4, 0.5])
    for name in ("skill", "skill_low", "skill_high"):  # of every draw of weeks the same
        np.testing.assert_allclose(table[name], [0.5, 0.0, -0.25], atol=1e-12)
    np.testing.assert_allclose(table["bias_d180"], [0.2, -0.4, 0.5])
    np.testing.assert_allclose(table["bias_d360"], [0.2, -0.4, 0.5])
    np.testing.assert_allclose(table["coverage"], [1.0, 0.0, 1.0])  # 0.6 * 1.6 < 1 < 1.6 / 1.5
    np.testing.assert_allclose(table["gini_d180"], 1.0)  # all have the order of the actuals
    for name in ("excess_d180", "excess_d360"):  # above the oracle's 10 %: 10, 30 and 40 points
        np.testing.assert_allclose(table[name], [1 / 3, 1.0, 4 / 3])
    np.testing.assert_array_equal(table["fit_seconds"], [0.5, 2.0, np.nan])
    np.testing.assert_array_equal(table["parameters"], [1000, 30, np.nan])
    assert list(table["baseline"]) == [False, True, True]
    errors = table.filter(like="wape_")
    assert {"wape_3_d30", "wape_7_d30", "wape_30_d360"} <= set(errors)
    assert not {"wape_30_d30", "wape_45_d60"} & set(errors)  # a table has 3 7 14 30 60 days
    np.testing.assert_allclose(errors.to_numpy(), np.tile([[0.2], [0.4], [0.5]], errors.shape[1]))
    assert board(past).oracle_score == pytest.approx(0.1)


def test_the_score_is_that_of_scores_and_its_interval_lies_around_the_skill(
    past: BacktestRecord,
) -> None:
    mean = past.entries.bands["final"].mean
    blurred = np.random.default_rng(0).normal(1.0, 0.5, (len(mean), 1)) * mean
    bands = dict.fromkeys(STAGES, Band(blurred, blurred, blurred, blurred))
    worse = replace(past, name="blurred", entries=replace(past.entries, bands=bands))
    entrants = [
        Entrant(past, is_baseline=False, fit_cost=None),
        Entrant(worse, is_baseline=True, fit_cost=None),
    ]
    found = Leaderboard.from_entrants(entrants, AGES).ranking
    ours, theirs = mean_wape(past), mean_wape(worse)
    assert ours is not None and theirs is not None
    assert found.loc["pattern", "score"] == pytest.approx(ours)
    assert found.loc["blurred", "score"] == pytest.approx(theirs)
    skill, low, high = found.filter(like="skill").loc["pattern"].to_numpy(dtype=float)
    assert skill == pytest.approx(1 - ours / theirs)
    assert 0 < low < skill < high < 1


def test_all_models_are_scored_on_the_same_cells(past: BacktestRecord) -> None:
    """One model extrapolates beyond D90, another says nothing of app b."""
    near = replace(
        past,
        entries=replace(past.entries, last_supported_age=past.entries.last_supported_age * 0 + 90),
    )
    entrants = [
        Entrant(near, is_baseline=True, fit_cost=None),
        Entrant(past, is_baseline=False, fit_cost=None),
    ]
    sums = Leaderboard.from_entrants(entrants, AGES).weekly_sums
    assert {30, 60, 90} == set(sums.horizon)
    app = past.entries.attributes["Apps"][:, None]
    mean = np.where(app == "b", np.nan, past.entries.bands["final"].mean)
    bands = dict.fromkeys(STAGES, Band(mean, mean, mean, mean))
    part = replace(past, entries=replace(past.entries, bands=bands))
    for found in restrict_to_common_cells([past, part]):
        cells = np.isfinite(found.actual)
        assert cells.any() and not cells[past.entries.attributes["Apps"] == "b"].any()


def test_parts_weigh_alike_whatever_their_money(past: BacktestRecord) -> None:
    """Errors of 10 % and 30 %, of a currency worth a thousandth: 20 % on average."""
    rich = replace(past, entries=replace(past.entries, users=past.entries.users * 1000))
    both = Leaderboard.pool([board(past, 1.1), board(rich, 1.3)])
    table = both.ranking
    assert table.loc["net", "score"] == pytest.approx(0.2)
    assert table.loc["net", "skill"] == pytest.approx(0.5)
    assert table.loc["net", "skill_low"] < 0.5 < table.loc["net", "skill_high"]
    assert table.loc["net", "bias_d180"] == pytest.approx(0.2)
    assert table.loc["net", "excess_d180"] == pytest.approx(1 / 3)
    assert table.loc["net", "fit_seconds"] == 0.5
    one = board(past)
    weeks = one.compare_scores("net", "chain_ladder").clusters
    assert both.compare_scores("net", "chain_ladder").clusters == 2 * weeks


def test_what_was_written_is_read_again(past: BacktestRecord, tmp_path: Path) -> None:
    found = board(past)
    found.write(tmp_path)
    write_markdown(found, tmp_path)
    again = Leaderboard.read(tmp_path)
    pd.testing.assert_frame_equal(again.ranking, found.ranking, check_dtype=False)
    saved = pd.read_csv(tmp_path / "leaderboard.csv")
    pd.testing.assert_frame_equal(saved.set_index("model"), found.ranking, check_dtype=False)
    assert (tmp_path / "leaderboard.md").read_text() == as_markdown(found) == as_markdown(again)


def test_it_is_said_who_is_closest(past: BacktestRecord) -> None:
    text = as_markdown(board(past))
    assert text.startswith(
        "**net is 50.0 % closer than the best single baseline, chain_ladder (95 % interval of the "
        "error saved: +50.0 % to +50.0 %)**"
    )
    head, *_, last = (line for line in text.splitlines()[2:7])
    assert head.startswith("| model | score | skill | bias D180 |")
    minus = "\N{MINUS SIGN}"
    assert last.startswith(
        f"| other * | 50.0 % | {minus}25.0 % [{minus}25.0 %, {minus}25.0 %] | +50"
    )
    said = "Error (WAPE) of forecasts on day 7:\n\n| model | D30 | D60 | D90 | D180 | D360 |"
    assert said in text
    entrants = [Entrant(times(past, "best", 1.3), is_baseline=False, fit_cost=None)]
    entrants += [Entrant(times(past, "net", 1.2), is_baseline=False, fit_cost=None)]
    entrants += [Entrant(times(past, "other", 1.5), is_baseline=True, fit_cost=None)]
    assert state_finding(Leaderboard.from_entrants(entrants, AGES)).startswith(
        "best is 40.0 % closer than the"
    )
    worse = state_finding(board(past, own=1.5))
    assert worse.startswith("net is 25.0 % further off than the best single baseline, chain_ladder")


def alone(past: BacktestRecord, *, baseline: bool) -> str:
    return state_finding(Leaderboard.from_entrants([Entrant(past, baseline, None)], AGES))


def test_a_board_without_baselines_or_without_outcomes(past: BacktestRecord) -> None:
    one = times(past, "net", 1.25)
    assert alone(one, baseline=False) == "net is the closest: its score is 25.0 %"
    assert alone(one, baseline=True) == "net is the closest: its score is 25.0 %"
    nothing = replace(one, actual=np.full_like(one.actual, np.nan))
    assert alone(nothing, baseline=True) == "Nothing has matured at the ages of the score"
    zero = replace(one, actual=one.actual * 0)
    assert alone(zero, baseline=True) == "There was no revenue to score on"
    for empty in (nothing, zero):
        made = Leaderboard.from_entrants([Entrant(empty, is_baseline=True, fit_cost=None)], AGES)
        assert made.ranking["score"].isna().all() and "| net * |" in as_markdown(made)


def config(model: str) -> dict[str, Any]:
    values: Any = OmegaConf.to_container(composed("train", f"model={model}").model, resolve=True)
    return values  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("models", "baseline"), [(("pattern", "lstm"), False), (("chain_ladder",), True)]
)
def test_baselines_are_told_from_our_own(models: Sequence[str], baseline: bool) -> None:  # noqa: FBT001
    assert {is_baseline(ModelSpec.from_config(config(name))) for name in models} == {baseline}


def test_departures_from_the_pattern_are_our_own() -> None:
    assert is_baseline(ModelSpec("boosting", {"target": "ratio"}))
    assert not is_baseline(ModelSpec("boosting", {"target": "departure"}))
    assert not is_baseline(ModelSpec("best"))
    assert is_baseline(ModelSpec("mack"))


def test_the_table_of_data_sets(past: BacktestRecord) -> None:
    """Two seeds with errors of 10 % and 30 %, and another data set with 20 %."""
    text = leaderboard_job.standings(
        {"one": [board(past, 1.1), board(past, 1.3)], "two": [board(past)]}
    )
    scores, excess, versus = (part.splitlines() for part in text.split("\n\n")[1::2])
    assert scores[0] == "| model | one | two |"
    assert scores[2:] == [
        "| net | 20.0% | 20.0% |",
        "| chain_ladder * | 40.0% | 40.0% |",
        "| other * | 50.0% | 50.0% |",
        "| who knows the truth | 10.0% | 10.0% |",
    ]
    assert excess[0] == "| model | one D180 | one D360 | two D180 | two D360 |"
    assert excess[2] == "| net | 0.33 | 0.33 | 0.33 | 0.33 |"
    assert versus[2].startswith("| one | chain_ladder | 40.0% | net | 20.0% | 14.1% | +50.0% |")
    assert versus[3] == "| two | chain_ladder | 40.0% | net | 20.0% |  | +50.0% | +50.0% | +50.0% |"


def stamps(change: str) -> set[str]:
    """Of a part of the leaderboard, and of the same with a change to its backtest."""
    config = composed("benchmark", "what=leaderboard")
    config.leaderboard.models = ["growth_lstm", "best"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        _, _, stamp = leaderboard_job.prepare_part(config, "one_0", ["data=simulated"])
        config.leaderboard.overrides.append(change)
        _, words, changed = leaderboard_job.prepare_part(config, "one_0", ["data=simulated"])
    assert words[-1] == change
    return {stamp, changed}


@pytest.mark.parametrize(
    "change", ["data.timeline.weeks=60", "refit=frozen", "+settings.growth_lstm.epochs=2"]
)
def test_a_part_stands_for_all_that_its_results_depend_on(change: str) -> None:
    assert len(stamps(change)) == 2


@pytest.mark.parametrize(
    "change",
    [
        "workers=2",
        "ledger=elsewhere",
        "trainer.threads=2",
    ],
)
def test_a_part_is_the_same_wherever_it_runs(change: str) -> None:
    assert len(stamps(change)) == 1


def test_a_finished_part_is_not_run_again(
    past: BacktestRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def started(command: Sequence[str], **_: object) -> CompletedProcess[str]:
        ran.append(command[2])
        board(past).write(tmp_path / "one_0")
        return CompletedProcess(command, 0)

    monkeypatch.setattr("subprocess.run", started)
    for stamp in ("as it was", "as it was", "changed"):
        folder = leaderboard_job.run_backtest(tmp_path / "one_0", ["data=one"], stamp)
        assert folder == tmp_path / "one_0"
    assert ran == ["data=one"] * 2


def test_a_part_that_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a backtest of one_0, got error: .*see .*log"):
        leaderboard_job.run_backtest(tmp_path / "one_0", ["data=nonsense"], "")
    assert not (tmp_path / "one_0" / "finished.json").exists()
