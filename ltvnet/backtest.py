"""The past replayed as it was: forecasters fitted and asked at past origins.

Folds are independent, so they run in parallel and a ledger does not depend on how many at once.
"""

import hashlib
import json
import os
import re
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

from ltvnet.curves import MAX_AGE, NODES, Curves, History, day
from ltvnet.files import whole
from ltvnet.forecasting import Forecaster, Predictor, State, checked_ages, create, resolve
from ltvnet.ledger import Entries, Ledger

WEEK = np.timedelta64(7, "D")
FORECASTS = 2
"""Part of an identity in a ledger: raise it when the same config would forecast otherwise."""

MIXTURE = "best"
"""Name of a config that is several models, not a forecaster of its own."""

MOST_BASES = 8
"""Models in a mixture: of more there are too many weights to choose from."""


@runtime_checkable
class Warm(Protocol):
    """A forecaster whose fit can start from what another of its kind learned, and be shorter."""

    def start_from(self, state: State) -> None:
        """Take the start of the next fit from a fitted forecaster's `state()`."""
        ...

    def can_start(self) -> bool:
        """Whether the fit learned something that another can start from."""
        ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which past days are replayed, and how.

    `window` "expanding" or "sliding:52w": the cohorts that a fit sees, all or those that began in
    so many weeks before it; `refit` "each", "every_K" or "frozen": whether each fold fits anew,
    every K-th, or none but the first; `ages` at which cohorts are scored besides their own,
    prefixes cut; `warm` whether fits start from one cold fit, the earliest that learned anything;
    `workers` processes. Raises ValueError for other words and numbers.
    """

    window: str
    refit: str
    ages: Sequence[int]
    warm: bool
    workers: int

    def __post_init__(self) -> None:
        """Check the words and numbers."""
        _ = self.weeks, self.every
        if not isinstance(self.ages, Sequence) or not all(map(_whole, self.ages)):
            raise ValueError(f"expected ages=[] or whole days such as [7,30], got {self.ages!r}")
        if len(self.ages):
            checked_ages(self.ages)
        if not isinstance(self.warm, bool):
            raise ValueError(f"expected warm=true or false, got {self.warm!r}")  # noqa: TRY004
        if not _whole(self.workers) or self.workers < 1:
            raise ValueError(f"expected workers, a whole number >= 1, got {self.workers!r}")

    @property
    def weeks(self) -> int | None:
        """Weeks of history that a fit sees; None: all."""
        if self.window == "expanding":
            return None
        if not (found := re.fullmatch("sliding:([1-9][0-9]*)w", str(self.window))):
            raise ValueError(f"expected window=expanding or sliding:52w, got {self.window!r}")
        return int(found[1])

    @property
    def every(self) -> int | None:
        """Folds from one fit to the next; None: the first fit is kept."""
        if self.refit in ("each", "frozen"):
            return 1 if self.refit == "each" else None
        if not (found := re.fullmatch("every_([1-9][0-9]*)", str(self.refit))):
            raise ValueError(f"expected refit=each, every_K or frozen, got {self.refit!r}")
        return int(found[1])

    def fitted_at(self, origins: Sequence[np.datetime64]) -> list[np.datetime64]:
        """The day of the fit that forecasts each origin."""
        every = self.every or len(origins)
        return [origins[i - i % every] for i in range(len(origins))]

    def seen(self, curves: Curves) -> Curves:
        """What a fit sees of the curves of its day."""
        if self.weeks is None:
            return curves
        return curves.take(curves.start > curves.origin - self.weeks * WEEK)


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


def past_origins(
    history: History, last: np.datetime64, every_weeks: int, count: int
) -> list[np.datetime64]:
    """At most `count` origins before `last`, `every_weeks` apart, that have enough to learn from.

    The first has seen at least a quarter of the history and 8 weeks; each has something left to
    forecast.
    """
    begun = history.end.min()
    least = begun + max((last - begun) / 4, 8 * WEEK)
    step = every_weeks * WEEK
    origins = [last - step * i for i in range(count, 0, -1)]
    return [o for o in origins if o >= least and _unfinished(history.as_of(o))]


def calendar(
    history: History, *, every: str, first: object, last: object, dates: Sequence[object] | None
) -> list[np.datetime64]:
    """The days to replay: `dates`, or from `last` back to `first` in steps of `every`, "4w".

    `last` None: the end of the last acquisition, or the newest day whose D90 has matured if that
    is earlier; `first` None: a quarter of the history has passed by then, and 8 weeks. Raises
    ValueError for another step, for dates that are no list, and when no day is left.
    """
    if dates is not None:
        if isinstance(dates, str) or not isinstance(dates, Sequence) or not dates:
            raise ValueError(
                f"expected origins.dates as a list such as [2024-01-01,2024-02-01], got {dates!r}"
            )
        return sorted(day(date) for date in dates)
    if not (weeks := re.fullmatch("([1-9][0-9]*)w", str(every))):
        raise ValueError(f"expected origins.every in weeks, such as 4w, got {every!r}")
    newest = min(history.end.max(), history.last_day - np.timedelta64(90, "D"))
    until = newest if last is None else day(last)
    begun = history.end.min()
    least = begun + max((until - begun) / 4, 8 * WEEK) if first is None else day(first)
    days = np.arange(until, least - np.timedelta64(1, "D"), -int(weeks[1]) * WEEK)
    if not len(days):
        raise ValueError(
            f"expected days to replay from {least} to {until}, got none: the history begins on "
            f"{begun}; set origins.first and origins.last, or origins.dates"
        )
    return [np.datetime64(date, "D") for date in days[::-1]]


def _whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _unfinished(curves: Curves) -> bool:
    return bool(((curves.observed_age >= 0) & (curves.observed_age < MAX_AGE)).any())


def issue(forecaster: Predictor, curves: Curves, ages: Sequence[int]) -> Entries:
    """Forecasts of one day: of each cohort, and of those within a week past an age, cut to it.

    Raises ValueError when nothing is left to forecast.
    """
    if not _unfinished(curves):
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


def bases(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The configs of the models behind a config: those of a mixture, or itself.

    Raises ValueError for a mixture of fewer than two or more than MOST_BASES, or on patterns that
    differ: `pattern`, `reason` and `reach` of its forecasts are those of all its models.
    """
    if config["name"] != MIXTURE:
        return [config]
    if len(config["bases"]) < 2:
        raise ValueError(f"expected at least two bases, got {', '.join(config['bases']) or 'none'}")
    if len(config["bases"]) > MOST_BASES:
        raise ValueError(f"expected at most {MOST_BASES} bases, got {len(config['bases'])}")
    _same_pattern(config["bases"])
    return list(config["bases"].values())


def names(config: Mapping[str, Any]) -> list[str]:
    """The names of the models behind a config, in the order of `bases`."""
    return list(config["bases"]) if config["name"] == MIXTURE else [config["name"]]


def _same_pattern(models: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ValueError unless all models stand on one pattern; that of a pattern is itself."""
    under = [(name, model.get("pattern", model)) for name, model in models.items()]
    under = [(name, pattern) for name, pattern in under if pattern["name"] == "pattern"]
    for name, pattern in under:
        first, other = under[0]
        if unlike := [k for k in {**other, **pattern} if pattern.get(k) != other.get(k)]:
            raise ValueError(
                f"expected all bases on the same pattern, got that of {name} unlike that of "
                f"{first} in {', '.join(unlike)}"
            )


def identity(config: Mapping[str, Any], history: History, plan: Plan, first: np.datetime64) -> str:
    """Name of a model in a ledger: its kind, and a hash of all that its forecasts are of.

    The model's config without the folder and, but for its precision, the machine it runs on, the
    plan without its workers, the first origin, the history, and the code's FORECASTS.
    """
    digest, models = hashlib.sha256(), [{**base, "folder": None} for base in bases(config)]
    for base in models:
        base["machine"] = base.get("machine", {}).get("precision")
    chosen = {key: value for key, value in asdict(plan).items() if key != "workers"}
    data = [history.hierarchy, history.lag_days, list(map(str, history.index.names))]
    text = json.dumps([FORECASTS, models, chosen, str(first), data], sort_keys=True, default=_plain)
    digest.update(text.encode())
    digest.update(history.index.to_frame(index=False).to_csv(index=False).encode())
    further = [history.series[name] for name in sorted(history.series)]
    for array in (history.snapshot, history.users, history.spend, history.values, *further):
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return f"{config.get('net', {}).get('kind', config['name'])}-{digest.hexdigest()[:12]}"


def _plain(value: Any) -> dict[str, Any] | list[Any]:  # noqa: ANN401 what JSON does not know
    return dict(value) if isinstance(value, Mapping) else list(value)


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
        import_module("ltvnet.training")  # takes seconds, and fits import it


def end_with_parent() -> None:
    """End this worker when its parent was killed: it would wait for work forever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _in_worker(fold: Fold) -> Done:
    return fold.run(_HISTORY[0])
