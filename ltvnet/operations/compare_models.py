"""Replay the past with several models and score them together: what `scripts/backtest.py` does."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from ltvnet.backtesting import scores
from ltvnet.backtesting.leaderboard import Entrant, Leaderboard, is_baseline
from ltvnet.backtesting.ledger import Ledger
from ltvnet.backtesting.origins import OriginsConfig, ReplayPlan, choose_origins
from ltvnet.backtesting.replay import Replay
from ltvnet.backtesting.scores import BacktestRecord, score_table
from ltvnet.correction.walk_forward import StageSwitches, WalkForward, replay_and_correct
from ltvnet.data.source import DataSource
from ltvnet.forecasting.model_spec import ModelSpec
from ltvnet.forecasting.run_context import RunContext
from ltvnet.reports import leaderboard_tables, model_page, run_report
from ltvnet.storage import atomic_write

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """How the past is replayed.

    `origins` the days, `plan` of the fits, `stages` that may be learned from the past, `ledger` the
    folder of forecasts.
    """

    origins: OriginsConfig
    plan: ReplayPlan
    stages: StageSwitches
    ledger: Path


@dataclass(frozen=True)
class ModelComparison:
    """Several models over the same past days, the best first.

    `records` past forecasts of each, `walks` how each learned from its past, `board` the
    leaderboard, `ages` observed ages scored exactly, `notes` how it was done, `names` of the
    models that the first is made of, `ledger_names` by name the `model` that the ledger has.
    """

    records: Sequence[BacktestRecord]
    walks: Sequence[WalkForward]
    board: Leaderboard
    ages: Sequence[int]
    notes: Sequence[str]
    names: Sequence[str]
    ledger_names: Mapping[str, str]

    @cached_property
    def score_tables(self) -> list[pd.DataFrame]:
        """Scores of each record at `ages`, at the ages of the score and by bucket of own age."""
        other_ages = [age for age in scores.SCORED_AGES if age not in self.ages]
        return [score_table(record, [*self.ages, *other_ages]) for record in self.records]

    def as_text(self) -> str:
        """The scores for a terminal."""
        title = "Forecasts of past days against what came true"
        tables = [
            scores.score_rows_at_ages(table, scores.SCORED_AGES) for table in self.score_tables
        ]
        text = run_report.terminal_score_table(
            pd.concat([pd.DataFrame(), *tables]), scores.mean_wape_by_name(self.records), title
        )
        return f"{text}\n{leaderboard_tables.state_finding(self.board)}"

    def write(self, folder: Path) -> None:
        """Write the leaderboard, `scores.csv`, `segments.csv`, `metrics.json`, `report.html`.

        The metrics also say which `model` of the ledger each name is.
        """
        self.board.write(folder)
        leaderboard_tables.write_markdown(self.board, folder)

        tables = {"scores": [self._rows_to_write(table) for table in self.score_tables]}
        if self.records[0].entries.hierarchy:
            tables["segments"] = [
                scores.score_table_by_segment(record, 1) for record in self.records
            ]
        for name, parts in tables.items():
            with atomic_write(folder / f"{name}.csv") as path:
                pd.concat(parts).to_csv(path, index=False)

        values = {record.name: scores.mean_wape(record) for record in self.records}
        with atomic_write(folder / "metrics.json") as path:
            metrics = {"score": values, "ledger": dict(self.ledger_names)}
            path.write_text(json.dumps(metrics, indent=1))
        model_page.write_model_page(folder / "report.html", self.report_content())

    def _rows_to_write(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of a score table at `ages` and by bucket of own age."""
        if table.empty:
            return table
        parts = [
            scores.score_rows_at_ages(table, self.ages),
            scores.score_rows_by_bucket(table),
        ]
        return pd.concat(parts)

    def report_content(self) -> model_page.ReportContent:
        """Gather what the HTML report shows: the best model beside the others."""
        first = self.walks[0]
        stages, _ = first.learn_stages(first.history.last_day)
        replayed = run_report.replay_notes(first.history, first.entries.origin)
        return model_page.ReportContent(
            title=f"{self.records[0].name}, out of {', '.join(r.name for r in self.records)}",
            records=self.records,
            ages=self.ages,
            stages=stages,
            losses={},
            forecast=None,
            notes=[*replayed, *self.notes],
            leaderboard=self.board,
            model_names=self.names,
        )


def compare_models(
    source: DataSource,
    specs: Mapping[str, ModelSpec],
    context: RunContext,
    options: CompareOptions,
) -> ModelComparison:
    """Replay past days with each of `specs`, name -> model; forecasts are kept in the ledger.

    Baselines are not blended with the pattern, which would be a model of its own. Raises
    ValueError for what is wrong with the data, and where no day can be replayed.
    """
    history = source.history()
    truth, errors = source.truth(), source.standard_errors()
    days = choose_origins(history, options.origins)
    unblended = replace(options.stages, blend=False)

    records, walks, entrants = [], [], []
    ledger_names: dict[str, str] = {}
    for name, spec in specs.items():
        log.info("%s: %d days from %s to %s", name, len(days), days[0], days[-1])
        baseline = is_baseline(spec)
        ledger = Ledger(options.ledger)
        replay = Replay(spec, context, history, days, options.plan, ledger)
        ledger_names[name] = replay.identity
        walk = replay_and_correct(replay, unblended if baseline else options.stages)
        record = scores.build_record(name, walk.entries, history, truth, errors)
        walks.append(walk)
        records.append(record)
        entrants.append(Entrant(record, baseline, replay.average_fit_cost()))
    board = Leaderboard.from_entrants(entrants, options.plan.ages)

    if "pattern" in specs:
        reference = records[list(specs).index("pattern")]
        records = [scores.with_pattern_of(record, reference) for record in records]
    order = sorted(range(len(records)), key=lambda i: scores.mean_wape(records[i]) or np.inf)
    records = [records[i] for i in order]
    plan = options.plan
    how = [f"window={plan.window}", f"refit={plan.refit}", f"warm={plan.warm}"]
    return ModelComparison(
        records=records,
        walks=[walks[i] for i in order],
        board=board,
        ages=plan.ages,
        notes=how,
        names=list(specs[records[0].name].models),
        ledger_names=ledger_names,
    )
