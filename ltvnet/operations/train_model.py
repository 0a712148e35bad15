"""Train a model, score it on its past, and export its bundle: what `scripts/train.py` does."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ltvnet.backtesting import scores
from ltvnet.backtesting.replay import issue
from ltvnet.backtesting.scores import Record, table
from ltvnet.correction.corrected import Corrected
from ltvnet.correction.walk_forward import ValidationConfig
from ltvnet.data.curves import AGES, MAX_AGE, NODES, Curves, History, day
from ltvnet.data.source import DataSource
from ltvnet.forecasting.explanation import explain
from ltvnet.forecasting.model_spec import ModelSpec
from ltvnet.forecasting.run_context import RunContext
from ltvnet.prediction import bundle
from ltvnet.reports import model_page, run_report, tensorboard
from ltvnet.storage import whole


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What a training run is called and where it stands.

    `title` name of the model in reports; `as_of` the day at whose end it stands (None: the
    source's own); `force` whether a model that was worse than the pattern is exported; `config`
    what is kept of the configuration in the bundle's manifest.
    """

    title: str
    as_of: str | None
    force: bool
    config: Mapping[str, Any]


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
    past: Record | None
    after: Record | None
    history: History

    @property
    def earned(self) -> bool:
        """Whether the model, uncorrected, was significantly better than the pattern."""
        return self.past is not None and scores.against_pattern(self.past, "raw").better

    def refuse_if_worse(self) -> None:
        """Raise ValueError for a model that was significantly worse than the pattern."""
        if self.past is None:
            return
        versus = scores.against_pattern(self.past, "final")
        if versus.worse:
            raise ValueError(
                f"{self.title} was worse than the historical pattern on the past that it was tried "
                f"on, by {versus.relative:.1%} of the error: no bundle was written. Train "
                "model=pattern, or set force=true"
            )

    @property
    def records(self) -> dict[str, Record]:
        """The forecasts that can be scored, by name: of the past, and of the day it stands at."""
        records = {"past": self.past, "after": self.after}
        return {name: record for name, record in records.items() if record is not None}

    def scores(self) -> dict[str, float | None]:
        """Scores of the model and of the pattern on each of `records`, by name."""
        return {
            f"{name}_{who}": scores.score(record, stage)
            for name, record in self.records.items()
            for who, stage in (("model", "final"), ("pattern", "pattern"))
        }

    def manifest_entries(self) -> dict[str, Any]:
        """What the manifest of the bundle says of the model."""
        return {"title": self.title, "score": self.scores(), "earned": self.earned}

    def as_text(self) -> str:
        """The scores for a terminal: of the past, and of what came after the origin."""
        text = ""
        if self.past is not None:
            title = "Forecasts of past days against what came true"
            text = run_report.score_table([self.past], title, exact=True)

        origin = self.curves.origin
        records = [] if self.after is None else [self.after]
        title = f"Forecasts of {origin} against what was known on {self.history.last_day}"
        later = run_report.score_table(records, title, exact=False)
        if not later:
            later = f"No cell has matured after {origin}, so its forecasts cannot be scored yet."
        return f"{text}\n{later}"

    def report(self, folder: Path) -> model_page.Story:
        """Gather what the HTML report shows; losses are read from the run's folder."""
        no_days = np.array([], "datetime64[D]")
        days = no_days if self.past is None else self.past.entries.origin
        forecast = self.forecaster.predict(self.curves, NODES)
        return model_page.Story(
            title=f"{self.title}, as of {self.curves.origin}",
            records=[] if self.past is None else [self.past],
            ages=scores.SCORED_AGES,
            stages=self.forecaster.stages,
            losses=tensorboard.losses(folder, self.forecaster.names),
            forecast=forecast,
            notes=[
                f"{len(np.unique(days))} past days replayed",
                run_report.vintages(self.history, days),
            ],
            explained=explain(self.forecaster, forecast),
            names=self.forecaster.names,
        )


def train_model(
    source: DataSource,
    spec: ModelSpec,
    context: RunContext,
    validation: ValidationConfig,
    options: TrainOptions,
    out: Path,
) -> TrainedModel:
    """Replay the past, fit the model as of a day, write reports and the bundle to `out`.

    Raises ValueError for what is wrong with the data, and for a model that was worse than the
    pattern, after its reports have been written, unless `options.force`.
    """
    history = source.history()
    origin = day(options.as_of or source.default_origin(history))
    forecaster = Corrected(spec, context, validation, out / "ledger").fit(history, origin)

    trained = score_model(options.title, forecaster, history, origin, source)
    write_reports(trained, spec, out)
    if not options.force:
        trained.refuse_if_worse()
    entries = {"config": options.config, **trained.manifest_entries()}
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
        entries = issue(forecaster, curves, scores.SCORED_AGES)
        after = scores.record(title, entries, history, truth, errors)
    past = None
    if forecaster.past is not None:
        past = scores.record(title, forecaster.past, history.until(origin), truth, errors)
    return TrainedModel(title, forecaster, curves, past, after, history)


def write_reports(trained: TrainedModel, spec: ModelSpec, folder: Path) -> None:
    """Write `metrics.json` and `report.html`, and figures and hyper-parameters to TensorBoard."""
    tables = {
        name: json.loads(table(record, scores.SCORED_AGES).to_json(orient="records"))
        for name, record in trained.records.items()
    }
    with whole(folder / "metrics.json") as path:
        path.write_text(json.dumps({"score": trained.scores(), **tables}, indent=1))

    content = trained.report(folder)
    model_page.write(folder / "report.html", content)

    days = range(1, AGES)
    forecast = trained.forecaster.predict(trained.curves, days)
    matured = trained.history.actuals(trained.history.last_day).reindex(trained.curves.index)
    actual = matured[list(days)].to_numpy(dtype=float)
    tensorboard.write_run(
        folder,
        examples=tensorboard.curves_figure(forecast, actual),
        figures=model_page.figures(content),
        hyperparameters=spec.as_config(),
        scores=trained.scores(),
    )
