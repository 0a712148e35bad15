"""Trials: a config with other values, scored on the past days that a sweep may see.

Shapes: E past forecasts.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, takewhile, zip_longest
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from ltvnet import metrics
from ltvnet.backtesting import scores
from ltvnet.backtesting.leaderboard import Entrant, Leaderboard
from ltvnet.backtesting.ledger import Ledger
from ltvnet.backtesting.origins import OriginsConfig, ReplayPlan, choose_origins, past_origins
from ltvnet.backtesting.replay import Replay
from ltvnet.backtesting.scores import SCORED_AGES, BacktestRecord, ScoredStage
from ltvnet.correction.walk_forward import ValidationConfig, mean_band, replay_and_correct
from ltvnet.data.curves import History, parse_day
from ltvnet.data.fingerprints import Fingerprint
from ltvnet.forecasting.model_spec import Config, ModelSpec
from ltvnet.forecasting.run_context import RunContext
from ltvnet.storage import atomic_write
from ltvnet.tuning.search_space import SearchSpace, Value, replace_config_values

BIAS_HORIZONS = (180, 360)
"""Horizons at which a winner may not be biased: WAPE alone rewards the median."""

ALWAYS_ALLOWED_BIAS = 0.02
"""Bias, as a share of revenue, that is always allowed."""

BIAS_BEYOND_PATTERN = 0.01
"""How much larger than the pattern's a bias may be."""

EndState = Literal["complete", "pruned", "failed"]
"""How a trial can end."""

COMPLETE: EndState = "complete"
PRUNED: EndState = "pruned"
FAILED: EndState = "failed"

SCORING_KEYS = ("origins", "every_weeks", "plan.ages", "plan.workers")
"""Keys of `validation` that say what is scored, and how fast: no trial may change them."""


@dataclass(frozen=True)
class TrialOutcome:
    """Outcome of a trial: its `score`, its `bias` at D180 and D360 by name, whether that is
    `allowed`, and `seconds` of a fit, on average.
    """

    score: float
    bias: Mapping[str, float]
    allowed: bool
    seconds: float


@dataclass(frozen=True)
class FinishedTrial:
    """A finished trial: its `number`, how it ended, its `values` by key, and its outcome.

    `default` says whether its values are those of the config. `score` is of all days, or of those
    before it was pruned (NaN: none); `bias` of D180 and D360 by name, and whether that is
    `allowed`; `seconds` of a fit and `took` of the trial; `days` it was tried on; `error` of one
    that failed. Names of fields are columns of `trials.csv`.
    """

    number: int
    state: EndState
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
    """The folder of a trial: its config, its score day by day in TensorBoard, its results.

    A context in which the trial is tried.
    """

    def __init__(self, folder: Path, config: Config, values: Mapping[str, Value]) -> None:
        """Keep the config, without the address of the study; `values` are what the trial chose."""
        self.folder = folder
        self.values = values
        self.days = 0
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
        """Note the outcome, without seconds that are not known."""
        self.results = {"score": outcome.score, **outcome.bias}
        if not np.isnan(outcome.seconds):
            self.results["seconds"] = outcome.seconds

    def __exit__(self, *error: object) -> None:
        """Write the results; a trial that was cut off has no score of all days."""
        metrics_by_name = {f"sweep/{name}": value for name, value in self.results.items()}
        metrics_by_name["sweep/days"] = self.days
        hyperparameters = {
            key: value if isinstance(value, str | int | float | bool) else str(value)
            for key, value in self.values.items()
        }
        self.writer.add_hparams(hyperparameters, metrics_by_name, run_name=".")
        self.writer.close()

        with atomic_write(self.folder / "metrics.json") as path:
            path.write_text(json.dumps({**self.results, "days": self.days}, indent=1))


@dataclass(frozen=True)
class SweepTask:
    """Task that all trials of a sweep share.

    `config` with `model` and `validation`; `context` where and with which seed fits are made;
    `space` of what may change in the config; `history` up to `cutoff`, the day that the sweep may
    not pass; `origins` the days before it that are replayed; `folder` for trials and their
    forecasts.
    """

    config: Config
    context: RunContext
    space: SearchSpace
    history: History
    cutoff: np.datetime64
    origins: Sequence[np.datetime64]
    folder: Path

    @classmethod
    def from_config(
        cls,
        config: Config,
        context: RunContext,
        space: Config,
        history: History,
        cutoff: np.datetime64,
        folder: Path,
    ) -> Self:
        """Plan a sweep that knows no more than was known on the day `cutoff`.

        Raises ValueError when no day before it can be replayed, and for a space of keys that are
        not those of `model` or `validation`, or that change what is scored.
        """
        validation = config["validation"]
        search_space = _parse_space(space, config)
        known_history = history.until(cutoff)
        if not set(SCORED_AGES) <= set(validation["plan"]["ages"]):
            raise ValueError(
                f"expected validation.plan.ages with {' and '.join(map(str, SCORED_AGES))}, at "
                f"which trials are scored, got {list(validation['plan']['ages'])}"
            )

        last_day = min(cutoff, known_history.last_day)  # as train.py does
        origins = past_origins(
            known_history, last_day, validation["every_weeks"], validation["origins"]
        )
        if not origins:
            raise ValueError(
                f"expected past days to score trials on before {cutoff}, got none with "
                f"validation.origins={validation['origins']}: the history begins on "
                f"{history.end.min()}"
            )
        return cls(config, context, search_space, known_history, cutoff, origins, folder)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Hashes by name of what the scores of trials depend on; a study keeps them."""
        validation = self.config["validation"]
        plan = ReplayPlan(**validation["plan"])
        replay = self.replay(self.config, self.origins)

        contents = {
            "data, model or days": [replay.identity, *map(str, self.origins)],
            "validation": [validation["learning"], plan.window, plan.refit, list(plan.ages)],
            "space": list(map(repr, self.space.dimensions)),
        }
        return {
            name: Fingerprint().add_json(content, sort_keys=True, default=str).hex(12)
            for name, content in contents.items()
        }

    def trial_config(self, values: Mapping[str, Value]) -> dict[str, Any]:
        """Return the config with the values of a trial."""
        return replace_config_values(self.config, values)

    def replay(
        self,
        config: Config,
        days: Sequence[np.datetime64],
        history: History | None = None,
    ) -> Replay:
        """Plan a replay of some days with the model of a config; all trials share its forecasts.

        `history` None: that of the sweep; or one that goes on after it.
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
        self, values: Mapping[str, Value], report: Callable[[int, float], None]
    ) -> TrialOutcome:
        """Replay the days with other values, and score them.

        After each day that is done `report` is called with the number of days and the score of
        these, which may raise to stop. Raises ValueError for values that a model refuses and where
        nothing has matured.
        """
        config = self.trial_config(values)
        replay = self.replay(config, self.origins)

        days_reported = 0
        # The members of a mixture are replayed side by side; days that earlier trials or another
        # process replayed are there before the first step.
        steps = zip_longest(*(member.run() for member in replay.members))
        for _ in chain([None], steps):
            days_done = self._count_days_done(replay)
            for days in range(days_reported + 1, days_done + 1):
                score = self._score_first_days(replay, days)
                if score is not None:
                    report(days, score)
            days_reported = days_done
        return self._outcome(config, replay)

    def _count_days_done(self, replay: Replay) -> int:
        """Count the first days that have all forecasts: several workers finish in any order."""
        is_done = (
            all(
                replay.ledger.last_training_day(member.identity, origin) == fit_day
                for member in replay.members
            )
            for origin, fit_day in zip(replay.origins, replay.fit_days, strict=True)
        )
        return sum(takewhile(bool, is_done))

    def _score_first_days(self, replay: Replay, days: int) -> float | None:
        """Score the first days, before any correction; None where nothing has matured."""
        origins = self.origins[:days]
        forecasts = [
            replay.ledger.read(member.identity, origins, self.history.hierarchy)
            for member in replay.members
        ]
        mean = mean_band([entries.bands["raw"] for entries in forecasts])
        entries = replace(forecasts[0], bands={"raw": mean})
        return scores.mean_wape(scores.build_record("", entries, self.history), "raw")

    def _outcome(self, config: Config, replay: Replay) -> TrialOutcome:
        record = replay_config(config, replay)
        score = scores.mean_wape(record)
        if score is None:
            raise ValueError(
                f"expected days with forecasts that have matured by {self.history.last_day}, got "
                "none: a longer history or an earlier as_of has some"
            )

        bias = bias_by_horizon(record, "final")
        pattern_bias = bias_by_horizon(record, "pattern")
        is_allowed = all(
            abs(bias[name])
            <= max(ALWAYS_ALLOWED_BIAS, abs(pattern_bias[name]) + BIAS_BEYOND_PATTERN)
            for name in bias
        )
        cost = replay.average_fit_cost()
        seconds = float("nan") if cost is None else cost.seconds
        return TrialOutcome(score, bias, is_allowed, seconds)


def _parse_space(space: Config, config: Config) -> SearchSpace:
    """Read a search space. Raises ValueError for keys that no trial may change."""
    searched_config = {key: config[key] for key in ("model", "validation")}
    other_keys = [key for key in space if key not in searched_config]
    if other_keys:
        raise ValueError(
            f"expected space.model.KEY or space.validation.KEY, got space.{other_keys[0]}: trials "
            "are compared on the same data, days and seed"
        )
    search_space = SearchSpace.parse(space, searched_config)
    for dimension in search_space.dimensions:
        if dimension.key in [f"validation.{key}" for key in SCORING_KEYS]:
            raise ValueError(
                f"expected trials on the same days and ages, got space.{dimension.key}"
            )
    return search_space


def replay_config(config: Config, replay: Replay) -> BacktestRecord:
    """Walk-forward forecasts of one config, corrected with what was known at each origin."""
    walk = replay_and_correct(replay, ValidationConfig.from_config(config["validation"]).learning)
    return scores.build_record("", walk.entries, replay.history)


def bias_by_horizon(record: BacktestRecord, stage: ScoredStage) -> dict[str, float]:
    """Bias of sums at BIAS_HORIZONS over cohorts cut to SCORED_AGES, as a share of revenue.

    Horizons at which it is not known are left out.
    """
    rows = record.entries.at_observed_ages(SCORED_AGES)
    biases: dict[str, float] = {}
    for horizon in BIAS_HORIZONS:
        cells = record.select_cells(stage, rows, horizon)
        if not len(cells):
            continue
        bias = metrics.bias(cells.actual, cells.band.mean, cells.users)
        if np.isfinite(bias):
            biases[f"bias_d{horizon}"] = bias
    return biases


def split_test_days(
    history: History, config: Config, as_of: object, count: int
) -> tuple[np.datetime64, list[np.datetime64]]:
    """Return the day that a sweep may not pass, and the days from it on that test its winner.

    These are at most `count` days, as far apart as the days of the validation: from `as_of` on,
    or the newest whose D90 has matured. Raises ValueError for a count below 0.
    """
    if count < 0:
        raise ValueError(f"expected sweep.held_out >= 0, got {count}")
    weeks = config["validation"]["every_weeks"]
    days = choose_origins(history, OriginsConfig(every=f"{weeks}w"))

    if as_of is None:
        test_days = days[-count:] if count else []
        cutoff = test_days[0] if test_days else days[-1]
        return cutoff, test_days

    cutoff = parse_day(as_of)
    step = np.timedelta64(7 * weeks, "D")
    candidates = [cutoff + step * index for index in range(count)]
    return cutoff, [day for day in candidates if day <= days[-1]]


@dataclass(frozen=True)
class HeldOutGain:
    """Error that a winner saves on days that the sweep did not see.

    `days` of the test, scores of the `default` and of the `best` config, and the share of the
    default's error that is `saved`, with its 95 % interval from `low` to `high`. Names of fields
    are keys of `metrics.json`.
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
        """Measure a winner's `values` on `days`; None where nothing has matured after them.

        The days of the sweep are replayed too, so that corrections know as much as they would.
        """
        configs = {"default": task.config, "best": task.trial_config(values)}
        entrants = []
        for name, config in configs.items():
            replay = task.replay(config, [*task.origins, *days], history)
            record = _select_origins(replay_config(config, replay), days)
            entrants.append(Entrant(replace(record, name=name), name == "default", None))

        board = Leaderboard.from_entrants(entrants, SCORED_AGES)
        if board.weekly_sums.empty or not np.isfinite(board.scores).all():
            return None
        comparison = board.compare_scores("best", "default")
        return cls(
            days=days,
            default=board.scores["default"],
            best=board.scores["best"],
            saved=comparison.skill,
            low=comparison.skill_low,
            high=comparison.skill_high,
        )


def _select_origins(record: BacktestRecord, days: Sequence[Any]) -> BacktestRecord:
    """Keep the forecasts that were made on some days."""
    rows = np.flatnonzero(np.isin(record.entries.origin, np.array(days)))
    return replace(record, entries=record.entries.take(rows), actual=record.actual[rows])
