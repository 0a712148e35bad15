"""The past replayed as it was: forecasters fitted and asked at past origins.

Folds are independent, so they run in parallel and a ledger does not depend on how many at once.
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
from ltvnet.data.curves import MAX_AGE, NODES, Curves, History
from ltvnet.forecasting.forecaster import Forecaster, Predictor, State
from ltvnet.forecasting.model_spec import ModelSpec
from ltvnet.forecasting.registry import create_forecaster, forecaster_class
from ltvnet.forecasting.run_context import RunContext
from ltvnet.storage import atomic_write


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
    """What a fit took: `seconds` on the clock; `parameters` numbers that its state holds."""

    seconds: float
    parameters: float


FoldResult = tuple[list[LedgerEntries], FitCost]
"""What a fold issued, of each origin, and what its fit took."""


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
        """The forecaster as of the day of the fit, and what it took."""
        forecaster = create_forecaster(self.spec, self.context)
        if self.start_state is not None and isinstance(forecaster, WarmStartable):
            forecaster.start_from(self.start_state)
        curves = self.plan.select_training_curves(history.as_of(self.fit_day))
        begun = perf_counter()
        forecaster = forecaster.fit(curves)
        seconds = perf_counter() - begun
        return forecaster, FitCost(seconds, sum(a.size for a in forecaster.state()[1].values()))

    def forecast_origins(self, forecaster: Forecaster, history: History) -> list[LedgerEntries]:
        """What a forecaster says at each origin."""
        return [
            forecast_entries(forecaster, history.as_of(o), self.plan.ages) for o in self.origins
        ]

    def run(self, history: History) -> FoldResult:
        """Fit, and forecast each origin."""
        forecaster, cost = self.fit(history)
        return self.forecast_origins(forecaster, history), cost


def forecast_entries(forecaster: Predictor, curves: Curves, ages: Sequence[int]) -> LedgerEntries:
    """Forecasts of one day: of each cohort, and of those within a week past an age, cut to it.

    Raises ValueError when nothing is left to forecast.
    """
    if not has_anything_to_forecast(curves):
        raise ValueError(
            f"nothing to forecast at {curves.origin}: expected a cohort with a complete age below "
            f"{MAX_AGE}, got {len(curves)} without one; choose other origins"
        )
    natural = curves.observed_age
    parts = [LedgerEntries.from_forecast(forecaster.predict(curves, NODES), natural)]
    for age in ages:
        rows = np.flatnonzero((natural > age) & (natural < age + 7))
        if len(rows):
            cut = forecaster.predict(curves.take(rows).cut(age), NODES)
            parts.append(LedgerEntries.from_forecast(cut, natural[rows]))
    return LedgerEntries.concatenate(parts)


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
        """The replays of the models of a mixture, or this one."""
        specs = self.spec.models.values()
        return [self] if list(specs) == [self.spec] else [replace(self, spec=one) for one in specs]

    @property
    def fit_days(self) -> list[np.datetime64]:
        """Day of the fit that forecasts each origin."""
        return self.plan.fit_days(self.origins)

    def run(self) -> Iterator[np.datetime64]:
        """Fit the model and forecast each origin that the ledger lacks; yield what was written.

        No fit writes checkpoints, as folds would share the folder.
        """
        missing: dict[np.datetime64, list[np.datetime64]] = {}
        for origin, fit_day in zip(self.origins, self.fit_days, strict=True):
            origins = missing.setdefault(fit_day, [])
            if self.ledger.last_training_day(self.identity, origin) != fit_day:
                origins.append(origin)

        context = self.context.without_folder()
        folds = [
            Fold(self.spec, context, self.plan, fit_day, origins, None)
            for fit_day, origins in missing.items()
        ]
        for fold, (entries_by_origin, cost) in _warmed(folds, self.history):
            with atomic_write(self._receipt(fold.fit_day)) as path:
                path.write_text(json.dumps(asdict(cost)))
            for origin, entries in zip(fold.origins, entries_by_origin, strict=True):
                self.ledger.write(self.identity, entries, self.identity, fold.fit_day)
                yield origin

    def read(self) -> LedgerEntries:
        """Read the model's forecasts of all origins. Raises ValueError when one is not there."""
        return self.ledger.read(self.identity, self.origins, self.history.hierarchy)

    def average_fit_cost(self) -> FitCost | None:
        """Average cost of the fits behind a replay; None where the ledger does not say.

        A mixture takes as much as its models together.
        """
        total = np.zeros(2)
        for member in self.members:
            receipts = [member._receipt(day) for day in sorted(set(self.fit_days))]
            costs = [json.loads(path.read_text()) for path in receipts if path.exists()]
            if not costs:
                return None
            total += np.mean([(cost["seconds"], cost["parameters"]) for cost in costs], axis=0)
        return FitCost(*total.tolist())

    def _receipt(self, fit_day: np.datetime64) -> Path:
        """Path of the note on a fit's cost: beside the forecasts, which do not depend on it."""
        folder = self.ledger.folder / "_costs" / self.identity  # readers of Parquet skip _names
        return folder / f"{fit_day}.json"


def _warmed(folds: Sequence[Fold], history: History) -> Iterator[tuple[Fold, FoldResult]]:
    """Run folds that lack forecasts, by as many workers as are wanted and have something to do."""
    workers = min(sum(bool(fold.origins) for fold in folds), folds[0].plan.workers)
    if workers <= 1:
        yield from _started(folds, history, None)
        return
    context = get_context("spawn")  # a fork would copy the threads of torch
    with ProcessPoolExecutor(workers, context, _begin, (history, folds[0].spec.name)) as pool:
        pool.submit(os.getpid)  # workers import what they need while the first fold is fitted here
        try:
            yield from _started(folds, history, pool)
        finally:  # nothing further begins once a fold has failed or the caller has gone
            pool.shutdown(wait=False, cancel_futures=True)


def _started(
    folds: Sequence[Fold], history: History, pool: ProcessPoolExecutor | None
) -> Iterator[tuple[Fold, FoldResult]]:
    """Run folds, warm from the earliest that learned anything; those before cold, again if so."""
    start = None
    if folds[0].plan.warm and issubclass(forecaster_class(folds[0].spec.name), WarmStartable):
        while start is None and any(fold.origins for fold in folds[1:]):
            first, *folds = folds
            forecaster, took = first.fit(history)
            assert isinstance(forecaster, WarmStartable)
            start = forecaster.state() if forecaster.can_start() else None
            if first.origins:
                yield first, (first.forecast_origins(forecaster, history), took)
    rest = [replace(fold, start_state=start) for fold in folds if fold.origins]
    if pool is None:
        yield from ((fold, fold.run(history)) for fold in rest)
        return
    waiting = {pool.submit(_in_worker, fold): fold for fold in rest}
    for done in as_completed(waiting):
        yield waiting.pop(done), done.result()


_HISTORY: list[History] = []
"""The history that a worker process was started with: sent once, not with every fold."""


def _begin(history: History, name: str) -> None:
    _HISTORY[:] = [history]
    Thread(target=end_with_parent, daemon=True).start()
    cls = forecaster_class(name)
    if issubclass(cls, WarmStartable):
        cls.warm_up()


def end_with_parent() -> None:
    """End this worker when its parent was killed: it would wait for work forever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _in_worker(fold: Fold) -> FoldResult:
    return fold.run(_HISTORY[0])
