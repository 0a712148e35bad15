"""What a backtest takes beside one fit from nothing, and how that grows: what=backtest.

Contenders alternate in one process, a fit and then a backtest, so that both see the same machine.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from hydra import compose
from hydra.utils import instantiate
from launch import plain, run_context
from omegaconf import DictConfig, OmegaConf
from targets import Measurement, log_log_slope

if TYPE_CHECKING:
    from ltvnet.backtesting.origins import ReplayPlan
    from ltvnet.backtesting.replay import Fold
    from ltvnet.data.curves import History
    from ltvnet.forecasting.model_spec import ModelSpec
    from ltvnet.forecasting.run_context import RunContext

log = logging.getLogger("benchmark")

Days = Sequence[np.datetime64]
Model = tuple["ModelSpec", "RunContext"]


@dataclass(frozen=True)
class Past:
    """A history, the days of it that are replayed, and how."""

    history: "History"
    days: Days
    plan: "ReplayPlan"


def lines(config: DictConfig) -> list[Measurement]:
    """Each model's backtest over its cold fit, what a fold is made of, workers, and slopes."""
    chosen, job = config.backtest, backtest(config)
    past = replayed(job)
    made = []
    for name in chosen.models:
        model = apart(job, name)
        cold, whole = costs(model, past, chosen.repeats)
        what = f"{name}: {len(past.days)} origins"
        made += [
            Measurement(
                f"{what} over one cold fit",
                float(np.median(whole / cold)),
                target=chosen.targets.get(name),
            ),
            Measurement(f"{name}: a cold fit", float(np.median(cold)), "s"),
            Measurement(f"{what}", float(np.median(whole)), "s"),
        ]
        made += [
            Measurement(f"{name}: of a fold, {part}", 100 * share, "%")
            for part, share in shares(model, past).items()
        ]
    return [*made, *parallel(config, past), *growing(config, past)]


def backtest(config: DictConfig, words: Sequence[str] = ()) -> DictConfig:
    """The benchmark's backtest, its data changed by some words of configs/backtest.yaml."""
    job = compose("backtest", [*config.backtest.overrides, *words])
    job.out = config.out
    OmegaConf.resolve(job)
    return job


def replayed(job: DictConfig) -> Past:
    """The past that a backtest replays."""
    from ltvnet.backtesting.origins import ReplayPlan, choose_origins

    history = instantiate(job.data).history()
    plan = ReplayPlan(
        **{name: job[name] for name in ("window", "refit", "ages", "warm", "workers")}
    )
    return Past(history, choose_origins(history, **plain(job.origins)), plan)


def apart(job: DictConfig, name: str) -> "Model":
    """A backtest's model, and where it is fitted; nothing is written."""
    from ltvnet.forecasting.model_spec import ModelSpec
    from ltvnet.operations.configuration import load_config

    return ModelSpec.from_config(load_config("model", name)), run_context(job, None)


def costs(model: Model, past: Past, repeats: int) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of a cold fit as of the last day, and of a backtest: (repeats,) each."""
    from ltvnet.forecasting.registry import create_forecaster

    create_forecaster(*model).fit(past.history.as_of(past.days[0]))  # imports what it needs
    cold, whole = np.zeros((2, repeats))
    for repeat in range(repeats):
        begun = perf_counter()
        create_forecaster(*model).fit(past.history.as_of(past.days[-1]))
        cold[repeat] = perf_counter() - begun
        whole[repeat] = seconds(model, past)
        log.info(
            "%s: a cold fit %.2f s, a backtest %.2f s", model[0].name, cold[repeat], whole[repeat]
        )
    return cold, whole


def seconds(model: Model, past: Past) -> float:
    """How long a backtest takes, its ledger written."""
    from ltvnet.backtesting.ledger import Ledger
    from ltvnet.backtesting.replay import Replay

    with tempfile.TemporaryDirectory() as folder:
        begun = perf_counter()
        ledger = Ledger(Path(folder))
        done = list(Replay(*model, past.history, past.days, past.plan, ledger).run())
        took = perf_counter() - begun
    assert len(done) == len(past.days)
    return took


def fold(model: Model, past: Past) -> "Fold":
    """The last fold; it starts warm from the earliest that learned anything, if the model can."""
    from ltvnet.backtesting.replay import Fold, WarmStartable

    last = Fold(*model, past.plan, past.days[-1], past.days[-1:], None)
    for day in past.days:
        fitted, _ = replace(last, fit_day=day).fit(past.history)
        if not isinstance(fitted, WarmStartable):
            return last
        if fitted.can_start():
            return replace(last, start_state=fitted.state())
    return last


def shares(model: Model, past: Past) -> dict[str, float]:
    """Of the seconds of the last fold: those of its parts."""
    from ltvnet.backtesting.ledger import Ledger
    from ltvnet.models.pattern.pattern import Pattern

    last = fold(model, past)
    curves = past.history.as_of(last.fit_day)
    curves = curves.take(curves.observed_age >= 0)
    spec, _ = model
    under = dict(spec.arguments.get("pattern", spec.arguments))
    under.pop("name", None)
    pattern, times = Pattern(**under), {}
    with tempfile.TemporaryDirectory() as folder:
        begun = perf_counter()
        pattern.fit(curves)
        times["the pattern"] = perf_counter() - begun
        if "net" in spec.arguments:
            begun = perf_counter()
            pattern.fitted_pattern.leave_one_out_curves(curves)
            times["the pattern without each cohort"] = perf_counter() - begun
        begun = perf_counter()
        fitted, cost = last.fit(past.history)
        times["the net"] = max(cost.seconds - sum(times.values()), 0.0)
        whole = perf_counter() - begun
        begun = perf_counter()
        issued = last.forecast_origins(fitted, past.history)
        times["forecasts"] = perf_counter() - begun
        begun = perf_counter()
        Ledger(Path(folder)).write("one", issued[0], "one", last.fit_day)
        times["the ledger"] = perf_counter() - begun
    whole += times["forecasts"] + times["the ledger"]
    if "net" not in spec.arguments:
        times.pop("the net")
    return {part: took / whole for part, took in times.items()}


def parallel(config: DictConfig, past: Past) -> list[Measurement]:
    """How much sooner a backtest is done by several workers."""
    chosen = config.backtest.parallel
    model, many = apart(backtest(config), chosen.model), replace(past.plan, workers=chosen.workers)
    took = np.array(
        [
            (seconds(model, past), seconds(model, replace(past, plan=many)))
            for _ in range(config.backtest.repeats)
        ]
    )
    log.info("%s: seconds of one worker and of %d: %s", chosen.model, chosen.workers, took)
    what = f"{chosen.model}: {len(past.days)} origins, 1 worker over {chosen.workers}"
    sooner = float(np.median(took[:, 0] / took[:, 1]))
    return [Measurement(what, sooner, target=chosen.target, is_minimum=True)]


def growing(config: DictConfig, past: Past) -> list[Measurement]:
    """Log-log slopes of a backtest over origins, and of a fold over cohorts."""
    chosen = config.backtest.growth
    model = apart(backtest(config), chosen.model)
    counts, took = [], []
    for step in chosen.every:
        some = replace(past, days=past.days[::-1][::step][::-1])
        counts.append(len(some.days))
        took.append(seconds(model, some))
    sizes, times = zip(*_folds(config, model), strict=True)
    log.info("%s: origins %s in %s s, cohorts %s in %s s", chosen.model, counts, took, sizes, times)
    return [
        Measurement(
            f"{chosen.model}: slope of a backtest over {_span(counts)} origins",
            log_log_slope(counts, took),
        ),
        Measurement(
            f"{chosen.model}: slope of a fold over {_span(sizes)} cohorts",
            log_log_slope(sizes, times),
        ),
    ]


def _folds(config: DictConfig, model: Model) -> Iterator[tuple[int, float]]:
    """Number of cohorts, and seconds of the last fold, of portfolios of several sizes."""
    chosen = config.backtest
    for words in chosen.growth.data:
        past = replayed(backtest(config, words))
        last = fold(model, past)
        begun = perf_counter()
        last.run(past.history)
        yield len(past.history.as_of(last.fit_day)), perf_counter() - begun


def _span(sizes: Sequence[int]) -> str:
    return f"{min(sizes):,} to {max(sizes):,}"
