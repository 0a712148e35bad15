"""Whether correction and intervals hold what they promise, walking forward: what=proof.

Shapes: E entries, J nodes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from backtest import compare
from hydra import compose
from omegaconf import DictConfig, OmegaConf

from ltvnet.reports.markdown import markdown_table
from ltvnet.reports.wording import terminal_percent, terminal_signed_percent

if TYPE_CHECKING:
    from ltvnet.backtesting.scores import BacktestRecord
    from ltvnet.correction.walk_forward import WalkForward
    from ltvnet.operations.compare_models import ModelComparison

STAGES = ("raw", "corrected", "final")


def report(config: DictConfig) -> str:
    """Return errors before and after correction, and how often intervals held, as Markdown."""
    from ltvnet.backtesting import scores

    score_tables, total_tables = [], []
    for data, seed, comparison in compare_all(config):
        for record, walk in zip(comparison.records, comparison.walks, strict=True):
            for stage in STAGES:
                table = scores.score_table(record, comparison.ages, stage)
                score_tables.append(table.assign(data=data, seed=seed, stage=stage))
            totals = portfolio_misses(walk, record)
            total_tables.append(totals.assign(data=data, seed=seed, model=record.name))

    all_scores, all_totals = pd.concat(score_tables), pd.concat(total_tables)
    all_scores.to_csv(Path(config.out) / "scores.csv", index=False)
    all_totals.to_csv(Path(config.out) / "totals.csv", index=False)
    tables = [
        correction_table(all_scores),
        coverage_table(all_scores),
        portfolio_table(all_totals),
    ]
    return "\n\n".join(tables)


def compare_all(config: DictConfig) -> Iterator[tuple[str, int, "ModelComparison"]]:
    """Yield data set, seed, and the backtests of the benchmark's models; reports are written."""
    settings = config.proof
    for data, seeds in settings.data.items():
        for seed in seeds:
            out = Path(config.out) / f"{data}_{seed}"
            job = compose("backtest", [f"data={data}", f"seed={seed}", *settings.overrides])
            job.out = str(out)
            job.models = settings.models
            OmegaConf.resolve(job)
            comparison = compare(job)
            comparison.write(out)
            yield data, seed, comparison


def correction_table(scores: pd.DataFrame) -> str:
    """Return bias and WAPE before and after correction, pooled over seeds, as Markdown."""
    is_shown = scores.observed_age.isin(["7", "30", "all"]) & (scores.stage != "final")
    keys = ["data", "model", "observed_age", "horizon", "stage"]
    mean = scores[is_shown].groupby(keys)[["wape", "bias"]].mean().unstack("stage")

    rows = []
    for (data, model, age, horizon), values in mean.iterrows():
        biases = [terminal_signed_percent(values["bias", stage]) for stage in ("raw", "corrected")]
        wapes = [terminal_percent(values["wape", stage]) for stage in ("raw", "corrected")]
        rows.append([data, model, age, f"D{horizon}", *biases, *wapes])
    head = ["data", "model", "observed", "horizon", "bias raw", "corrected"]
    return markdown_table([*head, "WAPE raw", "corrected"], rows)


def coverage_table(scores: pd.DataFrame) -> str:
    """Return the share of outcomes in the 80 % interval by horizon, as Markdown.

    With its standard error.
    """
    is_shown = (scores.observed_age == "all") & (scores.stage == "final")
    keys = ["data", "model", "horizon"]
    mean = scores[is_shown].groupby(keys)[["coverage", "coverage_error"]].mean()

    rows = []
    for (data, model, horizon), values in mean.iterrows():
        shares = [terminal_percent(values.coverage), terminal_percent(values.coverage_error)]
        rows.append([data, model, f"D{horizon}", *shares])
    head = ["data", "model", "horizon", "80 % interval held", "standard error"]
    return markdown_table(head, rows)


def portfolio_misses(walk: "WalkForward", record: "BacktestRecord") -> pd.DataFrame:
    """Return the miss of the sum over cohorts, and half its interval, by past day and horizon.

    Both as shares of the growth that was forecast, of cohorts at their own age.
    """
    from ltvnet.data.curves import HORIZONS, NODES

    entries = record.entries
    at_own_age = entries.at_own_age
    band = entries.bands["final"]
    growth = np.maximum(band.mean, entries.pattern) - entries.observed_value[:, None]  # (E, J)

    rows = []
    for origin, stages in walk.stages_by_origin.items():
        for horizon in HORIZONS:
            j = NODES.index(horizon)
            is_summed = at_own_age & (entries.origin == origin) & record.is_scorable[:, j]
            revenue_growth = np.where(is_summed, entries.users * growth[:, j], 0.0)
            total = np.zeros(len(NODES))
            total_of_squares = np.zeros(len(NODES))
            total[j] = revenue_growth.sum()
            total_of_squares[j] = (revenue_growth**2).sum()

            half_width = stages.totals.half_width(total, total_of_squares)[j]
            if is_summed.any() and np.isfinite(half_width):
                error = record.actual[is_summed, j] - band.mean[is_summed, j]
                missed = entries.users[is_summed] @ error
                rows.append((origin, horizon, missed / total[j], half_width / total[j]))
    return pd.DataFrame(rows, columns=["origin", "horizon", "missed", "half"])


def portfolio_table(totals: pd.DataFrame) -> str:
    """Return the share of sums over all cohorts that their 80 % interval held, as Markdown."""
    is_held = totals.missed.abs() <= totals.half
    rows = []
    for (data, model), group in totals.assign(held=is_held).groupby(["data", "model"]):
        held = terminal_percent(group.held.mean())
        rows.append([data, model, held, str(len(group)), str(group.seed.nunique())])
    return markdown_table(("data", "model", "interval of sums held", "sums", "seeds"), rows)
