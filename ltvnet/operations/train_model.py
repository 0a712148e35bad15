"""Train a model, score it on its past, and export its bundle: what `scripts/train.py` does."""

import json
import shlex
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ltvnet.backtesting import scores
from ltvnet.backtesting.replay import forecast_entries
from ltvnet.backtesting.scores import BacktestRecord, score_table
from ltvnet.correction.corrected import Corrected
from ltvnet.correction.walk_forward import ValidationConfig
from ltvnet.data.curves import AGES, MAX_AGE, NODES, Curves, History
from ltvnet.data.source import DataSource
from ltvnet.forecasting.explanation import explain
from ltvnet.forecasting.forecast import Forecast
from ltvnet.forecasting.model_spec import ModelSpec
from ltvnet.forecasting.registry import relevant_context
from ltvnet.forecasting.run_context import RunContext
from ltvnet.forecasting.typed_config import check_day
from ltvnet.operations.origin_day import find_origin
from ltvnet.prediction import bundle
from ltvnet.reports import model_page, run_report, tensorboard
from ltvnet.reports.findings import Verdict
from ltvnet.storage import atomic_write

PARTS_OF_A_RUN = ("checkpoints", "ledger", "bundle", "report.html")
"""Names in the folder of a training, any of which says that there is one."""


class WorseThanPatternError(ValueError):
    """A model was significantly worse than the pattern, so that no bundle of it was written."""

    exit_code = 3
    """Code with which a script ends, so that a scheduler can tell it from wrong data."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Name of a training run, the day it stands at, and what becomes of a bad model.

    `title` name of the model in reports; `as_of` the day at whose end it stands (None: the
    source's own); `force` whether a model that was worse than the pattern is exported.
    """

    title: str
    as_of: str | None
    force: bool

    def __post_init__(self) -> None:
        """Check the day."""
        check_day(self.as_of, "as_of")


@dataclass(frozen=True)
class TrainedModel:
    """A fitted model with the scores of its past, and of the day it stands at.

    `title` name of the model, `forecaster` as fitted at the origin, `curves` known then, `past`
    forecasts of the days before (None: none were replayed), `after` those of that day (None:
    nothing was left to forecast) beside what became of them in `history`.
    """

    title: str
    forecaster: Corrected
    curves: Curves
    past: BacktestRecord | None
    after: BacktestRecord | None
    history: History

    @property
    def beat_pattern(self) -> bool:
        """Whether the model, uncorrected, was significantly better than the pattern."""
        return (
            self.past is not None and scores.compare_stage_with_pattern(self.past, "raw").is_better
        )

    def refuse_if_worse(self) -> None:
        """Raise WorseThanPatternError for a model that was significantly worse than the pattern."""
        if self.past is None:
            return
        versus = scores.compare_stage_with_pattern(self.past, "final")
        if versus.is_worse:
            raise WorseThanPatternError(
                f"{self.title} was worse than the historical pattern on the past that it was tried "
                f"on, by {versus.relative_difference:.1%} of the error: no bundle was written. "
                "Train model=pattern, or set force=true"
            )

    @cached_property
    def verdict(self) -> Verdict:
        """Whether to trust the model, as its past says."""
        return Verdict.from_record(self.past, scores.SCORED_AGES)

    @cached_property
    def forecast(self) -> Forecast:
        """The forecast of the day it stands at, at NODES."""
        return self.forecaster.predict(self.curves, NODES)

    @property
    def records(self) -> dict[str, BacktestRecord]:
        """The forecasts that can be scored, by name: of the past, and of the day it stands at."""
        records = {"past": self.past, "after": self.after}
        return {name: record for name, record in records.items() if record is not None}

    @cached_property
    def score_tables(self) -> dict[str, pd.DataFrame]:
        """Scores of each of `records` at the ages of the score and by bucket of own age."""
        return {
            name: score_table(record, scores.SCORED_AGES) for name, record in self.records.items()
        }

    def score_by_name(self) -> dict[str, float | None]:
        """Scores of the model and of the pattern on each of `records`, by name."""
        score_by_name: dict[str, float | None] = {}
        for name, record in self.records.items():
            score_by_name[f"{name}_model"] = scores.mean_wape(record, "final")
            score_by_name[f"{name}_pattern"] = scores.mean_wape(record, "pattern")
        return score_by_name

    def manifest_entries(self) -> dict[str, Any]:
        """Entries about the model for the manifest of its bundle."""
        return {
            "title": self.title,
            "score": self.score_by_name(),
            "earned": self.beat_pattern,
            "verdict": self.verdict.as_entry(),
            "reach": self.forecast.last_supported_age,
        }

    def as_text(self) -> str:
        """The scores for a terminal: of the past, of what came after the origin, and the verdict.

        Of what came after all ages together; the report and `metrics.json` have it by age.
        """
        text = ""
        if self.past is not None:
            text = run_report.terminal_score_table(
                scores.score_rows_at_ages(self.score_tables["past"], scores.SCORED_AGES),
                scores.mean_wape_by_name([self.past]),
                "Forecasts of past days against what came true",
            )

        origin = self.curves.origin
        later = ""
        if self.after is not None:
            later = run_report.terminal_score_table(
                scores.score_rows_of_all_ages(self.score_tables["after"]),
                scores.mean_wape_by_name([self.after]),
                f"Forecasts of {origin} against what was known on {self.history.last_day}",
            )
        if not later:
            later = f"No cell has matured after {origin}, so its forecasts cannot be scored yet."
        return f"{text}\n{later}\nverdict: {self.verdict.as_text()}"

    def report_content(self, folder: Path) -> model_page.ReportContent:
        """Gather what the HTML report shows; losses are read from the run's folder."""
        no_days = np.array([], "datetime64[D]")
        days = no_days if self.past is None else self.past.entries.origin
        return model_page.ReportContent(
            title=f"{self.title}, as of {self.curves.origin}",
            records=[] if self.past is None else [self.past],
            ages=scores.SCORED_AGES,
            stages=self.forecaster.stages,
            losses=tensorboard.read_epoch_losses(folder, self.forecaster.base_names),
            forecast=self.forecast,
            notes=run_report.replay_notes(self.history, days),
            explanation=explain(self.forecaster, self.forecast),
            model_names=self.forecaster.base_names,
        )


def refuse_other_run(folder: Path) -> None:
    """Raise ValueError for a folder that holds a training, finished or cut off."""
    if any((folder / name).exists() for name in PARTS_OF_A_RUN):
        resume = shlex.quote(f"resume={folder}")
        raise ValueError(f"{folder} holds a run: {resume} continues it, or set another out")


def train_model(
    source: DataSource,
    spec: ModelSpec,
    context: RunContext,
    validation: ValidationConfig,
    options: TrainOptions,
    out: Path,
) -> TrainedModel:
    """Replay the past, fit the model as of a day, write reports and the bundle to `out`.

    Raises ValueError for what is wrong with the data, and WorseThanPatternError for a model that
    was worse than the pattern, after its reports have been written, unless `options.force`.
    """
    history = source.history()
    origin = find_origin(source, history, options.as_of)
    forecaster = Corrected(spec, context, validation, out / "ledger").fit(history, origin)

    trained = score_model(options.title, forecaster, history, origin, source)
    write_reports(trained, spec, context, out)
    if not options.force:
        trained.refuse_if_worse()
    config: dict[str, object] = {"model": spec.as_config(), "validation": asdict(validation)}
    config |= relevant_context(spec, context)
    entries = {"config": config, "config_hash": spec.digest, **trained.manifest_entries()}
    bundle.save(out / "bundle", "corrected", forecaster, trained.curves, entries)
    return trained


def score_model(
    title: str,
    forecaster: Corrected,
    history: History,
    origin: np.datetime64,
    source: DataSource,
) -> TrainedModel:
    """Score a fitted forecaster; `source` may know the truth, or standard errors."""
    curves = history.as_of(origin)
    truth, errors = source.truth(), source.standard_errors()

    after = None
    if ((curves.observed_age >= 0) & (curves.observed_age < MAX_AGE)).any():
        entries = forecast_entries(forecaster, curves, scores.SCORED_AGES)
        after = scores.build_record(title, entries, history, truth, errors)
    past = None
    if forecaster.past_entries is not None:
        past = scores.build_record(
            title, forecaster.past_entries, history.until(origin), truth, errors
        )
    return TrainedModel(title, forecaster, curves, past, after, history)


def write_reports(
    trained: TrainedModel, spec: ModelSpec, context: RunContext, folder: Path
) -> None:
    """Write `metrics.json` and `report.html`, and figures and hyper-parameters to TensorBoard."""
    tables = {
        name: json.loads(table.to_json(orient="records"))
        for name, table in trained.score_tables.items()
    }
    with atomic_write(folder / "metrics.json") as path:
        path.write_text(json.dumps({"score": trained.score_by_name(), **tables}, indent=1))

    content = trained.report_content(folder)
    model_page.write_model_page(folder / "report.html", content)

    days = range(1, AGES)
    forecast = trained.forecaster.predict(trained.curves, days)
    matured = trained.history.actuals(trained.history.last_day).reindex(trained.curves.index)
    actual = matured[list(days)].to_numpy(dtype=float)
    tensorboard.write_run(
        folder,
        examples=tensorboard.example_curves_figure(forecast, actual),
        figures=model_page.page_figures(content),
        hyperparameters={**spec.as_config(), **_run_settings(context)},
        scores=trained.score_by_name(),
    )


def _run_settings(context: RunContext) -> dict[str, object]:
    """Return seed and hardware of a run, beside the hyper-parameters of its model."""
    return {"seed": context.seed, "trainer": asdict(context.hardware)}
