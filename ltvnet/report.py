"""What a run found, for people: tables, figures, TensorBoard.

Shapes: N cohorts, H ages.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ltvnet import metrics
from ltvnet.curves import NODES, Curves, Floats, History
from ltvnet.files import whole
from ltvnet.forecasting import Forecast, Forecaster

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BUCKETS = (0, 3, 7, 14, 30, 60, 90, 180, 360)
"""Observed ages are reported in [0, 3), [3, 7) ... days."""

HORIZONS = (30, 90, 180, 360)
EXAMPLE_AGES = ((0, 7), (7, 14), (14, 30), (30, 60), (60, 90), (90, 180))
SCORED_AGES = ("7-13", "30-59")
SCORED_HORIZONS = (90, 180, 360)


@dataclass(frozen=True)
class Outcome:
    """Forecasts of one day beside what had come true by a later one.

    `forecast` at NODES; `actual` (N, H) and, for simulated data, `oracle` (N, H): what a
    forecaster who knew the true expectations would have said. NaN where not matured.
    """

    forecast: Forecast
    actual: Floats
    oracle: Floats | None
    known: np.datetime64

    def scores(self) -> pd.DataFrame:
        """WAPE and bias of model, pattern and oracle by observed age and horizon, with cells n.

        Weights are users. Cells beyond the ages that the data support are left out.
        """
        k, users = self.forecast.curves.observed_age, self.forecast.curves.users
        counts = np.isfinite(self.actual) & self.forecast.open & ~self.forecast.extrapolated
        issued = {"model": self.forecast.final.mean, "pattern": self.forecast.pattern}
        if self.oracle is not None:
            issued["oracle"] = self.oracle
        rows = []
        for low, high in zip(BUCKETS[:-1], BUCKETS[1:], strict=True):
            for horizon in HORIZONS:
                j = NODES.index(horizon)
                cells = (k >= low) & (k < high) & counts[:, j]
                if cells.any():
                    row = {"observed_age": f"{low}-{high - 1}", "horizon": horizon}
                    actual, weight = self.actual[cells, j], users[cells]
                    rows.append(
                        row
                        | {"n": int(cells.sum())}
                        | {
                            f"{metric.__name__}_{name}": metric(actual, mean[cells, j], weight)
                            for metric in (metrics.wape, metrics.bias)
                            for name, mean in issued.items()
                        }
                    )
        return pd.DataFrame(rows)


def outcome(
    forecaster: Forecaster, history: History, curves: Curves, oracle: Floats | None
) -> Outcome:
    """Forecast `curves` at NODES and look up what became of them by the last day of `history`."""
    forecast = forecaster.predict(curves, NODES)
    known = history.last_day
    matured = history.actuals(known).reindex(curves.index)[list(NODES)].to_numpy(dtype=float)
    return Outcome(forecast, np.where(forecast.open, matured, np.nan), oracle, known)


def score(scores: pd.DataFrame, name: str) -> float | None:
    """Mean WAPE at D90, D180, D360 of cohorts observed 7 and 30 days; None without such cells."""
    if scores.empty:
        return None
    chosen = scores.observed_age.isin(SCORED_AGES) & scores.horizon.isin(SCORED_HORIZONS)
    found = scores.loc[chosen, f"wape_{name}"]
    return float(found.mean()) if len(found) else None


def as_text(scores: pd.DataFrame, origin: np.datetime64, known: np.datetime64) -> str:
    """The scores as a table for a terminal."""
    from rich.console import Console
    from rich.table import Table

    if scores.empty:
        return (
            f"No cell has matured after {origin}, so there is nothing to score yet. Train with an "
            "earlier as_of=YYYY-MM-DD to see how far off this model would have been."
        )
    names = [name for name in ("model", "pattern", "oracle") if f"wape_{name}" in scores]
    table = Table(title=f"Forecasts of {origin} against what was known on {known}")
    for column in ("observed days", "horizon", "cohorts"):
        table.add_column(column, justify="right")
    for metric in ("WAPE", "bias"):
        for name in names:
            table.add_column(f"{metric} {name}", justify="right")
    for _, row in scores.iterrows():
        figures = [f"{row[f'wape_{name}']:.1%}" for name in names]
        figures += [f"{row[f'bias_{name}']:+.1%}" for name in names]
        table.add_row(row.observed_age, f"D{row.horizon}", str(row.n), *figures)
    text = io.StringIO()
    Console(file=text, width=110).print(table)
    means = {name: score(scores, name) for name in names}
    said = ", ".join(f"{name} {mean:.1%}" for name, mean in means.items() if mean is not None)
    note = "score (mean WAPE at D90, D180, D360 of cohorts observed 7-13 and 30-59 days)"
    return text.getvalue() + (f"{note}: {said}" if said else "")


def curves_figure(forecast: Forecast, actual: Floats) -> "Figure":
    """Six cohorts of different age: observed, the pattern, the forecast with its band, the truth.

    `forecast` at every day, `actual` (N, H) at the same days, NaN where not matured.
    """
    from matplotlib.figure import Figure

    curves = forecast.curves
    figure = Figure(figsize=(13, 7.5), layout="constrained")
    for place, row in enumerate(_examples(forecast, actual)):
        axes = figure.add_subplot(2, 3, place + 1)
        k = int(curves.observed_age[row])
        later = forecast.ages > k
        days, band = forecast.ages[later], forecast.final
        lower, upper = band.p10[row, later], band.p90[row, later]
        axes.fill_between(days, lower, upper, color="tab:blue", alpha=0.15, label="10-90 %")
        axes.plot(days, forecast.pattern[row, later], "--", color="gray", label="pattern")
        axes.plot(days, band.mean[row, later], color="tab:blue", lw=2, label="forecast")
        axes.plot(days, actual[row, later], color="black", lw=1, label="came true")
        axes.plot(curves.values[row, : k + 1], color="tab:red", lw=2.5, label="observed")
        name = " ".join(text[row] for text in curves.attributes.values())
        axes.set_title(f"{k} days of {curves.users[row]:,.0f} users\n{name}", size=9)
        axes.set_xlabel("days since acquisition")
        axes.set_ylabel("revenue per user")
        axes.set_ylim(bottom=0)
        if not place:
            axes.legend(fontsize=8, loc="lower right")
    return figure


def _examples(forecast: Forecast, actual: Floats) -> list[int]:
    """For each of EXAMPLE_AGES the largest of the cohorts that have matured most."""
    curves, chosen = forecast.curves, list[int]()
    matured = np.isfinite(actual).sum(axis=1)
    for low, high in EXAMPLE_AGES:
        near = (curves.observed_age >= low) & (curves.observed_age < high) & (matured > 0)
        if near.any():
            rank = np.lexsort((curves.users, matured, near))
            chosen.append(int(rank[-1]))
    return chosen


def write_run(
    folder: Path,
    found: Outcome,
    forecaster: Forecaster,
    history: History,
    config: Mapping[str, Any],
) -> pd.DataFrame:
    """Write `metrics.json`, and to TensorBoard the hyper-parameters with the score and a figure."""
    from torch.utils.tensorboard import SummaryWriter

    scores = found.scores()
    values = {name: score(scores, name) for name in ("model", "pattern")}
    with whole(folder / "metrics.json") as path:
        rows = json.loads(scores.to_json(orient="records"))
        path.write_text(json.dumps({"score": values, "cells": rows}, indent=1))
    curves = found.forecast.curves
    days = range(1, NODES[-1] + 1)
    forecast = forecaster.predict(curves, days)
    actual = history.actuals(found.known).reindex(curves.index)[list(days)].to_numpy(dtype=float)
    with SummaryWriter(str(folder)) as writer:
        writer.add_figure("forecasts/six cohorts", curves_figure(forecast, actual))
        known = {f"score/{name}": value for name, value in values.items() if value is not None}
        writer.add_hparams(_flat(config), known, run_name=".")
    return scores


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    flat: dict[str, str | int | float | bool] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, str | int | float | bool):
            flat[prefix + key] = value
        else:
            flat[prefix + key] = str(value)
    return flat
