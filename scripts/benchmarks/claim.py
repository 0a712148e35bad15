"""What is claimed of a growth-rate LSTM, in two ways, and what came true: what=claim.

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

if TYPE_CHECKING:
    from ltvnet.backtesting.ledger import LedgerEntries
    from ltvnet.data.curves import Curves, History
    from ltvnet.forecasting.forecaster import Forecaster

log = logging.getLogger("benchmark")

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

AGE = 7
"""Cohorts are forecast from their days up to this one."""

HORIZONS = (90, 180, 360)

TRAINED = 0.8
"""Share of the windows that a random split trains on."""


@dataclass(frozen=True)
class Told:
    """Forecasts at HORIZONS beside what came true.

    `actual` (C, H) NaN where it has not matured, `mean` (C, H), `users` (C,).
    """

    actual: Floats
    mean: Floats
    users: Floats

    def wape(self) -> Floats:
        """Weighted absolute percentage error at each horizon: (H,)."""
        from ltvnet import metrics

        columns = zip(self.actual.T, self.mean.T, strict=True)
        return np.array([metrics.wape(a, f, self.users) for a, f in columns])

    def cohorts(self) -> NDArray[np.int64]:
        """Number of cohorts that have matured to each horizon: (H,)."""
        return np.isfinite(self.actual).sum(axis=0)

    def mean_error(self) -> Floats:
        """What came true over what was forecast, sums over cohorts, at each horizon: (H,)."""
        weight = np.where(np.isfinite(self.actual), self.users[:, None], 0.0)
        return (weight * np.nan_to_num(self.actual)).sum(axis=0) / (weight * self.mean).sum(axis=0)

    def corrected(self, factors: Floats) -> "Told":
        """The forecasts times a factor for each horizon (H,)."""
        return replace(self, mean=self.mean * factors)


def claim(config: DictConfig) -> str:
    """Claims and what came true of them, mean and spread over seeds, as Markdown.

    `config.claim`: `data` name -> seeds, `overrides` of configs/train.yaml, and the past days
    that the backtest replays: `origins` of them, `every_weeks` apart.
    """
    from ltvnet.forecasting.registry import create_forecaster

    chosen, parts = config.claim, []
    for data, seeds in chosen.data.items():
        for seed in seeds:
            job = compose("train", ["model=growth_lstm", f"data={data}", *chosen.overrides])
            job.out, job.seed = config.out, seed
            source = instantiate(job.data)
            create = partial(create_forecaster, model_spec(job), run_context(job, None))
            weeks = np.arange(chosen.origins, 0, -1) * chosen.every_weeks
            past = source.origin - weeks * np.timedelta64(7, "D")
            found = table(measured(create, seed, source.history(), source.origin, past))
            parts.append(found.assign(data=data, seed=seed))
            log.info("%s of seed %d: claimed and realised", data, seed)
    everything = pd.concat(parts)
    everything.to_csv(Path(config.out) / "claims.csv", index=False)
    return markdown(everything)


def measured(
    create: Callable[[], "Forecaster"],
    seed: int,
    history: "History",
    today: np.datetime64,
    past: Sequence[np.datetime64],
) -> Iterator[tuple[str, Told, Told]]:
    """Procedures with what each claims today, and what came true of what it forecasts today.

    `create` makes an unfitted model of the `seed`.
    """
    from ltvnet.backtesting.ledger import LedgerEntries
    from ltvnet.backtesting.replay import forecast_entries
    from ltvnet.models.baselines.growth_lstm import GrowthLSTM, training_windows

    known = history.as_of(today)
    fitted = create().fit(known)
    assert isinstance(fitted, GrowthLSTM)
    entries = forecast_entries(fitted, young(known), (AGE,))
    realised = told(entries, history)

    window, target = training_windows(known.values, known.observed_age)
    chosen = split(len(target), seed)
    usual = create()
    assert isinstance(usual, GrowthLSTM)
    usual.pattern = fitted.pattern
    usual.train_net(window[chosen], target[chosen])
    claimed = in_sample(usual, known)
    later = told(forecast_entries(usual, young(known), (AGE,)), history)
    yield "random split", claimed, later
    factors = claimed.mean_error()
    yield "random split, corrected", claimed.corrected(factors), later.corrected(factors)

    then = [history.as_of(origin) for origin in past]
    replayed = [forecast_entries(create().fit(curves), young(curves), (AGE,)) for curves in then]
    yield "backtest", told(LedgerEntries.concatenate(replayed), history.until(today)), realised


def young(curves: "Curves") -> "Curves":
    """The cohorts that passed AGE within the last week."""
    k = curves.observed_age
    return curves.take((k >= AGE) & (k < AGE + 7))


def split(count: int, seed: int) -> Bools:
    """Which of so many windows (M,) a random split trains on."""
    order = np.random.default_rng(seed).permutation(count)
    return order < round(TRAINED * count)


def in_sample(forecaster: Any, known: "Curves") -> Told:  # noqa: ANN401 any Forecaster
    """Cohorts that have matured, forecast from their first days by a model that saw the rest."""
    grown = known.take(known.observed_age >= HORIZONS[0])
    mean = forecaster.predict(grown.cut(AGE), HORIZONS).raw.mean
    return Told(grown.values[:, list(HORIZONS)], mean, grown.users)


def told(entries: "LedgerEntries", history: "History") -> Told:
    """Forecasts of cohorts cut to AGE where the data supported them, beside what came true."""
    from ltvnet.backtesting import scores
    from ltvnet.data.curves import NODES

    record = scores.build_record("growth_lstm", entries, history)
    rows = np.flatnonzero(entries.observed_age == AGE)
    cells = np.ix_(rows, [NODES.index(horizon) for horizon in HORIZONS])
    actual = np.where(record.is_scorable, record.actual, np.nan)[cells]
    return Told(actual, entries.bands["raw"].mean[cells], entries.users[rows])


def table(found: Iterator[tuple[str, Told, Told]]) -> pd.DataFrame:
    """WAPE and number of cohorts, claimed and realised, by procedure and horizon."""
    rows = [
        (procedure, horizon, *row)
        for procedure, claimed, realised in found
        for horizon, *row in zip(
            HORIZONS, claimed.wape(), realised.wape(), claimed.cohorts(), realised.cohorts(),
            strict=True,
        )
    ]  # fmt: skip
    names = ["claimed", "realised", "cohorts_claimed", "cohorts_realised"]
    return pd.DataFrame(rows, columns=["procedure", "horizon", *names])


def markdown(found: pd.DataFrame) -> str:
    """WAPE claimed and realised: mean and spread over seeds, numbers of cohorts of all seeds."""
    keys = ["data", "procedure", "horizon"]
    groups = found.groupby(keys, sort=False)[["claimed", "realised"]]
    cohorts = found.groupby(keys, sort=False)[["cohorts_claimed", "cohorts_realised"]].sum()
    mean, spread = groups.mean(), groups.std()
    rows = [
        (*key[:2], f"D{key[2]}",
         *(spoken(mean[name][key], spread[name][key]) for name in ("claimed", "realised")),
         *(f"{cohorts[f'cohorts_{name}'][key]:,}" for name in ("claimed", "realised")))
        for key in mean.index
    ]  # fmt: skip
    head = ("data", "procedure", "horizon", "WAPE claimed", "WAPE realised", "cohorts", "realised")
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spoken(mean: float, spread: float) -> str:
    """A mean and its spread, which one seed does not have; empty where nothing had matured."""
    if np.isnan(mean):
        return ""
    return f"{mean:.1%}" if np.isnan(spread) else f"{mean:.1%} ± {spread:.1%}"
