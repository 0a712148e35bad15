"""The past replayed as it was: forecasters fitted and asked at past origins.

A fold is one fit and the origins that it forecasts. Folds are independent, so they run in parallel
and a ledger does not depend on how many at once.

Shapes: N cohorts.
"""

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from time import perf_counter
from typing import Protocol, runtime_checkable

import numpy as np

from ltvnet.backtesting.ledger import Ledger, LedgerEntries
from ltvnet.backtesting.model_identity import model_identity
from ltvnet.backtesting.origins import ReplayPlan, has_anything_to_forecast
from ltvnet.data.curves import MAX_AGE, NODES, Curves, History, is_within_week_past
from ltvnet.forecasting.forecaster import Forecaster, Predictor, State
from ltvnet.forecasting.model_spec import ModelSpec
from ltvnet.forecasting.registry import create_forecaster, forecaster_class
from ltvnet.forecasting.run_context import RunContext
from ltvnet.storage import atomic_write, explain_damage


@runtime_checkable
class WarmStartable(Protocol):
    """A forecaster whose fit can start from what another of its kind learned, and be shorter."""

    def start_from(self, state: State) -> None:
        """Take the start of the next fit from a fitted forecaster's `state()`."""
        ...

    def can_start(self) -> bool:
        """Whether the fit learned something that another can start from."""
        ...

    @classmethod
    def warm_up(cls) -> None:
        """Import what a fit needs, which a worker does while it has nothing else to do."""
        ...


@dataclass(frozen=True)
class FitCost:
    """Cost of a fit: `seconds` on the clock; `parameters` numbers that its state holds."""

    seconds: float
    parameters: float


FoldResult = tuple[list[LedgerEntries], FitCost]
"""The entries that a fold forecast at each of its origins, and the cost of its fit."""


@dataclass(frozen=True)
class Fold:
    """A fit as of a day, from a start if there is one, and the origins that it forecasts."""

    spec: ModelSpec
    context: RunContext
    plan: ReplayPlan
    fit_day: np.datetime64
    origins: Sequence[np.datetime64]
    start_state: State | None

    def fit(self, history: History) -> tuple[Forecaster, FitCost]:
        """Fit the forecaster as of the day of the fit, and measure what it took."""
        forecaster = create_forecaster(self.spec, self.context)
        if self.start_state is not None and isinstance(forecaster, WarmStartable):
            forecaster.start_from(self.start_state)
        curves = self.plan.select_training_curves(history.as_of(self.fit_day))

        started = perf_counter()
        forecaster = forecaster.fit(curves)
        seconds = perf_counter() - started

        _, arrays = forecaster.state()
        return forecaster, FitCost(seconds, sum(array.size for array in arrays.values()))

    def forecast_origins(self, forecaster: Forecaster, history: History) -> list[LedgerEntries]:
        """Forecast each origin of the fold from what was known by its end."""
        return [
            forecast_entries(forecaster, history.as_of(origin), self.plan.ages)
            for origin in self.origins
        ]

    def run(self, history: History) -> FoldResult:
        """Fit, and forecast each origin."""
        forecaster, cost = self.fit(history)
        return self.forecast_origins(forecaster, history), cost


def forecast_entries(forecaster: Predictor, curves: Curves, ages: Sequence[int]) -> LedgerEntries:
    """Forecast each cohort on one day, and those within a week past one of `ages`, cut to it.

    Raises ValueError when nothing is left to forecast.
    """
    if not has_anything_to_forecast(curves):
        raise ValueError(
            f"nothing to forecast at {curves.origin}: expected a cohort with a complete age below "
            f"{MAX_AGE}, got {len(curves)} without one; choose other origins"
        )

    natural_age = curves.observed_age
    entries = [LedgerEntries.from_forecast(forecaster.predict(curves, NODES), natural_age)]
    for age in ages:
        # Cohorts that are at the age already are forecast above, without a cut.
        is_cut = is_within_week_past(natural_age, age) & (natural_age > age)
        rows = np.flatnonzero(is_cut)
        if len(rows):
            forecast = forecaster.predict(curves.take(rows).cut(age), NODES)
            entries.append(LedgerEntries.from_forecast(forecast, natural_age[rows]))
    return LedgerEntries.concatenate(entries)


@dataclass(frozen=True)
class Replay:
    """Past days to be replayed with one model, or with each model of a mixture.

    `spec` and `context` of the model, the `history` that is replayed, its `origins` increasing,
    the `plan` of fits, and the `ledger` that keeps forecasts: what it has is not made again. Raises
    ValueError when there is no origin and when one does not come after the one before it.
    """

    spec: ModelSpec
    context: RunContext
    history: History
    origins: Sequence[np.datetime64]
    plan: ReplayPlan
    ledger: Ledger

    def __post_init__(self) -> None:
        """Check origins."""
        origins = self.origins
        if not origins:
            raise ValueError("expected at least one origin, got none: the history is too short")
        if (np.diff(np.array(origins)) <= np.timedelta64(0, "D")).any():
            raise ValueError(f"expected origins that increase, got {', '.join(map(str, origins))}")

    @cached_property
    def identity(self) -> str:
        """Name of the model in the ledger."""
        return model_identity(self.spec, self.context, self.history, self.plan, self.origins[0])

    @cached_property
    def members(self) -> list["Replay"]:
        """Replays of the models of a mixture, or this one alone."""
        specs = list(self.spec.models.values())
        if specs == [self.spec]:
            return [self]
        return [replace(self, spec=spec) for spec in specs]

    @property
    def fit_days(self) -> list[np.datetime64]:
        """Day of the fit that forecasts each origin."""
        return self.plan.fit_days(self.origins)

    def run(self) -> Iterator[np.datetime64]:
        """Fit the model and forecast each origin that the ledger lacks; yield what was written.

        No fit writes checkpoints, as folds would share the folder.
        """
        folds = self._folds()
        for fold, (entries_by_origin, cost) in _run_folds(folds, self.history):
            with atomic_write(self._receipt(fold.fit_day)) as path:
                path.write_text(json.dumps(asdict(cost)))
            for origin, entries in zip(fold.origins, entries_by_origin, strict=True):
                self.ledger.write(self.identity, entries, self.identity, fold.fit_day)
                yield origin

    def _folds(self) -> list[Fold]:
        """Fold of each fit, with those of its origins that the ledger lacks, maybe none."""
        missing_origins: dict[np.datetime64, list[np.datetime64]] = {}
        for origin, fit_day in zip(self.origins, self.fit_days, strict=True):
            origins = missing_origins.setdefault(fit_day, [])
            if self.ledger.last_training_day(self.identity, origin) != fit_day:
                origins.append(origin)

        context = self.context.without_folder()
        return [
            Fold(self.spec, context, self.plan, fit_day, origins, None)
            for fit_day, origins in missing_origins.items()
        ]

    def read(self) -> LedgerEntries:
        """Read the model's forecasts of all origins. Raises ValueError when one is not there."""
        return self.ledger.read(self.identity, self.origins, self.history.hierarchy)

    def average_fit_cost(self) -> FitCost | None:
        """Average cost of the fits behind a replay; None where the ledger does not say.

        A mixture takes as much as its models together.
        """
        fit_days = sorted(set(self.fit_days))
        total = np.zeros(2)
        for member in self.members:
            receipts = [member._receipt(fit_day) for fit_day in fit_days]
            costs = [_read_receipt(path) for path in receipts if path.exists()]
            if not costs:
                return None
            total += np.mean([(cost.seconds, cost.parameters) for cost in costs], axis=0)
        return FitCost(*total.tolist())

    def _receipt(self, fit_day: np.datetime64) -> Path:
        """Path of the note on a fit's cost: beside the forecasts, which do not depend on it."""
        folder = self.ledger.folder / "_costs" / self.identity  # readers of Parquet skip _names
        return folder / f"{fit_day}.json"


def _read_receipt(path: Path) -> FitCost:
    """Read the note on a fit's cost. Raises ValueError where it is damaged."""
    with explain_damage(path, "delete it, it says no more than what a fit cost"):
        cost = json.loads(path.read_text())
        return FitCost(float(cost["seconds"]), float(cost["parameters"]))


def _run_folds(folds: Sequence[Fold], history: History) -> Iterator[tuple[Fold, FoldResult]]:
    """Run folds that lack forecasts, by as many workers as are wanted and have something to do."""
    busy_folds = sum(bool(fold.origins) for fold in folds)
    workers = min(busy_folds, folds[0].plan.workers)
    if workers <= 1:
        yield from _run_after_warm_start(folds, history, None)
        return

    context = get_context("spawn")  # a fork would copy the threads of torch
    arguments = (history, folds[0].spec.name)
    with ProcessPoolExecutor(workers, context, _start_worker, arguments) as pool:
        pool.submit(os.getpid)  # workers import what they need while the first fold is fitted here
        try:
            yield from _run_after_warm_start(folds, history, pool)
        finally:  # nothing further begins once a fold has failed or the caller has gone
            pool.shutdown(wait=False, cancel_futures=True)


def _run_after_warm_start(
    folds: Sequence[Fold], history: History, pool: ProcessPoolExecutor | None
) -> Iterator[tuple[Fold, FoldResult]]:
    """Run folds, warm from the earliest that learned anything, where the plan wants it.

    Folds before that one are run cold; its fit is run even where its forecasts are there already.
    """
    start_state = None
    is_warm = folds[0].plan.warm and issubclass(forecaster_class(folds[0].spec.name), WarmStartable)
    while is_warm and start_state is None and any(fold.origins for fold in folds[1:]):
        earliest_fold, *folds = folds
        forecaster, cost = earliest_fold.fit(history)
        assert isinstance(forecaster, WarmStartable)
        if forecaster.can_start():
            start_state = forecaster.state()
        if earliest_fold.origins:
            entries = earliest_fold.forecast_origins(forecaster, history)
            yield earliest_fold, (entries, cost)

    remaining_folds = [replace(fold, start_state=start_state) for fold in folds if fold.origins]
    if pool is None:
        yield from ((fold, fold.run(history)) for fold in remaining_folds)
        return
    fold_by_future = {pool.submit(_run_in_worker, fold): fold for fold in remaining_folds}
    for future in as_completed(fold_by_future):
        yield fold_by_future.pop(future), future.result()


_HISTORY: list[History] = []
"""The history that a worker process was started with: sent once, not with every fold."""


def _start_worker(history: History, model_name: str) -> None:
    """Prepare a worker process: keep the history, watch the parent, import what a fit needs."""
    _HISTORY[:] = [history]
    Thread(target=end_with_parent, daemon=True).start()
    cls = forecaster_class(model_name)
    if issubclass(cls, WarmStartable):
        cls.warm_up()


def _run_in_worker(fold: Fold) -> FoldResult:
    """Run a fold on the history that this process was started with."""
    return fold.run(_HISTORY[0])


def end_with_parent() -> None:
    """End this worker when its parent was killed: it would wait for work forever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
