"""The forecaster that users get: a model, and the blend, correction and intervals of its past.

The past is walked forward once: at each origin the stages are learned from forecasts that had
come true by then, each stage on rows to which the earlier ones were applied as they stood at that
row's origin, and are applied there.

Shapes: N cohorts, J nodes, I intervals.
"""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np

from ltvnet.backtesting.ledger import Ledger, LedgerEntries
from ltvnet.backtesting.origins import past_origins
from ltvnet.backtesting.replay import Replay
from ltvnet.correction.intervals import NodeForecasts
from ltvnet.correction.stages import LearnedStages
from ltvnet.correction.walk_forward import ValidationConfig, mean_band, replay_and_correct
from ltvnet.data.arrays import Floats
from ltvnet.data.curves import NODE_AGES, NODES, Curves, History, parse_day, validate_ages
from ltvnet.forecasting.explanation import uncorrected_mean, uncorrected_parts
from ltvnet.forecasting.forecast import Band, Forecast, ForecastParts
from ltvnet.forecasting.forecaster import (
    Predictor,
    State,
    StateArrays,
    StateValues,
    add_prefix,
    strip_prefix,
)
from ltvnet.forecasting.interpolation import (
    interpolate_between_nodes,
    interval_growth,
    smooth_between_exported_ages,
)
from ltvnet.forecasting.model_spec import MIXTURE, ModelSpec
from ltvnet.forecasting.registry import create_forecaster, forecaster_class
from ltvnet.forecasting.run_context import RunContext
from ltvnet.models.pattern.fitted_pattern import FittedPattern
from ltvnet.models.pattern.pattern import shared_interpolation_pattern

log = logging.getLogger(__name__)


class Corrected:
    """A forecaster with what its own past taught it.

    `spec` the model, or a mixture of several, whose weights by observed age are learned too;
    `context` where and with which seed they are fitted; `validation` the past that is replayed
    (both None in a forecaster that was restored, which predicts and fits no more); `ledger` the
    folder of past forecasts (None: they are not kept). After `fit`, `past_entries` are the
    forecasts of the past as they would have been issued (None: there were none).
    """

    def __init__(
        self,
        spec: ModelSpec,
        context: RunContext | None,
        validation: ValidationConfig | None,
        ledger: Path | None = None,
    ) -> None:
        """Take the configuration; nothing is fitted yet."""
        self.spec = spec
        self.context = context
        self.validation = validation
        self.ledger = ledger
        self.models: list[Predictor] = []
        self.stages = LearnedStages.neutral(len(spec.models))
        self.past_entries: LedgerEntries | None = None

    def fit(self, history: History, date: object) -> Self:
        """Replay the past of `date`, learn from it, and fit the model as of `date`.

        Raises ValueError in a forecaster that was restored.
        """
        if self.context is None or self.validation is None:
            raise ValueError(
                "a forecaster that was restored predicts, and fits no more: make a new one, "
                "Corrected(spec, context, validation), and fit that"
            )
        origin = parse_day(date)
        known_history = history.until(origin)
        if known_history.last_day < origin:
            log.warning(
                "nothing is known of %s: the data end on %s", origin, known_history.last_day
            )

        self._learn_from_past(known_history, origin, self.context, self.validation)
        training_curves = self.validation.plan.select_training_curves(known_history.as_of(origin))
        self.models = []
        for name, spec in self.spec.models.items():
            # A member of a mixture has a folder of its own.
            context = self.context.for_member(name) if self.spec.members else self.context
            self.models.append(create_forecaster(spec, context).fit(training_curves))
        return self

    def _learn_from_past(
        self,
        history: History,
        origin: np.datetime64,
        context: RunContext,
        validation: ValidationConfig,
    ) -> None:
        """Replay past origins, and learn the stages as of `origin`; neutral where there is none."""
        self.stages = LearnedStages.neutral(len(self.spec.models))
        self.past_entries = None
        last = min(origin, history.last_day)
        past = past_origins(history, last, validation.every_weeks, validation.origins)
        if not past:
            return

        with tempfile.TemporaryDirectory() as folder:
            ledger = Ledger(self.ledger or Path(folder))
            replay = Replay(self.spec, context, history, past, validation.plan, ledger)
            walk = replay_and_correct(replay, validation.learning)
            self.past_entries = walk.entries
            self.stages, _ = walk.learn_stages(origin)

    @property
    def base_names(self) -> list[str]:
        """Name of each of `models`, as the weights of the blend are sorted."""
        return list(self.spec.models)

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`, corrected and calibrated.

        Raises ValueError before `fit`.
        """
        if not self.models:
            raise ValueError("nothing has been fitted to predict with: call fit(history, date)")
        requested_ages = validate_ages(ages)
        all_ages = np.union1d(requested_ages, NODES).tolist()
        if not curves.has_every_age:
            all_ages = np.union1d(all_ages, curves.exported_ages).tolist()
        forecasts = [model.predict(curves, all_ages) for model in self.models]
        mean = mean_band([forecast.raw for forecast in forecasts])
        raw = replace(forecasts[0], raw=mean, final=mean)

        nodes = raw.at(NODES)
        median = nodes.raw.p50
        node_forecasts = NodeForecasts(
            observed_age=curves.observed_age,
            observed_value=curves.observed_value,
            users=curves.users,
            pattern=nodes.pattern,
            band=Band(nodes.raw.mean, median, median, median),  # bounds: those of the intervals
        )
        model_growth = np.stack([_node_growth(forecast) for forecast in forecasts])
        last_supported_age = np.full(len(curves), raw.last_supported_age)
        bands, is_borrowed = self.stages.apply(
            node_forecasts, model_growth, curves, last_supported_age
        )

        next_node = np.searchsorted(NODE_AGES, raw.ages)
        final = replace(
            raw,
            final=interpolate_between_nodes(raw, nodes, bands["final"]).widen_to_mean(),
            is_calibrated=self.stages.has_intervals,
            is_borrowed=is_borrowed[:, next_node],
            portfolio_spread=self.stages.totals,
        )
        return smooth_between_exported_ages(final).at(requested_ages.tolist())

    def interpolation_pattern(self) -> FittedPattern | None:
        """Pattern that all models follow between nodes, as what is corrected does then."""
        return shared_interpolation_pattern(self.models)

    def forecast_parts(self, curves: Curves, age: int) -> ForecastParts:
        """Parts of a forecast before its correction: the mean over models, on one pattern.

        Where one of the models cannot tell its growth from attributes, none of them does.
        """
        parts_by_model = [uncorrected_parts(model, curves, age) for model in self.models]
        first = parts_by_model[0]
        if any(parts.is_undivided for parts in parts_by_model):
            mean = uncorrected_mean(self, curves, age)
            return first._replace(with_own_growth=mean, is_undivided=True)
        mean = np.mean([parts.with_own_growth for parts in parts_by_model], axis=0)
        return first._replace(with_own_growth=mean)

    def state(self) -> State:
        """Describe the models and the stages by JSON values and arrays.

        Raises ValueError before `fit`.
        """
        if not self.models:
            raise ValueError("nothing has been fitted to describe: call fit(history, date)")
        stage_values, stage_arrays = self.stages.state()
        arrays = add_prefix(stage_arrays, "stages/")
        model_values = []
        named_specs = self.spec.models.items()
        for m, ((name, spec), model) in enumerate(zip(named_specs, self.models, strict=True)):
            values, model_arrays = model.state()
            model_values.append({"base": name, "name": spec.name, "state": values})
            arrays |= add_prefix(model_arrays, f"models/{m}/")
        return {"models": model_values, "stages": stage_values}, arrays

    @classmethod
    def from_state(cls, values: StateValues, arrays: StateArrays) -> Self:
        """Restore the forecaster that `state()` described; it predicts, and fits no more."""
        model_values = values["models"]
        spec = ModelSpec(model_values[0]["name"])
        if len(model_values) > 1:
            members = {model["base"]: ModelSpec(model["name"]) for model in model_values}
            spec = ModelSpec(MIXTURE, members=members)

        restored = cls(spec, context=None, validation=None)
        for m, model in enumerate(model_values):
            model_arrays = strip_prefix(arrays, f"models/{m}/")
            model_class = forecaster_class(model["name"])
            restored.models.append(model_class.from_state(model["state"], model_arrays))
        stage_arrays = strip_prefix(arrays, "stages/")
        restored.stages = LearnedStages.from_state(values["stages"], stage_arrays)
        return restored


def _node_growth(forecast: Forecast) -> Floats:
    """Growth that a forecast expects in each interval between nodes: (N, I)."""
    curves = forecast.curves
    mean = forecast.at(NODES).raw.mean
    return interval_growth(mean, curves.observed_age, curves.observed_value)
