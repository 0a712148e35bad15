"""What a run found, for people: tables, figures, TensorBoard.

Shapes: N cohorts, H ages.
"""

import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from ltvnet.backtesting import scores
from ltvnet.backtesting.leaderboard import Entrant, Leaderboard, is_baseline
from ltvnet.backtesting.ledger import Ledger
from ltvnet.backtesting.origins import Plan
from ltvnet.backtesting.replay import issue, spent
from ltvnet.backtesting.scores import Record, table
from ltvnet.correction.corrected import Corrected
from ltvnet.correction.walk_forward import Learning, Walk, walked
from ltvnet.data.arrays import Days
from ltvnet.data.curves import AGES, MAX_AGE, NODES, Curves, History
from ltvnet.forecasting.explanation import explain
from ltvnet.forecasting.model_config import names
from ltvnet.reports import model_page
from ltvnet.reports.tensorboard import _flat, curves_figure, losses
from ltvnet.storage import whole

if TYPE_CHECKING:
    pass


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """What a training run found out: of its past, and of the day it stands at.

    `title` name of the model, `forecaster` as fitted at the origin, `curves` known then, `past`
    forecasts of the days before (None: none were replayed), `after` those of that day (None:
    nothing was left to forecast) beside what became of them in `history`.
    """

    title: str
    forecaster: Corrected
    curves: Curves
    past: Record | None
    after: Record | None
    history: History

    @classmethod
    def of(
        cls, title: str, forecaster: Corrected, history: History, origin: object, source: object
    ) -> Self:
        """Score a fitted forecaster; `source` may know the truth, or standard errors."""
        curves = history.as_of(origin)
        known = known_truth(source), known_errors(source)
        past, after = forecaster.past, None
        if ((curves.observed_age >= 0) & (curves.observed_age < MAX_AGE)).any():
            after = scores.record(
                title, issue(forecaster, curves, scores.SCORED_AGES), history, *known
            )
        before = None
        if past is not None:
            before = scores.record(title, past, history.until(origin), *known)
        return cls(title, forecaster, curves, before, after, history)

    @property
    def earned(self) -> bool:
        """Whether the model, uncorrected, was significantly better than the pattern."""
        return self.past is not None and scores.against_pattern(self.past, "raw").better

    def check(self, *, force: bool) -> None:
        """Raise ValueError for a model that was significantly worse than the pattern."""
        versus = None if self.past is None else scores.against_pattern(self.past, "final")
        if versus is not None and versus.worse and not force:
            raise ValueError(
                f"{self.title} was worse than the historical pattern on the past that it was tried "
                f"on, by {versus.relative:.1%} of the error: no bundle was written. Train "
                "model=pattern, or set force=true"
            )

    def about(self) -> dict[str, Any]:
        """What the manifest of the bundle says of it."""
        return {"title": self.title, "score": self._scores(), "earned": self.earned}

    def as_text(self) -> str:
        """The scores for a terminal: of the past, and of what came after the origin."""
        text = ""
        if self.past is not None:
            text = as_text([self.past], "Forecasts of past days against what came true", exact=True)
        day, last = self.curves.origin, self.history.last_day
        after = [] if self.after is None else [self.after]
        later = as_text(after, f"Forecasts of {day} against what was known on {last}", exact=False)
        return f"{text}\n{later}" if later else (
            f"{text}\nNo cell has matured after {day}, so its forecasts cannot be scored yet."
        )  # fmt: skip

    def write(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Write `metrics.json` and `report.html`, and figures and hyper-parameters to TensorBoard.

        `config` of the model.
        """
        cells = {name: table(record, scores.SCORED_AGES) for name, record in self._records.items()}
        _write_metrics(folder, {"score": self._scores(), **cells})
        story = self.story(folder)
        model_page.write(folder / "report.html", story)
        self._to_tensorboard(folder, config, story)

    @property
    def _records(self) -> dict[str, Record]:
        found = {"past": self.past, "after": self.after}
        return {name: record for name, record in found.items() if record is not None}

    def _scores(self) -> dict[str, float | None]:
        return {
            f"{name}_{who}": scores.score(record, stage)
            for name, record in self._records.items()
            for who, stage in (("model", "final"), ("pattern", "pattern"))
        }

    def story(self, folder: Path) -> model_page.Story:
        """What the HTML report tells."""
        days = np.array([], "datetime64[D]") if self.past is None else self.past.entries.origin
        forecast = self.forecaster.predict(self.curves, NODES)
        return model_page.Story(
            title=f"{self.title}, as of {self.curves.origin}",
            records=[] if self.past is None else [self.past],
            ages=scores.SCORED_AGES,
            stages=self.forecaster.stages,
            losses=losses(folder, self.forecaster.names),
            forecast=forecast,
            notes=[f"{len(np.unique(days))} past days replayed", vintages(self.history, days)],
            explained=explain(self.forecaster, forecast),
            names=self.forecaster.names,
        )

    def _to_tensorboard(
        self, folder: Path, config: Mapping[str, Any], story: model_page.Story
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        days = range(1, AGES)
        forecast = self.forecaster.predict(self.curves, days)
        matured = self.history.actuals(self.history.last_day).reindex(self.curves.index)
        examples = curves_figure(forecast, matured[list(days)].to_numpy(dtype=float))
        with SummaryWriter(str(folder)) as writer:
            writer.add_figure("forecasts/six cohorts", examples)
            for name, figure in model_page.figures(story).items():
                writer.add_figure(f"past/{name}", figure)
            found = self._scores().items()
            known = {f"score/{name}": value for name, value in found if value is not None}
            writer.add_hparams(_flat(config), known, run_name=".")


def known_truth(source: object) -> Curves | None:
    """The expected curves of a simulation; None of data."""
    truth = getattr(source, "truth", None)
    return truth() if truth is not None else None


def known_errors(source: object) -> pd.DataFrame | None:
    """Standard errors of curves from the sampling of users, where a source knows users."""
    errors = getattr(source, "standard_errors", None)
    return errors() if errors is not None else None


def vintages(history: History, days: Days) -> str:
    """How past days were cut out of a history: those before its first export, by date."""
    cut = np.unique(days)[np.unique(days) < history.snapshot.min()]
    if len(cut) in (0, len(np.unique(days))):
        return "as exported by then" if not len(cut) else "cut by date, not by vintage"
    return f"{len(cut)} of {len(np.unique(days))} days cut by date, not by vintage"


@dataclass(frozen=True)
class Backtest:
    """Several models over the same past days: `records`, `walks` of the same, the best first.

    `board` the leaderboard, `ages` observed ages scored exactly, `notes` how it was done, `names`
    of the models that the first is made of.
    """

    records: Sequence[Record]
    walks: Sequence[Walk]
    board: Leaderboard
    ages: Sequence[int]
    notes: Sequence[str]
    names: Sequence[str]

    @classmethod
    def of(
        cls,
        models: Mapping[str, Mapping[str, Any]],
        history: History,
        days: Sequence[np.datetime64],
        plan: Plan,
        learning: Learning,
        ledger: Path,
        source: object,
    ) -> Self:
        """Replay `days` with each of `models`, name -> config; forecasts are kept in `ledger`.

        `source` of the history may know the truth, or standard errors. Baselines are not blended
        with the pattern, which would be a model of its own.
        """
        known, alone = (known_truth(source), known_errors(source)), replace(learning, blend=False)
        records, walks, entrants = [], [], []
        for name, config in models.items():
            log.info("%s: %d days from %s to %s", name, len(days), days[0], days[-1])
            peer, kept = is_baseline(config), Ledger(ledger)
            stages = alone if peer else learning
            walks.append(walked(config, history, days, plan, stages, kept))
            records.append(scores.record(name, walks[-1].entries, history, *known))
            cost = spent(config, history, days, plan, kept)
            entrants.append(Entrant(records[-1], peer, cost))
        board = Leaderboard.of(entrants, plan.ages)
        if "pattern" in models:
            reference = records[list(models).index("pattern")]
            records = [scores.against(record, reference) for record in records]
        order = sorted(range(len(records)), key=lambda i: scores.score(records[i]) or np.inf)
        records, walks = [records[i] for i in order], [walks[i] for i in order]
        how = [f"window={plan.window}", f"refit={plan.refit}", f"warm={plan.warm}"]
        notes, parts = [f"{len(days)} past days", *how], names(models[records[0].name])
        return cls(records, walks, board, plan.ages, notes, parts)

    def as_text(self) -> str:
        """The scores for a terminal."""
        title = "Forecasts of past days against what came true"
        return f"{as_text(self.records, title, exact=True)}\n{self.board.finding()}"

    def write(self, folder: Path) -> None:
        """Write the leaderboard, `scores.csv`, `segments.csv`, `metrics.json`, `report.html`."""
        self.board.write(folder)
        tables = {"scores": [table(record, self.ages) for record in self.records]}
        if self.records[0].entries.hierarchy:
            tables["segments"] = [scores.by_segment(record, 1) for record in self.records]
        for name, parts in tables.items():
            with whole(folder / f"{name}.csv") as path:
                pd.concat(parts).to_csv(path, index=False)
        values = {record.name: scores.score(record) for record in self.records}
        _write_metrics(folder, {"score": values})
        first = self.walks[0]
        story = model_page.Story(
            title=f"{self.records[0].name}, out of {', '.join(r.name for r in self.records)}",
            records=self.records,
            ages=self.ages,
            stages=first.learned(first.history.last_day)[0],
            losses={},
            forecast=None,
            notes=[*self.notes, vintages(first.history, first.entries.origin)],
            board=self.board,
            names=self.names,
        )
        model_page.write(folder / "report.html", story)


def as_text(records: Sequence[Record], title: str, *, exact: bool) -> str:
    """WAPE, bias and coverage as a table for a terminal; empty where nothing has matured.

    Of cohorts cut to exactly SCORED_AGES, or else of all by bucket of their own age.
    """
    from rich.console import Console
    from rich.table import Table

    found = pd.concat([pd.DataFrame(), *(table(record, scores.SCORED_AGES) for record in records)])
    if found.empty:
        return ""
    found = found[found.observed_age.isin(list(map(str, scores.SCORED_AGES))) == exact]
    drawn = Table(title=title)
    for name, column in _COLUMNS.items():
        if column in found:
            drawn.add_column(name, justify="left" if name == "model" else "right")
    for row in found.to_dict("records"):
        drawn.add_row(*(_cell(row, column) for column in _COLUMNS.values() if column in row))
    text = io.StringIO()
    Console(file=text, width=132).print(drawn)
    means = {record.name: scores.score(record) for record in records}
    if "pattern" not in means:
        means["pattern"] = scores.score(records[0], "pattern")
    said = ", ".join(f"{name} {mean:.1%}" for name, mean in means.items() if mean is not None)
    note = "score (mean WAPE at D90, D180, D360 of cohorts cut to 7 and 30 days)"
    return text.getvalue() + (f"{note}: {said}" if said else "")


_COLUMNS = {
    "model": "model",
    "observed days": "observed_age",
    "horizon": "horizon",
    "cohorts": "n",
    "WAPE": "wape",
    "of pattern": "wape_pattern",
    "of oracle": "wape_oracle",
    "noise floor": "noise_floor",
    "skill": "skill",
    "bias": "bias",
    "80 % held": "coverage",
}


def _cell(row: Mapping[Any, Any], column: str) -> str:
    value = row[column]
    if column == "skill":
        bounds = f" [{row['skill_low']:+.0%} {row['skill_high']:+.0%}]"
        return f"{value:+.0%}" + (bounds if np.isfinite(row["skill_low"]) else "")
    if column == "horizon":
        return f"D{value}"
    if not isinstance(value, float):
        return str(value)
    return "" if np.isnan(value) else f"{value:+.1%}" if column == "bias" else f"{value:.1%}"


def _write_metrics(folder: Path, values: Mapping[str, Any]) -> None:
    """Write `metrics.json`; tables as lists of rows."""
    plain = {
        name: json.loads(value.to_json(orient="records"))
        if isinstance(value, pd.DataFrame)
        else value
        for name, value in values.items()
    }
    with whole(folder / "metrics.json") as path:
        path.write_text(json.dumps(plain, indent=1))
