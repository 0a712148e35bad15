"""Leaderboards of models with known errors."""

from dataclasses import replace

from ltvnet.backtesting.leaderboard import Entrant, Leaderboard
from ltvnet.backtesting.ledger import STAGES
from ltvnet.backtesting.replay import FitCost
from ltvnet.backtesting.scores import BacktestRecord
from ltvnet.forecasting.forecast import Band

BOARD_AGES = (3, 7, 30, 45)


def record_off_by(
    pattern_record: BacktestRecord, name: str, factor: float, band: float = 1.6
) -> BacktestRecord:
    """A model that says so many times what came true, and the oracle that says 1.1 times that."""
    mean = pattern_record.actual * factor
    bands = dict.fromkeys(STAGES, Band(mean, mean / band, mean, mean * band))
    entries = replace(pattern_record.entries, bands=bands)
    return replace(
        pattern_record, name=name, entries=entries, oracle_forecast=pattern_record.actual * 1.1
    )


def make_leaderboard(
    pattern_record: BacktestRecord, own: float = 1.2, other: float = 1.5
) -> Leaderboard:
    """Errors of 20 % (ours), 40 % (chain ladder, too low) and 50 % (another baseline)."""
    entrants = [
        Entrant(record_off_by(pattern_record, "other", other), is_baseline=True, fit_cost=None),
        Entrant(
            record_off_by(pattern_record, "chain_ladder", 0.6),
            is_baseline=True,
            fit_cost=FitCost(2.0, 30),
        ),
        Entrant(
            record_off_by(pattern_record, "net", own),
            is_baseline=False,
            fit_cost=FitCost(0.5, 1000),
        ),
    ]
    return Leaderboard.from_entrants(entrants, BOARD_AGES)
