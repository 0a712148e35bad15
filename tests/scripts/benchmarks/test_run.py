"""The leaderboard of data sets: what stands in it, and which parts are run again."""

from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess

import leaderboard_job
import pytest
from factories.configs import CONFIGS, compose_config
from factories.leaderboards import make_leaderboard
from hydra import initialize_config_dir

from ltvnet.backtesting.scores import BacktestRecord


def test_the_table_of_data_sets(pattern_record: BacktestRecord) -> None:
    """Two seeds with errors of 10 % and 30 %, and another data set with 20 %."""
    text = leaderboard_job.standings(
        {
            "one": [make_leaderboard(pattern_record, 1.1), make_leaderboard(pattern_record, 1.3)],
            "two": [make_leaderboard(pattern_record)],
        }
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
    """The stamps of a part of the leaderboard, without and with a change to its backtest."""
    config = compose_config("benchmark", "what=leaderboard")
    config.leaderboard.models = ["growth_lstm", "best"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        _, _, stamp = leaderboard_job.prepare_part(config, "one_0", ["data=simulated"])
        config.leaderboard.overrides.append(change)
        _, overrides, changed = leaderboard_job.prepare_part(config, "one_0", ["data=simulated"])
    assert overrides[-1] == change
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
    pattern_record: BacktestRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def start_backtest(command: Sequence[str], **_: object) -> CompletedProcess[str]:
        ran.append(command[2])
        make_leaderboard(pattern_record).write(tmp_path / "one_0")
        return CompletedProcess(command, 0)

    monkeypatch.setattr("subprocess.run", start_backtest)
    for stamp in ("as it was", "as it was", "changed"):
        assert (
            leaderboard_job.run_backtest(tmp_path / "one_0", ["data=one"], stamp)
            == tmp_path / "one_0"
        )
    assert ran == ["data=one"] * 2


def test_a_part_that_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a backtest of one_0, got error: .*see .*log"):
        leaderboard_job.run_backtest(tmp_path / "one_0", ["data=nonsense"], "")
    assert not (tmp_path / "one_0" / "finished.json").exists()
