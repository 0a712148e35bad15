"""The forecaster that users get: a model, and the blend, correction and intervals of its past.

The past is walked forward once: at each origin the stages are learned from forecasts that had
come true by then, each stage on rows to which the earlier ones were applied as they stood at that
row's origin, and are applied there.

Shapes: E entries, J nodes, I intervals, N cohorts, H ages.
"""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ltvnet.backtesting.ledger import Ledger
from ltvnet.backtesting.origins import past_origins
from ltvnet.backtesting.replay import Replay
from ltvnet.correction.intervals import NodeForecasts
from ltvnet.correction.stages import LearnedStages
from ltvnet.correction.walk_forward import ValidationConfig, mean_band, replay_and_correct
from ltvnet.data.curves import NODES, Curves, History, parse_day, validate_ages
from ltvnet.forecasting.explanation import uncorrected_mean, uncorrected_parts
from ltvnet.forecasting.forecast import Band, Forecast, ForecastParts
from ltvnet.forecasting.forecaster import Predictor, State, strip_prefix
from ltvnet.forecasting.interpolation import interpolate_between_nodes, interval_growth
from ltvnet.forecasting.model_spec import MIXTURE, ModelSpec
from ltvnet.forecasting.registry import create_forecaster, forecaster_class
from ltvnet.forecasting.run_context import RunContext
from ltvnet.models.pattern.pattern import Pattern, shared_interpolation_pattern

log = logging.getLogger(__name__)


class Corrected:
    """A forecaster with what its own past taught it.

    `spec` the model, or a mixture of several, whose weights by observed age are learned too;
    `context` where and with which seed they are fitted; `validation` the past that is replayed;
    `ledger` the folder of past forecasts (None: they are not kept). After `fit`, `past` are the
    forecasts of the past as they would have been issued (None: there were none).
    """

    def __init__(
        self,
        spec: ModelSpec,
        context: RunContext,
        validation: ValidationConfig,
        ledger: Path | None = None,
    ) -> None:
        """Take the configuration; nothing is fitted yet."""
        self.spec = spec
        self.context = context
        self.validation = validation
        self.ledger = ledger

    def fit(self, history: History, date: object) -> Self:
        """Replay the past of `date`, learn from it, and fit the model as of `date`."""
        origin = parse_day(date)
        known = history.until(origin)
        last = min(origin, known.last_day)
        if last < origin:
            log.warning("nothing is known of %s: the data end on %s", origin, last)
        plan = self.validation.plan
        past = past_origins(known, last, self.validation.every_weeks, self.validation.origins)
        self.stages, self.past_entries = LearnedStages.neutral(len(self.spec.models)), None
        with tempfile.TemporaryDirectory() as folder:
            if past:
                ledger = Ledger(self.ledger or Path(folder))
                replay = Replay(self.spec, self.context, known, past, plan, ledger)
                walk = replay_and_correct(replay, self.validation.learning)
                self.past_entries, (self.stages, _) = walk.entries, walk.learn_stages(origin)

        seen = plan.select_training_curves(known.as_of(origin))
        self.models: list[Predictor] = [
            create_forecaster(spec, self._context_of(name)).fit(seen)
            for name, spec in self.spec.models.items()
        ]
        return self

    def _context_of(self, name: str) -> RunContext:
        """Return the context of a model: a member of a mixture has a folder of its own."""
        return self.context.for_member(name) if self.spec.members else self.context

    @property
    def base_names(self) -> list[str]:
        """The name of each of `models`, as the weights of the blend are sorted."""
        return list(self.spec.models)

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`, corrected and calibrated."""
        asked = validate_ages(ages)
        every = np.union1d(asked, NODES).tolist()
        said = [model.predict(curves, every) for model in self.models]
        mean = mean_band([one.raw for one in said])
        raw = replace(said[0], raw=mean, final=mean)
        nodes = raw.at(NODES)
        middle = Band(nodes.raw.mean, *[nodes.raw.p50] * 3)  # bounds are those of the intervals
        observed, value = curves.observed_age, curves.observed_value
        alone = np.stack([interval_growth(one.at(NODES).raw.mean, observed, value) for one in said])
        start = NodeForecasts(
            curves.observed_age, curves.observed_value, curves.users, nodes.pattern, middle
        )
        reach = np.full(len(curves), raw.last_supported_age)
        bands, borrowed = self.stages.apply(start, alone, curves, reach)
        right = np.searchsorted(np.array(NODES), raw.ages)
        issued = replace(
            raw,
            final=interpolate_between_nodes(raw, nodes, bands["final"]),
            is_calibrated=self.stages.has_intervals,
            is_borrowed=borrowed[:, right],
            portfolio_spread=self.stages.totals,
        )
        return issued.at(asked.tolist())

    def interpolation_pattern(self) -> Pattern | None:
        """The pattern that all models follow between nodes, as what is corrected does then."""
        return shared_interpolation_pattern(self.models)

    def forecast_parts(self, curves: Curves, age: int) -> ForecastParts:
        """What a forecast is made of before its correction: the mean over models, on one pattern.

        Where one of the models cannot tell its growth from attributes, none of them does.
        """
        each = [uncorrected_parts(model, curves, age) for model in self.models]
        if any(one.is_undivided for one in each):
            return each[0]._replace(
                with_own_growth=uncorrected_mean(self, curves, age), is_undivided=True
            )
        return each[0]._replace(
            with_own_growth=np.mean([one.with_own_growth for one in each], axis=0)
        )

    def state(self) -> State:
        """The models' states and the stages."""
        learned, tables = self.stages.state()
        stored = {f"stages/{name}": array for name, array in tables.items()}
        described = []
        for m, ((name, spec), model) in enumerate(
            zip(self.spec.models.items(), self.models, strict=True)
        ):
            values, arrays = model.state()
            described.append({"base": name, "name": spec.name, "state": values})
            stored |= {f"models/{m}/{name}": array for name, array in arrays.items()}
        return {"models": described, "stages": learned}, stored

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The forecaster that `state()` described; it predicts, and fits no more."""
        made = cls.__new__(cls)
        described = values["models"]
        made.spec = ModelSpec(described[0]["name"])
        if len(described) > 1:
            members = {model["base"]: ModelSpec(model["name"]) for model in described}
            made.spec = ModelSpec(MIXTURE, members=members)
        made.models = [
            forecaster_class(model["name"]).from_state(
                model["state"], strip_prefix(arrays, f"models/{m}/")
            )
            for m, model in enumerate(described)
        ]
        made.stages = LearnedStages.from_state(values["stages"], strip_prefix(arrays, "stages/"))
        return made
