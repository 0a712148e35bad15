"""Trials: a config with other values, scored on the past days that a sweep may see.

Shapes: E past forecasts.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, takewhile, zip_longest
from pathlib import Path
from typing import Any, Self

import numpy as np

from ltvnet import metrics
from ltvnet.backtesting import scores
from ltvnet.backtesting.leaderboard import Entrant, Leaderboard
from ltvnet.backtesting.ledger import Ledger
from ltvnet.backtesting.origins import ReplayPlan, choose_origins, past_origins
from ltvnet.backtesting.replay import Replay
from ltvnet.backtesting.scores import SCORED_AGES, BacktestRecord
from ltvnet.correction.walk_forward import ValidationConfig, mean_band, replay_and_correct
from ltvnet.data.arrays import Bools
from ltvnet.data.curves import History, parse_day
from ltvnet.forecasting.model_spec import ModelSpec
from ltvnet.forecasting.run_context import RunContext
from ltvnet.storage import atomic_write
from ltvnet.tuning.search_space import SearchSpace, Value, replace_config_values

BIAS_HORIZONS = (180, 360)
"""Horizons at which a winner may not be biased: WAPE alone rewards the median."""

ALWAYS_ALLOWED_BIAS, BIAS_BEYOND_PATTERN = 0.02, 0.01
"""A bias that is always allowed, and how much more than the pattern's is."""

COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
"""How a trial can end."""

SCORING_KEYS = ("origins", "every_weeks", "plan.ages", "plan.workers")
"""Keys of `validation` that say what is scored, and how fast: no trial may change them."""


@dataclass(frozen=True)
class TrialOutcome:
    """What a trial found: `score` and `bias` of D180 and D360 by name, `allowed` by its bias.

    `seconds` of a fit, on average.
    """

    score: float
    bias: Mapping[str, float]
    allowed: bool
    seconds: float


@dataclass(frozen=True)
class FinishedTrial:
    """A finished trial: `number`, `state`, its `values` by key, and what it found.

    `score` of all days, or of those before it was pruned (NaN: none); `bias` of D180 and D360 by
    name; `allowed` by its bias; `seconds` of a fit and `took` of the trial; `days` it was tried
    on; `error` of one that failed.
    """

    number: int
    state: str
    values: Mapping[str, Value]
    default: bool
    score: float
    bias: Mapping[str, float]
    allowed: bool
    seconds: float
    took: float
    days: int
    error: str


class TrialFolder:
    """The folder of a trial: its config, its score day by day in TensorBoard, what it found.

    A context in which the trial is tried.
    """

    def __init__(
        self, folder: Path, config: Mapping[str, Any], values: Mapping[str, Value]
    ) -> None:
        """Keep the config, without the address of the study; `values` are what the trial chose."""
        self.folder, self.values, self.days = folder, values, 0
        self.results: dict[str, float] = {}
        config = {key: value for key, value in config.items() if key != "sweep"}
        with atomic_write(folder / ".hydra" / "config.yaml") as path:
            path.write_text(json.dumps(config, indent=1, default=str))  # which is YAML

    def __enter__(self) -> Self:
        """Open the events of TensorBoard."""
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(self.folder))
        return self

    def log_score(self, day: int, score: float) -> None:
        """Note the score after a number of days."""
        self.days = day
        self.writer.add_scalar("sweep/score", score, day)

    def set_outcome(self, outcome: TrialOutcome) -> None:
        """Note the outcome."""
        seconds = {} if np.isnan(outcome.seconds) else {"seconds": outcome.seconds}
        self.results = {"score": outcome.score, **outcome.bias, **seconds}

    def __exit__(self, *error: object) -> None:
        """Write what was found; a trial that was cut off has no score of all days."""
        known = {f"sweep/{name}": value for name, value in self.results.items()}
        plain = {
            key: value if isinstance(value, str | int | float | bool) else str(value)
            for key, value in self.values.items()
        }
        self.writer.add_hparams(plain, {**known, "sweep/days": self.days}, run_name=".")
        self.writer.close()
        with atomic_write(self.folder / "metrics.json") as path:
            path.write_text(json.dumps({**self.results, "days": self.days}, indent=1))


@dataclass(frozen=True)
class SweepTask:
    """What all trials of a sweep share.

    `config` with `model` and `validation`; `context` where and with which seed fits are made;
    `space` of what may change in the config; `history` up to `date`, the day that the sweep may
    not pass; `days` before it that are replayed; `folder` for trials and their forecasts.
    """

    config: Mapping[str, Any]
    context: RunContext
    space: SearchSpace
    history: History
    cutoff: np.datetime64
    origins: Sequence[np.datetime64]
    folder: Path

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        context: RunContext,
        space: Mapping[str, Any],
        history: History,
        date: np.datetime64,
        folder: Path,
    ) -> Self:
        """A sweep that knows what was known on `date`.

        Raises ValueError when no day before it can be replayed, and for a space of keys that are
        not those of `model` or `validation`, or that change what is scored.
        """
        searched = {key: config[key] for key in ("model", "validation")}
        if other := [key for key in space if key not in searched]:
            raise ValueError(
                f"expected space.model.KEY or space.validation.KEY, got space.{other[0]}: trials "
                "are compared on the same data, days and seed"
            )
        found = SearchSpace.parse(space, searched)
        for one in found.dimensions:
            if one.key in [f"validation.{key}" for key in SCORING_KEYS]:
                raise ValueError(f"expected trials on the same days and ages, got space.{one.key}")
        validation, known = config["validation"], history.until(date)
        if not set(SCORED_AGES) <= set(validation["plan"]["ages"]):
            raise ValueError(
                f"expected validation.plan.ages with {' and '.join(map(str, SCORED_AGES))}, at "
                f"which trials are scored, got {list(validation['plan']['ages'])}"
            )
        last = min(date, known.last_day)  # as train.py does
        days = past_origins(known, last, validation["every_weeks"], validation["origins"])
        if not days:
            raise ValueError(
                f"expected past days to score trials on before {date}, got none with "
                f"validation.origins={validation['origins']}: the history begins on "
                f"{history.end.min()}"
            )
        return cls(config, context, found, known, date, days, folder)

    @property
    def fingerprints(self) -> dict[str, str]:
        """What the scores of trials depend on, as hashes by name."""
        validation = self.config["validation"]
        plan = ReplayPlan(**validation["plan"])
        parts = {
            "data, model or days": [
                self.replay(self.config, self.origins).identity,
                *map(str, self.origins),
            ],
            "validation": [validation["learning"], plan.window, plan.refit, list(plan.ages)],
            "space": list(map(repr, self.space.dimensions)),
        }
        text = {name: json.dumps(part, default=str, sort_keys=True) for name, part in parts.items()}
        return {name: hashlib.sha256(x.encode()).hexdigest()[:12] for name, x in text.items()}

    def trial_config(self, values: Mapping[str, Value]) -> dict[str, Any]:
        """The config of a trial."""
        return replace_config_values(self.config, values)

    def replay(
        self,
        config: Mapping[str, Any],
        days: Sequence[np.datetime64],
        history: History | None = None,
    ) -> Replay:
        """Some days replayed with the model of a config; forecasts are shared by all trials.

        `history` is that of the sweep, or one that goes on after it.
        """
        return Replay(
            spec=ModelSpec.from_config(config["model"]),
            context=self.context,
            history=self.history if history is None else history,
            origins=days,
            plan=ValidationConfig.from_config(config["validation"]).plan,
            ledger=Ledger(self.folder / "ledger"),
        )

    def score(
        self, values: Mapping[str, Value], told: Callable[[int, float], None]
    ) -> TrialOutcome:
        """Replay the days with other values; `told` hears of the score so far after each day.

        It may raise to stop. Raises ValueError for values that a model refuses and where nothing
        has matured.
        """
        config = self.trial_config(values)
        replay = self.replay(config, self.origins)
        heard = 0
        for _ in chain([None], zip_longest(*(member.run() for member in replay.members))):
            done = self._done(replay)
            for count in range(heard + 1, done + 1):
                if (found := self._so_far(replay, count)) is not None:
                    told(count, found)
            heard = done
        return self._outcome(config, replay)

    def _done(self, replay: Replay) -> int:
        """How many of the first days have their forecasts: several workers finish in any order."""
        there = (
            all(
                replay.ledger.last_training_day(member.identity, day) == fitted
                for member in replay.members
            )
            for day, fitted in zip(replay.origins, replay.fit_days, strict=True)
        )
        return sum(takewhile(bool, there))

    def _so_far(self, replay: Replay, done: int) -> float | None:
        """The score of the first days, before any correction; None where nothing has matured."""
        days, hierarchy = self.origins[:done], self.history.hierarchy
        models = [replay.ledger.read(one.identity, days, hierarchy) for one in replay.members]
        mean = mean_band([entries.bands["raw"] for entries in models])
        entries = replace(models[0], bands={"raw": mean})
        return scores.mean_wape(scores.build_record("", entries, self.history), "raw")

    def _outcome(self, config: Mapping[str, Any], replay: Replay) -> TrialOutcome:
        record = replay_config(config, replay)
        found = scores.mean_wape(record)
        if found is None:
            raise ValueError(
                f"expected days with forecasts that have matured by {self.history.last_day}, got "
                "none: a longer history or an earlier as_of has some"
            )
        own, pattern = bias_by_horizon(record, "final"), bias_by_horizon(record, "pattern")
        allowed = all(
            abs(own[name]) <= max(ALWAYS_ALLOWED_BIAS, abs(pattern[name]) + BIAS_BEYOND_PATTERN)
            for name in own
        )
        cost = replay.average_fit_cost()
        return TrialOutcome(found, own, allowed, float("nan") if cost is None else cost.seconds)


def replay_config(config: Mapping[str, Any], replay: Replay) -> BacktestRecord:
    """Past forecasts of a config, corrected as far as it had learned by then."""
    walk = replay_and_correct(replay, ValidationConfig.from_config(config["validation"]).learning)
    return scores.build_record("", walk.entries, replay.history)


def bias_by_horizon(record: BacktestRecord, stage: str) -> dict[str, float]:
    """How far off sums were at BIASED over cohorts cut to SCORED_AGES; without what is unknown."""
    entries = record.entries
    rows: Bools = np.isin(entries.observed_age, SCORED_AGES) & (
        entries.natural_age < entries.observed_age + 7
    )
    found: dict[str, float] = {}
    for horizon in BIAS_HORIZONS:
        cells = record.select_cells(stage, rows, horizon)
        if len(cells):
            bias = metrics.bias(cells.actual, cells.band.mean, cells.users)
            found |= {f"bias_d{horizon}": bias} if np.isfinite(bias) else {}
    return found


def split_test_days(
    history: History, config: Mapping[str, Any], as_of: object, count: int
) -> tuple[np.datetime64, list[np.datetime64]]:
    """The day that a sweep may not pass, and the days from it on that test its winner.

    These are at most `count` days, as far apart as the days of the validation: from `as_of` on,
    or the newest whose D90 has matured. Raises ValueError for a count below 0.
    """
    if count < 0:
        raise ValueError(f"expected sweep.held_out >= 0, got {count}")
    every = f"{config['validation']['every_weeks']}w"
    days = choose_origins(history, every=every, first=None, last=None, dates=None)
    if as_of is None:
        tests = days[-count:] if count else []
        return (tests or days[-1:])[0], tests
    step = np.timedelta64(7 * config["validation"]["every_weeks"], "D")
    later = [parse_day(as_of) + step * i for i in range(count)]
    return parse_day(as_of), [date for date in later if date <= days[-1]]


@dataclass(frozen=True)
class HeldOutGain:
    """What a winner saves of the default's error on days that the sweep did not see.

    `days` of the test, `default` and `best` scores, `saved` with its 95 % interval `low`, `high`.
    """

    days: Sequence[np.datetime64]
    default: float
    best: float
    saved: float
    low: float
    high: float

    @classmethod
    def measure(
        cls, task: SweepTask, values: Mapping[str, Value], history: History, days: Sequence[Any]
    ) -> Self | None:
        """Of a winner's values on `days`; None where nothing has matured after them.

        The days of the sweep are replayed too, so that corrections know as much as they would.
        """
        entrants = []
        for name, config in {"default": task.config, "best": task.trial_config(values)}.items():
            record = replay_config(config, task.replay(config, [*task.origins, *days], history))
            rows = np.flatnonzero(np.isin(record.entries.origin, np.array(days)))
            entries, actual = record.entries.take(rows), record.actual[rows]
            record = replace(record, name=name, entries=entries, actual=actual)
            entrants.append(Entrant(record, name == "default", None))
        board = Leaderboard.from_entrants(entrants, SCORED_AGES)
        if board.weekly_sums.empty or not np.isfinite(board.scores).all():
            return None
        found, both = board.compare_scores("best", "default"), board.scores
        return cls(
            days, both["default"], both["best"], found.skill, found.skill_low, found.skill_high
        )
