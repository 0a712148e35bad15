"""Models on one board, in derivable numbers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories.configs import model_config
from factories.leaderboards import BOARD_AGES, make_leaderboard

from ltvnet.backtesting.leaderboard import (
    Entrant,
    Leaderboard,
    is_baseline,
    restrict_to_common_cells,
)
from ltvnet.backtesting.ledger import STAGES
from ltvnet.backtesting.scores import BacktestRecord, mean_wape
from ltvnet.forecasting.forecast import Band
from ltvnet.forecasting.model_spec import ModelSpec
from ltvnet.reports.leaderboard_tables import as_markdown, write_markdown


def test_every_column_of_known_errors(pattern_record: BacktestRecord) -> None:
    table = make_leaderboard(pattern_record).ranking
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
    assert make_leaderboard(pattern_record).oracle_score == pytest.approx(0.1)


def test_errors_by_age_and_the_comparison_of_the_champion(pattern_record: BacktestRecord) -> None:
    board = make_leaderboard(pattern_record)
    assert list(board.wape_by_age) == [3, 7, 30]
    for age, wape in board.wape_by_age.items():
        assert list(wape.index) == ["net", "chain_ladder", "other"]  # the best first
        assert min(map(int, wape.columns)) > age
        np.testing.assert_allclose(wape, np.tile([[0.2], [0.4], [0.5]], wape.shape[1]))
    versus = board.champion_comparison
    assert versus is not None and versus.skill == pytest.approx(0.5)
    assert versus == board.compare_scores("net", "chain_ladder")

    all_baselines = replace(board, model_facts=board.model_facts.assign(baseline=True))
    assert all_baselines.champion_comparison is None


def test_the_score_is_that_of_scores_and_its_interval_lies_around_the_skill(
    pattern_record: BacktestRecord,
) -> None:
    mean = pattern_record.entries.bands["final"].mean
    blurred = np.random.default_rng(0).normal(1.0, 0.5, (len(mean), 1)) * mean
    bands = dict.fromkeys(STAGES, Band(blurred, blurred, blurred, blurred))
    worse = replace(
        pattern_record, name="blurred", entries=replace(pattern_record.entries, bands=bands)
    )
    entrants = [
        Entrant(pattern_record, is_baseline=False, fit_cost=None),
        Entrant(worse, is_baseline=True, fit_cost=None),
    ]
    table = Leaderboard.from_entrants(entrants, BOARD_AGES).ranking
    pattern_score, blurred_score = mean_wape(pattern_record), mean_wape(worse)
    assert pattern_score is not None and blurred_score is not None
    assert table.loc["pattern", "score"] == pytest.approx(pattern_score)
    assert table.loc["blurred", "score"] == pytest.approx(blurred_score)
    skill, low, high = table.filter(like="skill").loc["pattern"].to_numpy(dtype=float)
    assert skill == pytest.approx(1 - pattern_score / blurred_score)
    assert 0 < low < skill < high < 1


def test_all_models_are_scored_on_the_same_cells(pattern_record: BacktestRecord) -> None:
    """One model extrapolates beyond D90, another says nothing of app b."""
    entries = pattern_record.entries
    near = replace(
        pattern_record,
        entries=replace(entries, last_supported_age=entries.last_supported_age * 0 + 90),
    )
    entrants = [
        Entrant(near, is_baseline=True, fit_cost=None),
        Entrant(pattern_record, is_baseline=False, fit_cost=None),
    ]
    assert set(Leaderboard.from_entrants(entrants, BOARD_AGES).weekly_sums.horizon) == {30, 60, 90}

    is_b = entries.attributes["Apps"] == "b"
    mean = np.where(is_b[:, None], np.nan, entries.bands["final"].mean)
    bands = dict.fromkeys(STAGES, Band(mean, mean, mean, mean))
    without_app_b = replace(pattern_record, entries=replace(entries, bands=bands))
    for matched_record in restrict_to_common_cells([pattern_record, without_app_b]):
        cells = np.isfinite(matched_record.actual)
        assert cells.any() and not cells[is_b].any()


def test_parts_weigh_alike_whatever_their_money(pattern_record: BacktestRecord) -> None:
    """Errors of 10 % and 30 %, of a currency worth a thousandth: 20 % on average."""
    entries = pattern_record.entries
    rich = replace(pattern_record, entries=replace(entries, users=entries.users * 1000))
    pooled = Leaderboard.pool([make_leaderboard(pattern_record, 1.1), make_leaderboard(rich, 1.3)])
    table = pooled.ranking
    assert table.loc["net", "score"] == pytest.approx(0.2)
    assert table.loc["net", "skill"] == pytest.approx(0.5)
    assert table.loc["net", "skill_low"] < 0.5 < table.loc["net", "skill_high"]
    assert table.loc["net", "bias_d180"] == pytest.approx(0.2)
    assert table.loc["net", "excess_d180"] == pytest.approx(1 / 3)
    assert table.loc["net", "fit_seconds"] == 0.5
    single = make_leaderboard(pattern_record)
    weeks = single.compare_scores("net", "chain_ladder").clusters
    assert pooled.compare_scores("net", "chain_ladder").clusters == 2 * weeks


def test_what_was_written_is_read_again(pattern_record: BacktestRecord, tmp_path: Path) -> None:
    original = make_leaderboard(pattern_record)
    original.write(tmp_path)
    write_markdown(original, tmp_path)
    again = Leaderboard.read(tmp_path)
    pd.testing.assert_frame_equal(again.ranking, original.ranking, check_dtype=False)
    saved = pd.read_csv(tmp_path / "leaderboard.csv")
    pd.testing.assert_frame_equal(saved.set_index("model"), original.ranking, check_dtype=False)
    assert (tmp_path / "leaderboard.md").read_text() == as_markdown(original) == as_markdown(again)


@pytest.mark.parametrize(
    ("models", "baseline"), [(("pattern", "lstm"), False), (("chain_ladder",), True)]
)
def test_baselines_are_told_from_our_own(models: Sequence[str], baseline: bool) -> None:  # noqa: FBT001
    assert {is_baseline(ModelSpec.from_config(model_config(name))) for name in models} == {baseline}


def test_departures_from_the_pattern_are_our_own() -> None:
    assert is_baseline(ModelSpec("boosting", {"target": "ratio"}))
    assert not is_baseline(ModelSpec("boosting", {"target": "departure"}))
    assert not is_baseline(ModelSpec("best"))
    assert is_baseline(ModelSpec("mack"))
