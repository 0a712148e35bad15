"""The leaderboard in words."""

import re
from dataclasses import replace

import numpy as np
from factories.leaderboards import BOARD_AGES, make_leaderboard, record_off_by

from ltvnet.backtesting.leaderboard import Entrant, Leaderboard
from ltvnet.backtesting.scores import BacktestRecord
from ltvnet.reports.leaderboard_tables import as_markdown, state_finding


def cells_of(row: str) -> list[str]:
    """The cells of a row of a Markdown table."""
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_it_is_said_who_is_closest(pattern_record: BacktestRecord) -> None:
    text = as_markdown(make_leaderboard(pattern_record))
    first_line, _, *rows = text.splitlines()[:7]
    assert re.match(r"\*\*net .*50\.0 % closer .*chain_ladder .*\+50\.0 % to \+50\.0 %", first_line)
    assert cells_of(rows[0])[:4] == ["model", "score", "skill", "bias D180"]
    minus = "\N{MINUS SIGN}"
    skill = f"{minus}25.0 % [{minus}25.0 %, {minus}25.0 %]"
    assert cells_of(rows[-1])[:3] == ["other *", "50.0 %", skill]
    assert cells_of(rows[-1])[3].startswith("+50")
    at_day_7 = text.split("day 7")[1].splitlines()[2]
    assert cells_of(at_day_7) == ["model", "D30", "D60", "D90", "D180", "D360"]


def test_the_best_single_model_is_compared_and_not_the_mixture(
    pattern_record: BacktestRecord,
) -> None:
    entrants = [
        Entrant(record_off_by(pattern_record, "best", 1.3), is_baseline=False, fit_cost=None),
        Entrant(record_off_by(pattern_record, "net", 1.2), is_baseline=False, fit_cost=None),
        Entrant(record_off_by(pattern_record, "other", 1.5), is_baseline=True, fit_cost=None),
    ]
    assert re.match(
        "best .*40.0 % closer", state_finding(Leaderboard.from_entrants(entrants, BOARD_AGES))
    )
    worse = state_finding(make_leaderboard(pattern_record, own=1.5))
    assert re.match("net .*25.0 % further off .*chain_ladder", worse)


def finding_of_one(pattern_record: BacktestRecord, *, baseline: bool) -> str:
    return state_finding(
        Leaderboard.from_entrants([Entrant(pattern_record, baseline, None)], BOARD_AGES)
    )


def test_a_board_without_baselines_or_without_outcomes(pattern_record: BacktestRecord) -> None:
    net_record = record_off_by(pattern_record, "net", 1.25)
    for baseline in (False, True):
        assert re.match("net .*closest.* 25.0 %$", finding_of_one(net_record, baseline=baseline))
    nothing = replace(net_record, actual=np.full_like(net_record.actual, np.nan))
    assert "Nothing has matured" in finding_of_one(nothing, baseline=True)
    zero = replace(net_record, actual=net_record.actual * 0)
    assert "no revenue" in finding_of_one(zero, baseline=True)
    for empty in (nothing, zero):
        empty_board = Leaderboard.from_entrants(
            [Entrant(empty, is_baseline=True, fit_cost=None)], BOARD_AGES
        )
        assert empty_board.ranking["score"].isna().all() and "| net * |" in as_markdown(empty_board)
