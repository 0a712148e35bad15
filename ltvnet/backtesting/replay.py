"""The past replayed as it was: forecasters fitted and asked at past origins.

Folds are independent, so they run in parallel and a ledger does not depend on how many at once.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ltvnet.backtesting.ledger import Entries, Ledger
from ltvnet.backtesting.model_identity import identity
from ltvnet.backtesting.origins import Plan, unfinished
from ltvnet.data.curves import MAX_AGE, NODES, Curves, History
from ltvnet.forecasting.forecaster import Forecaster, Predictor, State, create, resolve
from ltvnet.forecasting.model_config import bases
from ltvnet.storage import whole


@runtime_checkable
class Warm(Protocol):
    """A forecaster whose fit can start from what another of its kind learned, and be shorter."""

    def start_from(self, state: State) -> None:
        """Take the start of the next fit from a fitted forecaster's `state()`."""
        ...

    def can_start(self) -> bool:
        """Whether the fit learned something that another can start from."""
        ...


@dataclass(frozen=True)
class Cost:
    """What a fit took: `seconds` on the clock; `parameters` numbers that its state holds."""

    seconds: float
    parameters: float


Done = tuple[list[Entries], Cost]
"""What a fold issued, of each origin, and what its fit took."""


@dataclass(frozen=True)
class Fold:
    """A fit as of a day, from a start if there is one, and the origins that it forecasts."""

    config: Mapping[str, Any]
    plan: Plan
    fitted: np.datetime64
    origins: Sequence[np.datetime64]
    start: State | None

    def fit(self, history: History) -> tuple[Forecaster, Cost]:
        """The forecaster as of the day of the fit, and what it took."""
        forecaster = create(self.config)
        if self.start is not None and isinstance(forecaster, Warm):
            forecaster.start_from(self.start)
        curves = self.plan.seen(history.as_of(self.fitted))
        begun = perf_counter()
        forecaster = forecaster.fit(curves)
        seconds = perf_counter() - begun
        return forecaster, Cost(seconds, sum(a.size for a in forecaster.state()[1].values()))

    def issued(self, forecaster: Forecaster, history: History) -> list[Entries]:
        """What a forecaster says at each origin."""
        return [issue(forecaster, history.as_of(o), self.plan.ages) for o in self.origins]

    def run(self, history: History) -> Done:
        """Fit, and forecast each origin."""
        forecaster, cost = self.fit(history)
        return self.issued(forecaster, history), cost


def issue(forecaster: Predictor, curves: Curves, ages: Sequence[int]) -> Entries:
    """Forecasts of one day: of each cohort, and of those within a week past an age, cut to it.

    Raises ValueError when nothing is left to forecast.
    """
    if not unfinished(curves):
        raise ValueError(
            f"nothing to forecast at {curves.origin}: expected a cohort with a complete age below "
            f"{MAX_AGE}, got {len(curves)} without one; choose other origins"
        )
    natural = curves.observed_age
    parts = [Entries.of(forecaster.predict(curves, NODES), natural)]
    for age in ages:
        rows = np.flatnonzero((natural > age) & (natural < age + 7))
        if len(rows):
            cut = forecaster.predict(curves.take(rows).cut(age), NODES)
            parts.append(Entries.of(cut, natural[rows]))
    return Entries.joined(parts)


def replay(
    config: Mapping[str, Any],
    history: History,
    origins: Sequence[np.datetime64],
    plan: Plan,
    ledger: Ledger,
) -> Iterator[np.datetime64]:
    """Fit a forecaster and forecast each origin that the ledger lacks; yields what it has written.

    The forecaster's own folder is not used, as folds would share it. Raises ValueError when there
    is no origin and when one does not come after the one before it.
    """
    if not origins:
        raise ValueError("expected at least one origin, got none: the history is too short")
    if (np.diff(np.array(origins)) <= np.timedelta64(0, "D")).any():
        raise ValueError(f"expected origins that increase, got {', '.join(map(str, origins))}")
    name = identity(config, history, plan, origins[0])
    asked: dict[np.datetime64, list[np.datetime64]] = {}
    for origin, fitted in zip(origins, plan.fitted_at(origins), strict=True):
        missing = asked.setdefault(fitted, [])
        if ledger.trained(name, origin) != fitted:
            missing.append(origin)
    apart = {key: None if key == "folder" else value for key, value in config.items()}
    folds = [Fold(apart, plan, fitted, missing, None) for fitted, missing in asked.items()]
    for fold, (issued, cost) in _warmed(folds, history):
        with whole(_receipt(ledger, name, fold.fitted)) as path:
            path.write_text(json.dumps(asdict(cost)))
        for origin, entries in zip(fold.origins, issued, strict=True):
            ledger.append(name, entries, bundle=name, trained=fold.fitted)
            yield origin


def spent(
    config: Mapping[str, Any],
    history: History,
    origins: Sequence[np.datetime64],
    plan: Plan,
    ledger: Ledger,
) -> Cost | None:
    """What the fits behind a replay took on average; None where the ledger does not say.

    A mixture takes as much as its models together.
    """
    days, both = sorted(set(plan.fitted_at(origins))), np.zeros(2)
    for base in bases(config):
        name = identity(base, history, plan, origins[0])
        receipts = [_receipt(ledger, name, day) for day in days]
        found = [json.loads(path.read_text()) for path in receipts if path.exists()]
        if not found:
            return None
        both += np.mean([(cost["seconds"], cost["parameters"]) for cost in found], axis=0)
    return Cost(*both.tolist())


def _receipt(ledger: Ledger, name: str, fitted: np.datetime64) -> Path:
    """Where the cost of a fit is noted: beside the forecasts, which do not depend on it."""
    return ledger.folder / "_costs" / name / f"{fitted}.json"  # readers of Parquet skip _names


def _warmed(folds: Sequence[Fold], history: History) -> Iterator[tuple[Fold, Done]]:
    """Run folds that lack forecasts, by as many workers as are wanted and have something to do."""
    workers = min(sum(bool(fold.origins) for fold in folds), folds[0].plan.workers)
    if workers <= 1:
        yield from _started(folds, history, None)
        return
    context = get_context("spawn")  # a fork would copy the threads of torch
    with ProcessPoolExecutor(workers, context, _begin, (history, folds[0].config["name"])) as pool:
        pool.submit(os.getpid)  # workers import what they need while the first fold is fitted here
        try:
            yield from _started(folds, history, pool)
        finally:  # nothing further begins once a fold has failed or the caller has gone
            pool.shutdown(wait=False, cancel_futures=True)


def _started(
    folds: Sequence[Fold], history: History, pool: ProcessPoolExecutor | None
) -> Iterator[tuple[Fold, Done]]:
    """Run folds, warm from the earliest that learned anything; those before cold, again if so."""
    start = None
    if folds[0].plan.warm and issubclass(resolve(folds[0].config["name"]), Warm):
        while start is None and any(fold.origins for fold in folds[1:]):
            first, *folds = folds
            forecaster, took = first.fit(history)
            assert isinstance(forecaster, Warm)
            start = forecaster.state() if forecaster.can_start() else None
            if first.origins:
                yield first, (first.issued(forecaster, history), took)
    rest = [replace(fold, start=start) for fold in folds if fold.origins]
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
    if issubclass(resolve(name), Warm):
        import_module("ltvnet.models.neural.training")  # takes seconds, and fits import it


def end_with_parent() -> None:
    """End this worker when its parent was killed: it would wait for work forever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _in_worker(fold: Fold) -> Done:
    return fold.run(_HISTORY[0])
