"""The cost of a backtest beside one fit from nothing, and how it grows: what=backtest.

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
    from ltvnet.data.curves import Curves, History
    from ltvnet.forecasting.model_spec import ModelSpec
    from ltvnet.forecasting.run_context import RunContext

log = logging.getLogger("benchmark")

Days = Sequence[np.datetime64]
Model = tuple["ModelSpec", "RunContext"]
"""What a model is, and where it is fitted."""


@dataclass(frozen=True)
class Past:
    """A history, the days of it that are replayed, and how."""

    history: "History"
    days: Days
    plan: "ReplayPlan"


def measurements(config: DictConfig) -> list[Measurement]:
    """Measure each model's backtest over its cold fit, parts of a fold, workers, and slopes."""
    job = backtest_job(config)
    past = past_of(job)
    results = []
    for name in config.backtest.models:
        model = unwritten_model(job, name)
        cold, whole = cold_and_backtest_seconds(model, past, config.backtest.repeats)
        subject = f"{name}: {len(past.days)} origins"
        over_cold = float(np.median(whole / cold))
        target = config.backtest.targets.get(name)
        results += [
            Measurement(f"{subject} over one cold fit", over_cold, target=target),
            Measurement(f"{name}: a cold fit", float(np.median(cold)), "s"),
            Measurement(f"{subject}", float(np.median(whole)), "s"),
        ]
        for part, share in fold_shares(model, past).items():
            results.append(Measurement(f"{name}: of a fold, {part}", 100 * share, "%"))
    return [*results, *measure_workers(config, past), *measure_growth(config, past)]


def backtest_job(config: DictConfig, overrides: Sequence[str] = ()) -> DictConfig:
    """Return the benchmark's backtest, its data changed by overrides of configs/backtest.yaml."""
    job = compose("backtest", [*config.backtest.overrides, *overrides])
    job.out = config.out
    OmegaConf.resolve(job)
    return job


def past_of(job: DictConfig) -> Past:
    """Return the past that a backtest replays."""
    from ltvnet.backtesting.origins import OriginsConfig, ReplayPlan, choose_origins

    history = instantiate(job.data).history()
    plan_keys = ("window", "refit", "ages", "warm", "workers")
    plan = ReplayPlan(**{key: job[key] for key in plan_keys})
    return Past(history, choose_origins(history, OriginsConfig(**plain(job.origins))), plan)


def unwritten_model(job: DictConfig, name: str) -> "Model":
    """Return a backtest's model, and where it is fitted; nothing is written."""
    from ltvnet.forecasting.model_spec import ModelSpec
    from ltvnet.operations.configuration import load_config

    return ModelSpec.from_config(load_config("model", name)), run_context(job, None)


def cold_and_backtest_seconds(
    model: Model, past: Past, repeats: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return seconds of a cold fit as of the last day, and of a backtest: (repeats,) each."""
    from ltvnet.forecasting.registry import create_forecaster

    create_forecaster(*model).fit(past.history.as_of(past.days[0]))  # imports what it needs
    cold = np.zeros(repeats)
    whole = np.zeros(repeats)
    for repeat in range(repeats):
        start = perf_counter()
        create_forecaster(*model).fit(past.history.as_of(past.days[-1]))
        cold[repeat] = perf_counter() - start
        whole[repeat] = backtest_seconds(model, past)
        log.info(
            "%s: a cold fit %.2f s, a backtest %.2f s", model[0].name, cold[repeat], whole[repeat]
        )
    return cold, whole


def backtest_seconds(model: Model, past: Past) -> float:
    """Return how long a backtest takes, its ledger written."""
    from ltvnet.backtesting.ledger import Ledger
    from ltvnet.backtesting.replay import Replay

    with tempfile.TemporaryDirectory() as folder:
        start = perf_counter()
        ledger = Ledger(Path(folder))
        entries = list(Replay(*model, past.history, past.days, past.plan, ledger).run())
        seconds = perf_counter() - start
    assert len(entries) == len(past.days)
    return seconds


def last_fold(model: Model, past: Past) -> "Fold":
    """Return the last fold; warm from the earliest that learned anything, if the model can."""
    from ltvnet.backtesting.replay import Fold, WarmStartable

    fold = Fold(*model, past.plan, past.days[-1], past.days[-1:], None)
    for day in past.days:
        fitted, _ = replace(fold, fit_day=day).fit(past.history)
        if not isinstance(fitted, WarmStartable):
            return fold
        if fitted.can_start():
            return replace(fold, start_state=fitted.state())
    return fold


def fold_shares(model: Model, past: Past) -> dict[str, float]:
    """Return the share of each part in the seconds of the last fold."""
    from ltvnet.backtesting.ledger import Ledger

    spec, _ = model
    has_net = "net" in spec.arguments
    fold = last_fold(model, past)
    curves = past.history.as_of(fold.fit_day)
    curves = curves.take(curves.observed_age >= 0)

    seconds = _pattern_seconds(spec, curves)
    with tempfile.TemporaryDirectory() as folder:
        start = perf_counter()
        fitted, cost = fold.fit(past.history)
        seconds["the net"] = max(cost.seconds - sum(seconds.values()), 0.0)
        total = perf_counter() - start

        start = perf_counter()
        entries = fold.forecast_origins(fitted, past.history)
        seconds["forecasts"] = perf_counter() - start

        start = perf_counter()
        Ledger(Path(folder)).write("one", entries[0], "one", fold.fit_day)
        seconds["the ledger"] = perf_counter() - start

    total += seconds["forecasts"] + seconds["the ledger"]
    if not has_net:
        seconds.pop("the net")
    return {part: part_seconds / total for part, part_seconds in seconds.items()}


def _pattern_seconds(spec: "ModelSpec", curves: "Curves") -> dict[str, float]:
    """Return seconds of a model's pattern, and of that without each cohort where it has a net."""
    from ltvnet.models.pattern.pattern import Pattern

    arguments = dict(spec.arguments.get("pattern", spec.arguments))
    arguments.pop("name", None)
    pattern = Pattern(**arguments)
    seconds = {}

    start = perf_counter()
    pattern.fit(curves)
    seconds["the pattern"] = perf_counter() - start
    if "net" in spec.arguments:
        start = perf_counter()
        pattern.fitted_pattern.leave_one_out_curves(curves)
        seconds["the pattern without each cohort"] = perf_counter() - start
    return seconds


def measure_workers(config: DictConfig, past: Past) -> list[Measurement]:
    """Measure how much sooner a backtest is done by several workers."""
    settings = config.backtest.parallel
    model = unwritten_model(backtest_job(config), settings.model)
    by_several = replace(past, plan=replace(past.plan, workers=settings.workers))
    pairs = [
        (backtest_seconds(model, past), backtest_seconds(model, by_several))
        for _ in range(config.backtest.repeats)
    ]
    seconds = np.array(pairs)
    log.info("%s: seconds of one worker and of %d: %s", settings.model, settings.workers, seconds)

    subject = f"{settings.model}: {len(past.days)} origins, 1 worker over {settings.workers}"
    speedup = float(np.median(seconds[:, 0] / seconds[:, 1]))
    return [Measurement(subject, speedup, target=settings.target, is_minimum=True)]


def measure_growth(config: DictConfig, past: Past) -> list[Measurement]:
    """Measure log-log slopes of a backtest over origins, and of a fold over cohorts."""
    settings = config.backtest.growth
    name = settings.model
    model = unwritten_model(backtest_job(config), name)
    origin_counts, seconds = [], []
    for step in settings.every:
        some_days = replace(past, days=past.days[::-1][::step][::-1])
        origin_counts.append(len(some_days.days))
        seconds.append(backtest_seconds(model, some_days))
    cohort_counts, fold_seconds = zip(*_folds_by_size(config, model), strict=True)
    log.info(
        "%s: origins %s in %s s, cohorts %s in %s s",
        name,
        origin_counts,
        seconds,
        cohort_counts,
        fold_seconds,
    )

    origins, cohorts = _span(origin_counts), _span(cohort_counts)
    backtest_slope = log_log_slope(origin_counts, seconds)
    fold_slope = log_log_slope(cohort_counts, fold_seconds)
    return [
        Measurement(f"{name}: slope of a backtest over {origins} origins", backtest_slope),
        Measurement(f"{name}: slope of a fold over {cohorts} cohorts", fold_slope),
    ]


def _folds_by_size(config: DictConfig, model: Model) -> Iterator[tuple[int, float]]:
    """Yield number of cohorts, and seconds of the last fold, of portfolios of several sizes."""
    for overrides in config.backtest.growth.data:
        past = past_of(backtest_job(config, overrides))
        fold = last_fold(model, past)
        start = perf_counter()
        fold.run(past.history)
        yield len(past.history.as_of(fold.fit_day)), perf_counter() - start


def _span(sizes: Sequence[int]) -> str:
    """Return the smallest and the largest of sizes: 100 to 1,200."""
    return f"{min(sizes):,} to {max(sizes):,}"
