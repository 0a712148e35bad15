"""Claims made of a growth-rate LSTM, in two ways, and what came true of them: what=claim.

Usually: windows of all curves are split at random, cohorts that have matured are forecast by a
model that saw their windows, and each age is corrected by the mean error of these very forecasts.
Here: the past is replayed as it was. What either says today of the youngest cohorts comes true
later.

Shapes: C cohorts, M windows, H horizons.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from hydra import compose
from hydra.utils import instantiate
from launch import model_spec, run_context
from numpy.typing import NDArray
from omegaconf import DictConfig

from ltvnet.reports.markdown import markdown_table
from ltvnet.reports.wording import terminal_percent

if TYPE_CHECKING:
    from ltvnet.backtesting.ledger import LedgerEntries
    from ltvnet.data.curves import Curves, History
    from ltvnet.forecasting.forecaster import Forecaster
    from ltvnet.models.baselines.growth_lstm import GrowthLSTM

log = logging.getLogger("benchmark")

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

AGE = 7
"""Cohorts are forecast from their days up to this one."""

HORIZONS = (90, 180, 360)

TRAINED_SHARE = 0.8
"""Share of the windows that a random split trains on."""


@dataclass(frozen=True)
class MaturedForecasts:
    """Forecasts at HORIZONS beside what came true.

    `actual` (C, H) NaN where it has not matured, `mean` (C, H), `users` (C,).
    """

    actual: Floats
    mean: Floats
    users: Floats

    def wape(self) -> Floats:
        """Return the weighted absolute percentage error at each horizon: (H,)."""
        from ltvnet import metrics

        columns = zip(self.actual.T, self.mean.T, strict=True)
        return np.array([metrics.wape(actual, mean, self.users) for actual, mean in columns])

    def cohort_counts(self) -> NDArray[np.int64]:
        """Return the number of cohorts that have matured to each horizon: (H,)."""
        return np.isfinite(self.actual).sum(axis=0)

    def mean_error(self) -> Floats:
        """Return actual over forecast, both summed over cohorts, at each horizon: (H,)."""
        weight = np.where(np.isfinite(self.actual), self.users[:, None], 0.0)
        return (weight * np.nan_to_num(self.actual)).sum(axis=0) / (weight * self.mean).sum(axis=0)

    def scale(self, factors: Floats) -> "MaturedForecasts":
        """Return the forecasts times a factor for each horizon (H,)."""
        return replace(self, mean=self.mean * factors)


Claims = Iterator[tuple[str, MaturedForecasts, MaturedForecasts]]
"""A procedure, what it claims today, and what came true of its forecasts of today."""


def report(config: DictConfig) -> str:
    """Return claims and what came true of them, mean and spread over seeds, as Markdown.

    `config.claim`: `data` name -> seeds, `overrides` of configs/train.yaml, and the past days
    that the backtest replays: `origins` of them, `every_weeks` apart.
    """
    from ltvnet.forecasting.registry import create_forecaster

    settings = config.claim
    tables = []
    for data, seeds in settings.data.items():
        for seed in seeds:
            job = compose("train", ["model=growth_lstm", f"data={data}", *settings.overrides])
            job.out = config.out
            job.seed = seed
            source = instantiate(job.data)
            create = partial(create_forecaster, model_spec(job), run_context(job, None))
            weeks = np.arange(settings.origins, 0, -1) * settings.every_weeks
            past_origins = source.origin - weeks * np.timedelta64(7, "D")

            claims = make_claims(create, seed, source.history(), source.origin, past_origins)
            tables.append(claim_table(claims).assign(data=data, seed=seed))
            log.info("%s of seed %d: claimed and realised", data, seed)

    table = pd.concat(tables)
    table.to_csv(Path(config.out) / "claims.csv", index=False)
    return claims_as_markdown(table)


def make_claims(
    create: Callable[[], "Forecaster"],
    seed: int,
    history: "History",
    today: np.datetime64,
    past_origins: Sequence[np.datetime64],
) -> Claims:
    """Yield procedures with what each claims today, and what came true of its forecasts.

    `create` makes an unfitted model of the `seed`.
    """
    from ltvnet.backtesting.ledger import LedgerEntries
    from ltvnet.backtesting.replay import forecast_entries

    curves = history.as_of(today)
    fitted = _as_growth_lstm(create().fit(curves))
    realised = match_outcomes(forecast_entries(fitted, young_cohorts(curves), (AGE,)), history)

    split_model = _fit_on_random_split(create, seed, curves, fitted)
    claimed = forecast_in_sample(split_model, curves)
    split_entries = forecast_entries(split_model, young_cohorts(curves), (AGE,))
    split_realised = match_outcomes(split_entries, history)
    yield "random split", claimed, split_realised
    factors = claimed.mean_error()
    yield "random split, corrected", claimed.scale(factors), split_realised.scale(factors)

    past_entries = []
    for past_curves in [history.as_of(origin) for origin in past_origins]:
        past_model = create().fit(past_curves)
        past_entries.append(forecast_entries(past_model, young_cohorts(past_curves), (AGE,)))
    replayed = match_outcomes(LedgerEntries.concatenate(past_entries), history.until(today))
    yield "backtest", replayed, realised


def _fit_on_random_split(
    create: Callable[[], "Forecaster"], seed: int, curves: "Curves", fitted: "GrowthLSTM"
) -> "GrowthLSTM":
    """Fit a model on a random part of all windows, with the pattern of one that saw them all."""
    from ltvnet.models.baselines.growth_lstm import training_windows

    windows, targets = training_windows(curves.values, curves.observed_age)
    is_trained_on = random_split(len(targets), seed)
    model = _as_growth_lstm(create())
    model.pattern = fitted.pattern
    model.train_net(windows[is_trained_on], targets[is_trained_on])
    return model


def _as_growth_lstm(model: object) -> "GrowthLSTM":
    """Return a model whose type is known."""
    from ltvnet.models.baselines.growth_lstm import GrowthLSTM

    assert isinstance(model, GrowthLSTM)
    return model


def young_cohorts(curves: "Curves") -> "Curves":
    """Return the cohorts that passed AGE within the last week."""
    from ltvnet.data.curves import is_within_week_past

    return curves.take(is_within_week_past(curves.observed_age, AGE))


def random_split(count: int, seed: int) -> Bools:
    """Return which of so many windows (M,) a random split trains on."""
    order = np.random.default_rng(seed).permutation(count)
    return order < round(TRAINED_SHARE * count)


def forecast_in_sample(forecaster: Any, curves: "Curves") -> MaturedForecasts:  # noqa: ANN401 any Forecaster
    """Forecast cohorts that have matured from their first days, by a model that saw the rest."""
    matured = curves.take(curves.observed_age >= HORIZONS[0])
    mean = forecaster.predict(matured.cut(AGE), HORIZONS).raw.mean
    return MaturedForecasts(matured.values[:, list(HORIZONS)], mean, matured.users)


def match_outcomes(entries: "LedgerEntries", history: "History") -> MaturedForecasts:
    """Put forecasts of cohorts cut to AGE, where data supported them, beside what came true."""
    from ltvnet.backtesting import scores
    from ltvnet.data.curves import NODES

    record = scores.build_record("growth_lstm", entries, history)
    rows = np.flatnonzero(entries.observed_age == AGE)
    cells = np.ix_(rows, [NODES.index(horizon) for horizon in HORIZONS])
    actual = np.where(record.is_scorable, record.actual, np.nan)[cells]
    return MaturedForecasts(actual, entries.bands["raw"].mean[cells], entries.users[rows])


def claim_table(claims: Claims) -> pd.DataFrame:
    """Return WAPE and number of cohorts, claimed and realised, by procedure and horizon."""
    tables = []
    for procedure, claimed, realised in claims:
        columns = {
            "procedure": procedure,
            "horizon": HORIZONS,
            "claimed": claimed.wape(),
            "realised": realised.wape(),
            "cohorts_claimed": claimed.cohort_counts(),
            "cohorts_realised": realised.cohort_counts(),
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def claims_as_markdown(table: pd.DataFrame) -> str:
    """Return WAPE claimed and realised, mean and spread over seeds, as Markdown.

    Numbers of cohorts are those of all seeds.
    """
    groups = table.groupby(["data", "procedure", "horizon"], sort=False)
    mean = groups[["claimed", "realised"]].mean()
    spread = groups[["claimed", "realised"]].std()
    cohorts = groups[["cohorts_claimed", "cohorts_realised"]].sum()

    rows = []
    for key in mean.index:
        data, procedure, horizon = key
        wapes = [mean_and_spread(mean[name][key], spread[name][key]) for name in mean]
        counts = [f"{cohorts[name][key]:,}" for name in cohorts]
        rows.append([data, procedure, f"D{horizon}", *wapes, *counts])
    head = ("data", "procedure", "horizon", "WAPE claimed", "WAPE realised", "cohorts", "realised")
    return markdown_table(head, rows)


def mean_and_spread(mean: float, spread: float) -> str:
    """Return a mean and its spread, which one seed does not have; empty where nothing matured."""
    if np.isnan(mean):
        return ""
    if np.isnan(spread):
        return terminal_percent(mean)
    return f"{terminal_percent(mean)} ± {terminal_percent(spread)}"
