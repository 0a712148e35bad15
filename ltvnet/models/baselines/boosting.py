"""Gradient-boosted trees on log growth, or on its departure from the historical pattern.

Shapes: N cohorts, A ages, B tasks, J nodes, F features, C attributes, H ages asked for.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltvnet.data.arrays import Floats, Ints
from ltvnet.data.curves import NODES, Curves
from ltvnet.forecasting.evidence import (
    COHORTS_OF_HALF_CONFIDENCE,
    confidence,
    frequent_categories,
    why_insufficient,
)
from ltvnet.forecasting.forecast import Forecast
from ltvnet.forecasting.forecaster import State
from ltvnet.forecasting.interpolation import interpolate_between_nodes, interpolate_in_log_age
from ltvnet.models.baselines.fallback import (
    baseline_state,
    create_pattern,
    forecast_with_fallback,
    restore_baseline,
    with_complete_age,
)
from ltvnet.models.pattern.pattern import ExpectedCurves

if TYPE_CHECKING:
    from lightgbm import Booster

log = logging.getLogger(__name__)

TARGETS = ("ratio", "departure")

TRAINING_AGES = (3, 6, 9, 13, 20, 34, 60, 120)
"""Observed ages that training cohorts are put at."""

MAX_TRAINING_COHORTS = 20_000
"""Most cohorts that trees learn from, drawn at random."""

MIN_CATEGORY_COHORTS = 5
"""Cohorts that a value of an attribute needs for a category of its own.

As many as nets need by default (covariates.min_category), but no argument: a leaf needs `min_rows`
tasks besides, which is what to change, and the constructor has as many arguments as one may have.
"""

LOG_DAMPING = 0.1
"""Revenue, over that of a median cohort to D7, by which logs of growth are damped."""

SMEARING_LIMITS = (0.5, 2.0)
"""Least and greatest factor by which sums of growth are set right."""

LIGHTGBM_SETTINGS: Mapping[str, Any] = {
    "objective": "huber",
    "alpha": 0.3,  # residual of a log beyond which it weighs no more: a third up or down
    "feature_fraction": 0.5,
    "bagging_fraction": 0.5,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
"""Of LightGBM, beside those of the constructor: robust, and half of the data for every tree."""


class TreeTasks(NamedTuple):
    """Cohorts (row numbers) at observed ages with a node to forecast (its number), each (B,)."""

    cohort: Ints
    age: Ints
    node: Ints

    @property
    def horizon(self) -> Ints:
        """Age of the node: (B,)."""
        ages: Ints = np.array(NODES)[self.node]
        return ages


@dataclass(frozen=True)
class TreeScaling:
    """Constants of the training data: volume `unit` (currency), `users` of a median cohort.

    `categories` attribute -> values with a category of their own, from 1; others share 0.
    """

    unit: float
    users: float
    categories: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, curves: Curves, unit: float) -> Self:
        """Scaling as of the origin of `curves`."""
        return cls(
            unit, float(np.median(curves.users)), frequent_categories(curves, MIN_CATEGORY_COHORTS)
        )

    def codes(self, curves: Curves) -> Floats:
        """Category of each attribute: (C, N)."""
        absent = np.full(len(curves), "", dtype=object)
        text = [pd.Index(curves.attributes.get(name, absent)) for name in self.categories]
        known = [pd.Index(values) for values in self.categories.values()]
        codes = [k.get_indexer(t) + 1.0 for k, t in zip(known, text, strict=True)]
        return np.array(codes).reshape(len(codes), len(curves))


@dataclass(frozen=True)
class TreeInputs:
    """What tasks are made of: `curves`, what the pattern `expected` of them, and constants."""

    curves: Curves
    expected: ExpectedCurves
    scaling: TreeScaling

    def value(self, tasks: TreeTasks, age: Ints) -> Floats:
        """Revenue per user at an age: (B,)."""
        return self.curves.values[tasks.cohort, age]

    def volume(self, tasks: TreeTasks) -> Floats:
        """Users of a task over the revenue that logs are damped by: (B,)."""
        return self.curves.users[tasks.cohort] / (LOG_DAMPING * self.scaling.unit)

    def pattern(self, tasks: TreeTasks) -> Floats:
        """The pattern's growth from the observed age to the node: (B,)."""
        beta, (rows, age, _) = self.expected.beta, tasks
        grown: Floats = np.maximum(beta[rows, tasks.horizon] - beta[rows, age], 0.0)
        return _at(self.expected.cohort_level, tasks) * grown

    def features(self, tasks: TreeTasks, target: str) -> Floats:
        """What trees see of each task (B, F), NaN where there is nothing; categories last."""
        age, now = tasks.age, self.value(tasks, tasks.age)
        earlier = (self.value(tasks, then) for then in (np.minimum(1, age), age // 2))
        users = self.curves.users[tasks.cohort] / self.scaling.users
        own = self._departed(tasks) if target == "departure" else self._level(tasks)
        columns = [
            np.log1p(age),
            np.log1p(tasks.horizon),
            np.log1p(tasks.horizon) - np.log1p(age),
            *(_log_ratio(now, then) for then in earlier),
            _log_ratio(users, np.ones_like(users)),
            *own,
            *self.scaling.codes(self.curves)[:, tasks.cohort],
        ]
        return np.column_stack(columns)

    def _level(self, tasks: TreeTasks) -> list[Floats]:
        unit = self.scaling.unit / self.scaling.users
        now = self.value(tasks, tasks.age)
        return [_log_ratio(now, np.full_like(now, unit))]

    def _departed(self, tasks: TreeTasks) -> list[Floats]:
        """Log ratios of revenue so far to the segment's pattern, and what is expected."""
        volume, prior, age = self.volume(tasks), _at(self.expected.segment_level, tasks), tasks.age
        ratios = []
        for then in (age, age // 2, age // 4, np.zeros_like(age)):
            due = volume * prior * self.expected.beta[tasks.cohort, then]
            ratios.append(_damped(volume * self.value(tasks, then)) - _damped(due))
        share = self.expected.beta[tasks.cohort, age]
        level = _log_ratio(_at(self.expected.cohort_level, tasks), prior)
        return [*ratios, level, np.log1p(volume * prior * share), share]

    def targets(self, tasks: TreeTasks, target: str) -> Floats:
        """What trees learn of each task: (B,)."""
        now, then = self.value(tasks, tasks.age), self.value(tasks, tasks.horizon)
        if target == "ratio":
            return _log_ratio(then, now)
        volume, pattern = self.volume(tasks), self.pattern(tasks)
        departed = _damped(volume * (then - now)) - np.log1p(volume * pattern)
        return np.where(pattern > 0, departed, np.nan)

    def growth(self, tasks: TreeTasks, target: str, told: Floats) -> Floats:
        """Growth from the observed age that the trees' answers (B,) stand for: (B,)."""
        if target == "ratio":
            return self.value(tasks, tasks.age) * np.expm1(np.maximum(told, 0.0))
        volume = self.volume(tasks)
        grown = np.expm1(told + np.log1p(volume * self.pattern(tasks)))
        return np.maximum(grown, 0.0) / volume


def _at(table: Floats, tasks: TreeTasks) -> Floats:
    cells: Floats = table[tasks.cohort, np.minimum(tasks.age, table.shape[1] - 1)]
    return cells


def _log_ratio(one: Floats, other: Floats) -> Floats:
    known = (one > 0) & (other > 0)
    return np.log(np.divide(one, other, out=np.full_like(one, np.nan), where=known))


def _damped(volume: Floats) -> Floats:
    logs: Floats = np.log1p(np.maximum(volume, 0.0))
    return logs


def training_tasks(curves: Curves, reach: int, seed: int) -> TreeTasks:
    """Every cohort at each of LEARNED that it has outlived, with the nodes that it has reached.

    Of more than MOST cohorts so many are drawn.
    """
    rows = np.arange(len(curves))
    if len(rows) > MAX_TRAINING_COHORTS:
        rows = np.sort(
            np.random.default_rng(seed).choice(rows, MAX_TRAINING_COHORTS, replace=False)
        )
    nodes, last = np.array(NODES), np.minimum(curves.observed_age[rows], reach)
    later = np.array(TRAINING_AGES)[:, None] < nodes  # (K, J)
    k, row, node = np.nonzero(later[:, None, :] & (last[:, None] >= nodes))
    return TreeTasks(rows[row], np.array(TRAINING_AGES)[k], node)


def task_weights(tasks: TreeTasks, users: Floats) -> Floats:
    """Step in log age that ends at the node x root of users: (B,)."""
    begin = np.maximum(np.array(NODES)[tasks.node - 1], tasks.age)
    step = np.log1p(tasks.horizon) - np.log1p(begin)
    return np.asarray(step * np.sqrt(users[tasks.cohort]))


def smearing_factors(tasks: TreeTasks, users: Floats, actual: Floats, told: Floats) -> Floats:
    """Sum of users x actual growth over that of forecast growth at each node, shrunk to 1: (J,).

    Duan's factor (1983, "Smearing estimate: a nonparametric retransformation method") as a ratio
    of sums, within SMEAR; CAUTION cohorts halve its distance to 1.
    """
    sums = np.zeros((2, len(NODES)))
    for row, grown in zip(sums, (actual, told), strict=True):
        np.add.at(row, tasks.node, users[tasks.cohort] * grown)
    ratio = np.divide(sums[0], sums[1], out=np.ones(len(NODES)), where=sums[1] > 0)
    pairs = np.unique(np.stack([tasks.cohort, tasks.node]), axis=1)
    cohorts = np.bincount(pairs[1], minlength=len(NODES))
    shrunk = 1.0 + (ratio.clip(*SMEARING_LIMITS) - 1.0) * cohorts / (
        cohorts + COHORTS_OF_HALF_CONFIDENCE
    )
    return np.asarray(shrunk)


def load_booster(text: str) -> "Booster":
    """Trees from LightGBM's text."""
    # LightGBM takes a second to import.
    from lightgbm import Booster

    return Booster(model_str=text)


class Boosting:
    """LightGBM on log(L(h) / L(k)), or on the log of growth over the pattern's.

    `target` "ratio", the plain peer, or "departure". `rounds` trees of `leaves` leaves with
    `min_rows` tasks each at learning `rate`; `seed`; `pattern` its config. Trees learn the middle
    of logs, so sums of growth are set right by a factor at each node. The departure is scaled by
    what `forecasting.confidence` says. Raises ValueError for another target or numbers out of
    range.
    """

    def __init__(
        self,
        *,
        target: str,
        rounds: int,
        leaves: int,
        rate: float,
        min_rows: int,
        seed: int,
        pattern: Mapping[str, Any],
    ) -> None:
        """Take the configuration; nothing is random here."""
        if target not in TARGETS:
            raise ValueError(f"expected target out of {', '.join(TARGETS)}, got {target!r}")
        if rounds < 1 or leaves < 2 or min_rows < 1:
            raise ValueError(
                f"expected rounds >= 1, leaves >= 2 and min_rows >= 1, got {rounds}, {leaves} and "
                f"{min_rows}"
            )
        if not 0 < rate <= 1:
            raise ValueError(f"expected rate within (0, 1], got {rate}")
        self.target, self.rounds, self.leaves, self.rate = target, rounds, leaves, rate
        self.min_rows, self.seed, self.pattern = min_rows, seed, create_pattern(pattern)
        self.arguments = {"target": target, "rounds": rounds, "leaves": leaves, "rate": rate}
        self.arguments |= {"min_rows": min_rows, "seed": seed}

    def fit(self, curves: Curves) -> Self:
        """Fit the pattern, then grow trees on what became of every cohort.

        Where history is too short the pattern stands alone, said in one line of the log. Raises
        ValueError when no age is complete.
        """
        curves = with_complete_age(curves)
        unit = self.pattern.fit(curves).segment_curves.median_revenue_d7
        self.scaling = TreeScaling.of(curves, unit)
        self.booster: Booster | None = None
        self.smear = np.ones(len(NODES))
        self.confidence = confidence(curves) if self.target == "departure" else 1.0
        if lack := why_insufficient(curves, unit):
            log.warning("too little data for trees (%s): the pattern forecasts alone", lack)
        else:
            self._learn(curves)
        return self

    def _learn(self, curves: Curves) -> None:
        departs = self.target == "departure"
        expected = (
            self.pattern.leave_one_out_curves(curves)
            if departs
            else self.pattern.expected_curves(curves)
        )
        table = TreeInputs(curves, expected, self.scaling)
        tasks = training_tasks(curves, self.pattern.segment_curves.last_supported_age, self.seed)
        target = table.targets(tasks, self.target)
        kept = np.isfinite(target)
        if not kept.any():
            log.warning("no revenue grew after D%d: the pattern forecasts alone", TRAINING_AGES[0])
            return
        tasks = TreeTasks(*(part[kept] for part in tasks))
        features = table.features(tasks, self.target)
        self._grow(features, target[kept], task_weights(tasks, curves.users))
        told = table.growth(tasks, self.target, self._told(features))
        actual = table.value(tasks, tasks.horizon) - table.value(tasks, tasks.age)
        self.smear = smearing_factors(tasks, curves.users, actual, told)

    def _grow(self, features: Floats, target: Floats, weight: Floats) -> None:
        # LightGBM takes a second to import.
        from lightgbm import Dataset, train

        width = features.shape[1]
        own = {
            "num_leaves": self.leaves,
            "learning_rate": self.rate,
            "min_data_in_leaf": self.min_rows,
            "seed": self.seed,
        }
        codes = list(range(width - len(self.scaling.categories), width))
        data = Dataset(features, target, weight=weight, categorical_feature=codes)
        trees = train(own | dict(LIGHTGBM_SETTINGS), data, self.rounds)
        self.booster = load_booster(trees.model_to_string())

    def _told(self, features: Floats) -> Floats:
        assert self.booster is not None
        told = np.asarray(self.booster.predict(features, num_threads=1), dtype=float)
        return told * self.confidence

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`; quantiles equal the mean until they are calibrated.

        Between nodes a ratio is linear in log(1 + age); a departure is the same all along the
        interval, so that growth has the shape of the pattern's.
        """
        told = self._at_nodes(curves)
        if self.target == "ratio":
            beside = self.pattern.predict(curves, ages)
            return forecast_with_fallback(beside, interpolate_in_log_age(curves, told, beside.ages))
        every = self.pattern.predict(curves, np.union1d(ages, NODES).tolist())
        nodes = every.at(NODES)
        along = interpolate_between_nodes(every, nodes, forecast_with_fallback(nodes, told).raw)
        return forecast_with_fallback(every, along.mean).at(ages)

    def _at_nodes(self, curves: Curves) -> Floats:
        """Forecasts at NODES (N, J); NaN at ages observed and where trees say nothing."""
        known = curves.observed_value > 0 if self.target == "ratio" else curves.observed_age >= 0
        later = np.array(NODES) > curves.observed_age[:, None]
        cohort, node = np.nonzero(later & known[:, None])
        value = np.full((len(curves), len(NODES)), np.nan)
        if self.booster is not None and len(cohort):
            table = TreeInputs(curves, self.pattern.expected_curves(curves), self.scaling)
            tasks = TreeTasks(cohort, curves.observed_age[cohort], node)
            told = self._told(table.features(tasks, self.target))
            grew = table.growth(tasks, self.target, told) * self.smear[node]
            value[cohort, node] = curves.observed_value[cohort] + grew
        return value

    def state(self) -> State:
        """The trees as text, the smearing, and the pattern's state."""
        values = {"arguments": self.arguments, "scaling": asdict(self.scaling)}
        arrays: dict[str, NDArray[Any]] = {"smear": self.smear}
        if self.booster is not None:
            text = self.booster.model_to_string().encode()
            arrays["trees"] = np.frombuffer(text, dtype=np.uint8).copy()
        return baseline_state(self.pattern, values | {"confidence": self.confidence}, arrays)

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The forecaster that `state()` described."""
        fitted = restore_baseline(cls, values, arrays)
        fitted.scaling = TreeScaling(**values["scaling"])
        fitted.confidence, fitted.smear = values["confidence"], arrays["smear"]
        fitted.booster = (
            load_booster(arrays["trees"].tobytes().decode()) if "trees" in arrays else None
        )
        return fitted
