"""Gradient-boosted trees on log growth, or on its departure from the historical pattern.

Shapes: N cohorts, A ages, B tasks, J nodes, F features, C attributes, H ages asked for, K columns
of a table (training ages, or ages of the pattern).
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltvnet.data.arrays import Bools, Floats, Ints
from ltvnet.data.curves import NODE_AGES, NODES, Curves
from ltvnet.forecasting.evidence import (
    COHORTS_OF_HALF_CONFIDENCE,
    confidence,
    frequent_categories,
    why_insufficient,
)
from ltvnet.forecasting.forecast import Forecast
from ltvnet.forecasting.forecaster import State, StateArrays, StateValues
from ltvnet.forecasting.interpolation import interpolate_between_nodes, interpolate_in_log_age
from ltvnet.forecasting.model_spec import Config
from ltvnet.models.baselines.fallback import (
    baseline_state,
    forecast_with_fallback,
    require_fitted,
    restore_baseline,
    with_complete_age,
)
from ltvnet.models.pattern.expected_curves import ExpectedCurves
from ltvnet.models.pattern.pattern import Pattern

if TYPE_CHECKING:
    from lightgbm import Booster

log = logging.getLogger(__name__)

TreeTarget = Literal["ratio", "departure"]

TARGETS: tuple[TreeTarget, ...] = get_args(TreeTarget)
"""Outputs of trees: log of the value at a node over that so far, or log of growth over the
pattern's growth."""

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
    """Cohorts at observed ages, each with a node to forecast: (B,) each.

    `cohort_index` and `node_index` are row numbers of the curves and positions in NODES.
    """

    cohort_index: Ints
    observed_age: Ints
    node_index: Ints

    @property
    def horizon(self) -> Ints:
        """Age of the node: (B,)."""
        ages: Ints = NODE_AGES[self.node_index]
        return ages

    def select(self, rows: Bools) -> "TreeTasks":
        """Select the tasks of a mask (B,)."""
        return TreeTasks(self.cohort_index[rows], self.observed_age[rows], self.node_index[rows])


@dataclass(frozen=True)
class TreeScaling:
    """Constants of the training data, by which features are scaled.

    `unit` is the revenue (currency) of a median cohort to D7, `users` those of a median cohort.
    `categories` attribute -> values with a category of their own, from 1; others share 0.
    """

    unit: float
    users: float
    categories: Mapping[str, Sequence[str]]

    @classmethod
    def from_curves(cls, curves: Curves, unit: float) -> Self:
        """Measure users and categories as of the origin of `curves`."""
        median_users = float(np.median(curves.users))
        return cls(unit, median_users, frequent_categories(curves, MIN_CATEGORY_COHORTS))

    def category_codes(self, curves: Curves) -> Floats:
        """Category of each attribute: (C, N)."""
        empty = np.full(len(curves), "", dtype=object)
        codes = []
        for name, values in self.categories.items():
            text = pd.Index(curves.attributes.get(name, empty))
            codes.append(pd.Index(values).get_indexer(text) + 1.0)  # -1 of others becomes 0
        return np.array(codes).reshape(len(codes), len(curves))


@dataclass(frozen=True)
class TreeInputs:
    """The data that tasks are made of: cohorts, the pattern's expectation of them, constants."""

    curves: Curves
    expected: ExpectedCurves
    scaling: TreeScaling

    def value(self, tasks: TreeTasks, age: Ints) -> Floats:
        """Revenue per user at an age: (B,)."""
        return self.curves.values[tasks.cohort_index, age]

    def damped_unit_scale(self, tasks: TreeTasks) -> Floats:
        """Factor of a task's revenue per user that gives revenue in units of the damping: (B,)."""
        return self.curves.users[tasks.cohort_index] / (LOG_DAMPING * self.scaling.unit)

    def pattern_growth(self, tasks: TreeTasks) -> Floats:
        """Revenue per user that the pattern adds from the observed age to the node: (B,)."""
        beta = self.expected.beta
        rows = tasks.cohort_index
        share_to_come = beta[rows, tasks.horizon] - beta[rows, tasks.observed_age]
        growth: Floats = np.maximum(share_to_come, 0.0)
        return _at_observed_age(self.expected.cohort_level, tasks) * growth

    def features(self, tasks: TreeTasks, target: TreeTarget) -> Floats:
        """Inputs of the trees (B, F), NaN where there is nothing; categories last."""
        age = tasks.observed_age
        value = self.value(tasks, age)
        value_d1 = self.value(tasks, np.minimum(1, age))
        value_at_half_age = self.value(tasks, age // 2)
        relative_users = self.curves.users[tasks.cohort_index] / self.scaling.users

        if target == "departure":
            level_features = self._departure_features(tasks)
        else:
            level_features = self._level_features(tasks)

        columns = [
            np.log1p(age),
            np.log1p(tasks.horizon),
            np.log1p(tasks.horizon) - np.log1p(age),
            _log_of_ratio(value, value_d1),
            _log_of_ratio(value, value_at_half_age),
            _log_of_ratio(relative_users, np.ones_like(relative_users)),
            *level_features,
            *self.scaling.category_codes(self.curves)[:, tasks.cohort_index],
        ]
        return np.column_stack(columns)

    def _level_features(self, tasks: TreeTasks) -> list[Floats]:
        """Log of revenue per user so far, over that of a median cohort."""
        value_unit = self.scaling.unit / self.scaling.users
        value = self.value(tasks, tasks.observed_age)
        return [_log_of_ratio(value, np.full_like(value, value_unit))]

    def _departure_features(self, tasks: TreeTasks) -> list[Floats]:
        """Log ratios of revenue so far to the segment's pattern, and the pattern's expectation."""
        age = tasks.observed_age
        scale = self.damped_unit_scale(tasks)
        segment_level = _at_observed_age(self.expected.segment_level, tasks)

        departures = []
        for earlier_age in (age, age // 2, age // 4, np.zeros_like(age)):
            share = self.expected.beta[tasks.cohort_index, earlier_age]
            expected_revenue = scale * segment_level * share
            revenue = scale * self.value(tasks, earlier_age)
            departures.append(_damped_log(revenue) - _damped_log(expected_revenue))

        share = self.expected.beta[tasks.cohort_index, age]
        cohort_level = _at_observed_age(self.expected.cohort_level, tasks)
        relative_level = _log_of_ratio(cohort_level, segment_level)
        log_expected_revenue = np.log1p(scale * segment_level * share)
        return [*departures, relative_level, log_expected_revenue, share]

    def targets(self, tasks: TreeTasks, target: TreeTarget) -> Floats:
        """Outputs that the trees learn, one a task: (B,), NaN where there is none."""
        value = self.value(tasks, tasks.observed_age)
        value_at_horizon = self.value(tasks, tasks.horizon)
        if target == "ratio":
            return _log_of_ratio(value_at_horizon, value)

        scale = self.damped_unit_scale(tasks)
        pattern_growth = self.pattern_growth(tasks)
        log_growth = _damped_log(scale * (value_at_horizon - value))
        departure = log_growth - np.log1p(scale * pattern_growth)
        return np.where(pattern_growth > 0, departure, np.nan)

    def growth(self, tasks: TreeTasks, target: TreeTarget, outputs: Floats) -> Floats:
        """Revenue per user from the observed age on that outputs (B,) of trees stand for: (B,)."""
        if target == "ratio":
            factor = np.expm1(np.maximum(outputs, 0.0))
            return self.value(tasks, tasks.observed_age) * factor

        scale = self.damped_unit_scale(tasks)
        growth = np.expm1(outputs + np.log1p(scale * self.pattern_growth(tasks)))
        return np.maximum(growth, 0.0) / scale


def _at_observed_age(table: Floats, tasks: TreeTasks) -> Floats:
    """Values of a table (N, K) at each task's observed age, or in its last column: (B,)."""
    column = np.minimum(tasks.observed_age, table.shape[1] - 1)
    values: Floats = table[tasks.cohort_index, column]
    return values


def _log_of_ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Log of a ratio, NaN where one of the two is not positive."""
    is_positive = (numerator > 0) & (denominator > 0)
    nans = np.full_like(numerator, np.nan)
    return np.log(np.divide(numerator, denominator, out=nans, where=is_positive))


def _damped_log(revenue: Floats) -> Floats:
    """Log of 1 + revenue in units of the damping; refunds beyond revenue count as none."""
    logs: Floats = np.log1p(np.maximum(revenue, 0.0))
    return logs


def training_tasks(curves: Curves, last_supported_age: int, seed: int) -> TreeTasks:
    """Make the tasks that trees learn from: each cohort at TRAINING_AGES that it has outlived.

    With the nodes that it has reached, up to `last_supported_age`. Of more than
    MAX_TRAINING_COHORTS cohorts so many are drawn.
    """
    rows = np.arange(len(curves))
    if len(rows) > MAX_TRAINING_COHORTS:
        rng = np.random.default_rng(seed)
        rows = np.sort(rng.choice(rows, MAX_TRAINING_COHORTS, replace=False))

    ages = np.array(TRAINING_AGES)
    last_age = np.minimum(curves.observed_age[rows], last_supported_age)
    is_later = ages[:, None] < NODE_AGES  # (K, J)
    is_reached = last_age[:, None] >= NODE_AGES  # (rows, J)
    age_index, row, node_index = np.nonzero(is_later[:, None, :] & is_reached)
    return TreeTasks(rows[row], ages[age_index], node_index)


def task_weights(tasks: TreeTasks, users: Floats) -> Floats:
    """Step in log age that ends at the node x root of users: (B,)."""
    previous_node = NODE_AGES[tasks.node_index - 1]
    begin = np.maximum(previous_node, tasks.observed_age)
    log_step = np.log1p(tasks.horizon) - np.log1p(begin)
    return np.asarray(log_step * np.sqrt(users[tasks.cohort_index]))


def smearing_factors(
    tasks: TreeTasks, users: Floats, actual_growth: Floats, forecast_growth: Floats
) -> Floats:
    """Sum of users x actual growth over that of forecast growth at each node, shrunk to 1: (J,).

    Duan's factor (1983, "Smearing estimate: a nonparametric retransformation method") as a ratio
    of sums, within SMEARING_LIMITS; COHORTS_OF_HALF_CONFIDENCE cohorts halve its distance to 1.
    """
    task_users = users[tasks.cohort_index]
    actual_sum = np.zeros(len(NODES))
    forecast_sum = np.zeros(len(NODES))
    np.add.at(actual_sum, tasks.node_index, task_users * actual_growth)
    np.add.at(forecast_sum, tasks.node_index, task_users * forecast_growth)
    ratio = np.divide(actual_sum, forecast_sum, out=np.ones(len(NODES)), where=forecast_sum > 0)

    pairs = np.unique(np.stack([tasks.cohort_index, tasks.node_index]), axis=1)
    cohorts = np.bincount(pairs[1], minlength=len(NODES))
    distance = (ratio.clip(*SMEARING_LIMITS) - 1.0) * cohorts
    return np.asarray(1.0 + distance / (cohorts + COHORTS_OF_HALF_CONFIDENCE))


def load_booster(text: str) -> "Booster":
    """Make trees from LightGBM's text."""
    # LightGBM takes a second to import.
    from lightgbm import Booster

    return Booster(model_str=text)


class Boosting:
    """LightGBM on log(L(h) / L(k)), or on the log of growth over the pattern's.

    `target` "ratio", the plain peer, or "departure". `rounds` trees of `leaves` leaves with
    `min_rows` tasks each at learning `rate`; `seed`; `pattern` its config. Trees learn the middle
    of logs, so sums of growth are set right by a factor at each node. The departure is scaled by
    what `evidence.confidence` says. Raises ValueError for another target or numbers out of range.
    """

    scaling: TreeScaling  # these four are set by fit
    booster: "Booster | None"  # None where history is too short
    smear: Floats  # (J,) factor of growth at each node
    confidence: float  # factor of departures

    def __init__(
        self,
        *,
        target: TreeTarget,
        rounds: int,
        leaves: int,
        rate: float,
        min_rows: int,
        seed: int,
        pattern: Config,
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
        self.target = target
        self.rounds = rounds
        self.leaves = leaves
        self.rate = rate
        self.min_rows = min_rows
        self.seed = seed
        self.pattern = Pattern.from_config(pattern)

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the constructor but for the pattern, as a state has them."""
        return {
            "target": self.target,
            "rounds": self.rounds,
            "leaves": self.leaves,
            "rate": self.rate,
            "min_rows": self.min_rows,
            "seed": self.seed,
        }

    def fit(self, curves: Curves) -> Self:
        """Fit the pattern, then grow trees on what became of every cohort.

        Where history is too short the pattern stands alone, said in one line of the log. Raises
        ValueError when no age is complete.
        """
        curves = with_complete_age(curves)
        unit = self.pattern.fit(curves).fitted_pattern.segment_curves.median_revenue_d7
        self.scaling = TreeScaling.from_curves(curves, unit)
        self.booster = None
        self.smear = np.ones(len(NODES))
        self.confidence = confidence(curves) if self.target == "departure" else 1.0

        if reason := why_insufficient(curves, unit):
            log.warning("too little data for trees (%s): the pattern forecasts alone", reason)
        else:
            self._learn_from(curves)
        return self

    def _learn_from(self, curves: Curves) -> None:
        """Grow trees on the cohorts' tasks and measure the smearing, where revenue grew at all."""
        if self.target == "departure":
            expected = self.pattern.fitted_pattern.leave_one_out_curves(curves)
        else:
            expected = self.pattern.fitted_pattern.expected_curves(curves)
        inputs = TreeInputs(curves, expected, self.scaling)

        last_supported_age = self.pattern.fitted_pattern.segment_curves.last_supported_age
        tasks = training_tasks(curves, last_supported_age, self.seed)
        targets = inputs.targets(tasks, self.target)
        has_target = np.isfinite(targets)
        if not has_target.any():
            log.warning("no revenue grew after D%d: the pattern forecasts alone", TRAINING_AGES[0])
            return

        tasks = tasks.select(has_target)
        features = inputs.features(tasks, self.target)
        self.booster = self._grow_trees(
            features, targets[has_target], task_weights(tasks, curves.users)
        )

        outputs = self._tree_outputs(self.booster, features)
        forecast_growth = inputs.growth(tasks, self.target, outputs)
        value_at_horizon = inputs.value(tasks, tasks.horizon)
        actual_growth = value_at_horizon - inputs.value(tasks, tasks.observed_age)
        self.smear = smearing_factors(tasks, curves.users, actual_growth, forecast_growth)

    def _grow_trees(self, features: Floats, targets: Floats, weight: Floats) -> "Booster":
        """Train LightGBM on features (B, F) and read its trees back from their text."""
        # LightGBM takes a second to import.
        from lightgbm import Dataset, train

        width = features.shape[1]
        category_columns = list(range(width - len(self.scaling.categories), width))
        data = Dataset(features, targets, weight=weight, categorical_feature=category_columns)

        settings = {
            "num_leaves": self.leaves,
            "learning_rate": self.rate,
            "min_data_in_leaf": self.min_rows,
            "seed": self.seed,
        }
        trees = train(settings | dict(LIGHTGBM_SETTINGS), data, self.rounds)
        return load_booster(trees.model_to_string())

    def _tree_outputs(self, booster: "Booster", features: Floats) -> Floats:
        """Outputs of the trees (B,), scaled by the confidence in departures."""
        outputs = np.asarray(booster.predict(features, num_threads=1), dtype=float)
        return outputs * self.confidence

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`; quantiles equal the mean until they are calibrated.

        Between nodes a ratio is linear in log(1 + age); a departure is the same all along the
        interval, so that growth has the shape of the pattern's.
        """
        require_fitted(self)
        node_values = self._forecast_nodes(curves)
        if self.target == "ratio":
            pattern_forecast = self.pattern.predict(curves, ages)
            mean = interpolate_in_log_age(curves, node_values, pattern_forecast.ages)
            return forecast_with_fallback(pattern_forecast, mean)

        ages_and_nodes = np.union1d(ages, NODES).tolist()
        pattern_forecast = self.pattern.predict(curves, ages_and_nodes)
        pattern_nodes = pattern_forecast.at(NODES)
        node_forecast = forecast_with_fallback(pattern_nodes, node_values)
        band = interpolate_between_nodes(pattern_forecast, pattern_nodes, node_forecast.raw)
        return forecast_with_fallback(pattern_forecast, band.mean).at(ages)

    def _forecast_nodes(self, curves: Curves) -> Floats:
        """Forecasts at NODES (N, J); NaN at ages observed and where trees say nothing."""
        if self.target == "ratio":
            can_grow = curves.observed_value > 0
        else:
            can_grow = curves.observed_age >= 0
        is_ahead = NODE_AGES > curves.observed_age[:, None]
        cohort_index, node_index = np.nonzero(is_ahead & can_grow[:, None])

        node_values = np.full((len(curves), len(NODES)), np.nan)
        if self.booster is None or not len(cohort_index):
            return node_values

        expected = self.pattern.fitted_pattern.expected_curves(curves)
        inputs = TreeInputs(curves, expected, self.scaling)
        tasks = TreeTasks(cohort_index, curves.observed_age[cohort_index], node_index)
        outputs = self._tree_outputs(self.booster, inputs.features(tasks, self.target))
        growth = inputs.growth(tasks, self.target, outputs) * self.smear[node_index]
        node_values[cohort_index, node_index] = curves.observed_value[cohort_index] + growth
        return node_values

    def state(self) -> State:
        """Describe the forecaster: the trees as text, the smearing, and the pattern's state."""
        require_fitted(self)
        values = {
            "arguments": self.arguments,
            "scaling": asdict(self.scaling),
            "confidence": self.confidence,
        }
        arrays: dict[str, NDArray[Any]] = {"smear": self.smear}
        if self.booster is not None:
            text = self.booster.model_to_string().encode()
            arrays["trees"] = np.frombuffer(text, dtype=np.uint8).copy()
        return baseline_state(self.pattern, values, arrays)

    @classmethod
    def from_state(cls, values: StateValues, arrays: StateArrays) -> Self:
        """Make the forecaster that `state()` described."""
        forecaster = restore_baseline(cls, values, arrays)
        forecaster.scaling = TreeScaling(**values["scaling"])
        forecaster.confidence = values["confidence"]
        forecaster.smear = arrays["smear"]

        forecaster.booster = None
        if "trees" in arrays:
            forecaster.booster = load_booster(arrays["trees"].tobytes().decode())
        return forecaster
